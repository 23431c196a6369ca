"""What merging says to the index, and asks of it: notes of what is under way, which records live, and where they lie from now on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.archive.store.packs import Group, Member, PackHead
from hornetmail.archive.store.records import Kind
from hornetmail.archive.store.shelf import PackRow, pack_row, pack_rows
from hornetmail.db.engines import Cursor


class Note(msgspec.Struct, frozen=True):
    """A merged pack that is being written: its ID, name and medium, the numbers of its sources, and itself once it is entered."""

    pack: bytes
    medium: int
    name: str
    sources: tuple[int, ...]
    entered: PackRow | None


def notes(cursor: Cursor) -> list[Note]:
    """What is under way."""
    notes = []
    for pack, tenant, medium, month, sources in cursor.execute(
        "SELECT pack, tenant, medium, month, sources FROM merging"
    ).fetchall():
        known = cursor.execute("SELECT number FROM pack WHERE pack = ?", (pack,)).fetchone()
        name = PackHead(medium, Group(tenant, month), pack, 0.0).name
        numbers = msgspec.msgpack.decode(sources, type=tuple[int, ...])
        notes.append(Note(pack, medium, name, numbers, pack_row(cursor, known[0]) if known else None))
    return notes


def note(cursor: Cursor, head: PackHead, sources: Sequence[int]) -> None:
    """This pack is being written of those."""
    cursor.execute(
        "INSERT INTO merging (pack, tenant, medium, month, sources) VALUES (?, ?, ?, ?, ?) ON CONFLICT (pack) DO UPDATE SET sources = excluded.sources",
        (head.pack, head.group.tenant, head.medium, head.group.month, msgspec.msgpack.encode(list(sources))),
    )


def forget_note(cursor: Cursor, pack: bytes) -> None:
    """It is not, nor will it be."""
    cursor.execute("DELETE FROM merging WHERE pack = ?", (pack,))


def known_pack(cursor: Cursor, pack: bytes) -> PackRow | None:
    """A pack by its ID."""
    row = cursor.execute("SELECT number FROM pack WHERE pack = ?", (pack,)).fetchone()
    return pack_row(cursor, row[0]) if row else None


def undone(cursor: Cursor, pack: bytes, number: int) -> None:
    """The new pack is to be deleted, and its sources stay."""
    cursor.execute("UPDATE pack SET merged = 1 WHERE number = ?", (number,))
    cursor.execute("DELETE FROM merging WHERE pack = ?", (pack,))


def living(cursor: Cursor, pack: PackRow, members: Sequence[Member]) -> tuple[set[bytes], list[Member]]:
    """Records that are copied, and those that have to be opened to know. What the index has elsewhere is neither."""
    if pack.month == 0:
        return {member.record for member in members}, []
    lives = set()
    unknown = []
    for member in members:
        if member.kind == Kind.MESSAGE:
            row = cursor.execute("SELECT pack FROM mail WHERE record = ?", (member.record,)).fetchone()
        elif member.kind == Kind.PART:
            row = cursor.execute(
                "SELECT CASE WHEN idle = 0 THEN pack END FROM part WHERE record = ?", (member.record,)
            ).fetchone()
            if row is None:
                # Never entered, so nobody knows whose it is: it stays.
                row = (pack.number,)
            elif row[0] is None:
                row = None
        else:
            row = cursor.execute("SELECT ? FROM arrival WHERE record = ?", (pack.number, member.record)).fetchone()
        if row is None:
            unknown.append(member)
        elif row[0] == pack.number:
            lives.add(member.record)
    return lives, unknown


def leaf_is_gone(cursor: Cursor, node: int, leaf: int) -> bool:
    """Whether what a leaf states is known to have left the archive."""
    row = cursor.execute(
        "SELECT last FROM leaf_gone WHERE node = ? AND first <= ? ORDER BY first DESC LIMIT 1", (node, leaf)
    ).fetchone()
    return row is not None and int(row[0]) >= leaf


def any_mail(cursor: Cursor, records: Sequence[bytes]) -> bool:
    """Whether one of these records is a mail's that lives."""
    return any(cursor.execute("SELECT 1 FROM mail WHERE record = ?", (record,)).fetchone() for record in records)


def move(cursor: Cursor, number: int, members: Sequence[Member], sources: Sequence[int]) -> None:
    """Only what lies in the sources: a mail that went meanwhile, or lies elsewhere, is left as it is."""
    marks = ",".join("?" * len(sources))
    for table, kind in (("mail", Kind.MESSAGE), ("part", Kind.PART)):
        moved = [(number, m.offset, m.length, m.record, *sources) for m in members if m.kind == kind]
        cursor.executemany(f"UPDATE {table} SET pack = ?, start = ?, length = ? WHERE record = ? AND pack IN ({marks})", moved)


def replaced(cursor: Cursor, pack: bytes, sources: Sequence[int]) -> None:
    """Nothing that lives lies in the sources any more: idle parts go with them."""
    for number in sources:
        cursor.execute("DELETE FROM part WHERE pack = ? AND idle = 1", (number,))
        cursor.execute("UPDATE pack SET merged = 1 WHERE number = ?", (number,))
    cursor.execute("DELETE FROM merging WHERE pack = ?", (pack,))


def nothing_dead(cursor: Cursor, numbers: Sequence[int]) -> None:
    """Nothing in these is to go after all."""
    cursor.executemany("UPDATE pack SET dead = 0, soon = 0 WHERE number = ?", [(number,) for number in numbers])


def merged_packs(cursor: Cursor) -> list[PackRow]:
    """Those of which nothing is referred to any more."""
    found = []
    for pack in pack_rows(cursor):
        if pack.merged and not any(
            cursor.execute(f"SELECT 1 FROM {table} WHERE pack = ? LIMIT 1", (pack.number,)).fetchone()
            for table in ("mail", "part")
        ):
            found.append(pack)
    return found


def forget_pack(cursor: Cursor, number: int) -> None:
    """It is on no medium any more."""
    cursor.execute("DELETE FROM pack WHERE number = ?", (number,))
