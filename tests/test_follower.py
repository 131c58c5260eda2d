"""How one stream's batches reach one board: in order, as heard or from the journal, and no batch twice."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from conftest import wait_until
from pipe import ListSource, a_pipe, on_the_boards, running, scores
from tweetboard.channel import Message, body
from tweetboard.errors import SessionEnded, StoreUnavailable
from tweetboard.journal import Journal, Session
from tweetboard.outbox import Batch
from tweetboard.settings import BoardSettings, Settings
from tweetboard.store import Store
from tweetboard.subscriber import Subscriber

POSTS: list[dict[str, object]] = [{"username": "alice", "hashtags": ["x"]}, {"username": "bob"}]


def has_heard(subscriber: Subscriber, messages: int) -> bool:
    return subscriber.heard.messages == messages


async def test_a_message_ahead_of_the_journal_is_refused_by_the_board(store: Store) -> None:
    """Even with our own token: what the journal does not have, Redis may have lost, and it will come again."""
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        session = pipe.feed.journal.session
        assert session is not None
        forged = {"source": "test", "session": session.token, "seq": 2, "times": [[0, 1]], "names": ["eve"]}
        before = pipe.subscribers["usernames"].heard.catch_ups
        await store.execute("PUBLISH", "usernames", json.dumps(forged))
        await wait_until(lambda: pipe.subscribers["usernames"].heard.catch_ups > before)
        source.add(POSTS[1])
        await wait_until(lambda: on_the_boards(pipe, 2))
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1}


async def test_a_channel_that_falls_silent_is_given_up_and_the_journal_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-open connection delivers nothing and says nothing: the journal being ahead is what shows it."""
    monkeypatch.setattr("tweetboard.follower.OVERDUE_S", 0.05)
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


async def test_more_than_is_kept_in_memory_is_read_from_the_journal(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on what was heard but not applied drops messages, never names."""
    monkeypatch.setattr("tweetboard.follower.MAX_HEARD_BYTES", 100)
    pipe = a_pipe(store)
    async with running(pipe, ListSource([{"username": "a" * 90} for _ in range(50)], stays=True)):
        await wait_until(lambda: pipe.feed.publisher.published.posts == 50)
    assert pipe.subscribers["usernames"].heard.overflows > 0
    assert await scores(pipe, "usernames") == {"a" * 90: 50}


async def test_what_is_heard_behind_a_slow_step_takes_bounded_memory_and_loses_no_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis takes its time over one step while the channel goes on: the bound holds, and the journal has the rest."""
    bound = 2_000
    monkeypatch.setattr("tweetboard.follower.MAX_HEARD_BYTES", bound)
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
            waiting = subscriber._followers["test"]._messages  # noqa: SLF001 - there is no other way to see what it keeps
            assert sum(len(data) for _, data in waiting) <= bound
        assert subscriber.heard.overflows > 1
        carry_on.set()
        await wait_until(lambda: on_the_boards(pipe, 50))
    assert await scores(pipe, "usernames") == {"alice": 50}


async def test_large_steps_are_split(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many messages wait, one step holds Redis only for so many names."""
    monkeypatch.setattr("tweetboard.follower.MAX_APPLY_NAMES", 10)
    monkeypatch.setattr("tweetboard.outbox.MAX_BATCH_NAMES", 4)
    pipe = a_pipe(store)
    async with running(pipe, ListSource([{"username": f"u{n}"} for n in range(300)], stays=True)):
        await wait_until(lambda: pipe.feed.publisher.published.posts == 300)
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
        await wait_until(lambda: pipe.feed.publisher.published.sessions == 2)
        source.add(POSTS[1])
        await wait_until(lambda: pipe.feed.publisher.published.posts >= 2 and on_the_boards(pipe, 3))
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
        await wait_until(lambda: again.feed.publisher.published.posts == 1)
    assert again.feed.publisher.published.lost_batches > 0
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
        assert pipe.feed.journal.session is not None
        session = pipe.feed.journal.session
        monkeypatch.setattr(board, "apply", unanswered)
        monkeypatch.setattr(board, "applied", too_early)
        source.add(POSTS[1])
        await wait_until(lambda: on_the_boards(pipe, 3))
        assert (pipe.feed.journal.session, session.broken) == (session, "")
    assert looks[:2] == [1, 2]
    assert pipe.feed.publisher.published.sessions == 1
    assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1, "carol": 1}


async def test_what_another_session_has_written_is_not_applied_under_our_token(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carried out late, when Redis has gone back and forgotten it, it would stand for our batch of that number."""
    monkeypatch.setattr("tweetboard.follower.OVERDUE_S", 0.05)
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 60.0)
    pipe = a_pipe(store)
    asked = list[int]()

    async def apply(_stream_key: str, _token: str, messages: Sequence[Message]) -> None:
        asked.extend(message.seq for message in messages)
        raise SessionEnded("another session has taken over")

    async with running(pipe, ListSource(POSTS[:1], stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
        other = Journal(store, "test", [("usernames", "username_scoreboard"), ("hashtags", "hashtags_scoreboard")])
        theirs = Session(await other.begin(), ["usernames", "hashtags"])
        bodies = {"usernames": body([(0, 1)], ["eve"]), "hashtags": body([], [])}
        await other.append(theirs, Batch(2, "", bodies, 1, [], 9))
        monkeypatch.setattr(pipe.boards["usernames"], "apply", apply)
        for lose_track in pipe.feed.journal.listeners:
            lose_track()
        heard = pipe.subscribers["usernames"].heard
        before = heard.catch_ups
        await wait_until(lambda: heard.catch_ups >= before + 3)
    assert asked == []


async def test_a_streams_hash_deleted_by_hand_counts_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks like a Redis that went back, but the boards did not: the session ends instead of sending all again."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS[:1], stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
        await store.execute("DEL", "tweetboard:test")
        await wait_until(lambda: pipe.feed.publisher.published.sessions >= 3)
    assert (await scores(pipe, "usernames"))["alice"] <= 2


async def test_a_board_that_was_renamed_while_batches_waited_goes_on(store: Store) -> None:
    """They are in the journal under its old name: it is new to the stream, and the others lose nothing."""
    settings = Settings(boards={"usernames": BoardSettings(key="u"), "hashtags": BoardSettings(key="h")})
    pipe = a_pipe(store, settings=settings)
    session = Session(await pipe.feed.journal.begin(), ["usernames", "hashtags"])
    bodies = {"usernames": body([(5, 1)], ["alice"]), "hashtags": body([(5, 1)], ["tea"])}
    await pipe.feed.journal.append(session, Batch(1, "1", bodies, 2, [], 0))
    renamed = {"people": BoardSettings(key="u", field="author"), "hashtags": BoardSettings(key="h")}
    again = a_pipe(store, settings=Settings(boards=renamed))
    async with running(again, ListSource([{}, {"username": "bob", "hashtags": ["tea"]}], stays=True)):
        await wait_until(lambda: on_the_boards(again, 2))
    assert await scores(again, "people") == {"bob": 1}
    assert await scores(again, "hashtags") == {"tea": 2}
