"""The index from media and key alone (L3): the journals first (what was deleted stays deleted, rule 18), then packs, then later facts.

A record describes and authenticates itself, so damage costs what is damaged and nothing beside it: of a pack that is not whole, all that opens is taken,
and each record that does not is named. What is missing altogether shows in the leaf log: every leaf has an owner, or is told of. The same
``store_batch`` serves new mail, so both end alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.archive.care.terms.keeping import remember
from hornetmail.archive.care.terms.retention import mark_rebuilt
from hornetmail.archive.index.ties.leaves import count_untold, enter_audit_leaf, leaf_went
from hornetmail.archive.index.ties.uses import leave_gone
from hornetmail.archive.index.writing.mails import Prepared, died_in
from hornetmail.archive.index.writing.poison import plain_text_of, store_each, text_of
from hornetmail.archive.index.writing.removal import mail_went
from hornetmail.archive.media.medium import IMedium, MediumAway, MediumError, MediumMissing, MediumUnread
from hornetmail.archive.media.readaround import read_around
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import (
    HEADER,
    Member,
    PackBroken,
    SealedPack,
    open_pack,
    pack_id_of,
    read_pack_head,
    salvage_pack,
)
from hornetmail.archive.store.parts import PartKey, PartPlace, store_parts
from hornetmail.archive.store.records import EventMeta, Kind, MailMeta, What, audit_leaf_of
from hornetmail.archive.store.shelf import Located, PackRow, Shelf, enter_pack, locate_part, pack_row
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord
from hornetmail.disk.threads import wait_for

BATCH = 512
BATCH_BYTES = 4 << 20
"""Records that are prepared, and stored in one transaction, together."""

FACTS = 64
"""Facts of which the mails' texts are read again together."""

CACHE = 128 << 20
LOG = 64 << 20
"""Bytes of the new index kept in memory, and of its write-ahead log before it is written into the file: keys are random, so each mail changes pages all over its indexes, which
are then read back and written over and over again the larger they are (a million mails: ``docs/measurements.rst``)."""

Place = tuple[IMedium, str]


class _Postponed(msgspec.Struct, frozen=True):
    """A mail that did not open at first: its parts may lie in a pack that comes later."""

    pack: int
    tenant: int
    place: Place
    member: Member


class Rebuild:
    """Fills an empty index. ``before``: the packs that the old index knew, if there is one, so that those that are missing have names."""

    log = Logger()

    def __init__(
        self,
        holdings: Holdings,
        database: Database,
        before: Sequence[PackRow] = (),
    ) -> None:
        self._reactor = holdings.reactor
        self._in_thread = holdings.in_thread
        self._database = database
        self._keys = holdings.keys
        self._codec = holdings.codec
        self._media = holdings.media
        self._staging = holdings.staging
        self._before = before
        self._shelf = Shelf(holdings.staging, holdings.media, holdings.codec, self._locate)
        self._sizes: dict[tuple[int, str], int] = {}
        self._entered: dict[bytes, int] = {}
        self._damaged: list[tuple[IMedium, str, str]] = []
        self._lost: dict[int, int] = {}
        """Media that went out of reach meanwhile, and how many of their objects were not read for it."""
        self._with_facts: list[tuple[int, int, Place]] = []
        self._again: list[_Postponed] = []
        self._found: list[Finding] = []

    async def run(self) -> Sequence[Finding]:
        """What could not be read; the index holds all the rest."""
        await self._database.run(_roomy)
        journals, packs = await self._in_thread(self._list)
        for medium, name in journals:
            await self._replay_journal(medium, name)
        await self._replay_staged()
        for medium, name in packs:
            await self._take_pack(medium, name)
        for medium, name, why in self._damaged:
            await self._take_damaged(medium, name, why)
        for again in self._again:
            await self._try_again(again)
        for number, tenant, place in self._with_facts:
            await self._take_facts(number, tenant, *place)
        self._name_unread()
        self._name_missing()
        await self._database.run(leave_gone)
        await self._database.run(_forget_deleted)
        await self._database.run(mark_rebuilt)
        return tuple(self._found)

    def _bad(self, where: str, error: Exception | str) -> None:
        self.log.error("rebuild: {where}: {error}", where=where, error=error)
        self._found.append(Finding(where, str(error)))

    def _poisoned(self, record: bytes, why: str) -> None:
        self._bad(f"record {record.hex()}, in the index by its headers only", why)

    # -- what there is

    def _list(self) -> tuple[list[Place], list[Place]]:
        """Journals and packs of all media, those out of use too, oldest first; one whose head does not read comes first."""
        journals: list[tuple[float, IMedium, str]] = []
        packs: list[tuple[float, IMedium, str]] = []
        for medium in self._media.every():
            try:
                for folder, into in (("journal/", journals), ("packs/", packs)):
                    named = [(name, size) for name, size in medium.names(folder) if pack_id_of(name)]
                    self._sizes |= {(medium.number, name): size for name, size in named}
                    into += [(self._made(medium, name), medium, name) for name, _ in named]
            except MediumError as error:
                self._lost[medium.number] = 0
                self._bad(
                    f"medium {medium.number}",
                    f"out of reach, so nothing that lies there is in the new index, and its journal was not read: {error}."
                    " Run the rebuild again when it is back",
                )
        return _in_order(journals), _in_order(packs)

    def _made(self, medium: IMedium, name: str) -> float:
        try:
            return read_pack_head(medium.get(name, 0, HEADER.size)).made
        except (PackBroken, MediumMissing, MediumUnread):
            # This one alone; it is named when its turn comes.
            return 0.0

    def _open(self, medium: IMedium, name: str) -> SealedPack:
        """Raises ArchiveError."""
        pack = open_pack(medium.get(name), self._keys.current())
        if pack.head.pack != pack_id_of(name) or pack.head.name != name:
            raise PackBroken(f"it is another pack, whose name is {pack.head.name}: give it that name")
        return pack

    def _salvage(self, medium: IMedium, name: str) -> SealedPack | None:
        where = f"medium {medium.number}: {name}"
        try:
            data, unread = self._what_reads(medium, name)
            salvaged = salvage_pack(name, data, self._keys.current())
        except ArchiveError as error:
            self._bad(where, error)
            return None
        for start, end in unread:
            self._bad(where, f"bytes {start} to {end} do not read")
        for one in salvaged.damage:
            self._bad(where, one)
        return salvaged.pack

    def _what_reads(self, medium: IMedium, name: str) -> tuple[bytes, Sequence[tuple[int, int]]]:
        """An object, with zeros for stretches of it that do not read; and which they are. Raises ArchiveError."""
        try:
            return medium.get(name), ()
        except MediumUnread:
            found = read_around(medium, name, self._sizes[medium.number, name])
            return found.data, found.unread

    def _goes(self, medium: IMedium, error: MediumAway) -> None:
        """It went out of reach: said once, and nothing more is asked of it, since each question may take a minute."""
        if medium.number not in self._lost:
            self._lost[medium.number] = 0
            self._bad(f"medium {medium.number}", f"it went out of reach: {error}. Run the rebuild again when it is back")
        self._lost[medium.number] += 1

    def _name_unread(self) -> None:
        for number, objects in sorted(self._lost.items()):
            if objects:
                self._bad(
                    f"medium {number}", f"{objects} packs and journals that lie there were not read, and are not in the new index"
                )

    def _name_missing(self) -> None:
        reach = {medium.number for medium in self._media.every()} - set(self._lost)
        for pack in self._before:
            if pack.pack not in self._entered and pack.medium in reach and not pack.merged:
                self._bad(f"medium {pack.medium}: {pack.name}", f"the pack is missing: {pack.members} records were in it")

    # -- what was deleted

    async def _replay_journal(self, medium: IMedium, name: str) -> None:
        if medium.number in self._lost:
            self._lost[medium.number] += 1
            return
        try:
            pack: SealedPack | None = await self._in_thread(self._open, medium, name)
        except MediumAway as error:
            self._goes(medium, error)
            return
        except ArchiveError as error:
            self._bad(f"medium {medium.number}: {name}", f"damaged, all that opens is taken: {error}")
            pack = await self._in_thread(self._salvage, medium, name)
        if pack is None or pack.head.pack in self._entered:
            return
        self._entered[pack.head.pack] = await self._database.run(enter_pack, pack, 0.0, medium.number)
        for event in await self._in_thread(self._events, pack):
            await self._database.run(_remember, pack.head.group.tenant, event)

    def _events(self, pack: SealedPack) -> list[EventMeta]:
        events = []
        for member in pack.members:
            if member.kind == Kind.EVENT:
                try:
                    events.append(self._codec.open_event(_bytes(pack, member))[1])
                except ArchiveError as error:
                    self._bad(f"{pack.head.name}: record {member.record.hex()}", f"what it says of later facts is lost: {error}")
        return events

    async def _replay_staged(self) -> None:
        """Deletions that are in the staging area and not yet in a journal count as well."""
        for tenant, event in await self._in_thread(self._staged_events):
            await self._database.run(_remember, tenant, event)

    def _staged_events(self) -> list[tuple[int, EventMeta]]:
        events = []
        for entry in [e for _, segment in sorted(self._staging.segments.items()) for e in segment if e.kind == Kind.EVENT]:
            try:
                events.append((entry.tenant, self._codec.open_event(self._staging.read(entry.position))[1]))
            except (ArchiveError, BadRecord, KeyError) as error:
                self._bad(f"staging: record {entry.record.hex()}", str(error))
        return events

    # -- packs

    async def _take_pack(self, medium: IMedium, name: str) -> None:
        if pack_id_of(name) in self._entered:
            return
        if medium.number in self._lost:
            self._lost[medium.number] += 1
            return
        try:
            pack = await self._in_thread(self._open, medium, name)
        except MediumAway as error:
            self._goes(medium, error)
            return
        except ArchiveError as error:
            # A whole copy of it may lie on another medium.
            self._damaged.append((medium, name, str(error)))
            return
        await self._take(medium, pack)

    async def _take_damaged(self, medium: IMedium, name: str, why: str) -> None:
        where = f"medium {medium.number}: {name}"
        if pack_id_of(name) in self._entered:
            self._bad(where, f"damaged ({why}); a whole copy of it lies on another medium and was taken")
            return
        self._bad(where, f"damaged, all that opens is taken: {why}")
        pack = await self._in_thread(self._salvage, medium, name)
        if pack is not None:
            await self._take(medium, pack)

    async def _take(self, medium: IMedium, pack: SealedPack) -> None:
        number = await self._database.run(enter_pack, pack, 0.0, medium.number)
        self._entered[pack.head.pack] = number
        mails = [m for m in pack.members if m.kind == Kind.MESSAGE]
        if any(m.kind == Kind.EVENT for m in pack.members):
            self._with_facts.append((number, pack.head.group.tenant, (medium, pack.head.name)))
        await self._database.run(store_parts, await self._in_thread(self._parts, pack, number))
        for batch in in_batches(mails):
            prepared = await self._in_thread(self._prepare, medium, pack, number, batch)
            await store_each(self._database, prepared, self._poisoned)

    def _prepare(self, medium: IMedium, pack: SealedPack, number: int, members: Sequence[Member]) -> list[Prepared]:
        prepared = []
        tenant = pack.head.group.tenant
        for member in members:
            try:
                meta, raw = self._shelf.mail(_bytes(pack, member))
            except ArchiveError:
                self._again.append(_Postponed(number, tenant, (medium, pack.head.name), member))
                continue
            prepared.append(self._prepared(tenant, number, member, meta, raw))
        return prepared

    def _prepared(self, tenant: int, number: int, member: Member, meta: MailMeta, raw: bytes) -> Prepared:
        text = text_of(member.record, raw, self._poisoned)
        return Prepared(tenant, member.record, meta, text, number, member.offset, member.length)

    def _locate(self, record: bytes) -> Located | None:
        def ask() -> Deferred[Located | None]:
            return Deferred.fromCoroutine(self._database.read(locate_part, record))

        return wait_for(self._reactor, ask)

    def _parts(self, pack: SealedPack, number: int) -> list[PartPlace]:
        """In a thread."""
        places = []
        for member in pack.members:
            if member.kind == Kind.PART:
                try:
                    _, meta, _ = self._codec.open_part(_bytes(pack, member))
                except ArchiveError as error:
                    self._bad(f"{pack.head.name}: record {member.record.hex()}", error)
                    continue
                key = PartKey(pack.head.group.tenant, meta.month, meta.digest)
                places.append(PartPlace(member.record, key, number, member.offset, member.length))
        return places

    async def _try_again(self, again: _Postponed) -> None:
        prepared = await self._in_thread(self._open_again, again)
        if prepared is not None:
            await store_each(self._database, [prepared], self._poisoned)

    def _open_again(self, again: _Postponed) -> Prepared | None:
        """The mail whole; or, if an attachment of it is lost, by what it says of itself and its header."""
        medium, name = again.place
        member = again.member
        where = f"{name}: record {member.record.hex()}"
        try:
            data = medium.get(name, member.offset, member.length)
            _, meta, inline = self._codec.open_mail(data)
        except ArchiveError as error:
            self._bad(where, error)
            return None
        try:
            return self._prepared(again.tenant, again.pack, member, *self._shelf.mail(data))
        except ArchiveError as error:
            self._bad(where, f"mail {meta.identifier} is in the index by its headers only, its bytes are not all there: {error}")
        text = plain_text_of(inline)
        return Prepared(again.tenant, member.record, meta, text, again.pack, member.offset, member.length)

    # -- later facts

    async def _take_facts(self, number: int, tenant: int, medium: IMedium, name: str) -> None:
        """Further arrivals of mail that is in the index now: its text is read again, because its full text is written anew."""
        try:
            members = await self._in_thread(self._fact_members, medium, name)
        except ArchiveError as error:
            self._bad(f"medium {medium.number}: {name}", error)
            return
        for at in range(0, len(members), FACTS):
            prepared = []
            for member, event in members[at : at + FACTS]:
                if event.what == What.KEEP_UNTIL:
                    await self._database.run(remember, tenant, event)
                if event.copy is None:
                    continue
                found = await self._database.read(_twin, tenant, event)
                if found is None:
                    await self._database.run(_went_with_its_mail, event, number)
                    continue
                text = await self._in_thread(self._text_again, member.record, *found)
                prepared.append(
                    Prepared(
                        tenant,
                        member.record,
                        event.copy,
                        text,
                        number,
                        member.offset,
                        member.length,
                        event=True,
                        original=found[3],
                    )
                )
            await store_each(self._database, prepared, self._poisoned)

    def _fact_members(self, medium: IMedium, name: str) -> list[tuple[Member, EventMeta]]:
        """Facts of a pack that was taken before; damage of it was told then. Raises ArchiveError."""
        data, _ = self._what_reads(medium, name)
        found = []
        for member in salvage_pack(name, data, self._keys.current()).pack.members:
            if member.kind == Kind.EVENT:
                try:
                    event = self._codec.open_event(data[member.offset : member.offset + member.length])[1]
                except ArchiveError as error:
                    self._bad(f"{name}: record {member.record.hex()}", error)
                    continue
                found.append((member, event))
        return found

    def _text_again(self, record: bytes, pack: PackRow | None, start: int, length: int, twin: bytes) -> Any:
        try:
            return text_of(record, self._shelf.mail(self._shelf.record(pack, start, length, twin))[1], self._poisoned)
        except (ArchiveError, KeyError):
            # Told of when the mail itself was taken.
            return plain_text_of(b"")


def _bytes(pack: SealedPack, member: Member) -> bytes:
    return pack.data[member.offset : member.offset + member.length]


def in_batches(members: Sequence[Member]) -> Iterator[list[Member]]:
    """These in their order, no more together than are dealt with at once."""
    batch: list[Member] = []
    size = 0
    for member in members:
        if batch and (len(batch) >= BATCH or size + member.length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(member)
        size += member.length
    if batch:
        yield batch


def _roomy(cursor: Cursor) -> None:
    """Of this connection only, which ends with the rebuild."""
    cursor.execute(f"PRAGMA cache_size = {-CACHE // 1024}").fetchall()
    cursor.execute(f"PRAGMA wal_autocheckpoint = {LOG // 4096}").fetchall()


def _in_order(found: list[tuple[float, IMedium, str]]) -> list[Place]:
    return [(medium, name) for _, medium, name in sorted(found, key=lambda each: (each[0], each[2], each[1].number))]


def _remember(cursor: Cursor, tenant: int, event: EventMeta) -> None:
    """Facts apply by their time, in whatever order they are read: the newest of ``deleted`` and ``undeleted`` counts for a record."""
    if event.what == What.DELETED:
        mail_went(cursor, tenant, event.at)
        cursor.executemany(
            "INSERT INTO deleted (record, tenant, at) VALUES (?, ?, ?) ON CONFLICT (record) DO UPDATE SET at = max(at, excluded.at)",
            [(record, tenant, event.at) for record in event.records],
        )
        for node, leaf in event.leaves:
            leaf_went(cursor, node, leaf)
        if not event.leaves:
            count_untold(cursor, len(event.records))
    elif event.what == What.UNDELETED:
        cursor.executemany(
            "INSERT INTO deleted (record, tenant, at, back) VALUES (?, ?, 0, ?) ON CONFLICT (record) DO UPDATE SET back = max(back, excluded.back)",
            [(record, tenant, event.at) for record in event.records],
        )
    elif audit := audit_leaf_of(event):
        enter_audit_leaf(cursor, audit)
    else:
        remember(cursor, tenant, event)


def _forget_deleted(cursor: Cursor) -> None:
    cursor.execute("DELETE FROM deleted")


def _went_with_its_mail(cursor: Cursor, event: EventMeta, pack: int) -> None:
    """A further arrival of mail that was deleted; of mail that is missing, its leaf has no owner, and is told of."""
    if event.copy is None or not event.records:
        return
    for record in event.records:
        if not cursor.execute("SELECT 1 FROM deleted WHERE record = ? AND at > back", (record,)).fetchone():
            return
    leaf_went(cursor, event.copy.node, event.copy.leaf)
    died_in(cursor, pack)


def _twin(cursor: Cursor, tenant: int, event: EventMeta) -> tuple[PackRow | None, int, int, bytes] | None:
    """The mail that came once more: the one that the fact names, or another one of the same bytes."""
    columns = "SELECT pack, start, length, record FROM mail WHERE tenant = ?"
    rows = [cursor.execute(f"{columns} AND record = ?", (tenant, record)).fetchone() for record in event.records[:1]]
    if event.copy is not None:
        rows.append(cursor.execute(f"{columns} AND sha256 = ? AND room = 1 LIMIT 1", (tenant, event.copy.sha256)).fetchone())
    row = next((row for row in rows if row), None)
    return (pack_row(cursor, row[0]), *row[1:]) if row else None
