"""Staged records onto the medium (rule 20): packs by merge group, read back and checked, then unstaged.

The order is: keyring, packs (put, read back, opened), leaf run, index, local leaf log, segment dropped. A crash between any two repeats
the same steps with the same names, because a pack's ID is derived from the records in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from hornetmail.archive.index.finding.matching import by_month
from hornetmail.archive.index.ties.leaves import enter_audit_leaf
from hornetmail.archive.keys.keyring import KeyTrouble
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import IMedium, MediumError, MediumMissing, MediumUnread
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import Group, Member, PackBroken, PackHead, SealedPack, build_pack, name_of_records, open_pack
from hornetmail.archive.store.records import (
    WITH_THEIR_MAIL,
    AuditLeaf,
    EventMeta,
    Kind,
    Outcome,
    RecordBroken,
    What,
    audit_leaf_of,
)
from hornetmail.archive.store.shelf import enter_pack
from hornetmail.archive.store.staged import Staged
from hornetmail.archive.store.staging import NO_LEAF, year_of
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord

T = TypeVar("T")

ROWS = 500


class Sealer:
    """Closes staging segments and puts what is in them on the active medium."""

    log = Logger()

    def __init__(
        self,
        holdings: Holdings,
        database: Database,
    ) -> None:
        self._holdings = holdings
        self._in_thread = holdings.in_thread
        self._staging = holdings.staging
        self._media = holdings.media
        self._codec = holdings.codec
        self._keys = holdings.keys
        self._leaves = holdings.leaves
        self._database = database
        self._lock = DeferredLock()
        self._unleft: dict[int, int] = {}
        """Segments whose packs, rows and leaves are where they belong, and which could not be removed: how many packs each became. Their records may be
        gone already, so only the removal is tried again."""

    async def seal(self) -> int:
        """Seal every segment whose records are all indexed; the number of packs made. Raises MediumError, DiskFull, ArchiveError.

        Nothing is rolled or read before the medium has answered, and the segment that is written to is closed only when those before it went:
        however often it fails, it leaves no more than one short segment behind.
        """
        await self._lock.acquire()
        try:
            if not self._staging.segments:
                return 0
            await self._in_thread(self._media.active.look)
            written = self._staging.records.segments()[-1]
            packs, blocked = await self._seal_all([number for number in sorted(self._staging.segments) if number < written])
            if not blocked and self._staging.segments:
                await self._staging.alone(self._staging.records.roll)
                more, _ = await self._seal_all(sorted(self._staging.segments))
                packs += more
            return packs
        finally:
            self._lock.release()

    async def _seal_all(self, segments: Sequence[int]) -> tuple[int, bool]:
        """These in their order, up to one that is not indexed yet: how many packs, and whether there was such a one."""
        packs = 0
        for segment in segments:
            entries = self._staging.segments[segment]
            if segment in self._unleft:
                packs += await self._leave(segment)
                continue
            if any(entry.outcome is None and entry.kind != Kind.EVENT for entry in entries):
                return packs, True
            packs += await self._seal_segment(segment, list(entries))
        return packs, False

    async def between(self, look: Callable[[], Awaitable[T]]) -> T:
        """Run ``look`` while nothing is being sealed: medium, index and leaf log agree then. Keep it short, mail is waiting."""
        await self._lock.acquire()
        try:
            return await look()
        finally:
            self._lock.release()

    async def _seal_segment(self, segment: int, entries: Sequence[Staged]) -> int:
        medium = self._media.active
        originals = await self._database.read(_originals, [e.record for e in entries if e.outcome == Outcome.COPY])
        for entry, about in await self._in_thread(self._with_their_mail, entries):
            # Of mail that went meanwhile nothing is left that it could go with: it lies in the journal, and says nothing.
            entry.month = min(await self._database.read(by_month, about), default=0)
        packs: list[SealedPack] = await self._in_thread(self._put, medium, entries, originals)
        for pack in packs:
            number = await self._database.run(enter_pack, pack, self._holdings.seconds())
            for at in range(0, len(pack.members), ROWS):
                await self._database.run(_move, number, pack.members[at : at + ROWS])
        for audit in await self._in_thread(self._audits, entries):
            await self._database.run(enter_audit_leaf, audit)
        run = self._run(entries)
        if run is not None:
            await self._in_thread(self._log_leaves, medium, run)
        self._unleft[segment] = len(packs)
        return await self._leave(segment)

    async def _leave(self, segment: int) -> int:
        """Remove a segment that has gone to the medium; how many packs it became."""
        await self._staging.alone(lambda: self._staging.leave(segment))
        self._staging.sealed(segment)
        return self._unleft.pop(segment)

    def _put(self, medium: IMedium, entries: Sequence[Staged], originals: dict[bytes, bytes]) -> list[SealedPack]:
        """In a thread: build, put, read back."""
        self._keys.publish(medium)
        groups: dict[Group, list[bytes]] = {}
        for entry in entries:
            try:
                record = self._staging.read(entry.position)
            except BadRecord as error:
                # The others must not wait for it: the segment is kept aside for its sake.
                self._staging.damage(entry.position.segment, f"record {entry.record.hex()}: {error}")
                continue
            month = entry.month
            if entry.outcome == Outcome.BROKEN:
                month = 0
            elif entry.kind == Kind.EVENT:
                pass
            elif entry.outcome != Outcome.STORED:
                record = self._as_event(entry, record, originals.get(entry.record))
            elif entry.leaf_hash is None and entry.kind == Kind.MESSAGE:
                entry.leaf_hash = self._codec.open_mail(record)[1].leaf_hash()
            groups.setdefault(Group(entry.tenant, month), []).append(record)
        return [self._put_pack(medium, group, records) for group, records in sorted(groups.items())]

    def _with_their_mail(self, entries: Sequence[Staged]) -> list[tuple[Staged, tuple[bytes, ...]]]:
        """Facts that lie in the pack of their mail's month and go with it (rule 23), and what they are about. In a thread."""
        found = []
        for entry in entries:
            if entry.kind == Kind.EVENT:
                try:
                    event = self._codec.open_event(self._staging.read(entry.position))[1]
                except (BadRecord, RecordBroken):
                    continue  # told of when it is to be put
                if event.what in WITH_THEIR_MAIL:
                    found.append((entry, event.records))
        return found

    def _audits(self, entries: Sequence[Staged]) -> list[AuditLeaf]:
        """The leaves that the audit log owns (L14). In a thread."""
        found = []
        for entry in entries:
            if entry.kind != Kind.EVENT or entry.leaf == NO_LEAF:
                continue
            try:
                audit = audit_leaf_of(self._codec.open_event(self._staging.read(entry.position))[1])
            except (BadRecord, RecordBroken):
                continue  # told of when it was to be put
            if audit is not None:
                entry.leaf_hash = audit.leaf_hash()
                found.append(audit)
        return found

    def _as_event(self, entry: Staged, data: bytes, original: bytes | None) -> bytes:
        """What arrived again keeps its envelope and its leaf, and gives up its body."""
        _, meta, _ = self._codec.open_mail(data)
        entry.leaf_hash = meta.leaf_hash()
        what = What.COPY if entry.outcome == Outcome.COPY else What.VOID
        records = (original,) if original else ()
        event = EventMeta(what, meta.received, records, copy=meta)
        return self._codec.close_event(entry.tenant, entry.record, event, year_of(meta.received))

    def _put_pack(self, medium: IMedium, group: Group, records: Sequence[bytes]) -> SealedPack:
        now = self._holdings.seconds()
        name = name_of_records(record[12:28] for record in records)
        key = trailer_key(self._keys, medium, group.tenant, now)
        pack = build_pack(PackHead(medium.number, group, name, now, self._holdings.node), records, self._keys.current(), key)
        if (there := self._put_before(medium, pack)) is not None:
            return there
        medium.put(pack.head.name, pack.data)
        back = medium.get(pack.head.name)
        if back != pack.data or open_pack(back, self._keys.current()).members != pack.members:
            raise MediumError(f"medium {medium.number} did not keep {pack.head.name} as it was written")
        return SealedPack(pack.head, pack.members, b"", pack.sha256, len(pack.data))

    def _put_before(self, medium: IMedium, pack: SealedPack) -> SealedPack | None:
        """The pack of the same records that a seal which failed later has put there: a backup of the index may know it already, so it stays as it is."""
        try:
            there = open_pack(medium.get(pack.head.name), self._keys.current())
        except (MediumMissing, MediumUnread, PackBroken, KeyTrouble):
            return None
        if [member.record for member in there.members] != [member.record for member in pack.members]:
            return None
        return SealedPack(there.head, there.members, b"", there.sha256, there.size)

    def _run(self, entries: Sequence[Staged]) -> bytes | None:
        return self._leaves.run_for({e.leaf: e.leaf_hash for e in entries if e.leaf != NO_LEAF and e.leaf_hash is not None})

    def _log_leaves(self, medium: IMedium, run: bytes) -> None:
        name = self._leaves.name_of(run)
        try:
            there = medium.get(name)
        except MediumMissing:
            medium.put(name, run)
        else:
            if there != run:
                raise ArchiveError(f"medium {medium.number} holds another {name}: is this an older copy of the data directory?")
        self._leaves.append(run)


def trailer_key(keys: KeyStore, medium: IMedium, tenant: int, now: float) -> int:
    """The number of the data key that seals a trailer now; it is on the medium before the pack that needs it. Blocking."""
    wanted = (tenant, year_of(now))
    if keys.current().data_number(*wanted) is None:
        keys.ensure([wanted])
        keys.publish(medium)
    key = keys.current().data_number(*wanted)
    assert key is not None
    return key


def _originals(cursor: Cursor, copies: Sequence[bytes]) -> dict[bytes, bytes]:
    """The records of the mails that these were copies of."""
    found = {}
    for record in copies:
        row = cursor.execute(
            "SELECT m.record FROM arrival a JOIN mail m ON m.place = a.place WHERE a.record = ?", (record,)
        ).fetchone()
        if row:
            found[record] = row[0]
    return found


def _move(cursor: Cursor, number: int, members: Sequence[Member]) -> None:
    for table, kind in (("mail", Kind.MESSAGE), ("part", Kind.PART)):
        moved = [(number, m.offset, m.length, m.record) for m in members if m.kind == kind]
        cursor.executemany(f"UPDATE {table} SET pack = ?, start = ?, length = ? WHERE record = ?", moved)
