"""What the parts of a pipe owe each other when the lease, Redis or the records are not as they should be."""

import asyncio
from typing import cast

import pytest

from conftest import wait_until
from pipe import ListSource, a_pipe, running, scores
from tweetboard.daemon import Pipe
from tweetboard.errors import StoreUnavailable
from tweetboard.journal import Journal
from tweetboard.lease import Lease
from tweetboard.store import Store
from tweetboard.supervision import StreamState

POSTS: list[dict[str, object]] = [{"username": "alice", "hashtags": ["x"]}, {"username": "bob"}]
BOARDS = [("usernames", "username_scoreboard"), ("hashtags", "hashtag_scoreboard")]
NEVER_S = 3600.0
"""Longer than any test."""


def on_the_boards(pipe: Pipe, seq: int) -> bool:
    session = pipe.journal.session
    return session is not None and session.lowest_applied >= seq


async def dumped(store: Store) -> dict[str, bytes]:
    """All that Redis holds but the leases, which end by themselves."""
    keys = [key.decode() for key in cast("list[bytes]", await store.execute("KEYS", "*")) if b"lease" not in key]
    return {key: cast("bytes", await store.execute("DUMP", key)) for key in keys if key != "tweetboard:bare"}


async def restore(store: Store, dumps: dict[str, bytes]) -> None:
    for key, dump in dumps.items():
        await store.execute("RESTORE", key, 0, dump, "REPLACE")


# --- Redis and the lease ---


async def test_a_redis_that_was_away_while_nothing_flowed_is_looked_at_as_soon_as_it_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came back without its last batch, and no post and no further renewal comes to show that."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    hold = pipe.lease.hold

    async def away() -> bool:
        monkeypatch.setattr(pipe.lease, "hold", hold)
        monkeypatch.setattr("tweetboard.publisher.RENEW_S", NEVER_S)
        await restore(store, before)
        raise StoreUnavailable("Redis is away")

    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        before = await dumped(store)
        source.add(POSTS[1])
        await wait_until(lambda: on_the_boards(pipe, 2))
        monkeypatch.setattr(pipe.lease, "hold", away)
        await wait_until(lambda: pipe.publisher.published.sent_again == 1)
        await wait_until(lambda: on_the_boards(pipe, 2))
        assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1}
        assert await scores(pipe, "hashtags") == {"x": 1}
    assert pipe.publisher.published.sessions == 1


async def test_a_daemon_that_was_overtaken_between_two_steps_gives_way_and_fences_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for longer than its lease lives, just after it had renewed it: another one owns the stream now."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", NEVER_S)  # only the append in doubt looks at Redis
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    look = pipe.journal.look
    other = Journal(store, "test", BOARDS)
    tokens = list[str]()

    async def unanswered(*_: object, **__: object) -> int:
        raise StoreUnavailable("no answer")

    async def after_a_long_stop() -> tuple[str, int]:
        await pipe.lease.release()
        assert await Lease(store, "tweetboard:test:lease", "the other").hold()
        tokens.append((await other.begin()).token)
        return await look()

    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        monkeypatch.setattr(pipe.journal, "append", unanswered)
        monkeypatch.setattr(pipe.journal, "look", after_a_long_stop)
        source.add(POSTS[1])
        await wait_until(lambda: pipe.publisher.published.standby)
        assert [await other.look()] == [(token, 1) for token in tokens]
    assert pipe.publisher.published.sessions == 1
    assert pipe.lease.other == "the other"


async def test_a_standby_lets_the_holder_come_back_after_redis_was_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease may have ended while nobody could renew it; what its holder has gathered meanwhile would be lost."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.1)
    lease = ("tweetboard:test:lease", "the holder")
    await store.execute("SET", *lease)
    pipe = a_pipe(store)
    hold, holds = pipe.lease.hold, 0

    async def holder_returns() -> None:
        await asyncio.sleep(0.1)
        await store.execute("SET", *lease)

    async def away_at_the_second() -> bool:
        nonlocal holds
        holds += 1
        if holds == 2:
            await store.execute("DEL", lease[0])
            group.create_task(holder_returns())
            raise StoreUnavailable("it was away for longer than a lease lives")
        return await hold()

    monkeypatch.setattr(pipe.lease, "hold", away_at_the_second)
    async with asyncio.TaskGroup() as group, running(pipe, ListSource([])):
        await wait_until(lambda: holds == 4)
    assert pipe.publisher.published.sessions == 0
    assert await store.execute("GET", lease[0]) == b"the holder"


async def test_a_standby_that_gets_the_lease_is_none_any_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """/readyz and /metrics tell of its stream from then on, not of the daemon that was there before."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    await store.execute("SET", "tweetboard:test:lease", "somebody else", "PX", 60_000)
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: pipe.publisher.published.standby)
        await store.execute("DEL", "tweetboard:test:lease")
        await wait_until(lambda: on_the_boards(pipe, 1))
        assert not pipe.publisher.published.standby


# --- What came to nothing ---


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("skipped")]


async def test_what_came_to_nothing_is_logged_soon_then_seldom_and_the_rest_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With reason, count and an example; each record in one line only, however many come."""
    monkeypatch.setattr("tweetboard.daemon.FIRST_REPORT_S", 0.01)
    monkeypatch.setattr("tweetboard.daemon.REPORT_S", NEVER_S)
    pipe = a_pipe(store)
    source = ListSource(POSTS, stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        source.add({"username": 1}, {"username": 2})
        await wait_until(lambda: told(caplog))
        clock = asyncio.get_running_loop().time
        until_s = clock() + 0.1  # ten times what the first report took
        while clock() < until_s:
            source.add({"username": 0})
            await wait_until(lambda: not source.more.is_set())  # until it is read
        broken = pipe.skipped["unexpected_type"]
        assert broken == len(source.posts) - len(POSTS)
        source.add({"username": "\u200b"})
        await wait_until(lambda: pipe.skipped["invalid_name"] == 1)
        assert len(told(caplog)) == 1
    soon, rest, other = told(caplog)
    assert soon.startswith("""skipped 2: unexpected_type: '{"username":2}': """)
    assert rest.startswith(f"""skipped {broken - 2}: unexpected_type: '{{"username":0}}': """)
    assert other == "skipped 1: invalid_name"


async def test_each_pause_ends_with_what_is_new_and_what_a_healthy_stream_says_is_no_news(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Deletions and the like are counted, but no warning; what has been told is not told again."""
    monkeypatch.setattr("tweetboard.daemon.FIRST_REPORT_S", 0.01)
    monkeypatch.setattr("tweetboard.daemon.REPORT_S", 0.01)
    pipe = a_pipe(store)
    pipe.stream = StreamState()
    source = ListSource([{"text": "", "user": {"screen_name": "alice"}, "created_at": ""}], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        source.add({"delete": {"status": {"id": 1}}})
        await wait_until(lambda: pipe.skipped["delete"] == 1)
        pipe.stream.oversized = 3
        await wait_until(lambda: len(told(caplog)) == 1)
        pipe.stream.oversized = 5
        await wait_until(lambda: len(told(caplog)) == 2)
    assert told(caplog) == ["skipped 3: oversized", "skipped 2: oversized"]
    assert pipe.came_to_nothing == {"delete": 1, "oversized": 5}
