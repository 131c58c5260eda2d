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
        """Turn a block's records into posts, in order; what is broken is counted and the rest kept.

        Each record is decoded by itself: msgspec's `decode_lines` would also take two on one line, or one over two,
        and to look for those afterwards costs more than it saves (measured on posts of 1 KB: 1.46 us against 1.35).
        """
        posts: list[Post] = []
        for data in [event.data for event in block.events] or block.lines.split(b"\n"):
            record = self._record(data) if data else None
            if record is None:
                continue
            result = self.format.post(record)
            if type(result) is tuple:
                posts.append(result[0])
                if result[1]:
                    self.skipped["invalid_name"] += result[1]
            elif isinstance(result, Skip):
                self.skipped[result.reason] += 1
        return posts

    def _record(self, data: bytes) -> R | None:
        """Decode one record; None where it is blank, such as a keep-alive, or broken, which is counted."""
        try:
            return self._json.decode(data)
        except RecursionError as error:
            self.skipped.note("nested_too_deep", data, error)
        except msgspec.ValidationError as error:
            self.skipped.note("unexpected_type", data, error)
        except _BROKEN as error:
            whole = mended(data)
            if whole != data:
                return self._record(whole)
            if not data.isspace():
                self.skipped.note("broken_json", data, error)
        return None


def mended(record: bytes) -> bytes:
    """Write halves of characters, which other JSON libraries let through, as U+FFFE: no name, but no broken record."""
    return _ESCAPE.sub(lambda found: rb"\ufffe" if found[1] else found[0], record)
