"""What a subscriber takes, leaves and looks up again, on a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from redis.asyncio.client import PubSub

from conftest import wait_until
from pipe import ListSource, OneStream, a_pipe, on_the_boards, running, scores
from tweetboard.errors import StoreUnavailable
from tweetboard.store import Store
from tweetboard.subscriber import Subscriber

POSTS: list[dict[str, object]] = [{"username": "alice", "hashtags": ["x"]}, {"username": "bob"}]


def has_heard(subscriber: Subscriber, messages: int) -> bool:
    return subscriber.heard.messages == messages


def published(pipe: OneStream, posts: int) -> bool:
    return pipe.feed.publisher.published.posts == posts


async def test_bare_names_count_once_each_beside_the_stream(store: Store) -> None:
    """`redis-cli PUBLISH usernames alice` adds one to alice; invisible characters do not make another name."""
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: pipe.bare.held and on_the_boards(pipe, 1))
        bare: list[str | bytes] = ["alice", "alice", "\u200bcarol\n", "", "\x00", b"\xff\xfe"]
        for name in bare:
            await store.execute("PUBLISH", "usernames", name)
        heard = pipe.subscribers["usernames"].heard
        await wait_until(lambda: heard.bare_names == 3 and heard.bare_names_dropped == 3)
    assert await scores(pipe, "usernames") == {"alice": 3, "bob": 1, "carol": 1}


async def test_a_stop_in_the_moment_in_which_the_channel_breaks_is_a_stop(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = asyncio.Event()

    @asynccontextmanager
    async def breaking(_store: Store, _channel: str) -> AsyncIterator[AsyncIterator[bytes]]:
        await broken.wait()
        if broken.is_set():
            raise StoreUnavailable("the connection broke")
        yield aiter(())  # type: ignore[arg-type]

    monkeypatch.setattr("tweetboard.subscriber.subscribe", breaking)
    for ticks in range(4):
        broken.clear()
        running = asyncio.create_task(a_pipe(fake_store).subscribers["usernames"].run())
        await asyncio.sleep(0.01)
        broken.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running], timeout=2)
        assert running.cancelled(), f"after {ticks} ticks"


async def test_bare_hashtags_fold_like_all_others(store: Store) -> None:
    pipe = a_pipe(store)
    async with running(pipe, ListSource([], stays=True)):
        await wait_until(lambda: pipe.bare.held)
        for name in ["#Python", "python", "ＰＹＴＨＯＮ", "Python", "#Python", "#"]:
            await store.execute("PUBLISH", "hashtags", name)
        heard = pipe.subscribers["hashtags"].heard
        await wait_until(lambda: (heard.bare_names, heard.bare_names_dropped) == (5, 1))
    (row,) = (await pipe.boards["hashtags"].top()).rows
    assert (row.name, row.display, row.score) == ("python", "Python", 5)


async def test_bare_names_are_counted_by_one_of_two_daemons(store: Store) -> None:
    """Only the holder of the lease for bare names counts them."""
    first, second = a_pipe(store, "one"), a_pipe(store, "two")
    async with running(first, ListSource([], stays=True)):
        await wait_until(lambda: first.bare.held)
        async with running(second, ListSource([], stays=True)):
            await store.execute("PUBLISH", "usernames", "alice")
            await wait_until(lambda: first.subscribers["usernames"].heard.bare_names == 1)
            assert not second.bare.held
    assert await scores(first, "usernames") == {"alice": 1}


@pytest.mark.parametrize(
    ("change", "counter"),
    [
        ({"session": "somebody-else"}, "foreign"),
        ({"source": "another-stream"}, "foreign"),
        ({"seq": "three"}, "unreadable"),
        ({"names": ["\ud800"]}, "unreadable"),
    ],
)
async def test_messages_that_are_none_of_ours_change_nothing(
    store: Store, change: dict[str, object], counter: str
) -> None:
    """Another daemon's stream on the same channel, or anybody's JSON, is counted as such and left alone."""
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
        session = pipe.feed.journal.session
        assert session is not None
        ours = {"source": "test", "session": session.token, "seq": session.seq + 1, "times": [[0, 1]], "names": ["eve"]}
        await store.execute("PUBLISH", "usernames", json.dumps(ours | change))
        heard = pipe.subscribers["usernames"].heard
        await wait_until(lambda: getattr(heard, counter) == 1)
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1}


async def test_what_a_lost_connection_missed_comes_from_the_journal(store: Store) -> None:
    """CLIENT KILL of the Pub/Sub connections while posts flow costs no name."""
    pipe = a_pipe(store)
    source = ListSource([], stays=True)
    async with running(pipe, source):
        for number in range(200):
            source.add({"username": f"user-{number % 7}", "hashtags": [f"t{number % 3}"]})
            if number % 20 == 0:
                await store.execute("CLIENT", "KILL", "TYPE", "pubsub")
            await wait_until(partial(published, pipe, number + 1))
    assert sum((await scores(pipe, "usernames")).values()) == 200
    assert sum((await scores(pipe, "hashtags")).values()) == 200


async def test_a_subscription_that_is_dead_on_an_open_connection_is_made_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the journal from time to time is no cure: what follows must come over the channel again."""
    monkeypatch.setattr("tweetboard.follower.OVERDUE_S", 0.05)
    opened = list[PubSub]()
    pubsub = store.pubsub

    def remembered() -> PubSub:
        opened.append(pubsub())
        return opened[-1]

    monkeypatch.setattr(store, "pubsub", remembered)
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    heard = pipe.subscribers["usernames"].heard
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        (dead,) = [one for one in opened if b"usernames" in one.channels]
        await dead.unsubscribe("usernames")
        async with asyncio.timeout(5):
            while await store.execute("PUBSUB", "NUMSUB", "usernames") != [b"usernames", 0]:
                pass
        source.add(POSTS[1])
        await wait_until(lambda: any(one is not dead and b"usernames" in one.channels for one in opened))
        await wait_until(lambda: heard.subscribed and on_the_boards(pipe, 2))
        monkeypatch.setattr("tweetboard.follower.OVERDUE_S", 3600.0)  # what follows can only be heard
        messages = heard.messages
        source.add(POSTS[1])
        await wait_until(lambda: heard.messages > messages and on_the_boards(pipe, 3))
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 2}


@pytest.mark.parametrize("data", [b'{"a":' + b"[" * 20_000, b"{" * 50_000, b'{"\xff":1}'])
async def test_no_message_of_anybody_can_end_the_daemon(store: Store, data: bytes) -> None:
    """A channel is open to everyone: nested without end, or no text, is counted as unreadable."""
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
        await store.execute("PUBLISH", "usernames", data)
        await wait_until(lambda: pipe.subscribers["usernames"].heard.unreadable == 1)
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1}


async def test_a_redis_that_answers_but_refuses_to_write_is_asked_with_pauses(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A full server says PONG to every PING; neither its processor nor the log may run hot on that."""
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        await store.execute("CONFIG", "SET", "maxmemory", 1)
        try:
            source.add(POSTS[1])
            await wait_until(lambda: not store.available)
            before = store.round_trips
            with pytest.raises(TimeoutError):
                await wait_until(lambda: False, 1.5)
            assert store.round_trips - before < 100
        finally:
            await store.execute("CONFIG", "SET", "maxmemory", 0)
        await wait_until(lambda: on_the_boards(pipe, 2))
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1}
    assert len(caplog.records) < 20
