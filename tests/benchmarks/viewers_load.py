"""So many viewers of one page, in a process of their own: when each hears what was read when.

It is told an address and how many; for each line on standard input, a number of seconds, it says as JSON how many
events came in them, and after how many milliseconds half and 99 of 100 of them did.
"""

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from functools import lru_cache
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

AT_ONCE: Final = 200
_AS_OF: Final = re.compile(rb'"as_of":"([^"]+)"')


@lru_cache
def moment_s(text: bytes) -> float:
    return datetime.fromisoformat(text.decode()).timestamp()


class Viewer(asyncio.Protocol):
    """One connection, which notes when each event came."""

    def __init__(self, request: bytes, delays_s: list[float]) -> None:
        self._request = request
        self._delays_s = delays_s
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        now_s = time.time()
        for as_of in _AS_OF.findall(data):
            self.events += 1
            self._delays_s.append(now_s - moment_s(as_of))


async def main(url: str, viewers: int) -> None:
    parts, loop, delays_s = urlsplit(url), asyncio.get_running_loop(), list[float]()
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    watching = []
    for number in range(viewers):
        _, viewer = await loop.create_connection(
            lambda: Viewer(request, delays_s), parts.hostname or "", parts.port or 80
        )
        watching.append(viewer)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0.01)
    while not all(viewer.events for viewer in watching):
        await asyncio.sleep(0.05)
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        delays_s.clear()
        before = [viewer.events for viewer in watching]
        await asyncio.sleep(float(line))
        told = sorted(delays_s)
        least = min(viewer.events - had for viewer, had in zip(watching, before, strict=True))
        middle, p99 = told[len(told) // 2] * 1e3, told[len(told) * 99 // 100] * 1e3
        sys.stdout.write(json.dumps({"events": len(told), "least": least, "median_ms": middle, "p99_ms": p99}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
