"""The boards over HTTP (DESIGN section 5): aiohttp handlers that read a board and say it in JSON.

What lives here: routes, parameters, answers. What must not: how a board is kept (scoreboard.py), how an answer is
encoded (answers.py), sockets (serving.py).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import HttpVersion11, web

from tweetboard import __version__, page
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
from tweetboard.asked import DEFAULT_LIMIT, Asked, name_asked, page_asked, search_asked, watch_asked, watches_asked
from tweetboard.board.rows import Row
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import ALL
from tweetboard.clients import MAX_VIEWERS, Clients, Hosts
from tweetboard.errors import StoreError, StoreUnavailable
from tweetboard.feed import Condition
from tweetboard.live import MAX_PAGES as MAX_WATCHED_PAGES
from tweetboard.live import Live, Viewer

MAX_PAGES: Final = 1_000
"""Queries that are understood already, as they stand in an address: most who ask ask the same."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class BoardAnswer(msgspec.Struct, frozen=True):
    """What `GET /<board>` answers; `total` counts the names on the board in that window.

    Every score in it can be too low by `max_error` at most, which is 0 until names have been let go. Where `ranked` is
    given, pages end behind so many names.
    """

    board: str
    window: str
    total: int
    as_of: str
    max_error: int | float
    results: list[Row]
    ranked: int | msgspec.UnsetType = msgspec.UNSET


class NameAnswer(Row, frozen=True, kw_only=True, omit_defaults=True):
    """What `GET /<board>/<name>` answers: its row, and in `around` the rows about it, its own among them.

    `rank` is null where only the leaders have one and the name is none of them: so many as `below` says stand above it,
    or more.
    """

    board: str
    window: str
    total: int
    as_of: str
    max_error: int | float
    around: list[Row]


class Search(msgspec.Struct, frozen=True):
    """What `GET /search` answers: the name on each board that has it."""

    found: list[NameAnswer]


class BoardLink(msgspec.Struct, frozen=True):
    """Where a board is, beside this answer; its `windows`; and the `sign` to show before its names, if any.

    `half_life_s` is in how many seconds trending scores fade by half, 0 where there are none.
    """

    url: str
    windows: list[str]
    sign: str
    half_life_s: int


class Index(msgspec.Struct, frozen=True):
    """What `GET /boards` answers."""

    demo: bool
    boards: dict[str, BoardLink]


class Health(msgspec.Struct, frozen=True):
    """What `GET /healthz` answers, by which it shows that the event loop turns."""

    status: str = "alive"


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of the daemon in `/readyz`: whether it works, how it goes, and how long ago it last did something."""

    ok: bool
    detail: str
    age_s: float | None = None


class Readiness(msgspec.Struct, frozen=True):
    """What `GET /readyz` answers; `status` is "ready" where every part works."""

    status: str
    parts: dict[str, Part]


class State(msgspec.Struct, frozen=True):
    """What the event `state` says to whoever watches: how each stream does, and what is the matter with other parts."""

    version: str
    ready: bool
    streams: dict[str, Condition]
    troubles: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class About:
    """What the daemon says of itself; asked anew for each request."""

    readiness: Callable[[], dict[str, Part]] = dict
    streams: Callable[[], dict[str, Condition]] = dict
    metrics: Callable[[], bytes] = bytes


class Api:
    """The routes over `boards`, and `about` the daemon that keeps them.

    Answers are counted by route and status in `requests`. Only requests to `hosts` are answered; who watches is counted
    among the `clients`. `description` is the whole of it in OpenAPI.
    """

    def __init__(
        self,
        boards: Mapping[str, Scoreboard],
        about: About,
        *,
        requests: Counter[tuple[str, str]],
        clients: Clients | None = None,
        hosts: Iterable[str] = (),
        demo: bool = False,
        description: object = None,
    ) -> None:
        self._boards = boards
        self.live = Live(self._state)
        for board in boards.values():
            board.on_change = self.live.changed
        self._description = encoded(description)
        self._about = about
        self._demo = demo
        self._remembered = Remembered()
        self._pages: dict[tuple[str, str], Asked] = {}
        self._requests = requests
        self._hosts = Hosts(hosts)
        self._clients = clients or Clients(MAX_VIEWERS)

    def application(self) -> web.Application:
        """Build the aiohttp application."""
        application = web.Application(middlewares=[self._answer])
        routes: dict[str, Handler] = {
            "/boards": self._index,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._prometheus,
            "/openapi.json": self._openapi,
            "/search": self._search,
            "/events": self._events,
        }
        for name in self._boards:
            routes |= {f"/{name}": partial(self._board, name), f"/{name}/{{name:.+}}": partial(self._name, name)}
            routes |= {f"/events/{name}": partial(self._events_of, name)}
        routes |= {path: partial(self._file, answer) for path, answer in page.files().items()}
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
        troubles = {name: part.detail for name, part in self._about.readiness().items() if not part.ok}
        return State(__version__, not troubles, self._about.streams(), troubles)

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
                known = ["boards", "search", "events", "openapi.json", *self._boards]
                detail += f": there are {', '.join(f'/{name}' for name in known)}"
            response = respond_problem(Problem(error.reason, error.status, detail))
            if allow := error.headers.get("Allow"):
                response.headers["Allow"] = allow
        except ConnectionError:
            raise  # whoever asked has gone
        except Exception:
            log.exception("GET %s failed", route)
            response = respond_problem(Problem("Internal Server Error", 500))
        self._requests[route, str(response.status)] += 1
        return response

    async def _file(self, answer: Encoded, request: web.Request) -> web.Response:
        response = respond(request, answer)
        response.headers.update(page.HEADERS)
        return response

    async def _index(self, _: web.Request) -> web.Response:
        links = {
            name: BoardLink(name, board.kept.names, board.sign, board.kept.half_life_s)
            for name, board in self._boards.items()
        }
        return respond_json(Index(self._demo, links))

    async def _healthz(self, _: web.Request) -> web.Response:
        return respond_json(Health())

    async def _readyz(self, _: web.Request) -> web.Response:
        parts = self._about.readiness()
        ready = all(part.ok for part in parts.values())
        return respond_json(Readiness("ready" if ready else "not ready", parts), status=200 if ready else 503)

    async def _prometheus(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._about.metrics(), headers=headers)

    async def _openapi(self, request: web.Request) -> web.Response:
        return respond(request, self._description)

    async def _board(self, name: str, request: web.Request) -> web.Response:
        board, query = self._boards[name], request.query_string
        if (asked := self._pages.get((name, query))) is None:
            asked = page_asked(request, board)
            if len(self._pages) < MAX_PAGES:
                self._pages[name, query] = asked
        return respond(request, await self._remembered_answer(board, asked, self._read_page))

    async def _name(self, board_name: str, request: web.Request) -> web.Response:
        board = self._boards[board_name]
        asked = name_asked(request, board)
        return respond(request, await self._remembered_answer(board, asked, self._read_name))

    async def _search(self, request: web.Request) -> web.Response:
        bodies = []
        for asked in search_asked(request, self._boards):
            with suppress(ProblemFound):
                answer = await self._remembered_answer(self._boards[asked.board], asked, self._read_name)
                bodies.append(answer.body.rstrip())
        return respond_json({"found": [msgspec.Raw(body) for body in bodies]})

    async def _events_of(self, name: str, request: web.Request) -> web.StreamResponse:
        return await self._watch(request, [watch_asked(request, self._boards[name])])

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self._watch(request, watches_asked(request, self._boards))

    async def _watch(self, request: web.Request, pages: Sequence[Asked]) -> web.StreamResponse:
        """Answer with pages as they change, for as long as they are watched."""
        with self._clients.watching(request):
            return await self._watched_by(request, pages)

    async def _watched_by(self, request: web.Request, pages: Sequence[Asked]) -> web.StreamResponse:
        unusual = [asked for asked in pages if asked.limit != DEFAULT_LIMIT or asked.history]
        if unusual and not self.live.takes(unusual):
            raise ProblemFound(
                503, f"{MAX_WATCHED_PAGES} different pages are watched already: ask for one of them, or later"
            )
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform"}
        response = web.StreamResponse(headers=headers | {"X-Accel-Buffering": "no"})
        await response.prepare(request)
        if request.method == "GET" and (transport := request.transport) is not None:
            in_chunks = request.version >= HttpVersion11
            viewer = Viewer(transport, in_chunks, asyncio.get_running_loop().create_future())
            reads = {
                asked: partial(self._remembered_answer, self._boards[asked.board], asked, self._read_page)
                for asked in pages
            }
            await self.live.show(reads, viewer, request.headers.get("Last-Event-ID", ""))
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
        found = await board.top(offset=asked.offset, limit=asked.limit, window=asked.window, history=asked.history)
        moment = _now()
        answer = BoardAnswer(board.name, asked.window, found.total, moment, found.lacking, found.rows, found.ranked)
        return encoded(answer, moment)

    async def _read_name(self, board: Scoreboard, asked: Asked) -> Encoded:
        name = asked.name or ""
        row, found = await board.near(name, around=asked.around, window=asked.window, history=asked.history)
        if row is None:
            where = "" if asked.window == ALL else f" in the window {asked.window}"
            raise ProblemFound(404, f"{name!r} is not on the board {board.name}{where}")
        moment = _now()
        answer = NameAnswer(
            **msgspec.structs.asdict(row),
            board=board.name,
            window=asked.window,
            total=found.total,
            as_of=moment,
            max_error=found.lacking,
            around=found.rows,
        )
        return encoded(answer, moment)


def _now() -> str:
    second, ms = divmod(time.time_ns() // 1_000_000, 1_000)
    return f"{_second(second)}.{ms:03}Z"


@lru_cache(maxsize=2)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
