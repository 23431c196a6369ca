"""Mail out of the index, with all that is known of it: by retention or because it was asked for. The medium follows (``care/merging.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hornetmail.archive.index.schema.fulltext import drop_text, tables_of
from hornetmail.archive.index.ties.leaves import leaf_went, leaves_of
from hornetmail.archive.index.ties.uses import leave_parts
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database

RETENTION = "retention"


class Removed(msgspec.Struct, frozen=True, gc=False):
    """What went: its ID, and the full-text table that it was in."""

    identifier: int
    tenant: int
    month: int
    size: int


def remove_mails(cursor: Cursor, places: Sequence[int], reason: str) -> list[Removed]:
    """These mails leave the index, and ``going`` remembers them until the journal is told. What was asked for leaves the medium with the next merging,
    what expired with its month (see ``plan_group``)."""
    soon = 0 if reason == RETENTION else 1
    return [one for place in places if (one := _remove(cursor, place, reason, soon)) is not None]


def _remove(cursor: Cursor, place: int, reason: str, soon: int) -> Removed | None:
    row = cursor.execute("SELECT id, tenant, record, month, pack, size FROM mail WHERE place = ?", (place,)).fetchone()
    if row is None:
        return None
    identifier, tenant, record, month, pack, size = row
    leaves = leaves_of(cursor, place)
    cursor.execute(
        "INSERT INTO going (record, tenant, leaves, reason) VALUES (?, ?, ?, ?) ON CONFLICT (record) DO NOTHING",
        (record, tenant, msgspec.msgpack.encode(leaves), reason),
    )
    (arrivals,) = cursor.execute("SELECT count(*) FROM arrival WHERE place = ?", (place,)).fetchone()
    drop_text(cursor, month, place)
    for table in ("arrival", "mail"):
        cursor.execute(f"DELETE FROM {table} WHERE place = ?", (place,))
    cursor.execute("DELETE FROM held WHERE record = ?", (record,))
    leave_parts(cursor, place, soon)
    cursor.execute("UPDATE pack SET dead = dead + 1, soon = max(soon, ?) WHERE number = ?", (soon, pack))
    if arrivals > 1:
        # Each further arrival is a fact with envelope and salt, in whichever pack of the month was sealed then.
        cursor.execute(
            "UPDATE pack SET dead = dead + 1, soon = max(soon, ?) WHERE tenant = ? AND month = ? AND shared > 0 AND number != ?",
            (soon, tenant, month, pack),
        )
    for node, leaf in leaves:
        leaf_went(cursor, node, leaf)
    return Removed(identifier, tenant, month, size)


async def forget_text(database: Database, months: Iterable[int]) -> None:
    """FTS5 keeps the words of what was deleted until its segments are written anew (rule 23); what it gives back is zeroed (``secure_delete``), and the
    write-ahead log, which had it all, is emptied."""
    for month in sorted(set(months)):
        await database.run(_optimize, month)
    await database.alone(_empty_log)


def _optimize(cursor: Cursor, month: int) -> None:
    for table in tables_of(cursor, month):
        cursor.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")


def _empty_log(cursor: Cursor) -> None:
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def mail_went(cursor: Cursor, tenant: int, at: float) -> None:
    """The journal was told at that moment that mail went."""
    cursor.execute(
        "INSERT INTO removal (tenant, at) VALUES (?, ?) ON CONFLICT (tenant) DO UPDATE SET at = max(at, excluded.at)",
        (tenant, at),
    )


def last_removal(cursor: Cursor, tenant: int) -> float:
    """Unix seconds; 0: nothing ever went."""
    row = cursor.execute("SELECT at FROM removal WHERE tenant = ?", (tenant,)).fetchone()
    return float(row[0]) if row else 0.0
