"""What Redis may answer instead of doing as it is told: each has one clear line, and the right retry or refusal."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from conftest import wait_until
from pipe import ListSource, OneStream, a_pipe, running, scores
from processes import daemon, redis_server, redis_url
from tweetboard.errors import StoreRefused
from tweetboard.store import Store, open_store

Command: TypeAlias = Sequence[str]

POSTS: Final[list[dict[str, object]]] = [
    {"username": f"user{number % 7}", "hashtags": ["x", f"t{number % 3}"]} for number in range(60)
]
SLOW_TO_LOAD: Final = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
"""Half a millisecond a key, with time to say so in between."""

USERNAMES: Final = {f"user{number}": len(range(number, 60, 7)) for number in range(7)}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="tb-") as made:
        yield Path(made)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    async with open_store(redis_url(folder), connections=16) as store:
        yield store


def all_there(pipe: OneStream, posts: int) -> bool:
    session = pipe.feed.journal.session
    return (
        session is not None
        and pipe.feed.publisher.published.posts == posts
        and pipe.feed.publisher.outstanding_names == 0
        and session.lowest_applied == session.seq
    )


@pytest.mark.parametrize(
    ("begin", "end", "told"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"], "maxmemory"),
        (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], "read only replica"),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"], "replicas"),
    ],
    ids=["OOM", "READONLY", "NOREPLICAS"],
)
async def test_a_redis_that_does_not_write_for_now_is_waited_for_and_told_once(
    begin: Command, end: Command, told: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_server(folder / "r"), opened(folder / "r") as store, opened(folder / "r") as ours:
        pipe, source = a_pipe(ours), ListSource(POSTS[:30], stays=True)
        async with running(pipe, source):
            await wait_until(lambda: all_there(pipe, 30))
            await store.execute(*begin)
            source.add(*POSTS[30:])
            await wait_until(lambda: not ours.available)
            await store.execute(*end)
            await wait_until(lambda: all_there(pipe, 60), 15)
        assert await scores(pipe, "usernames") == USERNAMES
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len([line for line in lines if told in line]) == 1, lines


async def test_a_redis_that_has_forgotten_its_scripts_is_taught_them_again_in_silence(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_server(folder / "r"), opened(folder / "r") as store:
        pipe, source = a_pipe(store), ListSource(POSTS[:30], stays=True)
        async with running(pipe, source):
            await wait_until(lambda: all_there(pipe, 30))
            await store.execute("SCRIPT", "FLUSH")
            source.add(*POSTS[30:])
            await wait_until(lambda: all_there(pipe, 60))
        assert await scores(pipe, "usernames") == USERNAMES
    assert [
        record.message for record in caplog.records if record.levelno > 20 and "Error 2" not in record.message
    ] == []


async def test_a_redis_that_still_loads_its_data_is_waited_for(folder: Path) -> None:
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        process = await stack.enter_async_context(redis_server(folder / "r"))
        store = await stack.enter_async_context(opened(folder / "r"))
        pipe, source = a_pipe(store), ListSource(POSTS[:30], stays=True)
        await stack.enter_async_context(running(pipe, source))
        await wait_until(lambda: all_there(pipe, 30))
        await fill(store)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        source.add(*POSTS[30:])
        loading = group.create_task(wait_until(lambda: "loading" in store.trouble.lower(), 15))
        async with redis_server(folder / "r", *SLOW_TO_LOAD):
            await loading
            await wait_until(lambda: all_there(pipe, 60), 15)
            assert await scores(pipe, "usernames") == USERNAMES
            await stack.aclose()


async def fill(store: Store) -> None:
    """Give the server so much to load that it takes a second or two, and wait until it is on the disk."""
    await store.execute("MSET", *(word for number in range(3_000) for word in (f"k{number}", "v")))
    await store.execute("BGREWRITEAOF")
    async with asyncio.timeout(10):
        while True:
            facts = await store.execute("INFO", "persistence")
            assert isinstance(facts, dict)
            if not facts["aof_rewrite_in_progress"] and not facts["aof_rewrite_scheduled"]:
                return


async def test_an_account_that_may_not_publish_is_refused_with_a_line_and_nothing_is_written(folder: Path) -> None:
    async with redis_server(folder / "r"), opened(folder / "r") as store:
        pipe, source = a_pipe(store), ListSource(POSTS[:30], stays=True)
        refusal: BaseException | None = None
        before = None
        try:
            async with running(pipe, source) as stopping:
                await wait_until(lambda: all_there(pipe, 30))
                before = await store.execute("HGETALL", "tweetboard:test")
                await store.execute("ACL", "SETUSER", "default", "-publish")
                source.add(*POSTS[30:])
                await stopping.wait()
        except BaseExceptionGroup as group:
            refusal = leaf(group)
        assert isinstance(refusal, StoreRefused)
        assert "refused append on tweetboard:test" in str(refusal)
        assert "publish" in str(refusal).lower()
        after = await store.execute("HGETALL", "tweetboard:test")
        assert (before, sum((await scores(pipe, "usernames")).values())) == (after, 30)


@pytest.mark.parametrize(
    "key",
    [
        "username_scoreboard",
        "username_scoreboard:applied",
        "hashtags_scoreboard",
        "tweetboard:test",
        "tweetboard:test:journal",
        "tweetboard:test:ids",
    ],
)
async def test_a_key_with_another_programs_data_ends_the_run_with_its_name_and_keeps_its_value(
    key: str, folder: Path
) -> None:
    async with redis_server(folder / "r"), opened(folder / "r") as store:
        await store.execute("SET", key, "precious")
        pipe = a_pipe(store, refill_minutes=1)
        with pytest.raises(BaseExceptionGroup) as caught:
            async with running(pipe, ListSource(POSTS, stays=True)) as stopping:
                await stopping.wait()
        refusal = leaf(caught.value)
        assert isinstance(refusal, StoreRefused)
        assert key in str(refusal)
        assert "WRONGTYPE" in str(refusal)
        assert await store.execute("GET", key) == b"precious"


def leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def test_a_redis_that_may_lose_scores_is_named_at_the_start_and_in_readyz(folder: Path) -> None:
    async with redis_server(folder / "r", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no"):
        async with daemon(folder, "--redis", redis_url(folder / "r")) as running:
            await running.ready()
            async with asyncio.timeout(10):
                while running.errors.count("level=warning part=pipe") < 2:
                    await asyncio.sleep(0.02)
            status, answer = await running.get("/readyz")
    parts = answer["parts"]
    assert isinstance(parts, dict)
    told = parts["persistence"]["detail"]
    assert (status, parts["persistence"]["ok"]) == (200, True), "it works, for now"
    assert "maxmemory-policy is allkeys-lru: under pressure Redis deletes scores" in told
    assert "neither appendonly nor save is set: a restart of Redis loses all scores" in told
