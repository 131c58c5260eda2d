"""What the boards must hold at any moment, worked out from the posts alone.

What lives here: the posts, their sums, and the comparison. What must not: how the boards come to be read (rig.py).
"""

import json
import random
from collections import Counter
from dataclasses import dataclass
from typing import Final, TypeAlias

BOARDS: Final = {"usernames": "username_scoreboard", "hashtags": "hashtags_scoreboard"}

Scores: TypeAlias = dict[str, Counter[str]]

USERS, TAGS = 300, 60


@dataclass(frozen=True)
class Snapshot:
    """One stream and its boards, read in one step: `journal` has, by batch, each board's names.

    `windows` are the boards' longest, in which all posts are that came today.
    """

    owner: str
    seq: int
    position: int
    applied: dict[str, int]
    journal: dict[int, dict[str, list[str]]]
    scores: Scores
    windows: Scores


@dataclass(frozen=True)
class Outcome:
    """How many names are missing on the boards, and how many stand there too often."""

    lost: int
    twice: int


class Truth:
    """The posts of an upstream, in order: (author, hashtags) pairs; a position counts the posts before it."""

    def __init__(self, count: int, seed: int) -> None:
        rng = random.Random(seed)
        users = rng.choices(range(USERS), [1 / rank for rank in range(1, USERS + 1)], k=count)
        self.posts = [(f"u{user}", [f"T{rng.randrange(TAGS)}" for _ in range(rng.randrange(3))]) for user in users]
        self._at = 0
        self._scores = empty()

    @property
    def records(self) -> list[bytes]:
        """The posts in the flat shape."""
        return [json.dumps({"username": author, "hashtags": tags}).encode() for author, tags in self.posts]

    def at(self, position: int) -> Scores:
        """Sum up the posts before a position."""
        if position < self._at:
            self._at, self._scores = 0, empty()
        for author, tags in self.posts[self._at : position]:
            self._scores["usernames"][author] += 1
            self._scores["hashtags"].update({tag.lower() for tag in tags})
        self._at = position
        return {name: scores.copy() for name, scores in self._scores.items()}

    def outcome(self, found: Scores) -> Outcome:
        """Compare boards with all posts there are."""
        wanted = self.at(len(self.posts))
        return Outcome(
            sum((wanted[name] - found[name]).total() for name in BOARDS),
            sum((found[name] - wanted[name]).total() for name in BOARDS),
        )

    def wrong(self, found: Snapshot) -> str:
        """Say what is wrong in a snapshot; "" where a board is the posts of the batches it has applied.

        `position` is where the last batch ends, so a board lacks just the names of the batches behind its own.
        """
        for name, wanted in self.at(found.position).items():
            for seq in range(found.applied[name] + 1, found.seq + 1):
                if seq not in found.journal:
                    return f"{name} has applied batch {found.applied[name]}, but batch {seq} is not in the journal"
                wanted.subtract(spelling.lower() for spelling in found.journal[seq][name])
            if difference := differences(found.scores[name], wanted):
                where = f"batch {found.applied[name]} of {found.seq}, position {found.position}"
                return f"{name} after {where}: {difference}"
            if difference := differences(found.windows[name], found.scores[name]):
                return f"the window of {name}: {difference}"
        return ""


def empty() -> Scores:
    """Make boards without a name."""
    return {name: Counter() for name in BOARDS}


def differences(found: Counter[str], wanted: Counter[str]) -> str:
    """Say member by member what is wrong, five at most."""
    wrong = [name for name in sorted({*found, *wanted}) if found[name] != wanted[name]]
    told = [f"{name} {found[name]} instead of {wanted[name]}" for name in wrong[:5]]
    return ", ".join(told) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
