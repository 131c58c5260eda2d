"""The life of a session on a real server: begin, publish, drain, give way, come back."""

import asyncio
import logging
import os
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator

import pytest

from conftest import wait_until
from pipe import ListSource, OneStream, a_pipe, running, scores
from tweetboard.channel import decode, subscribe
from tweetboard.errors import NotDrained, SessionEnded, StoreUnavailable, StreamRefused, TweetboardError
from tweetboard.framing import Block
from tweetboard.journal import Begun, Session
from tweetboard.outbox import Batch
from tweetboard.publisher import LARGE_BATCH_NAMES, Publisher
from tweetboard.store import Store, open_store

SEED = int(os.environ.get("TWEETBOARD_TEST_SEED", "20261122"))

POSTS: list[dict[str, object]] = [
    {"username": "alice", "hashtags": ["Redis", "redis", "python"]},
    {"username": "bob", "hashtags": ["REDIS"]},
    {"username": "alice"},
]
USERNAMES = {"alice": 2, "bob": 1}
HASHTAGS = {"redis": 2, "python": 1}


async def test_a_source_that_ends_is_wholly_on_both_boards(store: Store) -> None:
    """What a user gets: names counted, hashtags folded, once per post."""
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: pipe.feed.publisher.published.posts == 3)
    assert await scores(pipe, "usernames") == USERNAMES
    assert await scores(pipe, "hashtags") == HASHTAGS
    assert pipe.feed.publisher.outstanding_names == 0


@pytest.mark.parametrize(("posts_a_turn", "at_least", "at_most"), [(1, 1, 8), (256, LARGE_BATCH_NAMES, 4_500)])
async def test_a_lone_post_leaves_at_once_and_a_flood_in_large_batches(
    posts_a_turn: int, at_least: int, at_most: int, store: Store
) -> None:
    """One name a turn of the event loop is not worth waiting for more; hundreds are."""
    pipe = a_pipe(store)
    source = Flood(posts_a_turn)
    async with subscribe(store, "usernames") as subscription, running(pipe, source):
        first = await anext(data async for data in subscription if data is not None)
        assert at_least <= len(decode(first).names) <= at_most
        await wait_until(lambda: pipe.feed.publisher.published.posts == source.total)
    assert await scores(pipe, "usernames") == {"alice": source.total}


class Flood:
    """A source that brings so many posts with each turn of the event loop, as a socket does."""

    heard_until = 0.0

    def __init__(self, posts_a_turn: int) -> None:
        self._posts_a_turn = posts_a_turn
        self.total = 30 * posts_a_turn

    async def blocks(self, *_: object) -> AsyncGenerator[tuple[Block, str], None]:
        for _turn in range(30):
            await asyncio.sleep(0)
            yield Block(lines=b'{"username": "alice"}\n' * self._posts_a_turn), ""
        await asyncio.Event().wait()


async def test_the_next_daemon_goes_on_where_the_last_one_stopped(store: Store) -> None:
    """The position is stored with the batch, so nothing is read twice and nothing is skipped."""
    source = ListSource(POSTS[:2], stays=True)
    first = a_pipe(store)
    async with running(first, source):
        await wait_until(lambda: first.feed.publisher.published.posts == 2)
    source.add(POSTS[2])
    second = a_pipe(store)
    async with running(second, source):
        await wait_until(lambda: second.feed.publisher.published.posts == 1)
    assert source.asked == ["", "2"]
    assert await scores(second, "usernames") == USERNAMES


async def test_the_next_daemon_knows_until_when_the_last_one_listened(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the stream was silent: listening is noted with each renewal, not with each batch."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.02)
    source = ListSource([], stays=True)
    first, second = a_pipe(store), a_pipe(store)
    async with running(first, source):
        source.heard_until = 1_795_000_000.25
        async with asyncio.timeout(5):
            while not await store.execute("HEXISTS", "tweetboard:test", "heard"):
                await asyncio.sleep(0)
    assert source.heard_before == 0
    async with running(second, source):
        await wait_until(lambda: source.heard_before == 1_795_000_000.25)


async def test_a_stream_that_is_refused_ends_the_run_after_what_was_read(store: Store) -> None:
    """A token that stops being accepted costs none of the posts that came before."""
    pipe = a_pipe(store)
    with pytest.RaisesGroup(pytest.RaisesExc(StreamRefused, match="token")):
        async with running(pipe, ListSource(POSTS, failure=StreamRefused("the token is not accepted"))) as stopping:
            await stopping.wait()
    assert await scores(pipe, "usernames") == USERNAMES


async def test_a_clean_stop_gives_the_lease_up_at_once(store: Store) -> None:
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: pipe.feed.publisher.published.posts == 3)
        assert await store.execute("EXISTS", "tweetboard:test:lease") == 1
    assert await store.execute("EXISTS", "tweetboard:test:lease") == 0


async def test_a_second_daemon_stands_by_and_takes_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts nothing while the first has the lease, and everything that follows afterwards."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    source = ListSource(POSTS[:1], stays=True)
    first, second = a_pipe(store), a_pipe(store)
    async with running(first, source) as stop_first:
        await wait_until(lambda: first.feed.publisher.published.posts == 1)
        async with running(second, source):
            await wait_until(lambda: second.feed.publisher.published.standby)
            assert second.feed.lease.other == first.feed.lease.holder
            stop_first.set()
            await wait_until(lambda: second.feed.journal.session is not None)
            source.add(*POSTS[1:])
            await wait_until(lambda: second.feed.publisher.published.posts == 2)
    assert first.feed.publisher.published.posts == 1
    assert await scores(second, "usernames") == USERNAMES


async def test_a_standby_stops_at_once(store: Store) -> None:
    await store.execute("SET", "tweetboard:test:lease", "somebody else", "PX", 60_000)
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS)):
        await wait_until(lambda: pipe.feed.publisher.published.standby)
    assert await store.execute("GET", "tweetboard:test:lease") == b"somebody else"


async def test_a_session_that_was_taken_over_begins_anew_when_the_lease_is_free(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another owner in the stream's hash fences every append; with nobody holding the lease, we are next."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    source = ListSource(POSTS[:1], stays=True)
    pipe = a_pipe(store)
    async with running(pipe, source):
        await wait_until(lambda: caught_up(pipe))  # one that is only read so far would be fenced as well
        await store.execute("HSET", "tweetboard:test", "owner", "an intruder")
        source.add(*POSTS[1:])
        await wait_until(lambda: pipe.feed.publisher.published.sessions == 2)
        await wait_until(lambda: source.asked[-1] == "1")
    assert await scores(pipe, "usernames") == USERNAMES
    assert pipe.feed.publisher.published.lost_names == 0
    assert "beginning anew: tweetboard:test is not ours any more: another session" in caplog.text


async def test_what_is_read_when_another_instance_takes_over_is_counted_as_lost_where_it_cannot_be_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other has read the same stream meanwhile; sent by us as well, names could count twice."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    source = ListSource(POSTS[:1], stays=True, rewinds=False)
    pipe = a_pipe(store)
    async with running(pipe, source):
        await wait_until(lambda: caught_up(pipe))
        await store.execute("HSET", "tweetboard:test", "owner", "an intruder")
        source.add(*POSTS[1:])
        await wait_until(lambda: pipe.feed.publisher.published.sessions == 2)
    assert await scores(pipe, "usernames") == {"alice": 1}
    assert pipe.feed.publisher.published.lost_names == 3
    assert "up to 3 names are lost" in caplog.text


async def test_redis_that_went_back_beyond_memory_costs_a_stream_that_cannot_rewind_only_what_is_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still in memory goes into the next session, under other numbers."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    monkeypatch.setattr("tweetboard.outbox.MAX_REMEMBERED_BYTES", 0)
    pipe = a_pipe(store)
    source = ListSource([{"username": "kept"}], stays=True, rewinds=False)
    async with running(pipe, source):
        await wait_until(lambda: caught_up(pipe))
        dumps = [(key, await store.execute("DUMP", key)) for key in await keys(store)]
        for seq, name in enumerate(("forgotten", "forgotten too", "remembered"), 2):
            source.add({"username": name})
            await wait_until(lambda seq=seq: caught_up(pipe) and pipe.feed.journal.session.seq == seq)  # type: ignore[misc,union-attr]
        await store.execute("DEL", *await keys(store))
        for key, dump in dumps:
            await store.execute("RESTORE", key, 0, dump)  # type: ignore[arg-type]
        source.add({"username": "after"})
        await wait_until(lambda: pipe.feed.publisher.published.sessions == 2)
        await wait_until(lambda: pipe.feed.publisher.published.posts == 5)
    assert await scores(pipe, "usernames") == {"kept": 1, "remembered": 1, "after": 1}
    assert (pipe.feed.publisher.published.lost_batches, pipe.feed.publisher.published.lost_names) == (2, 0)


def hold_appends(pipe: OneStream, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let no batch reach Redis until the returned event is set."""
    append, going_on = pipe.feed.journal.append, asyncio.Event()

    async def held(session: Session, batch: Batch, *, keep_ids_s: int = 0) -> int:
        await going_on.wait()
        return await append(session, batch, keep_ids_s=keep_ids_s)

    monkeypatch.setattr(pipe.feed.journal, "append", held)
    return going_on


def end_session(pipe: OneStream) -> None:
    assert pipe.feed.journal.session is not None
    pipe.feed.journal.session.broken_by("the test wants it so")


async def test_a_begin_whose_answer_is_lost_loses_nothing_that_its_session_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner before is then a token that was never heard of as ours, and yet is."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.02)
    pipe = a_pipe(store)
    begin, answers = pipe.feed.journal.begin, iter([False])

    async def unanswered() -> Begun:
        begun = await begin()
        if not next(answers, True):
            pipe.feed.journal.unanswered.append(begun.token)
            raise StoreUnavailable("the connection was cut")
        return begun

    async with running(pipe, ListSource(POSTS, stays=True, rewinds=False)):
        going_on = hold_appends(pipe, monkeypatch)
        await wait_until(lambda: pipe.feed.publisher.outstanding_names == 6)
        monkeypatch.setattr(pipe.feed.journal, "begin", unanswered)
        end_session(pipe)
        await wait_until(lambda: pipe.feed.publisher.published.sessions == 2)
        going_on.set()
    assert await scores(pipe, "usernames") == USERNAMES
    assert pipe.feed.publisher.published.lost_names == 0


@pytest.mark.parametrize("rewinds", [True, False])
async def test_a_session_that_ends_after_the_stop_is_followed_by_one_that_sends_what_it_left(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, rewinds: bool
) -> None:
    """And reads nothing: what it left was read once already."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.02)
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True, rewinds=rewinds)) as stopping:
        going_on = hold_appends(pipe, monkeypatch)
        await wait_until(lambda: pipe.feed.publisher.published.posts == 3)
        stopping.set()
        end_session(pipe)
        await wait_until(lambda: pipe.feed.publisher.published.sessions == 2)
        going_on.set()
    assert await scores(pipe, "usernames") == USERNAMES
    assert await scores(pipe, "hashtags") == HASHTAGS
    assert pipe.feed.publisher.published.posts == 3


async def test_redis_that_went_back_while_nothing_flowed_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback with an idle stream loses names in silence, unless somebody looks: the lease's renewal does."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: pipe.feed.publisher.published.posts == 1)
        await wait_until(lambda: all(seq == 1 for seq in pipe.feed.journal.session.applied.values()))  # type: ignore[union-attr]
        dumps = [(key, await store.execute("DUMP", key)) for key in await keys(store)]
        source.add(*POSTS[1:])
        await wait_until(lambda: pipe.feed.publisher.published.posts == 3)
        await wait_until(lambda: pipe.feed.publisher.published.unapplied_bytes == 0 or caught_up(pipe))
        # Redis comes back as it was; nothing is sent after that.
        await store.execute("DEL", *await keys(store))
        for key, dump in dumps:
            await store.execute("RESTORE", key, 0, dump)  # type: ignore[arg-type]
        await wait_until(lambda: pipe.feed.publisher.published.sent_again > 0)
    assert await scores(pipe, "usernames") == USERNAMES
    assert await scores(pipe, "hashtags") == HASHTAGS


async def test_redis_that_went_back_behind_the_session_loses_nothing_from_a_stream_that_cannot_rewind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wiped before anything was remembered elsewhere: the whole session is still in memory and goes out again."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    pipe = a_pipe(store)
    source = ListSource(POSTS, stays=True)
    async with running(pipe, source):
        await wait_until(lambda: pipe.feed.publisher.published.posts == 3)
        await wait_until(lambda: caught_up(pipe))
        await store.execute("FLUSHALL")
        await wait_until(lambda: pipe.feed.publisher.published.sent_again > 0)
    assert source.asked == [""], "the stream was not opened again"
    assert await scores(pipe, "usernames") == USERNAMES


async def test_a_refill_with_repeats_counts_each_post_once_across_a_restart(store: Store) -> None:
    """X sends posts of the last minutes again on a new connection; their ids are in Redis since the batch."""
    record: dict[str, object] = {"data": {"id": "1", "author_id": "7", "created_at": "2026-11-22T10:00:00.000Z"}}
    other: dict[str, object] = {"data": {"id": "2", "author_id": "8", "created_at": "2026-11-22T10:00:00.000Z"}}
    first = a_pipe(store, refill_minutes=4)
    async with running(first, ListSource([record], stays=True)):
        await wait_until(lambda: first.feed.publisher.published.posts == 1)
    second = a_pipe(store, refill_minutes=4)
    again = ListSource([{}, record, other, record], stays=True)  # goes on at position 1: after the first of these
    async with running(second, again):
        await wait_until(lambda: second.feed.publisher.published.repeats == 2)
    assert await scores(second, "usernames") == {"id:7": 1, "id:8": 1}


async def test_reading_stops_while_the_boards_do_not_keep_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays flat because the stream is not read any more: TCP tells upstream."""
    monkeypatch.setattr("tweetboard.outbox.MAX_UNAPPLIED_BYTES", 2_000)
    pipe = a_pipe(store)

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    for board in pipe.boards.values():
        monkeypatch.setattr(board, "apply", never)
    source = ListSource([{"username": f"user-{number}"} for number in range(1000)], stays=True)
    with pytest.RaisesGroup(pytest.RaisesExc(NotDrained, match="names read but not on the boards")):
        monkeypatch.setattr("tweetboard.pipe.DRAIN_TIMEOUT_S", 0.2)
        async with running(pipe, source):
            await wait_until(lambda: pipe.feed.publisher.published.unapplied_bytes >= 2_000)
            for _ in range(100):
                await asyncio.sleep(0)
            assert pipe.feed.publisher.published.posts < 200


async def test_a_board_of_another_type_is_never_overwritten_and_named(store: Store) -> None:
    """Somebody else's key ends the run with one clear line; it keeps its value."""
    await store.execute("SET", "username_scoreboard", "precious")
    pipe = a_pipe(store)
    with pytest.RaisesGroup(TweetboardError, flatten_subgroups=True) as caught:
        async with running(pipe, ListSource(POSTS, stays=True)) as stopping:
            await stopping.wait()
    leaf: BaseException = caught.value
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert re.search("refused (apply|age) on username_scoreboard", str(leaf))
    assert "WRONGTYPE" in str(leaf)
    assert await store.execute("GET", "username_scoreboard") == b"precious"


async def test_begin_names_a_board_that_is_no_longer_fed(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    pipe = a_pipe(store)
    await store.execute("HSET", "tweetboard:test", "boards", '["username_scoreboard","an_old_board"]', "seq", 4)
    with caplog.at_level(logging.WARNING):
        async with running(pipe, ListSource(POSTS, stays=True)):
            await wait_until(lambda: pipe.feed.publisher.published.posts == 3)
    assert "board an_old_board is no longer fed by stream test" in caplog.text


async def keys(store: Store) -> list[str]:
    """All keys but the leases, which end by themselves."""
    found = await store.execute("KEYS", "*")
    assert isinstance(found, list)
    return [key.decode() for key in found if b"lease" not in key and key != b"tweetboard:bare"]


def caught_up(pipe: object) -> bool:
    session = pipe.feed.journal.session  # type: ignore[attr-defined]
    return session is not None and session.seq > 0 and session.lowest_applied == session.seq


async def test_two_thousand_cancellations_at_random_ticks_leave_no_task_behind(valkey_url: str) -> None:
    """A TaskGroup that swallows one hangs for ever; every wait in the pipe passes it on, wherever it hits."""
    rng = random.Random(SEED)

    async def whole() -> None:
        async with open_store(valkey_url, connections=16) as store:
            pipe = a_pipe(store, f"cancelled-{rng.randrange(3)}")
            async with running(pipe, ListSource(POSTS * 5, stays=True)):
                await asyncio.Event().wait()

    reached = Counter[str]()
    for round_number in range(2_000):
        task = asyncio.create_task(whole())
        for _ in range(int(rng.paretovariate(0.6)) % 400):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([task])
        reached["cancelled" if task.cancelled() else repr(task.exception())] += 1
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"seed {SEED}, round {round_number}"
    assert reached == {"cancelled": 2_000}, f"seed {SEED}"


async def test_a_stop_in_the_moment_in_which_a_session_ends_is_a_stop(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def keep_lease(*_: object) -> None:
        await ended.wait()
        raise SessionEnded("somebody else has it")

    monkeypatch.setattr(Publisher, "_keep_lease", keep_lease)
    for ticks in range(6):
        ended.clear()
        pipe = a_pipe(fake_store, f"ended-{ticks}")  # the lease of the one before has not ended yet
        source = ListSource([], stays=True)
        task = asyncio.create_task(pipe.feed.publisher.run(source, pipe.feed.decoder, asyncio.Event()))
        await wait_until(lambda pipe=pipe: pipe.feed.journal.session is not None)  # type: ignore[misc]
        await asyncio.sleep(0.01)
        ended.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=2)
        assert task.cancelled(), f"after {ticks} ticks"


async def test_two_streams_feed_the_same_boards(store: Store) -> None:
    """Each keeps its own journal and its own place on the boards, and hears the other's messages without harm."""
    first, second = a_pipe(store, "one"), a_pipe(store, "two")
    async with running(first, ListSource(POSTS, stays=True)), running(second, ListSource(POSTS, stays=True)):
        await wait_until(lambda: caught_up(first) and caught_up(second))
    assert await scores(first, "usernames") == {name: 2 * score for name, score in USERNAMES.items()}
    assert first.subscribers["usernames"].heard.foreign > 0
