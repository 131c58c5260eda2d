"""The sockets that HTTP is served on, and what every connection and every answer has to bear.

What lives here: listening, time limits, headers of safety. What must not: any route (api.py), or who may ask what
(clients.py).
"""

import asyncio
import errno
import logging
import math
import resource
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from aiohttp import hdrs, web, web_app
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from tweetboard.answers import PROBLEM_TYPE, Problem, encoded, respond_problem

SHUTDOWN_TIMEOUT_S: Final = 0.5

BACKLOG: Final = 4_096
"""So many may wait to be let in: when a daemon is started anew, all viewers come back within seconds.

The kernel may allow fewer; whom it turns away tries again a second later.
"""

MAX_LINE_BYTES: Final = 32_768
"""A request's address or a header may be as long: longer than any name, which is then refused in our own words."""

FIRST_REQUEST_S: Final = 10.0
"""So long a new connection may take for its first request; whoever drips would else hold it for ever."""

IDLE_S: Final = 75.0
"""So long a connection is kept for another request."""

UNREAD_S: Final = 30.0
"""A client that has a buffer full to read, and in so long reads nothing of it, is gone."""

MAX_CONNECTIONS: Final = 25_000
"""All that are open: those who watch boards (clients.py), and as many again as ask in between."""

RESERVED_FILES: Final = 256
"""Of the files that a process may have open so many are kept for anything but these connections."""

SECURITY_HEADERS: Final = {
    "Server": "tweetboard",  # and no versions of anything
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""On every answer that does not say otherwise: what is read here is for nobody's page but ours."""

log = logging.getLogger(__name__)


async def bound(host: str, port: int) -> list[socket.socket]:
    """Listen at every address of a host; port 0 is any free one. Raises `OSError` where it cannot be had."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets, trouble = list[socket.socket](), OSError(errno.EADDRNOTAVAIL, "it has no address")
    try:
        for family, kind, number, _, address in dict.fromkeys(found):
            try:
                sockets.append(_listener(family, kind, number, address))
            except OSError as error:
                trouble = error
                if error.errno != errno.EADDRNOTAVAIL:  # a machine without IPv6 may know localhost by both
                    raise
        if not sockets:
            raise trouble
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def cannot_listen(host: str, port: int, error: OSError) -> str:
    """Say which setting is to blame where `bound` has raised, and why."""
    wrong_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
    return f"{'http.host' if wrong_host else 'http.port'}: cannot listen on {host}:{port}: {error.strerror}"


def _listener(family: int, kind: int, number: int, address: Any) -> socket.socket:  # noqa: ANN401 - as the family has it
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def listening(application: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application; yields its address as a URL. Raises `OSError` where the port cannot be had."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in await bound(host, port)]
        async with serving_on(application, sockets) as address:
            yield address


@asynccontextmanager
async def serving_on(application: web.Application, sockets: Sequence[socket.socket]) -> AsyncIterator[str]:
    """Serve an application on sockets that listen, and go on doing so behind it; yields its address as a URL."""
    application.on_response_prepare.append(_make_safe)
    runner = _Runner(application, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        for one in sockets:
            await web.SockSite(runner, one.dup(), backlog=BACKLOG).start()
        yield _url(runner.addresses[0])
    finally:
        await runner.cleanup()
        # aiohttp remembers handlers behind their middlewares, of all applications that ever were, and all these hold.
        web_app._cached_build_middleware.cache_clear()  # noqa: SLF001 - it has no public way to forget them


async def _make_safe(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall(hdrs.SERVER, None)
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


def _url(bound: Any) -> str:  # noqa: ANN401 - as the kind of socket has it
    """Write down where a socket listens: a host and a port, or a path."""
    if not isinstance(bound, tuple):
        return f"http+unix://{quote(bound, safe='')}"
    host, port, *_ = bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def most_connections() -> int:
    """Say how many connections may be open at once, having raised the limit of open files as far as that is allowed."""
    soft = resource.RLIM_INFINITY
    wanted = MAX_CONNECTIONS + RESERVED_FILES
    with suppress(OSError, ValueError):  # a sandbox may forbid the one or the other, as our own unit does both
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(min(MAX_CONNECTIONS, soft - RESERVED_FILES), 1)


class _Connection(web.RequestHandler):
    """A connection that says in a problem document, too, that what came is no request.

    One that says nothing ends, and so does one that does not read; one too many is told so and ends.
    """

    _waiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    home: "_Server"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._waiting = asyncio.get_running_loop().call_later(FIRST_REQUEST_S, self.force_close)
        self.home.open += 1
        if self.home.open > self.home.most and self.transport is not None:
            self.transport.write(_too_many(self.home.most))
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait no more."""
        self.home.open -= 1
        self.has_asked()
        self._has_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give who does not read some time, and then up."""
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        """Wait no more: it has read on."""
        super().resume_writing()
        self._has_read()

    def _has_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _await_reading(self, before: float = math.inf) -> None:
        """Look every `UNREAD_S` whether less is left to read than `before`; where not, the client has gone."""
        if self.transport is None:
            return
        if (left := self.transport.get_write_buffer_size()) < before:
            self._unread = asyncio.get_running_loop().call_later(UNREAD_S, self._await_reading, left)
        else:
            self.transport.abort()  # closing would wait until the rest is read

    def has_asked(self) -> None:
        """Note that a request has come; for the next ones there is another limit."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read, or whatever else no route has answered; the connection ends with it."""
        if not isinstance(exc, HttpProcessingError | ConnectionError):
            self.log_exception("answering %s failed", request.remote, exc_info=exc)
        told = (message or "").strip().partition("\n")[0].rstrip(":")
        if isinstance(exc, LineTooLong):  # whose words are the bytes themselves
            told = f"its address or a header is longer than {MAX_LINE_BYTES:,} bytes"
        detail = f"this is no request: {told}" if isinstance(exc, HttpProcessingError) else ""
        response = respond_problem(Problem(HTTPStatus(status).phrase, status, detail))
        response.headers.update(SECURITY_HEADERS)
        response.force_close()
        return response


def _too_many(most: int) -> bytes:
    """Write an answer to a request that nobody waits for."""
    body = encoded(Problem("Service Unavailable", 503, f"{most:,} connections are open already")).body
    headers = {
        "Content-Type": PROBLEM_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **SECURITY_HEADERS,
    }
    lines = ["HTTP/1.1 503 Service Unavailable", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class _Server(web.Server):
    """Makes such connections, of which no more than `most` are to be `open`."""

    def __init__(self, *of_requests: Any, request_factory: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(*of_requests, request_factory=request_factory)
        self.open, self.most = 0, most_connections()

    def __call__(self) -> _Connection:
        connection = _Connection(
            self,
            loop=asyncio.get_running_loop(),
            logger=log,
            access_log=None,  # type: ignore[arg-type] # so aiohttp is told to write none
            keepalive_timeout=IDLE_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
        )
        connection.home = self
        return connection


class _Runner(web.AppRunner):
    """Serves an application over such a server.

    What a request expects is passed over, as RFC 9110 (10.1.1) allows: none has a body that would be read.
    """

    async def _make_server(self) -> _Server:
        server = await super()._make_server()
        make = server.request_factory

        def make_request(message: RawRequestMessage, *more: Any) -> web.BaseRequest:  # noqa: ANN401 - aiohttp's own
            more[1].has_asked()
            if hdrs.EXPECT in message.headers:
                headers = message.headers.copy()
                headers.popall(hdrs.EXPECT)
                message = message._replace(headers=type(message.headers)(headers))
            return make(message, *more)

        return _Server(server.request_handler, request_factory=make_request)
