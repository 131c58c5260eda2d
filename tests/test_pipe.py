"""What the parts of a pipe owe each other when the lease, Redis or the records are not as they should be."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from conftest import wait_until
from pipe import ListSource, OneStream, a_pipe, on_the_boards, running, scores
from tweetboard.errors import StoreUnavailable, StreamRefused
from tweetboard.journal import Journal
from tweetboard.lease import Lease
from tweetboard.pipe import Pipe
from tweetboard.presets import Place
from tweetboard.publisher import Source
from tweetboard.settings import BoardSettings, FilterSettings, Settings
from tweetboard.store import Store

POSTS: list[dict[str, object]] = [{"username": "alice", "hashtags": ["x"]}, {"username": "bob"}]
BOARDS = [("usernames", "username_scoreboard"), ("hashtags", "hashtag_scoreboard")]
NEVER_S = 3600.0
"""Longer than any test."""


def has_read(pipe: Pipe, posts: int) -> bool:
    return pipe.posts == posts


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
    hold = pipe.feed.lease.hold

    async def away() -> bool:
        monkeypatch.setattr(pipe.feed.lease, "hold", hold)
        monkeypatch.setattr("tweetboard.publisher.RENEW_S", NEVER_S)
        await restore(store, before)
        raise StoreUnavailable("Redis is away")

    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        before = await dumped(store)
        source.add(POSTS[1])
        await wait_until(lambda: on_the_boards(pipe, 2))
        monkeypatch.setattr(pipe.feed.lease, "hold", away)
        await wait_until(lambda: pipe.feed.publisher.published.sent_again == 1)
        await wait_until(lambda: on_the_boards(pipe, 2))
        assert await scores(pipe, "usernames") == {"alice": 1, "bob": 1}
        assert await scores(pipe, "hashtags") == {"x": 1}
    assert pipe.feed.publisher.published.sessions == 1


async def test_a_daemon_that_was_overtaken_between_two_steps_gives_way_and_fences_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for longer than its lease lives, just after it had renewed it: another one owns the stream now."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", NEVER_S)  # only the append in doubt looks at Redis
    pipe = a_pipe(store)
    source = ListSource(POSTS[:1], stays=True)
    look = pipe.feed.journal.look
    other = Journal(store, "test", BOARDS)
    tokens = list[str]()

    async def unanswered(*_: object, **__: object) -> int:
        raise StoreUnavailable("no answer")

    async def after_a_long_stop() -> tuple[str, int]:
        await pipe.feed.lease.release()
        assert await Lease(store, "tweetboard:test:lease", "the other").hold()
        tokens.append((await other.begin()).token)
        return await look()

    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        monkeypatch.setattr(pipe.feed.journal, "append", unanswered)
        monkeypatch.setattr(pipe.feed.journal, "look", after_a_long_stop)
        source.add(POSTS[1])
        await wait_until(lambda: pipe.feed.publisher.published.standby)
        assert [await other.look()] == [(token, 1) for token in tokens]
    assert pipe.feed.publisher.published.sessions == 1
    assert pipe.feed.lease.other == "the other"


async def test_a_standby_lets_the_holder_come_back_after_redis_was_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease may have ended while nobody could renew it; what its holder has gathered meanwhile would be lost."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.1)
    lease = ("tweetboard:test:lease", "the holder")
    await store.execute("SET", *lease)
    pipe = a_pipe(store)
    hold, holds = pipe.feed.lease.hold, 0

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

    monkeypatch.setattr(pipe.feed.lease, "hold", away_at_the_second)
    async with asyncio.TaskGroup() as group, running(pipe, ListSource([])):
        await wait_until(lambda: holds == 4)
    assert pipe.feed.publisher.published.sessions == 0
    assert await store.execute("GET", lease[0]) == b"the holder"


async def test_a_standby_that_gets_the_lease_is_none_any_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """/readyz and /metrics tell of its stream from then on, not of the daemon that was there before."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    await store.execute("SET", "tweetboard:test:lease", "somebody else", "PX", 60_000)
    pipe = a_pipe(store)
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: pipe.feed.publisher.published.standby)
        await store.execute("DEL", "tweetboard:test:lease")
        await wait_until(lambda: on_the_boards(pipe, 1))
        assert not pipe.feed.publisher.published.standby


# --- What came to nothing ---


async def test_two_streams_add_up_on_the_same_boards_each_going_on_from_its_own_place(store: Store) -> None:
    first, second = ListSource(POSTS, stays=True), ListSource([*POSTS, {"username": "carol"}], stays=True)
    places = {"one": Place("", "flat"), "two": Place("", "auto")}
    for before in (0, 11):
        pipe = Pipe(store, Settings(), places)
        async with flowing(pipe, {"one": first, "two": second}):
            for _ in range(3):
                first.add({"username": "dave", "hashtags": ["x"]})
                second.add({"username": "dave"})
            await wait_until(partial(has_read, pipe, len(first.posts) + len(second.posts) - before))
    names = [str(post["username"]) for source in (first, second) for post in source.posts]
    page = await Pipe(store, Settings(), places).boards["usernames"].top(limit=100)
    assert {row.name: row.score for row in page.rows} == Counter(names)
    applied = cast("list[bytes]", await store.execute("HKEYS", "username_scoreboard:applied"))
    assert sorted(applied) == [b"one", b"two"]


async def test_a_stream_that_ends_for_good_leaves_the_others_alone(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    refused = ListSource(POSTS[:1], failure=StreamRefused("401: the token is not accepted"))
    good = ListSource(POSTS, stays=True)
    pipe = Pipe(store, Settings(), {"x": Place("", "flat"), "town": Place("", "flat")})
    async with flowing(pipe, {"x": refused, "town": good}):
        await wait_until(lambda: pipe.feeds["x"].failure is not None)
        good.add({"username": "carol"})
        await wait_until(lambda: pipe.posts == len(POSTS) + 2)
        assert pipe.described()["stream x"][:2] == (False, "401: the token is not accepted")
    assert "stream x has ended for good, the others go on: 401: the token is not accepted" in caplog.messages


async def test_where_all_streams_end_for_good_so_does_everything(store: Store) -> None:
    pipe = Pipe(store, Settings(), {"one": Place("", "flat"), "two": Place("", "flat")})
    sources = {name: ListSource([], failure=StreamRefused(f"{name} is refused")) for name in pipe.feeds}
    with pytest.RaisesGroup(pytest.RaisesExc(StreamRefused, match="one is refused")):
        async with flowing(pipe, sources) as stopping:
            await stopping.wait()


async def test_boards_of_reposts_and_fields_stand_beside_the_others(store: Store) -> None:
    settings = Settings(
        boards={
            "usernames": BoardSettings(key="u", reposts=False),
            "everybody": BoardSettings(key="e", field="author"),
            "words": BoardSettings(key="w", field=".text"),
        }
    )
    first: dict[str, object] = {"id_str": "1", "user": {"screen_name": "alice"}, "text": "Tea"}
    repost = first | {"id_str": "2", "user": {"screen_name": "bob"}, "retweeted_status": {}}
    pipe = a_pipe(store, settings=settings)
    async with running(pipe, ListSource([first, repost, first | {"text": None}])):
        await wait_until(lambda: pipe.posts == 3)
    assert await scores(pipe, "usernames") == {"alice": 2}
    assert await scores(pipe, "everybody") == {"alice": 2, "bob": 1}
    assert await scores(pipe, "words") == {"Tea": 2}


async def test_names_of_the_blocklist_go_when_it_is_read_again_and_come_back_whole(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "names"
    path.write_text("")
    pipe = a_pipe(store, settings=Settings(filter=FilterSettings(blocklist=str(path))))
    source = ListSource(POSTS, stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        path.write_text("@alice\n#x")
        pipe.reload()
        source.add(POSTS[0])
        await wait_until(lambda: pipe.posts == len(POSTS) + 1)
        assert "alice" not in await scores(pipe, "usernames")
        assert "x" not in await scores(pipe, "hashtags")
        path.unlink()
        pipe.reload()
        assert "alice" not in await scores(pipe, "usernames"), "a file that is gone changes nothing"
        path.write_text("")
        pipe.reload()
    assert (await scores(pipe, "usernames"))["alice"] == 2


async def test_a_board_that_only_asks_where_it_stands_does_not_get_on(store: Store) -> None:
    """Its steps fail, again and again: that must not look like progress, and is said once it was found."""
    pipe = a_pipe(store)
    pipe.store.available = True
    async with running(pipe, ListSource(POSTS, stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
        session, subscriber = pipe.feed.journal.session, pipe.subscribers["hashtags"]
        assert session is not None
        session.seq += 1
        before = pipe.work()["board hashtags"]
        subscriber.heard.catch_ups += 1
        after = pipe.work()["board hashtags"]
        assert (before.due, before) == (True, after)
        pipe.note_stuck(["board hashtags"])
        ok, detail, _ = pipe.described()["hashtags"]
        assert (ok, detail) == (False, "1 batches behind, and stands")
        assert pipe.described()["usernames"].ok
        session.seq -= 1


@asynccontextmanager
async def flowing(pipe: Pipe, sources: Mapping[str, Source]) -> AsyncIterator[asyncio.Event]:
    """Run a pipe on several sources; yields the event that stops it, and waits for the end of the drain."""
    stopping = asyncio.Event()
    async with asyncio.timeout(20), pipe.subscribed() as group:
        publishing = group.create_task(pipe.publish(sources, stopping))
        yield stopping
        stopping.set()
        await pipe.drained(publishing, stopping)


async def test_a_file_goes_by_its_newest_post_also_where_posts_have_no_time(store: Store) -> None:
    """Otherwise one of them would be of today, and all windows would hold it alone."""
    times = [f"2021-04-01T15:5{minute}:00Z" for minute in range(3)]
    posts: list[dict[str, object]] = [{"data": {"author_id": "1", "created_at": time}} for time in times]
    posts.append({"data": {"author_id": "2"}})
    pipe = OneStream(store, Settings(), {"test": Place("", "x-v2")}, clock=None)
    async with running(pipe, ListSource(posts)):
        await wait_until(lambda: on_the_boards(pipe, 1) and pipe.subscribers["usernames"].heard.names == 4)
    page = await pipe.boards["usernames"].top(window="5m")
    assert {row.name: row.score for row in page.rows} == {"id:1": 3, "id:2": 1}


async def test_a_standby_lets_no_time_pass_for_whoever_counts(store: Store) -> None:
    """It may be on another machine, whose clock is another: a window of the owner's would begin anew each second."""
    now = [time.time()]
    boards = {"usernames": BoardSettings(key="k", windows=["10s"], trending="")}
    pipe = OneStream(store, Settings(boards=boards), {"test": Place("", "flat")}, clock=lambda: now[0])
    async with running(pipe, ListSource([{"username": "alice"}], stays=True)):
        await wait_until(lambda: on_the_boards(pipe, 1))
        other = OneStream(store, Settings(boards=boards), {"test": Place("", "flat")}, clock=lambda: now[0] - 3600)
        await wait_until(lambda: pipe.bare.held)
        other.bare.held = True  # as it believes when it has been asleep for longer than the lease lives
        assert not await other.boards["usernames"].age()
        assert (await other.boards["usernames"].top(window="10s")).total == 1
        assert (await pipe.boards["usernames"].top(window="10s")).total == 1
        assert pipe.boards["usernames"].cleared == other.boards["usernames"].cleared == 0


async def test_a_stream_that_was_refused_is_no_reason_to_keep_time(store: Store) -> None:
    """Where the other stream is another daemon's to count, so is the time by which windows go."""
    places = {"one": Place("", "flat"), "two": Place("", "flat")}
    assert await Lease(store, "tweetboard:two:lease", "the other").hold()
    pipe = Pipe(store, Settings(), places)
    refused = ListSource(POSTS[:1], failure=StreamRefused("404: there is none"))
    async with flowing(pipe, {"one": refused, "two": ListSource(POSTS, stays=True)}):
        await wait_until(lambda: pipe.feeds["one"].failure is not None)
        await wait_until(lambda: pipe.feeds["two"].publisher.published.standby)
        await wait_until(lambda: not pipe.bare.held)
        assert not await pipe.boards["usernames"].age()


STATUS: dict[str, object] = {
    "user": {"screen_name": "alice"},
    "entities": {"hashtags": [{"text": "Tea"}]},
    "text": "#Tea",
}
SERVERS_WORD: dict[str, object] = {"delete": {"status": {"id": 7, "id_str": "7"}}}


@pytest.mark.parametrize(("forget", "left"), [("1h", {"tea": 1}), ("", {"tea": 2})])
async def test_a_post_that_the_stream_says_is_gone_takes_what_it_added_with_it(
    store: Store, forget: str, left: dict[str, int]
) -> None:
    """It comes at any time after the post, alone in its batch or not."""
    boards = {"hashtags": BoardSettings(key="k", forget=forget)}
    posts: list[dict[str, object]] = [{"id_str": "7", **STATUS}, {"id_str": "8", **STATUS}]
    pipe = a_pipe(store, settings=Settings(boards=boards))
    source = ListSource(posts, stays=True)
    async with running(pipe, source):
        await until_scores(pipe, "hashtags", {"tea": 2})
        source.add(SERVERS_WORD)
        await until_scores(pipe, "hashtags", left)
        window = await pipe.boards["hashtags"].top(window="5m")
        assert {row.name: row.score for row in window.rows} == left
    assert pipe.feed.skipped == {"delete": 1}


async def until_scores(pipe: Pipe, board: str, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(5):
        while await scores(pipe, board) != wanted:
            await asyncio.sleep(0.01)
