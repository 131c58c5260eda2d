"""Posts from a file or standard input: all of them, once."""

import asyncio
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compressing import COMPRESS, Encoding
from conftest import wait_until
from tweetboard.errors import ConfigurationError, StreamRefused
from tweetboard.framing import Event
from tweetboard.replay import READ_BYTES, FileSource

LINES = b"".join(b'{"username": "u%d"}\r\n' % number for number in range(40_000))


async def lines_of(source: FileSource) -> bytes:
    return b"".join([block.lines async for block, _ in source.blocks("")])


def standard_input(monkeypatch: pytest.MonkeyPatch, descriptor: int) -> None:
    monkeypatch.setattr(sys, "stdin", os.fdopen(descriptor, "r"))


@pytest.mark.parametrize("size", [0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, len(LINES)])
async def test_a_file_of_any_size_comes_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(LINES[:size])
    source = FileSource(str(path))
    whole = LINES[:size]
    assert await lines_of(source) == (whole if not whole or whole.endswith(b"\n") else whole + b"\n")
    assert source.state.received_bytes == source.size_bytes == size


async def test_a_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(b"{}\n{}")
    assert await lines_of(FileSource(str(path))) == b"{}\n{}\n"


async def test_progress_is_told_after_each_read(tmp_path: Path) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(LINES)
    told: list[int] = []
    await lines_of(FileSource(str(path), on_read=told.append))
    assert told == [*range(READ_BYTES, len(LINES), READ_BYTES), len(LINES)]


async def test_a_line_over_the_bound_is_counted_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(b"{}\n" + b"x" * 5000 + b"\n[]\n")
    source = FileSource(str(path), max_line_bytes=1024)
    assert await lines_of(source) == b"{}\n[]\n"
    assert source.state.oversized == 1


async def test_a_file_of_events_is_read_as_events(tmp_path: Path) -> None:
    path = tmp_path / "posts.sse"
    path.write_bytes(b"id: 1\ndata: {}\n\ndata: []\n\ndata: cut off")
    events = [event async for block, _ in FileSource(str(path)).blocks("") for event in block.events]
    assert events == [Event("message", b"{}", "1"), Event("message", b"[]", "1")]


async def test_the_position_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "posts.sse"
    path.write_bytes(b"id: 1\ndata: {}\n\n")
    assert {position async for _, position in FileSource(str(path)).blocks("before")} == {"before"}


async def test_a_file_is_not_counted_twice(tmp_path: Path) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(b"{}\n")
    source = FileSource(str(path))
    await lines_of(source)
    with pytest.raises(StreamRefused, match="run the replay again"):
        await lines_of(source)


async def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    source = FileSource(str(tmp_path / "missing.ndjson"))
    with pytest.raises(ConfigurationError, match=r"missing.ndjson: No such file"):
        _ = source.size_bytes
    with pytest.raises(StreamRefused, match=r"missing.ndjson: No such file"):
        await lines_of(source)


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StreamRefused, match="Is a directory"):
        await lines_of(FileSource(str(tmp_path)))


async def test_standard_input_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(LINES)
    standard_input(monkeypatch, os.open(path, os.O_RDONLY))
    source = FileSource("-")
    assert source.size_bytes is None
    assert await lines_of(source) == LINES


async def test_standard_input_may_be_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # A character device that the event loop's epoll refuses; uvloop even aborts the process.
    standard_input(monkeypatch, os.open(os.devnull, os.O_RDONLY))
    assert await lines_of(FileSource("-")) == b""


async def test_lines_from_a_pipe_come_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    standard_input(monkeypatch, reading)
    blocks = FileSource("-").blocks("")
    for line in (b"{}\n", b"[]\n"):
        os.write(writing, line)
        assert (await anext(blocks))[0].lines == line
    os.close(writing)
    assert [block.lines async for block, _ in blocks] == [b""]


async def test_a_silent_pipe_does_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    assert stat.S_ISFIFO(os.fstat(reading).st_mode)
    standard_input(monkeypatch, reading)
    waiting = asyncio.ensure_future(lines_of(FileSource("-")))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.close(writing)


async def test_standard_input_may_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(StreamRefused, match="standard input"):
        await lines_of(FileSource("-"))


@pytest.mark.parametrize(("ending", "encoding"), [("gz", "gzip"), ("br", "br"), ("zst", "zstd")])
async def test_a_compressed_file_is_read_as_what_is_in_it(tmp_path: Path, ending: str, encoding: Encoding) -> None:
    path = tmp_path / f"posts.sse.{ending}"
    path.write_bytes(COMPRESS[encoding](b"data: {}\n\ndata: []\n\n"))
    events = [event async for block, _ in FileSource(str(path)).blocks("") for event in block.events]
    assert [event.data for event in events] == [b"{}", b"[]"]


async def test_a_file_that_is_only_named_as_if_it_were_compressed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "posts.ndjson.gz"
    path.write_bytes(b"{}\n")
    with pytest.raises(StreamRefused, match=r"posts\.ndjson\.gz: the body is not valid gzip"):
        await lines_of(FileSource(str(path)))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        _ = FileSource(str(tmp_path)).size_bytes


# --- What is no regular file ---


def write_to(fifo: Path, *lines: bytes) -> bool:
    """Write to a FIFO and close it; False where nobody reads it, not even waits for it to open."""
    try:
        writing = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    for line in lines:
        os.write(writing, line)
    os.close(writing)
    return True


def opening() -> bool:
    return any(thread.name == "open" for thread in threading.enumerate())


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """Make a FIFO; what is blocked in opening it, be it this very thread, goes on after some seconds."""
    path = tmp_path / "posts"
    os.mkfifo(path)
    watchdog = threading.Timer(10, write_to, [path])
    watchdog.start()
    yield path
    watchdog.cancel()
    watchdog.join()


async def test_a_fifo_is_read_once_somebody_writes_to_it(fifo: Path) -> None:
    source = FileSource(str(fifo))
    assert source.size_bytes is None
    reading = asyncio.ensure_future(lines_of(source))
    await wait_until(lambda: write_to(fifo, b"{}\n", b"[]\n"))
    async with asyncio.timeout(5):
        assert await reading == b"{}\n[]\n"


async def test_a_fifo_that_nobody_writes_to_does_not_hold_up_a_stop(fifo: Path) -> None:
    """Not even while its opening blocks; a writer that comes later does no harm."""
    waiting = asyncio.ensure_future(lines_of(FileSource(str(fifo))))
    await wait_until(opening)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1):
            await waiting
    await wait_until(lambda: write_to(fifo))
    await wait_until(lambda: not opening())


async def test_standard_input_may_be_named_by_its_path() -> None:
    """As `<(...)` is: a pipe opened anew, even where whoever wrote to it has ended."""
    reading, writing = os.pipe()
    os.write(writing, b"{}\n")
    os.close(writing)
    async with asyncio.timeout(5):
        assert await lines_of(FileSource(f"/dev/fd/{reading}")) == b"{}\n"
    os.close(reading)


async def test_the_null_device_may_be_named_by_its_path() -> None:
    source = FileSource(os.devnull)
    assert source.size_bytes is None
    assert await lines_of(source) == b""
