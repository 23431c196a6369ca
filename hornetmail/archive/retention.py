"""Purging (C1, rule 19): what has expired is marked, and goes a day later; packs and full-text tables go whole once nothing in them lives.

A purge refuses, until confirmed, when more than 5 % of the archive would go at once, when the clock cannot be trusted, or after a rebuild.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from hornetmail.archive.records import EventMeta, What
from hornetmail.archive.schema import drop_month, month_of, table_of
from hornetmail.archive.shelf import Media, PackRow, pack_rows
from hornetmail.archive.staging import Staging
from hornetmail.core import clock
from hornetmail.core.archived import ArchiveError
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database

WAIT = 86400.0
"""Seconds between marking and going."""

SHARE = 0.05
ROWS = 200

REBUILT = "rebuilt"
CONFIRMED = "purge confirmed"
LAST = "last purge"


class Retention:
    """One run of the purge. ``drift``: by how many seconds wall clock and monotonic time disagree since the start."""

    log = Logger()

    def __init__(self, reactor: Any, pool: Any, database: Database, staging: Staging, media: Media, drift: float) -> None:
        self._reactor = reactor
        self._pool = pool
        self._database = database
        self._staging = staging
        self._media = media
        self._drift = drift

    async def purge(self, now: float) -> int:
        """Let go what was marked a day ago, then mark what has expired since; the number of mails that went. Raises ArchiveError."""
        confirmed = await self._database.read(_fact, CONFIRMED)
        if not confirmed:
            await self._check(now)
        gone = 0
        while True:
            batch = await self._database.read(_due, now - WAIT)
            if not batch:
                break
            await self._tell(batch, now)
            gone += await self._database.run(_remove, batch)
        await self._sweep(now)
        while await self._database.run(_mark, now):
            pass
        await self._database.run(_finish, now)
        return gone

    async def confirm(self) -> None:
        """The next purge goes through, whatever it would refuse for."""
        await self._database.run(_set_fact, CONFIRMED, "yes")

    async def _check(self, now: float) -> None:
        total, due, newest, rebuilt, last = await self._database.read(_figures, now - WAIT)
        if rebuilt:
            raise ArchiveError("purging is off since the rebuild, until it is confirmed")
        if why := clock.trouble(self._drift, max(newest, last), now, "the newest mail or the last purge"):
            raise ArchiveError(f"{why}: nothing is purged until confirmed")
        if due > SHARE * total:
            raise ArchiveError(
                f"{due} of {total} mails would go at once, more than {SHARE:.0%}: nothing is purged until confirmed"
            )

    async def _tell(self, batch: Sequence[tuple[int, int, bytes, int]], now: float) -> None:
        """The journal hears of it first, so that a rebuild does not bring it back (rule 18)."""
        for tenant in sorted({tenant for _, tenant, _, _ in batch}):
            records = tuple(record for _, t, record, _ in batch if t == tenant)
            await self._staging.add_event(tenant, EventMeta(What.DELETED, now, records, reason="retention"))

    async def _sweep(self, now: float) -> None:
        """Whole packs and whole tables, once nothing lives in them."""
        for pack in await self._database.read(_dead_packs, month_of(now)):
            await deferToThreadPool(self._reactor, self._pool, self._media.get(pack.medium).delete, pack.name)
            await self._database.run(_forget_pack, pack.number)
        for month in await self._database.read(_dead_months, month_of(now)):
            await self._database.run(drop_month, month)


def _fact(cursor: Cursor, name: str) -> str:
    row = cursor.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return row[0] if row else ""


def _set_fact(cursor: Cursor, name: str, value: str) -> None:
    cursor.execute(
        "INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
    )


def mark_rebuilt(cursor: Cursor) -> None:
    """Purging is off until confirmed (rule 18)."""
    _set_fact(cursor, REBUILT, "yes")


def _figures(cursor: Cursor, before: float) -> tuple[int, int, float, str, float]:
    (total,) = cursor.execute("SELECT count(*) FROM mail").fetchone()
    (due,) = cursor.execute("SELECT count(*) FROM mail WHERE marked <= ? AND pack IS NOT NULL", (before,)).fetchone()
    (newest,) = cursor.execute("SELECT coalesce(max(place) >> 18, 0) / 1000.0 FROM mail").fetchone()
    return total, due, newest, _fact(cursor, REBUILT), float(_fact(cursor, LAST) or 0.0)


def _due(cursor: Cursor, before: float) -> list[tuple[int, int, bytes, int]]:
    due: list[tuple[int, int, bytes, int]] = cursor.execute(
        "SELECT place, tenant, record, month FROM mail WHERE marked <= ? AND pack IS NOT NULL ORDER BY place LIMIT ?",
        (before, ROWS),
    ).fetchall()
    return due


def _remove(cursor: Cursor, batch: Sequence[tuple[int, int, bytes, int]]) -> int:
    for place, _tenant, _record, month in batch:
        cursor.execute(f"DELETE FROM {table_of(month)} WHERE rowid = ?", (place,))
        cursor.execute("DELETE FROM arrival WHERE place = ?", (place,))
        cursor.execute("DELETE FROM mail WHERE place = ?", (place,))
    return len(batch)


def _mark(cursor: Cursor, now: float) -> int:
    places = cursor.execute(
        "SELECT place FROM mail WHERE expires < ? AND marked IS NULL AND pack IS NOT NULL LIMIT ?", (now, ROWS)
    ).fetchall()
    cursor.executemany("UPDATE mail SET marked = ? WHERE place = ?", [(now, place) for (place,) in places])
    return len(places)


def _finish(cursor: Cursor, now: float) -> None:
    _set_fact(cursor, LAST, str(now))
    cursor.execute("DELETE FROM fact WHERE name IN (?, ?)", (CONFIRMED, REBUILT))


def _dead_packs(cursor: Cursor, present: int) -> list[PackRow]:
    """Packs in which no mail lives; one that holds later facts or shared parts waits until its month is over and its group gone."""
    dead = []
    for pack in pack_rows(cursor):
        if pack.month == 0:
            continue
        if cursor.execute("SELECT 1 FROM mail WHERE pack = ? LIMIT 1", (pack.number,)).fetchone():
            continue
        group = "SELECT 1 FROM mail WHERE tenant = ? AND month = ? LIMIT 1"
        if pack.shared and (pack.month >= present or cursor.execute(group, (pack.tenant, pack.month)).fetchone()):
            continue
        dead.append(pack)
    return dead


def _forget_pack(cursor: Cursor, number: int) -> None:
    cursor.execute("DELETE FROM part WHERE pack = ?", (number,))
    cursor.execute("DELETE FROM pack WHERE number = ?", (number,))


def _dead_months(cursor: Cursor, present: int) -> list[int]:
    found = cursor.execute(
        "SELECT month FROM month WHERE month < ? AND NOT EXISTS (SELECT 1 FROM mail WHERE mail.month = month.month)", (present,)
    ).fetchall()
    return [month for (month,) in found]
