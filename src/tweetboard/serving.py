"""The socket that HTTP is served on, and who may ask there.

What lives here: listening, and refusing requests that are none of ours. What must not: any route (api.py).
"""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError, RawRequestMessage

from tweetboard.answers import Problem, ProblemFound, respond_problem

SHUTDOWN_TIMEOUT_S: Final = 0.5

BACKLOG: Final = 4_096
"""So many may wait to be let in: when a daemon is started anew, all viewers come back within seconds.

The kernel may allow fewer; whom it turns away tries again a second later.
"""

MAX_LINE_BYTES: Final = 32_768
"""A request's address or a header may be as long: longer than any name, which is then refused in our own words."""

MAX_KNOWN_HOSTS: Final = 1_000
"""Spellings of Host that have been let in are remembered, for reading one costs as much as answering."""

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
    runner = _Runner(application, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        for one in sockets:
            await web.SockSite(runner, one.dup(), backlog=BACKLOG).start()
        yield _url(runner.addresses[0])
    finally:
        await runner.cleanup()


def _url(bound: Any) -> str:  # noqa: ANN401 - as the kind of socket has it
    """Write down where a socket listens: a host and a port, or a path."""
    if not isinstance(bound, tuple):
        return f"http+unix://{quote(bound, safe='')}"
    host, port, *_ = bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Connection(web.RequestHandler):
    """A connection that says in a problem document, too, that what came is no request."""

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
        response.headers["X-Content-Type-Options"] = "nosniff"
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


class Hosts:
    """The names by which browsers may ask: localhost, every address, and `names`.

    A page elsewhere could make its own name lead here and read the boards; an address cannot be made to lead anywhere
    else.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {"localhost", *(name.lower() for name in names)}
        self._known = set[str]()

    def check(self, request: web.Request) -> None:
        """Raise `ProblemFound` for a request by a name that is none of these."""
        spelling = request.headers.get("Host", "")
        if spelling in self._known and request.rel_url.raw_host is None:
            return
        try:
            host = (request.url.host or "").lower()
        except ValueError as error:
            raise ProblemFound(400, "what the request has for a host is none") from error
        if host not in self._names and not _is_address(host):
            raise ProblemFound(421, f"this is not {host!r}; if it should be, add it to http.allowed_hosts")
        if len(self._known) < MAX_KNOWN_HOSTS and spelling:
            self._known.add(spelling)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
