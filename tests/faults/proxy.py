"""A way between two processes that can be cut, held up, or end in nothing.

What lives here: bytes on their way. What must not: what they mean.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]

CHUNK_BYTES: Final = 64 * 1024


class Proxy:
    """Connections to wherever `connect` leads, through this process; `cuts` counts those that were cut."""

    def __init__(self, connect: Callable[[], Awaitable[Opened]]) -> None:
        self._connect = connect
        self._links = set[_Link]()
        self._to_cut = 0
        self._passing_bytes = 0
        self._open = asyncio.Event()
        self._open.set()
        self.cuts = 0

    def cut_next(self, replies: int, after_bytes: int) -> None:
        """Let only so many bytes of each of the next replies through, then cut its connection."""
        self._to_cut, self._passing_bytes = replies, after_bytes

    def cut_all(self) -> None:
        """Cut all connections there are."""
        for link in list(self._links):
            self.cuts += 1
            link.end()

    def lose_all(self) -> None:
        """Let the connections there are lead nowhere: no byte passes any more, and no end either."""
        for link in self._links:
            link.lost = True

    def hold(self) -> None:
        """Let nothing through for now."""
        self._open.clear()

    def let_go(self) -> None:
        """Let everything through again, and first what was held."""
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        try:
            there_reader, there_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, there_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, there_writer, replies=False))
                group.create_task(self._pump(link, there_reader, writer, replies=True))
        except* OSError:
            pass
        finally:
            self._links.discard(link)
            link.end()

    async def _pump(
        self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._open.wait()
            if link.lost:
                continue
            if replies and self._to_cut:
                self._to_cut -= 1
                self.cuts += 1
                writer.write(data[: min(self._passing_bytes, len(data) - 1)])
                break
            writer.write(data)
            await writer.drain()
        if not link.lost:
            link.end()


class _Link:
    """One connection through a proxy; one that is `lost` carries nothing any more, not even its end."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.lost = False

    def end(self) -> None:
        for writer in self._writers:
            writer.close()


@contextlib.asynccontextmanager
async def unix_proxy(path: str, target: str) -> AsyncIterator[Proxy]:
    """Serve at one Unix socket what is at another."""
    proxy = Proxy(lambda: asyncio.open_unix_connection(target))
    async with _carrying(proxy) as accept:
        server = await asyncio.start_unix_server(accept, path)
        try:
            yield proxy
        finally:
            server.close()


@contextlib.asynccontextmanager
async def tcp_proxy(port: int) -> AsyncIterator[tuple[Proxy, int]]:
    """Serve at a free port what is at another; yields it too."""
    proxy = Proxy(lambda: asyncio.open_connection("127.0.0.1", port))
    async with _carrying(proxy) as accept:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield proxy, server.sockets[0].getsockname()[1]
        finally:
            server.close()


@contextlib.asynccontextmanager
async def _carrying(
    proxy: Proxy,
) -> AsyncIterator[Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]]:
    """Yield what accepts connections; none outlives the block."""
    tasks = set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.carry(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        yield accept
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
