"""Compressed bytes -> bytes, a little at a time. Pure: no I/O.

What lives here: decoding with bounded output, so that a small chunk cannot become a large one in memory. What must not:
what the bytes mean (framing.py).
"""

import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, Protocol

import brotli

from tweetboard.errors import StreamLost

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 256 * 1024
"""No piece of output is larger, however well it was compressed."""

BOMB_RATIO: Final = {"gzip": 256, "brotli": 2048, "zstd": 2048}
"""Posts shrink to a tenth or a hundredth, much the same ones to a four-hundredth with a window of megabytes.

A bomb is a thousand to one in gzip, and a hundred thousand in the others.
"""

BOMB_BYTES: Final = 64 << 20
"""A body that has become so much more than its `BOMB_RATIO` allows is an attack, in however small chunks it came."""

STEP_BYTES: Final = 128
"""So much goes into a decoder at once.

What it has decoded it keeps to itself where it finds something wrong in the same call, such as a proxy's error page
behind the posts: so little is lost with that.
"""

ZSTD_WINDOW_LOG: Final = 23
"""8 MiB: what a server may ask of a client's memory (RFC 9659); without a bound a frame's head could ask for 128."""


class Decompressor(Protocol):
    """What turns a connection's bytes into the body's."""

    def push(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` adds to the body, in pieces; raises `StreamLost` for what is not decodable or a bomb."""
        ...

    @property
    def whole(self) -> bool:
        """Whether a body may end here."""
        ...


class Identity:
    """A body that is not compressed."""

    def push(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the chunk as it is."""
        yield chunk

    @property
    def whole(self) -> bool:
        """A plain body may end anywhere."""
        return True


class _Compressed(ABC):
    """What every compression has in common: what is not decodable, and what grows beyond measure, is lost."""

    _name: str
    _invalid: type[Exception]

    def __init__(self) -> None:
        self.whole = True
        self._excess = 0

    def push(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` adds to the body, in pieces of at most `PIECE_BYTES`.

        Raises `StreamLost` for bytes that are not so compressed, and for a bomb.
        """
        ratio = BOMB_RATIO[self._name]
        self._excess = max(self._excess - ratio * len(chunk), 0)
        found = bytearray()
        try:
            for piece in self._steps(chunk):
                self._excess += len(piece)
                if self._excess > BOMB_BYTES:
                    told = f"the body grows more than {ratio} to 1: a decompression bomb"
                    raise StreamLost(told, cause="encoding")
                if found and len(found) + len(piece) > PIECE_BYTES:
                    yield bytes(found)
                    found.clear()
                found += piece
        except self._invalid as error:
            if found:
                yield bytes(found)
            raise StreamLost(f"the body is not valid {self._name}: {error}", cause="encoding") from error
        if found:
            yield bytes(found)

    def _steps(self, chunk: bytes) -> Iterator[bytes]:
        for begin in range(0, len(chunk), STEP_BYTES):
            yield from self._pieces(chunk[begin : begin + STEP_BYTES])

    @abstractmethod
    def _pieces(self, chunk: bytes) -> Iterator[bytes]: ...


class Gzip(_Compressed):
    """A gzip body, also of several members one after another (RFC 1952), or with zeros behind, as tapes leave them."""

    _name = "gzip"
    _invalid = zlib.error

    def __init__(self) -> None:
        super().__init__()
        self._member = zlib.decompressobj(wbits=31)

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        piece = b""
        while chunk or len(piece) == PIECE_BYTES:  # a full piece may have left output behind without any input
            if self._member.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                self._member = zlib.decompressobj(wbits=31)
            piece = self._member.decompress(chunk, PIECE_BYTES)
            self.whole = self._member.eof
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            yield piece


class Brotli(_Compressed):
    """A brotli body (RFC 7932), which is one: nothing may follow its end. Its window is 16 MiB at most."""

    _name = "brotli"
    _invalid = brotli.error

    def __init__(self) -> None:
        super().__init__()
        self._body = brotli.Decompressor()

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        # Only an empty piece says that nothing is left behind. The limit is overshot by up to half as much again.
        while piece := self._body.process(chunk, output_buffer_limit=PIECE_BYTES // 4):
            chunk = b""  # the decoder keeps what it has not come to
            yield piece
        self.whole = self._body.is_finished()


class Zstd(_Compressed):
    """A zstd body, also of several frames one after another (RFC 8878), none with a window above `ZSTD_WINDOW_LOG`."""

    _name = "zstd"
    _invalid = zstd.ZstdError

    def __init__(self) -> None:
        super().__init__()
        self._frame = _zstd_frame()

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        while chunk or not (self._frame.needs_input or self._frame.eof):
            if self._frame.eof:
                self._frame = _zstd_frame()
            piece = self._frame.decompress(chunk, PIECE_BYTES)
            self.whole = self._frame.eof
            chunk = self._frame.unused_data  # empty before the frame's end: the decoder keeps what it has not come to
            yield piece


def _zstd_frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})


ENCODINGS: Final[dict[str, type[Decompressor]]] = {
    "": Identity,
    "identity": Identity,
    "gzip": Gzip,
    "x-gzip": Gzip,
    "br": Brotli,
    "zstd": Zstd,
}

ACCEPT_ENCODING: Final = "gzip, br, zstd"


def decompressor_for(content_encoding: str) -> Decompressor:
    """Choose by the Content-Encoding header; raises `StreamLost` for one that was not asked for."""
    encoding = content_encoding.strip().lower()
    if encoding not in ENCODINGS:
        raise StreamLost(f"content-encoding {encoding!r} was not asked for", cause="encoding")
    return ENCODINGS[encoding]()
