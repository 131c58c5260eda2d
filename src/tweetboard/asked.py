"""What a request asks for: its path and parameters, each checked, and what is said of a wrong one.

What must not come here: answering (api.py).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from aiohttp import web

from tweetboard.answers import ProblemFound
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import ALL

DEFAULT_LIMIT: Final = 10
MAX_LIMIT: Final = 1000
MAX_OFFSET: Final = 10**9
MAX_AROUND: Final = 100
MAX_WATCHED: Final = 100
"""Rows of a page that is watched, for each change sends all of them."""


class Asked(NamedTuple):
    """What somebody wants to know of a board: a page, or of a name."""

    board: str
    window: str
    history: bool
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    name: str | None = None
    around: int = 0


def page_asked(request: web.Request, board: Scoreboard) -> Asked:
    """Read what is asked of a board as it stands. Raises `ProblemFound`, as all here do."""
    _check_known(request, "limit", "offset", "window", "history")
    limit = _whole(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    offset = _whole(request, "offset", 0, 0, MAX_OFFSET)
    return Asked(board.name, _window(request, board), _history(request), limit=limit, offset=offset)


def name_asked(request: web.Request, board: Scoreboard) -> Asked:
    """Read what is asked of one name on a board."""
    _check_known(request, "around", "window", "history")
    around = _whole(request, "around", 0, 0, MAX_AROUND)
    raw = request.rel_url.raw_path.lstrip("/").partition("/")[2]
    try:
        name = board.identity(unquote_to_bytes(raw).decode())
    except UnicodeDecodeError as error:
        raise ProblemFound(400, "what the path has for a name is no UTF-8") from error
    if not name:
        raise ProblemFound(404, "what the path has for a name can be none: it is empty, or too long")
    return Asked(board.name, _window(request, board), _history(request), name=name, around=around)


def watch_asked(request: web.Request, board: Scoreboard) -> Asked:
    """Read what is asked of a board that is to be watched."""
    _check_known(request, "limit", "window", "history")
    limit = _whole(request, "limit", DEFAULT_LIMIT, 1, MAX_WATCHED)
    return Asked(board.name, _window(request, board), _history(request), limit=limit)


def watches_asked(request: web.Request, boards: Mapping[str, Scoreboard]) -> list[Asked]:
    """Read which boards are to be watched together."""
    _check_known(request, "boards", "limit", "history")
    limit, history = _whole(request, "limit", DEFAULT_LIMIT, 1, MAX_WATCHED), _history(request)
    return [Asked(board.name, window, history, limit=limit) for board, window in _several(request, boards)]


def search_asked(request: web.Request, boards: Mapping[str, Scoreboard]) -> list[Asked]:
    """Read which name is searched for on which boards; without those on which it can be none."""
    _check_known(request, "name", "boards", "around", "history")
    if "name" not in request.query:
        raise ProblemFound(400, "name is missing: whom to search for")
    around, history = _whole(request, "around", 0, 0, MAX_AROUND), _history(request)
    return [
        Asked(board.name, window, history, name=name, around=around)
        for board, window in _several(request, boards)
        if (name := board.identity(request.query["name"]))
    ]


def _several(request: web.Request, boards: Mapping[str, Scoreboard]) -> list[tuple[Scoreboard, str]]:
    """Read `boards=usernames:5m,hashtags`: which, and what scores of each; by default all, and those of all time."""
    found = {}
    for one in request.query.get("boards", ",".join(boards)).split(","):
        name, _, window = one.partition(":")
        if (board := boards.get(name)) is None:
            raise ProblemFound(400, f"boards: {name!r} is not one of: {', '.join(boards)}")
        found[name, window or ALL] = board
    return [(board, _window_of(board, window)) for (_, window), board in found.items()]


def _check_known(request: web.Request, *names: str) -> None:
    """Refuse a parameter that there is not, or that stands there twice."""
    query = request.query
    if unknown := [name for name in query if name not in names]:
        known = f"{', '.join(names[:-1])} and {names[-1]}"
        raise ProblemFound(400, f"unknown parameter {min(unknown)!r}: there are {known}")
    if twice := [name for name in query if len(query.getall(name)) > 1]:
        raise ProblemFound(400, f"{twice[0]} stands there more than once")


def _window(request: web.Request, board: Scoreboard) -> str:
    return _window_of(board, request.query.get("window", ALL))


def _window_of(board: Scoreboard, window: str) -> str:
    if window not in board.kept.names:
        raise ProblemFound(400, f"window {window!r} is not one of: {', '.join(board.kept.names)}")
    return window


def _history(request: web.Request) -> bool:
    history = request.query.get("history", "0")
    if history not in ("0", "1"):
        raise ProblemFound(400, f"history must be 0 or 1, not {history!r}")
    return history == "1"


def _whole(request: web.Request, name: str, default: int, lowest: int, highest: int) -> int:
    """Read a whole number from the query."""
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ProblemFound(400, f"{name} must be a whole number from {lowest} to {highest}")
    value = int(text)
    if not lowest <= value <= highest:
        raise ProblemFound(400, f"{name} must be from {lowest} to {highest}, not {value}")
    return value
