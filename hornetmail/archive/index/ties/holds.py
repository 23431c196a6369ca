"""Legal holds in the index: what may not go, whatever rules and requests say. Facts apply by their time, in whatever order they are read."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.core.archive.retention import Hold
from hornetmail.db.engines import Cursor

_HELD = "SELECT 1 FROM held h JOIN hold ON hold.tenant = h.tenant AND hold.name = h.name WHERE h.at > h.released AND h.at > hold.released"

NOT_HELD = f"NOT EXISTS ({_HELD} AND h.record = mail.record)"
"""Of a row of ``mail``: no hold holds it."""

HELD_BY = f"{_HELD.replace('SELECT 1', 'SELECT h.record', 1)} AND h.name = ? AND h.tenant IN (SELECT DISTINCT tenant FROM hold)"
"""Records that the hold of that name holds, of whichever tenant."""


def is_held(cursor: Cursor, record: bytes) -> bool:
    """Whether some hold holds it."""
    return cursor.execute(f"{_HELD} AND h.record = ? LIMIT 1", (record,)).fetchone() is not None


def holds_on(cursor: Cursor, record: bytes) -> list[str]:
    """The names of the holds that hold it."""
    rows = cursor.execute(
        f"{_HELD.replace('SELECT 1', 'SELECT h.name', 1)} AND h.record = ? ORDER BY h.name", (record,)
    ).fetchall()
    return [name for (name,) in rows]


def begin_hold(cursor: Cursor, tenant: int, hold: Hold, records: Sequence[bytes]) -> None:
    """A hold begins, or takes more records. One that was released and begins anew holds what it gets from then on."""
    newer = "CASE WHEN excluded.at >= hold.at{more} THEN excluded.{name} ELSE hold.{name} END"
    query, content, reason, by = (
        newer.format(name=name, more=more)
        for name, more in (
            ("query", " AND excluded.query != ''"),
            ("content", " AND excluded.query != ''"),
            ("reason", " AND excluded.reason != ''"),
            ("by", ""),
        )
    )
    cursor.execute(
        "INSERT INTO hold (tenant, name, at, by, query, content, reason) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, name) DO UPDATE SET"
        f" by = {by}, query = {query}, content = {content}, reason = {reason}, at = max(hold.at, excluded.at)",
        (tenant, hold.name, hold.at, hold.by, hold.query, int(hold.content), hold.reason),
    )
    cursor.executemany(
        "INSERT INTO held (record, name, tenant, at) VALUES (?, ?, ?, ?) ON CONFLICT (record, tenant, name) DO UPDATE SET at = max(at, excluded.at)",
        [(record, hold.name, tenant, hold.at) for record in records],
    )
    cursor.executemany("UPDATE mail SET marked = NULL WHERE record = ?", [(record,) for record in records])


def end_hold(cursor: Cursor, tenant: int, name: str, at: float, records: Sequence[bytes]) -> None:
    """A hold ends on these records; none: on all."""
    if not records:
        cursor.execute(
            "INSERT INTO hold (tenant, name, at, by, query, content, reason, released) VALUES (?, ?, 0, '', '', 0, '', ?)"
            " ON CONFLICT (tenant, name) DO UPDATE SET released = max(hold.released, excluded.released)",
            (tenant, name, at),
        )
    cursor.executemany(
        "INSERT INTO held (record, name, tenant, at, released) VALUES (?, ?, ?, 0, ?) ON CONFLICT (record, tenant, name) DO UPDATE SET"
        " released = max(held.released, excluded.released)",
        [(record, name, tenant, at) for record in records],
    )


def holds_of(cursor: Cursor, tenant: int) -> list[Hold]:
    """All holds of a tenant, the newest first; ``mails``: of those that are in the archive."""
    found = []
    for name, at, by, query, content, reason, released in cursor.execute(
        "SELECT name, at, by, query, content, reason, released FROM hold WHERE tenant = ? AND at > 0 ORDER BY at DESC, name",
        (tenant,),
    ).fetchall():
        over = released >= at
        (mails,) = cursor.execute(
            "SELECT count(*) FROM held h JOIN mail m ON m.record = h.record WHERE h.tenant = ? AND h.name = ? AND h.at > h.released AND h.at > ?",
            (tenant, name, released),
        ).fetchone()
        found.append(Hold(name, at, by, query, bool(content), reason, released if over else 0.0, 0 if over else mails))
    return found


def running_queries(cursor: Cursor) -> list[tuple[int, Hold]]:
    """Holds that also take what comes later."""
    tenants = [row[0] for row in cursor.execute("SELECT DISTINCT tenant FROM hold WHERE query != ''").fetchall()]
    return [(tenant, hold) for tenant in tenants for hold in holds_of(cursor, tenant) if hold.query and not hold.released]
