"""Boards in the terminal, as a running daemon serves them: a table for people, lines for programs.

What lives here: asking over HTTP, and showing. What must not: how a board is kept (scoreboard.py), or a flag (cli.py).
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from tweetboard.answers import Problem
from tweetboard.api import BoardAnswer, Index, Readiness
from tweetboard.board.windows import ALL
from tweetboard.errors import BoardsUnavailable
from tweetboard.trust import trusted, wants_tls

WATCH_S: Final = 1.0
"""A watched board is asked for so often; one that is as it was is not sent again."""

TIMEOUT_S: Final = 5.0

T = TypeVar("T")

SPARKS: Final = "▁▂▃▄▅▆▇█"
SPARK_CHARS: Final = 20


@dataclass(frozen=True)
class View:
    """What is to be seen: of which boards (none: all there are) which scores, and how many rows."""

    boards: Sequence[str]
    window: str = ALL
    limit: int = 10


class Boards:
    """The boards that a daemon serves, read through `client`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._known: dict[str, tuple[str, BoardAnswer]] = {}

    async def read(self, view: View) -> list[BoardAnswer]:
        """Read what is to be seen; raises `BoardsUnavailable` with what is in the way."""
        names = view.boards
        if not names:
            known = self._decoded(await self._get("/boards"), Index).boards
            names = [name for name, link in known.items() if view.window in link.windows] or list(known)
        return [await self._board(name, view) for name in names]

    async def readiness(self) -> Readiness:
        """Ask how each part of the daemon does; raises `BoardsUnavailable` where nobody says."""
        return self._decoded(await self._get("/readyz", also=(503,)), Readiness)

    async def _board(self, name: str, view: View) -> BoardAnswer:
        path = f"/{quote(name, safe='')}?window={quote(view.window)}&limit={view.limit}&history=1"
        etag, before = self._known.get(path, ("", None))
        body = await self._get(path, etag)
        if body or before is None:
            before = self._decoded(body, BoardAnswer)
            self._known[path] = (self._etag, before)
        return before

    def _decoded(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise BoardsUnavailable(f"{self._client.base_url}: what answers there is no tweetboard: {error}") from error

    async def _get(self, path: str, etag: str = "", also: Sequence[int] = ()) -> bytes:
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):  # for all of an answer that comes bit by bit, or never ends
                response = await self._client.get(path, headers={"If-None-Match": etag} if etag else {})
        except (httpx.HTTPError, TimeoutError) as error:
            told = f"{error}" or type(error).__name__
            where = self._client.base_url
            raise BoardsUnavailable(f"nobody serves boards at {where}: {told}; --from URL says where") from error
        self._etag = response.headers.get("ETag", "")
        if response.status_code >= 400 and response.status_code not in also:
            raise BoardsUnavailable(f"{self._client.base_url}: {_refusal(response)}")
        return response.content


@asynccontextmanager
async def boards_at(address: str) -> AsyncIterator[Boards]:
    """Open the boards served at an address, such as http://127.0.0.1:8080; that of a board will do too.

    A path that ends in a slash is one of a proxy's, below which they are.
    """
    if "://" not in address:
        address = f"http://{address}"
    parts = urlsplit(address)
    path = parts.path if parts.path.endswith("/") else ""
    tls = trusted() if wants_tls(address) else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    base_url = f"{parts.scheme}://{parts.netloc}{path}"
    async with httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_S, verify=tls) as client:
        yield Boards(client)


async def show(boards: Boards, view: View, *, as_json: bool = False) -> None:
    """Print boards once: as tables on a terminal, else as lines."""
    answers = await boards.read(view)
    if as_json or not sys.stdout.isatty():
        _write(answers, as_json=as_json)
    else:
        Console(emoji=False).print(_tables(answers))


async def watch(boards: Boards, view: View, *, as_json: bool = False) -> None:
    """Show boards until cancelled: tables that change in their place, or lines each time that something has changed.

    What fails at first fails at once; later on it is said, and tried again.
    """
    first = await boards.read(view)
    if not as_json and sys.stdout.isatty():
        with Live(_tables(first), console=Console(emoji=False), auto_refresh=False) as live:
            async for answers, trouble in _later(boards, view, first):
                live.update(Group(_tables(answers), escape(trouble)), refresh=True)
    else:
        _write(first, as_json=as_json)
        written, told = first, ""
        async for answers, trouble in _later(boards, view, first):
            _write([one for one in answers if one not in written], as_json=as_json)
            if trouble and not told:
                sys.stderr.write(f"tweetboard: {trouble}\n")
            written, told = answers, trouble


async def _later(
    boards: Boards, view: View, answers: list[BoardAnswer]
) -> AsyncIterator[tuple[list[BoardAnswer], str]]:
    """Yield what boards are each time, as they were before where they cannot be read, and why they cannot."""
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            answers, trouble = await boards.read(view), ""
        except BoardsUnavailable as error:
            trouble = str(error)
        yield answers, trouble


def sparkline(history: Sequence[int], chars: int = SPARK_CHARS) -> str:
    """Draw counts as a line of bars, the highest as high as can be, in so many characters at most."""
    each = -(-len(history) // chars) or 1
    sums = [sum(history[max(end - each, 0) : end]) for end in range(len(history), 0, -each)][::-1]
    highest = max(sums, default=0)
    return "".join(SPARKS[-(-count * (len(SPARKS) - 1) // highest)] if highest else SPARKS[0] for count in sums)


def _tables(answers: Sequence[BoardAnswer]) -> Group:
    return Group(*map(_table, answers))


def _table(answer: BoardAnswer) -> Table:
    names = f"{answer.total:,} {'name' if answer.total == 1 else 'names'}"
    table = Table(title=f"{answer.board} ({answer.window}, {names})", title_justify="left")
    for column in ("rank", "", "name", "score", ""):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left", overflow="fold")
    for row in answer.results:
        history = sparkline(row.history) if isinstance(row.history, list) else ""
        table.add_row(str(row.rank), _arrow(row.change), escape(row.display), f"{row.score:,}", history)
    return table


def _arrow(change: object) -> str:
    if not isinstance(change, int):
        return "new" if change == "new" else ""
    return "" if change == 0 else f"▲{change}" if change > 0 else f"▼{-change}"


def _write(answers: Sequence[BoardAnswer], *, as_json: bool) -> None:
    """Write an answer a line, or a row a line: board, rank, score and name, with tabs between them."""
    for answer in answers:
        if as_json:
            sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        else:
            for row in answer.results:
                sys.stdout.write(f"{answer.board}\t{row.rank}\t{row.score}\t{row.display}\n")
    sys.stdout.flush()


def _refusal(response: httpx.Response) -> str:
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.MsgspecError:
        return f"HTTP {response.status_code}"
    return f"{problem.title}: {problem.detail}" if problem.detail else problem.title
