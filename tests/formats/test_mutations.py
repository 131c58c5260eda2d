"""Whatever stands where a record should: each line is a post or is counted, once, and its neighbours are kept."""

import random
import re
import sys
from collections import Counter
from functools import cache
from typing import Final

import msgspec
import pytest
from decodes import FIXTURES, block_of, decode_blocks, events_of, lines_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import WRONG_TYPES, containers, mutated, places_of

from tweetboard.errors import StreamRefused
from tweetboard.formats import FORMATS
from tweetboard.formats.hashtags import MAX_NAME_BYTES
from tweetboard.posts import Post

SEED: Final = 20251122

UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
POSITIONS: Final = st.one_of(
    st.text(), st.from_regex(r"[0-9]{1,30}"), st.from_regex(r'\[\{"timestamp":-?[1-9][0-9]{1,30}\}\]', fullmatch=True)
)

every_format = pytest.mark.parametrize("name", sorted(FORMATS))


@cache
def records_of(name: str) -> list[bytes]:
    """Read what is JSON of a format's fixtures."""
    files = (name, "control-lines") if name == "x-v1" else (name,)
    return [line for file in files for line in lines_of(FIXTURES / f"{file}.ndjson") if line.endswith(b"}")]


@cache
def sound(name: str) -> bytes:
    """Make a good record, of an account of its own: what comes of an account's messages may depend on earlier ones."""
    return records_of(name)[0].replace(b"did:plc:mira", b"did:plc:sound")


def check(name: str, record: bytes, good: list[Post], *, as_events: bool) -> Counter[str]:
    """Decode something between two good records, and check what came of it; returns that by kind."""
    records = [sound(name), record, sound(name)]
    pieces = [record] if as_events else record.split(b"\n")
    filled = 2 + sum(1 for piece in pieces if piece and not piece.isspace())
    found = decode_blocks(name, [events_of(records) if as_events else block_of(records)])
    assert len(found.posts) + found.dropped == filled
    assert [found.posts[0], found.posts[-1]] == good * 2
    for post in found.posts:
        check_post(post)
    return Counter({"post": len(found.posts) - 2, **found.skipped})


def check_post(post: Post) -> None:
    """Check what the steps behind a format rely on: types, and names that can be written."""
    assert type(post.id) is str
    assert type(post.time) is int
    assert post.time >= 0
    names = (post.author, *post.hashtags)
    assert not any(UNSEEN.search(name) for name in names)
    assert all(len(name.encode()) <= MAX_NAME_BYTES for name in names)
    assert all(post.hashtags)


def check_mutations(name: str, rounds: int) -> None:
    rng = random.Random(f"{name} {SEED}")
    records = records_of(name)
    good = decode_blocks(name, [block_of([sound(name)])]).posts
    assert len(good) == 1
    outcomes = Counter[str]()
    for turn in range(rounds):
        record = mutated(rng.choice(records), rng)
        try:
            outcomes += check(name, record, good, as_events=rng.random() < 0.3)
        except Exception as error:
            raise AssertionError(f"seed {SEED}, round {turn}: {record[:2_000]!r}") from error
    sys.stdout.write(f"{name}, seed {SEED}: {dict(outcomes)}\n")
    assert {"post", "broken_json", "unexpected_type"} <= outcomes.keys()


@every_format
def test_5000_damaged_records_are_each_a_post_or_counted(name: str) -> None:
    check_mutations(name, 5_000)


@pytest.mark.long
@every_format
def test_100000_damaged_records_are_each_a_post_or_counted(name: str) -> None:
    check_mutations(name, 100_000)


@every_format
def test_any_value_may_be_of_any_type(name: str) -> None:
    """Each value of each record of the fixture, one after the other, is of each other type."""
    good = decode_blocks(name, [block_of([sound(name)])]).posts
    for record in records_of(name):
        whole = msgspec.json.decode(record)
        for container in list(containers(whole)):
            for place in places_of(container):
                kept = container[place]
                for odd in WRONG_TYPES:
                    container[place] = msgspec.Raw(odd)
                    check(name, msgspec.json.encode(whole), good, as_events=False)
                container[place] = kept


@every_format
def test_auto_takes_damaged_records_as_the_format_itself_does_or_refuses_the_stream(name: str) -> None:
    """Behind a sound record it decodes as if the format had been named; without one it may never find it."""
    rng = random.Random(f"auto {name} {SEED}")
    records = [mutated(rng.choice(records_of(name)), rng).replace(b"\n", b" ") for _ in range(2_000)]
    behind = [sound(name), *records]
    assert decode_blocks("auto", [block_of(behind)]) == decode_blocks(name, [block_of(behind)]), f"seed {SEED}"
    for start in range(0, len(records), 20):
        group = [record for record in records[start : start + 20] if record.strip()]
        try:
            found = decode_blocks("auto", [events_of([record]) for record in group])
        except StreamRefused:
            continue
        assert len(found.posts) + found.dropped == len(group), f"seed {SEED}, group {start}"


@every_format
@given(POSITIONS, st.binary())
@settings(deadline=None)
def test_any_text_can_be_a_position_and_any_bytes_may_have_one(name: str, position: str, record: bytes) -> None:
    assert isinstance(FORMATS[name].resume_id(position), str)
    assert isinstance(FORMATS[name].position(record), str)
