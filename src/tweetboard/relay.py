"""A stream's connection that outlives its reader: where settings change, the next one goes on where the last stopped.

What lives here: handing over. What must not: connecting (supervision.py), or what is made of a block (publisher.py).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, TypeAlias

from tweetboard.errors import StreamError
from tweetboard.framing import Block
from tweetboard.publisher import Source
from tweetboard.waiting import first_of

MAX_WAITING: Final = 4
"""Blocks that wait for the reader, who then takes several in one turn: with one, batches are a quarter smaller."""

Read: TypeAlias = tuple[Block, str]

Place: TypeAlias = tuple[str, int]
"""Where a stream's journal stands: the session that has written it, and how many batches."""


class _Flow:
    """One reading of the source from `position` on.

    A few blocks wait for the reader; until one is taken no other is read, and upstream has to wait.
    """

    def __init__(self, position: str, heard_until: float) -> None:
        self.position = position
        self.heard_until = heard_until
        self.waiting: asyncio.Queue[Read | StreamError | None] = asyncio.Queue(MAX_WAITING)
        self.dropped, self.has_come_back = asyncio.Event(), asyncio.Event()


class Relay:
    """Reads `source` for one reader at a time, in `run`.

    A connection ends with its reader, unless it is to `keep` for the next: for the one whose session follows on that of
    the last, for nobody else can have counted what it brings.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._flow: _Flow | None = None
        self._asked = asyncio.Event()
        self._keeps = False
        self._kept_at: Place | None = None

    @property
    def heard_until(self) -> float:
        """Until when the source has surely listened."""
        return self._source.heard_until

    def keep(self) -> None:
        """Let the connection outlive its reader."""
        self._keeps = True

    def left_at(self, place: Place) -> None:
        """Note where the journal stands that has all the reader's posts; one that has not begun has no place."""
        if place[0]:
            self._kept_at = place

    def taken_over(self, place: Place, session: str) -> None:
        """Note where the next reader's session begins; one that waits for another instance has no place.

        It may come to nothing before it reads, and another one follow on it.
        """
        if self._keeps and place == self._kept_at:
            self._kept_at = session, place[1]
        elif self._keeps:
            self._keeps = False
            self._drop()

    async def run(self) -> None:
        """Read whenever there is a reader, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if (flow := self._flow) is not None:
                await first_of(self._read(flow), flow.dropped.wait())

    async def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[Read, None]:
        """Yield what the source yields from after `position` on; raises what it raises."""
        if not self._keeps:
            self._drop()
        self._keeps, self._kept_at = False, None  # which whoever reads moves on from
        if (flow := self._flow) is None:
            flow = self._flow = _Flow(position, heard_until)
            self._asked.set()
        else:
            flow.has_come_back.set()
        try:
            while isinstance(found := await flow.waiting.get(), tuple):
                yield found
                flow.has_come_back.set()
            self._keeps = False  # nothing is left of it
            if found is not None:
                raise found
        finally:
            if not self._keeps:
                self._drop()

    def _drop(self) -> None:
        if self._flow is not None:
            self._flow.dropped.set()
            self._flow = None

    async def _read(self, flow: _Flow) -> None:
        try:
            async with aclosing(self._source.blocks(flow.position, flow.heard_until)) as blocks:
                async for found in blocks:
                    await flow.waiting.put(found)
                    await flow.has_come_back.wait()  # how long it may be silent is known from its first posts
            await flow.waiting.put(None)
        except StreamError as error:
            await flow.waiting.put(error)
        await flow.dropped.wait()
