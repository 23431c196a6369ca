"""The bytes of a record log's segment (``docs/formats/records.rst``), and how to read them when they are damaged.

A segment is a header and then records back to back. A record's header has a checksum of its own, taken over its position
too, so that a reader can trust the length, skip what follows, and find the next record again after damage. Big-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import msgspec

from hornetmail.disk.seal import OVERHEAD, BrokenSeal, Seal

VERSION = 1
SEALED = 1
"""The only flag, of segments and of records."""

SEGMENT_MAGIC = b"HMSEG\r\n\x1a"
_SEGMENT = struct.Struct(">8sBB2x16sQ8s8s")
"""magic, version, flags, writer, number, identity, key check; a CRC-32 of these follows."""
HEADER_BYTES = _SEGMENT.size + 4

RECORD_MAGIC = b"\xa5HR\x01"
_RECORD = struct.Struct(">4sBB2xII")
"""magic, kind, flags, stored length, CRC-32 of the stored payload (0 if sealed); a CRC-32 of these and the position follows."""
RECORD_BYTES = _RECORD.size + 4
_CRC = struct.Struct(">I")
_PLACE = struct.Struct(">8sQQ")

MAX_PAYLOAD = 64 << 20


class WrongKey(Exception):
    """The segment was sealed under another key. Nothing was changed."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """What names a segment for good: ``identity`` is 8 random bytes, so that no record can be taken for one of another segment."""

    writer: str
    number: int
    identity: bytes

    @property
    def name(self) -> str:
        """The file's name. It repeats the header, so that a damaged header costs nothing."""
        return f"{self.writer}-{self.number:010d}-{self.identity.hex()}.log"

    @classmethod
    def of(cls, name: str) -> Place | None:
        """The place that a file's name tells, or None if it is no segment's."""
        stem, dot, suffix = name.rpartition(".")
        writer, _, rest = stem.rpartition("-")
        writer, _, number = writer.rpartition("-")
        if not dot or suffix != "log" or not writer or len(rest) != 16 or not (number.isascii() and number.isdigit()):
            return None
        try:
            return cls(writer, int(number), bytes.fromhex(rest))
        except ValueError:
            return None

    def seal(self, seal: Seal) -> Seal:
        """The segment's own key."""
        return seal.derive(b"segment " + self.identity + self.number.to_bytes(8, "big"))


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a segment that hold no intact record. ``torn``: nothing intact follows and the record is incomplete."""

    segment: int
    offset: int
    length: int
    reason: str
    torn: bool = False


class Found(msgspec.Struct, frozen=True, gc=False):
    """An intact record."""

    offset: int
    kind: int
    payload: bytes


def segment_header(place: Place, seal: Seal | None) -> bytes:
    """The first bytes of a segment; ``seal`` is the segment's own."""
    check = _key_check(seal) if seal else bytes(8)
    head = _SEGMENT.pack(
        SEGMENT_MAGIC, VERSION, SEALED if seal else 0, place.writer.encode(), place.number, place.identity, check
    )
    return head + _CRC.pack(zlib.crc32(head))


def check_header(data: bytes, place: Place, seal: Seal | None) -> bool:
    """Whether the header is intact and this place's. Raises WrongKey if it is intact and names another key, or none where one is given."""
    head = data[: _SEGMENT.size]
    if len(data) < HEADER_BYTES or data[_SEGMENT.size : HEADER_BYTES] != _CRC.pack(zlib.crc32(head)):
        return False
    magic, version, flags, writer, number, identity, check = _SEGMENT.unpack(head)
    if (
        magic != SEGMENT_MAGIC
        or version != VERSION
        or (writer.rstrip(b"\0").decode("ascii", "replace"), number, identity)
        != (
            place.writer,
            place.number,
            place.identity,
        )
    ):
        return False
    if flags & SEALED and (seal is None or check != _key_check(seal)):
        raise WrongKey(f"{place.name} is sealed under another key")
    return True


def _key_check(seal: Seal) -> bytes:
    """8 bytes that tell keys apart and nothing else about them."""
    return seal.derive(b"check").mark()


def stored_length(payload: int, sealed: bool) -> int:
    """The bytes that a record with a payload of that length takes in a segment."""
    return RECORD_BYTES + payload + (OVERHEAD if sealed else 0)


def encode(place: Place, offset: int, kind: int, payload: bytes, seal: Seal | None) -> tuple[bytes, bytes]:
    """A record's header and stored payload for exactly that place; ``seal`` is the segment's own."""
    where = _PLACE.pack(place.identity, place.number, offset)
    if seal is not None:
        head = _RECORD.pack(RECORD_MAGIC, kind, SEALED, len(payload) + OVERHEAD, 0)
        payload = seal.close(payload, head + where)
    else:
        head = _RECORD.pack(RECORD_MAGIC, kind, 0, len(payload), zlib.crc32(payload))
    return head + _CRC.pack(zlib.crc32(head, zlib.crc32(where))), payload


def header_at(data: bytes, offset: int, place: Place, at: int) -> tuple[int, bool, int, int] | None:
    """Kind, sealed, stored length and CRC of the record header at ``data[offset:]``, if it is one of position ``at``; else None."""
    if data[offset : offset + 4] != RECORD_MAGIC or len(data) < offset + RECORD_BYTES:
        return None
    head = data[offset : offset + _RECORD.size]
    where = _PLACE.pack(place.identity, place.number, at)
    if data[offset + _RECORD.size : offset + RECORD_BYTES] != _CRC.pack(zlib.crc32(head, zlib.crc32(where))):
        return None
    _, kind, flags, length, crc = _RECORD.unpack(head)
    return kind, bool(flags & SEALED), length, crc


def open_payload(head: bytes, stored: bytes, place: Place, at: int, seal: Seal | None) -> bytes:
    """The plain payload of a record whose header is ``head``. Raises BrokenSeal for anything that is wrong with it."""
    _, _, flags, _, crc = _RECORD.unpack(head[: _RECORD.size])
    if flags & SEALED:
        if seal is None:
            raise BrokenSeal("sealed, and no key is given")
        return seal.open(stored, head[: _RECORD.size] + _PLACE.pack(place.identity, place.number, at))
    if zlib.crc32(stored) != crc:
        raise BrokenSeal("the checksum does not match")
    return stored


def scan(data: bytes, place: Place, seal: Seal | None) -> Iterator[Found | Damage]:
    """All of a segment in order: every intact record, and what lies between. Never raises for what ``data`` holds."""
    offset = HEADER_BYTES
    while offset < len(data):
        head = header_at(data, offset, place, offset)
        start = offset + RECORD_BYTES
        stop = start + head[2] if head else 0
        if head is None or stop > len(data):
            after = _next_header(data, place, offset + 1)
            reason = "an incomplete record" if head else "no record header"
            yield Damage(place.number, offset, (after or len(data)) - offset, reason, torn=not after)
            if not after:
                return
            offset = after
            continue
        try:
            yield Found(offset, head[0], open_payload(data[offset:start], data[start:stop], place, offset, seal))
        except BrokenSeal as error:
            yield Damage(place.number, offset, stop - offset, str(error))
        offset = stop


def _next_header(data: bytes, place: Place, start: int) -> int:
    """The offset of the next record header from ``start`` on, 0 if there is none."""
    found = data.find(RECORD_MAGIC, start)
    while found >= 0:
        if header_at(data, found, place, found):
            return found
        found = data.find(RECORD_MAGIC, found + 1)
    return 0
