"""No version counts on, shows, or puts back boards that another has laid out otherwise."""

from pathlib import Path

import msgspec
import pytest

from conftest import wait_until
from pipe import ListSource, OneStream, a_pipe, running, scores
from processes import connected, daemon, redis_server, redis_url
from tweetboard.errors import ConfigurationError, StoreRefused
from tweetboard.schema import NAME, SCHEMA, check
from tweetboard.store import Store
from upstream import Upstream

POSTS: list[dict[str, object]] = [{"username": "alice", "hashtags": ["tea"]}]
NEWER = str(SCHEMA + 1)


async def until_begun(pipe: OneStream) -> None:
    await wait_until(lambda: pipe.feed.publisher.published.sessions > 0)


async def test_the_first_to_count_writes_it_down_and_later_ones_leave_it(store: Store) -> None:
    await check(store)
    assert await store.execute("GET", NAME) is None
    for times in (1, 2):
        pipe = a_pipe(store)
        async with running(pipe, ListSource(POSTS, rewinds=False)):
            await until_begun(pipe)
        assert await store.execute("GET", NAME) == str(SCHEMA).encode()
        assert await scores(pipe, "usernames") == {"alice": times}
    await check(store)


async def test_boards_of_an_earlier_version_that_wrote_none_are_counted_on(store: Store) -> None:
    await store.execute("ZADD", "username_scoreboard", 5, "alice")
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS)):
        await until_begun(pipe)
    assert await scores(pipe, "usernames") == {"alice": 6}
    assert await store.execute("GET", NAME) == str(SCHEMA).encode()


async def test_nothing_is_counted_where_another_version_has_counted(store: Store) -> None:
    await store.execute("SET", NAME, NEWER)
    pipe = a_pipe(store)
    told = f"SCHEMA {NAME} is {NEWER}, and this version of tweetboard knows {SCHEMA} alone"
    with pytest.RaisesGroup(pytest.RaisesExc(StoreRefused, match=told), flatten_subgroups=True):
        async with running(pipe, ListSource(POSTS)) as stopping:
            await stopping.wait()
    assert await store.execute("KEYS", "*scoreboard*") == []
    assert await store.execute("EXISTS", "tweetboard:test") == 0


async def test_a_standby_does_not_show_what_another_version_counts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood by before: the one that counts has been upgraded, and this one is still to be."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.02)
    await store.execute("SET", "tweetboard:test:lease", "somebody newer", "PX", 60_000)
    pipe = a_pipe(store)
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigurationError, match=f"is '{NEWER}'"), flatten_subgroups=True):
        async with running(pipe, ListSource(POSTS)) as stopping:
            await wait_until(lambda: pipe.feed.publisher.published.standby)
            await store.execute("SET", NAME, NEWER)
            await stopping.wait()


async def test_a_daemon_says_which_layout_is_there_and_ends(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    async with (
        redis_server(folder),
        connected(folder) as store,
        Upstream([msgspec.json.encode(POSTS[0])], "sse").serving() as upstream,
    ):
        await store.execute("SET", NAME, NEWER)
        async with daemon(tmp_path, "--stream", upstream.url, "--redis", redis_url(folder)) as refused:
            assert await refused.ended() == 2
        assert refused.errors.count("use the version that wrote it, or another redis.prefix") == 1
        assert await store.execute("KEYS", "*scoreboard*") == []
