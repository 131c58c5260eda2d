"""What a post costs between its bytes and its names, format by format, over what decoding its JSON alone costs."""

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.processes import middle, verdict
from benchmarks.records import Stream, stream_of
from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Decoder, Format, Skipped
from tweetboard.formats.paths import Path
from tweetboard.framing import Block
from tweetboard.posts import Post

pytestmark = pytest.mark.benchmark

RECORDS: Final = 10_000
ROUNDS: Final = 31
TURNS: Final = 10
"""In each round the floor and the decoder take so many turns, so that a busy machine slows them alike."""

RATIO: Final = 1.5

PATHS: Final = (Path("user.screen_name"), Path("message.tags", are_tags=True))
"""What the boards of the format `fields` count."""


@dataclass(frozen=True)
class Measured:
    """A format's processor time a post by round, the floor's and the decoder's."""

    name: str
    stream: Stream
    floor_us: list[float]
    us: list[float]

    @property
    def ratios(self) -> list[float]:
        return [us / floor_us for us, floor_us in zip(self.us, self.floor_us, strict=True)]


def test_formats() -> None:
    """Every post of a realistic stream is found, with its names; the ratios are printed, for machines differ."""
    load = os.getloadavg()[0]
    show([measured(name) for name in ("flat", "fields", "x-v2", "x-v1", "mastodon", "wikimedia", "bluesky")], load)


def measured(name: str) -> Measured:
    stream = stream_of(name, RECORDS)
    check(decoder_of(name), stream)
    decode, floor = decoding(name), floor_of(decoder_of(name).format)
    measured = Measured(name, stream, [], [])
    blocks = len(stream.blocks)
    turns = [stream.blocks[blocks * turn // TURNS : blocks * (turn + 1) // TURNS] for turn in range(TURNS)]
    gc.collect()
    gc.freeze()  # what the test run holds would be looked at again and again, and the daemon does not hold it
    for _ in range(ROUNDS):
        costs = [(cpu_s(floor, turn), cpu_s(decode, turn)) for turn in turns]
        floor_s, decode_s = map(sum, zip(*costs, strict=True))
        measured.floor_us.append(floor_s / stream.posts * 1e6)
        measured.us.append(decode_s / stream.posts * 1e6)
    gc.unfreeze()
    return measured


def decoder_of(name: str) -> Decoder[Any]:
    decoder = decoder_for(name, Skipped(), PATHS if name == "fields" else ())
    assert isinstance(decoder, Decoder)
    return decoder


def check(decoder: Decoder[Any], stream: Stream) -> None:
    posts = [post for block in stream.blocks for post in decoder.decode(block)]
    assert len(posts) == stream.posts
    authors = [post.fields[0] if post.fields else (post.author,) for post in posts]
    hashtags = [post.fields[1] if post.fields else post.hashtags for post in posts]
    assert Counter(name for names in authors for name in names) == stream.authors
    assert Counter(tag.lower() for tags in hashtags for tag in tags) == stream.hashtags
    assert not {"broken_json", "unexpected_type", "invalid_name"} & decoder.skipped.keys()


def decoding(name: str) -> Callable[[Block], object]:
    """Do what the daemon does with a block; what comes over a WebSocket is also asked for its position."""
    decoder = decoder_of(name)
    if name != "bluesky":
        return decoder.decode

    def decode(block: Block) -> list[Post]:
        decoder.format.position(block.events[0].data)
        return decoder.decode(block)

    return decode


def floor_of(source: Format[Any]) -> Callable[[Block], object]:
    """Decode with the format's own Struct and nothing else, of events only those that are records."""
    decoder = msgspec.json.Decoder(source.record)
    kept = source.event_type or "message"

    def floor(block: Block) -> object:
        if block.lines:
            return decoder.decode_lines(block.lines)
        return [decoder.decode(event.data) for event in block.events if event.type == kept]

    return floor


def cpu_s(work: Callable[[Block], object], blocks: Sequence[Block]) -> float:
    begin = time.process_time()
    for block in blocks:
        work(block)
    return time.process_time() - begin


def show(formats: list[Measured], load: float) -> None:
    table = Table(
        title=f"\nFormats: from a block of records to posts, {RECORDS:,} records each",
        title_justify="left",
        caption=f"processor time; median (least to most) of {ROUNDS} rounds; floor: msgspec into the format's own "
        f"Struct, nothing else; load {load:.1f} on {os.cpu_count()} cores before",
        caption_justify="left",
    )
    for column in ("", "bytes/record", "posts", "posts/s", "MB/s", "us/post", "floor us/post", "over the floor"):
        table.add_column(column, justify="right" if column else "left")
    for one in formats:
        us, ratios, stream = middle(one.us), one.ratios, one.stream
        table.add_row(
            one.name,
            f"{stream.size_bytes / RECORDS:,.0f}",
            f"{stream.posts:,}",
            f"{1e6 / us:,.0f}",
            f"{stream.size_bytes / stream.posts / us:,.0f}",
            f"{us:.2f}",
            f"{middle(one.floor_us):.2f}",
            f"{middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
            + verdict(met=middle(ratios) <= RATIO).removeprefix("target "),
        )
    console = Console(width=130, highlight=False)
    console.print(table)
    console.print(f"target: {RATIO:g} times the floor or less")
