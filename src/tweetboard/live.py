"""Boards as they change, over Server-Sent Events: each page is read and encoded once for all who watch it.

What lives here: who watches what, and when something is sent to whom. What must not: how a page is read (api.py), or
the socket (serving.py).
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tweetboard.answers import Encoded
from tweetboard.errors import StoreError
from tweetboard.waiting import within

UPDATE_S: Final = 0.25
"""Nobody reads a board that changes more often."""

SAME_S: Final = 0.02
"""Where a change of some board was none of the pages that are watched, it is looked again so soon."""

LOOK_S: Final = 1.0
"""What other processes do to a board is seen so soon; what this one does, at once."""

HEARTBEAT_S: Final = 15.0
"""A silent connection gets a comment so often, by which either side hears that the other is there."""

SLOW_S: Final = 30.0
"""A viewer that has taken in nothing for so long is dropped."""

MAX_PAGES: Final = 100
"""Different pages watched at the same time; each is read as often as it changes."""

AT_ONCE: Final = 100
"""Between so many viewers all other tasks have their turn."""

RETRY_MS: Final = (1_000, 5_000)
"""Viewers come back within this, by chance, so that not all of them do at the same moment."""

log = logging.getLogger(__name__)


class Frame:
    """An event as it goes out: as it stands, and as a chunk of HTTP/1.1 (RFC 9112, 7.1)."""

    def __init__(self, text: bytes) -> None:
        self.plain = text
        self.chunk = b"%x\r\n%b\r\n" % (len(text), text)


HEARTBEAT: Final = Frame(b": still here\n\n")


def event(data: bytes, *, name: str = "", event_id: str = "") -> bytes:
    """Write an event of one line of JSON."""
    head = f"event: {name}\n" if name else ""
    head += f"id: {event_id}\n" if event_id else ""
    return b"%bdata: %b\n\n" % (head.encode(), data.rstrip(b"\n"))


@dataclass(eq=False)
class Viewer:
    """One connection; `seen` is the state of the page that was sent last, `behind_s` since when it takes nothing in."""

    transport: asyncio.Transport
    in_chunks: bool
    gone: asyncio.Future[None]
    seen: tuple[str, bytes] = ("", b"")
    behind_s: float | None = None

    def write(self, frame: Frame) -> None:
        """Send a frame, whatever else is on its way."""
        if self.transport.is_closing():
            self.leave()
        else:
            self.transport.write(frame.chunk if self.in_chunks else frame.plain)

    def send(self, frame: Frame, now_s: float) -> bool:
        """Send a frame where all that was sent before has gone out; else it is left out, and at last the viewer is."""
        if self.transport.is_closing():
            self.leave()
        elif not self.transport.get_write_buffer_size():
            self.behind_s = None
            self.write(frame)
            return True
        elif self.behind_s is None:
            self.behind_s = now_s
        elif now_s - self.behind_s >= SLOW_S:
            self.transport.abort()
            self.leave()
        return False

    def leave(self) -> None:
        """Let the handler of this connection end."""
        if not self.gone.done():
            self.gone.set_result(None)


@dataclass
class Watched:
    """A page that somebody watches: what it says at present, with how the streams do, and to whom that goes."""

    read: Callable[[], Awaitable[Encoded]]
    viewers: set[Viewer] = field(default_factory=set)
    etag: str = ""
    board: bytes = b""
    state: bytes = b""
    told_s: float = field(default_factory=time.monotonic)

    async def look(self, state: bytes) -> None:
        """Read the page; while Redis is away it says what it said."""
        self.state = state
        try:
            answer = await self.read()
        except StoreError as error:
            log.debug("a page that is watched cannot be read: %s", error)
        else:
            self.etag, self.board = answer.etag, answer.body

    @property
    def said(self) -> tuple[str, bytes]:
        """What it says, in short."""
        return self.etag, self.state

    def frame(self, seen: tuple[str, bytes]) -> Frame:
        """Write what of it somebody has not `seen`."""
        text = event(self.state, name="state") if seen[1] != self.state else b""
        if self.board and seen[0] != self.etag:
            text += event(self.board, event_id=self.etag)
        return Frame(text)


class Live:
    """All pages that are watched; `state` says how the streams do, of which each viewer hears too."""

    def __init__(self, state: Callable[[], object]) -> None:
        self._state = state
        self._pages: dict[Hashable, Watched] = {}
        self._changed = asyncio.Event()
        self._watched = asyncio.Event()

    @property
    def viewers(self) -> int:
        """How many watch at present."""
        return sum(len(page.viewers) for page in self._pages.values())

    def takes(self, asked: Hashable) -> bool:
        """Whether there is room for one more viewer of a page."""
        return asked in self._pages or len(self._pages) < MAX_PAGES

    def changed(self) -> None:
        """Note that some board may say something else now."""
        self._changed.set()

    async def show(
        self, asked: Hashable, read: Callable[[], Awaitable[Encoded]], viewer: Viewer, last_id: str = ""
    ) -> None:
        """Send a page to a viewer at once, and whenever it changes, until it goes; it has the board of `last_id`."""
        page = self._pages.setdefault(asked, Watched(read))
        page.viewers.add(viewer)
        self._watched.set()
        try:
            await page.look(msgspec.json.encode(self._state()))
            viewer.write(Frame(b"retry: %d\n\n" % random.randint(*RETRY_MS)))  # noqa: S311 - no secret
            viewer.write(page.frame((last_id, b"")))
            viewer.seen = page.said
            await viewer.gone
        finally:
            page.viewers.discard(viewer)
            if not page.viewers and self._pages.get(asked) is page:
                del self._pages[asked]

    async def run(self) -> None:
        """Tell viewers what is new until cancelled; without viewers it waits for one."""
        while True:
            if not self._pages:
                self._watched.clear()
                await self._watched.wait()
            await within(LOOK_S, self._changed)
            self._changed.clear()
            began_s = time.monotonic()
            state = msgspec.json.encode(self._state())
            has_news = False
            for page in list(self._pages.values()):
                before = page.said
                await page.look(state)
                await self._tell(page)
                has_news = has_news or page.said != before
            pause_s = UPDATE_S if has_news else SAME_S
            await asyncio.sleep(max(pause_s - (time.monotonic() - began_s), 0))

    def close(self) -> None:
        """Let all viewers go: they come back to whoever serves next."""
        for page in self._pages.values():
            for viewer in page.viewers:
                viewer.leave()

    async def _tell(self, page: Watched) -> None:
        now_s, said = time.monotonic(), page.said
        behind = [viewer for viewer in page.viewers if viewer.seen != said]
        if not behind and now_s - page.told_s >= HEARTBEAT_S:
            behind = list(page.viewers)
        frames: dict[tuple[str, bytes], Frame] = {said: HEARTBEAT}
        for number, viewer in enumerate(behind, 1):
            page.told_s = now_s
            if viewer.seen not in frames:
                frames[viewer.seen] = page.frame(viewer.seen)
            if viewer.send(frames[viewer.seen], now_s):
                viewer.seen = said
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
