"""A mail's bytes as a stream, a slice at a time, for mails too large to be held. Nothing of it may be shown before the end was reached: only then the
tags of all its records and its SHA-256 are proved (``tests/archive/test_streams.py``: memory stays flat)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator

import zstandard

from hornetmail.archive.store.records import (
    HEAD_BYTES,
    MAX_PLAIN,
    Header,
    Kind,
    MailMeta,
    RecordBroken,
    RecordCodec,
    Segment,
    Stretch,
    base64_lines,
    mail_meta,
)
from hornetmail.disk.seal import TAG_BYTES, BrokenSeal

SLICE_BYTES = 57 * 4096
"""A multiple of what base64 puts on a line."""

READ_BYTES = 1 << 20
_META = struct.Struct(">I")

Ranges = Callable[[int, int], bytes]
"""Reads from a record: first byte and length."""

Place = tuple[Ranges, int]
"""A record: what reads from it, and how long it is."""


class Sealed:
    """The ciphertext of a record, opened as it is read; at its end the tag is checked. What ``zstandard`` reads from."""

    def __init__(self, codec: RecordCodec, ranges: Ranges, length: int) -> None:
        try:
            self.header, self._at, self._opening = codec.opening(ranges(0, min(HEAD_BYTES, length)))
        except BrokenSeal as error:
            raise RecordBroken(f"a record that does not open: {error}") from None
        self._ranges = ranges
        self._end = length - TAG_BYTES
        self._checked = False

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none at the end. Raises RecordBroken."""
        left = self._end - self._at
        if left <= 0:
            self._check()
            return b""
        wanted = min(left, READ_BYTES if size < 0 else size)
        piece = self._ranges(self._at, wanted)
        if len(piece) != wanted:
            raise RecordBroken(f"record {self.header.record.hex()} is cut off")
        self._at += wanted
        return self._opening.feed(piece)

    def finish(self) -> None:
        """Read what is left, and check the tag."""
        while self.read():
            pass

    def _check(self) -> None:
        if self._checked:
            return
        try:
            self._opening.end(self._ranges(self._end, TAG_BYTES))
        except BrokenSeal:
            raise RecordBroken(f"record {self.header.record.hex()} does not open: it was changed") from None
        self._checked = True


class Unpacked:
    """A record's plain content: its meta, then ``body`` in slices."""

    def __init__(self, sealed: Sealed) -> None:
        self._sealed = sealed
        self._reader = zstandard.ZstdDecompressor().stream_reader(sealed)  # type: ignore[arg-type]
        self._given = 0
        self.meta = self.take(_META.unpack(self.take(_META.size))[0])

    @property
    def header(self) -> Header:
        """The open part of the record."""
        return self._sealed.header

    def take(self, length: int) -> bytes:
        """Just so many bytes. Raises RecordBroken."""
        data = self._read(length)
        if len(data) != length:
            raise RecordBroken(f"record {self.header.record.hex()} ends too early")
        return data

    def body(self, length: int = -1) -> Iterator[bytes]:
        """So many bytes, or all there are; then the record is proved."""
        left = length
        while left:
            data = self._read(SLICE_BYTES if left < 0 else min(SLICE_BYTES, left))
            if not data:
                break
            left = left if left < 0 else left - len(data)
            yield data
        if left > 0:
            raise RecordBroken(f"record {self.header.record.hex()} ends too early")

    def finish(self) -> None:
        """Nothing may follow, and the tag must match."""
        if self._read(1):
            raise RecordBroken(f"record {self.header.record.hex()} holds more than it states")
        self._sealed.finish()

    def _read(self, length: int) -> bytes:
        """All of it, unless the end comes first: ``stream_reader`` may give less."""
        pieces = []
        while length:
            try:
                piece = self._reader.read(length)
            except zstandard.ZstdError as error:
                raise RecordBroken(f"record {self.header.record.hex()} does not unpack: {error}") from None
            if not piece:
                break
            pieces.append(piece)
            length -= len(piece)
            self._given += len(piece)
            if self._given > MAX_PLAIN:
                raise RecordBroken(f"record {self.header.record.hex()} is larger than any")
        return b"".join(pieces)


def mail_slices(codec: RecordCodec, place: Place, wanted: bytes, part: Callable[[bytes], Place]) -> Iterator[bytes]:
    """The exact bytes of the mail whose record has the ID ``wanted``. In threads. ``part``: where a shared part lies. Raises RecordBroken (at the end at the latest), KeyTrouble, MediumError, and
    what the ranges raise."""
    record = Unpacked(Sealed(codec, *place))
    if record.header.kind != Kind.MESSAGE or record.header.record != wanted:
        raise RecordBroken(f"record {record.header.record.hex()} lies where the index has message {wanted.hex()}")
    meta = mail_meta(record.meta)
    digest, size = hashlib.sha256(), 0
    for piece in _stretches(codec, record, meta, part):
        digest.update(piece)
        size += len(piece)
        yield piece
    record.finish()
    if size != meta.size or digest.digest() != meta.sha256:
        raise RecordBroken(f"mail {meta.identifier}: its bytes do not have the SHA-256 {meta.sha256.hex()}")


def _stretches(codec: RecordCodec, record: Unpacked, meta: MailMeta, part: Callable[[bytes], Place]) -> Iterator[bytes]:
    if not meta.stretches:
        yield from record.body()
    for stretch in meta.stretches:
        if stretch.kind == Segment.INLINE:
            yield from record.body(stretch.length)
        else:
            yield from _shared(codec, meta, stretch, part)


def _shared(codec: RecordCodec, meta: MailMeta, stretch: Stretch, part: Callable[[bytes], Place]) -> Iterator[bytes]:
    record = Unpacked(Sealed(codec, *part(stretch.part)))
    if record.header.kind != Kind.PART or record.header.record != stretch.part:
        raise RecordBroken(f"mail {meta.identifier}: another record lies where its part {stretch.part.hex()} should")
    if stretch.kind == Segment.SHARED:
        yield from record.body()
    elif stretch.kind == Segment.BASE64:
        before = b""
        for piece in record.body():
            yield before + base64_lines(piece)
            before = b"\r\n"
    else:
        raise RecordBroken(f"mail {meta.identifier}: a stretch of kind {stretch.kind}")
    record.finish()
