"""The sockets that HTTP is served on, and what every connection and every answer has to bear.

What lives here: listening, time limits, headers of safety. What must not: any route (api.py), or who may ask what
(clients.py).
"""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError, RawRequestMessage

from tweetboard.answers import Problem, respond_problem

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

SECURITY_HEADERS: Final = {
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


async def _make_safe(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)


def _url(bound: Any) -> str:  # noqa: ANN401 - as the kind of socket has it
    """Write down where a socket listens: a host and a port, or a path."""
    if not isinstance(bound, tuple):
        return f"http+unix://{quote(bound, safe='')}"
    host, port, *_ = bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Connection(web.RequestHandler):
    """A connection that says in a problem document, too, that what came is no request; one that says nothing ends."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._waiting = asyncio.get_running_loop().call_later(FIRST_REQUEST_S, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait no more."""
        self.has_asked()
        super().connection_lost(exc)

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
        detail = f"this is no request: {told}" if isinstance(exc, HttpProcessingError) else ""
        response = respond_problem(Problem(HTTPStatus(status).phrase, status, detail))
        response.headers.update(SECURITY_HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes such connections."""

    def __call__(self) -> _Connection:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            logger=log,
            access_log=None,  # type: ignore[arg-type] # so aiohttp is told to write none
            keepalive_timeout=IDLE_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
        )


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


def port_is_free(host: str, port: int) -> bool:
    """Whether `listening` could have the port at this moment; a host that cannot be looked up is another trouble."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True
