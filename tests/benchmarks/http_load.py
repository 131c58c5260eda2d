"""A load generator for one endpoint, in a process of its own: so many connections, each with one request at a time.

It is told an address, says how many bytes an answer has, and for each line on standard input, a number of seconds, how
many answers came in them. Paths take the number of the request where they have `{}`.
"""

import asyncio
import itertools
import sys
import time
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

CONNECTIONS: Final = 16


class Client(asyncio.Protocol):
    """One connection, which asks again as soon as it has a whole answer."""

    def __init__(self, host: str, path: str, numbers: "itertools.count[int]") -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        self._numbers = numbers
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.answers = 0
        self.running = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        assert self._transport is not None
        request = self._request.format(next(self._numbers)) if "{}" in self._request else self._request
        self._transport.write(request.encode())

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        assert b" 200 " in head.split(b"\r\n", 1)[0], head
        self._received = b""
        self.answers += 1
        if self.running:
            self.ask()


async def main(url: str) -> None:
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    loop = asyncio.get_running_loop()
    clients, numbers = [], itertools.count()
    for _ in range(CONNECTIONS):
        _, client = await loop.create_connection(
            lambda: Client(parts.netloc, path, numbers), parts.hostname or "", parts.port or 80
        )
        clients.append(client)
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        before, begin = sum(client.answers for client in clients), time.monotonic()
        for client in clients:
            client.running = True
            client.ask()
        await asyncio.sleep(float(line))
        answers = sum(client.answers for client in clients) - before
        rate = answers / (time.monotonic() - begin)
        for client in clients:
            client.running = False
        await asyncio.sleep(0.2)  # for the last answers
        sys.stdout.write(f"{rate}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
