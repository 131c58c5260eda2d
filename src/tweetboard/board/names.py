"""What a step is given: the names of messages, counted, or one by one where it matters whose they are. Pure.

What lives here: from a channel's messages to the three arguments that scoreboard.lua calls `names`. What must not: what
a step does with them, or Redis.
"""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from tweetboard.channel import Message

Arguments = tuple[bytes, bytes, bytes]
"""Names, how some of them are spelled, and how some are to be shown, as JSON."""

Fold = Callable[[str], str] | None
"""Maps a name as posts spell it to its identity, "" for none; None where every spelling is one of its own."""


def newest(messages: Sequence[Message]) -> int:
    """Give the start of the latest bucket that any name is in; 0 for none."""
    return max((start for message in messages for start, _ in message.times), default=0)


def displays_of(messages: Sequence[Message]) -> dict[str, str]:
    """Collect how some names are to be shown; the last word counts."""
    return {name: display for message in messages for name, display in message.displays.items()}


def by_time(messages: Sequence[Message]) -> list[tuple[int, Counter[str]]]:
    """Count names by when they came."""
    groups: dict[int, list[str]] = {}
    for message in messages:
        if len(message.times) == 1:
            groups.setdefault(message.times[0][0], []).extend(message.names)
            continue
        begin = 0
        for start, count in message.times:
            groups.setdefault(start, []).extend(message.names[begin : begin + count])
            begin += count
    return [(start, Counter(names)) for start, names in groups.items()]


def at_once(messages: Sequence[Message]) -> list[tuple[int, Counter[str]]]:
    """Count names as if all had come in one moment, where nobody asks for that."""
    return [(0, Counter([name for message in messages for name in message.names]))]


def counted(groups: Sequence[tuple[int, Counter[str]]], displays: dict[str, str], fold: Fold) -> Arguments:
    """Write counts by time."""
    if fold is None:
        return msgspec.json.encode(groups), b"", msgspec.json.encode(displays)
    folded, spelled = list[tuple[int, Counter[str]]](), Counter[tuple[str, str]]()
    for start, counts in groups:
        identities = Counter[str]()
        for spelling, count in counts.items():
            identity = fold(spelling)
            if identity:
                identities[identity] += count
            if identity not in ("", spelling):
                spelled[identity, spelling] += count
        folded.append((start, identities))
    return (
        msgspec.json.encode(folded),
        msgspec.json.encode([(*names, count) for names, count in spelled.items()]),
        msgspec.json.encode(displays),
    )


def one_by_one(messages: Sequence[Message], displays: dict[str, str], fold: Fold, *, forgets: bool) -> Arguments:
    """Write names, and what is gone where somebody `forgets`, as entries.lua has them, in the order they came in."""
    entries = list[tuple[int, list[str | int]]]()
    gone = list[tuple[str, int]]()
    for message in messages:
        waiting = deque(message.gone if forgets else ())
        words, place = _words(message, fold, forgets=forgets), 0
        for start, length in message.times:
            end = place + length
            while place < end:
                while waiting and waiting[0][1] <= place:
                    gone.append((waiting.popleft()[0], len(entries)))
                stop = min(end, waiting[0][1]) if waiting else end
                entries.append((start, list(itertools.chain.from_iterable(itertools.islice(words, stop - place)))))
                place = stop
        gone += [(post_id, len(entries)) for post_id, _ in waiting]
    return msgspec.json.encode({"entries": entries, "gone": gone}), b"", msgspec.json.encode(displays)


def _words(message: Message, fold: Fold, *, forgets: bool) -> Iterator[tuple[str | int, ...]]:
    """Yield for each name its words in an entry, none for one that is nothing."""
    count = len(message.names)
    authors = message.authors if len(message.authors) == count else [""] * count  # of an earlier version
    named = zip(message.names, authors, strict=True)
    has_ids = forgets and sum(names for _, names in message.posts) == count
    for post_id, names in message.posts if has_ids else [("", count)]:
        post: str | int = post_id
        for spelling, author in itertools.islice(named, names):
            identity = spelling if fold is None else fold(spelling)
            if identity:
                yield identity, author, "" if identity == spelling else spelling, post
                post = 0 if post_id else ""
            else:
                yield ()
