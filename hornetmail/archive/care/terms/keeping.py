"""What is kept, and what goes before its time: the rules of retention, legal holds, and deletion on request (A57, A58, rules 18, 23).

A fact is durable in the journal before anything follows from it; a process that dies in between finds it there at its next start. What is removed leaves
the index, its full text, its files and the write-ahead log at once; its pack is written anew without it by the next merging.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.archive.index.finding.matching import by_month, matching, with_ids
from hornetmail.archive.index.ties.holds import begin_hold, end_hold, holds_of, holds_on, running_queries
from hornetmail.archive.index.ties.rules import Counted, RulesRow, rules_row, set_rules, tenants_to_walk, walk
from hornetmail.archive.index.writing.removal import Removed, forget_text, last_removal, remove_mails
from hornetmail.archive.media.medium import MediumError
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import end_of, month_of
from hornetmail.archive.store.records import EventMeta, Kind, What
from hornetmail.archive.store.shelf import pack_rows
from hornetmail.core.archive.archived import ArchiveError, HoldRefused
from hornetmail.core.archive.retention import DAY, MOST_DAYS, Deleted, Hold, RetentionPreview, RetentionState, Rule, checked
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.retention import IRetention

BATCH = 1000
"""Records of one hold event."""

MOST_DELETED = 150
"""As many IDs as stand in one row of the audit log."""

_rules = msgspec.json.Decoder(tuple[Rule, ...])


class Parts(msgspec.Struct, frozen=True):
    """What it works on. ``index`` raises ArchiveError if there is none. ``moving``: held while packs change or are deleted. ``flush(seal)`` indexes what is
    staged, and seals it; ``tell`` tells the journal what went; ``away``: media out of reach, and why."""

    holdings: Holdings
    index: Callable[[], Database]
    moving: DeferredLock
    flush: Callable[[bool], Awaitable[None]]
    tell: Callable[[float], Awaitable[None]]
    changed: Callable[[], Awaitable[None]]
    away: Callable[[], Mapping[int, str]]
    audit: IAudit | None = None


class Copies(msgspec.Struct, frozen=True):
    """What holds the archive's mail beside its media: backups and a mirror. ``gone_by``: when none of them holds any more what left index and media at that
    moment; ``waits``: what may hold it for longer, for people."""

    gone_by: Callable[[float], float]
    waits: Callable[[], Sequence[str]]


@implementer(IRetention)
class Keeping:
    """See ``IRetention``."""

    log = Logger()

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._walking: Deferred[None] | None = None
        self._stopping = False
        self._copies = Copies(lambda at: at, tuple)

    def copied(self, copies: Copies) -> None:
        """From now on what these hold counts as well (rule 23)."""
        self._copies = copies

    async def stop(self) -> None:
        """Finish the page under way; the next start or marking goes on."""
        self._stopping = True
        if self._walking is not None:
            await self._walking

    # -- rules ----------------------------------------------------------------------------------------------------------------

    async def state(self, tenant: int) -> RetentionState:
        """See IRetention."""
        index = self._parts.index()
        row = await index.read(rules_row, tenant) or RulesRow(tenant, 0.0, "", (), None)
        now = self._parts.holdings.seconds()
        found = await index.read(_waiting, tenant, now)
        gone_by = self._copies.gone_by(found.by) if found.packs else 0.0
        if found.removed:
            gone_by = max(gone_by, self._copies.gone_by(found.removed))
        gone_by = gone_by if found.packs or gone_by > now else 0.0
        waits = (*self._away(found.media), *self._copies.waits()) if gone_by else ()
        return RetentionState(row.rules, row.at, row.by, row.walked is not None, found.marked, found.packs, gone_by, waits)

    def _away(self, numbers: Iterable[int]) -> list[str]:
        """Which of these media cannot be written now, and why."""
        holdings, found = self._parts.holdings, []
        for number in sorted(set(numbers)):
            try:
                holdings.media.get(number)
            except MediumError as error:
                found.append(str(error))
            else:
                if why := self._parts.away().get(number):
                    found.append(why)
        return found

    async def preview(self, tenant: int, rules: Sequence[Rule]) -> RetentionPreview:
        """See IRetention."""
        counted = Counted(tenant, checked(rules), self._parts.holdings.seconds())
        place: int | None = -1
        while place is not None:
            place = await self._parts.index().read(counted.page, place)
        return counted.found

    async def set_rules(self, tenant: int, rules: Sequence[Rule], by: str) -> None:
        """See IRetention."""
        wanted = checked(rules)
        now = self._parts.holdings.seconds()
        self._parts.index()
        event = EventMeta(What.RETENTION, now, by=by, text=msgspec.json.encode(wanted).decode())
        await self._parts.holdings.staging.add_event(tenant, event)
        await self._parts.index().run(remember, tenant, event)
        if self._walking is None or self._walking.called:
            self._walking = Deferred.fromCoroutine(self._walk_quietly())

    async def _walk_quietly(self) -> None:
        """Behind whoever set the rules: a large archive takes minutes."""
        try:
            await self.walk()
        except Exception:  # noqa: BLE001  the next marking begins with it
            self.log.failure("applying rules of retention failed, the next marking goes on")
        finally:
            self._walking = None

    async def walk(self) -> None:
        """Apply rules to all mail that is there, those too that are set meanwhile. One page a transaction: mail goes on coming in."""
        while not self._stopping and (tenants := await self._parts.index().read(tenants_to_walk)):
            for tenant in tenants:
                while not self._stopping and await self._parts.index().run(walk, tenant):
                    pass

    # -- holds ----------------------------------------------------------------------------------------------------------------

    async def holds(self, tenant: int) -> Sequence[Hold]:
        """See IRetention."""
        return await self._parts.index().read(holds_of, tenant)

    async def hold(
        self,
        tenant: int,
        name: str,
        by: str,
        *,
        query: str = "",
        content: bool = False,
        identifiers: Sequence[int] = (),
        reason: str = "",
    ) -> int:
        """See IRetention."""
        name = name.strip()
        if not name or len(name) > 200 or not name.isprintable():
            raise ValueError("a hold has a name of at most 200 characters")
        if not query.strip() and not identifiers:
            raise ValueError("a hold needs a query, or IDs of mails")
        await self._parts.flush(False)
        wanted = Hold(name, 0.0, by, query.strip(), content, reason)
        # Nothing goes between being found and being held: what is said to be held is there.
        await self._parts.moving.acquire()
        try:
            records = [one[1] for one in (await self._found(tenant, identifiers)).values()]
            if wanted.query:
                records += await self._parts.index().read(matching, tenant, wanted)
            return await self._hold(tenant, wanted, list(dict.fromkeys(records)))
        finally:
            self._parts.moving.release()

    async def _hold(self, tenant: int, hold: Hold, records: Sequence[bytes]) -> int:
        for at in range(0, max(1, len(records)), BATCH):
            event = EventMeta(
                What.HOLD,
                self._parts.holdings.seconds(),
                tuple(records[at : at + BATCH]),
                by=hold.by,
                reason=hold.reason,
                text=hold.name,
                query=hold.query,
                content=hold.content,
            )
            await self._parts.holdings.staging.add_event(tenant, event)
            await self._parts.index().run(remember, tenant, event)
        return len(records)

    async def release(self, tenant: int, name: str, by: str) -> None:
        """See IRetention."""
        if not any(hold.name == name and not hold.released for hold in await self.holds(tenant)):
            raise KeyError(name)
        event = EventMeta(What.RELEASE, self._parts.holdings.seconds(), by=by, text=name)
        await self._parts.holdings.staging.add_event(tenant, event)
        await self._parts.index().run(remember, tenant, event)

    async def renew_holds(self) -> None:
        """Holds with a query take what came since and matches."""
        for tenant, hold in await self._parts.index().read(running_queries):
            records = await self._parts.index().read(matching, tenant, hold)
            if records:
                await self._hold(tenant, hold, records)

    async def keep(self, tenant: int, identifiers: Sequence[int], until: float, by: str, reason: str = "") -> int:
        """See IRetention."""
        parts = self._parts
        if len(identifiers) > MOST_DELETED:
            raise ValueError(f"at most {MOST_DELETED} mails at once")
        if not parts.holdings.seconds() < until <= parts.holdings.seconds() + MOST_DAYS * DAY:
            raise ValueError(f"mail is kept until a day to come, within {MOST_DAYS} days")
        # What is staged has to have a pack of its month, in which the fact lies beside it.
        await parts.flush(True)
        # As for a hold.
        await parts.moving.acquire()
        try:
            records = [one[1] for one in (await self._found(tenant, identifiers)).values()]
            for _, these in sorted((await parts.index().read(by_month, records)).items()):
                event = EventMeta(What.KEEP_UNTIL, parts.holdings.seconds(), tuple(these), by=by, reason=reason, until=until)
                await parts.holdings.staging.add_event(tenant, event)
                await parts.index().run(remember, tenant, event)
        finally:
            parts.moving.release()
        return len(records)

    # -- removal --------------------------------------------------------------------------------------------------------------

    async def delete(self, tenant: int, identifiers: Sequence[int], by: str, reason: str) -> Deleted:
        """See IRetention."""
        parts = self._parts
        if len(identifiers) > MOST_DELETED:
            raise ValueError(f"at most {MOST_DELETED} mails at once")
        entry = 0
        if parts.audit is not None:
            names = " ".join(map(str, identifiers))
            entry = await parts.audit.begin(by, "archive.delete", reason or "on request", names, tenant)
        try:
            deleted = await self._delete(tenant, identifiers, reason or "on request")
        except Exception as error:
            if parts.audit is not None:
                await parts.audit.outcome(entry, f"nothing removed: {type(error).__name__}: {error}"[:1000])
            raise
        if parts.audit is not None:
            await parts.audit.outcome(entry, f"{len(deleted.removed)} removed")
        return deleted

    async def _delete(self, tenant: int, identifiers: Sequence[int], reason: str) -> Deleted:
        parts = self._parts
        # What is staged lies in files that are removed as a whole, once they are sealed.
        await parts.flush(True)
        places = [place for place, _, _ in (await self._found(tenant, identifiers)).values()]
        await parts.moving.acquire()
        try:
            await self.renew_holds()
            media = await parts.index().read(_media_of, places)
            removed = await parts.index().run(_remove, places, reason)
            await parts.tell(parts.holdings.seconds())
            await forget_text(parts.index(), {one.month for one in removed})
        finally:
            parts.moving.release()
        await parts.changed()
        gone_by = self._copies.gone_by(parts.holdings.seconds() + DAY)
        return Deleted(tuple(one.identifier for one in removed), gone_by, (*self._away(media), *self._copies.waits()))

    async def _found(self, tenant: int, identifiers: Sequence[int]) -> dict[int, tuple[int, bytes, bool]]:
        """Raises KeyError: the first that there is not."""
        found = await self._parts.index().read(with_ids, tenant, identifiers)
        for identifier in identifiers:
            if identifier not in found:
                raise KeyError(identifier)
        return found

    # -- after a start --------------------------------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Facts that are staged, and of which the index may not have heard before the process died."""
        staging = self._parts.holdings.staging
        for entries in [list(segment) for _, segment in sorted(staging.segments.items())]:
            for entry in entries:
                if entry.kind != Kind.EVENT:
                    continue
                try:
                    event = self._parts.holdings.codec.open_event(staging.read(entry.position))[1]
                except (ArchiveError, KeyError, ValueError):
                    # Sealing names it.
                    continue
                if event.what in (What.HOLD, What.RELEASE, What.RETENTION, What.KEEP_UNTIL):
                    await self._parts.index().run(remember, entry.tenant, event)


def remember(cursor: Cursor, tenant: int, event: EventMeta) -> None:
    """What a fact says of rules and holds, into the index; told twice, or in another order, it comes to the same."""
    if event.what == What.HOLD:
        begin_hold(cursor, tenant, Hold(event.text, event.at, event.by, event.query, event.content, event.reason), event.records)
    elif event.what == What.RELEASE:
        end_hold(cursor, tenant, event.text, event.at, event.records)
    elif event.what == What.KEEP_UNTIL:
        for record in event.records:
            cursor.execute(
                "UPDATE mail SET base = coalesce(base, expires), kept = max(kept, ?), expires = max(expires, ?), marked = NULL WHERE record = ? AND tenant = ?",
                (event.until, event.until, record, tenant),
            )
    elif event.what == What.RETENTION:
        set_rules(cursor, tenant, event.at, event.by, _rules.decode(event.text))


def _remove(cursor: Cursor, places: Sequence[int], reason: str) -> list[Removed]:
    """All or nothing. Raises HoldRefused."""
    for place in places:
        row = cursor.execute("SELECT id, record FROM mail WHERE place = ?", (place,)).fetchone()
        if row and (names := holds_on(cursor, row[1])):
            raise HoldRefused(f"mail {row[0]} is under the legal hold {', '.join(names)}: nothing was deleted")
    return remove_mails(cursor, places, reason)


def _media_of(cursor: Cursor, places: Sequence[int]) -> set[int]:
    """The media that mails, and the facts about them, may lie on."""
    found = set()
    for place in places:
        for (medium,) in cursor.execute(
            "SELECT DISTINCT p.medium FROM mail m JOIN pack p ON p.tenant = m.tenant AND p.month = m.month AND (p.number = m.pack OR p.shared > 0)"
            " WHERE m.place = ?",
            (place,),
        ).fetchall():
            found.add(int(medium))
    return found


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    """Mails that are marked; packs that hold something which went, the media that they lie on, and when the last of them is written anew or deleted at the latest;
    when the last mail went."""

    marked: int
    packs: int
    media: frozenset[int]
    by: float
    removed: float


def _waiting(cursor: Cursor, tenant: int, now: float) -> _Waiting:
    (marked,) = cursor.execute("SELECT count(*) FROM mail WHERE marked IS NOT NULL AND tenant = ?", (tenant,)).fetchone()
    packs = [pack for pack in pack_rows(cursor) if pack.tenant == tenant and pack.month and (pack.dead or pack.merged)]
    by = 0.0
    for pack in packs:
        later = pack.month == month_of(now) and not pack.soon and not pack.merged
        by = max(by, (end_of(pack.month) if later else now) + DAY)
    return _Waiting(int(marked), len(packs), frozenset(pack.medium for pack in packs), by, last_removal(cursor, tenant))
