"""What the tests of formats share: records go in, posts and counts come out; and another way to count the same."""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.framing import Block, Event
from tweetboard.posts import Post

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Decoded(NamedTuple):
    """All that comes out of a decoder."""

    posts: list[Post]
    skipped: dict[str, int]

    @property
    def dropped(self) -> int:
        """How many records came to nothing; a name that is none takes no record with it."""
        return sum(count for reason, count in self.skipped.items() if reason != "invalid_name")


def decode_blocks(name: str, blocks: Iterable[Block]) -> Decoded:
    skipped = Skipped()
    decoder = decoder_for(name, skipped)
    posts = [post for block in blocks for post in decoder.decode(block)]
    return Decoded(posts, dict(skipped))


def decode(name: str, *records: bytes) -> Decoded:
    """Decode records, one a line, in one block."""
    return decode_blocks(name, [block_of(records)])


def block_of(records: Sequence[bytes]) -> Block:
    return Block(lines=b"".join(record + b"\n" for record in records))


def events_of(records: Sequence[bytes]) -> Block:
    return Block(events=[Event("message", record, "") for record in records])


def in_groups(records: Sequence[bytes], cuts: Iterable[int]) -> list[Sequence[bytes]]:
    edges = [0, *sorted({cut % (len(records) + 1) for cut in cuts}), len(records)]
    return [records[start:stop] for start, stop in itertools.pairwise(edges)]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def identity(tag: str) -> str:
    """Fold a hashtag as the design says, in as few words."""
    return unicodedata.normalize("NFKC", tag).casefold().strip().lstrip("#")


def counted(posts: Iterable[Post]) -> tuple[Counter[str], Counter[str]]:
    """Count authors and identities of hashtags."""
    posts = list(posts)
    return Counter(post.author for post in posts), Counter(identity(tag) for post in posts for tag in post.hashtags)
