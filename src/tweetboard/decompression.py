"""Compressed bytes -> bytes, a little at a time. Pure: no I/O.

What lives here: decoding with bounded output, so that a small chunk cannot become a large one in memory. What must not:
what the bytes mean (framing.py).
"""

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from tweetboard.errors import StreamLost

PIECE_BYTES: Final = 256 * 1024
"""No piece of output is larger, however well it was compressed."""

BOMB_RATIO: Final = 256
"""Posts shrink to a tenth or a hundredth; gzip can do a thousand to one."""

BOMB_BYTES: Final = 64 << 20
"""A body that has become so much more than `BOMB_RATIO` allows is an attack, in however small chunks it came."""


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


class Gzip:
    """A gzip body, also of several members one after another (RFC 1952), or with zeros behind, as tapes leave them."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self.whole = True
        self._excess = 0

    def push(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` adds to the body, in pieces of at most `PIECE_BYTES`.

        Raises `StreamLost` for bytes that are not gzip, and for a bomb.
        """
        self._excess = max(self._excess - BOMB_RATIO * len(chunk), 0)
        piece = b""
        while chunk or len(piece) == PIECE_BYTES:  # a full piece may have left output behind without any input
            if self._member.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    break
                self._member = zlib.decompressobj(wbits=31)
            try:
                piece = self._member.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                raise StreamLost(f"the body is not valid gzip: {error}") from error
            self.whole = self._member.eof
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._excess += len(piece)
            if self._excess > BOMB_BYTES:
                raise StreamLost(f"the body grows more than {BOMB_RATIO} to 1: a decompression bomb", cause="encoding")
            if piece:
                yield piece


ENCODINGS: Final[dict[str, type[Decompressor]]] = {"": Identity, "identity": Identity, "gzip": Gzip, "x-gzip": Gzip}

ACCEPT_ENCODING: Final = "gzip"


def decompressor_for(content_encoding: str) -> Decompressor:
    """Choose by the Content-Encoding header; raises `StreamLost` for one that was not asked for."""
    encoding = content_encoding.strip().lower()
    if encoding not in ENCODINGS:
        raise StreamLost(f"content-encoding {encoding!r} was not asked for", cause="encoding")
    return ENCODINGS[encoding]()
