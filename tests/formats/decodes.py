"""What the tests of formats share: records go in, posts and counts come out; and another way to count the same."""

import itertools
import random
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.framing import Block, Event
from tweetboard.posts import Post

FIXTURES = Path(__file__).parents[1] / "fixtures"
ODD_VALUES: tuple[object, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    "",
    "x",
    "\0",
    "ü" * 300,
    [],
    {},
    [[]],
    [None],
    {"id": 1},
    [{"tag": 1}],
)


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


def mutated(record: bytes, rng: random.Random) -> bytes:
    """Damage a record somewhere: its bytes, or a value in it."""
    if rng.random() < 0.5:
        whole = msgspec.json.decode(record)
        _damage(whole, rng)
        return msgspec.json.encode(whole)
    damaged = bytearray(record)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(damaged))
        stop = start + rng.choice((0, 1, 1, 1, 5, 50))
        piece = rng.choice((b"", rng.randbytes(1), damaged[start:stop] * 2, rng.choice((b"{", b"}", b'"', b"\\ud800"))))
        damaged[start:stop] = piece
        damaged = damaged or bytearray(b"{")
    return bytes(damaged).replace(b"\n", b" ")


def _damage(
    value: Any,  # noqa: ANN401 - any JSON
    rng: random.Random,
) -> None:
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not places:
        return
    place = rng.choice(places)
    if isinstance(value[place], dict | list) and rng.random() < 0.8:
        _damage(value[place], rng)
    elif rng.random() < 0.3:
        del value[place]
    else:
        value[place] = rng.choice(ODD_VALUES)


def check_mutations(name: str, records: Sequence[bytes], seed: int, rounds: int = 2_000) -> None:
    """Damage records a number of times: each is a post or is counted as dropped, once, and its neighbours are kept."""
    rng = random.Random(seed)
    good = decode(name, records[0]).posts
    assert len(good) == 1
    outcomes = Counter[str]()
    for turn in range(rounds):
        record = mutated(rng.choice(records), rng)
        if not record or record.isspace():
            continue
        seen = decode(name, records[0], record, records[0])
        assert len(seen.posts) + seen.dropped == 3, f"seed {seed}, round {turn}: {record!r}"
        assert [seen.posts[0], seen.posts[-1]] == good * 2, f"seed {seed}, round {turn}: {record!r}"
        outcomes[
            "post" if len(seen.posts) == 3 else next(reason for reason in seen.skipped if reason != "invalid_name")
        ] += 1
    sys.stdout.write(f"seed {seed}: {dict(outcomes)}\n")
    assert outcomes["post"], "no damage left a post whole"
    assert len(outcomes) > 1, "no damage was noticed"
