"""A board: exact scores in a sorted set, and which batches of which stream are in them.

What lives here: applying, and reading the board (scoreboard.lua has the steps). What must not: Pub/Sub or HTTP.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

import msgspec

from tweetboard.errors import SessionEnded, StoreRefused
from tweetboard.formats.hashtags import clean, tags_of
from tweetboard.journal import OutOfStep
from tweetboard.store import Script, Store

_SCRIPT = Script("scoreboard")


_NOTHING: Final[Mapping[str, str]] = {}


class Row(msgspec.Struct, frozen=True):
    """One line of a board; names with the same score share a rank (1, 2, 2, 4).

    `display` is how the name is to be shown: the spelling met most often, or what the source calls it.
    """

    rank: int
    name: str
    display: str
    score: int


class Page(msgspec.Struct, frozen=True):
    """A part of a board from the top down; `total` counts all names on it."""

    total: int
    rows: list[Row]


class Scoreboard:
    """The board `name` at an unprefixed Redis `key`.

    `fold` maps a name as posts spell it to its identity; without it every spelling is one of its own. What `hidden`
    names at the moment of reading, each once, is as if it were not on the board.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        key: str,
        fold: Callable[[str], str] | None = None,
        hidden: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._store = store
        self.name = name
        self.key = store.key(key)
        self.applied_key = f"{self.key}:applied"
        self._fold = fold
        self._hidden = hidden
        self._keys = [self.key, f"{self.key}:spelling", f"{self.key}:spellings"]

    @property
    def keys(self) -> list[str]:
        """All that is kept of the board in Redis."""
        return [*self._keys, self.applied_key]

    async def applied(self, stream: str) -> int | None:
        """Read the last batch of `stream` that is on the board; None where it never was. Raises `StoreError`."""
        reply = cast("bytes | None", await self._store.execute("HGET", self.applied_key, stream))
        return None if reply is None else int(reply)

    async def apply(
        self,
        stream: str,
        stream_key: str,
        token: str,
        first: int,
        last: int,
        names: Iterable[str],
        displays: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Add the names of the batches `first` to `last` in one step, which also notes that they are in.

        `displays` says how names are to be shown from now on.

        Raises `SessionEnded` where `token` no longer owns the stream, `OutOfStep` (with what is on the board) where the
        batches do not follow or the journal does not have them, and `StoreError`; nothing was added then, except that
        after `StoreUnavailable` only `applied` can tell.
        """
        reply = await self._store.run(
            _SCRIPT,
            [*self._keys, self.applied_key, stream_key],
            *("apply", stream, token, first, last, *self._counted(names, displays)),
        )
        outcome, number = cast("tuple[bytes, int]", reply)
        if outcome == b"fenced":
            raise SessionEnded(f"stream {stream}: another session has taken over")
        if outcome != b"applied":
            raise OutOfStep(number)

    def cleaned(self, text: str) -> str:
        """Clean a name that came outside of any batch, as a post's would have been; "" where it is none."""
        if self._fold is None:
            return clean(text)
        return next(iter(tags_of((text,))[0]), "")

    async def add_bare(self, lease_key: str, holder: str, names: Iterable[str]) -> bool:
        """Add names that came outside of any batch; False where `holder` does not hold the lease at this moment.

        Raises `StoreError`; after `StoreUnavailable` it must not be tried again, for they may be in.
        """
        return await self._store.run(_SCRIPT, [*self._keys, lease_key], "bare", holder, *self._counted(names)) == 1

    async def top(self, *, offset: int = 0, limit: int = 10) -> Page:
        """Read `limit` rows from `offset` on; within a tie the order is Redis's own, names from Z to A.

        Raises `StoreError`, and `StoreRefused` also for scores that are no whole numbers.
        """
        hidden = msgspec.json.encode(self._hidden())
        reply = await self._store.run(_SCRIPT, self._keys[:2], "top", offset, limit, hidden, writes=False)
        total, above, flat, shown = cast("tuple[int, int, list[bytes], list[bytes | None]]", reply)
        rows: list[Row] = []
        rank, previous = above + 1, None
        for place, (member, text, display) in enumerate(zip(flat[::2], flat[1::2], shown, strict=True), offset + 1):
            score = self._whole(text)
            if previous is not None and score != previous:
                rank = place
            previous = score
            name = member.decode("utf-8", "replace")
            rows.append(Row(rank, name, name if display is None else display.decode("utf-8", "replace"), score))
        return Page(total, rows)

    def _counted(self, names: Iterable[str], displays: Mapping[str, str] = _NOTHING) -> tuple[bytes, bytes, bytes]:
        """Count names as scoreboard.lua takes them."""
        counts = Counter(names)
        if self._fold is None:
            return msgspec.json.encode(counts), b"", msgspec.json.encode(displays)
        identities, spelled = Counter[str](), list[tuple[str, str, int]]()
        for spelling, count in counts.items():
            identity = self._fold(spelling)
            if identity:
                identities[identity] += count
            if identity not in ("", spelling):
                spelled.append((identity, spelling, count))
        return msgspec.json.encode(identities), msgspec.json.encode(spelled), msgspec.json.encode(displays)

    def _whole(self, text: bytes) -> int:
        score = float(text)
        if not score.is_integer():
            raise StoreRefused(f"{self.key} has the score {text.decode()}, which tweetboard never writes: whose is it?")
        return int(score)
