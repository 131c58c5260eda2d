"""A stream over one connection after another: come back when it ends, keep the place, measure what passed unheard.

What lives here: what all transports share. What must not: any transport (stream.py, websocket.py), bytes' meaning
(framing.py, formats/), delays' lengths (backoff.py).
"""

import asyncio
import logging
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tweetboard.backoff import Backoff
from tweetboard.errors import StreamLost, StreamRefused
from tweetboard.framing import Block

SHORTEST_LIFE_S, LONGEST_PAUSE_S = 0.25, 16.0
"""From the second on, connections are made no faster than the first: an upstream may send a little and end, again and
again. One that cannot go back, and ends by itself, may send the same again: to it they are made ever more slowly.
"""

ENDED: Final = "the stream ended"
_NO_STREAM: Final = ", as soon as it had begun, time and again: a stream holds its answer open; a page is for `replay`"

HEALTHY_LIFE_S: Final = 60.0
"""A connection that ends after so long has not failed, though it may have brought nothing but keep-alives."""

TELL_AGAIN_S: Final = 10.0
"""Attempts in a row that fail for the same reason are logged at most this often: the first ones come fast."""

LONGEST_RETRY_S: Final = 320.0
"""However long an upstream asks for: longer than this nobody's own ladder waits."""

log = logging.getLogger(__name__)


class StreamState(msgspec.Struct):
    """What the connection is doing and has done; times are Unix seconds, 0 for never; `since` is when `live` changed.

    `gap_s` is how long, at most, an upstream that cannot go back was not heard: what passed then is on no board. It
    begins with the last byte heard, for a dead connection may be noticed late.
    """

    live: bool = False
    since: float = msgspec.field(default_factory=time.time)
    trouble: str = "not connected yet"
    connects: int = 0
    lost: dict[str, int] = {}
    received_bytes: int = 0
    last_received: float = 0.0
    repeats: int = 0
    gap_s: float = 0.0
    oversized: int = 0

    def turn(self, *, live: bool, trouble: str) -> None:
        """Note whether it is live now, and if not, why."""
        if live != self.live:
            self.since = time.time()
        self.live, self.trouble = live, trouble


class Supervised(ABC):
    """The stream at `url`, over as many connections as it takes.

    `stall_timeout_s()` is how long a connection may say nothing at all, 0 for ever; keep-alives are life. It is asked
    again before each read, for `auto` knows its format only after the first. `refill_s` is how much of what passed
    unheard the upstream sends again by itself.

    To be set: `title`, by which the log calls it; `table`, by which the settings do; `on_connected`, called before each
    connection's first block; and `resume_id`, which makes of a position what upstream is asked to go on from.
    """

    def __init__(self, url: str, *, stall_timeout_s: Callable[[], float], refill_s: float) -> None:
        self._url = url
        self._stall_timeout_s = stall_timeout_s
        self._refill_s = refill_s
        self._backoff = Backoff(random.random)
        self._was_short = False
        self._has_data = False
        self._connected_s: float | None = None
        self._pages = 0
        self._retry_s = 0.0
        self._clock = time.monotonic
        self._heard_at_s: float | None = None
        self._told = (-math.inf, "")
        self.state = StreamState()
        self.on_connected: Callable[[], None] = lambda: None
        self.title = self.table = "stream"
        self.resume_id: Callable[[str], str] = str

    @property
    def heard_until(self) -> float:
        """When something was heard last, or a connection made, in Unix seconds; 0 for never."""
        return 0.0 if self._heard_at_s is None else time.time() - (self._clock() - self._heard_at_s)

    def data_flowed(self) -> None:
        """Note that posts came: whoever decodes them knows that they were some, and no word of refusal."""
        self._has_data = True
        self._backoff.data_flowed()

    def ask_no_sooner(self, retry_s: float) -> None:
        """Let as much time pass before each further connection, as the upstream wants it."""
        self._retry_s = min(retry_s, LONGEST_RETRY_S)

    async def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:
        """Yield blocks from after `position` on, each with the position after it, over as many connections as it takes.

        `heard_until` is when anybody, perhaps another instance, has listened last. Raises `StreamRefused` where
        connecting again cannot help.
        """
        if heard_until:
            heard_at_s = self._clock() - max(time.time() - heard_until, 0.0)
            self._heard_at_s = heard_at_s if self._heard_at_s is None else max(self._heard_at_s, heard_at_s)
        clock = asyncio.get_running_loop().time
        while True:
            began_s = clock()
            self._connected_s = None
            try:
                async with aclosing(self._connection(position)) as connection:
                    async for block, reached in connection:
                        position = reached
                        yield block, reached
                lost = StreamLost(ENDED)
            except StreamRefused as error:
                ours = self._of_ours(error)
                self.state.trouble = str(ours)
                raise ours from error
            except StreamLost as error:
                lost = error
            finally:
                self.state.turn(live=False, trouble=self.state.trouble or "not connected")
            await asyncio.sleep(self._lost(lost, began_s, goes_back=position != ""))

    async def probe(self) -> str:
        """Connect once and describe the answer; raises `StreamError` where there is none."""
        try:
            return await self._probe()
        except StreamRefused as error:
            raise self._of_ours(error) from error

    @abstractmethod
    async def _probe(self) -> str:
        """Connect once and describe the answer."""

    @abstractmethod
    def _connection(self, position: str) -> AsyncGenerator[tuple[Block, str], None]:
        """Yield one connection's blocks from after `position` on, each with the position after it."""

    def _of_ours(self, error: StreamRefused) -> StreamRefused:
        """Name the settings of this stream where an advice speaks of those of the only one."""
        variable = f"TWEETBOARD_{self.table.upper().replace('.', '_').replace('-', '_')}_TOKEN"
        told = str(error).replace("TWEETBOARD_STREAM_TOKEN", variable).replace("stream.url", f"{self.table}.url")
        return StreamRefused(told)

    def _lost(self, lost: StreamLost, began_s: float, *, goes_back: bool) -> float:
        """Note a loss; returns the seconds to wait before the next attempt.

        A connection lives from its answer on, for that may take long, and one that never was from its attempt.
        """
        lived_s = asyncio.get_running_loop().time() - (self._connected_s or began_s)
        if lost.cause == "network" and lived_s >= HEALTHY_LIFE_S:
            self._backoff.data_flowed()
        delay_s = max(self._backoff.delay_s(lost.cause, lost.retry_after_s), self._retry_s)
        is_short = lived_s < SHORTEST_LIFE_S
        if not is_short:
            self._told = (-math.inf, "")
        is_page = is_short and self._has_data and not goes_back and str(lost) == ENDED
        self._pages, self._has_data = self._pages + 1 if is_page else 0, False
        if self._was_short:
            doublings = min(max(self._pages - 2, 0), 10)
            delay_s = max(delay_s, min(SHORTEST_LIFE_S * 2**doublings, LONGEST_PAUSE_S) - lived_s)
        self._was_short = is_short
        self.state.trouble = ENDED + _NO_STREAM if self._pages > 2 else str(lost)
        self.state.lost[lost.cause] = self.state.lost.get(lost.cause, 0) + 1
        self._tell_lost(delay_s)
        return delay_s

    def _tell_lost(self, delay_s: float) -> None:
        at_s, trouble = self._told
        again = trouble == self.state.trouble and self._clock() - at_s < TELL_AGAIN_S
        level = logging.DEBUG if again else logging.WARNING
        log.log(level, "%s lost, connecting again in %.1f s: %s", self.title, delay_s, self.state.trouble)
        if not again:
            self._told = self._clock(), self.state.trouble

    def _connected(self, position: str) -> None:
        self.state.connects += 1
        missed_s = 0.0 if self._heard_at_s is None else self._clock() - self._heard_at_s - self._refill_s
        if not position and missed_s > 0:
            self.state.gap_s += missed_s
            log.warning("up to %.1f s of the %s went by unheard, and it cannot go back", missed_s, self.title)
        self._heard_at_s = self._clock()
        self.state.turn(live=True, trouble="")
        self._connected_s = asyncio.get_running_loop().time()
        self.on_connected()
        address = urlsplit(self._url)
        log.info("%s connected: %s://%s%s", self.title, address.scheme, address.netloc.rpartition("@")[2], address.path)

    def _heard(self, size_bytes: int) -> None:
        """Note a sign of life of so many bytes."""
        self.state.received_bytes += size_bytes
        self.state.last_received = time.time()
        self._heard_at_s = self._clock()
