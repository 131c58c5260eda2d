"""Boards as they change, over Server-Sent Events: each page is read and encoded once for all who watch it.

What lives here: who watches what, and when something is sent to whom. What must not: how a page is read (api.py), or
the socket (serving.py).
"""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

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

UNSENT_BYTES: Final = 16_384
"""So much may wait in the kernel for a viewer whose network takes nothing in."""

MAX_PAGES: Final = 100
"""Different pages watched at the same time; each is read as often as it changes."""

AT_ONCE: Final = 100
"""Between so many viewers all other tasks have their turn."""

RETRY_MS: Final = (1_000, 5_000)
"""Viewers come back within this, by chance, so that not all of them do at the same moment."""

log = logging.getLogger(__name__)

Read = Callable[[], Awaitable[Encoded]]
Asked = TypeVar("Asked", bound=Hashable)


class Frame:
    """Events as they go out: as they stand, and as a chunk of HTTP/1.1 (RFC 9112, 7.1)."""

    def __init__(self, text: bytes) -> None:
        self.plain = text
        self.chunk = b"%x\r\n%b\r\n" % (len(text), text)


HEARTBEAT: Final = Frame(b": still here\nevent: beat\ndata: {}\n\n")
"""A comment, and an event for scripts in a browser, which hear of no comments."""


def event(data: bytes, *, name: str = "", event_id: str = "") -> bytes:
    """Write an event of one line of JSON."""
    head = f"event: {name}\n" if name else ""
    head += f"id: {event_id}\n" if event_id else ""
    return b"%bdata: %b\n\n" % (head.encode(), data.rstrip(b"\n"))


class Said(NamedTuple):
    """What a page says: its tag, and the event that tells it. Nothing, before it was read."""

    etag: str = ""
    text: bytes = b""


NOTHING: Final = Said()


@dataclass(eq=False)
class Watched:
    """A page that so many watch, and what it says at present."""

    read: Read
    watchers: int = 0
    said: Said = NOTHING

    async def look(self) -> None:
        """Read the page; while Redis is away it says what it said."""
        try:
            answer = await self.read()
        except StoreError as error:
            log.debug("a page that is watched cannot be read: %s", error)
        else:
            self.said = Said(answer.etag, event(answer.body, event_id=answer.etag))


@dataclass(eq=False)
class Viewer:
    """One connection: its pages, the tag of each that was sent last, and the state of the streams that was.

    `told_s` is when something was sent last, `behind_s` since when it takes nothing in of what waits for it.
    """

    transport: asyncio.Transport
    in_chunks: bool
    gone: asyncio.Future[None]
    pages: Sequence[Watched] = ()
    seen: list[str] = field(default_factory=list)
    state: bytes = b""
    told_s: float = 0.0
    behind_s: float | None = None
    queued_bytes: int = 0

    def __post_init__(self) -> None:
        """Let the kernel queue next to nothing: what is not taken in shall be seen here."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and (option := getattr(socket, "TCP_NOTSENT_LOWAT", None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)

    def news(self) -> list[Said]:
        """Say which of its pages say something else than what was sent."""
        return [page.said for page, tag in zip(self.pages, self.seen, strict=True) if page.said.etag not in ("", tag)]

    def has_seen(self, state: bytes, now_s: float) -> None:
        """Note that all there is has been sent."""
        self.seen = [page.said.etag or tag for page, tag in zip(self.pages, self.seen, strict=True)]
        self.state, self.told_s = state, now_s

    def write(self, frame: Frame) -> None:
        """Send a frame, whatever else is on its way."""
        if self.transport.is_closing():
            self.leave()
        elif frame.plain:  # an empty chunk would be the end
            self.transport.write(frame.chunk if self.in_chunks else frame.plain)

    def send(self, frame: Frame, now_s: float) -> bool:
        """Send a frame where all that was sent before has gone out; else it is left out, and at last the viewer is."""
        queued_bytes, self.queued_bytes = self.queued_bytes, self.transport.get_write_buffer_size()
        if self.transport.is_closing():
            self.leave()
        elif not self.queued_bytes:
            self.behind_s = None
            self.write(frame)
            return True
        elif self.behind_s is None or self.queued_bytes < queued_bytes:
            self.behind_s = now_s
        elif now_s - self.behind_s >= SLOW_S:
            self.transport.abort()
            self.leave()
        return False

    def leave(self) -> None:
        """Let the handler of this connection end."""
        if not self.gone.done():
            self.gone.set_result(None)


class Live:
    """All pages that are watched, and who does; `state` says how the streams do, of which each viewer hears too."""

    def __init__(self, state: Callable[[], object]) -> None:
        self._state = state
        self._pages: dict[Hashable, Watched] = {}
        self._viewers: set[Viewer] = set()
        self._changed = asyncio.Event()
        self._watched = asyncio.Event()
        self._is_closed = False

    @property
    def viewers(self) -> int:
        """How many watch at present."""
        return len(self._viewers)

    def takes(self, asked: Iterable[Hashable]) -> bool:
        """Whether there is room for one more viewer of these pages."""
        return len({*asked, *self._pages}) <= max(MAX_PAGES, len(self._pages))

    def changed(self) -> None:
        """Note that some board may say something else now."""
        self._changed.set()

    async def show(self, pages: Mapping[Asked, Read], viewer: Viewer, last_id: str = "") -> None:
        """Send pages to a viewer at once, and whenever they change, until it goes; it has the one of `last_id`."""
        viewer.pages = [self._pages.setdefault(asked, Watched(read)) for asked, read in pages.items()]
        viewer.seen = [last_id] * len(pages)
        for page in viewer.pages:
            page.watchers += 1
        try:
            retry = b"retry: %d\n" % random.randint(*RETRY_MS)  # noqa: S311 - no secret
            state = msgspec.json.encode(self._state())
            viewer.write(_frame((), state, before=retry))  # at once, for the boards may take their time
            await _look(viewer.pages)
            viewer.write(_frame(viewer.news(), b""))
            viewer.has_seen(state, time.monotonic())
            self._viewers.add(viewer)
            self._watched.set()
            if not self._is_closed:
                await viewer.gone
        finally:
            self._viewers.discard(viewer)
            for asked, page in zip(pages, viewer.pages, strict=True):
                page.watchers -= 1
                if not page.watchers:
                    del self._pages[asked]

    async def run(self) -> None:
        """Tell viewers what is new until cancelled; without viewers it waits for one."""
        while True:
            if not self._viewers:
                self._watched.clear()
                await self._watched.wait()
            await within(LOOK_S, self._changed)
            self._changed.clear()
            began_s = time.monotonic()
            await _look(list(self._pages.values()))
            pause_s = UPDATE_S if await self._tell(list(self._viewers)) else SAME_S
            await asyncio.sleep(max(pause_s - (time.monotonic() - began_s), 0))

    def close(self) -> None:
        """Let all viewers go: they come back to whoever serves next."""
        self._is_closed = True
        for viewer in self._viewers:
            viewer.leave()

    async def _tell(self, viewers: Sequence[Viewer]) -> int:
        """Send each viewer what it has not seen, and a heartbeat where that has been nothing for long.

        Returns to how many there was something to tell.
        """
        now_s, state = time.monotonic(), msgspec.json.encode(self._state())
        frames: dict[tuple[object, ...], Frame] = {}
        told = 0
        for viewer in viewers:
            if viewer.transport.is_closing():
                viewer.leave()
                continue
            news, tells_state = viewer.news(), viewer.state != state
            if not news and not tells_state:
                if now_s - viewer.told_s >= HEARTBEAT_S and viewer.send(HEARTBEAT, now_s):
                    viewer.told_s = now_s
                continue
            key = (tells_state, *(said.etag for said in news))
            if (frame := frames.get(key)) is None:
                frames[key] = frame = _frame(news, state if tells_state else b"")
            if viewer.send(frame, now_s):
                viewer.has_seen(state, now_s)
            told += 1
            if told % AT_ONCE == 0:
                await asyncio.sleep(0)
        return told


async def _look(pages: Iterable[Watched]) -> None:
    """Read pages side by side: where Redis does not answer, all of them together wait as long as one."""
    async with asyncio.TaskGroup() as group:
        for page in pages:
            group.create_task(page.look(), name="look")


def _frame(news: Iterable[Said], state: bytes, *, before: bytes = b"") -> Frame:
    """Write the state of the streams, where there is one to tell, and what pages say.

    Fields `before` are the first event's: some clients take for one whatever a blank line ends.
    """
    told = before + event(state, name="state") if state else b""
    return Frame(told + b"".join(said.text for said in news))
