"""Services as they are on the net, in small: each serves its own records, and goes on from where it is asked to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web


@dataclass
class Service:
    """Serves on a port of its own; a connection gets so many messages `a_second`, and ends after `cut` of them."""

    a_second: float = 0.0
    cut: int | None = None
    url: str = ""
    requests: list[web.Request] = field(default_factory=list)
    connections: int = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Service"]:
        application = web.Application()
        application.router.add_get("/stream", self.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/stream"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def pace(self, number: int) -> None:
        if self.a_second and number % 10 == 0:
            await asyncio.sleep(10 / self.a_second)


@dataclass
class EventStream(Service):
    """Server-Sent Events, as they stand in a file: from the first that is not before the moment asked for."""

    events: Sequence[bytes] = ()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        first = self.first(request.headers.get("Last-Event-ID", ""))
        for number, event in enumerate(self.events[first:]):
            if number == self.cut:
                return response
            await response.write(event + b"\n\n")
            await self.pace(number)
        while True:
            await asyncio.sleep(1)
            await response.write(b":thump\n")

    def first(self, last_event_id: str) -> int:
        """Say which event is the first at or after the moment in an id such as Wikimedia's."""
        if not last_event_id:
            return 0
        asked_ms = json.loads(last_event_id)[1]["timestamp"]
        # An event's id names the millisecond after it.
        moments = [
            json.loads(event.partition(b"id: ")[2].partition(b"\n")[0])[1]["timestamp"] - 1 for event in self.events
        ]
        return next((number for number, moment in enumerate(moments) if moment >= asked_ms), len(moments))


@dataclass
class Passing(Service):
    """Records that pass by, each sent once to whoever listens, as they stand in `records`; X sends a few again.

    A connection begins `refill` records before where the last one ended, and breaks off in the middle of a record after
    `cut` of them. Nothing passes beyond `until` before that is raised.
    """

    records: Sequence[bytes] = ()
    refill: int = 0
    content_type: str = "application/json"
    until: int = 1 << 62
    at: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        response = web.StreamResponse(headers={"Content-Type": self.content_type})
        await response.prepare(request)
        self.at = first = max(self.at - self.refill, 0)
        while True:
            if self.at - first == self.cut and request.transport is not None:
                await response.write(self.records[self.at % len(self.records)][:20])
                request.transport.abort()
                return response
            if self.at < min(self.until, len(self.records)):
                self.at += 1
                await response.write(self.records[self.at - 1])
                await self.pace(self.at)
            else:
                await response.write(b"\r\n" if self.content_type == "application/json" else b":thump\n")
                await asyncio.sleep(0.01)


@dataclass
class Jetstream(Service):
    """A WebSocket with a message for each record, from the first whose time is not before the cursor."""

    messages: Sequence[bytes] = ()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        cursor = int(request.query.get("cursor", "0"))
        times = [json.loads(message)["time_us"] for message in self.messages]
        first = next((number for number, time_us in enumerate(times) if time_us >= cursor), len(times))
        self.connections += 1
        for number, message in enumerate(self.messages[first:]):
            if number == self.cut:
                await socket.close()
                return socket
            await socket.send_str(message.decode())
            await self.pace(number)
        while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
            pass
        return socket


def events_in(data: bytes) -> list[bytes]:
    """Cut a file of Server-Sent Events at its blank lines."""
    return [event for event in data.split(b"\n\n") if event.strip()]
