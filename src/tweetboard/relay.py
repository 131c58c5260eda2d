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
from tweetboard.waiting import first_of, within

HANDOVER_S: Final = 1.0
"""So long a connection is kept for the next reader; the stream's lease, which is kept too, lives for longer."""

MAX_WAITING: Final = 4
"""Blocks that wait for the reader, who then takes several in one turn: with one, batches are a quarter smaller."""

Read: TypeAlias = tuple[Block, str]


class _Flow:
    """One reading of the source from `position` on, which is where its reader stands.

    A few blocks wait for the reader; until one is taken no other is read, and upstream has to wait.
    """

    def __init__(self, position: str, heard_until: float) -> None:
        self.position = position
        self.heard_until = heard_until
        self.waiting: asyncio.Queue[Read | StreamError | None] = asyncio.Queue(MAX_WAITING)
        self.has_reader, self.has_none = asyncio.Event(), asyncio.Event()


class Relay:
    """Reads `source` for one reader at a time, in `run`.

    Where `keeps` is set when the reader goes, the connection is kept for the next, if that one comes soon and goes on
    from the same position; it is not for more than one handover.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._flow: _Flow | None = None
        self._asked = asyncio.Event()
        self.keeps = False

    @property
    def heard_until(self) -> float:
        """Until when the source has surely listened."""
        return self._source.heard_until

    async def run(self) -> None:
        """Read whenever there is a reader, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if (flow := self._flow) is not None:
                await first_of(self._read(flow), self._given_up(flow))

    async def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[Read, None]:
        """Yield what the source yields from after `position` on; raises what it raises."""
        flow, self.keeps = self._flow, False
        if flow is None or flow.position != position:
            if flow is not None:
                flow.has_none.set()
            flow = self._flow = _Flow(position, heard_until)
            self._asked.set()
        flow.has_none.clear()
        flow.has_reader.set()
        try:
            while (found := await flow.waiting.get()) is not None:
                if isinstance(found, StreamError):
                    raise found
                flow.position = found[1]
                yield found
            self._flow = None
        except StreamError:
            self._flow = None
            raise
        finally:
            if not self.keeps:
                self._flow = None
            flow.has_reader.clear()
            flow.has_none.set()

    async def _read(self, flow: _Flow) -> None:
        try:
            async with aclosing(self._source.blocks(flow.position, flow.heard_until)) as blocks:
                async for found in blocks:
                    await flow.waiting.put(found)
            await flow.waiting.put(None)
        except StreamError as error:
            await flow.waiting.put(error)
        await flow.has_none.wait()

    async def _given_up(self, flow: _Flow) -> None:
        """Wait until a flow has no reader, and none comes in time; from then on none will."""
        while True:
            await flow.has_none.wait()
            if self._flow is flow:
                if flow.has_reader.is_set() or (self.keeps and await within(HANDOVER_S, flow.has_reader)):
                    continue
                self._flow = None
            return
