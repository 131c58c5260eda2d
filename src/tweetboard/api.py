"""The boards over HTTP (DESIGN section 5): aiohttp handlers that read a board and say it in JSON.

What lives here: routes, parameters, answers. What must not: how a board is kept (scoreboard.py), how an answer is
encoded (answers.py), sockets (serving.py).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import HttpVersion11, web

from tweetboard.answers import (
    Encoded,
    Problem,
    ProblemFound,
    Remembered,
    encoded,
    respond,
    respond_json,
    respond_problem,
)
from tweetboard.board.rows import Row
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import ALL
from tweetboard.errors import StoreError, StoreUnavailable
from tweetboard.live import MAX_PAGES as MAX_WATCHED_PAGES
from tweetboard.live import Live, Viewer
from tweetboard.serving import Hosts

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 10**9
MAX_AROUND: Final = 100
MAX_WATCHED: Final = 100
"""Rows of a page that is watched, for each change sends all of them."""

MAX_PAGES: Final = 1_000
"""Queries that are understood already, as they stand in an address: most who ask ask the same."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class BoardAnswer(msgspec.Struct, frozen=True):
    """What `GET /<board>` answers; `total` counts the names on the board in that window.

    Every score in it can be too low by `max_error` at most, which is 0 until names have been let go.
    """

    board: str
    window: str
    total: int
    as_of: str
    max_error: int | float
    results: list[Row]


class NameAnswer(Row, frozen=True, kw_only=True, omit_defaults=True):
    """What `GET /<board>/<name>` answers: its row, and in `around` the rows about it, its own among them."""

    board: str
    window: str
    total: int
    as_of: str
    max_error: int | float
    around: list[Row]


class BoardLink(msgspec.Struct, frozen=True):
    """Where a board is, and what may be asked for as its `window`."""

    url: str
    windows: list[str]


class Index(msgspec.Struct, frozen=True):
    """What `GET /boards` answers."""

    demo: bool
    boards: dict[str, BoardLink]


class Health(msgspec.Struct, frozen=True):
    """What `GET /healthz` answers, by which it shows that the event loop turns."""

    status: str = "alive"


class Part(msgspec.Struct, frozen=True):
    """One part of the daemon in `/readyz`: whether it works, and if not, why."""

    ok: bool
    detail: str


class Readiness(msgspec.Struct, frozen=True):
    """What `GET /readyz` answers; `status` is "ready" where every part works."""

    status: str
    parts: dict[str, Part]


class State(msgspec.Struct, frozen=True):
    """What the event `state` says to whoever watches: whether every part works, and what is the matter with others."""

    ready: bool
    troubles: dict[str, str]


class Asked(NamedTuple):
    """What somebody wants to know of a board: a page, or of a name."""

    board: str
    window: str
    history: bool
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    name: str | None = None
    around: int = 0


class Api:
    """The routes over `boards`; `readiness` and `metrics` are asked anew for each request.

    Answers are counted by route and status in `requests`. Only requests to `hosts` are answered. `description` is the
    whole of it in OpenAPI.
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
        description: object = None,
    ) -> None:
        self._boards = boards
        self.live = Live(self._state)
        for board in boards.values():
            board.on_change = self.live.changed
        self._description = encoded(description)
        self._readiness = readiness
        self._metrics = metrics
        self._demo = demo
        self._remembered = Remembered()
        self._pages: dict[tuple[str, str], Asked] = {}
        self._requests = requests
        self._hosts = Hosts(hosts)

    def application(self) -> web.Application:
        """Build the aiohttp application."""
        application = web.Application(middlewares=[self._answer])
        routes: dict[str, Handler] = {
            "/": self._index,
            "/boards": self._index,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }
        routes |= {"/metrics": self._prometheus, "/openapi.json": self._openapi}
        for name in self._boards:
            routes |= {f"/{name}": partial(self._board, name), f"/{name}/{{name:.+}}": partial(self._name, name)}
            routes |= {f"/events/{name}": partial(self._events, name)}
        for path, handler in routes.items():
            application.router.add_get(path, handler)
        application.cleanup_ctx.append(self._telling)
        application.on_shutdown.append(self._let_go)
        return application

    async def _telling(self, _: web.Application) -> AsyncIterator[None]:
        """Tell viewers what is new, as long as there is an application."""
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self.live.run(), name="live")
            yield
            telling.cancel()

    def _state(self) -> State:
        troubles = {name: part.detail for name, part in self._readiness().items() if not part.ok}
        return State(not troubles, troubles)

    async def _let_go(self, _: web.Application) -> None:
        self.live.close()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn every failure into a problem document, and count every answer by its route."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        response: web.StreamResponse
        try:
            self._hosts.check(request)
            response = await handler(request)
        except ProblemFound as found:
            response = respond_problem(found.problem)
        except StoreUnavailable as error:
            response = respond_problem(Problem("Service Unavailable", 503, str(error)))
            response.headers["Retry-After"] = "1"
        except StoreError as error:
            response = respond_problem(Problem("Internal Server Error", 500, str(error)))
        except web.HTTPException as error:
            detail = f"{request.method} {request.path}" if error.status < 500 else ""
            if error.status == HTTPStatus.NOT_FOUND:
                detail += f": there are {', '.join(f'/{name}' for name in ['boards', *self._boards])}"
            response = respond_problem(Problem(error.reason, error.status, detail))
            if allow := error.headers.get("Allow"):
                response.headers["Allow"] = allow
        except Exception:
            log.exception("GET %s failed", route)
            response = respond_problem(Problem("Internal Server Error", 500))
        response.headers["X-Content-Type-Options"] = "nosniff"
        self._requests[route, str(response.status)] += 1
        return response

    async def _index(self, request: web.Request) -> web.Response:
        origin = request.url.origin()
        links = {name: BoardLink(f"{origin}/{name}", board.kept.names) for name, board in self._boards.items()}
        return respond_json(Index(self._demo, links))

    async def _healthz(self, _: web.Request) -> web.Response:
        return respond_json(Health())

    async def _readyz(self, _: web.Request) -> web.Response:
        parts = self._readiness()
        ready = all(part.ok for part in parts.values())
        return respond_json(Readiness("ready" if ready else "not ready", parts), status=200 if ready else 503)

    async def _prometheus(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics(), headers=headers)

    async def _openapi(self, request: web.Request) -> web.Response:
        return respond(request, self._description)

    async def _board(self, name: str, request: web.Request) -> web.Response:
        board, query = self._boards[name], request.query_string
        if (asked := self._pages.get((name, query))) is None:
            _check_known(request, "limit", "offset", "window", "history")
            limit = _whole(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
            offset = _whole(request, "offset", 0, 0, MAX_OFFSET)
            asked = Asked(board.name, *_scores(request, board), limit=limit, offset=offset)
            if len(self._pages) < MAX_PAGES:
                self._pages[name, query] = asked
        return respond(request, await self._remembered_answer(board, asked, self._read_page))

    async def _name(self, board_name: str, request: web.Request) -> web.Response:
        board = self._boards[board_name]
        _check_known(request, "around", "window", "history")
        around = _whole(request, "around", 0, 0, MAX_AROUND)
        raw = request.rel_url.raw_path.lstrip("/").partition("/")[2]
        try:
            name = board.identity(unquote_to_bytes(raw).decode())
        except UnicodeDecodeError as error:
            raise ProblemFound(400, "what the path has for a name is no UTF-8") from error
        if not name:
            raise ProblemFound(404, "what the path has for a name can be none: it is empty, or too long")
        asked = Asked(board.name, *_scores(request, board), name=name, around=around)
        return respond(request, await self._remembered_answer(board, asked, self._read_name))

    async def _events(self, name: str, request: web.Request) -> web.StreamResponse:
        board = self._boards[name]
        _check_known(request, "limit", "window", "history")
        limit = _whole(request, "limit", DEFAULT_LIMIT, 1, MAX_WATCHED)
        asked = Asked(board.name, *_scores(request, board), limit=limit)
        if not self.live.takes(asked):
            raise ProblemFound(
                503, f"{MAX_WATCHED_PAGES} different pages are watched already: ask for one of them, or later"
            )
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform"}
        response = web.StreamResponse(
            headers=headers | {"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
        )
        await response.prepare(request)
        if request.method == "GET" and (transport := request.transport) is not None:
            in_chunks = request.version >= HttpVersion11
            viewer = Viewer(transport, in_chunks, asyncio.get_running_loop().create_future())
            read = partial(self._remembered_answer, board, asked, self._read_page)
            await self.live.show(asked, read, viewer, request.headers.get("Last-Event-ID", ""))
        return response

    async def _remembered_answer(
        self, board: Scoreboard, asked: Asked, read: Callable[[Scoreboard, Asked], Awaitable[Encoded]]
    ) -> Encoded:
        """Give an answer that everybody who asks the same is given."""

        def version() -> Hashable:
            return board.version(asked.window)

        if (answer := self._remembered.fresh(asked, version)) is not None:
            return answer

        return await self._remembered.get(asked, version, partial(read, board, asked))

    async def _read_page(self, board: Scoreboard, asked: Asked) -> Encoded:
        page = await board.top(offset=asked.offset, limit=asked.limit, window=asked.window, history=asked.history)
        moment = _now()
        answer = BoardAnswer(board.name, asked.window, page.total, moment, page.lacking, page.rows)
        return encoded(answer, moment)

    async def _read_name(self, board: Scoreboard, asked: Asked) -> Encoded:
        name = asked.name or ""
        row, page = await board.near(name, around=asked.around, window=asked.window, history=asked.history)
        if row is None:
            where = "" if asked.window == ALL else f" in the window {asked.window}"
            raise ProblemFound(404, f"{name!r} is not on the board {board.name}{where}")
        moment = _now()
        answer = NameAnswer(
            **msgspec.structs.asdict(row),
            board=board.name,
            window=asked.window,
            total=page.total,
            as_of=moment,
            max_error=page.lacking,
            around=page.rows,
        )
        return encoded(answer, moment)


def _now() -> str:
    second, ms = divmod(time.time_ns() // 1_000_000, 1_000)
    return f"{_second(second)}.{ms:03}Z"


@lru_cache(maxsize=2)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _check_known(request: web.Request, *names: str) -> None:
    """Raise `ProblemFound` for a parameter that there is not, or that stands there twice."""
    query = request.query
    if unknown := [name for name in query if name not in names]:
        known = f"{', '.join(names[:-1])} and {names[-1]}"
        raise ProblemFound(400, f"unknown parameter {min(unknown)!r}: there are {known}")
    if twice := [name for name in query if len(query.getall(name)) > 1]:
        raise ProblemFound(400, f"{twice[0]} stands there more than once")


def _scores(request: web.Request, board: Scoreboard) -> tuple[str, bool]:
    """Read which scores are asked for, and whether with their history. Raises `ProblemFound`."""
    window = request.query.get("window", ALL)
    if window not in board.kept.names:
        raise ProblemFound(400, f"window {window!r} is not one of: {', '.join(board.kept.names)}")
    history = request.query.get("history", "0")
    if history not in ("0", "1"):
        raise ProblemFound(400, f"history must be 0 or 1, not {history!r}")
    return window, history == "1"


def _whole(request: web.Request, name: str, default: int, lowest: int, highest: int) -> int:
    """Read a whole number from the query; raises `ProblemFound` for anything else, or one out of bounds."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ProblemFound(400, f"{name} must be a whole number from {lowest} to {highest}")
    value = int(text)
    if not lowest <= value <= highest:
        raise ProblemFound(400, f"{name} must be from {lowest} to {highest}, not {value}")
    return value
