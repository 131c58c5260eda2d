"""Compressed bodies: the same bytes out however they came in, at once, and never much more at a time."""

import gzip
import hashlib
import time
import tracemalloc
from collections.abc import Iterable
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressing import COMPRESS, Encoding, Flushing
from tweetboard.decompression import (
    ACCEPT_ENCODING,
    BOMB_BYTES,
    BOMB_RATIO,
    ENCODINGS,
    PIECE_BYTES,
    STEP_BYTES,
    Brotli,
    Decompressor,
    Gzip,
    Identity,
    Zstd,
    decompressor_for,
)
from tweetboard.errors import StreamLost

MIB = 1 << 20
ALL: tuple[Encoding, ...] = get_args(Encoding)
MEMBERS: tuple[Encoding, ...] = ("gzip", "zstd")  # of which several may stand one after another

every = pytest.mark.parametrize("encoding", ALL)


def decompressed(encoding: str, chunks: Iterable[bytes]) -> bytes:
    decompressor = decompressor_for(encoding)
    return b"".join(piece for chunk in chunks for piece in decompressor.push(chunk))


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(ALL), st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 400))
def test_any_cutting_gives_the_body_and_of_several_members_one_after_another(
    encoding: Encoding, bodies: list[bytes], size: int
) -> None:
    if encoding not in MEMBERS:
        bodies = bodies[:1]
    stream = b"".join(COMPRESS[encoding](body) for body in bodies)
    assert decompressed(encoding, in_pieces(stream, size)) == b"".join(bodies)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_zeros_behind_a_member_are_no_member(size: int) -> None:
    stream = gzip.compress(b"one") + bytes(512) + gzip.compress(b"two") + bytes(3)
    assert decompressed("gzip", in_pieces(stream, size)) == b"onetwo"


@pytest.mark.parametrize("size", [1, 5, 1_000])
def test_a_skippable_frame_is_no_body(size: int) -> None:
    skipped = (0x184D2A50).to_bytes(4, "little") + (7).to_bytes(4, "little") + b"whatever"[:7]
    stream = COMPRESS["zstd"](b"one") + skipped + COMPRESS["zstd"](b"two")
    assert decompressed("zstd", in_pieces(stream, size)) == b"onetwo"


@pytest.mark.parametrize("size", [1, 1_000])
@every
def test_a_body_is_whole_where_it_has_ended(encoding: Encoding, size: int) -> None:
    member = COMPRESS[encoding](b"one")
    decompressor = decompressor_for(encoding)
    assert decompressor.whole, "nothing is a body too"
    stages = [(member[:-1], False), (member[-1:], True)]
    stages += [(bytes(9), True)] if encoding == "gzip" else []
    stages += [(member[:3], False)] if encoding in MEMBERS else []
    for stream, whole in stages:
        for piece in in_pieces(stream, size):
            list(decompressor.push(piece))
        assert decompressor.whole == whole


@every
def test_what_was_flushed_is_there_at_once(encoding: Encoding) -> None:
    compressor, decompressor = Flushing(encoding), decompressor_for(encoding)
    for number in range(100):
        post = b'{"username":"u%d"}\r\n' % number
        assert b"".join(decompressor.push(compressor.add(post))) == post


@every
def test_what_came_before_a_cut_is_kept(encoding: Encoding) -> None:
    compressor = Flushing(encoding)
    posts = [b'{"username":"u%d"}\r\n' % number for number in range(1000)]
    cut = b"".join(compressor.add(post) for post in posts)[:-100]
    found = decompressed(encoding, [cut])
    assert len(found) > 10_000
    assert b"".join(posts).startswith(found)


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 7])
@every
def test_no_piece_is_larger_than_the_bound_and_none_is_left_behind(encoding: Encoding, size: int) -> None:
    pieces = list(decompressor_for(encoding).push(COMPRESS[encoding](bytes(size))))
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert sum(map(len, pieces)) == size


@pytest.mark.parametrize(
    ("encoding", "broken"),
    [
        ("gzip", b"{}\r\n"),
        ("gzip", b"\x1f\x8b\x08\xff"),
        ("gzip", gzip.compress(b"x" * 100, mtime=0)[:20] + b"\xff" * 50),
        ("gzip", gzip.compress(b"x" * 100, mtime=0)[:-8] + b"\0" * 8),
        ("gzip", gzip.compress(b"ok", mtime=0) + b"no second member"),
        ("br", b"\xff{}\r\n no brotli"),
        ("br", COMPRESS["br"](b"ok") + b"nothing may follow"),
        ("zstd", b"{}\r\n"),
        ("zstd", COMPRESS["zstd"](b"ok") + b"no second frame"),
        ("zstd", Flushing("zstd", window_log=24).add(b"x" * 100)),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_not_so_compressed_ends_the_connection(encoding: str, broken: bytes, size: int) -> None:
    """So does a window of more than 8 MiB, which a server has no right to (RFC 9659)."""
    with pytest.raises(StreamLost, match=r"the body is not valid (gzip|brotli|zstd)"):
        decompressed(encoding, in_pieces(broken, size))


@every
@pytest.mark.parametrize("behind", [b"garbage", b"x" * 400])
def test_what_came_before_the_garbage_is_not_lost(encoding: Encoding, behind: bytes) -> None:
    """But for what a decoder had found in the very call in which it fails, which it hands over to nobody."""
    body = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(10_000))
    whole = COMPRESS[encoding](body)
    found = bytearray()

    def decompress() -> None:
        decompressor = decompressor_for(encoding)
        for chunk in in_pieces(whole + behind, 100_000):
            for piece in decompressor.push(chunk):
                found.extend(piece)

    with pytest.raises(StreamLost):
        decompress()
    assert body.startswith(found)
    assert len(found) >= len(body) - 2 * STEP_BYTES


@pytest.fixture(scope="module", params=ALL)
def bomb(request: pytest.FixtureRequest) -> tuple[Encoding, bytes]:
    """Something that is 128 MiB of nothing."""
    encoding: Encoding = request.param
    compressor = Flushing(encoding)
    return encoding, b"".join(compressor.add(bytes(MIB)) for _ in range(128))


@pytest.mark.parametrize("size", [10, 1000, 16_384, 65_536, MIB])
def test_a_bomb_is_noticed_however_small_the_chunks_it_comes_in(bomb: tuple[Encoding, bytes], size: int) -> None:
    encoding, data = bomb
    decompressor = decompressor_for(encoding)
    grown = 0
    with pytest.raises(StreamLost, match="bomb"):  # noqa: PT012 - how far it came matters
        for chunk in in_pieces(data, size):
            for piece in decompressor.push(chunk):
                grown += len(piece)
    assert BOMB_BYTES <= grown + PIECE_BYTES <= 2 * BOMB_BYTES


def test_a_bomb_takes_no_memory_before_it_is_noticed(bomb: tuple[Encoding, bytes]) -> None:
    encoding, data = bomb
    tracemalloc.start()
    try:
        with pytest.raises(StreamLost, match="bomb"):
            for _ in decompressor_for(encoding).push(data):
                pass
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB, "8 MiB of it the window"
    finally:
        tracemalloc.stop()


@every
def test_a_long_stream_of_much_the_same_posts_is_no_bomb(encoding: Encoding) -> None:
    compressor, decompressor = Flushing(encoding), decompressor_for(encoding)
    line = b'{"data":{"id":"%d","author_id":"1001","text":"' + b"the same words again " * 30 + b'"}}\r\n'
    sent = grown = 0
    for number in range(1000):
        posts = b"".join(line % (number * 1000 + place) for place in range(200))
        chunk = compressor.add(posts)
        sent += len(chunk)
        grown += sum(map(len, decompressor.push(chunk)))
    assert grown > BOMB_BYTES
    assert 20 < grown / sent < BOMB_RATIO["brotli" if encoding == "br" else encoding]


@pytest.mark.parametrize("encoding", MEMBERS)
def test_a_flood_of_empty_members_is_read_in_time_that_is_bearable(encoding: Encoding) -> None:
    empty = COMPRESS[encoding](b"")
    flood = empty * (64 * 1024 // len(empty))
    began = time.process_time()
    assert decompressed(encoding, [flood]) == b""
    assert time.process_time() - began < 2.0


def test_an_uncompressed_body_goes_through_as_it_is() -> None:
    chunk = b"\x1f\x8b anything"
    assert next(Identity().push(chunk)) is chunk


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        ("", Identity),
        ("identity", Identity),
        ("gzip", Gzip),
        ("x-gzip", Gzip),
        (" GZip ", Gzip),
        ("br", Brotli),
        ("zstd", Zstd),
    ],
)
def test_the_header_says_which(encoding: str, kind: type[Decompressor]) -> None:
    assert type(decompressor_for(encoding)) is kind


@pytest.mark.parametrize("encoding", ["deflate", "compress", "gzip, gzip", "gzip, br"])
def test_an_encoding_that_was_not_asked_for_ends_the_connection(encoding: str) -> None:
    with pytest.raises(StreamLost, match=f"'{encoding}' was not asked for"):
        decompressor_for(encoding)


def test_what_is_asked_for_is_understood() -> None:
    assert set(ACCEPT_ENCODING.split(", ")) <= set(ENCODINGS)
