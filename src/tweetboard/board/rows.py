"""What a reader is given: rows with their ranks, and pages of them, from what scoreboard.lua answers. Pure.

What must not come here: asking for them (scoreboard.py), or saying them in JSON over HTTP (api.py).
"""

import itertools
from typing import Final, Literal

import msgspec

RANKED: Final = 1_000
"""Of so many names it is known what rank they had before."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a board; names with the same score share a rank (1, 2, 2, 4).

    One that stands on no page may have none, but is `below` so many others at least.
    `display` is how the name is to be shown: the spelling met most often, or what the source calls it. Only trending
    scores are no whole numbers. `change` says by how many ranks it has risen since a bucket ago, "new" where it was not
    among the first thousand then, and nothing where that is not known. `history` has its counts in each bucket of the
    window, the unfinished one last; of the scores of all time, in the longest one's, and of trending scores in those of
    the shortest one that is as long as a half-life.
    """

    rank: int | None
    name: str
    display: str
    score: int | float
    change: int | Literal["new"] | msgspec.UnsetType = msgspec.UNSET
    history: list[int] | msgspec.UnsetType = msgspec.UNSET
    below: int | msgspec.UnsetType = msgspec.UNSET


class Page(msgspec.Struct, frozen=True):
    """A part of a board from the top down; `total` counts all names on it.

    A score can be too low by `lacking` at most: so much may a name have had when it was let go, to come back later.
    Where `ranked` is given, pages end behind so many names.
    """

    total: int
    rows: list[Row]
    lacking: int | float = 0
    ranked: int | msgspec.UnsetType = msgspec.UNSET


class Reading(msgspec.Struct, array_like=True):
    """What scoreboard.lua answers of a page."""

    stale: int
    total: int
    ranked: int
    offset: int
    above: int
    rows: list[bytes]
    below: int
    shown: list[bytes | None]
    factor: bytes
    compared: int
    ranks: list[bytes | None]
    history: list[list[bytes | None]]
    lacking: bytes


def page_of(reading: Reading, *, whole: bool) -> Page:
    """Make a page, of `whole` scores or of such as fade; raises `ValueError` with a score that should be whole."""
    names, scores = reading.rows[::2], reading.rows[1::2]
    factor = float(reading.factor)
    ranks: list[int | None] = [None if reading.below else reading.above + 1]
    for place, (before, score) in enumerate(itertools.pairwise(scores), reading.offset + 2):
        ranks.append(ranks[-1] if score == before else place)
    history = zip(*reading.history, strict=True) if reading.history else None
    rows = []
    for place, (rank, member) in enumerate(zip(ranks, names, strict=False)):
        name, display = member.decode("utf-8", "replace"), reading.shown[place]
        rows.append(
            Row(
                rank,
                name,
                name if display is None else display.decode("utf-8", "replace"),
                _whole(scores[place]) if whole else _rounded(float(scores[place]) * factor),
                _change(rank, reading.ranks[place]) if rank and reading.compared else msgspec.UNSET,
                msgspec.UNSET if history is None else [int(count or 0) for count in next(history)],
                msgspec.UNSET if rank else reading.above,
            )
        )
    lacking = float(reading.lacking)
    ranked = reading.ranked if reading.ranked < reading.total else msgspec.UNSET
    return Page(reading.total, rows, int(lacking) if whole else _rounded(lacking * factor), ranked)


def _whole(text: bytes) -> int:
    score = float(text)
    if not score.is_integer():
        raise ValueError(text.decode())
    return int(score)


def _rounded(score: float) -> float:
    return float(f"{score:.6g}")


def _change(rank: int, before: bytes | None) -> int | Literal["new"] | msgspec.UnsetType:
    if before is None:
        return "new" if rank <= RANKED else msgspec.UNSET
    if not before:
        return msgspec.UNSET
    return int(before) - rank
