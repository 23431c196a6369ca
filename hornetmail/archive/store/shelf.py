"""Records wherever they are: in the staging log, or in a pack on a medium."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from hornetmail.archive.media.medium import MediumMissing
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.packs import Group, PackHead, SealedPack
from hornetmail.archive.store.records import Kind, MailMeta, RecordBroken, RecordCodec, assemble, read_header
from hornetmail.archive.store.staging import Staging
from hornetmail.archive.store.streams import Place, mail_slices
from hornetmail.db.engines import Cursor
from hornetmail.disk.records import BadRecord, Position


class PackRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``pack``. ``dead``: records in it that went; ``soon``: it is written anew without them at the next merging; ``merged``: what lives of
    it lies in another pack, and it is to be deleted."""

    number: int
    tenant: int
    pack: bytes
    medium: int
    month: int
    size: int
    sha256: bytes
    members: int
    shared: int
    made: float
    checked: float
    dead: int = 0
    soon: int = 0
    merged: int = 0

    @property
    def name(self) -> str:
        """Its name on the medium."""
        return PackHead(self.medium, Group(self.tenant, self.month), self.pack, self.made).name


_COLUMNS = "number, tenant, pack, medium, month, size, sha256, members, shared, made, checked, dead, soon, merged"


def pack_row(cursor: Cursor, number: int) -> PackRow | None:
    """A pack by its number in the index."""
    row = cursor.execute(f"SELECT {_COLUMNS} FROM pack WHERE number = ?", (number,)).fetchone()
    return PackRow(*row) if row else None


def pack_rows(cursor: Cursor) -> list[PackRow]:
    """All packs, oldest first."""
    return [PackRow(*row) for row in cursor.execute(f"SELECT {_COLUMNS} FROM pack ORDER BY number").fetchall()]


def find_staged(cursor: Cursor, staged: Mapping[bytes, Position]) -> int:
    """What the index has of mail that is staged lies where it lies now: its log may have been written anew (``renumbering``). How many lay elsewhere."""
    rows = cursor.execute("SELECT record, length, start FROM mail WHERE pack IS NULL").fetchall()
    moved = [(staged[record], record) for record, *was in rows if record in staged and staged[record] != tuple(was)]
    cursor.executemany(
        "UPDATE mail SET length = ?, start = ? WHERE record = ? AND pack IS NULL", [(*place, record) for place, record in moved]
    )
    return len(moved)


def enter_pack(cursor: Cursor, pack: SealedPack, now: float, medium: int = 0) -> int:
    """A pack's number in the index; the one that it had, if it was put before a crash. ``medium``: where it was found, if not where it was put."""
    head = pack.head
    known = cursor.execute("SELECT number FROM pack WHERE pack = ?", (head.pack,)).fetchone()
    (last,) = cursor.execute("SELECT coalesce(max(number), 0) FROM pack").fetchone()
    number: int = known[0] if known else last + 1
    cursor.execute(
        "INSERT INTO pack (number, tenant, pack, medium, month, size, sha256, members, shared, made, checked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (number) DO UPDATE SET medium = excluded.medium, size = excluded.size, sha256 = excluded.sha256, made = excluded.made,"
        " members = excluded.members, shared = excluded.shared, dead = 0, soon = 0, merged = 0",
        (
            number,
            head.group.tenant,
            head.pack,
            medium or head.medium,
            head.group.month,
            pack.size,
            pack.sha256,
            len(pack.members),
            sum(1 for m in pack.members if m.kind != Kind.MESSAGE),
            head.made,
            now,
        ),
    )
    return number


def dead_packs(cursor: Cursor, present: int) -> list[PackRow]:
    """Packs in which no mail lives, which the next purge takes off their media, or a last one did; ``present``: the month it is. One that holds later facts or shared parts waits until its month is over and its group gone."""
    dead = []
    for pack in pack_rows(cursor):
        if pack.month == 0 or pack.merged:
            continue
        if cursor.execute("SELECT 1 FROM mail WHERE pack = ? LIMIT 1", (pack.number,)).fetchone():
            continue
        group = "SELECT 1 FROM mail WHERE tenant = ? AND month = ? LIMIT 1"
        if pack.shared and (pack.month >= present or cursor.execute(group, (pack.tenant, pack.month)).fetchone()):
            continue
        dead.append(pack)
    return dead


def names_being_written(cursor: Cursor) -> frozenset[str]:
    """Names on their media of merged packs that may lie there half done: a later run makes them anew, or removes them."""
    rows = cursor.execute("SELECT medium, tenant, month, pack FROM merging").fetchall()
    return frozenset(PackHead(medium, Group(tenant, month), pack, 0.0).name for medium, tenant, month, pack in rows)


Located = tuple[PackRow | None, int, int]


def locate_part(cursor: Cursor, record: bytes) -> Located | None:
    """Where a part's record lies."""
    row = cursor.execute("SELECT pack, start, length FROM part WHERE record = ?", (record,)).fetchone()
    if row is None:
        return None
    return (pack_row(cursor, row[0]) if row[0] is not None else None), row[1], row[2]


class Shelf:
    """Reads records. Blocking; call it in threads. ``locate`` finds a part in the index."""

    def __init__(self, staging: Staging, media: Media, codec: RecordCodec, locate: Callable[[bytes], Located | None]) -> None:
        self._locate = locate
        self._staging = staging
        self._media = media
        self._codec = codec

    def record(self, pack: PackRow | None, start: int, length: int, wanted: bytes) -> bytes:
        """The bytes of the record with the ID ``wanted``, which lies there. Raises KeyError (moved meanwhile), MediumError, RecordBroken (also if another one lies there: it may be
        whole, and somebody else's)."""
        if pack is None:
            where = f"staged record at {length}/{start}"
            try:
                data = self._staging.read(Position(length, start))
            except BadRecord as error:
                raise RecordBroken(f"{where}: {error}") from None
        else:
            where = f"{pack.name} on medium {pack.medium}"
            data = self._media.get(pack.medium).get(pack.name, start, length)
            if len(data) != length:
                raise RecordBroken(f"{where} is cut off at {start + len(data)}")
        if (there := read_header(data).record) != wanted:
            raise RecordBroken(f"{where}: record {there.hex()} lies where the index has {wanted.hex()}")
        return data

    def mail(self, data: bytes) -> tuple[MailMeta, bytes]:
        """Meta and exact bytes of a message record, checked. Raises RecordBroken, KeyTrouble, MediumError."""
        _, meta, inline = self._codec.open_mail(data)
        return meta, assemble(meta, inline, self.part)

    def slices(self, pack: PackRow | None, start: int, length: int, wanted: bytes) -> Iterator[bytes]:
        """The exact bytes of the mail with the record ID ``wanted`` that lies there, a slice at a time; only at the end are they proved. Raises what ``record`` and ``mail`` raise."""
        return mail_slices(self._codec, self._place(pack, start, length, wanted), wanted, self._part_place)

    def _place(self, pack: PackRow | None, start: int, length: int, wanted: bytes) -> Place:
        if pack is None:
            staged = self.record(None, start, length, wanted)
            return (lambda at, size: staged[at : at + size]), len(staged)
        medium, name = self._media.get(pack.medium), pack.name
        return (lambda at, size: medium.get(name, start + at, size)), length

    def _part_place(self, record: bytes) -> Place:
        position = self._staging.parts.get(record)
        if position is not None:
            try:
                return self._place(None, position.offset, position.segment, record)
            except KeyError:
                pass  # sealed meanwhile
        located = self._locate(record)
        if located is None:
            raise RecordBroken(f"part {record.hex()} is not in the archive")
        return self._place(*located, record)

    def part(self, record: bytes) -> bytes:
        """A shared part. Raises RecordBroken, KeyTrouble, MediumError."""
        for attempt in (1, 2, 3):
            position = self._staging.parts.get(record)
            located = None if position is not None else self._locate(record)
            if position is None and located is None:
                break
            try:
                if position is not None:
                    data = self._staging.read(position)
                else:
                    assert located is not None
                    data = self.record(*located, record)
            except KeyError:
                continue
            except MediumMissing:
                # Its pack may just have been merged into another one.
                if attempt == 3:
                    raise
                continue
            except BadRecord as error:
                raise RecordBroken(f"staged part {record.hex()}: {error}") from None
            return self._codec.open_part(data)[2]
        raise RecordBroken(f"part {record.hex()} is not in the archive")
