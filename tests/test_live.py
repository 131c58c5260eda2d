"""Whoever watches a page sees it at once and whenever it changes; who is slow or gone costs nobody else anything."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from conftest import wait_until
from tweetboard import live as module
from tweetboard.answers import Encoded
from tweetboard.errors import StoreUnavailable
from tweetboard.live import HEARTBEAT, Frame, Live, Viewer, event


class Page:
    """A page that a test changes; `reads` counts how often it was read."""

    def __init__(self) -> None:
        self.number = 0
        self.reads = 0
        self.is_away = False

    async def read(self) -> Encoded:
        self.reads += 1
        if self.is_away:
            raise StoreUnavailable("away")
        return Encoded(b'{"page":%d}\n' % self.number, f"tag{self.number}")


class Wire(asyncio.Transport):
    """A connection's other end: what came over it, and whether it is stuck or closed."""

    def __init__(self) -> None:
        super().__init__()
        self.came = b""
        self.queued = 0
        self.is_closed = False
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.came += data

    def get_write_buffer_size(self) -> int:
        return self.queued

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_aborted = self.is_closed = True

    def take(self) -> bytes:
        came, self.came = self.came, b""
        return came


def viewer(wire: Wire, *, in_chunks: bool = False) -> Viewer:
    return Viewer(wire, in_chunks, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def telling(live: Live) -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(live.run())
        yield group
        live.close()
        task.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPDATE_S", 0.01)
    monkeypatch.setattr(module, "LOOK_S", 0.02)


SAID = b'event: state\ndata: {"ready":true}\n\n'


def board(number: int) -> bytes:
    return b'id: tag%d\ndata: {"page":%d}\n\n' % (number, number)


async def test_a_viewer_sees_the_page_at_once_and_then_only_what_changes() -> None:
    page, wire = Page(), Wire()
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: wire.came.endswith(board(0)))
        retry, _, rest = wire.take().partition(b"\n")
        assert 1_000 <= int(retry.removeprefix(b"retry: ")) <= 5_000
        assert rest == SAID + board(0)
        reads = page.reads
        await wait_until(lambda: page.reads > reads + 3)
        assert wire.came == b""
        page.number = 1
        live.changed()
        await wait_until(lambda: wire.came != b"")
        assert wire.take() == board(1)
    assert live.viewers == 0


async def test_who_comes_back_with_what_the_page_says_is_not_told_again() -> None:
    page, wire = Page(), Wire()
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        group.create_task(live.show({"p": page.read}, viewer(wire), "tag0"))
        await wait_until(lambda: wire.came.endswith(SAID))
        page.number = 1
        await wait_until(lambda: wire.came.endswith(board(1)))
        assert board(0) not in wire.came


async def test_several_pages_come_over_one_connection_each_when_it_changes() -> None:
    one, other, wire = Page(), Page(), Wire()
    other.number = 100
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        group.create_task(live.show({"one": one.read, "other": other.read}, viewer(wire), "tag100"))
        await wait_until(lambda: wire.came.endswith(board(0)))
        assert wire.take().partition(b"\n")[2] == SAID + board(0), "and the other is known by its id"
        other.number = 101
        live.changed()
        await wait_until(lambda: wire.came != b"")
        assert wire.take() == board(101)
        one.number, other.number = 1, 102
        live.changed()
        await wait_until(lambda: wire.came != b"")
        assert wire.take() == board(1) + board(102)
        assert live.viewers == 1
    assert live.takes([str(number) for number in range(module.MAX_PAGES)]), "nothing is watched any more"


async def test_how_the_streams_do_is_told_when_it_changes() -> None:
    page, wire, ready = Page(), Wire(), True
    live = Live(lambda: {"ready": ready})
    async with telling(live) as group:
        group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: wire.came.endswith(board(0)))
        wire.take()
        ready = False
        await wait_until(lambda: wire.came == b'event: state\ndata: {"ready":false}\n\n')


async def test_while_redis_is_away_viewers_stay_and_hear_of_it_when_it_is_back() -> None:
    page, wire = Page(), Wire()
    page.is_away = True
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: wire.came.endswith(SAID))
        page.is_away = False
        await wait_until(lambda: wire.came.endswith(board(0)))


async def test_all_who_watch_share_one_read_and_one_encoding() -> None:
    page, wires = Page(), [Wire() for _ in range(1_000)]
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        for wire in wires:
            group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: all(wire.came.endswith(board(0)) for wire in wires))
        assert live.viewers == 1_000
        for wire in wires:
            wire.take()
        reads, page.number = page.reads, 1
        live.changed()
        await wait_until(lambda: all(wire.came for wire in wires))
        assert page.reads <= reads + 3
        assert {wire.came for wire in wires} == {board(1)}


async def test_how_the_streams_do_comes_before_boards_that_cannot_be_read_now() -> None:
    pages, wire = [Page() for _ in range(12)], Wire()
    live = Live(lambda: {"ready": True})
    answers = asyncio.Event()

    def hanging(page: Page) -> Callable[[], Awaitable[Encoded]]:
        async def read() -> Encoded:
            await answers.wait()
            return await page.read()

        return read

    async with telling(live) as group:
        group.create_task(live.show({at: hanging(page) for at, page in enumerate(pages)}, viewer(wire)))
        await wait_until(lambda: wire.came.endswith(SAID))
        assert wire.came.startswith(b"retry: ")
        answers.set()
        await wait_until(lambda: wire.came.endswith(SAID + board(0) * len(pages)))


async def test_where_redis_hangs_all_pages_are_waited_for_as_long_as_one() -> None:
    """Else heartbeats and what is the matter would come later by that time for each page that is watched."""
    at_once = [0]

    async def read() -> Encoded:
        at_once[0] += 1
        await wait_until(lambda: at_once[0] == 12)
        raise StoreUnavailable("away")

    wire = Wire()
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        watching = group.create_task(live.show(dict.fromkeys(range(12), read), viewer(wire)))
        await wait_until(lambda: live.viewers == 1)
        assert at_once == [12]
        assert not watching.done()


async def test_those_who_come_make_nobody_else_get_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that was started anew has thousands come back within seconds."""
    monkeypatch.setattr(module, "UPDATE_S", 0.1)
    page, wire, clock = Page(), Wire(), asyncio.get_running_loop().time
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: wire.came.endswith(board(0)))
        wire.take()
        until_s = clock() + 1.0
        while clock() < until_s:
            page.number += 1
            live.changed()
            group.create_task(live.show({"p": page.read}, viewer(Wire())))
            await asyncio.sleep(0.01)
        assert 5 <= wire.came.count(b"id: ") <= 11


async def test_a_slow_viewer_is_given_the_newest_and_not_what_came_between() -> None:
    page, slow, quick = Page(), Wire(), Wire()
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        for wire in (slow, quick):
            group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: slow.came.endswith(board(0)) and quick.came.endswith(board(0)))
        slow.take()
        slow.queued = 1
        for number in range(1, 4):
            page.number = number
            await wait_until(lambda number=number: quick.came.endswith(board(number)))  # type: ignore[misc]
        assert slow.came == b""
        slow.queued = 0
        await wait_until(lambda: slow.came == board(3))


async def test_a_viewer_that_takes_nothing_in_is_dropped_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.05)
    page, wire = Page(), Wire()
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        showing = group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: wire.came.endswith(board(0)))
        wire.queued, page.number = 1, 1
        await wait_until(showing.done)
        assert wire.is_aborted


async def test_a_viewer_that_takes_in_little_by_little_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.05)
    page, wire, clock = Page(), Wire(), asyncio.get_running_loop().time
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        group.create_task(live.show({"p": page.read}, viewer(wire)))
        await wait_until(lambda: wire.came.endswith(board(0)))
        wire.queued, page.number = 1_000, 1
        until_s = clock() + 0.3
        while clock() < until_s:
            wire.queued -= 1
            await asyncio.sleep(0.01)
        assert not wire.is_aborted
        wire.queued = 0
        await wait_until(lambda: wire.came.endswith(board(1)))


async def test_a_silent_connection_gets_a_comment_by_which_one_that_is_gone_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    page, wire, gone = Page(), Wire(), Wire()
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        group.create_task(live.show({"p": page.read}, viewer(wire)))
        leaving = group.create_task(live.show({"p": page.read}, viewer(gone)))
        await wait_until(lambda: gone.came.endswith(board(0)))
        gone.is_closed = True
        await wait_until(leaving.done)
        await wait_until(lambda: wire.came.endswith(HEARTBEAT.plain))
    assert HEARTBEAT.plain.startswith(b":")


async def test_nothing_is_read_while_nobody_watches() -> None:
    page, wire = Page(), Wire()
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        watching = viewer(wire)
        showing = group.create_task(live.show({"p": page.read}, watching))
        await wait_until(lambda: page.reads > 2)
        watching.leave()
        await showing
        await asyncio.sleep(0.05)
        reads = page.reads
        for _ in range(10):
            live.changed()
            await asyncio.sleep(0.01)
        assert page.reads == reads


async def test_so_many_different_pages_are_watched_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAGES", 2)
    live = Live(lambda: {"ready": True})
    async with telling(live) as group:
        for asked in ("a", "b"):
            assert live.takes([asked])
            group.create_task(live.show({asked: Page().read}, viewer(Wire())))
        await wait_until(lambda: live.viewers == 2)
        assert live.takes(["a"])
        assert not live.takes(["a", "c"])


def test_a_frame_is_also_a_chunk_of_http() -> None:
    frame = Frame(event(b'{"a":1}\n', name="state", event_id="x"))
    assert frame.plain == b'event: state\nid: x\ndata: {"a":1}\n\n'
    assert frame.chunk == b"%x\r\n%b\r\n" % (len(frame.plain), frame.plain)
