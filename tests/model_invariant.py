"""What has to hold at every moment, and what the test knows of each batch to check it.

What lives here: reading the state of a Redis, all at once, and saying what is wrong. What must not: time, processes.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from model_plan import BOARDS, Scores, Upstream, added, empty
from model_redis import State

STREAM: Final = "model"
STREAM_KEY: Final = b"tweetboard:model"

WINDOW: Final = "7d"
"""No run is as long: at every moment this window holds what the board of all time does."""


class Broken(AssertionError):
    """Something that must hold does not."""


class Entry(msgspec.Struct, frozen=True):
    """What the test knows of a batch in the journal: where upstream it ends, and what batches 1 to it add up to."""

    position: bytes
    posts: frozenset[int]
    scores: dict[str, Scores]


def next_entry(upstream: Upstream, state: State, arguments: Sequence[Any]) -> Entry:
    """Work out what the boards must be after the batch of an append, from upstream's posts alone."""
    seq, position = int(arguments[3]), str(arguments[4])
    if upstream.kind == "rewinds":
        end = int(position)
        return Entry(position.encode(), frozenset(range(end)), upstream.totals[end])
    before = entry_of(state, seq - 1)
    if before is None:
        raise Broken(f"batch {seq} was appended, and there is no batch {seq - 1}")
    names = msgspec.json.decode(arguments[arguments.index("hashtags") + 1])["names"]
    numbers = [int(name[1:]) for name in names if name.startswith("p")]
    if len({*numbers} - before.posts) < len(numbers):
        raise Broken(f"batch {seq} has posts that were in the journal already")
    posts = [upstream.posts[number] for number in numbers]
    return Entry(b"", before.posts | {*numbers}, added(before.scores, posts))


def check(state: State) -> None:
    """Check the invariant: a board equals the posts of batches 1..applied, and position is where batch seq ends."""
    seq, position = last_batch(state), state.hashes.get(STREAM_KEY, {}).get(b"position", b"")
    last = entry_of(state, seq)
    if last is None or position != last.position:
        raise Broken(f"position {position!r} is not where batch {seq} ends")
    for name, key in BOARDS.items():
        applied = applied_by(state, key)
        entry = entry_of(state, applied)
        if entry is None or applied > seq:
            raise Broken(f"{name} has applied batch {applied}, the journal ends at {seq}")
        check_board(state, name, entry.scores[name], f"after batch {applied}")


def check_board(state: State, name: str, wanted: Scores, when: str) -> None:
    """Check one board and its window, member by member."""
    scores, rest = state.zsets.get(BOARDS[name], {}), state.hashes.get(BOARDS[name] + b":rest", {})
    if twice := scores.keys() & rest.keys():
        raise Broken(f"{name} {when}: {twice} are among the leaders and the rest")
    window = state.zsets.get(BOARDS[name] + b":window:" + WINDOW.encode(), {})
    everybody = {**scores, **{member: float(score) for member, score in rest.items()}}
    for found, what in ((everybody, name), (window, f"the window of {name}")):
        if found != wanted:
            raise Broken(f"{what} {when}: {differences(found, wanted)}")
    if rest and max(map(float, rest.values())) > min(scores.values()):
        raise Broken(f"{name} {when}: one of the rest stands above a leader")


def on_boards(state: State) -> frozenset[int]:
    """Read which posts are on both boards."""
    entry = entry_of(state, min(applied_by(state, key) for key in BOARDS.values()))
    return frozenset() if entry is None else entry.posts


def in_journal(state: State) -> frozenset[int]:
    """Read which posts are in the batches up to the last."""
    entry = entry_of(state, last_batch(state))
    return frozenset() if entry is None else entry.posts


def last_batch(state: State) -> int:
    """Read the number of the last batch."""
    return int(state.hashes.get(STREAM_KEY, {}).get(b"seq", b"0"))


def applied_by(state: State, key: bytes) -> int:
    """Read which batch a board has applied last."""
    return int(state.hashes.get(key + b":applied", {}).get(STREAM.encode(), b"0"))


def entry_of(state: State, seq: int) -> Entry | None:
    """Look a batch up; before the first there is nothing."""
    entry: Entry | None = state.ledger.get(seq)
    return Entry(b"", frozenset(), empty()) if seq == 0 else entry


def differences(found: dict[bytes, float], wanted: Scores) -> str:
    """Say member by member what is wrong on a board."""
    members = sorted({*found, *wanted})
    wrong = [name for name in members if found.get(name, 0) != wanted.get(name, 0)]
    return ", ".join(f"{name.decode()} {found.get(name, 0):g} instead of {wanted.get(name, 0)}" for name in wrong)
