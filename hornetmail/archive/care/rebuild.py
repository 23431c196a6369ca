"""The index from media and key alone (L3): the journal first (what was deleted stays deleted, rule 18), then packs, then later facts.

A damaged pack or record is told and passed over; the rest is rebuilt. The same ``store_batch`` serves new mail, so both end alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.logger import Logger

from hornetmail.archive.care.retention import mark_rebuilt
from hornetmail.archive.index.mails import Prepared
from hornetmail.archive.index.poison import store_each, text_of
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import IMedium, MediumError
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaflog import LeafLog, runs_on
from hornetmail.archive.store.packs import HEADER, Member, PackBroken, SealedPack, open_pack, read_pack_head
from hornetmail.archive.store.parts import PartKey, PartPlace, store_parts
from hornetmail.archive.store.records import EventMeta, Kind, RecordCodec, What
from hornetmail.archive.store.shelf import Located, Shelf, enter_pack, locate_part, pack_row
from hornetmail.archive.store.staging import Staging
from hornetmail.core.archived import ArchiveError, Finding
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database

BATCH = 64


class Rebuild:
    """Fills an empty index."""

    log = Logger()

    def __init__(
        self, reactor: Any, pool: Any, database: Database, keys: KeyStore, codec: RecordCodec, media: Media, staging: Staging
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._database = database
        self._keys = keys
        self._codec = codec
        self._media = media
        self._shelf = Shelf(staging, media, codec, self._locate)
        self._again: list[tuple[int, int, IMedium, str, Member]] = []
        self._found: list[Finding] = []
        self._later: list[tuple[int, int, bytes, IMedium, str, Member]] = []

    async def run(self) -> Sequence[Finding]:
        """What could not be read; the index holds all the rest."""
        journal, packs = await self._in_thread(self._list)
        for medium, name in journal:
            await self._replay_journal(medium, name)
        for medium, name in packs:
            await self._take_pack(medium, name)
        for again in self._again:
            await self._try_again(*again)
        for at in range(0, len(self._later), BATCH):
            await self._take_facts(self._later[at : at + BATCH])
        await self._database.run(_forget_deleted)
        await self._database.run(mark_rebuilt)
        return tuple(self._found)

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        return await deferToThreadPool(self._reactor, self._pool, call, *args)

    def _bad(self, where: str, error: Exception | str) -> None:
        self.log.error("rebuild: {where}: {error}", where=where, error=error)
        self._found.append(Finding(where, str(error)))

    def _poisoned(self, record: bytes, why: str) -> None:
        self._bad(f"record {record.hex()}, in the index by its headers only", why)

    def _list(self) -> tuple[list[tuple[IMedium, str]], list[tuple[IMedium, str]]]:
        """Journals and packs of all media, oldest first."""
        journal: list[tuple[float, IMedium, str]] = []
        packs: list[tuple[float, IMedium, str]] = []
        for number in self._media.unused:
            self._bad(f"medium {number}", "it is out of use: the mail on it is not in the index, and its journal was not read")
        for medium in self._media.all():
            for folder, into in (("journal/", journal), ("packs/", packs)):
                for name, _ in medium.names(folder):
                    try:
                        into.append((read_pack_head(medium.get(name, 0, HEADER.size)).made, medium, name))
                    except (PackBroken, MediumError) as error:
                        self._bad(f"medium {medium.number}: {name}", error)
        return tuple([(m, n) for _, m, n in sorted(into, key=lambda x: (x[0], x[2]))] for into in (journal, packs))  # type: ignore[return-value]

    def _open(self, medium: IMedium, name: str) -> SealedPack | None:
        try:
            return open_pack(medium.get(name), self._keys.current())
        except ArchiveError as error:
            self._bad(f"medium {medium.number}: {name}", error)
            return None

    async def _replay_journal(self, medium: IMedium, name: str) -> None:
        pack = await self._in_thread(self._open, medium, name)
        if pack is None:
            return
        await self._database.run(enter_pack, pack, 0.0)
        for event in await self._in_thread(self._events, pack):
            if event.what == What.DELETED:
                await self._database.run(_remember_deleted, pack.head.group.tenant, event)

    def _events(self, pack: SealedPack) -> list[EventMeta]:
        events = []
        for member in pack.members:
            if member.kind == Kind.EVENT:
                try:
                    events.append(self._codec.open_event(pack.data[member.offset : member.offset + member.length])[1])
                except ArchiveError as error:
                    self._bad(pack.head.name, error)
        return events

    async def _take_pack(self, medium: IMedium, name: str) -> None:
        pack = await self._in_thread(self._open, medium, name)
        if pack is None:
            return
        number = await self._database.run(enter_pack, pack, 0.0)
        mails = [m for m in pack.members if m.kind == Kind.MESSAGE]
        tenant = pack.head.group.tenant
        self._later += [(number, tenant, m.record, medium, name, m) for m in pack.members if m.kind == Kind.EVENT]
        await self._database.run(store_parts, await self._in_thread(self._parts, pack, number))
        for at in range(0, len(mails), BATCH):
            prepared = await self._in_thread(self._prepare, medium, pack, number, mails[at : at + BATCH])
            await store_each(self._database, prepared, self._poisoned)

    def _prepare(self, medium: IMedium, pack: SealedPack, number: int, members: Sequence[Member]) -> list[Prepared]:
        prepared = []
        for member in members:
            try:
                meta, raw = self._shelf.mail(pack.data[member.offset : member.offset + member.length])
            except ArchiveError:
                self._again.append((number, pack.head.group.tenant, medium, pack.head.name, member))
                continue
            text = text_of(member.record, raw, self._poisoned)
            prepared.append(Prepared(pack.head.group.tenant, member.record, meta, text, number, member.offset, member.length))
        return prepared

    def _locate(self, record: bytes) -> Located | None:
        def ask() -> Deferred[Located | None]:
            return Deferred.fromCoroutine(self._database.read(locate_part, record))

        found: Located | None = blockingCallFromThread(self._reactor, ask)  # type: ignore[arg-type]
        return found

    def _parts(self, pack: SealedPack, number: int) -> list[PartPlace]:
        """In a thread."""
        places = []
        for member in pack.members:
            if member.kind == Kind.PART:
                try:
                    _, meta, _ = self._codec.open_part(pack.data[member.offset : member.offset + member.length])
                except ArchiveError as error:
                    self._bad(f"{pack.head.name}: record {member.record.hex()}", error)
                    continue
                key = PartKey(pack.head.group.tenant, meta.month, meta.digest)
                places.append(PartPlace(member.record, key, number, member.offset, member.length))
        return places

    async def _try_again(self, number: int, tenant: int, medium: IMedium, name: str, member: Member) -> None:
        """A mail that did not open at first: its parts may lie in a pack that came later."""

        def open_it() -> Prepared | None:
            try:
                meta, raw = self._shelf.mail(medium.get(name, member.offset, member.length))
            except ArchiveError as error:
                self._bad(f"{name}: record {member.record.hex()}", error)
                return None
            text = text_of(member.record, raw, self._poisoned)
            return Prepared(tenant, member.record, meta, text, number, member.offset, member.length)

        prepared = await self._in_thread(open_it)
        if prepared is not None:
            await store_each(self._database, [prepared], self._poisoned)

    async def _take_facts(self, later: Sequence[tuple[int, int, bytes, IMedium, str, Member]]) -> None:
        """Further arrivals of mail that is in the index now: its text is read again, because its full text is written anew."""
        prepared = []
        for number, tenant, record, medium, name, member in later:
            event = await self._in_thread(self._fact, medium, name, member)
            if event is None or event.copy is None:
                continue
            found = await self._database.read(_twin, tenant, event.copy.sha256)
            if found is None:
                continue
            pack, start, length = found
            _, raw = await self._in_thread(lambda p=pack, s=start, n=length: self._shelf.mail(self._shelf.record(p, s, n)))
            text = await self._in_thread(text_of, record, raw, self._poisoned)
            prepared.append(Prepared(tenant, record, event.copy, text, number, member.offset, member.length, event=True))
        await store_each(self._database, prepared, self._poisoned)

    def _fact(self, medium: IMedium, name: str, member: Member) -> EventMeta | None:
        try:
            return self._codec.open_event(medium.get(name, member.offset, member.length))[1]
        except ArchiveError as error:
            self._bad(f"{name}: record {member.record.hex()}", error)
            return None


def restore_leaves(leaves: LeafLog, media: Media, node: int) -> None:
    """The local leaf log from the runs on the media, where it lacks them. Blocking. Raises ArchiveError: damaged, or a gap."""
    problems: list[str] = []
    runs: dict[int, list[bytes]] = {}
    for medium in media.all():
        for first, hashes in runs_on(medium, node, lambda name, what: problems.append(f"{name}: {what}"), leaves.size):
            runs[first] = hashes
    for first in sorted(runs):
        if first > leaves.size:
            problems.append(f"leaves {leaves.size} to {first - 1} are missing")
        if first >= leaves.size:
            run = leaves.run_for(dict(enumerate(runs[first], first)))
            if run is not None:
                leaves.append(run)
    if problems:
        raise ArchiveError(f"the leaf log on the media is damaged: {problems[0]}")


def _remember_deleted(cursor: Cursor, tenant: int, event: EventMeta) -> None:
    cursor.executemany(
        "INSERT INTO deleted (record, tenant, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(record, tenant, event.at) for record in event.records],
    )


def _forget_deleted(cursor: Cursor) -> None:
    cursor.execute("DELETE FROM deleted")


def _twin(cursor: Cursor, tenant: int, sha256: bytes) -> tuple[Any, int, int] | None:
    row = cursor.execute("SELECT pack, start, length FROM mail WHERE tenant = ? AND sha256 = ?", (tenant, sha256)).fetchone()
    return (pack_row(cursor, row[0]), row[1], row[2]) if row else None
