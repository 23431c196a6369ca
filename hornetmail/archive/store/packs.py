"""The pack: records of one merge group (tenant, medium, month of expiry) in one file, with a trailer that authenticates them and their
order (rules 20, 21). Packs of month 0 are the medium's journal: later facts that outlive any month (rule 18).
"""

from __future__ import annotations

import calendar
import hashlib
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import zstandard

from hornetmail.archive.keys.keyring import Keyring, KeyTrouble
from hornetmail.archive.store.records import RecordBroken, read_header
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.seal import BrokenSeal

HEADER = struct.Struct(">8sIIQ16sQHxxxxxxxxxxxxxx")
"""Magic, medium, month (YYYYMM or 0), tenant, pack ID, made (milliseconds), node: 64 bytes."""

FOOTER = struct.Struct(">QI32s8s")
"""Offset of the trailer, key number, SHA-256 of all bytes before the footer, magic: 52 bytes."""

LENGTH = struct.Struct(">I")
_MAGIC = b"HMPACK1\n"
_END = b"HMPEND1\n"
_CONTEXT = b"hornetmail pack trailer 1"


class PackBroken(ArchiveError):
    """A pack that does not hold what its trailer states; the message says what is wrong."""


def month_of(expires: float) -> int:
    """The month of expiry as YYYYMM (UTC)."""
    when = time.gmtime(min(max(expires, 0.0), 253402300799.0))
    return when.tm_year * 100 + when.tm_mon


def end_of(month: int) -> float:
    """Unix seconds at which a month (YYYYMM, UTC) is over."""
    year, number = divmod(month, 100)
    return float(calendar.timegm((year + number // 12, number % 12 + 1, 1, 0, 0, 0)))


_PACK_NAME = re.compile(r"(?:packs/t(\d{1,19})/(\d{4})-(\d{2})|journal/t(\d{1,19}))/([0-9a-f]{32})\.pack", re.ASCII)


class Group(msgspec.Struct, frozen=True, gc=False, order=True):
    """A merge group on one medium."""

    tenant: int
    month: int


class Member(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One record in a pack: ``offset`` and ``length`` of the record itself, SHA-256 of its bytes."""

    record: bytes
    kind: int
    offset: int
    length: int
    sha256: bytes


class PackHead(msgspec.Struct, frozen=True, gc=False):
    """What a pack says of itself."""

    medium: int
    group: Group
    pack: bytes
    made: float
    node: int = 0

    @property
    def name(self) -> str:
        """Its name on the medium."""
        return f"{prefix_of(self.group)}{self.pack.hex()}.pack"


class _Trailer(msgspec.Struct, frozen=True, gc=False):
    members: tuple[Member, ...]


class SealedPack(msgspec.Struct, frozen=True, gc=False):
    """A whole pack: its bytes (``b""`` once they are put away), their number and SHA-256, and what they hold."""

    head: PackHead
    members: tuple[Member, ...]
    data: bytes
    sha256: bytes
    size: int


class Salvaged(msgspec.Struct, frozen=True, gc=False):
    """What can be had of a damaged pack: the records that are whole, or may be (they say so themselves when they are opened), and what is damaged."""

    pack: SealedPack
    damage: tuple[str, ...]


def prefix_of(group: Group) -> str:
    """The folder of a group's packs on a medium."""
    if group.month == 0:
        return f"journal/t{group.tenant}/"
    return f"packs/t{group.tenant}/{group.month // 100:04d}-{group.month % 100:02d}/"


def build_pack(head: PackHead, records: Sequence[bytes], keyring: Keyring, key: int) -> SealedPack:
    """Put records together in this order. ``key``: number of the data key that seals the trailer."""
    pieces: list[bytes] = []
    writer = PackWriter(head, pieces.append)
    for record in records:
        writer.add(record)
    whole = writer.end(keyring, key)
    return msgspec.structs.replace(whole, data=b"".join(pieces))


class PackWriter:
    """A pack written record by record, for packs that are too large for memory: ``write`` takes its bytes in order. What lies in memory is a few dozen
    bytes a record."""

    def __init__(self, head: PackHead, write: Callable[[bytes], None]) -> None:
        self._head = head
        self._write = write
        self._start = HEADER.pack(
            _MAGIC, head.medium, head.group.month, head.group.tenant, head.pack, round(head.made * 1000), head.node
        )
        self._members: list[Member] = []
        self._digest = hashlib.sha256()
        self._at = 0
        self._put(self._start)

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._write(data)
        self._at += len(data)

    def add(self, record: bytes) -> None:
        """The next record. Raises PackBroken (another tenant's), RecordBroken."""
        header = read_header(record)
        if header.tenant != self._head.group.tenant:
            raise PackBroken(f"a record of tenant {header.tenant} in a pack of tenant {self._head.group.tenant}")
        self._put(LENGTH.pack(len(record)))
        self._members.append(Member(header.record, header.kind, self._at, len(record), hashlib.sha256(record).digest()))
        self._put(record)

    def end(self, keyring: Keyring, key: int) -> SealedPack:
        """Trailer and footer; the pack, without its bytes. ``key``: number of the data key that seals the trailer."""
        at = self._at
        plain = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(_Trailer(tuple(self._members))))
        self._put(keyring.seal(key).close(plain, _CONTEXT + self._start))
        self._put(FOOTER.pack(at, key, self._digest.digest(), _END))
        return SealedPack(self._head, tuple(self._members), b"", self._digest.digest(), self._at)


def members_of(get: Callable[[int, int], bytes], size: int, keyring: Keyring) -> tuple[PackHead, tuple[Member, ...]]:
    """What a pack of ``size`` bytes says of itself, without its records: ``get(start, length)`` reads a stretch. Each member's SHA-256 is
    authenticated by the trailer. Raises PackBroken, KeyTrouble."""
    start, end = get(0, HEADER.size), get(max(0, size - FOOTER.size), FOOTER.size)
    if len(start) < HEADER.size or len(end) < FOOTER.size or start[:8] != _MAGIC:
        raise PackBroken("not a pack, or cut off")
    at, key, _, magic = FOOTER.unpack(end)
    if magic != _END or not HEADER.size <= at < size - FOOTER.size:
        raise PackBroken("it has no end: cut off")
    return read_pack_head(start), _open_trailer(start, get(at, size - FOOTER.size - at), keyring, key)


def name_of_records(records: Iterable[bytes]) -> bytes:
    """A pack's ID: derived from the IDs of its records in their order, so that the same pack has the same name."""
    digest = hashlib.blake2b(digest_size=16, person=b"hornetmail pack")
    for record in records:
        digest.update(record)
    return digest.digest()


def pack_id_of(name: str) -> bytes:
    """The pack's ID by its name on a medium, ``b""`` if it is not the name of a pack."""
    match = _PACK_NAME.fullmatch(name)
    return bytes.fromhex(match[5]) if match else b""


def open_pack(data: bytes, keyring: Keyring) -> SealedPack:
    """Check a pack from end to end: footer, checksum, trailer, and that it holds just the members stated, in their order. Raises PackBroken."""
    if len(data) < HEADER.size + FOOTER.size or data[:8] != _MAGIC:
        raise PackBroken("not a pack, or cut off at its beginning")
    end = len(data) - FOOTER.size
    at, key, digest, magic = FOOTER.unpack_from(data, end)
    if magic != _END:
        raise PackBroken("it has no end: cut off")
    if hashlib.sha256(memoryview(data)[:end]).digest() != digest:
        raise PackBroken("its bytes do not have the checksum of its end")
    if not HEADER.size <= at < end:
        raise PackBroken("its trailer lies outside of it")
    members = _open_trailer(data[: HEADER.size], data[at:end], keyring, key)
    for member, (offset, record) in zip(members, _walk(data, at), strict=False):
        if (offset, len(record)) != (member.offset, member.length) or hashlib.sha256(record).digest() != member.sha256:
            raise PackBroken(f"record {member.record.hex()} was changed or moved")
    if sum(1 for _ in _walk(data, at)) != len(members):
        raise PackBroken(f"it holds other records than the {len(members)} of its trailer")
    return SealedPack(read_pack_head(data), members, data, hashlib.sha256(data).digest(), len(data))


def salvage_pack(name: str, data: bytes, keyring: Keyring) -> Salvaged:
    """What a damaged pack still holds: by its trailer if that opens, else by the records' own headers, which say where each begins. ``name``: where
    it lies on the medium, which says what its header said. Cost is linear in the data. Raises PackBroken (not the name of a pack)."""
    head, damage = _head_of(name, data)
    members: tuple[Member, ...] = ()
    try:
        members = _by_trailer(data, keyring)
    except (PackBroken, KeyTrouble) as error:
        damage.append(f"its trailer is of no use ({error}): what it held besides the records found cannot be told")
        members = tuple(_by_headers(data, head.group.tenant))
    else:
        kept = []
        for member in members:
            if hashlib.sha256(data[member.offset : member.offset + member.length]).digest() == member.sha256:
                kept.append(member)
            else:
                damage.append(f"record {member.record.hex()} ({_kind(member.kind)}) was changed or is cut off")
        members = tuple(kept)
    return Salvaged(SealedPack(head, members, data, hashlib.sha256(data).digest(), len(data)), tuple(damage))


def _head_of(name: str, data: bytes) -> tuple[PackHead, list[str]]:
    """A damaged pack's head: tenant, month and ID by its name, the rest by its header as far as that agrees."""
    match = _PACK_NAME.fullmatch(name)
    if match is None:
        raise PackBroken("not the name of a pack")
    tenant, year, month, journal, pack = match.groups()
    group = Group(int(journal or tenant), 0 if journal else int(year) * 100 + int(month))
    try:
        head = read_pack_head(data)
    except PackBroken:
        head = None
    if head is None or (head.group, head.pack) != (group, bytes.fromhex(pack)):
        return PackHead(0, group, bytes.fromhex(pack), 0.0), ["its header was changed"]
    return head, []


def _kind(number: int) -> str:
    return {1: "message", 2: "attachment", 3: "later fact"}.get(number, f"kind {number}")


def _by_trailer(data: bytes, keyring: Keyring) -> tuple[Member, ...]:
    """Members as the trailer states them; it authenticates itself and the header, whatever became of the records between."""
    end = len(data) - FOOTER.size
    if end < HEADER.size:
        raise PackBroken("cut off at its beginning")
    at, key, _, magic = FOOTER.unpack_from(data, end)
    if magic != _END or not HEADER.size <= at < end:
        raise PackBroken("it has no end")
    return _open_trailer(data[: HEADER.size], data[at:end], keyring, key)


def _by_headers(data: bytes, tenant: int) -> Iterator[Member]:
    """Records by the twelve bytes that each of this tenant begins with. A length that cannot be true gives way to where the next one begins."""
    begins = re.compile(rb"\x01[\x01-\x03][\x01\x02]\x00" + re.escape(tenant.to_bytes(8, "big")))
    starts = [match.start() for match in begins.finditer(data, LENGTH.size)]
    ends = [following - LENGTH.size for following in starts[1:]] + [len(data)] * bool(starts)
    for start, following in zip(starts, ends, strict=True):
        (length,) = LENGTH.unpack_from(data, start - LENGTH.size)
        if start + length > following:
            length = following - start
        record = data[start : start + length]
        try:
            header = read_header(record)
        except RecordBroken:
            continue
        yield Member(header.record, header.kind, start, length, hashlib.sha256(record).digest())


def keys_of(data: bytes, members: Sequence[Member]) -> set[int]:
    """The numbers of the data keys that a pack and its records need."""
    numbers = {FOOTER.unpack_from(data, len(data) - FOOTER.size)[1]}
    headers = (read_header(data[m.offset : m.offset + m.length]) for m in members)
    return numbers | {header.key for header in headers if header.key}


def _open_trailer(header: bytes, sealed: bytes, keyring: Keyring, key: int) -> tuple[Member, ...]:
    try:
        plain = zstandard.ZstdDecompressor().decompress(keyring.seal(key).open(sealed, _CONTEXT + header))
        return msgspec.msgpack.decode(plain, type=_Trailer).members
    except (BrokenSeal, zstandard.ZstdError, msgspec.DecodeError):
        raise PackBroken("its trailer does not open: it was changed") from None


def read_pack_head(data: bytes) -> PackHead:
    """Raises PackBroken."""
    if len(data) < HEADER.size or data[:8] != _MAGIC:
        raise PackBroken("not a pack")
    _, medium, month, tenant, pack, made, node = HEADER.unpack_from(data)
    return PackHead(medium, Group(tenant, month), pack, made / 1000, node)


def _walk(data: bytes, end: int) -> Iterator[tuple[int, bytes]]:
    at = HEADER.size
    while at + 4 <= end:
        (length,) = LENGTH.unpack_from(data, at)
        if at + 4 + length > end:
            raise PackBroken("a record runs over the end of the records")
        yield at + 4, data[at + 4 : at + 4 + length]
        at += 4 + length
    if at != end:
        raise PackBroken("bytes that belong to no record")
