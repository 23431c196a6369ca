"""The figures behind A59, out of the index: a day at a time, so that no read holds the database for long. Sums of past days are kept, and counted once more only if a day
is new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hornetmail.archive.index.schema.people import people_decoder
from hornetmail.core.archive.statistics import DAY, DayOf, Sender, Statistics, Sum
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database

DAYS = 90
"""Days that are counted."""

SENDERS = 20
"""As many are named."""

_PAGE = 5000


async def count(index: Callable[[], Database], now: float, before: Mapping[int, Statistics]) -> dict[int, Statistics]:
    """By tenant. ``before``: what was counted last, whose past days are taken over. Raises ArchiveError: there is no index."""
    today = int(now // DAY)
    known: dict[int, dict[int, DayOf]] = {tenant: {one.day: one for one in found.days} for tenant, found in before.items()}
    counted = {int(found.made // DAY) for found in before.values()}
    first = max(min(counted), today - DAYS + 1) if counted else today - DAYS + 1
    days: dict[int, dict[int, DayOf]] = {}
    for tenant, one in known.items():
        days[tenant] = {day: sums for day, sums in one.items() if today - DAYS < day < first}
    senders: dict[int, dict[str, Sum]] = {}
    for day in range(today - DAYS + 1, today + 1):
        if day >= first:
            for tenant, by in (await index().read(_day, day)).items():
                days.setdefault(tenant, {})[day] = DayOf(day, by)
        if day > today - 30:
            await _senders(index, day, senders)
    room = await index().read(_room)
    return {
        tenant: Statistics(
            now,
            tuple(sums for _, sums in sorted(days.get(tenant, {}).items())),
            _largest(senders.get(tenant, {})),
            *room[tenant],
        )
        for tenant in room
    }


def _bounds(day: int) -> tuple[int, int]:
    """``mail.place`` is the time of receipt in ms, shifted by 18 bits."""
    return (day * DAY * 1000) << 18, ((day + 1) * DAY * 1000) << 18


def _day(cursor: Cursor, day: int) -> dict[int, dict[str, Sum]]:
    found: dict[int, dict[str, Sum]] = {}
    sql = "SELECT tenant, direction, count(*), sum(size) FROM mail WHERE place >= ? AND place < ? GROUP BY tenant, direction"
    for tenant, direction, mails, size in cursor.execute(sql, _bounds(day)).fetchall():
        found.setdefault(tenant, {})[direction] = Sum(mails, size)
    return found


async def _senders(index: Callable[[], Database], day: int, into: dict[int, dict[str, Sum]]) -> None:
    at, end = _bounds(day)
    while True:
        rows = await index().read(_page, at, end)
        for place, tenant, sender, size in rows:
            at = place + 1
            so_far = into.setdefault(tenant, {}).get(sender, Sum())
            into[tenant][sender] = Sum(so_far.mails + 1, so_far.bytes + size)
        if len(rows) < _PAGE:
            return


def _page(cursor: Cursor, at: int, end: int) -> list[tuple[int, int, str, int]]:
    sql = "SELECT place, tenant, people, size FROM mail WHERE place >= ? AND place < ? ORDER BY place LIMIT ?"
    return [
        (place, tenant, _sender(people), size) for place, tenant, people, size in cursor.execute(sql, (at, end, _PAGE)).fetchall()
    ]


def _sender(people: Any) -> str:
    found = people_decoder.decode(people)
    return found.arrivals[0].sender if found.arrivals else ""


def _largest(sums: Mapping[str, Sum]) -> tuple[Sender, ...]:
    order = sorted(sums.items(), key=lambda one: (-one[1].bytes, one[0]))
    return tuple(Sender(address, one.mails, one.bytes) for address, one in order[:SENDERS])


def _room(cursor: Cursor) -> dict[int, tuple[int, int]]:
    """Bytes as received and on the media, by tenant."""
    raw = dict(cursor.execute("SELECT tenant, sum(size) FROM mail GROUP BY tenant").fetchall())
    stored = dict(cursor.execute("SELECT tenant, sum(size) FROM pack GROUP BY tenant").fetchall())
    return {tenant: (size, stored.get(tenant, 0)) for tenant, size in raw.items()}
