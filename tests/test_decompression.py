"""Compressed bodies: the same bytes out however they came in, at once, and never much more at a time."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tweetboard.decompression import (
    ACCEPT_ENCODING,
    BOMB_BYTES,
    BOMB_RATIO,
    ENCODINGS,
    PIECE_BYTES,
    Gzip,
    Identity,
    decompressor_for,
)
from tweetboard.errors import StreamLost

MIB = 1 << 20


def decompressed(chunks: Iterable[bytes]) -> bytes:
    decompressor = Gzip()
    return b"".join(piece for chunk in chunks for piece in decompressor.push(chunk))


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 400), st.integers(0, 9))
def test_any_cutting_of_any_members_gives_the_bodies_one_after_another(
    bodies: list[bytes], size: int, level: int
) -> None:
    stream = b"".join(gzip.compress(body, level) for body in bodies)
    assert decompressed(in_pieces(stream, size)) == b"".join(bodies)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_zeros_behind_a_member_are_no_member(size: int) -> None:
    stream = gzip.compress(b"one") + bytes(512) + gzip.compress(b"two") + bytes(3)
    assert decompressed(in_pieces(stream, size)) == b"onetwo"


@pytest.mark.parametrize("size", [1, 1_000])
def test_a_body_is_whole_where_a_member_has_ended(size: int) -> None:
    member = gzip.compress(b"one")
    decompressor = Gzip()
    assert decompressor.whole, "nothing is a body too"
    for stream, whole in [(member[:-1], False), (member[-1:], True), (bytes(9), True), (member[:3], False)]:
        for piece in in_pieces(stream, size):
            list(decompressor.push(piece))
        assert decompressor.whole == whole


def test_what_was_flushed_is_there_at_once() -> None:
    compressor = zlib.compressobj(wbits=31)
    decompressor = Gzip()
    for number in range(100):
        post = b'{"username":"u%d"}\r\n' % number
        sent = compressor.compress(post) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(decompressor.push(sent)) == post


def test_what_came_before_a_cut_is_kept() -> None:
    body = b"".join(b'{"username":"u%d"}\r\n' % number for number in range(1000))
    cut = gzip.compress(body)[:-100]
    found = decompressed([cut])
    assert found
    assert body.startswith(found)


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 7])
def test_no_piece_is_larger_than_the_bound_and_none_is_left_behind(size: int) -> None:
    pieces = list(Gzip().push(gzip.compress(bytes(size))))
    assert [len(piece) for piece in pieces[:-1]] == [PIECE_BYTES] * ((size - 1) // PIECE_BYTES)
    assert sum(map(len, pieces)) == size


@pytest.mark.parametrize(
    "broken",
    [
        b"{}\r\n",
        b"\x1f\x8b\x08\xff",
        gzip.compress(b"x" * 100, mtime=0)[:20] + b"\xff" * 50,
        gzip.compress(b"x" * 100, mtime=0)[:-8] + b"\0" * 8,
        gzip.compress(b"ok", mtime=0) + b"no second member",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_gzip_ends_the_connection(broken: bytes, size: int) -> None:
    with pytest.raises(StreamLost, match="not valid gzip"):
        decompressed(in_pieces(broken, size))


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Something that is 128 MiB of nothing."""
    compressor = zlib.compressobj(wbits=31)
    return b"".join(compressor.compress(bytes(MIB)) for _ in range(128)) + compressor.flush()


@pytest.mark.parametrize("size", [10, 1000, 16_384, 65_536, MIB])
def test_a_bomb_is_noticed_however_small_the_chunks_it_comes_in(bomb: bytes, size: int) -> None:
    decompressor = Gzip()
    grown = 0
    with pytest.raises(StreamLost, match="bomb"):  # noqa: PT012 - how far it came matters
        for chunk in in_pieces(bomb, size):
            for piece in decompressor.push(chunk):
                grown += len(piece)
    assert BOMB_BYTES <= grown + PIECE_BYTES <= 2 * BOMB_BYTES


def test_a_bomb_takes_no_memory_before_it_is_noticed(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(StreamLost, match="bomb"):
            for _ in Gzip().push(bomb):
                pass
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_long_stream_of_much_the_same_posts_is_no_bomb() -> None:
    compressor = zlib.compressobj(wbits=31)
    decompressor = Gzip()
    line = b'{"data":{"id":"%d","author_id":"1001","text":"' + b"the same words again " * 30 + b'"}}\r\n'
    sent = grown = 0
    for number in range(1000):
        posts = b"".join(line % (number * 1000 + place) for place in range(200))
        chunk = compressor.compress(posts) + compressor.flush(zlib.Z_SYNC_FLUSH)
        sent += len(chunk)
        grown += sum(map(len, decompressor.push(chunk)))
    assert grown > BOMB_BYTES
    assert 20 < grown / sent < BOMB_RATIO


def test_a_flood_of_empty_members_is_read_in_time_that_is_bearable() -> None:
    flood = gzip.compress(b"") * (64 * 1024 // 20)
    began = time.process_time()
    assert decompressed([flood]) == b""
    assert time.process_time() - began < 2.0


def test_an_uncompressed_body_goes_through_as_it_is() -> None:
    chunk = b"\x1f\x8b anything"
    assert next(Identity().push(chunk)) is chunk


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [("", Identity), ("identity", Identity), ("gzip", Gzip), ("x-gzip", Gzip), (" GZip ", Gzip)],
)
def test_the_header_says_which(encoding: str, kind: type) -> None:
    assert type(decompressor_for(encoding)) is kind


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_an_encoding_that_was_not_asked_for_ends_the_connection(encoding: str) -> None:
    with pytest.raises(StreamLost, match=f"'{encoding}' was not asked for"):
        decompressor_for(encoding)


def test_what_is_asked_for_is_understood() -> None:
    assert ACCEPT_ENCODING in ENCODINGS
