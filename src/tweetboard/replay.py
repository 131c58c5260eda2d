"""Posts from a file or standard input instead of a connection, through the same pipe.

What lives here: a `Source` that ends. What must not: showing progress (cli.py).
"""

import asyncio
import os
import stat
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, Final

from tweetboard.decompression import decompressor_for
from tweetboard.errors import ConfigurationError, StreamLost, StreamRefused
from tweetboard.framing import Block, framer_for
from tweetboard.supervision import StreamState

READ_BYTES: Final = 256 * 1024

ENDINGS: Final = {".gz": "gzip", ".br": "br", ".zst": "zstd"}
"""How a compressed file's name ends, and what is in it."""


class FileSource:
    """The records of the file at `path`, or of standard input for "-": Server-Sent Events in `.sse`, lines otherwise.

    One whose name ends in `.gz`, `.br` or `.zst` is compressed.

    `on_read` is told how many bytes have been read, each time; `cut_off` is whether a compressed file ended too early.
    """

    def __init__(
        self, path: str, *, max_line_bytes: int = 1 << 20, on_read: Callable[[int], None] = lambda _: None
    ) -> None:
        self._path = path
        self._on_read = on_read
        self._max_line_bytes = max_line_bytes
        self.state = StreamState()
        self.cut_off = False

    @property
    def size_bytes(self) -> int | None:
        """The file's size; None for what has none. Raises `ConfigurationError` for a file that is not there."""
        if self._path == "-":
            return None
        try:
            found = Path(self._path).stat()
        except OSError as error:
            raise ConfigurationError(f"replay: {self._path}: {error.strerror}") from error
        if stat.S_ISDIR(found.st_mode):
            raise ConfigurationError(f"replay: {self._path} is a directory")
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    @property
    def heard_until(self) -> float:
        """Nothing of a file passes unheard."""
        return 0.0

    async def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:  # noqa: ARG002 - a file waits
        """Yield all blocks, once; a file has no positions.

        Raises `StreamRefused` for a file that cannot be read, and when asked again: a session that began anew in the
        middle would count what came before twice.
        """
        if self.state.live:
            raise StreamRefused("replay: Redis lost what had been counted; run the replay again")
        self.state.live = True
        ending = Path(self._path).suffix
        encoding = ENDINGS.get(ending, "")
        is_events = self._path.removesuffix(ending if encoding else "").endswith(".sse")
        framer = framer_for("text/event-stream" if is_events else "application/x-ndjson", self._max_line_bytes)
        decompressor = decompressor_for(encoding)
        try:
            async with aclosing(_chunks(self._path)) as chunks:
                async for raw in chunks:
                    self.state.received_bytes += len(raw)
                    self._on_read(self.state.received_bytes)
                    for chunk in decompressor.push(raw):
                        block = framer.push(chunk)
                        self.state.oversized = framer.oversized
                        yield block, position
        except OSError as error:
            raise StreamRefused(f"replay: {self._path}: {error.strerror}") from error
        except StreamLost as error:
            raise StreamRefused(f"replay: {self._path}: {error}") from error
        yield framer.end(), position
        self.cut_off = not decompressor.whole


def _may_be_silent(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)  # /dev/null is none: epoll refuses it


async def _opened(path: str) -> BinaryIO:
    """Open a file in a thread of its own: a FIFO opens only when somebody writes to it.

    Neither a stop nor the process's end waits for that thread, as they would for asyncio's. Opening without blocking
    would need none, but on macOS a FIFO without a writer then reads as one that has ended.
    """
    opening: Future[BinaryIO] = Future()
    opening.set_running_or_notify_cancel()  # from here on it cannot be cancelled under the thread's hands

    def work() -> None:
        try:
            opening.set_result(Path(path).open("rb"))  # noqa: SIM115 - whoever waits closes it
        except Exception as error:  # noqa: BLE001 - it is for whoever waits
            opening.set_exception(error)

    threading.Thread(target=work, name="open", daemon=True).start()
    try:
        return await asyncio.wrap_future(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opened: Future[BinaryIO]) -> None:
    if opened.exception() is None:
        opened.result().close()


async def _chunks(path: str) -> AsyncGenerator[bytes, None]:
    """Read a file, or what is no regular file as it comes."""
    if path == "-" and sys.stdin is None:
        raise StreamRefused("replay: -: standard input is closed")
    source = sys.stdin.buffer if path == "-" else await _opened(path)
    if _may_be_silent(source.fileno()):
        # A pipe or terminal may be silent for ever; a thread waiting for it would keep the process from ending.
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
        try:
            while chunk := await reader.read(READ_BYTES):
                yield chunk
        finally:
            transport.close()
    else:
        with source:
            while chunk := await asyncio.to_thread(source.read, READ_BYTES):
                yield chunk
