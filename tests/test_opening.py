"""Where the boards are to be is looked at before anything is counted there, and nobody waits for that for ever."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tweetboard import opening
from tweetboard.errors import ConfigurationError, StoreUnavailable
from tweetboard.opening import check_places
from tweetboard.schema import NAME
from tweetboard.settings import BoardSettings, Settings
from tweetboard.store import Store

BOARDS = Settings(boards={"tags": BoardSettings(key="tags_scoreboard", field="hashtags")})


async def test_places_that_are_free_or_the_boards_own_are_theirs(store: Store) -> None:
    await check_places(store, BOARDS)
    await store.execute("ZADD", "tags_scoreboard", 1, "tea")
    await store.execute("HSET", "tags_scoreboard:applied", "x", "1")
    await check_places(store, BOARDS)


@pytest.mark.parametrize("key", ["tags_scoreboard", "tags_scoreboard:applied", "tags_scoreboard:spelling"])
async def test_what_another_program_has_there_is_named(store: Store, key: str) -> None:
    await store.execute("SET", key, "theirs")
    with pytest.raises(ConfigurationError, match=rf"boards\.tags\.key: {key} is a string in Redis, and no board's"):
        await check_places(store, BOARDS)


async def test_another_layout_is_named(store: Store) -> None:
    await store.execute("SET", NAME, "2")
    with pytest.raises(ConfigurationError, match=f"{NAME} is '2', and this version of tweetboard knows 1 alone"):
        await check_places(store, BOARDS)


async def test_a_channel_of_which_nothing_is_heard_is_a_redis_that_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload would else wait for ever, and with it every other one."""

    @asynccontextmanager
    async def silent(_: Store, __: str) -> AsyncIterator[AsyncIterator[None]]:
        async def never() -> AsyncIterator[None]:
            await asyncio.Event().wait()
            yield

        yield never()

    monkeypatch.setattr(opening, "subscribe", silent)
    monkeypatch.setattr(opening, "COMMAND_TIMEOUT_S", 0.01)
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(5):
            await check_places(store, BOARDS)
