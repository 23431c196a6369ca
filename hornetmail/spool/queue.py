"""The queue: IQueue over the journal, the live messages and the index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.envelope import Direction, Door, Envelope, Origin
from hornetmail.core.ids import IdSource
from hornetmail.core.queued import DONE, Backlog, Claim, Message, Portal, Row, RowKind, RowState, Settled
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.groupsync import GroupSync
from hornetmail.disk.records import BadRecord, LogBroken, Position, RecordLog
from hornetmail.disk.segment import stored_length
from hornetmail.disk.writer_thread import WriterThread
from hornetmail.interfaces import IBody, IDeposit, IQueue, IShare
from hornetmail.spool.bodies import BodyFiles, BytesBody, FileBody, Recent
from hornetmail.spool.deposit import Arrived, Deposit
from hornetmail.spool.errors import SpoolBroken, SpoolError
from hornetmail.spool.index import Index
from hornetmail.spool.journal import (
    Adopted,
    Changed,
    Claimed,
    ClaimedRow,
    Kind,
    LiveRow,
    Record,
    Remembered,
    SettledRow,
    SettledRows,
    Snapshot,
    Where,
    body_of,
    encode,
)
from hornetmail.spool.keeper import Keeper
from hornetmail.spool.live import REQUESTS, Entry, Live, request_fact

_SCAN = 2000
_ASLEEP = frozenset({RowState.PARKED, RowState.STUCK, RowState.QUEUED})


@implementer(IQueue)
class Queue:
    """Made by ``spool.start.open_queue``. All methods belong to the reactor thread.

    Raises SpoolBroken from everything that writes once a sync has failed: answer 4xx and restart.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, journal: RecordLog, files: BodyFiles, index: Index, disk: Disk, thread: WriterThread,
        *, node: int, least_free: float, recent_bytes: int, alarm: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._journal = journal
        self._sync = GroupSync(journal, reactor, thread)
        self._files = files
        self._disk = disk
        self._least_free = least_free
        self._free = (0.0, 1.0)
        self._recent = Recent(recent_bytes)
        self.floor = 0.0
        self.ids = IdSource(lambda: max(reactor.seconds(), self.floor), node)
        self.live = Live(self._body_gone)
        self.keeper = Keeper(reactor, self.live, journal, self._sync, index, self._submit, alarm)
        self._alarm = alarm
        self._listeners: list[Callable[[], None]] = []
        self._waking = False
        self._timer: Any = None
        self._requests: dict[str, list[Deferred[Message]]] = {}
        self._at_start: list[tuple[Message, Row]] = []
        self._closed = False
        self._told = False

    # Arrivals

    def begin(self, tenant: int) -> IDeposit:
        """A new message. Its ``write`` and ``commit`` raise DiskFull when less than the least part of the disk is free."""
        return Deposit(self._accept, self._room, self.ids.next, self._files, tenant)

    def _room(self) -> None:
        self._check()
        now = self._reactor.seconds()
        if now - self._free[0] >= 1.0 or now < self._free[0]:
            self._free = (now, self._disk.free_fraction(self._journal.directory))
        if self._free[1] < self._least_free:
            raise DiskFull(f"less than {self._least_free:.0%} of the queue's disk is free")

    async def _accept(
        self, arrived: Arrived, envelope: Envelope, origin: Origin, direction: Direction, trace: bytes,
        domain: str, archive: bool, hold: str, request: str,
    ) -> Message:  # fmt: skip
        if request:
            first = await self._first(request)
            if first is not None:
                self._discard(arrived)
                return first
        try:
            self._check()
            now = self._reactor.seconds()
            next_id = self.ids.next
            message = Message(
                next_id(), arrived.tenant, envelope, origin, direction, now, arrived.size, arrived.sha256, trace, domain, request
            )
            state = RowState.HELD if hold else RowState.QUEUED
            rows = [
                LiveRow(
                    next_id(),
                    message.id,
                    RowKind.DELIVER,
                    state,
                    recipient.address,
                    number,
                    now,
                    queued=now,
                    reason=hold,
                    mark=now,
                )
                for number, recipient in enumerate(envelope.recipients)
            ]
            if archive:
                rows.append(LiveRow(next_id(), message.id, RowKind.ARCHIVE, RowState.WAITING, queued=now, mark=now))
            if not rows:
                raise ValueError("a message needs a recipient or an archive row")
            record = Snapshot(message, rows, arrived.where, arrived.file)
            if arrived.where is Where.RECORD:
                self._recent.put(message.id, arrived.body)
            try:
                await self._submit(Kind.ACCEPTED, record, (arrived.body,))
            except DiskFull:
                self._recent.drop(message.id)
                self._discard(arrived)
                raise
        except BaseException as error:
            for waiter in self._requests.pop(request, ()):
                waiter.errback(SpoolError(f"the first of this request failed: {error}"))
            raise
        for waiter in self._requests.pop(request, ()):
            waiter.callback(message)
        return message

    async def _first(self, request: str) -> Message | None:
        """The message that a request already is; None if this is the first, whom later ones wait for."""
        known = self.live.requests.get(request)
        if known is not None:
            return self.live.messages[known].message
        left = self.live.facts.get(REQUESTS, {}).get(request)
        if left is not None:
            return request_fact(left)[1]
        if request in self._requests:
            waiter: Deferred[Message] = Deferred()
            self._requests[request].append(waiter)
            return await waiter
        self._requests[request] = []
        return None

    def _discard(self, arrived: Arrived) -> None:
        if arrived.where is Where.FILE:
            self._files.thread(self._files.remove, arrived.file)

    # Attempts

    async def claim(
        self,
        now: float,
        limit: int,
        next_due: Callable[[Row], float],
        kinds: Collection[RowKind] = (),
        share: IShare | None = None,
    ) -> Sequence[Claim]:
        """Rows that are due, at most about ``limit``, each claim one message's rows of one kind.

        ``next_due`` is given the row with this attempt counted, and says when it is tried again should the attempt never end.
        """
        rows, more = self.live.due(now, limit, kinds, share)
        while more and not rows:
            await deferLater(self._reactor, 0)
            rows, more = self.live.due(now, limit, kinds, share)
        claims = await self._claim(rows, now, next_due) if rows else ()
        self._arm()
        return claims

    async def claim_rows(self, rows: Iterable[int], now: float, next_due: Callable[[Row], float]) -> Sequence[Claim]:
        """Just these, if they are queued, parked or stuck; held ones must be released first."""
        wanted = []
        for number in dict.fromkeys(rows):
            row = self.live.rows.get(number)
            if row is not None and row.state in _ASLEEP and number not in self.live.busy:
                self.live.busy.add(number)
                wanted.append(row)
        return await self._claim(wanted, now, next_due) if wanted else ()

    async def _claim(self, rows: list[LiveRow], now: float, next_due: Callable[[Row], float]) -> Sequence[Claim]:
        numbers = [row.id for row in rows]
        try:
            self._check()
            claimed = []
            for row in rows:
                counted = msgspec.structs.replace(row.row(), attempts=row.attempts + 1, state=RowState.CLAIMED)
                claimed.append(ClaimedRow(row.id, row.attempts + 1, next_due(counted), self.live.uptime(row, now)))
        except BaseException:
            self.live.release(numbers)
            raise
        await self._submit(Kind.CLAIMED, Claimed(now, claimed), rows=numbers)
        groups: dict[tuple[int, RowKind], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.message, row.kind), []).append(row.row())
        return [Claim(self.live.messages[message].message, tuple(group)) for (message, _), group in groups.items()]

    async def settle(self, verdicts: Sequence[Settled]) -> None:
        """Durable on return. A drain row born with a verdict is QUEUED for ``due`` if that is given, else PARKED with ``reason``.

        Rows that are done or gone are passed over. The archive row of a message wakes with its first delivery, or goes with its last
        failure (A20).
        """
        self._check()
        now = self._reactor.seconds()
        rows = []
        for one in verdicts:
            row = self.live.rows.get(one.row)
            if row is None or row.state in DONE or one.row in self.live.busy:
                continue
            if one.state is RowState.CLAIMED:
                raise ValueError("a row is claimed by claim")
            self.live.busy.add(one.row)
            due = (one.due or now) if one.state is RowState.QUEUED else one.due
            settled = SettledRow(
                one.row, one.state, due, self.live.uptime(row, now), one.verdict, one.reason, one.delay_told,
                waits_for=one.waits_for, staged=one.staged,
            )  # fmt: skip
            if one.drain is not None:
                settled.born, settled.portal = self.ids.next(), one.drain
                settled.drain_state = RowState.QUEUED if one.due else RowState.PARKED
                settled.drain_due, settled.drain_reason = one.due, one.reason
                settled.due, settled.reason = 0.0, ""
            rows.append(settled)
        if rows:
            await self._submit(Kind.SETTLED, SettledRows(now, rows), rows=[row.row for row in rows])

    async def take_back(
        self, copy: Portal, envelope: Envelope, address: str, *, tenant: int, domain: str, arrived: float, size: int, due: float
    ) -> Message:
        """See IQueue. In the journal it is a message accepted without a body."""
        self._check()
        now, number = self._reactor.seconds(), self.ids.next()
        message = Message(
            number, tenant, envelope, Origin(Door.REDELIVERY), Direction.IN, arrived, size, b"", b"", domain
        )  # fmt: skip
        state = RowState.QUEUED if due else RowState.PARKED
        row = LiveRow(
            self.ids.next(), number, RowKind.DRAIN, state, address, 0, due, queued=now, portal=copy, mark=now
        )  # fmt: skip
        await self._submit(Kind.ACCEPTED, Snapshot(message, [row], Where.NOWHERE))
        return message

    def claimed_at_start(self) -> list[tuple[Message, Row]]:
        """Rows whose attempt the last death interrupted, as they were. By now they are queued for the time that was recorded with the
        attempt; whoever knows better what became of it settles them before the scheduler starts."""
        return list(self._at_start)

    async def body(self, message: int) -> IBody:
        """The body as received. Raises KeyError once deliver and archive rows are done, SpoolError if it is damaged or cannot be read."""
        if self._closed:
            raise SpoolError("the queue is closed")
        entry = self.live.messages[message]
        if not entry.needs_body:
            raise KeyError(message)
        if entry.where is Where.FILE:
            return FileBody(self._files, entry.file, entry.message.size)
        recent = self._recent.get(message)
        if recent is None:
            try:
                recent = body_of(await self._files.thread(self._journal.read, entry.place))
            except KeyError:
                if message not in self.live.messages:
                    raise
                return await self.body(message)
            except (BadRecord, OSError) as error:
                raise SpoolError(f"the body of {message} cannot be read: {error}") from error
        return BytesBody(recent)

    # Administration

    async def change(self, rows: Iterable[int], state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        """Claimed and done rows are left alone, and so are waiting archive rows unless they are removed. QUEUED without ``due``: now."""
        self._check()
        if state in (RowState.CLAIMED, RowState.WAITING):
            raise ValueError(f"rows cannot be made {state} by hand")
        now = self._reactor.seconds()
        wanted = []
        for number in dict.fromkeys(rows):
            row = self.live.rows.get(number)
            if row is None or row.state in DONE or row.state is RowState.CLAIMED or number in self.live.busy:
                continue
            if row.state is RowState.WAITING and state is not RowState.REMOVED:
                continue
            wanted.append(number)
        if not wanted:
            return 0
        self.live.busy.update(wanted)
        due = (due or now) if state is RowState.QUEUED else due
        worked = [self.live.uptime(self.live.rows[number], now) for number in wanted]
        await self._submit(Kind.CHANGED, Changed(now, wanted, worked, state, due, reason), rows=wanted)
        return len(wanted)

    async def adopt(self, domain: str, now: float) -> int:
        """All that is deferred for recipients of a domain is due now: one record, one transition."""
        self._check()
        wanted = self.live.deferred(domain)
        if wanted:
            self.live.busy.update(wanted)
            await self._submit(Kind.ADOPTED, Adopted(now, wanted), rows=wanted)
        return len(wanted)

    async def rows(
        self,
        *,
        domain: str = "",
        states: Collection[RowState] = (),
        kinds: Collection[RowKind] = (),
        message: int = 0,
        mailbox: int = 0,
        limit: int = 500,
        after: int = 0,
    ) -> Sequence[tuple[Message, Row]]:
        """A page of the queue in order of row ID. Lets the reactor breathe every 2,000 rows."""

        def fits(row: LiveRow) -> bool:
            if (states and row.state not in states) or (kinds and row.kind not in kinds):
                return False
            if (message and row.message != message) or (mailbox and (row.portal is None or row.portal.mailbox != mailbox)):
                return False
            return not domain or self.live.messages[row.message].domain == domain or row.address.lower().endswith("@" + domain)

        found: list[tuple[Message, Row]] = []
        if message:
            entry = self.live.messages.get(message)
            rows = sorted(entry.rows, key=lambda row: row.id) if entry else []
            return [(entry.message, row.row()) for row in rows if entry and row.id > after and fits(row)][:limit]
        while True:
            seen = 0
            for row in self.live.after(after):
                seen, after = seen + 1, row.id
                if fits(row):
                    found.append((self.live.messages[row.message].message, row.row()))
                    if len(found) == limit:
                        return found
                if seen == _SCAN:
                    break
            if seen < _SCAN:
                return found
            await deferLater(self._reactor, 0)

    async def remember(self, space: str, key: str, value: bytes | None) -> None:
        """In memory at once, durable on return."""
        self._check()
        last = self.keeper.last
        self.live.remember(space, key, value, last)
        await self._submit(Kind.REMEMBERED, Remembered(space, key, value))

    def remembered(self, space: str) -> dict[str, bytes]:
        """All facts of a space: a copy."""
        return dict(self.live.facts.get(space, {}))

    def backlog(self) -> Backlog:
        """Figures, from memory."""
        return self.live.backlog(self._reactor.seconds())

    def wake(self, listener: Callable[[], None]) -> None:
        """Called in a later reactor turn, once for whatever became due meanwhile."""
        self._listeners.append(listener)

    async def tidy(self) -> int:
        """Write the index, copy what lives in old segments forward and drop them; the number dropped. A job for every few minutes."""
        return await self.keeper.tidy()

    async def close(self) -> None:
        """Finish what is under way and write the index. Nothing may be asked afterwards."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self.keeper.close()
        self._journal.close()

    @property
    def broken(self) -> bool:
        """The journal failed for good: nothing is taken or settled until a restart. For /healthz."""
        return self._journal.broken

    # Beneath

    def started(self, at_start: list[LiveRow]) -> None:
        """The replay is over."""
        self._at_start = [(self.live.messages[row.message].message, row.row()) for row in at_start]
        self._arm()
        self.keeper.soon()

    def _check(self) -> None:
        if self._closed:
            raise SpoolError("the queue is closed")
        if self._journal.broken:
            raise SpoolBroken("the journal failed; a restart is needed")

    def _submit(self, kind: Kind, record: Record, body: tuple[bytes, ...] = (), rows: Collection[int] = ()) -> Deferred[Position]:
        """Journal a transition; it is applied when it is durable, whoever still waits. Fires with its position."""
        payload = encode(record, body)
        size = stored_length(len(payload), True)
        waiter: Deferred[Position] = Deferred()

        def done(position: Position | None, error: BaseException | None) -> None:
            if position is not None:
                self.keeper.applied(kind, record, position, size)
                waiter.callback(position)
                if self.live.became_due:
                    self.live.became_due = False
                    self._became_due()
                return
            self.live.release(rows)
            if isinstance(error, LogBroken):
                if not self._told:
                    self._told = True
                    self.log.critical("the queue's journal is broken: {error}", error=error)
                    self._alarm("queue-broken", f"the queue's journal failed, restart the service: {error}")
                error = SpoolBroken(str(error))
            elif not isinstance(error, DiskFull):
                error = SpoolError(str(error))
            waiter.errback(error)

        self._sync.submit(kind, payload, done)
        return waiter

    def _body_gone(self, entry: Entry) -> None:
        self._recent.drop(entry.id)
        if entry.where is Where.FILE:
            self._files.thread(self._files.remove, entry.file)

    def _became_due(self) -> None:
        due = None if self._waking else self.live.next_due()
        if due is None:
            return
        if due <= self._reactor.seconds():
            self._waking = True
            self._reactor.callLater(0, self._wake)
        else:
            self._arm()

    def _wake(self) -> None:
        self._waking = False
        if self._closed:
            return
        for listener in self._listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001  a listener's error is its own
                self.log.failure("a listener of the queue failed")

    def _arm(self) -> None:
        """Set the clock for the next row that is due later."""
        due = self.live.next_due()
        now = self._reactor.seconds()
        if due is None or self._closed or due <= now:
            return
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(due - now, self._rang)

    def _rang(self) -> None:
        self._timer = None
        self._wake()
