"""From blocks of records to posts, at the speed of C as long as all is well, one by one where something is not.

What lives here: the shape of a format, and the decoder that runs one and counts what it drops. What must not: any
source's own fields (a module each), or bytes that are not yet records (framing.py).
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from tweetboard.formats.hashtags import clean, tags_of
from tweetboard.framing import Block
from tweetboard.posts import Post, Skip

R = TypeVar("R")
Decoded: TypeAlias = "tuple[Post, int] | Skip"
"""A post and how many of its names were no names; or why there is none."""

EXAMPLE_BYTES: Final = 80
"""So much of a broken record is shown in the log."""

_OPENING: Final = ord("{")
_CLOSING: Final = ord("}")
_BROKEN: Final = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError)

# Both halves of a character, half of one (whose digits are the group), any other escape.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u([dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


class Format(Generic[R]):
    """How one source writes posts.

    `record` names only the fields that are used; `post` turns one into a post; a record with one of the keys
    `signature` is recognised as this format's; `stall_timeout_s` is how long a live connection may say nothing at all,
    0 where silence is normal.
    """

    def __init__(
        self,
        name: str,
        record: type[R],
        post: Callable[[R], Decoded],
        signature: frozenset[str],
        *,
        stall_timeout_s: float,
    ) -> None:
        self.name = name
        self.record = record
        self.post = post
        self.signature = signature
        self.stall_timeout_s = stall_timeout_s


def decoded(post_id: str, time: int, author: str, hashtags: list[str], *, invalid: int = 0) -> Decoded:
    """Clean what a format found into a post; an author that is no name leaves its hashtags standing."""
    name = clean(author)
    tags: tuple[str, ...] = ()
    if hashtags:
        tags, bad = tags_of(hashtags)
        invalid += bad
    return Post(post_id, time, name, tags), invalid + (not name)


class Skipped(Counter[str]):
    """Counts by reason what came to nothing; `examples` has the last of each, for the log."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, str] = {}

    def note(self, reason: str, record: bytes, error: Exception | None = None) -> None:
        """Count a record, and keep its beginning and what was wrong with it."""
        self[reason] += 1
        shown = repr(record[:EXAMPLE_BYTES])[1:] + ("..." if len(record) > EXAMPLE_BYTES else "")
        self.examples[reason] = f"{shown}: {error}" if error is not None else shown


class Decoder(Generic[R]):
    """Decodes blocks of one format; what comes to nothing is counted in `skipped`."""

    def __init__(self, source: Format[R], skipped: Skipped) -> None:
        self.format = source
        self.skipped = skipped
        # Without the hook a number out of range, such as 1e999, would cost the whole record.
        self._json = msgspec.json.Decoder(source.record, float_hook=float)

    def decode(self, block: Block) -> list[Post]:
        """Turn a block's records into posts, in order; what is broken is counted and the rest kept."""
        posts: list[Post] = []
        for record in self._records(block):
            result = self.format.post(record)
            if type(result) is tuple:
                posts.append(result[0])
                if result[1]:
                    self.skipped["invalid_name"] += result[1]
            elif isinstance(result, Skip):
                self.skipped[result.reason] += 1
        return posts

    def _records(self, block: Block) -> list[R]:
        lines = block.lines
        if block.events:
            # An event's data may hold line ends of its own, between its tokens; only then does a block not work.
            data = [event.data for event in block.events]
            if any(b"\n" in record for record in data):
                return self._one_by_one(data)
            lines = b"\n".join(data) + b"\n"
        try:
            records = self._json.decode_lines(lines)
        except _BROKEN:
            return self._one_by_one(lines.split(b"\n"))
        return records if _one_a_line(lines, len(records)) else self._one_by_one(lines.split(b"\n"))

    def _one_by_one(self, records: list[bytes]) -> list[R]:
        whole = []
        for record in records:
            if not record or record.isspace():
                continue
            try:
                whole.append(self._decode(record))
            except RecursionError as error:
                self.skipped.note("nested_too_deep", record, error)
            except msgspec.ValidationError as error:
                self.skipped.note("unexpected_type", record, error)
            except _BROKEN as error:
                self.skipped.note("broken_json", record, error)
        return whole

    def _decode(self, record: bytes) -> R:
        try:
            return self._json.decode(record)
        except msgspec.DecodeError:
            whole = mended(record)
            if whole == record:
                raise
            return self._json.decode(whole)


def _one_a_line(lines: bytes, records: int) -> bool:
    """Tell whether so many records stand on lines of their own; blank ones, such as keep-alives, do not matter.

    `decode_lines` also takes two records on one line, or one over two; whether such a line counts must not depend on
    its neighbours. Between a line's closing brace and another's opening one nothing but a record's end can be.
    """
    filled = [line for padded in lines.split(b"\n") if (line := padded.strip())]
    return len(filled) == records and all(line[0] == _OPENING and line[-1] == _CLOSING for line in filled)


def mended(record: bytes) -> bytes:
    """Write halves of characters, which other JSON libraries let through, as U+FFFE: no name, but no broken record."""
    return _ESCAPE.sub(lambda found: rb"\ufffe" if found[1] else found[0], record)
