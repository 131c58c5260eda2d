"""A scripted upstream on raw sockets, so that a test has every byte of an answer under control.

In a test, where the first two connections get what the script says, and all others the usual answer:

    script = [Answer(after=10, cut="line"), Answer(status=503)]
    async with Upstream(records, mode="sse", overlap=3, script=script).serving() as upstream:
        ...  # upstream.url, upstream.requests, upstream.connections

As a process of its own, which says its address on standard output and ends by a signal:

    python tests/upstream.py --file posts.ndjson --mode sse --overlap 3 --script line@10,503 --cut any --cut-every 500

NDJSON cannot rewind: a connection goes on behind the last record that was written whole, whether or not it arrived; but
asked for `backfill_minutes`, as X can be, it begins `overlap` records earlier.
With SSE every record has its number in the file, from 1, as its id; a connection goes on behind its Last-Event-ID, but
`overlap` events earlier.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from compressing import Encoding, Flushing

Mode: TypeAlias = Literal["ndjson", "sse"]
Cut: TypeAlias = Literal["stay", "end", "record", "line", "chunk", "reset", "stall"]
Gzip: TypeAlias = Literal["", "flush", "broken", "bomb"]

KEEP_ALIVES: Final = {"ndjson": b"\r\n", "sse": b": keep-alive\n\n"}
CONTENT_TYPES: Final = {"ndjson": "application/json; charset=utf-8", "sse": "text/event-stream"}
IN_TURN: Final[tuple[Cut, ...]] = ("line", "chunk", "end", "record")
BOMB_MIB: Final = 1024


@dataclass(frozen=True)
class Answer:
    """What one connection gets.

    After `after` records (None: all there are) comes the `cut`: "stay" goes on with keep-alives; "end" ends the body
    as HTTP wants it; "record" closes without that; "line" sends half of the next record in a whole chunk, and closes;
    "chunk" announces the next record, sends half of it, and closes; "reset" throws the connection away, and with it
    what is still on its way; "stall" says nothing more and stays. Where there are no `after` records, it stays.

    `gzip`: "flush" compresses, in the way that `encoding` says, with a flush after each record; "broken" has rubbish in
    the compressed bytes where the cut would be, "bomb" a gigabyte of nothing, and these two are gzip.

    `raw` takes the place of all that: these bytes, then the connection closes; with b"" it stays, and is silent.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    cut: Cut = "stay"
    gzip: Gzip = ""
    encoding: Encoding = "gzip"
    raw: bytes | None = None


@dataclass(frozen=True)
class Request:
    """What a client asked for; the headers' names in lower case."""

    target: str
    headers: dict[str, str]

    @property
    def last_event_id(self) -> str | None:
        return self.headers.get("last-event-id")


@dataclass
class Upstream:
    """Serves `records`: connection by connection as the `script` says, and beyond its end as `usual` says.

    Each record is an HTTP chunk of its own, or, with `chunk_bytes`, the body is cut into chunks of that size. A
    keep-alive stands before every `keep_alive_every`th record (0: never), and comes each `keep_alive_s` when all
    records are sent. `rate` is in records per second, 0 for as fast as the client takes them. With `tls` it is https.

    To look at: the `requests` so far, how many `connections` are open now, and how many records have been `sent` (of
    the last connection, with SSE).
    """

    records: Sequence[bytes]
    mode: Mode = "ndjson"
    script: Iterable[Answer] = ()
    usual: Answer = Answer()
    overlap: int = 0
    chunk_bytes: int = 0
    keep_alive_every: int = 7
    keep_alive_s: float = 1.0
    rate: float = 0.0
    on_request: Callable[[Request], None] = lambda _: None
    tls: ssl.SSLContext | None = None

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self._script = iter(self.script)

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator["Upstream"]:
        """Serve on a port, 0 for any that is free, until the block ends; no connection outlives it."""
        tasks = set[asyncio.Task[None]]()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._accepted(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=self.tls)
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream"
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, which is good for one request."""
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                request = _parsed(await reader.readuntil(b"\r\n\r\n"))
                self.requests.append(request)
                self.on_request(request)
                await _Connection(self, next(self._script, self.usual), reader, writer).answer(request)
        finally:
            self.connections -= 1
            writer.close()

    def first(self, request: Request) -> int:
        """Say which record, from 0, a connection begins with."""
        if self.mode == "ndjson":
            return max(self.sent - self.overlap, 0) if "backfill_minutes=" in request.target else self.sent
        last_id = request.last_event_id or ""
        return max(int(last_id) - self.overlap, 0) if last_id.isdigit() else 0

    def framed(self, number: int) -> bytes:
        """Write a record as the mode wants it; b"" beyond the last."""
        if number >= len(self.records):
            return b""
        record = self.records[number]
        if self.mode == "ndjson":
            return record + b"\r\n"
        return b"id: %d\n" % (number + 1) + b"".join(b"data: %b\n" % line for line in record.split(b"\n")) + b"\n"


class _Connection:
    def __init__(
        self, upstream: Upstream, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.upstream = upstream
        self.scripted = answer
        self.reader = reader
        self.writer = writer
        self.body = Body(upstream.chunk_bytes, encoding=answer.encoding if answer.gzip else None)

    async def answer(self, request: Request) -> None:
        scripted = self.scripted
        if scripted.raw is not None:
            await (self.send(scripted.raw) if scripted.raw else self.left())
        elif scripted.status != 200:
            await self.send(head(scripted.status, {"Content-Length": "0", **scripted.headers}))
        else:
            headers = {"Content-Type": CONTENT_TYPES[self.upstream.mode], "Transfer-Encoding": "chunked"}
            if scripted.gzip:
                headers["Content-Encoding"] = scripted.encoding
            await self.send(head(200, {**headers, **scripted.headers}))
            await self.finish(await self.send_records(self.upstream.first(request)))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_records(self, first: int) -> int:
        """Send the records from `first` to the cut; returns the number of the one behind it."""
        upstream, clock = self.upstream, asyncio.get_running_loop().time
        stop = len(upstream.records)
        if self.scripted.after is not None:
            stop = min(first + self.scripted.after, stop)
        began_s = clock()
        for number in range(first, stop):
            if number >= len(upstream.records):  # they were cut short meanwhile
                stop = number
                break
            if upstream.keep_alive_every and number % upstream.keep_alive_every == 0:
                self.writer.write(self.body.add(KEEP_ALIVES[upstream.mode]))
            self.writer.write(self.body.add(upstream.framed(number)))
            upstream.sent = number + 1
            if upstream.rate:
                await self.writer.drain()
                await asyncio.sleep(began_s + upstream.sent / upstream.rate - first / upstream.rate - clock())
            elif number % 32 == 0:
                await self.writer.drain()
        await self.send(self.body.rest())
        return max(first, stop)

    async def finish(self, following: int) -> None:
        """Do to the connection what the script says; `following` is the first record that has not been sent."""
        gzip, cut, frame = self.scripted.gzip, self.scripted.cut, self.upstream.framed(following)
        if gzip == "broken":
            await self.send(chunk(b"\xff\x00 no gzip at all"))
            await self.left()
        elif gzip == "bomb":
            await self.explode()
        elif cut == "stay" or (self.scripted.after and not frame):
            await self.stay()
        elif cut == "end":
            await self.send(chunk(b""))
        elif cut == "line":
            await self.send(self.body.add(frame[: len(frame) // 2]) + self.body.rest())
        elif cut == "chunk":
            await self.send(chunk(self.body.compressed(frame))[: len(frame) // 2])
        elif cut == "reset":
            self.writer.transport.abort()
        elif cut == "stall":
            await self.left()

    async def stay(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.upstream.keep_alive_s):
                    return await self.left()
            await self.send(self.body.add(KEEP_ALIVES[self.upstream.mode]) + self.body.rest())

    async def left(self) -> None:
        """Wait until the client has gone."""
        while await self.reader.read(1024):
            pass

    async def explode(self) -> None:
        await self.send(chunk(self.body.compressed(bytes(1 << 20), repeatable=True)))
        mebibyte = self.body.compressed(bytes(1 << 20), repeatable=True)
        for _ in range(BOMB_MIB):
            await self.send(chunk(mebibyte))
        await self.left()


class Body:
    """Cuts a body into HTTP chunks, compressed where that is wanted."""

    def __init__(self, chunk_bytes: int, *, encoding: Encoding | None) -> None:
        self._chunk_bytes = chunk_bytes
        self._pending = b""
        self._compressor = Flushing(encoding) if encoding is not None else None

    def add(self, data: bytes) -> bytes:
        """Return what can be sent now, as whole chunks."""
        data = self.compressed(data)
        if not self._chunk_bytes:
            return chunk(data) if data else b""
        data, size = self._pending + data, self._chunk_bytes
        whole = len(data) - len(data) % size
        self._pending = data[whole:]
        return b"".join(chunk(data[at : at + size]) for at in range(0, whole, size))

    def rest(self) -> bytes:
        """Return the last chunk, which may be a shorter one."""
        rest, self._pending = self._pending, b""
        return chunk(rest) if rest else b""

    def compressed(self, data: bytes, *, repeatable: bool = False) -> bytes:
        return data if self._compressor is None else self._compressor.add(data, repeatable=repeatable)


def chunk(data: bytes) -> bytes:
    """Write an HTTP chunk; an empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Write the head of an answer whose connection is closed behind it."""
    lines = (f"{name}: {value}" for name, value in headers.items())
    return "\r\n".join([f"HTTP/1.1 {status} Scripted", *lines, "Connection: close", "", ""]).encode()


def _parsed(received: bytes) -> Request:
    line, *fields = received.decode("utf-8", "replace").rstrip("\r\n").split("\r\n")
    pairs = (text.split(":", 1) for text in fields)
    return Request(line.split(" ")[1], {name.lower(): value.strip() for name, value in pairs})


def records_of(path: Path) -> list[bytes]:
    """Read the records of a file of lines: all that are not blank."""
    return [line.removesuffix(b"\r") for line in path.read_bytes().split(b"\n") if line.strip()]


def script_of(text: str) -> Iterator[Answer]:
    """Read `line@10,503,429:x-rate-limit-reset=1700000000`: cuts and where, statuses and one header for each."""
    for part in filter(None, text.split(",")):
        what, _, header = part.partition(":")
        name, _, value = header.partition("=")
        cut, _, after = what.partition("@")
        known = next((one for one in get_args(Cut) if one == cut), None)
        yield Answer(after=int(after), cut=known) if known else Answer(int(what), {name: value} if name else {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Serve a file of records as a stream, with everything that goes wrong."
    )
    parser.add_argument("--file", type=Path, required=True, help="records, one a line")
    parser.add_argument("--port", type=int, default=0, help="where to listen (any free port)")
    parser.add_argument("--mode", choices=get_args(Mode), default="ndjson")
    parser.add_argument("--overlap", type=int, default=0, help="go back so many events more than asked for (sse)")
    parser.add_argument("--rate", type=float, default=0.0, help="records per second (as fast as they are taken)")
    parser.add_argument("--script", default="", help="the first connections: line@10,503,429:x-rate-limit-reset=...")
    parser.add_argument("--cut", choices=[*get_args(Cut), "any"], default="stay", help="all others; any: in turn")
    parser.add_argument("--cut-every", type=int, help="so many records (all there are)")
    parser.add_argument("--gzip", choices=get_args(Gzip)[1:], default="")
    parser.add_argument("--chunk-bytes", type=int, default=0, help="chunks of this size (one for each record)")
    parser.add_argument("--keep-alive-s", type=float, default=1.0)
    parser.add_argument("--log", type=Path, help="append each request to this file, as a line of JSON")
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    cuts = itertools.cycle(IN_TURN if options.cut == "any" else [options.cut])
    upstream = Upstream(
        records_of(options.file),
        options.mode,
        itertools.chain(
            script_of(options.script),
            (Answer(after=options.cut_every, cut=cut, gzip=options.gzip) for cut in cuts),
        ),
        overlap=options.overlap,
        rate=options.rate,
        chunk_bytes=options.chunk_bytes,
        keep_alive_s=options.keep_alive_s,
    )
    if options.log is not None:
        log = options.log.open("a", buffering=1)
        upstream.on_request = lambda request: print(json.dumps(asdict(request)), file=log)
    async with upstream.serving(options.port):
        sys.stdout.write(f"{upstream.url}\n")
        sys.stdout.flush()
        await stopping.wait()


if __name__ == "__main__":
    main()
