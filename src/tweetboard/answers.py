"""What goes out over HTTP: JSON encoded once for everybody who asks for the same, with its tag, and compressed.

What lives here: problems, encoding, remembering. What must not: routes and what they answer (api.py).
"""

import asyncio
import gzip
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

FRESH_S: Final = 0.5
"""What another process does to a board is seen so soon; what this one does, at once."""

MAX_REMEMBERED: Final = 256
"""Answers kept to be given again, those asked for last."""

GZIP_BYTES: Final = 1_000
"""Below this a compressed answer fits into as many packets as a plain one."""

PROBLEM_TYPE: Final = "application/problem+json"
"""The media type of an error, as RFC 9457 has it."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as RFC 9457 has it."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"


class ProblemFound(Exception):
    """Ends a request with a problem document."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(HTTPStatus(status).phrase, status, detail)


@dataclass(frozen=True)
class Encoded:
    """An answer as it goes out; `etag` names what it says, without the moment at which it was read."""

    body: bytes
    etag: str
    media_type: str = "application/json"

    @cached_property
    def gzipped(self) -> bytes:
        """The body compressed, once for all who take it so."""
        return gzip.compress(self.body, compresslevel=6, mtime=0)


def encoded(answer: object, moment: str = "") -> Encoded:
    """Encode an answer; the `moment` that stands in it does not matter to somebody who has all else of it already."""
    body = _line(answer)
    says = body.replace(moment.encode(), b"", 1) if moment else body
    return Encoded(body, _tag(says))


def tagged(body: bytes, media_type: str) -> Encoded:
    """Make an answer of what stands in a file."""
    return Encoded(body, _tag(body), media_type)


@dataclass
class _Entry:
    version: Hashable = None
    read_at_s: float = -FRESH_S
    answer: Encoded | None = None
    failure: Exception | None = None
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def holds(self, version: Hashable) -> bool:
        """Whether the answer is still what would be read."""
        is_young = time.monotonic() - self.read_at_s < FRESH_S
        return self.answer is not None and is_young and self.version == version


class Remembered:
    """Answers by what was asked; each is made once, for all who ask meanwhile, until its version is another."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def fresh(self, asked: Hashable, version: Callable[[], Hashable]) -> Encoded | None:
        """Give the answer that still holds; None where there is none."""
        entry = self._entries.get(asked)
        return entry.answer if entry is not None and entry.holds(version()) else None

    async def get(
        self, asked: Hashable, version: Callable[[], Hashable], make: Callable[[], Awaitable[Encoded]]
    ) -> Encoded:
        """Give the answer to what was `asked`; `make` reads it anew where it may not hold any more.

        Where that fails, it has failed for all who wait.
        """
        entry = self._entries.setdefault(asked, _Entry())
        self._entries.move_to_end(asked)
        while len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)
        async with entry.reading:
            now_s, present = time.monotonic(), version()
            if entry.answer is not None and entry.holds(present):
                return entry.answer
            if entry.failure is not None:
                raise entry.failure
            try:
                entry.answer = await make()
            except BaseException as error:
                if self._entries.get(asked) is entry:
                    del self._entries[asked]  # what is asked for in vain takes no place
                if isinstance(error, Exception):
                    entry.failure = error
                raise
            entry.version, entry.read_at_s = present, now_s
            return entry.answer


def respond(request: web.Request, answer: Encoded) -> web.Response:
    """Answer with what is new to whoever asks, compressed where that is taken."""
    headers = {"ETag": f'W/"{answer.etag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    known = request.if_none_match if "If-None-Match" in request.headers else None
    if known is not None and any(tag.value in ("*", answer.etag) for tag in known):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = answer.media_type
    body = answer.body
    if len(body) >= GZIP_BYTES and _takes_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
        body = answer.gzipped
    return web.Response(body=body, headers=headers)


def respond_json(answer: object, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    """Answer with something that is true at this moment only."""
    headers = {"Content-Type": content_type, "Cache-Control": "no-cache"}
    return web.Response(body=_line(answer), status=status, headers=headers)


def respond_problem(problem: Problem) -> web.Response:
    """Answer with a problem document."""
    return respond_json(problem, status=problem.status, content_type=PROBLEM_TYPE)


def _tag(says: bytes) -> str:
    return hashlib.blake2b(says, digest_size=9).hexdigest()


def _line(answer: object) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header takes gzip: by its name where that is there, else by `*` (RFC 9110, 12.5.3)."""
    taken = dict[str, bool]()
    for one in accepted.lower().split(","):
        name, _, weight = one.partition(";")
        taken[name.strip()] = weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return taken.get("gzip", taken.get("x-gzip", taken.get("*", False)))
