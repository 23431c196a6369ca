"""Retention (C1, rule 19) in two jobs. At 02:30 what has expired is *marked*: no search finds it any more (A57), and it can still be unmarked. At
03:40 a day later what is still marked goes, off the media too (A58); packs and full-text tables go whole once nothing in them lives.

What goes leaves the index first, together with a note of it (``going``), then the journal is told, then the note goes: whoever sends the same bytes
meanwhile has sent a new mail, which the journal's word does not reach; a process that dies in between tells the journal at its next start.

Marks are in ``archive.db``, and last as long as it does; after a rebuild they are made anew. Both jobs look first whether what they would do can be
meant, and refuse until somebody confirms it: when the clock cannot be trusted, when too much would go at once, and after a rebuild (rule 18).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from twisted.logger import Logger

from hornetmail.archive.index.schema.fulltext import drop_month
from hornetmail.archive.index.ties.holds import NOT_HELD
from hornetmail.archive.index.ties.leaves import Leaf
from hornetmail.archive.index.writing.removal import RETENTION, Removed, forget_text, mail_went, remove_mails
from hornetmail.archive.media.medium import MediumError, MediumLocked
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import month_of
from hornetmail.archive.store.records import EventMeta, What
from hornetmail.archive.store.shelf import dead_packs
from hornetmail.core import clock
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.interfaces.audit import IAudit

WAIT = 86400.0
"""Seconds at least between marking and going."""

STEADY = 3 * 86400.0
"""Seconds: a marking that long ago, or less, speaks for the clock. A clock that jumped across a restart shows in nothing else."""

ROWS = 200

REBUILT = "rebuilt"
CONFIRMED = "purge confirmed"
APPROVED = "marks approved"
ACCEPTED = "newest accepted"
LAST = "last purge"
STAMP = "stamps accepted"


class RetentionSettings(msgspec.Struct, frozen=True, gc=False):
    """What may go at once without being asked about: ``share`` of all mails, or ``floor`` mails, whichever is more. The floor counts only while
    retention runs from day to day: else a small archive would have no defence against a clock that is years ahead after a restart."""

    share: float = 0.05
    floor: int = 100


class Clocks(msgspec.Struct, frozen=True, gc=False):
    """What speaks for the clock (rule 19). ``drift``: by how many seconds wall clock and monotonic time disagree since the start, or since somebody confirmed the
    clock. ``stamps``: how many time stamps there are; ``made``, ``at``: when the newest was, by the clock here and by its authority's."""

    drift: float = 0.0
    stamps: int = 0
    made: float = 0.0
    at: float = 0.0


class _State(msgspec.Struct, frozen=True, gc=False):
    """What is known before a run. ``newest``: when the newest mail came; ``last``: the last run or confirmation; ``stamps``: of so many time stamps somebody
    said that the clock is right whatever they say; 0: none."""

    total: int
    newest: float
    accepted: float
    last: float
    approved: float
    rebuilt: bool
    confirmed: bool
    stamps: int = 0


class Retention:
    """One run of either job. ``alarm`` is told, code and text, of media on which dead packs could not be removed. ``audit``: None only where there is none to
    write to."""

    log = Logger()

    def __init__(
        self,
        holdings: Holdings,
        database: Database,
        alarm: Callable[[str, str], None],
        clocks: Clocks,
        settings: RetentionSettings = RetentionSettings(),
        audit: IAudit | None = None,
    ) -> None:
        self._holdings = holdings
        self._database = database
        self._alarm = alarm
        self._clocks = clocks
        self._settings = settings
        self._audit = audit

    async def mark(self, now: float) -> int:
        """Mark what has expired; the number of mails. Raises ArchiveError (refused)."""
        state = await self._database.read(_state)
        self._check_clock(state, now)
        await self._database.run(_unmark, now)
        if not state.confirmed:
            self._check_share(state, now, await self._database.read(_expired, now), "would be marked to go")
        marked = 0
        while True:
            batch = await self._database.run(_mark, now)
            if not batch:
                break
            marked += batch
        await self._database.run(_finish, now, state.confirmed)
        return marked

    async def purge(self, now: float) -> int:
        """Let go what was marked a day ago and has not been given longer since; the number of mails that went. Raises ArchiveError (refused)."""
        state = await self._database.read(_state)
        self._check_clock(state, now)
        await self._database.run(_unmark, now)
        self._check_share(state, now, await self._database.read(_unapproved, now - WAIT, state.approved), "would go")
        gone = 0
        months = set()
        while due := await self._database.read(_due, now - WAIT):
            removed = await self._remove(due, now)
            gone += len(removed)
            months |= {one.month for one in removed}
            await self.tell_journal(now)
        await self.tell_journal(now)
        await self._sweep(now)
        # The table of the month that is expiring goes whole when it is over.
        await forget_text(self._database, months - {month_of(now)})
        return gone

    async def _remove(self, due: Sequence[tuple[int, int, int]], now: float) -> list[Removed]:
        """Each removal stands in the audit log before it happens, and what came of it after."""
        entries: list[tuple[int, int]] = []
        if self._audit is not None:
            for tenant in sorted({tenant for _, _, tenant in due}):
                identifiers = [str(identifier) for _, identifier, whose in due if whose == tenant]
                what, detail = f"{len(identifiers)} mails", " ".join(identifiers)
                entries.append((await self._audit.begin("retention", "archive.purge", what, detail, tenant), tenant))
        removed = await self._database.run(_remove, [place for place, _, _ in due], now - WAIT)
        if self._audit is not None:
            for entry, tenant in entries:
                await self._audit.outcome(entry, f"{sum(1 for one in removed if one.tenant == tenant)} removed")
        return removed

    async def confirm(self, now: float) -> None:
        """Somebody looked: the clock is right, what is marked may go, and the next marking goes through, however much it is."""
        await self._database.run(_confirm, now, self._clocks.stamps)

    def _check_clock(self, state: _State, now: float) -> None:
        if state.rebuilt:
            raise ArchiveError("purging is off since the rebuild, until it is confirmed")
        newest = state.newest if state.newest > state.accepted else 0.0
        if why := clock.trouble(self._clocks.drift, max(newest, state.last), now, "the newest mail or the last run of retention"):
            raise ArchiveError(f"{why}: nothing is purged until confirmed")
        clocks = self._clocks
        if clocks.stamps > state.stamps and (abs(clocks.made - clocks.at) > clock.TOLERANCE or clocks.at > now + clock.TOLERANCE):
            raise ArchiveError("the clock disagrees with the last time stamp: nothing is purged until confirmed")

    def _check_share(self, state: _State, now: float, count: int, what: str) -> None:
        settings = self._settings
        steady = state.last > 0 and now - state.last <= STEADY
        if count > max(settings.share * state.total, settings.floor if steady else 0):
            why = f"more than {settings.share:.0%}"
            if not steady:
                why += ", and retention has not run for days"
            raise ArchiveError(f"{count} of {state.total} mails {what} at once, {why}: nothing is purged until confirmed")

    async def tell_journal(self, now: float) -> None:
        """What has left the index and is not yet in the journal: told now, so that a rebuild does not bring it back (rule 18). Also what a
        crash left over; telling twice says the same."""
        while going := await self._database.read(_going):
            for tenant, reason in sorted({(each.tenant, each.reason) for each in going}):
                these = [each for each in going if (each.tenant, each.reason) == (tenant, reason)]
                leaves = tuple(leaf for each in these for leaf in each.leaves)
                records = tuple(each.record for each in these)
                await self._holdings.staging.add_event(
                    tenant, EventMeta(What.DELETED, now, records, reason=reason, leaves=leaves)
                )
                await self._database.run(_told, tenant, records, now)

    async def _sweep(self, now: float) -> None:
        """Whole packs and whole tables, once nothing lives in them. A medium that is away keeps its dead packs until it is back, and holds up
        no other."""
        away: dict[int, str] = {}
        for pack in await self._database.read(dead_packs, month_of(now)):
            if pack.medium in away:
                continue
            try:
                medium = self._holdings.media.get(pack.medium)
                await self._holdings.in_thread(medium.delete, pack.name)
            except MediumLocked as error:
                # It alone waits; the others may be not locked.
                self._alarm(
                    "archive-purge", f"what has expired stays until its lock ends, by the settings of its medium: {error}"
                )
                continue
            except MediumError as error:
                away[pack.medium] = str(error)
                continue
            await self._database.run(_forget_pack, pack.number)
        for number, why in sorted(away.items()):
            self.log.error("dead packs stay on medium {number}: {why}", number=number, why=why)
            self._alarm("archive-purge", f"what has expired is still on medium {number}: {why}; it goes when that is back")
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


def is_rebuilt(cursor: Cursor) -> bool:
    """Whether the index was rebuilt or restored and nobody confirmed it since: what it does not know may have been lost, and not deleted."""
    return bool(_fact(cursor, REBUILT))


def count_marked(cursor: Cursor) -> int:
    """Mails that are marked to go."""
    (marked,) = cursor.execute("SELECT count(*) FROM mail WHERE marked IS NOT NULL").fetchone()
    return int(marked)


def _newest(cursor: Cursor) -> float:
    (newest,) = cursor.execute("SELECT coalesce(max(place) >> 18, 0) / 1000.0 FROM mail").fetchone()
    return float(newest)


def _state(cursor: Cursor) -> _State:
    (total,) = cursor.execute("SELECT coalesce(sum(mails), 0) FROM tally").fetchone()
    accepted, last, approved = (float(_fact(cursor, name) or 0.0) for name in (ACCEPTED, LAST, APPROVED))
    rebuilt, confirmed = (bool(_fact(cursor, name)) for name in (REBUILT, CONFIRMED))
    return _State(total, _newest(cursor), accepted, last, approved, rebuilt, confirmed, int(_fact(cursor, STAMP) or 0))


def _expired(cursor: Cursor, now: float) -> int:
    (count,) = cursor.execute(
        f"SELECT count(*) FROM mail WHERE expires < ? AND marked IS NULL AND pack IS NOT NULL AND {NOT_HELD}", (now,)
    ).fetchone()
    return int(count)


def _unapproved(cursor: Cursor, before: float, approved: float) -> int:
    (count,) = cursor.execute(
        "SELECT count(*) FROM mail WHERE marked IS NOT NULL AND marked <= ? AND marked > ?", (before, approved)
    ).fetchone()
    return int(count)


def _unmark(cursor: Cursor, now: float) -> None:
    """What lives longer after all: another arrival, a rule or a hold lengthened it, or the clock that marked it was ahead."""
    cursor.execute(
        f"UPDATE mail SET marked = NULL WHERE marked IS NOT NULL AND (expires >= ? OR marked > ? OR NOT {NOT_HELD})",
        (now, now + clock.TOLERANCE),
    )


def _mark(cursor: Cursor, now: float) -> int:
    places = cursor.execute(
        f"SELECT place FROM mail WHERE expires < ? AND marked IS NULL AND pack IS NOT NULL AND {NOT_HELD} LIMIT ?", (now, ROWS)
    ).fetchall()
    cursor.executemany("UPDATE mail SET marked = ? WHERE place = ?", [(now, place) for (place,) in places])
    return len(places)


def _finish(cursor: Cursor, now: float, confirmed: bool) -> None:
    _set_fact(cursor, LAST, str(now))
    if confirmed:
        _set_fact(cursor, APPROVED, str(now))
        cursor.execute("DELETE FROM fact WHERE name = ?", (CONFIRMED,))


def _confirm(cursor: Cursor, now: float, stamps: int) -> None:
    _set_fact(cursor, CONFIRMED, "yes")
    _set_fact(cursor, LAST, str(now))
    _set_fact(cursor, APPROVED, str(now))
    _set_fact(cursor, ACCEPTED, str(_newest(cursor)))
    _set_fact(cursor, STAMP, str(stamps))
    cursor.execute("DELETE FROM fact WHERE name = ?", (REBUILT,))


class _Going(msgspec.Struct, frozen=True, gc=False):
    record: bytes
    tenant: int
    leaves: tuple[Leaf, ...]
    reason: str


_leaves = msgspec.msgpack.Decoder(tuple[Leaf, ...])


def _due(cursor: Cursor, before: float) -> list[tuple[int, int, int]]:
    """Place, ID and tenant of some that go now."""
    found: list[tuple[int, int, int]] = cursor.execute(
        f"SELECT place, id, tenant FROM mail WHERE marked IS NOT NULL AND marked <= ? AND {NOT_HELD} ORDER BY place LIMIT ?",
        (before, ROWS),
    ).fetchall()
    return found


def _remove(cursor: Cursor, places: Sequence[int], before: float) -> list[Removed]:
    """Those that are still due: a hold or another arrival may have come between."""
    due = [
        place
        for place in places
        if cursor.execute(f"SELECT 1 FROM mail WHERE place = ? AND marked <= ? AND {NOT_HELD}", (place, before)).fetchone()
    ]
    return remove_mails(cursor, due, RETENTION)


def _going(cursor: Cursor) -> list[_Going]:
    rows = cursor.execute("SELECT record, tenant, leaves, reason FROM going ORDER BY record LIMIT ?", (ROWS,)).fetchall()
    return [_Going(record, tenant, _leaves.decode(leaves), reason) for record, tenant, leaves, reason in rows]


def _told(cursor: Cursor, tenant: int, records: Sequence[bytes], now: float) -> None:
    mail_went(cursor, tenant, now)
    cursor.executemany("DELETE FROM going WHERE record = ?", [(record,) for record in records])


def _forget_pack(cursor: Cursor, number: int) -> None:
    cursor.execute("DELETE FROM part WHERE pack = ?", (number,))
    cursor.execute("DELETE FROM pack WHERE number = ?", (number,))


def _dead_months(cursor: Cursor, present: int) -> list[int]:
    found = cursor.execute(
        "SELECT month FROM month WHERE month < ? AND NOT EXISTS (SELECT 1 FROM mail WHERE mail.month = month.month)", (present,)
    ).fetchall()
    return [month for (month,) in found]
