"""``queue.db``: the live messages up to a checkpoint, so that a start need not replay the whole journal. SQLite or PostgreSQL.

It may lag, and may be deleted: the journal is the truth. Rows, facts and the checkpoint change in one transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from hornetmail.core.delivery.queued import Message
from hornetmail.db.engines import Cursor
from hornetmail.db.migrate import Migration
from hornetmail.db.pool import Database
from hornetmail.disk.records import Position
from hornetmail.spool.disk.earlier import understand
from hornetmail.spool.disk.journal import LiveRow, Where
from hornetmail.spool.rows.entry import Entry

MIGRATIONS = (
    Migration(
        1,
        "queue",
        (
            "CREATE TABLE queue_messages (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, domain TEXT NOT NULL, outgoing INTEGER NOT NULL,"
            " request TEXT NOT NULL, place_segment INTEGER NOT NULL, place_start INTEGER NOT NULL, stored INTEGER NOT NULL,"
            " body_where INTEGER NOT NULL, body_file INTEGER NOT NULL, meta BLOB NOT NULL, row_data BLOB NOT NULL)",
            "CREATE TABLE queue_facts (space TEXT NOT NULL, fact TEXT NOT NULL, tenant INTEGER NOT NULL, place_segment INTEGER NOT NULL,"
            " place_start INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (space, fact))",
            "CREATE TABLE queue_checkpoint (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, place_segment INTEGER NOT NULL,"
            " place_start INTEGER NOT NULL, file_name TEXT NOT NULL)",
        ),
    ),
)

Stored = tuple[int, int, str, int, str, int, int, int, int, int, bytes | None, bytes]
T = TypeVar("T")
_COLUMNS = "id, tenant, domain, outgoing, request, place_segment, place_start, stored, body_where, body_file, meta, row_data"
_STORED = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TOGETHER = 50
"""Rows a statement: each one gives the GIL away and asks for it again, and the reactor stands still for a switch of threads."""
_UPSERT = (
    f"INSERT INTO queue_messages ({_COLUMNS}) VALUES {{}} ON CONFLICT (id) DO UPDATE SET"
    " place_segment = excluded.place_segment, place_start = excluded.place_start, stored = excluded.stored,"
    " body_where = excluded.body_where, body_file = excluded.body_file, row_data = excluded.row_data"
)
_UPSERT_FACT = (
    "INSERT INTO queue_facts (space, fact, tenant, place_segment, place_start, content) VALUES (?, ?, 0, ?, ?, ?) ON CONFLICT (space, fact)"
    " DO UPDATE SET place_segment = excluded.place_segment, place_start = excluded.place_start, content = excluded.content"
)
_UPSERT_CHECKPOINT = (
    "INSERT INTO queue_checkpoint (id, tenant, place_segment, place_start, file_name) VALUES (1, 0, ?, ?, ?) ON CONFLICT (id)"
    " DO UPDATE SET place_segment = excluded.place_segment, place_start = excluded.place_start, file_name = excluded.file_name"
)
_PAGE = 500
_encode = msgspec.msgpack.Encoder().encode
_rows = msgspec.msgpack.Decoder(tuple[LiveRow, ...])
_messages = msgspec.msgpack.Decoder(Message)


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """All records before ``place`` are in the index. ``name``: of the file that holds the place, so that another journal is noticed."""

    place: Position
    name: str


class Change(msgspec.Struct, gc=False):
    """What one transaction writes. ``facts``: space, key, segment, offset, value; None forgets."""

    entries: list[Stored]
    left: list[int]
    facts: list[tuple[str, str, int, int, bytes | None]]
    checkpoint: Checkpoint | None


def stored(entry: Entry) -> Stored:
    """An entry as a row of the table; from now on its message is kept encoded. A message that only the disk has is left as the table has it, or is
    empty there (``spool.recall`` asks the journal first)."""
    return (
        entry.id, entry.tenant, entry.domain, int(entry.outgoing), entry.request, entry.segment, entry.offset, entry.stored,
        int(entry.where), entry.file, entry.pack(), _encode(entry.rows),
    )  # fmt: skip


def entry_of(columns: Stored) -> Entry:
    """The other way."""
    number, tenant, domain, outgoing, request, segment, start, size, where, file, meta, rows = columns
    known = _rows.decode(rows)
    for row in known:
        understand(row)
    return Entry(
        number, tenant, bytes(meta) if meta else None, known, segment, start, size, Where(where), file, domain, bool(outgoing), request, True
    )  # fmt: skip


class Index:
    """The queue's door to its database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def checkpoint(self) -> Checkpoint | None:
        """Up to where the index goes, None if it is empty."""

        def ask(cursor: Cursor) -> Checkpoint | None:
            cursor.execute("SELECT place_segment, place_start, file_name FROM queue_checkpoint WHERE id = 1")
            found = cursor.fetchone()
            return Checkpoint(Position(found[0], found[1]), found[2]) if found else None

        return await self._database.read(ask)

    async def more_than(self, most: int) -> bool:
        """Whether it has more messages than that."""

        def ask(cursor: Cursor) -> bool:
            cursor.execute("SELECT id FROM queue_messages LIMIT 1 OFFSET ?", (most,))
            return cursor.fetchone() is not None

        return await self._database.read(ask)

    async def page(self, after: int, whole: bool = True) -> list[Entry]:
        """Entries in order of ID, 500 at a time; the last page is empty. Not ``whole``: without those messages that the journal has as well, and
        nobody needs at once."""
        columns = _COLUMNS if whole else _COLUMNS.replace(" meta,", " CASE WHEN request = '' THEN NULL ELSE meta END,")

        def ask(cursor: Cursor) -> list[Entry]:
            cursor.execute(f"SELECT {columns} FROM queue_messages WHERE id > ? ORDER BY id LIMIT ?", (after, _PAGE))
            return [entry_of(row) for row in cursor.fetchall()]

        return await self._database.read(ask)

    async def messages(self, numbers: Sequence[int]) -> dict[int, Message]:
        """What it has of these messages that can be read; at most some hundred."""

        def ask(cursor: Cursor) -> list[tuple[int, bytes]]:
            cursor.execute(f"SELECT id, meta FROM queue_messages WHERE id IN ({', '.join('?' * len(numbers))})", numbers)
            return [(number, bytes(meta)) for number, meta in cursor.fetchall()]

        found = {}
        for number, meta in await self._database.read(ask) if numbers else ():
            with contextlib.suppress(msgspec.DecodeError):
                found[number] = _messages.decode(meta)
        return found

    async def facts(self) -> Sequence[tuple[str, str, Position, bytes]]:
        """All facts."""

        def ask(cursor: Cursor) -> list[tuple[str, str, Position, bytes]]:
            cursor.execute("SELECT space, fact, place_segment, place_start, content FROM queue_facts")
            return [
                (space, key, Position(segment, start), bytes(value)) for space, key, segment, start, value in cursor.fetchall()
            ]

        return await self._database.read(ask)

    async def clear(self) -> None:
        """Forget everything: a full replay follows."""

        def wipe(cursor: Cursor) -> None:
            for table in ("queue_messages", "queue_facts", "queue_checkpoint"):
                cursor.execute(f"DELETE FROM {table}")

        await self._database.run(wipe)

    async def write(self, change: Change) -> None:
        """One transaction."""
        await self._database.run(_write, change)

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()


def _some(all_of_them: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(all_of_them), _TOGETHER):
        yield all_of_them[start : start + _TOGETHER]


def _write(cursor: Cursor, change: Change) -> None:
    for some in _some(change.left):
        cursor.execute(f"DELETE FROM queue_messages WHERE id IN ({', '.join('?' * len(some))})", some)
    for entries in _some(change.entries):
        values = [value for entry in entries for value in entry]
        cursor.execute(_UPSERT.format(", ".join([_STORED] * len(entries))), values)
    known = [fact for fact in change.facts if fact[4] is not None]
    if known:
        cursor.executemany(_UPSERT_FACT, known)
    gone = [(space, key) for space, key, _, _, value in change.facts if value is None]
    if gone:
        cursor.executemany("DELETE FROM queue_facts WHERE space = ? AND fact = ?", gone)
    if change.checkpoint:
        place = change.checkpoint.place
        cursor.execute(_UPSERT_CHECKPOINT, (place.segment, place.offset, change.checkpoint.name))
