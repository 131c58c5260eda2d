"""The boards over HTTP (DESIGN section 5): aiohttp handlers that read a board and say it in JSON.

What lives here: routes, parameters, problems. What must not: how a board is kept (scoreboard.py).
"""

import asyncio
import errno
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tweetboard.errors import StoreError, StoreUnavailable
from tweetboard.scoreboard import Row, Scoreboard

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 10**9

MAX_READS: Final = 8
"""Boards read from Redis at once: each takes one of the pool's connections, further requests wait their turn."""

READ_TIMEOUT_S: Final = 4.0
"""For a turn and the read together: with Redis silent, nobody waits for the ones before to find that out one by one."""

SHUTDOWN_TIMEOUT_S: Final = 0.5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class BoardAnswer(msgspec.Struct, frozen=True):
    """What `GET /<board>` answers; `total` counts the names on the board in that window."""

    board: str
    window: str
    total: int
    as_of: str
    results: list[Row]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as RFC 9457 has it."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"


class Part(msgspec.Struct, frozen=True):
    """One part of the daemon in `/readyz`: whether it works, and if not, why."""

    ok: bool
    detail: str


class Readiness(msgspec.Struct, frozen=True):
    """What `GET /readyz` answers; `status` is "ready" where every part works."""

    status: str
    parts: dict[str, Part]


class ProblemFound(Exception):
    """Ends a request with a problem document."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(HTTPStatus(status).phrase, status, detail)


class Api:
    """The routes over `boards`; `readiness` and `metrics` are asked anew for each request.

    Answers are counted by route and status in `requests`. Only requests to localhost, an address, or one of the names
    `hosts` are answered.
    """

    def __init__(
        self,
        boards: Mapping[str, Scoreboard],
        *,
        readiness: Callable[[], dict[str, Part]],
        metrics: Callable[[], bytes],
        requests: Counter[tuple[str, str]],
        hosts: Iterable[str] = (),
        demo: bool = False,
    ) -> None:
        self._boards = boards
        self._readiness = readiness
        self._metrics = metrics
        self._demo = demo
        self._reads = asyncio.Semaphore(MAX_READS)
        self._requests = requests
        self._hosts = {"localhost", *(host.lower() for host in hosts)}

    def application(self) -> web.Application:
        """Build the aiohttp application."""
        application = web.Application(middlewares=[self._answer])
        routes = {"/": self._index, "/boards": self._index, "/healthz": self._healthz, "/readyz": self._readyz}
        routes["/metrics"] = self._prometheus
        for path, handler in routes.items():
            application.router.add_get(path, handler)
        for name in self._boards:
            application.router.add_get(f"/{name}", self._board)
        return application

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn every failure into a problem document, and count every answer by its route."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        response: web.StreamResponse
        try:
            self._check_host(request)
            response = await handler(request)
        except ProblemFound as found:
            response = _problem(found.problem)
        except StoreUnavailable as error:
            response = _problem(Problem("Service Unavailable", 503, str(error)))
            response.headers["Retry-After"] = "1"
        except StoreError as error:
            response = _problem(Problem("Internal Server Error", 500, str(error)))
        except web.HTTPException as error:
            detail = f"{request.method} {request.path}" if error.status < 500 else ""
            response = _problem(Problem(error.reason, error.status, detail))
            if allow := error.headers.get("Allow"):
                response.headers["Allow"] = allow
        except Exception:
            log.exception("GET %s failed", route)
            response = _problem(Problem("Internal Server Error", 500))
        response.headers["X-Content-Type-Options"] = "nosniff"
        self._requests[route, str(response.status)] += 1
        return response

    def _check_host(self, request: web.Request) -> None:
        """Refuse names that are not ours: a page elsewhere could make its own name lead here and read the boards.

        An address cannot be made to lead anywhere else, so every one of them may pass.
        """
        try:
            host = (request.url.host or "").lower()
        except ValueError as error:
            raise ProblemFound(400, "what the request has for a host is none") from error
        if host not in self._hosts and not _is_address(host):
            raise ProblemFound(421, f"this is not {host!r}; if it should be, add it to http.allowed_hosts")

    async def _index(self, request: web.Request) -> web.Response:
        boards = {name: {"url": f"{request.url.origin()}/{name}", "windows": ["all"]} for name in self._boards}
        return _json({"demo": self._demo, "boards": boards})

    async def _healthz(self, _: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.Response:
        parts = self._readiness()
        ready = all(part.ok for part in parts.values())
        return _json(Readiness("ready" if ready else "not ready", parts), status=200 if ready else 503)

    async def _prometheus(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics(), headers=headers)

    async def _board(self, request: web.Request) -> web.Response:
        board = self._boards[request.path.strip("/")]
        unknown = sorted(request.query.keys() - {"limit", "offset", "window"})
        if unknown:
            raise ProblemFound(400, f"unknown parameter {unknown[0]!r}: there are limit, offset and window")
        for name in request.query:
            if len(request.query.getall(name)) > 1:
                raise ProblemFound(400, f"{name} stands there more than once")
        limit = _whole(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = _whole(request, "offset", 0, 0, MAX_OFFSET)
        window = request.query.get("window", "all")
        if window != "all":
            raise ProblemFound(400, f"window {window!r} is not one of: all")
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), self._reads:
                page = await board.top(offset=offset, limit=limit)
        except TimeoutError:
            raise StoreUnavailable(f"the board could not be read within {READ_TIMEOUT_S:g} s") from None
        as_of = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return _json(BoardAnswer(board.name, window, page.total, as_of, page.rows))


@asynccontextmanager
async def listening(application: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application; yields its address as a URL. Raises `OSError` where the port cannot be had."""
    server_log = logging.getLogger(f"{__name__}.server")
    server_log.addFilter(_is_no_malformed_request)
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=server_log,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        handle_signals=False,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{shown}:{bound[1]}"
    finally:
        await runner.cleanup()


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


def _json(answer: object, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    headers = {"Content-Type": content_type, "Cache-Control": "no-cache"}
    return web.Response(body=msgspec.json.encode(answer), status=status, headers=headers)


def _problem(problem: Problem) -> web.Response:
    return _json(problem, status=problem.status, content_type="application/problem+json")


def _is_no_malformed_request(record: logging.LogRecord) -> bool:
    """Keep tracebacks out of the log that anybody could fill it with; aiohttp has answered such a request with 400."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _whole(request: web.Request, name: str, default: int, lowest: int, highest: int) -> int:
    """Read a whole number from the query; raises `ProblemFound` for anything else, or one out of bounds."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ProblemFound(400, f"{name} must be a whole number from {lowest} to {highest}")
    value = int(text)
    if not lowest <= value <= highest:
        raise ProblemFound(400, f"{name} must be from {lowest} to {highest}, not {value}")
    return value
