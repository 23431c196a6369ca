"""The archive as everybody else sees it (``IArchive``): staging, searching, reading, figures, and the jobs behind them."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.archive.care.packs.accounts import Accounts
from hornetmail.archive.care.packs.merging import Merged, Merger, MergeSettings
from hornetmail.archive.care.packs.rebuild import Rebuild, restore_leaves
from hornetmail.archive.care.packs.runs import merge_runs
from hornetmail.archive.care.packs.sealing import Sealer
from hornetmail.archive.care.packs.verify import Verification
from hornetmail.archive.care.terms.keeping import Keeping, Parts
from hornetmail.archive.care.terms.retention import Retention, RetentionSettings, count_marked
from hornetmail.archive.care.trust.evidence import Evidence
from hornetmail.archive.care.trust.stamping import Inside, Outside, Stamping, verify_stamps
from hornetmail.archive.care.watch import MediaWatch
from hornetmail.archive.index import search
from hornetmail.archive.index.files import IndexFiles
from hornetmail.archive.index.indexer import Indexer
from hornetmail.archive.index.mails import Stored, known_rows
from hornetmail.archive.index.query import parse_query
from hornetmail.archive.index.schema import MIGRATIONS, people_decoder
from hornetmail.archive.index.search import MailRow
from hornetmail.archive.keys.keyring import KeyTrouble
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import MediumError, MediumMissing
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.proof.stamplog import StampLog
from hornetmail.archive.store.parts import find_part
from hornetmail.archive.store.records import Outcome, RecordCodec
from hornetmail.archive.store.shelf import PackRow, Shelf, locate_part, pack_row, pack_rows
from hornetmail.archive.store.staging import Staging
from hornetmail.core.archive.archived import (
    ArchivedMail,
    ArchiveError,
    ArchiveFigures,
    ArchiveItem,
    Finding,
    Page,
    Refused,
)
from hornetmail.core.events import Alarm, AlarmEnded, ArchiveGrew, StoreBroken
from hornetmail.core.ids import IdSource
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor, DatabaseBroken
from hornetmail.db.pool import Database, OpenDatabase, Watch
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.records import LogBroken, RecordLog
from hornetmail.disk.threads import lock, thread_pool, wait_for
from hornetmail.interfaces.archive import IArchive
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.meters import IMeters
from hornetmail.mime.text import read_mail

T = TypeVar("T")
A = TypeVar("A")

FIRST_WAIT = 30.0
LONGEST_WAIT = 900.0
"""Seconds between two tries to seal while the medium does not take it: the first, and the most."""


class ArchiveSettings(msgspec.Struct, frozen=True, gc=False):
    """Sizes and times. ``seal_bytes``, ``seal_seconds``: a staging segment goes to the medium at that size or age. ``node``: 0 to 1023.
    ``glance_seconds``: between looks at an index that nobody uses, 0: none.
    ``retention``: what may go at once (rule 19). ``merging``: how large packs become. ``backup_days``: as long a backup is kept, which holds what was deleted since."""

    seal_bytes: int = 32 << 20
    seal_seconds: float = 900.0
    tick_seconds: float = 15.0
    node: int = 0
    glance_seconds: float = 0.0
    retention: RetentionSettings = RetentionSettings()
    merging: MergeSettings = MergeSettings()
    backup_days: float = 0.0


@implementer(IArchive)
class Archive:
    """One archive in one directory, with its media. ``root`` None: locked; mail is taken and sealed, not searchable (rule 22)."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        disk: Disk,
        directory: Path,
        *,
        media: Media,
        root: bytes | None,
        ids: IdSource,
        bus: IBus | None = None,
        meters: IMeters | None = None,
        settings: ArchiveSettings = ArchiveSettings(),
        uptime: Callable[[], float] = monotonic,
        stamping: Outside | None = None,
        audit: IAudit | None = None,
        open_database: OpenDatabase = Database.open,
    ) -> None:
        self._reactor = reactor
        self._disk = disk
        self._directory = directory
        self._media = media
        self._root = root
        self._bus = bus
        self._meters = meters
        self._settings = settings
        self._uptime = uptime
        self._open_database = open_database
        self._pool = thread_pool(reactor, 1, 3, "archive")
        # Its own, so that a medium which hangs holds up no mail on its way in.
        self._staging_pool = thread_pool(reactor, 0, 1, "staging")
        self._files = IndexFiles(directory, disk)
        self._watch = MediaWatch(media, self._alarm, self._alarm_past, reactor.seconds)
        self._keys = KeyStore(directory, disk, settings.node, lambda: lock(reactor))
        self._codec = RecordCodec(self._keys.current)
        writer = f"n{settings.node}"
        self._log_records = RecordLog(directory / "staging", disk, writer=writer, seal=None, segment_bytes=settings.seal_bytes)
        self._leaf_records, self._leaves = self._new_leaves()
        self._staging = Staging(
            reactor,
            self._staging_pool,
            self._log_records,
            self._codec,
            self._keys,
            ids,
            node=settings.node,
            known=self._known_rows,
            find_part=lambda key: self._ask(find_part, key),
            arrived=self._arrived,
            alarm=self._alarm,
        )
        self._shelf = Shelf(self._staging, self._media, self._codec, lambda record: self._ask(locate_part, record))
        inside = Inside(
            reactor, self._pool, StampLog(directory / "stamps", disk, settings.node), self._media, self._staging,
            lambda: self._leaves, self.index, lambda: self.flush(seal=True), self._quiet, self._alarm_here, self._alarm_over,
        )  # fmt: skip
        self._stamping = Stamping(inside, stamping, settings.node)
        self._database: Database | None = None
        self._broken = ""
        self._waits = ""
        self.moving = DeferredLock()
        self._audit = audit
        self.keeping = Keeping(
            Parts(
                self.index,
                self._staging,
                self._codec,
                self.moving,
                self.flush,
                lambda now: self._retention().tell_journal(now),
                reactor.seconds,
                self._recount,
                settings.backup_days,
                audit,
            )
        )
        self._indexer: Indexer | None = None
        self._sealer: Sealer | None = None
        self._ticker: Any = None
        self._sealing: Deferred[None] | None = None
        self._round: Deferred[None] = succeed(None)
        self._seal_after = 0.0
        self._failures = 0
        self._mails = 0
        self._raw = 0
        self._running = False
        self._began = (reactor.seconds(), uptime())

    @property
    def keys(self) -> KeyStore:
        """Its keyring."""
        return self._keys

    @property
    def media(self) -> Media:
        """Where its packs lie."""
        return self._media

    @property
    def stamps(self) -> Stamping:
        """Its time stamps."""
        return self._stamping

    async def _quiet(self, look: Callable[[], Awaitable[T]]) -> T:
        if self._sealer is None:
            raise ArchiveError(self._why_no_index())
        return await self._sealer.between(look)

    @property
    def shelf(self) -> Shelf:
        """Its records, wherever they lie."""
        return self._shelf

    @property
    def watch(self) -> MediaWatch:
        """How its media are."""
        return self._watch

    @property
    def trouble(self) -> str:
        """Why it does not do all that it should, for people; ``""`` if it does."""
        found = [
            self._waits and f"it is not open yet: {self._waits}",
            self._broken and f"its index cannot be used: {self._broken}",
        ]
        return "; ".join(text for text in (*found, *self._watch.away().values()) if text)

    # -- life -----------------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """A new archive: its keyring, and the active medium claimed. Blocking. Raises KeyTrouble (there is one), MediumError."""
        if self._root is None:
            raise KeyTrouble("a new archive needs its key")
        keyring = self._keys.create(self._root)
        self._media.expect(keyring.archive)
        self._media.active.claim(keyring.archive)
        self._keys.publish(self._media.active)
        self._leaves.begin()

    async def start(self) -> None:
        """Replay, open the index, go on with what is staged. What lies on media that are out of reach waits until they are back; where the archive
        cannot begin without them, it takes no mail until then, and the queue keeps it. Raises KeyTrouble, ArchiveError."""
        self._pool.start()
        self._staging_pool.start()
        try:
            await self._come_up()
        except MediumError as error:
            self._wait(error)
        except BaseException:
            await self.stop()
            raise
        self._ticker = self._reactor.callLater(self._settings.tick_seconds, self._tick)

    def _wait(self, error: MediumError) -> None:
        if not self._waits:
            self._alarm("archive-waits", f"the archive takes no mail yet, and the queue keeps it: {error}")
        self._waits = str(error)

    async def _come_up(self) -> None:
        await self._in_thread(self._open_files)
        if self._waits:
            self._alarm_over("archive-waits", "the archive takes mail")
        self._waits = ""
        self._running = True
        if not self._keys.current().locked:
            await self._try_index()

    def _open_files(self) -> None:
        self._disk.make_directory(self._directory)
        if not self._keys.exists:
            if self._root is None:
                raise MediumError("the keyring is missing, and can be taken from a medium only once the archive is unlocked")
            self._keys.restore(self._media.all(), self._root)
            self._alarm("archive-keyring", "the archive's keyring was gone, and was taken from a medium")
        keyring = self._keys.open(self._root)
        self._media.expect(keyring.archive)
        self._keys.known(self._media.numbers)
        self._watch.look()
        for problem in self._unite():
            self._alarm("archive-keyring", problem)
        self._open_leaves()
        self._stamping.open()
        self._staging.replay(self._leaves.size)
        if damaged := self._staging.damaged:
            first = next(iter(damaged.values()))[0]
            self._alarm("archive-staging-damaged", f"damage in {len(damaged)} segments of the staging log; first: {first}")

    def _unite(self) -> list[str]:
        near = [medium for medium in self._media.all() if medium.number not in self._watch.away()]
        return [f"the wrapped keys of a medium cannot be taken: {problem}" for problem in self._keys.unite(near)]

    def _open_leaves(self) -> None:
        """The leaf log; what it lacks is taken from the media, so that no leaf number is ever given twice (rule 17). Raises MediumError: it was lost,
        and not all media are in reach that may know more."""
        self._leaf_records.close()
        self._leaf_records, self._leaves = self._new_leaves()
        try:
            self._leaves.replay()
        except (ArchiveError, ValueError) as error:
            self._alarm("archive-leaves", f"the leaf log was damaged, and is restored from the media: {error}")
            self._leaf_records.close()
            place = self._directory / "leaves"
            self._leaves.forget()
            if place.exists():
                self._disk.rename(place, place.with_name(f"leaves-damaged-{int(self._reactor.seconds() * 1000)}"))
            self._leaf_records, self._leaves = self._new_leaves()
            self._leaves.replay()
        if not self._leaves.known:
            restore_leaves(self._leaves, self._media, self._settings.node)
            return
        away = self._watch.away()
        near = [medium for medium in self._media.all() if medium.number not in away]
        while any(self._leaves.catch_up(medium) for medium in near):
            pass

    def _new_leaves(self) -> tuple[RecordLog, LeafLog]:
        records = RecordLog(self._directory / "leaves", self._disk, writer=f"n{self._settings.node}", seal=None)
        return records, LeafLog(records, self._settings.node, self._disk, lambda: lock(self._reactor))

    async def _try_index(self) -> None:
        """Mail is taken without the index too: it can be rebuilt, and must not hold up the queue."""
        try:
            if await self._in_thread(self._index_is_lost):
                raise ArchiveError(f"{self._files.database.name} is gone, but there are packs on the media")
            await self._open_index()
            self._alarm_over("archive-index", "the index is there")
        except Exception as error:  # noqa: BLE001  whatever is wrong with the index, the packs hold all of it
            self.log.error("the archive's index cannot be used: {error}", error=error)
            self._broken = str(error)
            self._alarm("archive-index", f"the archive's index cannot be used ({error}): run archive rebuild")

    def _index_is_lost(self) -> bool:
        """There is none, though mail was sealed already. Only an archive that sealed nothing yet asks its media."""
        self._files.settle()
        if self._files.database.exists():
            return False
        away = self._watch.away()
        return bool(self._leaves.size) or any(m.names("packs/", limit=1) for m in self._media.all() if m.number not in away)

    async def _open_index(self) -> None:
        self._broken = ""
        url = f"sqlite://{self._files.database}"
        key = self._keys.current().database_key()
        watch = Watch(self._index_broke, self._settings.glance_seconds)
        self._database = await self._open_database(self._reactor, url, MIGRATIONS, key=key, readers=2, watch=watch)
        self._mails, self._raw = await self._database.read(_totals)
        self._indexer = Indexer(
            self._reactor, self._pool, self._staging, self._shelf, self._codec, self._database, self._indexed, self._alarm
        )  # fmt: skip
        self._sealer = Sealer(
            self._reactor,
            self._pool,
            self._staging,
            self._media,
            self._codec,
            self._keys,
            self._leaves,
            self._database,
            self._settings.node,
        )
        self._indexer.wake()
        await self.keeping.catch_up()
        await self._retention().tell_journal(self._reactor.seconds())

    async def unlock(self, root: bytes) -> None:
        """The key is there now: what was taken meanwhile is indexed. Raises KeyTrouble: another key, or the keyring is still missing."""
        if self._database is not None:
            return
        if self._keys.is_open:
            await self._in_thread(self._keys.open, root)
            self._root = root
            if self._running:
                for problem in await self._in_thread(self._unite):
                    self._alarm_here("archive-keyring", problem)
                await self._try_index()
            return
        # It waits for its keyring, which only the key can take from a medium.
        await self._round
        self._root = root
        self._round = Deferred.fromCoroutine(self._look_round())
        await self._round
        if not self._keys.is_open:
            self._root = None
            raise KeyTrouble(self._waits or "the keyring is missing, and no medium has one that this key opens")

    async def stop(self) -> None:
        """Finish what is being written. What is staged and not indexed waits for the next start."""
        self._running = False
        if self._ticker is not None and self._ticker.active():
            self._ticker.cancel()
        await self._stamping.stop()
        await self._round
        if self._sealing is not None:
            await self._sealing
        await self.keeping.stop()
        if self._indexer is not None:
            await self._indexer.stop()
        await self._close_index()
        if self._pool.started:
            await self._staging.alone(self._log_records.close)
            await self._in_thread(self._leaf_records.close)
            await self._stop_pools()

    async def _stop_pools(self) -> None:
        stopped: Deferred[None] = Deferred()

        def stop() -> None:
            self._staging_pool.stop()
            self._pool.stop()
            self._reactor.callFromThread(stopped.callback, None)

        self._reactor.callInThread(stop)
        await stopped

    async def _close_index(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    # -- in -------------------------------------------------------------------------------------------------------------------

    async def stage(self, item: ArchiveItem, body: IBody) -> None:
        if not self._running:
            raise ArchiveError(self._why_no_index())
        raw = await body.read()
        try:
            await self._staging.stage(item, raw)
        except LogBroken as error:
            raise ArchiveError(f"the staging log is broken; the service must be restarted: {error}") from error
        self._count("archive_staged", 1)

    def _ask(self, fn: Callable[[Cursor, A], T | None], what: A) -> T | None:
        """From a thread of ours: a question to the index; None if there is no index."""
        database = self._database
        if database is None:
            return None

        def ask() -> Deferred[T | None]:
            return Deferred.fromCoroutine(database.read(fn, what))

        return wait_for(self._reactor, ask)

    async def _known_rows(self, rows: Sequence[int]) -> set[int]:
        if self._database is None:
            return set()
        return await self._database.read(known_rows, rows)

    def _arrived(self) -> None:
        if self._indexer is not None:
            self._indexer.wake()
        if self._staging.bytes >= self._settings.seal_bytes:
            self._seal_soon()

    def _indexed(self, stored: Sequence[Stored]) -> None:
        new = [one for one in stored if one.outcome == Outcome.STORED]
        self._mails += len(new)
        self._raw += sum(one.size for one in new)
        self._count("archive_indexed", len(stored))
        if stored and self._bus is not None:
            self._bus.publish(ArchiveGrew(len(new)))

    def _tick(self) -> None:
        self._ticker = self._reactor.callLater(self._settings.tick_seconds, self._tick)
        if self._round.called:
            # A medium that answers slowly keeps the round from the next tick, and nothing else.
            self._round = Deferred.fromCoroutine(self._look_round())
        self._seal_if_old()

    def _seal_if_old(self) -> None:
        oldest = self._staging.oldest()
        if oldest and self._reactor.seconds() - oldest >= self._settings.seal_seconds:
            self._seal_soon()

    async def _look_round(self) -> None:
        """What media are back, what waited for them, and the wrapped keys that lie on each (rule 22); the sealer sees to the active one before it
        needs them there."""
        try:
            back = await self._in_thread(self._watch.look)
            if self._waits:
                await self._come_up()
            for number in back:
                self.log.info("medium {number} is back", number=number)
            if self._media.active.number in back:
                self._seal_after = 0.0
                self._seal_if_old()
            if back and self._indexer is not None:
                self._indexer.retry()
            for problem in await self._in_thread(self._keys.publish_all, self._media.all()):
                self.log.error("the keyring: {problem}", problem=problem)
        except MediumError as error:
            self._wait(error)
        except Exception:  # noqa: BLE001  the next round tries again
            self.log.failure("looking after the media failed")

    def _seal_soon(self) -> None:
        due = self._uptime() >= self._seal_after
        if due and self._sealing is None and self._sealer is not None and self._running:
            self._sealing = Deferred.fromCoroutine(self._seal_quietly())

    async def _seal_quietly(self) -> None:
        try:
            await self.flush(seal=True)
            self._alarm_over("archive-backlog", "the medium takes mail again")
        except Exception as error:  # noqa: BLE001  the backlog stays staged; a later tick tries again
            self._seal_after = self._uptime() + min(LONGEST_WAIT, FIRST_WAIT * 2**self._failures)
            self._failures = min(self._failures + 1, 10)
            self.log.error("sealing failed, the backlog stays staged: {error!r}", error=error)
            if self._failures == 1:
                waiting, number = self._staging.count, self._media.active.number
                self._alarm("archive-backlog", f"{waiting} mails wait for medium {number}: {error}")
        finally:
            self._sealing = None

    async def flush(self, seal: bool = False) -> None:
        if self._indexer is None or self._sealer is None:
            raise ArchiveError(self._why_no_index())
        await self._indexer.flush()
        if seal:
            packs = await self._sealer.seal()
            self._failures, self._seal_after = 0, 0.0
            self._count("archive_packs", packs)

    # -- out ------------------------------------------------------------------------------------------------------------------

    def index(self) -> Database:
        """``archive.db``. Raises ArchiveError: it cannot be used, and why."""
        if self._database is None:
            raise ArchiveError(self._why_no_index())
        return self._database

    def _why_no_index(self) -> str:
        if self._waits:
            return f"the archive is not open yet: {self._waits}"
        if not self._running:
            return "the archive is not running"
        return f"the index cannot be used ({self._broken}): run archive rebuild" if self._broken else "the archive key is locked"

    async def search(self, scope: Scope, query: str, *, limit: int = 50, after: str = "") -> Page:
        understood = parse_query(query)
        return await self.index().read(search.search_page, scope, understood, limit, after)

    async def mail(self, scope: Scope, identifier: int) -> ArchivedMail:
        row, pack = await self.index().read(_locate, scope, identifier)
        people = people_decoder.decode(row.people)
        text = away = ""
        if scope.content:
            try:
                raw = await self._fetch(scope, identifier)
                text = (await self._in_thread(lambda: read_mail(raw, lines=True))).text
            except MediumError as error:
                away = str(error)
        return ArchivedMail(
            hit=search.hit_of(row, scope),
            tenant=row.tenant,
            feed=row.feed,
            login=row.login if search.sees_all_recipients(scope, people) else "",
            message_id=row.message_id,
            sha256=row.sha256,
            medium=pack.medium if pack else self._media.active.number,
            expires=row.expires,
            recipients=search.visible_envelope(scope, people),
            header_recipients=people.shown(),
            text=text,
            away=away,
        )

    async def read(self, scope: Scope, identifier: int) -> bytes:
        if not scope.content:
            await self.index().read(_locate, scope, identifier)
            raise Refused("reading archived mail needs the right to its content")
        return await self._fetch(scope, identifier)

    async def evidence(self, scope: Scope, identifier: int) -> bytes:
        stamps = self._stamping.stamps
        evidence = Evidence(self._reactor, self._pool, self.index(), self._shelf, self._leaves, stamps, self._settings.node)
        return await evidence.bundle(scope, identifier)

    async def _fetch(self, scope: Scope, identifier: int) -> bytes:
        """A mail's bytes; once more if it moved to a pack, or to another one, between looking and reading."""
        for attempt in (1, 2, 3):
            row, pack = await self.index().read(_locate, scope, identifier)
            try:
                return await self._in_thread(self._open, row, pack)
            except KeyError:
                if attempt == 3:
                    raise ArchiveError(f"mail {identifier} is neither staged nor in a pack") from None
            except MediumMissing:
                # Its pack may just have been merged into another one.
                if attempt == 3:
                    raise
        raise AssertionError

    def _open(self, row: MailRow, pack: PackRow | None) -> bytes:
        return self._shelf.mail(self._shelf.record(pack, row.start, row.length))[1]

    async def figures(self) -> ArchiveFigures:
        if self._database is None:
            return ArchiveFigures(staged=self._staging.count, unindexed=len(self._staging.unindexed), locked=True)
        packs, stored = await self._database.read(_pack_totals)
        marked = await self._database.read(count_marked)
        return ArchiveFigures(
            mails=self._mails,
            packs=packs,
            bytes_raw=self._raw,
            bytes_stored=stored + self._staging.bytes,
            staged=self._staging.count,
            unindexed=len(self._staging.unindexed),
            marked=marked,
        )

    # -- care -----------------------------------------------------------------------------------------------------------------

    async def verify(self, full: bool = False) -> Sequence[Finding]:
        database, sealer = self.index(), self._sealer
        if sealer is None:
            raise ArchiveError(self._why_no_index())
        verification = Verification(
            self._reactor, self._pool, database, self._keys, self._codec, self._media, self._shelf, self._leaves, self._staging,
            sealer, self._directory, self._settings.node,
        )  # fmt: skip
        found = await verification.run(full)
        stamped = await self._in_thread(verify_stamps, self._stamping.stamps, self._leaves, self._media, full)
        return (*found, *stamped, *await self._stamping.check_audit())

    async def mark(self, now: float) -> int:
        """See IArchive. Rules that were changed are applied first, and holds with a query take what came since."""
        self.index()
        await self.keeping.walk()
        await self.keeping.renew_holds()
        return await self._retention().mark(now)

    async def purge(self, now: float) -> int:
        await self.moving.acquire()
        try:
            gone = await self._retention().purge(now)
        finally:
            self.moving.release()
        await self._recount()
        if gone:
            try:
                await self.flush(seal=True)
            except MediumError as error:
                # What went is in the staged journal, and reaches the medium with the next packs.
                self.log.warn("the journal of what was purged waits for its medium: {error}", error=error)
        return gone

    async def _recount(self) -> None:
        self._mails, self._raw = await self.index().read(_totals)

    async def merge(self, now: float) -> Merged:
        """Packs put together, and written anew without what went. What cannot be done now is an alarm, and tried again in the next night."""
        sealer, indexer = self._sealer, self._indexer
        database = self.index()
        if sealer is None or indexer is None:
            raise ArchiveError(self._why_no_index())

        async def settle() -> None:
            await self._staging.alone(lambda: None)
            await indexer.flush()

        merger = Merger(
            self._reactor, self._pool, database, self._media, sealer, self._codec, self._keys, self._disk, self._directory,
            settle, self.moving, self._settings.merging,
        )  # fmt: skip
        merged = await sealer.between(partial(self._merge_runs, await merger.run(now)))
        if not merged.damaged and not merged.away:
            self._alarm_over("archive-merging", "packs are merged")
        for problem in merged.damaged:
            self._alarm_here("archive-merging", f"a damaged pack is not merged: {problem}")
        for problem in merged.away:
            self._alarm_here(
                "archive-merging", f"packs are not merged, and what was deleted from them stays there until it is back: {problem}"
            )
        return merged

    async def _merge_runs(self, merged: Merged) -> Merged:
        """The leaf runs too, on every medium in reach."""
        damaged, away = [*merged.damaged], [*merged.away]
        for medium in self._media.all():
            try:
                _, bad = await self._in_thread(merge_runs, medium, self._settings.node, self._leaves.size)
                damaged += bad
            except (MediumError, DiskFull) as error:
                away.append(str(error))
        return msgspec.structs.replace(merged, damaged=tuple(damaged), away=tuple(dict.fromkeys(away)))

    async def confirm_purge(self) -> None:
        """The clock that runs now is the one to go by."""
        await self._retention().confirm(self._reactor.seconds())
        self._began = (self._reactor.seconds(), self._uptime())

    def _retention(self) -> Retention:
        drift = self._reactor.seconds() - self._began[0] - (self._uptime() - self._began[1])
        return Retention(
            self._reactor,
            self._pool,
            self.index(),
            self._staging,
            self._media,
            drift,
            self._alarm_here,
            self._settings.retention,
            self._stamping.clocks(),
            self._audit,
        )

    async def rebuild(self) -> Sequence[Finding]:
        """The index anew from media and key alone, then what is staged (L3). Searches go on in the old one until it is done. What could
        not be read is told. Purging is off afterwards until confirmed (rule 18)."""
        if self._keys.current().locked:
            raise ArchiveError("the archive key is locked")
        if self._sealing is not None:
            await self._sealing
        if self._indexer is not None:
            await self._indexer.stop()
        self._indexer = self._sealer = None
        before = await self._packs_before()
        fresh = await self._in_thread(self._files.begin)
        database = await self._open_database(
            self._reactor, f"sqlite://{fresh}", MIGRATIONS, key=self._keys.current().database_key(), synchronous="NORMAL"
        )
        try:
            rebuild = Rebuild(self._reactor, self._pool, database, self._keys, self._codec, self._media, self._staging, before)
            found = await rebuild.run()
        finally:
            # A call that failed leaves its cursor in a cycle with its traceback, and SQLite writes its WAL out only when no cursor is left.
            await self._in_thread(gc.collect)
            await database.close()
        await self._close_index()
        try:
            await self._in_thread(self._files.take)
        except ArchiveError:
            await self._open_index()
            raise
        self._staging.index_again()
        await self._open_index()
        await self.flush()
        ownerless = await self._index_accounts()
        stamps = await self._in_thread(self._stamping.restore)
        stamps = (*stamps, *await self._in_thread(verify_stamps, self._stamping.stamps, self._leaves, self._media, False))
        return (*found, *ownerless, *stamps)

    async def _packs_before(self) -> Sequence[PackRow]:
        """The packs that the old index knows, if it can still be asked."""
        if self._database is None:
            return ()
        try:
            return await self._database.read(pack_rows)
        except Exception as error:  # noqa: BLE001  it may be why there is a rebuild
            self.log.error("the old index cannot be asked for its packs: {error}", error=error)
            return ()

    async def _index_accounts(self) -> Sequence[Finding]:
        """Whether every leaf has an owner after a rebuild."""
        accounts = Accounts(self._reactor, self._pool, self.index(), self._leaves, self._staging, self._settings.node)
        return await accounts.check()

    def restore(self) -> None:
        """Take keyring and leaf log from the media into an empty directory; ``start`` and ``rebuild`` come next. Blocking. Raises
        KeyTrouble (another key), MediumError, ArchiveError."""
        if self._root is None:
            raise KeyTrouble("restoring needs the key")
        if not self._keys.exists:
            self._keys.restore(self._media.all(), self._root)
        self._leaves.replay()
        try:
            restore_leaves(self._leaves, self._media, self._settings.node)
            self._stamping.restore()
        finally:
            self._leaf_records.close()

    # -- small ----------------------------------------------------------------------------------------------------------------

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        result: T = await deferToThreadPool(self._reactor, self._pool, call, *args)
        return result

    def _count(self, name: str, amount: float) -> None:
        if self._meters is not None:
            self._meters.count(name, amount)

    def _alarm_here(self, code: str, text: str) -> None:
        if self._bus is not None:
            self._bus.publish(Alarm(code, text))

    def _alarm(self, code: str, text: str, subject: str = "") -> None:
        if self._bus is not None:
            self._reactor.callFromThread(self._bus.publish, Alarm(code, text, subject=subject))

    def _alarm_past(self, code: str, why: str, subject: str) -> None:
        """Its end, told from any thread."""
        if self._bus is not None:
            self._reactor.callFromThread(self._bus.publish, AlarmEnded(code, subject, why))

    def _alarm_over(self, code: str, why: str) -> None:
        if self._bus is not None:
            self._bus.publish(AlarmEnded(code, why=why))

    def _index_broke(self, file: str, error: DatabaseBroken) -> None:
        if self._bus is not None:
            self._bus.publish(StoreBroken("archive", file, str(error), error.corrupt))


def _totals(cursor: Cursor) -> tuple[int, int]:
    mails, raw = cursor.execute("SELECT count(*), coalesce(sum(size), 0) FROM mail").fetchone()
    return mails, raw


def _pack_totals(cursor: Cursor) -> tuple[int, int]:
    packs, size = cursor.execute("SELECT count(*), coalesce(sum(size), 0) FROM pack").fetchone()
    return packs, size


def _locate(cursor: Cursor, scope: Scope, identifier: int) -> tuple[MailRow, PackRow | None]:
    row = search.find_mail(cursor, scope, identifier)
    return row, pack_row(cursor, row.pack) if row.pack is not None else None
