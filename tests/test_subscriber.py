"""What a subscriber takes, leaves and looks up again, on a real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from redis.asyncio.client import PubSub

from conftest import wait_until
from pipe import ListSource, a_pipe, running, scores
from tweetboard.daemon import Pipe
from tweetboard.errors import StoreUnavailable
from tweetboard.store import Store
from tweetboard.subscriber import Subscriber

POSTS: list[dict[str, object]] = [{"username": "alice", "hashtags": ["x"]}, {"username": "bob"}]


def on_the_boards(pipe: Pipe, seq: int) -> bool:
    session = pipe.journal.session
    return session is not None and session.lowest_applied >= seq


def has_heard(subscriber: Subscriber, messages: int) -> bool:
    return subscriber.heard.messages == messages


def published(pipe: Pipe, posts: int) -> bool:
    return pipe.publisher.published.posts == posts


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
        for name in ["#Python", "python", "ＰＹＴＨＯＮ"]:
            await store.execute("PUBLISH", "hashtags", name)
        await wait_until(lambda: pipe.subscribers["hashtags"].heard.bare_names == 3)
    assert await scores(pipe, "hashtags") == {"python": 3}


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
        session = pipe.journal.session
        assert session is not None
        ours = {"source": "test", "session": session.token, "seq": session.seq + 1, "times": [[0, 1]], "names": ["eve"]}
        await store.execute("PUBLISH", "usernames", json.dumps(ours | change))
        heard = pipe.subscribers["usernames"].heard
        await wait_until(lambda: getattr(heard, counter) == 1)
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1}


async def test_a_message_ahead_of_the_journal_is_refused_by_the_board(store: Store) -> None:
    """Even with our own token: what the journal does not have, Redis may have lost, and it will come again."""
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        session = pipe.journal.session
        assert session is not None
        forged = {"source": "test", "session": session.token, "seq": 2, "times": [[0, 1]], "names": ["eve"]}
        before = pipe.subscribers["usernames"].heard.catch_ups
        await store.execute("PUBLISH", "usernames", json.dumps(forged))
        await wait_until(lambda: pipe.subscribers["usernames"].heard.catch_ups > before)
        source.add(POSTS[1])
        await wait_until(lambda: on_the_boards(pipe, 2))
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


async def test_a_channel_that_falls_silent_is_given_up_and_the_journal_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-open connection delivers nothing and says nothing: the journal being ahead is what shows it."""
    monkeypatch.setattr("tweetboard.subscriber.OVERDUE_S", 0.05)
    pipe = a_pipe(store)
    source = ListSource([], stays=True)
    deaf = pipe.subscribers["usernames"]
    async with running(pipe, source):
        monkeypatch.setattr(deaf, "_accept", lambda _: None)
        source.add(*POSTS)
        await wait_until(lambda: on_the_boards(pipe, 1) and deaf.heard.names == 2)
        catch_ups = deaf.heard.catch_ups
        source.add(POSTS[0])
        await wait_until(lambda: deaf.heard.catch_ups > catch_ups)
    assert await scores(pipe, "usernames") == {"alice": 2, "bob": 1}


async def test_a_subscription_that_is_dead_on_an_open_connection_is_made_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the journal from time to time is no cure: what follows must come over the channel again."""
    monkeypatch.setattr("tweetboard.subscriber.OVERDUE_S", 0.05)
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
        monkeypatch.setattr("tweetboard.subscriber.OVERDUE_S", 3600.0)  # what follows can only be heard
        messages = heard.messages
        source.add(POSTS[1])
        await wait_until(lambda: heard.messages > messages and on_the_boards(pipe, 3))
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 2}


async def test_more_than_is_kept_in_memory_is_read_from_the_journal(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on what was heard but not applied drops messages, never names."""
    monkeypatch.setattr("tweetboard.subscriber.MAX_HEARD_BYTES", 100)
    pipe = a_pipe(store)
    async with running(pipe, ListSource([{"username": "a" * 90} for _ in range(50)], stays=True)):
        await wait_until(lambda: pipe.publisher.published.posts == 50)
    assert pipe.subscribers["usernames"].heard.overflows > 0
    assert await scores(pipe, "usernames") == {"a" * 90: 50}


async def test_what_is_heard_behind_a_slow_step_takes_bounded_memory_and_loses_no_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis takes its time over one step while the channel goes on: the bound holds, and the journal has the rest."""
    bound = 2_000
    monkeypatch.setattr("tweetboard.subscriber.MAX_HEARD_BYTES", bound)
    pipe = a_pipe(store)
    source = ListSource([], stays=True)
    subscriber, board = pipe.subscribers["usernames"], pipe.boards["usernames"]
    carry_on, apply = asyncio.Event(), board.apply

    async def slow(*step: object) -> None:
        await carry_on.wait()
        await apply(*step)  # type: ignore[arg-type]

    monkeypatch.setattr(board, "apply", slow)
    async with running(pipe, source):
        for number in range(1, 51):
            source.add({"username": "alice"})
            await wait_until(partial(has_heard, subscriber, number))
            waiting = subscriber._messages  # noqa: SLF001 - there is no other way to see what it keeps
            assert sum(len(data) for _, data in waiting) <= bound
        assert subscriber.heard.overflows > 1
        carry_on.set()
        await wait_until(lambda: on_the_boards(pipe, 50))
    assert await scores(pipe, "usernames") == {"alice": 50}


async def test_large_steps_are_split(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many messages wait, one step holds Redis only for so many names."""
    monkeypatch.setattr("tweetboard.subscriber.MAX_APPLY_NAMES", 10)
    monkeypatch.setattr("tweetboard.outbox.MAX_BATCH_NAMES", 4)
    pipe = a_pipe(store)
    async with running(pipe, ListSource([{"username": f"u{n}"} for n in range(300)], stays=True)):
        await wait_until(lambda: pipe.publisher.published.posts == 300)
    assert len(await scores(pipe, "usernames")) == 300


async def test_a_board_that_was_reset_by_hand_starts_at_the_present(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DEL of a board and of what it has applied is a reset: the session begins anew, and what comes next counts."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        await store.execute("DEL", "username_scoreboard", "username_scoreboard:applied")
        source.add({"username": "lost"})  # meets the reset on its way, and counts as before it
        await wait_until(lambda: pipe.publisher.published.sessions == 2)
        source.add(POSTS[1])
        await wait_until(lambda: pipe.publisher.published.posts >= 2 and on_the_boards(pipe, 3))
    assert (await scores(pipe, "usernames"))["bob"] == 1


async def test_batches_gone_from_the_journal_are_said_loudly_and_passed(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody deleted the journal before a board had it: a new session goes on, and counts the loss."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
    await store.execute("HSET", "username_scoreboard:applied", "test", 0)
    await store.execute("DEL", "tweetboard:test:journal")
    again = a_pipe(store)
    async with running(again, ListSource([*POSTS, {"username": "carol"}], stays=True)):
        await wait_until(lambda: again.publisher.published.posts == 1)
    assert again.publisher.published.lost_batches > 0
    assert "went from the journal before every board had them" in caplog.text
    assert (await scores(again, "usernames"))["carol"] == 1


async def test_a_step_carried_out_after_it_was_given_up_does_not_break_the_session(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is carried out, and the journal trimmed behind it, between the two looks of a catch-up: nothing is missing."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    board = pipe.boards["usernames"]
    apply, applied = board.apply, board.applied
    on_its_way = list[Callable[[], Awaitable[None]]]()
    looks = list[int | None]()

    async def unanswered(*step: object) -> None:
        on_its_way.append(partial(apply, *step))  # type: ignore[arg-type]
        monkeypatch.setattr(board, "apply", apply)
        raise StoreUnavailable("no answer")

    async def too_early(stream: str) -> int | None:
        looks.append(await applied(stream))
        if on_its_way:
            await on_its_way.pop()()
            await wait_until(lambda: session.applied["hashtags"] == 2)
            source.add({"username": "carol"})
            await wait_until(lambda: session.seq == 3)
            assert await store.execute("XLEN", "tweetboard:test:journal") == 1, "only the batch of carol"
        return looks[-1]

    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        assert pipe.journal.session is not None
        session = pipe.journal.session
        monkeypatch.setattr(board, "apply", unanswered)
        monkeypatch.setattr(board, "applied", too_early)
        source.add(POSTS[1])
        await wait_until(lambda: on_the_boards(pipe, 3))
        assert (pipe.journal.session, session.broken) == (session, "")
    assert looks[:2] == [1, 2]
    assert pipe.publisher.published.sessions == 1
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1, "carol": 1}


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


async def test_a_streams_hash_deleted_by_hand_counts_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks like a Redis that went back, but the boards did not: the session ends instead of sending all again."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS[:1], stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
        await store.execute("DEL", "tweetboard:test")
        await wait_until(lambda: pipe.publisher.published.sessions >= 3)
    assert (await scores(pipe, "usernames"))["alice"] <= 2
