"""Which mail uses which shared part, so that a part goes with the last mail that used it (rule 23)."""

from __future__ import annotations

from collections.abc import Iterable

from hornetmail.archive.index.schema.facts import UNKNOWN_USES
from hornetmail.db.engines import Cursor

GONE = -1
"""The place of all that went before a rebuild: what only they used is idle at its end."""


def use_parts(cursor: Cursor, tenant: int, place: int, parts: Iterable[bytes]) -> None:
    """A mail's bytes lie in these parts."""
    cursor.executemany(
        "INSERT INTO part_use (part, place, tenant) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(part, place, tenant) for part in dict.fromkeys(parts)],
    )


def leave_parts(cursor: Cursor, place: int, soon: int) -> None:
    """A mail is gone: parts that nobody else uses are idle from now on, and dead in their packs."""
    parts = cursor.execute("SELECT part FROM part_use WHERE place = ?", (place,)).fetchall()
    cursor.execute("DELETE FROM part_use WHERE place = ?", (place,))
    if cursor.execute("SELECT 1 FROM fact WHERE name = ?", (UNKNOWN_USES,)).fetchone():
        return
    for (part,) in parts:
        if cursor.execute("SELECT 1 FROM part_use WHERE part = ? LIMIT 1", (part,)).fetchone():
            continue
        cursor.execute("UPDATE part SET idle = 1 WHERE record = ?", (part,))
        cursor.execute(
            "UPDATE pack SET dead = dead + 1, soon = max(soon, ?) WHERE number = (SELECT pack FROM part WHERE record = ?)",
            (soon, part),
        )


def wake_parts(cursor: Cursor) -> None:
    """Idle parts that somebody began to use while they became idle."""
    cursor.execute(
        "UPDATE part SET idle = 0 WHERE idle = 1 AND EXISTS (SELECT 1 FROM part_use WHERE part_use.part = part.record)"
    )


def leave_gone(cursor: Cursor) -> None:
    """At the end of a rebuild: what only mail used that went is idle."""
    cursor.execute("DELETE FROM fact WHERE name = ?", (UNKNOWN_USES,))
    leave_parts(cursor, GONE, 1)
