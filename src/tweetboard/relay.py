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


class _Flow:
    """One reading of the source from `position` on, which is where its reader stands.

    A few blocks wait for the reader; until one is taken no other is read, and upstream has to wait.
    """

    def __init__(self, position: str, heard_until: float) -> None:
        self.position = position
        self.heard_until = heard_until
        self.waiting: asyncio.Queue[Read | StreamError | None] = asyncio.Queue(MAX_WAITING)
        self.dropped = asyncio.Event()


class Relay:
    """Reads `source` for one reader at a time, in `run`.

    A connection ends with its reader, unless it is to `keep` for the next: for the one whose session follows on that of
    the last, for nobody else can have counted what it brings.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._flow: _Flow | None = None
        self._asked = asyncio.Event()
        self._kept_after: str | None = None

    @property
    def heard_until(self) -> float:
        """Until when the source has surely listened."""
        return self._source.heard_until

    def keep(self, session: str) -> None:
        """Let the connection outlive its reader, whose session this is, for one handover."""
        self._kept_after = session

    def taken_over(self, predecessor: str, session: str) -> None:
        """Note which session the next reader's follows on, both "" where it waits for another instance's to end.

        It may come to nothing before it reads, and another one follow on it.
        """
        if self._kept_after is None:
            return
        if predecessor == self._kept_after:
            self._kept_after = session
        else:
            self._kept_after = None
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
        self._kept_after = None
        if self._flow is not None and self._flow.position != position:
            self._drop()
        if (flow := self._flow) is None:
            flow = self._flow = _Flow(position, heard_until)
            self._asked.set()
        try:
            while (found := await flow.waiting.get()) is not None:
                if isinstance(found, StreamError):
                    raise found
                flow.position = found[1]
                yield found
            self._kept_after = None
        except StreamError:
            self._kept_after = None
            raise
        finally:
            self._drop(unless_kept=True)

    def _drop(self, *, unless_kept: bool = False) -> None:
        if self._flow is not None and not (unless_kept and self._kept_after is not None):
            self._flow.dropped.set()
            self._flow = None

    async def _read(self, flow: _Flow) -> None:
        try:
            async with aclosing(self._source.blocks(flow.position, flow.heard_until)) as blocks:
                async for found in blocks:
                    await flow.waiting.put(found)
            await flow.waiting.put(None)
        except StreamError as error:
            await flow.waiting.put(error)
        await flow.dropped.wait()
