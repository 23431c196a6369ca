"""COMPRESS=DEFLATE (RFC 4978): what comes is inflated a slice at a time, so that no few bytes become more than that at once."""

from __future__ import annotations

import zlib

SLICE_BYTES = 32_768
"""Inflated at a time: a tenth of a millisecond (``tests/wire/imap/test_deflate.py``)."""

LEVEL = 3
WINDOW_BITS = -13
MEMORY_LEVEL = 6
"""With these a connection holds 64 KiB for what it says, and up to 40 KiB for what it hears; larger windows hold four times as much for a few hundredths
of the size."""


class NotDeflate(Exception):
    """What came is no raw DEFLATE stream, or one that has ended."""


class Deflate:
    """Both directions of a connection."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(-15)
        self._deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW_BITS, MEMORY_LEVEL)
        self._waiting = b""

    @property
    def waiting(self) -> int:
        """Bytes that came and are not inflated yet."""
        return len(self._waiting)

    def receive(self, data: bytes) -> None:
        """Bytes from the peer."""
        self._waiting = self._waiting + data if self._waiting else data

    def more(self) -> bytes:
        """The next ``SLICE_BYTES`` at most, ``b""`` if more has to come first. Raises NotDeflate."""
        if self._inflater.eof:
            raise NotDeflate
        try:
            found = self._inflater.decompress(self._waiting, SLICE_BYTES)
        except zlib.error:
            raise NotDeflate from None
        self._waiting = self._inflater.unconsumed_tail
        return found

    def said(self, data: bytes) -> bytes:
        """Bytes to the peer, complete: it can inflate all of them."""
        return self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)

    def forget(self) -> None:
        """Nothing more is read."""
        self._waiting = b""
