"""The queue: IQueue over the journal, the live messages and the index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.delivery.queued import DONE, Backlog, Claim, Message, Portal, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.ids import IdSource
from hornetmail.core.mail.envelope import Envelope
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.groupsync import GroupSync
from hornetmail.disk.records import LogBroken, Position, RecordLog
from hornetmail.disk.segment import MAX_PAYLOAD, stored_length
from hornetmail.disk.writer_thread import WriterThread
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.interfaces.queue import IQueue, IShare
from hornetmail.spool.arrivals import Arrivals, Room
from hornetmail.spool.disk.bodies import BodyFiles, Recent
from hornetmail.spool.disk.errors import SpoolBroken, SpoolError
from hornetmail.spool.disk.journal import (
    Adopted,
    Changed,
    Claimed,
    ClaimedRow,
    Kind,
    LiveRow,
    Reclaimed,
    Record,
    Remembered,
    SettledRow,
    SettledRows,
    Where,
    encode,
)
from hornetmail.spool.disk.marks import DOUBTED, KIND, Mark
from hornetmail.spool.keeper import Keeper
from hornetmail.spool.listing import Asked, Listing
from hornetmail.spool.reading import Reading
from hornetmail.spool.recall import Recall, Recalled, remains
from hornetmail.spool.rows.entry import Entry
from hornetmail.spool.rows.index import Index
from hornetmail.spool.rows.live import Live
from hornetmail.spool.rows.ordered import after as in_order
from hornetmail.spool.rows.turns import Turn
from hornetmail.spool.rows.waking import Waking
from hornetmail.spool.tidying import Tidying

_SCAN = 500
"""Rows that are looked at in a turn of the reactor."""

_SET_BACK = 60.0
"""Seconds by which the wall clock moves against the uptime before it counts as set."""

_SLICE = 500
"""Rows that are adopted, or changed, by one record: a turn of the reactor applies it."""

_UNREADABLE = 60.0
"""Seconds until a message that cannot be read is tried again."""

_ASLEEP = frozenset({RowState.PARKED, RowState.STUCK, RowState.QUEUED})


class Settings(msgspec.Struct, frozen=True, gc=False):
    """``node``: 0 to 1023, in IDs and segment names. ``least_free``: the share of the disk below which nothing is accepted. ``recent_bytes``: of
    short bodies kept in memory for the first attempt. ``longest``: seconds that the next attempt may be away; a clock that was set back
    does not make it more. ``unpacked``: messages that memory keeps whole; the others are packed to their rows."""

    node: int
    least_free: float
    recent_bytes: int
    longest: float
    unpacked: int


@implementer(IQueue)
class Queue:
    """Made by ``spool.start.open_queue``. All methods belong to the reactor thread.

    Raises SpoolBroken from everything that writes once a sync has failed: answer 4xx and restart.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, journal: RecordLog, files: BodyFiles, index: Index, disk: Disk, thread: WriterThread,
        *, settings: Settings, alarm: Callable[[str, str], None], monotonic: Callable[[], float],
    ) -> None:  # fmt: skip
        self._reactor = reactor
        self._journal = journal
        self._sync = GroupSync(journal, reactor, thread)
        self._files = files
        self._alarm = alarm
        self._recent = Recent(settings.recent_bytes)
        self._longest = settings.longest
        self.floor = 0.0
        self.ids = IdSource(lambda: max(reactor.seconds(), self.floor), settings.node)
        self.live = Live(self._body_gone, monotonic, settings.unpacked)
        self.recall = Recall(reactor, self.live, journal, files, index)
        self._listing = Listing(reactor, self.live, self.recall)
        self.room = Room(reactor, disk, journal.directory, settings.least_free)
        self._arrivals = Arrivals(
            reactor, self.live, files, self._recent, self.room, self.ids.next, self._submit, self._check
        )  # fmt: skip
        self.reading = Reading(self.live, journal, files, self._recent, self.recall, alarm)
        self.keeper = Keeper(reactor, self.live, journal, self._sync, index, self.recall, alarm)
        self.tidying = Tidying(reactor, self.live, journal, self._sync, self.keeper, self.reading, self.recall, self._submit)
        self._waking = Waking(reactor, self.live.dues)
        self._at_start: list[tuple[Message, Row]] = []
        self._drift = 0.0
        self._closed = False
        self._alarmed = False

    def begin(self, tenant: int, *, own: bool = False) -> IDeposit:
        """A new message. Its ``write`` and ``commit`` raise DiskFull when less than the least part of the disk is free, or another disk that the
        message has to go to is full; a letter of our ``own`` still has half of that part, since it may say just this."""
        return self._arrivals.begin(tenant, own=own)

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
            self.live.messages.cool()
            await deferLater(self._reactor, 0)
            rows, more = self.live.due(now, limit, kinds, share)
        claims = await self._claim(rows, now, next_due, self.live.turns.begin(row.id for row in rows)) if rows else ()
        self._waking.arm()
        return claims

    async def claim_rows(self, rows: Iterable[int], now: float, next_due: Callable[[Row], float]) -> Sequence[Claim]:
        """Just these, if they are queued, parked or stuck; held ones must be released first."""
        turn = await self.live.turns.take(rows)
        wanted = [row for number in turn.rows if (row := self.live.rows.get(number)) is not None and row.state in _ASLEEP]
        return await self._claim(wanted, now, next_due, turn)

    async def _claim(self, rows: list[LiveRow], now: float, next_due: Callable[[Row], float], turn: Turn) -> Sequence[Claim]:
        try:
            recalled = await self.recall.messages(row.message for row in rows)
        except BaseException:
            self._end(turn, failed=True)
            raise
        known = [row for row in rows if row.message in recalled.found]
        unknown = [row for row in rows if row.message not in recalled.found]
        for row in unknown:
            if row.state is RowState.QUEUED:
                self.live.put_off(row, now + _UNREADABLE)

        def record() -> Claimed:
            claimed = []
            for row in known:
                counted = msgspec.structs.replace(row.row(), attempts=row.attempts + 1, state=RowState.CLAIMED)
                claimed.append(ClaimedRow(row.id, row.attempts + 1, next_due(counted), self.live.worked(row)))
            return Claimed(now, claimed)

        await self._transit(turn, Kind.CLAIMED, record)
        groups: dict[tuple[int, RowKind], list[Row]] = {}
        for row in known:
            groups.setdefault((row.message, row.kind), []).append(row.row())
        if unknown:
            await self._cannot_be_read(unknown, recalled)
        return [Claim(recalled.found[message], tuple(group)) for (message, _), group in groups.items()]

    async def _cannot_be_read(self, rows: Sequence[LiveRow], recalled: Recalled) -> None:
        """They are tried again in a while, and nobody else waits for that; what is lost is told of and held."""
        for message, error in recalled.later.items():
            self.log.error("message {number} cannot be read now: {error}", number=message, error=error)
        for message, error in recalled.lost.items():
            await self.reading.lost(message, error)
        lost = [row.id for row in rows if row.message in recalled.lost]
        try:
            for some in _slices(lost):
                await self._change(some, RowState.HELD, 0.0, "the queue's record of this message cannot be read")
        except (SpoolError, DiskFull) as error:
            self.log.error("{count} rows of lost messages are not held: {error}", count=len(lost), error=error)

    async def settle(self, verdicts: Sequence[Settled]) -> None:
        """See IQueue. A drain row born with a verdict is QUEUED for ``due`` if that is given, else PARKED with ``reason``.

        The archive row of a message wakes with its first delivery, or goes with its last failure (A20).
        """
        if any(one.state in (RowState.CLAIMED, RowState.WAITING) for one in verdicts):
            raise ValueError("a row is claimed by claim, and waits from its birth")
        turn = await self.live.turns.take(one.row for one in verdicts)

        def record() -> SettledRows:
            now = self._reactor.seconds()
            last = {one.row: one for one in verdicts}.values()
            known = [(one, row) for one in last if (row := self.live.rows.get(one.row)) is not None and row.state not in DONE]
            return SettledRows(now, [self._settled(one, row, now) for one, row in known])

        await self._transit(turn, Kind.SETTLED, record)

    def _settled(self, one: Settled, row: LiveRow, now: float) -> SettledRow:
        due = (one.due or now) if one.state is RowState.QUEUED else one.due
        settled = SettledRow(
            one.row, one.state, due, self.live.worked(row), one.verdict, one.reason, one.delay_told,
            waits_for=one.waits_for, staged=one.staged, unheard=one.unheard,
        )  # fmt: skip
        if one.drain is not None:
            settled.born, settled.portal = self.ids.next(), one.drain
            settled.drain_state = RowState.QUEUED if one.due else RowState.PARKED
            settled.drain_due, settled.drain_reason = one.due, one.reason
            settled.drain_waits_for = one.waits_for
            settled.due, settled.reason, settled.waits_for = 0.0, "", WaitsFor.NOTHING
        return settled

    def claimed_for(self, seconds: float) -> Sequence[tuple[Message, Row]]:
        """See IQueue."""
        live = self.live
        before = live.up() - seconds
        rows = [live.rows[number] for kind in RowKind for number in live.index.of(kind, RowState.CLAIMED).after(0)]
        old = sorted((row for row in rows if row.mark < before), key=lambda row: (row.mark, row.id))
        return [(_message(live.messages[row.message]), row.row()) for row in old]

    async def reclaim(self, rows: Iterable[int]) -> Sequence[tuple[Message, Row]]:
        """See IQueue."""
        turn = await self.live.turns.take(rows)
        taken: list[tuple[Message, Row]] = []

        def record() -> Reclaimed:
            found = [row for number in turn.rows if (row := self.live.rows.get(number)) is not None]
            claimed = [row for row in found if row.state is RowState.CLAIMED]
            taken.extend((_message(self.live.messages[row.message]), row.row()) for row in claimed)
            return Reclaimed(self._reactor.seconds(), [row.id for row in claimed], [self.live.worked(row) for row in claimed])

        await self._transit(turn, Kind.RECLAIMED, record)
        now = self._reactor.seconds()
        for _, row in taken:
            live = self.live.rows.get(row.id)
            if live is not None and live.state is RowState.QUEUED and live.due > now + self._longest:
                self.live.clamp(live, now, self._longest)
        return taken

    async def queue_copy(
        self, copy: Portal, envelope: Envelope, address: str, *, tenant: int, domain: str, arrived: float, size: int, due: float
    ) -> Message:
        """See IQueue."""
        return await self._arrivals.back(copy, envelope, address, tenant, domain, arrived, size, due)

    def claimed_at_start(self) -> list[tuple[Message, Row]]:
        """Rows whose attempt the last death interrupted, as they were. By now they are queued for the time that was recorded with the
        attempt; whoever knows better what became of it settles them before the scheduler starts."""
        return list(self._at_start)

    async def body(self, message: int) -> IBody:
        """See ``Reading.body``."""
        if self._closed:
            raise SpoolError("the queue is closed")
        return await self.reading.body(message)

    # Administration

    async def change(self, rows: Iterable[int], state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        """Claimed and done rows are left alone, and so are waiting archive rows and copies that the primary has (HOME) unless they are removed. QUEUED without ``due``: now.

        Many rows go in slices, each of them durable; if one fails, those before it are done, and the same call may be made again."""
        if state in (RowState.CLAIMED, RowState.WAITING):
            raise ValueError(f"rows cannot be made {state} by hand")
        self._check()
        changed = 0
        for some in _slices(rows):
            if changed:
                await self.keeper.breathe()
            changed += await self._change(some, state, due, reason)
        return changed

    async def _change(self, rows: Sequence[int], state: RowState, due: float, reason: str) -> int:
        turn = await self.live.turns.take(rows)
        wanted: list[LiveRow] = []

        def record() -> Changed:
            now = self._reactor.seconds()
            for number in turn.rows:
                row = self.live.rows.get(number)
                if row is None or row.state in DONE or row.state is RowState.CLAIMED:
                    continue
                if row.state not in (RowState.WAITING, RowState.HOME) or state is RowState.REMOVED:
                    wanted.append(row)
            worked = [self.live.worked(row) for row in wanted]
            at = (due or now) if state is RowState.QUEUED else due
            return Changed(now, [row.id for row in wanted], worked, state, at, reason)

        await self._transit(turn, Kind.CHANGED, record)
        return len(wanted)

    async def adopt(self, domain: str, now: float) -> int:
        """All that is deferred for recipients of a domain is due now. Many rows go in slices, each of them durable; whoever was stopped
        in between adopts again."""
        self._check()
        adopted = after = 0
        while True:
            some, after = self._page(domain, after)
            if some:
                adopted += await self._adopt(some, now)
            if not after:
                return adopted
            self.live.messages.cool()
            await self.keeper.breathe()

    def _page(self, domain: str, after: int) -> tuple[list[int], int]:
        """Some of a domain's rows that could be adopted, and after which ID to go on; 0 if there are no more."""
        numbers = list(islice(in_order(self.live.index.among(domain), after), _SCAN))
        found = [number for number in numbers if self.live.adoptable(self.live.rows[number])][:_SLICE]
        if len(found) == _SLICE:
            return found, found[-1]
        return found, numbers[-1] if len(numbers) == _SCAN else 0

    async def _adopt(self, rows: Sequence[int], now: float) -> int:
        turn = await self.live.turns.take(rows)
        wanted: list[int] = []

        def record() -> Adopted:
            live = self.live
            wanted.extend(number for number in turn.rows if (row := live.rows.get(number)) is not None and live.adoptable(row))
            return Adopted(now, wanted)

        await self._transit(turn, Kind.ADOPTED, record)
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
        envelopes: bool = True,
    ) -> Sequence[tuple[Message, Row]]:
        """See ``Listing``."""
        return await self._listing.page(Asked(domain, states, kinds, message, mailbox), limit, after, envelopes)

    async def remember(self, space: str, key: str, value: bytes | None) -> None:
        """In memory and durable on return; if it raises, it is neither, and may be asked again."""
        self._check()
        await self._submit(Kind.REMEMBERED, Remembered(space, key, value))

    def remembered(self, space: str) -> dict[str, bytes]:
        """All facts of a space: a copy."""
        return dict(self.live.facts.get(space, {}))

    def backlog(self, tenant: int = 0) -> Backlog:
        """Figures, from memory: a tenant's, or of all."""
        return self.live.backlog(self._reactor.seconds(), tenant)

    def next_due(self, kinds: Collection[RowKind] = ()) -> float | None:
        """See IQueue."""
        return self.live.dues.next(kinds)

    def wake(self, listener: Callable[[], None]) -> None:
        """See IQueue."""
        self._waking.listen(listener)

    async def tidy(self) -> int:
        """Write the index, copy what lives in old segments forward and drop them; the number dropped. A job for every few minutes."""
        return await self.tidying.tidy()

    async def close(self) -> None:
        """Finish what is under way and write the index. Nothing may be asked afterwards."""
        self._closed = True
        self._waking.stop()
        await self.tidying.close()
        await self.keeper.close()
        self._journal.close()

    @property
    def broken(self) -> bool:
        """The journal failed for good: nothing is taken or settled until a restart. For /healthz."""
        return self._journal.broken

    # Beneath

    async def started(self, at_start: list[LiveRow]) -> None:
        """The replay is over. Returns when no time is further away than a clock that was set back makes it."""
        messages = await self.recall.shown(row.message for row in at_start)
        self._at_start = [(messages[row.message], row.row()) for row in at_start]
        self._drift = self._reactor.seconds() - self.live.up()
        await self._clamp()
        self._waking.arm()
        self.keeper.started()

    def mark(self) -> Mark | None:
        """The newest record, for somebody to keep elsewhere; None if there is none."""
        last = self.keeper.last
        return Mark(self._journal.name(last.segment), *last, self._reactor.seconds()) if last.segment else None

    async def doubt(self, why: str, kinds: Collection[RowKind] = (KIND,)) -> int:
        """Before anybody claims: hold all deliveries, or what is of these kinds, that are believed to be ahead, for they may have been made; how many. Later
        it holds what nobody works on."""
        self._at_start = [(message, row) for message, row in self._at_start if row.kind not in kinds]
        rows: list[int] = []
        for kind in kinds:
            for state in DOUBTED:
                rows += self.live.index.of(kind, state).after(0)
        return await self.change(rows, RowState.HELD, reason=why)

    def _check(self) -> None:
        if self._closed:
            raise SpoolError("the queue is closed")
        if self._journal.broken:
            raise SpoolBroken("the journal failed; a restart is needed")
        drift = self._reactor.seconds() - self.live.up()
        if drift < self._drift - _SET_BACK:
            Deferred.fromCoroutine(self._clamp()).addErrback(
                lambda failure: self.log.failure("due times stay as they are", failure)
            )
        if abs(drift - self._drift) > _SET_BACK:
            self._drift = drift

    async def _clamp(self) -> None:
        """The clock was set back: what is due in more than the longest back-off would not be tried again for as long as it was set back."""
        now = self._reactor.seconds()
        for kind in RowKind:
            while numbers := list(islice(self.live.dues.later_than(now + self._longest, kind), _SCAN)):
                for number in numbers:
                    self.live.clamp(self.live.rows[number], now, self._longest)
                self.live.messages.cool()
                self._waking.look()
                await deferLater(self._reactor, 0)

    def _transit(
        self, turn: Turn, kind: Kind, record: Callable[[], Claimed | SettledRows | Changed | Adopted | Reclaimed]
    ) -> Deferred[Any]:
        """Journal what ``record`` says of a turn's rows as they are now, which it is their turn to change; nothing if that is no row."""
        try:
            self._check()
            made = record()
            if made.rows:
                return self._submit(kind, made, turn=turn)
        except BaseException:
            self._end(turn, failed=True)
            raise
        self._end(turn)
        return succeed(None)

    def _end(self, turn: Turn, *, failed: bool = False) -> None:
        sooner = self.live.dues.sooner
        self.live.end(turn, failed=failed)
        if failed:
            # Its rows are due as they were, and what failed would fail again at once, and again: the reactor would do nothing else.
            self.live.dues.sooner = sooner
            self._waking.arm()
        self._waking.look()

    def _submit(self, kind: Kind, record: Record, body: tuple[bytes, ...] = (), turn: Turn | None = None) -> Deferred[Position]:
        """Journal a transition; it is applied when it is durable, whoever still waits. Fires with its position. The turn ends then, and not
        with whoever waits: until the journal has spoken nobody knows what the rows are."""
        payload = encode(record, body)
        if len(payload) > MAX_PAYLOAD:
            raise SpoolError(f"a record of {len(payload)} bytes is too long for the journal")
        size = stored_length(len(payload), True)
        waiter: Deferred[Position] = Deferred()

        def done(position: Position | None, error: BaseException | None) -> None:
            if position is not None:
                try:
                    self.keeper.applied(kind, record, position, size)
                finally:
                    if turn is not None:
                        self.live.end(turn)
                waiter.callback(position)
                self._waking.look()
                return
            if turn is not None:
                self._end(turn, failed=True)
            waiter.errback(self._told(error))

        self._sync.submit(kind, payload, done)
        return waiter

    def _told(self, error: BaseException | None) -> BaseException:
        if isinstance(error, DiskFull):
            return error
        if not isinstance(error, LogBroken):
            return SpoolError(str(error))
        if not self._alarmed:
            self._alarmed = True
            self.log.critical("the queue's journal is broken: {error}", error=error)
            self._alarm("queue-broken", f"the queue's journal failed, restart the service: {error}")
        return SpoolBroken(str(error))

    def _body_gone(self, entry: Entry) -> None:
        self._recent.drop(entry.id)
        if entry.where is Where.FILE:
            self._files.thread(self._files.remove, entry.file)


def _message(entry: Entry) -> Message:
    """Of one with a claimed row: memory has it since that was claimed, and keeps it as long."""
    return entry.message or remains(entry)


def _slices(rows: Iterable[int]) -> Iterable[list[int]]:
    numbers = list(dict.fromkeys(rows))
    return (numbers[start : start + _SLICE] for start in range(0, len(numbers), _SLICE))
