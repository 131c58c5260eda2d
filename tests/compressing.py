"""Compressors of all encodings, in one shape: a body at once, or flushed post by post as a server does it."""

import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Encoding: TypeAlias = Literal["gzip", "br", "zstd"]


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _brotli(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=5))


COMPRESS: Final[dict[Encoding, Callable[[bytes], bytes]]] = {"gzip": _gzip, "br": _brotli, "zstd": zstd.compress}


class Flushing:
    """Compresses a body that goes on; what it returns is all that a client needs for what it was given so far."""

    def __init__(self, encoding: Encoding, window_log: int = 22) -> None:
        self._gzip = zlib.compressobj(wbits=31) if encoding == "gzip" else None
        self._brotli = brotli.Compressor(quality=5, lgwin=window_log) if encoding == "br" else None
        self._zstd = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})

    def add(self, data: bytes, *, repeatable: bool = False) -> bytes:
        """Compress and flush, as after each post; what is `repeatable` (in gzip) refers to nothing before it."""
        if self._gzip:
            return self._gzip.compress(data) + self._gzip.flush(zlib.Z_FULL_FLUSH if repeatable else zlib.Z_SYNC_FLUSH)
        if self._brotli:
            return bytes(self._brotli.process(data) + self._brotli.flush())
        return self._zstd.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)
