"""The API described in OpenAPI 3.1, made from the types that its answers are made of. Pure.

What must not come here: how an answer comes about (api.py). A route is described by hand; a test holds that against the
routes there are.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tweetboard import __version__
from tweetboard.answers import PROBLEM_TYPE, Problem
from tweetboard.api import BoardAnswer, Health, Index, NameAnswer, Readiness, Search, State
from tweetboard.asked import DEFAULT_LIMIT, MAX_AROUND, MAX_LIMIT, MAX_OFFSET, MAX_WATCHED
from tweetboard.board.windows import ALL, Kept

Described = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_TYPES: Final = (BoardAnswer, NameAnswer, Search, State, Index, Health, Readiness, Problem)


_EVENTS: Final[Described] = {
    "description": "Events: those without a name are a `BoardAnswer` each, those called `state` a `State`.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}

_LAST_SEEN: Final[Described] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that came: what it said is not said again.",
    "schema": {"type": "string"},
}


def _parameter(name: str, schema: Described, text: str) -> Described:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _whole(name: str, lowest: int, highest: int, default: int, text: str) -> Described:
    return _parameter(name, {"type": "integer", "minimum": lowest, "maximum": highest, "default": default}, text)


_HISTORY: Final = _parameter(
    "history", {"enum": [0, 1], "default": 0}, "1: with each row its counts by bucket of time."
)
_WHOM: Final = {
    **_parameter("name", {"type": "string"}, "In any spelling; what can be no name is found nowhere."),
    "required": True,
}
_AROUND: Final = _whole("around", 0, MAX_AROUND, 0, "How many rows on each side of the name.")
_WATCHED: Final = _whole("limit", 1, MAX_WATCHED, DEFAULT_LIMIT, "How many rows.")


def openapi(boards: Mapping[str, Kept]) -> Described:
    """Describe the API of these boards."""
    _, components = msgspec.json.schema_components(_TYPES, ref_template=_REF)
    paths: Described = {
        "/boards": {"get": _operation("Which boards there are", _json(Index))},
        "/healthz": {"get": _operation("Whether the process is alive", _json(Health))},
        "/readyz": {"get": _operation("Whether every part works", _json(Readiness), also={"503": _json(Readiness)})},
        "/metrics": {"get": _operation("Metrics for Prometheus", _other("text/plain", "string"))},
        "/search": {
            "get": _operation("One name on several boards", _json(Search), [_WHOM, _AROUND, _which(boards), _HISTORY])
        },
        "/events": {
            "get": _operation(
                "Several boards whenever they change",
                _EVENTS,
                [_which(boards), _WATCHED, _HISTORY, _LAST_SEEN],
            )
        },
        "/openapi.json": {"get": _operation("This description", _other("application/json", "object"))},
    }
    for name, kept in boards.items():
        paths |= _board(name, kept)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tweetboard",
            "version": __version__,
            "summary": "Live, exactly counted leaderboards from a stream of posts.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _board(name: str, kept: Kept) -> Described:
    shared = [
        _parameter("window", {"enum": kept.names, "default": ALL}, "Which scores: of all time, of a window, trending."),
        _HISTORY,
    ]
    page = [
        _whole("limit", 1, MAX_LIMIT, DEFAULT_LIMIT, "How many rows."),
        _whole("offset", 0, MAX_OFFSET, 0, "How many rows to pass over."),
    ]
    who = {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "As the board spells it; hashtags in any spelling.",
        "schema": {"type": "string", "minLength": 1},
    }
    unchanged = {"304": {"description": "What the request's If-None-Match names still holds."}}
    missing = {"404": _problem("The name is not on the board.")}
    return {
        f"/{name}": {"get": _operation(f"The board {name} from the top", _json(BoardAnswer), page + shared, unchanged)},
        f"/events/{name}": {
            "get": _operation(f"The board {name} whenever it changes", _EVENTS, [_WATCHED, *shared, _LAST_SEEN])
        },
        f"/{name}/{{name}}": {
            "get": _operation(
                f"One name on the board {name}", _json(NameAnswer), [who, _AROUND, *shared], unchanged | missing
            )
        },
    }


def _which(boards: Mapping[str, Kept]) -> Described:
    names = [*boards, *(f"{name}:{window}" for name, kept in boards.items() for window in kept.names)]
    schema = {"type": "array", "items": {"enum": names}, "uniqueItems": True, "minItems": 1, "default": list(boards)}
    text = "Which, each perhaps with a window; without one its scores are those of all time."
    return {**_parameter("boards", schema, text), "style": "form", "explode": False}


def _operation(
    summary: str, answer: Described, parameters: Iterable[Described] = (), also: Mapping[str, Described] = {}
) -> Described:
    answers: Described = {
        "200": answer,
        "400": _problem("A parameter is wrong; `detail` says which."),
        "421": _problem("The request's Host is not one of ours."),
        "503": _problem("Redis is away; try again."),
        **also,
    }
    return {"summary": summary, "parameters": list(parameters), "responses": answers}


def _json(answer: type[msgspec.Struct]) -> Described:
    schema = {"$ref": _REF.format(name=answer.__name__)}
    return {"description": "What was asked for", "content": {"application/json": {"schema": schema}}}


def _other(media_type: str, schema: str) -> Described:
    return {"description": "What was asked for", "content": {media_type: {"schema": {"type": schema}}}}


def _problem(text: str) -> Described:
    schema = {"$ref": _REF.format(name=Problem.__name__)}
    return {"description": text, "content": {PROBLEM_TYPE: {"schema": schema}}}
