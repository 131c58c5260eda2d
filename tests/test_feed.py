"""How a stream says how it does: what came to nothing, whether posts still come, what is the matter."""

import asyncio
import time
from datetime import UTC, datetime

import msgspec
import pytest

from conftest import wait_until
from pipe import ListSource, a_pipe, on_the_boards, running
from tweetboard.errors import StreamRefused
from tweetboard.feed import Feed
from tweetboard.framing import Block
from tweetboard.pipe import Pipe
from tweetboard.posts import Skip
from tweetboard.presets import Place
from tweetboard.settings import BoardSettings, Settings, StreamSettings
from tweetboard.store import Store
from tweetboard.supervision import StreamState

POSTS: list[dict[str, object]] = [{"username": "alice", "hashtags": ["x"]}, {"username": "bob"}]
NEVER_S = 3600.0


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("stream test: skipped")]


async def test_what_came_to_nothing_is_logged_soon_then_seldom_and_the_rest_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With reason, count and an example; each record in one line only, however many come."""
    monkeypatch.setattr("tweetboard.feed.FIRST_REPORT_S", 0.01)
    monkeypatch.setattr("tweetboard.feed.REPORT_S", NEVER_S)
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
        broken = pipe.feed.skipped["unexpected_type"]
        assert broken == len(source.posts) - len(POSTS)
        source.add({"username": "\u200b"})
        await wait_until(lambda: pipe.feed.skipped["invalid_name"] == 1)
        assert len(told(caplog)) == 1
    soon, rest, other = told(caplog)
    assert soon.startswith("""stream test: skipped 2: unexpected_type: '{"username":2}': """)
    assert rest.startswith(f"""stream test: skipped {broken - 2}: unexpected_type: '{{"username":0}}': """)
    assert other == "stream test: skipped 1: invalid_name"


async def test_each_pause_ends_with_what_is_new_and_what_a_healthy_stream_says_is_no_news(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Deletions and the like are counted, but no warning; what has been told is not told again."""
    monkeypatch.setattr("tweetboard.feed.FIRST_REPORT_S", 0.01)
    monkeypatch.setattr("tweetboard.feed.REPORT_S", 0.01)
    pipe = a_pipe(store)
    pipe.feed.state = StreamState()
    source = ListSource([{"id_str": "1", "user": {"screen_name": "alice"}, "created_at": ""}], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: on_the_boards(pipe, 1))
        source.add({"delete": {"status": {"id": 1}}})
        await wait_until(lambda: pipe.feed.skipped["delete"] == 1)
        pipe.feed.state.oversized = 3
        await wait_until(lambda: len(told(caplog)) == 1)
        pipe.feed.state.oversized = 5
        await wait_until(lambda: len(told(caplog)) == 2)
    assert told(caplog) == ["stream test: skipped 3: oversized", "stream test: skipped 2: oversized"]
    assert pipe.came_to_nothing == {"delete": 1, "oversized": 5}


def test_all_that_is_the_matter_with_a_stream_is_said(fake_store: Store) -> None:
    feed = a_pipe(fake_store).feed
    assert feed.described()[:2] == (False, "not connected yet")
    feed.state.live, feed.state.trouble = True, ""
    assert feed.described()[:2] == (True, "connected")
    feed.state.gap_s = 1.25
    feed.skipped.count(Skip("limit", undelivered=1_200))
    feed.volume.quiet, feed.volume.silent_s = True, 90.0
    assert feed.described()[:2] == (
        True,
        (
            "connected; next to no posts, the last one 90 s ago, which is unusual; "
            "1.2 s at most went by unheard since the start; "
            "the stream says that it left out 1,200 posts"
        ),
    )
    feed.publisher.published.standby = True
    feed.lease.other = "there:1"
    assert feed.described()[:2] == (True, "standby: there:1 has it")
    feed.failure = StreamRefused("404")
    assert feed.described()[:2] == (False, "404")


def test_how_a_stream_does_is_a_word_that_changes_only_when_that_does(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = a_pipe(fake_store).feed
    now_s = time.time()
    first = feed.condition()
    assert (first.status, first.detail) == ("connecting", "not connected yet")
    assert abs(first.since.timestamp() - now_s) < 2
    monkeypatch.setattr(time, "time", lambda: now_s + 100)
    assert feed.condition() == first, "however long it lasts"
    feed.state.turn(live=True, trouble="")
    live = feed.condition()
    assert (live.status, live.detail, live.since.timestamp()) == ("live", "", int(now_s + 100))
    old = datetime.fromtimestamp(now_s - 7_300, UTC).isoformat().encode()
    for _ in range(3):
        feed.decoder.decode(Block(lines=b'{"data":{"id":"1","author_id":"2","created_at":"%b"}}\n' % old))
        feed.lag.look()
    behind = feed.condition()
    assert (behind.status, behind.behind_s) == ("catching up", 7_380)
    feed.lag.behind_s = 0.0
    assert feed.condition() == live
    monkeypatch.setattr(time, "time", lambda: now_s + 106)
    feed.volume.quiet = True
    assert feed.condition().status == "quiet"
    feed.state.gap_s = 1.26
    feed.skipped.count(Skip("limit", undelivered=7))
    assert (feed.condition().gap_s, feed.condition().left_out) == (1.3, 7)
    feed.state.turn(live=False, trouble="the stream ended")
    feed.state.turn(live=False, trouble="503")
    lost = feed.condition()
    assert (lost.status, lost.detail, lost.since.timestamp()) == ("connecting", "503", int(now_s + 106))
    feed.publisher.published.standby, feed.lease.other = True, "there:1"
    assert (feed.condition().status, feed.condition().detail) == ("standby", "there:1 has it")
    feed.failure = StreamRefused("404")
    assert (feed.condition().status, feed.condition().detail) == ("ended", "404")


async def test_a_stream_that_is_alive_without_posts_is_said_once_and_when_they_come_again(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("tweetboard.feed.LOOK_S", 0)
    feed = a_pipe(fake_store).feed
    looks = iter([True, False, True])

    def look(_posts: int, _now_s: float, *, live: bool) -> bool:
        changed = next(looks, False)
        feed.volume.quiet ^= changed
        assert not live
        return changed

    monkeypatch.setattr(feed.volume, "look", look)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(feed.watch_volume())
        await wait_until(lambda: len(caplog.messages) == 2)
        watching.cancel()
    alarm, end = caplog.messages
    assert alarm.startswith("stream test: next to no posts, the last one 0 s ago, though it is alive")
    assert end.startswith("stream test: posts come again")


@pytest.mark.parametrize(("age_s", "counts"), [(0, True), (59, True), (3_600, False), (None, True)])
async def test_posts_of_long_ago_do_not_say_what_is_usual(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch, age_s: int | None, counts: bool
) -> None:
    monkeypatch.setattr("tweetboard.feed.LOOK_S", 0)
    feed = a_pipe(fake_store).feed
    feed.state.live = True
    created = "" if age_s is None else datetime.fromtimestamp(time.time() - age_s, UTC).isoformat()
    status = {"id": "1", "account": {"acct": "a"}, "created_at": created, "tags": []}
    feed.decoder.decode(Block(lines=msgspec.json.encode(status) + b"\n"))
    seen = list[bool]()

    def look(_posts: int, _now_s: float, *, live: bool) -> bool:
        seen.append(live)
        return False

    monkeypatch.setattr(feed.volume, "look", look)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(feed.watch_volume())
        await wait_until(lambda: bool(seen))
        watching.cancel()
    assert seen[0] is counts


@pytest.mark.parametrize("form", ["flat", "fields"])
def test_a_path_that_leads_to_nothing_is_said_once(
    fake_store: Store, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    boards = {"skus": BoardSettings(key="s", field="item[].sku"), "names": BoardSettings(key="n", field=".username")}
    settings = Settings(stream=StreamSettings(url="http://x/", format=form), boards=boards)
    feed = Feed(fake_store, settings, "shop", Place("http://x/", form), "me")
    record = b'{"username": "alice", "items": [{"sku": "S1"}]}\n'
    for _ in range(30):
        feed.decoder.decode(Block(lines=record * 10))
    assert caplog.messages == ["at item[].sku nothing stands in the first 100 posts"]


def test_of_several_streams_each_may_know_a_path_that_the_others_do_not(
    fake_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    boards = {
        name: BoardSettings(key=name, field=field)
        for name, field in {"skus": "item[].sku", "wikis": ".wiki", "names": ".username"}.items()
    }
    places = {name: Place("http://x/", "flat") for name in ("shop", "wiki")}
    pipe = Pipe(fake_store, Settings(boards=boards), places)
    pipe.feeds["shop"].decoder.decode(Block(lines=b'{"username": "alice"}\n' * 100))
    assert caplog.messages == []
    pipe.feeds["wiki"].decoder.decode(Block(lines=b'{"username": "mira", "wiki": "dewiki"}\n' * 100))
    assert caplog.messages == ["at item[].sku nothing stands in the first 100 posts"]
