"""A board: exact scores, its windows, and which batches of which stream are in them.

What lives here: applying, letting time pass, and reading the board (the .lua files have the steps). What must not:
Pub/Sub or HTTP, or a clock of its own.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec

from tweetboard.board.names import at_once, by_time, counted, displays_of, newest, one_by_one
from tweetboard.board.reads import Question, Reads
from tweetboard.board.rows import Page, Reading, Row, page_of
from tweetboard.board.windows import ALL, NOTHING_MORE, TRENDING, Kept
from tweetboard.channel import Message
from tweetboard.errors import SessionEnded, StoreRefused
from tweetboard.formats.hashtags import clean, tags_of
from tweetboard.journal import OutOfStep
from tweetboard.lease import Lease
from tweetboard.store import Reply, Script, Store, never

AGE_NAMES: Final = 1_024
"""So many names at most leave a window in one step, which takes Redis 5 to 15 ms on a board of a million."""

AGING_S: Final = 0.3
"""Readers wait no longer, all together, for what has left a window; until it is out, what they read is a little old."""

_PARTS: Final = ("bulk", "leaders", "spelling", "entries", "windows", "pages")
SCRIPT: Final = Script("scoreboard", parts=_PARTS, package=__package__)
"""Every step that a board takes inside Redis."""


class Scoreboard:
    """The board `name` at an unprefixed Redis `key`, with what is `kept` beside it.

    `clock` gives Unix seconds; without one it is as late as the newest post. `fold` maps a name as posts spell it to
    its identity; without it every spelling is one of its own. What `hidden` names at the moment of reading, each once,
    is as if it were not on the board. `cleared` counts the windows that a clock which went back has cost; `due` is set
    where `age` has something to do. Where a `lease` is set, time passes by the clock of whoever holds it;
    `on_change` is called whenever this process has changed something.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        key: str,
        fold: Callable[[str], str] | None = None,
        *,
        kept: Kept = NOTHING_MORE,
        clock: Callable[[], float] | None = None,
        hidden: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._store = store
        self.name = name
        self.key = store.key(key)
        self.applied_key = f"{self.key}:applied"
        self.kept = kept
        self.cleared = 0
        self._encoded_kept = msgspec.json.encode(kept._asdict())
        self._clock = clock
        self._fold = fold
        self._hidden = hidden
        self.keys = [self.key, f"{self.key}:spelling", f"{self.key}:spellings"]
        self.due = asyncio.Event()
        self.lease: Lease | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._changes = 0
        self._newest = 0
        self._aged_bucket = -1
        self._aging = asyncio.Lock()
        self._reads = Reads(self._ask)
        self._stale_since_s: float | None = None
        self._cursor = ":0"

    @property
    def is_timed(self) -> bool:
        """Whether anything on the board changes by itself as time goes by."""
        return self.kept.finest_s > 0

    @property
    def _keeps_time(self) -> bool:
        return self.lease is None or self.lease.held

    @property
    def _now(self) -> int:
        return self._newest if self._clock is None else int(self._clock())

    @property
    def _bucket(self) -> int:
        return self._now // max(self.kept.finest_s, 1)

    def version(self, window: str) -> Hashable:
        """Give what is another as soon as this process knows that the scores of `window` may be other ones."""
        return self._changes, self._now if window == TRENDING else self._bucket, self._hidden()

    async def applied(self, stream: str) -> int | None:
        """Read the last batch of `stream` that is on the board; None where it never was. Raises `StoreError`."""
        reply = cast("bytes | None", await self._store.execute("HGET", self.applied_key, stream))
        return None if reply is None else int(reply)

    async def apply(self, stream_key: str, token: str, messages: Sequence[Message]) -> None:
        """Add the names of consecutive batches of one stream in one step, which also notes that they are in.

        Raises `SessionEnded` where `token` no longer owns the stream, `OutOfStep` (with what is on the board) where the
        batches do not follow or the journal does not have them, and `StoreError`; nothing was added then, except that
        after `StoreUnavailable` only `applied` can tell.
        """
        stream, first, last = messages[0].source, messages[0].seq, messages[-1].seq
        displays, forgets = displays_of(messages), self.kept.forget_s > 0
        self._newest = max(self._newest, newest(messages))
        if self.kept.once_s or forgets:
            names = one_by_one(messages, displays, self._fold, forgets=forgets)
        else:
            names = counted(by_time(messages) if self.is_timed else at_once(messages), displays, self._fold)
        reply = await self._store.run(
            SCRIPT,
            [*self.keys, self.applied_key, stream_key],
            *("apply", stream, token, first, last, self._now, self._encoded_kept, *names),
            proof=_is_applied,
        )
        outcome, number = cast("tuple[bytes, int]", reply)
        if outcome == b"fenced":
            raise SessionEnded(f"stream {stream}: another session has taken over")
        if not _is_applied(reply):
            raise OutOfStep(number)
        self.cleared += number
        if any(message.names or message.displays or message.gone for message in messages):
            self.touched()
        if self.is_timed and self._bucket != self._aged_bucket:
            self.due.set()

    def cleaned(self, text: str) -> str:
        """Clean a name that came outside of any batch, as a post's would have been; "" where it is none."""
        if self._fold is None:
            return clean(text)
        return next(iter(tags_of((text,))[0]), "")

    async def add_bare(self, lease_key: str, holder: str, names: Iterable[str]) -> bool:
        """Add names that came outside of any batch; False where `holder` does not hold the lease at this moment.

        Raises `StoreError`; after `StoreUnavailable` it must not be tried again, for they may be in.
        """
        words = counted([(self._now, Counter(names))], {}, self._fold)
        arguments = ("bare", holder, self._now, self._encoded_kept, *words)
        reply = await self._store.run(SCRIPT, [*self.keys, lease_key], *arguments, proof=lambda one: one is not None)
        self.cleared += cast("int | None", reply) or 0
        self.touched()
        return reply is not None

    async def age(self) -> bool:
        """Take a step of what time does to the windows and the trending scores; True where there may be more to do.

        Raises `StoreError`. All who ask take step after step together; a process without the lease does nothing, for
        its clock is no measure for whoever counts.
        """
        self.due.clear()
        if not (self.is_timed and self._keeps_time):
            return False
        async with self._aging:
            return await self._age()

    async def _age(self) -> bool:
        bucket = self._bucket
        arguments = (self._now, self._encoded_kept, msgspec.json.encode(self._hidden()), self._cursor, AGE_NAMES)
        lease = [] if self.lease is None else [self.lease.key]
        holder = [] if self.lease is None else [self.lease.holder]
        reply = await self._store.run(SCRIPT, [self.key, *lease], "age", *arguments, *holder, proof=never)
        if reply is None:
            return False
        more, cursor, cleared = cast("tuple[int, bytes, int]", reply)
        self._cursor = cursor.decode()
        self.cleared += cleared
        if not more:
            self._stale_since_s = None
        if not more and bucket != self._aged_bucket:
            self._aged_bucket = bucket
            self.touched()
        return bool(more)

    async def top(self, *, offset: int = 0, limit: int = 10, window: str = ALL, history: bool = False) -> Page:
        """Read `limit` rows from `offset` on; within a tie the order is Redis's own, names from Z to A.

        Raises `StoreError`, and `StoreRefused` also for scores that are no whole numbers but should be.
        """
        return await self._page(window, offset, limit, history=history)

    async def near(
        self, name: str, *, around: int = 0, window: str = ALL, history: bool = False
    ) -> tuple[Row | None, Page]:
        """Read the row of a name, None where it has none, and the page of those up to `around` places from it.

        Raises as `top` does.
        """
        page = await self._page(window, name, around, history=history)
        return next((row for row in page.rows if row.name == name), None), page

    @property
    def sign(self) -> str:
        """What stands before its names where they are shown, if anything does."""
        return "" if self._fold is None else "#"

    def identity(self, text: str) -> str:
        """Give the name under which something that a person wrote is counted; "" where it can be none."""
        name = self.cleaned(text)
        return self._fold(name) if self._fold is not None and name else name

    async def reset(self) -> None:
        """Delete all scores in one step; what comes is counted on, also by a daemon that runs. Raises `StoreError`."""
        await self._store.run(SCRIPT, self.keys, "reset", proof=never)
        self.touched()

    def touched(self) -> None:
        """Note that the scores may be other ones now, and tell whoever wants to know."""
        self._changes += 1
        self.on_change()

    async def copy(self, copies: Sequence[str], life_s: int) -> tuple[int, int, dict[str, int]]:
        """Copy the scores and what belongs to them into four prefixed keys, in one step. Raises `StoreError`.

        Into the first go scores, into the last those of names that are not among the leaders. Returns how many names
        these are, what their scores can lack, and the last batch of each stream that is in them.
        """
        reply = await self._store.run(SCRIPT, [*self.keys, self.applied_key, *copies], "copy", life_s)
        total, lacking, flat = cast("tuple[int, bytes, list[bytes]]", reply)
        applied = dict(zip((stream.decode() for stream in flat[::2]), map(int, flat[1::2]), strict=True))
        return total, int(float(lacking)), applied

    async def _page(self, window: str, at: int | str, count: int, *, history: bool) -> Page:
        question = Question(self._which(window), self._buckets_of(window) if history else None, at, count)
        reading = await self._reads.answer(question)
        if not reading.stale:
            self._stale_since_s = None
        elif self._keeps_time:
            await self._catch_up_with_time()
            reading = await self._reads.answer(question)
        try:
            return page_of(reading, whole=window != TRENDING)
        except ValueError as error:
            told = f"{self.key} has the score {error}, which tweetboard never writes: whose is it?"
            raise StoreRefused(told) from error

    async def _catch_up_with_time(self) -> None:
        """Age until nothing is left to do; but once readers have waited for long enough, one of them takes one step."""
        if self._stale_since_s is None:
            self._stale_since_s = time.monotonic()
        until_s = self._stale_since_s + AGING_S
        if time.monotonic() >= until_s and self._aging.locked():
            return
        while await self.age() and time.monotonic() < until_s:
            pass

    async def _ask(self, questions: Sequence[Question]) -> list[Reading]:
        arguments = (self._now, msgspec.json.encode(self._hidden()), msgspec.json.encode(questions))
        reply = await self._store.run(SCRIPT, self.keys[:2], "read", *arguments, proof=never)
        return [Reading(*page) for page in cast("list[list[Any]]", reply)]

    def _which(self, window: str) -> Sequence[object]:
        """Name the scores of a window as scoreboard.lua reads it."""
        if window == ALL:
            return (ALL,)
        if window == TRENDING:
            return (TRENDING, self.kept.half_life_s)
        return next(one for one in self.kept.windows if one.name == window)

    def _buckets_of(self, window: str) -> Sequence[object] | None:
        """Name the window in whose buckets the history of some scores is told."""
        by_length = sorted(self.kept.windows, key=lambda one: one.length_s)
        longest = by_length[-1] if by_length else None
        if window == TRENDING:
            return next((one for one in by_length if one.length_s >= self.kept.half_life_s), longest)
        return next((one for one in by_length if one.name == window), longest)


class Replacement(NamedTuple):
    """What comes in a board's place: three prefixed keys, how much is in each, and what its scores can lack."""

    board: Scoreboard
    keys: Sequence[str]
    sizes: tuple[int, int, int]
    lacking: int


async def load(store: Store, copies: Sequence[str], rows: Sequence[tuple[str, int, str, str]], life_s: int) -> None:
    """Write rows of a board into three prefixed keys, which live for `life_s` from the last call on.

    A row is a name, its score, how it is shown or "", its spellings as JSON or "". Raises `StoreError`.
    """
    await store.run(SCRIPT, copies, "load", life_s, msgspec.json.encode(rows))


async def replace(store: Store, replacements: Sequence[Replacement]) -> bool:
    """Put what was made ready in the boards' place, all of them in one step; all else is as after `reset`.

    False where the keys do not hold any more what they should: nothing was changed then. Raises `StoreError`.
    """
    keys = [key for one in replacements for key in (*one.board.keys, *one.keys)]
    arguments = [number for one in replacements for number in (*one.sizes, one.lacking)]
    done = await store.run(SCRIPT, keys, "replace", *arguments)
    for one in replacements:
        one.board.touched()
    return bool(done)


def _is_applied(reply: Reply) -> bool:
    return cast("tuple[bytes, int]", reply)[0] == b"applied"
