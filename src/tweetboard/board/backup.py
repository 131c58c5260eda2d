"""A board as lines of JSON, out of Redis and into it again, also while it is counted on.

What lives here: the lines' shape; copying a board in one step, and putting one in another's place in one. What must
not: files and flags (cli.py), or the steps inside Redis (scoreboard.lua).
"""

import itertools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Final, TypeVar, cast

import msgspec

from tweetboard.board.scoreboard import Replacement, Scoreboard, load, replace
from tweetboard.errors import ConfigurationError, StoreRefused
from tweetboard.store import Store

VERSION: Final = 1

CHUNK_NAMES: Final = 4_000
"""So many names are read or written at once, which takes Redis some milliseconds."""

TEMPORARY_S: Final = 3_600
"""A copy that nobody has taken away is gone after so long."""

L = TypeVar("L", bound=msgspec.Struct)


class Head(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The first line of a board: how many lines of names follow, and up to which batch of each stream they count.

    A score can be too low by `max_error` at most, as in the API.
    """

    tweetboard: int
    board: str
    names: Annotated[int, msgspec.Meta(ge=0)]
    applied: dict[str, int] = {}
    max_error: Annotated[int, msgspec.Meta(ge=0)] = 0


class Name(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One name's line; `spellings` says how often each was met, where there are several."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    score: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    display: str = ""
    spellings: dict[str, int] = {}


async def exported(store: Store, board: Scoreboard) -> AsyncGenerator[bytes, None]:
    """Yield a board's lines, all of one moment. Raises `StoreError`."""
    async with _temporary(store) as copies:
        total, lacking, applied = await board.copy(copies, TEMPORARY_S)
        yield _line(Head(VERSION, board.name, total, applied, lacking))
        read = 0
        async for flat in _scores(store, copies[0], copies[3]):
            for key in copies:
                await store.execute("EXPIRE", key, TEMPORARY_S)
            names = flat[::2]
            read += len(names)
            shown = cast("list[bytes | None]", await store.execute("HMGET", copies[1], *names))
            seen = cast("list[bytes | None]", await store.execute("HMGET", copies[2], *names))
            for name, score, display, spellings in zip(names, flat[1::2], shown, seen, strict=True):
                yield _line(
                    Name(
                        name.decode("utf-8", "replace"),
                        int(float(score)),
                        "" if display is None else display.decode("utf-8", "replace"),
                        {} if spellings is None else msgspec.json.decode(spellings, type=dict[str, int]),
                    )
                )
        if read != total:
            raise StoreRefused(f"redis at {store.address} has lost the copy of {board.name} before it was read whole")


async def _scores(store: Store, leaders: str, rest: str) -> AsyncGenerator[list[bytes], None]:
    """Yield names and scores by turns, out of a sorted set from the top down, then out of a hash, which is emptied.

    What has been read is deleted, for a scan may come by the same name twice.
    """
    for first in itertools.count(0, CHUNK_NAMES):
        flat = await store.execute("ZREVRANGE", leaders, first, first + CHUNK_NAMES - 1, "WITHSCORES")
        if not flat:
            break
        yield cast("list[bytes]", flat)
    cursor = 0
    while True:
        reply = await store.execute("HSCAN", rest, cursor, "COUNT", CHUNK_NAMES)
        cursor, scores = cast("tuple[int, dict[bytes, bytes]]", reply)
        if scores:
            yield list(itertools.chain.from_iterable(scores.items()))
            await store.execute("HDEL", rest, *scores)
        if not cursor:
            break


async def imported(store: Store, boards: dict[str, Scoreboard], lines: Iterable[bytes], source: str) -> dict[str, int]:
    """Put the boards that `lines` hold in the place of those that are there; returns each one's number of names.

    All of them are replaced in one step, when all lines have been read, and count on from what is applied in this
    Redis. Windows and trending scores begin empty. Raises `ConfigurationError` with the number of the line of `source`
    that is wrong, and `StoreError`; no board is touched then.
    """
    numbered = enumerate(lines, 1)
    async with AsyncExitStack() as stack:
        ready = dict[str, Replacement]()
        for number, line in numbered:
            head = _decoded(line, Head, source, number)
            if head.tweetboard != VERSION:
                raise ConfigurationError(
                    f"{source}:{number}: version {head.tweetboard} is not {VERSION}, which is known"
                )
            if head.board not in boards:
                told = f"there is no board {head.board!r} in the settings, but {', '.join(boards)}"
                raise ConfigurationError(f"{source}:{number}: {told}")
            if head.board in ready:
                raise ConfigurationError(f"{source}:{number}: {head.board} stands there twice")
            copies = await stack.enter_async_context(_temporary(store))
            sizes = await _load(store, copies[:3], _names(numbered, head, source))
            ready[head.board] = Replacement(boards[head.board], copies[:3], sizes, head.max_error)
        if not ready:
            raise ConfigurationError(f"{source}: holds no board")
        if not await replace(store, list(ready.values())):
            raise StoreRefused(f"redis at {store.address} has lost what came from {source}; no board was changed")
    return {name: one.sizes[0] for name, one in ready.items()}


async def _load(store: Store, copies: list[str], names: Iterator[Name]) -> tuple[int, int, int]:
    """Put names into three keys of ours; returns how much is in each."""
    total = displays = spellings = 0
    while chunk := list(itertools.islice(names, CHUNK_NAMES)):
        total += len(chunk)
        displays += sum(one.display != "" for one in chunk)
        spellings += sum(one.spellings != {} for one in chunk)
        rows = [(one.name, one.score, one.display, _encoded(one.spellings)) for one in chunk]
        await load(store, copies, rows, TEMPORARY_S)
    return total, displays, spellings


def _encoded(spellings: dict[str, int]) -> str:
    return msgspec.json.encode(spellings).decode() if spellings else ""


def _names(numbered: Iterator[tuple[int, bytes]], head: Head, source: str) -> Iterator[Name]:
    """Take the lines of one board; raises `ConfigurationError` for one that is none, or missing."""
    known = set[str]()
    for _ in range(head.names):
        number, line = next(numbered, (0, b""))
        if not number:
            raise ConfigurationError(f"{source}: ends before all {head.names} names of {head.board} have come")
        name = _decoded(line, Name, source, number)
        if name.name in known:
            raise ConfigurationError(f"{source}:{number}: {name.name!r} stands there twice")
        known.add(name.name)
        yield name


def _decoded(line: bytes, kind: type[L], source: str, number: int) -> L:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        what = "the first line of a board" if kind is Head else "a name's line"
        raise ConfigurationError(f"{source}:{number}: this is not {what}: {error}") from error


@asynccontextmanager
async def _temporary(store: Store) -> AsyncIterator[list[str]]:
    """Give four keys that nobody else has: for scores, two hashes, and other scores; what is there at the end goes."""
    token = secrets.token_hex(8)
    keys = [store.key(f"tweetboard:copy:{token}:{part}") for part in ("scores", "shown", "seen", "rest")]
    try:
        yield keys
    finally:
        await store.execute("UNLINK", *keys)


def _line(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"
