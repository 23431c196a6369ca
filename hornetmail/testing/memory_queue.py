"""A queue in memory for tests of delivery. It keeps the rules of the real one; nothing is durable."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
from zope.interface import implementer

from hornetmail.core.delivery.queued import DONE, Backlog, Claim, Message, Portal, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.interfaces.queue import IQueue
from hornetmail.spool.disk.errors import BodyLost

replace = msgspec.structs.replace


def page(
    held: Iterable[tuple[Message, Row]],
    *,
    domain: str = "",
    states: Collection[RowState] = (),
    kinds: Collection[RowKind] = (),
    message: int = 0,
    mailbox: int = 0,
    limit: int = 500,
    after: int = 0,
) -> Sequence[tuple[Message, Row]]:
    """Of what a queue holds, what ``IQueue.rows`` was asked for."""
    found = [
        (owner, row)
        for owner, row in sorted((pair for pair in held if message in (0, pair[1].message)), key=lambda pair: pair[1].id)
        if row.id > after
        and (not domain or owner.domain == domain or domain_of(row.address) == domain)
        and (not states or row.state in states)
        and (not kinds or row.kind in kinds)
        and (not mailbox or (row.portal is not None and row.portal.mailbox == mailbox))
    ]
    return found[:limit]


@implementer(IBody)
class MemoryBody:
    """Bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """See IBody."""
        return self._data[start:] if length < 0 else self._data[start : start + length]

    async def chunks(self) -> AsyncIterator[bytes]:
        """See IBody."""
        for start in range(0, len(self._data), 65_536):
            yield self._data[start : start + 65_536]


@implementer(IDeposit)
class _Deposit:
    def __init__(self, queue: MemoryQueue, tenant: int) -> None:
        self._queue = queue
        self._tenant = tenant
        self._parts: list[bytes] = []
        self.size = 0

    async def write(self, data: bytes) -> None:
        """See IDeposit."""
        self._parts.append(data)
        self.size += len(data)

    async def commit(
        self,
        envelope: Envelope,
        origin: Origin,
        direction: Direction,
        trace: bytes,
        *,
        domain: str,
        archive: bool,
        hold: str = "",
        request: str = "",
    ) -> Message:
        """See IQueue.begin."""
        return self._queue.take(
            self._tenant, b"".join(self._parts), envelope, origin, direction, trace, domain, archive, hold, request
        )

    async def abort(self) -> None:
        """See IDeposit."""
        self._parts = []


@implementer(IQueue)
class MemoryQueue:
    """``seconds`` is the clock. ``settled`` keeps every transition for tests to look at; ``left`` the messages that left; ``read_whole`` says how often
    rows were asked for with their envelopes, which the real one may have to read from disk."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._next = 1
        self.messages: dict[int, Message] = {}
        self.bodies: dict[int, bytes] = {}
        self.held: dict[int, Row] = {}
        self.facts: dict[str, dict[str, bytes]] = {}
        self.requests: dict[str, Message] = {}
        self.settled: list[Settled] = []
        self.left: list[int] = []
        self.claims = 0
        self.read_whole = 0
        self._listeners: list[Callable[[], None]] = []
        self._at_start: list[tuple[Message, Row]] = []
        self._claimed_at: dict[int, float] = {}
        self._interrupted: set[int] = set()
        self.lost: set[int] = set()
        """Messages whose body cannot be read any more."""

    def _number(self) -> int:
        self._next += 1
        return self._next

    def take(
        self,
        tenant: int,
        data: bytes,
        envelope: Envelope,
        origin: Origin,
        direction: Direction,
        trace: bytes,
        domain: str,
        archive: bool,
        hold: str,
        request: str,
    ) -> Message:
        """Accept a message."""
        if request and request in self.requests:
            return self.requests[request]
        now = self._seconds()
        message = Message(
            self._number(),
            tenant,
            envelope,
            origin,
            direction,
            now,
            len(data),
            hashlib.sha256(data).digest(),
            trace,
            domain,
            request,
        )
        self.messages[message.id] = message
        self.bodies[message.id] = data
        if request:
            self.requests[request] = message
        state = RowState.HELD if hold else RowState.QUEUED
        for number, recipient in enumerate(envelope.recipients):
            self._row(
                Row(self._number(), message.id, RowKind.DELIVER, state, recipient.address, number, now, 0, now, reason=hold)
            )
        if archive:
            self._row(Row(self._number(), message.id, RowKind.ARCHIVE, RowState.WAITING, queued=now))
        self._call()
        return message

    def _row(self, row: Row) -> None:
        self.held[row.id] = row

    def _call(self) -> None:
        for each in self._listeners:
            each()

    def begin(self, tenant: int, *, own: bool = False) -> _Deposit:
        """See IQueue."""
        return _Deposit(self, tenant)

    async def claim(
        self,
        now: float,
        limit: int,
        next_due: Callable[[Row], float],
        kinds: Collection[RowKind] = (),
        share: Any = None,
    ) -> Sequence[Claim]:
        """See IQueue."""
        self.claims += 1
        due = [r for r in self.held.values() if r.state is RowState.QUEUED and r.due <= now and (not kinds or r.kind in kinds)]
        if share is not None:
            taken: dict[str, int] = {}
            fitting = []
            for row in sorted(due, key=lambda r: (r.due, r.id)):
                goal = share.destination(self.messages[row.message].domain, row.address)
                if share.room(goal, taken) > 0:
                    taken[goal] = taken.get(goal, 0) + 1
                    fitting.append(row)
            due = fitting
        chosen = heapq.nsmallest(limit, due, key=lambda r: (r.due, r.id))
        return self._claimed(chosen, next_due)

    async def claim_rows(self, rows: Iterable[int], now: float, next_due: Callable[[Row], float]) -> Sequence[Claim]:
        """See IQueue."""
        found = [self.held[each] for each in rows if each in self.held]
        return self._claimed([r for r in found if r.state in (RowState.QUEUED, RowState.PARKED, RowState.STUCK)], next_due)

    def _claimed(self, rows: Sequence[Row], next_due: Callable[[Row], float]) -> list[Claim]:
        groups: dict[int, list[Row]] = {}
        for row in rows:
            claimed = replace(row, state=RowState.CLAIMED, attempts=row.attempts + 1)
            self.held[row.id] = replace(claimed, due=next_due(claimed))
            self._claimed_at[row.id] = self._seconds()
            groups.setdefault(row.message, []).append(self.held[row.id])
        return [Claim(self.messages[number], tuple(members)) for number, members in groups.items()]

    async def settle(self, verdicts: Sequence[Settled]) -> None:
        """See IQueue. A drain row born with ``due`` 0 is parked."""
        if any(one.state in (RowState.CLAIMED, RowState.WAITING) for one in verdicts):
            raise ValueError("a row is claimed by claim, and waits from its birth")
        touched = set()
        for one in verdicts:
            self.settled.append(one)
            row = self.held.get(one.row)
            if row is None or row.state in DONE:
                continue
            touched.add(row.message)
            self._interrupted.discard(row.id)
            told = row.delay_told or one.delay_told
            self.held[row.id] = replace(
                row,
                state=one.state,
                due=one.due,
                last=one.verdict or row.last,
                reason=one.reason,
                delay_told=told,
                waits_for=WaitsFor.NOTHING if one.drain is not None else one.waits_for,
                staged=one.staged or row.staged,
                unheard=max(row.unheard, one.unheard),
            )
            if one.state is RowState.QUEUED and not one.due:
                self.held[row.id] = replace(self.held[row.id], due=self._seconds())
            if one.drain is not None and not self._born(row.message, one.drain):
                state = RowState.QUEUED if one.due else RowState.PARKED
                now = self._seconds()
                self._row(
                    Row(
                        self._number(),
                        row.message,
                        RowKind.DRAIN,
                        state,
                        row.address,
                        row.number,
                        one.due,
                        0,
                        now,
                        portal=one.drain,
                        waits_for=one.waits_for,
                        unheard=max(row.unheard, one.unheard),
                    )
                )
            if row.kind is RowKind.DELIVER:
                self._wake_archive(row.message)
        for number in touched:
            self._leave(number)
        self._call()

    def _born(self, message: int, copy: Portal) -> bool:
        """Whether that copy has its drain row: the same settlement may be asked for twice."""
        known = (row.portal for row in self.held.values() if row.message == message and row.portal is not None)
        return any((portal.mailbox, portal.name) == (copy.mailbox, copy.name) for portal in known)

    def _wake_archive(self, message: int) -> None:
        rows = [row for row in self.held.values() if row.message == message]
        delivering = [row for row in rows if row.kind is RowKind.DELIVER]
        for row in rows:
            if row.kind is RowKind.ARCHIVE and row.state is RowState.WAITING:
                if any(each.state is RowState.DELIVERED for each in delivering):
                    self.held[row.id] = replace(row, state=RowState.QUEUED, due=self._seconds())
                elif all(each.state in DONE for each in delivering):
                    self.held[row.id] = replace(row, state=RowState.REMOVED)

    def _leave(self, number: int) -> None:
        rows = [row for row in self.held.values() if row.message == number]
        if all(row.state in DONE for row in rows):
            for row in rows:
                del self.held[row.id]
            self.left.append(number)
            self.bodies.pop(number, None)

    def restart(self) -> None:
        """The process died: claims become what they are after a start."""
        self._listeners.clear()
        self._at_start = [
            (self.messages[row.message], replace(row, state=RowState.CLAIMED))
            for row in self.held.values()
            if row.state is RowState.CLAIMED or (row.id in self._interrupted and row.state is RowState.QUEUED)
        ]
        for _, row in self._at_start:
            self.held[row.id] = replace(row, state=RowState.QUEUED)
            self._interrupted.add(row.id)

    async def queue_copy(
        self, copy: Portal, envelope: Envelope, address: str, *, tenant: int, domain: str, arrived: float, size: int, due: float
    ) -> Message:
        """See IQueue."""
        now = self._seconds()
        message = Message(
            self._number(), tenant, envelope, Origin(Door.REDELIVERY), Direction.IN, arrived, size, b"", b"", domain
        )
        self.messages[message.id] = message
        state = RowState.QUEUED if due else RowState.PARKED
        self._row(Row(self._number(), message.id, RowKind.DRAIN, state, address, 0, due, 0, now, portal=copy))
        self._call()
        return message

    def claimed_at_start(self) -> Sequence[tuple[Message, Row]]:
        """See IQueue."""
        return tuple(self._at_start)

    async def body(self, message: int) -> MemoryBody:
        """See IQueue."""
        if message in self.lost:
            raise BodyLost(f"the body of {message} is lost")
        return MemoryBody(self.bodies[message])

    async def change(self, rows: Iterable[int], state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        """See IQueue."""
        if state in (RowState.CLAIMED, RowState.WAITING):
            raise ValueError(f"rows cannot be made {state} by hand")
        changed = 0
        for each in rows:
            row = self.held.get(each)
            if row is None or row.state is RowState.CLAIMED or row.state in DONE:
                continue
            if row.state not in (RowState.WAITING, RowState.HOME) or state is RowState.REMOVED:
                at = due or self._seconds() if state is RowState.QUEUED else due
                waits_for = WaitsFor.NOTICE if row.waits_for is WaitsFor.NOTICE else WaitsFor.NOTHING
                self.held[each] = replace(row, state=state, due=at, reason=reason, waits_for=waits_for)
                self._leave(row.message)
                changed += 1
        self._call()
        return changed

    async def adopt(self, domain: str, now: float) -> int:
        """See IQueue."""
        adopted = [
            row
            for row in self.held.values()
            if row.kind is RowKind.DELIVER
            and row.state is RowState.QUEUED
            and self.messages[row.message].direction is not Direction.OUT
            and domain in (self.messages[row.message].domain, domain_of(row.address))
        ]
        for row in adopted:
            self.held[row.id] = replace(row, due=now)
        self._call()
        return len(adopted)

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
        """See IQueue."""
        self.read_whole += envelopes
        return page(
            ((self.messages[row.message], row) for row in self.held.values()),
            domain=domain,
            states=states,
            kinds=kinds,
            message=message,
            mailbox=mailbox,
            limit=limit,
            after=after,
        )

    async def remember(self, space: str, key: str, value: bytes | None) -> None:
        """See IQueue."""
        if value is None:
            self.facts.get(space, {}).pop(key, None)
        else:
            self.facts.setdefault(space, {})[key] = value

    def remembered(self, space: str) -> dict[str, bytes]:
        """See IQueue."""
        return dict(self.facts.get(space, {}))

    def backlog(self, tenant: int = 0) -> Backlog:
        """See IQueue."""
        mine = [row for row in self.held.values() if not tenant or self.messages[row.message].tenant == tenant]
        live = [row for row in mine if row.state not in DONE]
        count = {kind: sum(1 for row in live if row.kind is kind) for kind in RowKind}
        messages = len({row.message for row in live})
        return Backlog(messages, count[RowKind.DELIVER], count[RowKind.DRAIN], count[RowKind.ARCHIVE])

    def next_due(self, kinds: Collection[RowKind] = ()) -> float | None:
        """See IQueue."""
        queued = (row.due for row in self.held.values() if row.state is RowState.QUEUED and (not kinds or row.kind in kinds))
        return min(queued, default=None)

    def wake(self, listener: Callable[[], None]) -> None:
        """See IQueue; called at once, and not by the clock: tests turn it themselves."""
        self._listeners.append(listener)

    def claimed_for(self, seconds: float) -> Sequence[tuple[Message, Row]]:
        """See IQueue."""
        before = self._seconds() - seconds
        old = sorted((since, number) for number, since in self._claimed_at.items() if since < before)
        rows = [self.held[number] for _, number in old if number in self.held]
        return [(self.messages[row.message], row) for row in rows if row.state is RowState.CLAIMED]

    async def reclaim(self, rows: Iterable[int]) -> Sequence[tuple[Message, Row]]:
        """See IQueue."""
        found = [self.held[number] for number in dict.fromkeys(rows) if number in self.held]
        taken = [(self.messages[row.message], row) for row in found if row.state is RowState.CLAIMED]
        for _, row in taken:
            self.held[row.id] = replace(row, state=RowState.QUEUED)
            self._interrupted.add(row.id)
        self._call()
        return taken

    def all(self, kind: RowKind, *states: RowState) -> list[Row]:
        """Rows of a kind in these states (any, if none)."""
        return [row for row in self.held.values() if row.kind is kind and (not states or row.state in states)]
