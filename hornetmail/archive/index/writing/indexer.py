"""Staged mail into the index: parsed in a thread, written in small batches, findable within a second or two of its arrival."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.archive.index.writing.mails import Prepared, Stored, known_records
from hornetmail.archive.index.writing.poison import store_each, text_of
from hornetmail.archive.media.medium import MediumAway, MediumError
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.parts import PartKey, PartPlace, digest_of, split, store_parts
from hornetmail.archive.store.records import Kind, Outcome, RecordBroken
from hornetmail.archive.store.staged import Staged
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord

BATCH = 256
"""Mails of one transaction, if so many wait: each makes a segment of the full text, which is merged with others later."""

BATCH_BYTES = 4 << 20
GATHER = 0.05
"""Seconds that a first mail waits for company."""

RETRY = 30.0

SOUND = 4096
"""Shared parts that are known to read, before all are looked at anew."""


class Indexer:
    """One loop over what is staged and not yet indexed. ``indexed`` is called after each commit, with its outcomes; ``alarm``
    (in any thread) once, with the first mail that could be indexed by its headers only."""

    log = Logger()

    def __init__(
        self,
        holdings: Holdings,
        database: Database,
        indexed: Callable[[Sequence[Stored]], None],
        alarm: Callable[[str, str], None],
    ) -> None:
        self._holdings = holdings
        self._reactor = holdings.reactor
        self._staging = holdings.staging
        self._shelf = holdings.shelf
        self._database = database
        self._indexed = indexed
        self._alarm = alarm
        self._told = False
        self._running = False
        self._stopped = False
        self._timer: Any = None
        self._waiting: list[Deferred[None]] = []
        self._aside: list[Staged] = []
        self._sound: set[bytes] = set()
        self._away_until = 0.0

    def wake(self) -> None:
        """Something was staged."""
        if not self._running and not self._stopped and self._timer is None:
            self._timer = self._reactor.callLater(GATHER, self._start)

    def retry(self) -> None:
        """A medium is back: what needs a part from it is tried again."""
        aside, self._aside = self._aside, []
        self._staging.unindexed.extend(aside)
        if aside:
            self.wake()

    def _start(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._running and not self._stopped:
            self._running = True
            Deferred.fromCoroutine(self._run())

    async def flush(self) -> None:
        """Returns when all that is staged now is indexed. Raises what stopped it."""
        while self._staging.unindexed and not self._stopped:
            done: Deferred[None] = Deferred()
            self._waiting.append(done)
            self._start()
            await done

    async def stop(self) -> None:
        """Finish the batch under way."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._running:
            done: Deferred[None] = Deferred()
            self._waiting.append(done)
            await done

    async def _run(self) -> None:
        failure: Exception | None = None
        try:
            while self._staging.unindexed and not self._stopped:
                await self.index(self._take())
        except Exception as error:  # noqa: BLE001  mail stays staged and is tried again; searching and staging go on
            self.log.failure("indexing failed, next try in {retry} s", retry=RETRY)
            failure = error
            if not self._stopped:
                self._timer = self._reactor.callLater(RETRY, self._start)
        self._running = False
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if failure is not None and not self._stopped:
                one.errback(failure)
            else:
                one.callback(None)

    def _take(self) -> list[Staged]:
        batch: list[Staged] = []
        size = 0
        for entry in self._staging.unindexed:
            size += entry.size
            if batch and (len(batch) >= BATCH or size > BATCH_BYTES):
                break
            batch.append(entry)
        return batch

    async def index(self, batch: list[Staged]) -> None:
        """One batch from the head of the backlog."""
        mails = [entry for entry in batch if entry.kind == Kind.MESSAGE]
        again = [entry.record for entry in mails if entry.raw is None]
        known = await self._database.read(known_records, again) if again else {}
        parts: list[PartPlace] = await self._holdings.in_thread(self._parts, batch)
        if parts:
            await self._database.run(store_parts, parts)
        fresh = [entry for entry in mails if entry.record not in known]
        away: set[bytes] = set()
        prepared: list[Prepared] = await self._holdings.in_thread(self._prepare, fresh, away) if fresh else []
        stored = await store_each(self._database, prepared, self._poisoned) if prepared else []
        for part in await self._holdings.in_thread(self._unread_parts, fresh):
            await self._staging.renew_part(*part)
        outcomes = known | {one.record: one for one in stored}
        for entry in batch:
            self._staging.unindexed.popleft()
            self._staging.release(entry)
            if entry.record in away:
                self._aside.append(entry)
            elif entry.kind == Kind.MESSAGE:
                one = outcomes.get(entry.record)
                entry.outcome = one.outcome if one else Outcome.BROKEN
                entry.month = one.month if one else 0
        self._indexed(stored)

    def _parts(self, batch: Sequence[Staged]) -> list[PartPlace]:
        """In a thread."""
        places = []
        for entry in batch:
            if entry.kind != Kind.PART:
                continue
            try:
                if entry.part is None:
                    _, meta, _ = self._holdings.codec.open_part(self._staging.read(entry.position))
                    entry.part = PartKey(entry.tenant, meta.month, meta.digest)
            except (RecordBroken, BadRecord) as error:
                self.log.error("staged part {record} cannot be used: {error}", record=entry.record.hex(), error=error)
                entry.outcome = Outcome.BROKEN
                continue
            entry.outcome = Outcome.STORED
            entry.month = entry.part.month
            places.append(PartPlace(entry.record, entry.part, None, entry.position.offset, entry.position.segment))
        return places

    def _prepare(self, entries: Sequence[Staged], away: set[bytes]) -> list[Prepared]:
        """In a thread. A staged record that does not open is left out: verify names it, and it stays where it is. One that needs a part from a
        medium that is away goes into ``away``."""
        prepared = []
        for entry in entries:
            try:
                meta, raw = entry.raw if entry.raw is not None else self._shelf.mail(self._staging.read(entry.position))
            except (RecordBroken, BadRecord) as error:
                self.log.error("staged record {record} cannot be indexed: {error}", record=entry.record.hex(), error=error)
                continue
            except MediumError as error:
                self.log.warn("staged record {record} waits: {error}", record=entry.record.hex(), error=error)
                away.add(entry.record)
                continue
            entry.leaf_hash = meta.leaf_hash()
            text = text_of(entry.record, raw, self._poisoned)
            prepared.append(Prepared(entry.tenant, entry.record, meta, text, None, entry.position.offset, entry.position.segment))
        return prepared

    def _unread_parts(self, entries: Sequence[Staged]) -> list[tuple[int, bytes, PartKey, bytes]]:
        """In a thread. Parts on a medium that new mail shares and that do not read there, with their bytes from that mail: it must not depend on a bad sector, and what it brings mends the
        mail from before. Each part is read once in a while."""
        lost: dict[bytes, tuple[int, bytes, PartKey, bytes]] = {}
        for entry in entries:
            if entry.raw is None:
                continue
            meta, raw = entry.raw
            for piece, stretch in zip(split(raw) if meta.stretches else (), meta.stretches, strict=True):
                record = stretch.part
                if not record or record in self._staging.parts or record in self._sound or record in lost:
                    continue
                try:
                    if self._reactor.seconds() < self._away_until:
                        raise MediumAway("the medium did not answer a moment ago")
                    self._shelf.part(record)
                except (ArchiveError, BadRecord) as error:
                    if isinstance(error, MediumAway) and self._away_until <= self._reactor.seconds():
                        # One that hangs is asked once, and not for each part.
                        self._away_until = self._reactor.seconds() + RETRY
                    self.log.warn("part {record} is archived anew: {error}", record=record.hex(), error=error)
                    digest = digest_of(self._holdings.keys.current().lookup_key(), piece.data)
                    lost[record] = (entry.tenant, record, PartKey(entry.tenant, meta.month, digest), piece.data)
                else:
                    if len(self._sound) >= SOUND:
                        self._sound.clear()
                    self._sound.add(record)
        return list(lost.values())

    def _poisoned(self, record: bytes, why: str) -> None:
        self.log.error("record {record} is in the index by its headers only: {why}", record=record.hex(), why=why)
        if not self._told:
            self._told = True
            self._alarm("archive-unreadable", f"mail is in the archive's index by its headers only, see the log; first: {why}")
