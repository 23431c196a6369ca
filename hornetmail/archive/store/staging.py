"""The staging pack (rule 20): records go into a local log, one fdatasync for all that wait, and the queue is done with them.

A log record is the queue row, the leaf number and the mail ID (8 bytes each, open, so that staging is idempotent and leaves are
numbered even while the key is locked), then the archive record. From here they are indexed, and sealed into packs segment by segment.
"""

from __future__ import annotations

import errno
import hashlib
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.store.packs import month_of
from hornetmail.archive.store.parts import MIN_PART, PartKey, digest_of, split
from hornetmail.archive.store.records import (
    EventMeta,
    Kind,
    MailMeta,
    PartMeta,
    RecordBroken,
    RecordCodec,
    Segment,
    Stretch,
    new_record_id,
    new_salt,
    read_header,
)
from hornetmail.archive.store.staged import Pending, Staged
from hornetmail.core.archive.archived import ArchiveItem
from hornetmail.core.ids import IdSource, milliseconds_of
from hornetmail.disk.records import BadRecord, Position, RecordLog, Replayed

T = TypeVar("T")

PREFIX = struct.Struct(">QQQ")
NO_LEAF = (1 << 64) - 1
BATCH = 64
BATCH_BYTES = 8 << 20
_UNREADABLE = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA})
"""What a disk says of a bad sector; anything else may be better in a moment."""

BAD_SECONDS = 600.0
"""So long a sector has to be refused before its mail is given up: a cable, a controller or a volume that comes back says the same meanwhile."""

KEPT_BYTES = 32 << 20
"""Bodies kept in memory until they are indexed; what is beyond is read back from the log."""


def year_of(seconds: float) -> int:
    """The year (UTC) whose data key a mail gets."""
    return time.gmtime(min(max(seconds, 0.0), 253402300799.0)).tm_year


def clean_text(text: str) -> str:
    """Text that any encoder takes: bytes that were no UTF-8 become replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class StagingEnds(msgspec.Struct, frozen=True):
    """What staging asks of others, and tells them. ``known``: which of these queue rows the index has. ``find_part``: the record of a part that the index has, asked from a
    thread. ``arrived``: something was staged. ``alarm``: code and text, from any thread."""

    known: Callable[[Sequence[int]], Awaitable[set[int]]]
    find_part: Callable[[PartKey], bytes | None]
    arrived: Callable[[], None]
    alarm: Callable[[str, str], None]


class Staging:
    """The staging area.
    ``damaged``: what of which segment cannot be read; such a segment is kept aside once the rest of it is on a medium, and ``alarm`` told."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        pool: Any,
        records: RecordLog,
        codec: RecordCodec,
        keys: KeyStore,
        ids: IdSource,
        ends: StagingEnds,
    ) -> None:
        self._ends = ends
        self.damaged: dict[int, list[str]] = {}
        self._refused: dict[Position, float] = {}
        self._reactor = reactor
        self._pool = pool
        self.records = records
        self._codec = codec
        self._keys = keys
        self._ids = ids
        self._lock = DeferredLock()
        self._pending: list[Pending] = []
        self._writing = False
        self._rows: dict[int, Deferred[None] | None] = {}
        self._kept = 0
        self._began = reactor.seconds()
        self.next_leaf = 0
        self.unindexed: deque[Staged] = deque()
        self.segments: dict[int, list[Staged]] = {}
        self.parts: dict[bytes, Position] = {}
        self._part_records: dict[PartKey, bytes] = {}
        self.bytes = 0

    def replay(self, first_leaf: int) -> Replayed:
        """Read the log at start. ``first_leaf``: the lowest leaf number not yet in the leaf log. Blocking."""
        self.next_leaf = first_leaf
        now = self._reactor.seconds()

        def take(position: Position, _kind: int, payload: bytes) -> None:
            try:
                row, leaf, identifier = PREFIX.unpack_from(payload)
                header = read_header(payload[PREFIX.size :])
            except (struct.error, RecordBroken) as error:
                self.damage(position.segment, f"record at {position.offset}: {error}")
                return
            self._add(Staged(position, header.kind, header.tenant, header.record, row, leaf, identifier, len(payload), now))

        replayed = self.records.replay(take)
        for one in replayed.damage:
            self.damage(one.segment, str(one))
        self.records.roll()
        for segment in self.damaged:
            # One of which nothing can be read has to be kept aside as well.
            self.segments.setdefault(segment, [])
        return replayed

    def replay_again(self, first_leaf: int) -> None:
        """Its log was written anew, while nobody waited for anything: read it as at a start. Blocking."""
        for known in (self.segments, self.unindexed, self._rows, self.parts, self._part_records, self.damaged, self._refused):
            known.clear()
        self.bytes = 0
        self.records.close()
        self.replay(first_leaf)

    def damage(self, segment: int, what: str) -> None:
        """Something in a segment cannot be read."""
        self.log.error("staging segment {segment} is damaged: {what}", segment=segment, what=what)
        self.damaged.setdefault(segment, []).append(what)

    def leave(self, segment: int) -> None:
        """A segment has gone to the medium, as far as it could be read: remove it; if it is damaged, keep it aside for who can read more of it.
        Blocking, in ``alone``."""
        what = self.damaged.get(segment)
        if what is None:
            self.records.drop(segment)
            return
        aside = self.records.set_aside(segment, self.aside)
        self._ends.alarm(
            "archive-staging-damaged",
            f"{len(what)} damaged places in {aside.name}, which is kept aside in {aside.parent}; the rest of it is archived; first: {what[0]}",
        )

    @property
    def aside(self) -> Path:
        """The directory of damaged segments."""
        return self.records.directory.with_name(self.records.directory.name + "-damaged")

    def _add(self, entry: Staged) -> None:
        self.segments.setdefault(entry.position.segment, []).append(entry)
        self.unindexed.append(entry)
        self.bytes += entry.size
        if entry.row:
            self._rows[entry.row] = None
        if entry.kind == Kind.PART:
            self.parts[entry.record] = entry.position
            if entry.part is not None:
                self._part_records[entry.part] = entry.record
        if entry.leaf != NO_LEAF:
            self.next_leaf = max(self.next_leaf, entry.leaf + 1)

    @property
    def count(self) -> int:
        """Mails that are not yet on a medium."""
        return sum(entry.kind == Kind.MESSAGE for entries in self.segments.values() for entry in entries)

    def oldest(self) -> float:
        """When the oldest of them came (since the start), or 0."""
        return min((entries[0].at for entries in self.segments.values() if entries), default=0.0)

    async def stage(self, item: ArchiveItem, raw: bytes) -> None:
        """Durable on return, once for a row. Raises DiskFull, ArchiveError, LogBroken."""
        if item.row in self._rows:
            waiting = self._rows[item.row]
            if waiting is not None:
                await _also(waiting)
            return
        pending = Pending(item, raw)
        if item.row:
            self._rows[item.row] = pending.done
        self._pending.append(pending)
        if not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write_all()).addErrback(lambda f: self.log.failure("staging stopped", failure=f))
        await _also(pending.done)

    async def add_event(self, tenant: int, meta: EventMeta, leaf_hash: bytes | None = None) -> None:
        """A later fact, durable on return; it goes to the journal with the next packs. With ``leaf_hash`` it gets the next leaf, which then has that hash
        and stands in its ``leaves``; if it cannot be written, that is a void leaf."""
        record = new_record_id()
        leaf = NO_LEAF
        if leaf_hash is not None:
            leaf, self.next_leaf = self.next_leaf, self.next_leaf + 1
            meta = msgspec.structs.replace(meta, leaves=((self._keys.node, leaf),))

        def write() -> tuple[Position, int]:
            self._ensure([(tenant, year_of(meta.at))])
            data = PREFIX.pack(0, leaf, 0) + self._codec.close_event(tenant, record, meta, year_of(meta.at))
            position = self.records.append(Kind.EVENT, data)
            self.records.sync()
            return position, len(data)

        position, size = await self.alone(write)
        entry = Staged(position, Kind.EVENT, tenant, record, 0, leaf, 0, size, self._reactor.seconds())
        entry.leaf_hash = leaf_hash
        self._add(entry)

    async def renew_part(self, tenant: int, record: bytes, key: PartKey, data: bytes) -> None:
        """A part that does not read where it lies, once more under its own ID, from a mail that brought it again: durable on return, and read from here from now on. Raises DiskFull,
        LogBroken."""
        now = self._reactor.seconds()

        def write() -> tuple[Position, int]:
            self._ensure([(tenant, year_of(now))])
            sealed = self._codec.close_part(tenant, record, PartMeta(*key[1:]), data, year_of(now))
            payload = PREFIX.pack(0, NO_LEAF, 0) + sealed
            position = self.records.append(Kind.PART, payload)
            self.records.sync()
            return position, len(payload)

        position, size = await self.alone(write)
        entry = Staged(position, Kind.PART, tenant, record, 0, NO_LEAF, 0, size, now)
        entry.part = key
        self._add(entry)

    async def alone(self, call: Callable[[], T]) -> T:
        """Run a blocking call in a thread while nobody else writes the log."""
        await self._lock.acquire()
        try:
            result: T = await deferToThreadPool(self._reactor, self._pool, call)
            return result
        finally:
            self._lock.release()

    async def _write_all(self) -> None:
        try:
            while self._pending:
                batch = self._take_batch()
                try:
                    await self._write(batch)
                except Exception:  # noqa: BLE001  whatever it was, each caller is told and tries again later
                    failure = Failure()
                    for pending in batch:
                        if not pending.done.called:
                            self._rows.pop(pending.item.row, None)
                            pending.done.errback(Failure(failure.value))
        finally:
            self._writing = False

    def _take_batch(self) -> list[Pending]:
        size = 0
        for number, pending in enumerate(self._pending):
            size += len(pending.raw)
            if number and (number >= BATCH or size > BATCH_BYTES):
                batch, self._pending = self._pending[:number], self._pending[number:]
                return batch
        batch, self._pending = self._pending, []
        return batch

    async def _write(self, batch: list[Pending]) -> None:
        old = [p.item.row for p in batch if p.item.row and milliseconds_of(p.item.row) <= self._began * 1000]
        known = await self._ends.known(old) if old else set()
        new = []
        for pending in batch:
            if pending.item.row in known:
                self._rows.pop(pending.item.row, None)
                pending.done.callback(None)
            else:
                new.append(pending)
        if not new:
            return
        for pending in new:
            pending.leaf = self.next_leaf
            pending.identifier = self._ids.next()
            self.next_leaf += 1
        entries = await self.alone(lambda: self._append(new))
        for entry in entries:
            self._add(entry)
            self._keep(entry)
        for pending in new:
            if pending.item.row:
                self._rows[pending.item.row] = None
            pending.done.callback(None)
        self._ends.arrived()

    def _keep(self, entry: Staged) -> None:
        if entry.raw is not None:
            if self._kept + len(entry.raw[1]) > KEPT_BYTES:
                entry.raw = None
            else:
                self._kept += len(entry.raw[1])

    def release(self, entry: Staged) -> None:
        """Its body is no longer needed in memory."""
        if entry.raw is not None:
            self._kept -= len(entry.raw[1])
            entry.raw = None

    def _ensure(self, wanted: list[tuple[int, int]]) -> None:
        keyring = self._keys.current()
        if not keyring.locked and any(keyring.data_number(*one) is None for one in wanted):
            self._keys.ensure(wanted)

    def _append(self, batch: list[Pending]) -> list[Staged]:
        """In a thread: seal, append, sync."""
        self._ensure([(p.item.tenant, year_of(p.item.received)) for p in batch])
        entries: list[Staged] = []
        now = self._reactor.seconds()
        looked_after = self._kept + sum(len(pending.raw) for pending in batch) <= KEPT_BYTES
        try:
            for pending in batch:
                meta = self._meta(pending, now)
                record = new_record_id()
                tenant = pending.item.tenant
                inline = pending.raw
                if len(inline) >= MIN_PART and not self._keys.current().locked:
                    meta, inline = self._share(tenant, meta, inline, entries, now, looked_after)
                sealed = self._codec.close_mail(tenant, record, meta, inline, year_of(meta.received))
                data = PREFIX.pack(meta.row, meta.leaf, meta.identifier) + sealed
                position = self.records.append(Kind.MESSAGE, data)
                entry = Staged(position, Kind.MESSAGE, tenant, record, meta.row, meta.leaf, meta.identifier, len(data), now)
                entry.raw = (meta, pending.raw)
                entry.leaf_hash = meta.leaf_hash()
                entries.append(entry)
        except BaseException:
            self.records.forget()
            raise
        self.records.sync()
        return entries

    def _share(
        self, tenant: int, meta: MailMeta, raw: bytes, entries: list[Staged], now: float, looked_after: bool
    ) -> tuple[MailMeta, bytes]:
        """Large attachments into records of their own, unless the merge group has them; what is left is the mail's own. ``looked_after``: its bytes stay in memory until
        the indexer has seen whether parts on the medium read (``renew_part``); otherwise it needs none of those."""
        stretches = []
        inline = []
        lookup = self._keys.current().lookup_key()
        for piece in split(raw):
            if piece.kind == Segment.INLINE:
                inline.append(piece.data)
                stretches.append(Stretch(piece.kind, piece.length))
                continue
            key = PartKey(tenant, meta.month, digest_of(lookup, piece.data))
            record = (
                next((e.record for e in entries if e.part == key), None)
                or self._part_records.get(key)
                or (self._ends.find_part(key) if looked_after else None)
            )
            if record is None:
                record = new_record_id()
                sealed = self._codec.close_part(tenant, record, PartMeta(*key[1:]), piece.data, year_of(meta.received))
                data = PREFIX.pack(0, NO_LEAF, 0) + sealed
                entry = Staged(self.records.append(Kind.PART, data), Kind.PART, tenant, record, 0, NO_LEAF, 0, len(data), now)
                entry.part = key
                entries.append(entry)
            stretches.append(Stretch(piece.kind, piece.length, record))
        if not stretches:
            return meta, raw
        return msgspec.structs.replace(meta, stretches=tuple(stretches)), b"".join(inline)

    def _meta(self, pending: Pending, now: float) -> MailMeta:
        item, raw = pending.item, pending.raw
        expires = item.received + item.retention_days * 86400.0
        return MailMeta(
            identifier=pending.identifier,
            row=item.row,
            node=self._keys.node,
            leaf=pending.leaf,
            salt=new_salt(),
            sha256=hashlib.sha256(raw).digest(),
            size=len(raw),
            received=item.received,
            expires=expires,
            month=month_of(max(expires, now)),
            feed=clean_text(item.feed),
            direction=item.direction.value,
            sender=clean_text(item.sender),
            recipients=tuple(map(clean_text, item.recipients)),
            login=clean_text(item.login),
            owners=tuple(map(clean_text, item.owners)),
            trace=item.trace,
            spam=item.spam,
        )

    def read(self, position: Position) -> bytes:
        """The archive record at a position. Blocking. Raises KeyError (sealed meanwhile), BadRecord (also for a sector that has been bad for
        ``BAD_SECONDS``), OSError."""
        try:
            data = self.records.read(position)
        except OSError as error:
            now = self._reactor.seconds()
            if error.errno in _UNREADABLE and now - self._refused.setdefault(position, now) >= BAD_SECONDS:
                raise BadRecord(f"the disk cannot read the record at {position}: {error.strerror}") from error
            raise
        self._refused.pop(position, None)
        return data[PREFIX.size :]

    def index_again(self) -> None:
        """All that is staged waits for a new index."""
        self.unindexed.clear()
        for _, entries in sorted(self.segments.items()):
            for entry in entries:
                entry.outcome = None
                self.unindexed.append(entry)

    def sealed(self, segment: int) -> None:
        """A segment's records are on the medium and the index knows it: forget them."""
        self.damaged.pop(segment, None)
        for entry in self.segments.pop(segment, ()):
            self._refused.pop(entry.position, None)
            self.bytes -= entry.size
            self._rows.pop(entry.row, None)
            self.parts.pop(entry.record, None)
            if entry.part is not None:
                self._part_records.pop(entry.part, None)


async def _also(deferred: Deferred[None]) -> None:
    """Wait for a deferred that others wait for too."""
    mine: Deferred[None] = Deferred()

    def fire(result: Any) -> Any:
        if isinstance(result, Failure):
            mine.errback(Failure(result.value))
            return None
        mine.callback(None)
        return result

    deferred.addBoth(fire)
    await mine
