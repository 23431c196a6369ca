"""Mail that comes in: from a body that has arrived to a message that is the queue's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from hornetmail.core.delivery.queued import Message, Portal, RowKind, RowState
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.records import Position
from hornetmail.spool.disk.bodies import BodyFiles, Recent
from hornetmail.spool.disk.deposit import Arrived, Deposit
from hornetmail.spool.disk.errors import SpoolError
from hornetmail.spool.disk.journal import Kind, LiveRow, Snapshot, Where
from hornetmail.spool.rows.live import REQUESTS, Live, request_fact


class Room:
    """Whether the disk under ``directory`` has at least the share ``least_free`` left; asked of the disk once a second at most."""

    def __init__(self, reactor: Any, disk: Disk, directory: Path, least_free: float) -> None:
        self.least_free = least_free
        self._reactor = reactor
        self._disk = disk
        self._directory = directory
        self._asked, self._free = 0.0, 1.0
        self.elsewhere: Callable[[], str] = lambda: ""
        """Why no mail can be taken because of another disk that it has to go to, ``""`` if it can."""

    def check(self, *, own: bool = False) -> None:
        """Raises DiskFull. A letter of our ``own`` has half of that share: it may say just this."""
        now = self._reactor.seconds()
        if now - self._asked >= 1.0 or now < self._asked:
            self._asked, self._free = now, self._disk.free_fraction(self._directory)
        if not own and (why := self.elsewhere()):
            raise DiskFull(why)
        if self._free < self.least_free / (2 if own else 1):
            raise DiskFull(f"less than {self.least_free:.0%} of the queue's disk is free")


class Arrivals:
    """``submit`` journals a record, ``check`` raises when the queue takes nothing any more."""

    def __init__(
        self,
        reactor: Any,
        live: Live,
        files: BodyFiles,
        recent: Recent,
        room: Room,
        next_id: Callable[[], int],
        submit: Callable[..., Deferred[Position]],
        check: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._live = live
        self._files = files
        self._recent = recent
        self._room = room
        self._next_id = next_id
        self._submit = submit
        self._check = check
        self._requests: dict[str, list[Deferred[Message]]] = {}

    def begin(self, tenant: int, *, own: bool = False) -> Deposit:
        """A new message. ``own``: see ``Room.check``."""

        def room() -> None:
            self._check()
            self._room.check(own=own)

        return Deposit(self._accept, room, self._next_id, self._files, tenant)

    async def back(
        self, copy: Portal, envelope: Envelope, address: str, tenant: int, domain: str, arrived: float, size: int, due: float
    ) -> Message:
        """See IQueue.take_back. In the journal it is a message accepted without a body."""
        self._check()
        now, number = self._reactor.seconds(), self._next_id()
        message = Message(
            number, tenant, envelope, Origin(Door.REDELIVERY), Direction.IN, arrived, size, b"", b"", domain
        )  # fmt: skip
        state = RowState.QUEUED if due else RowState.PARKED
        row = LiveRow(
            self._next_id(), number, RowKind.DRAIN, state, address, 0, due, queued=now, portal=copy, mark=self._live.up()
        )  # fmt: skip
        await self._submit(Kind.ACCEPTED, Snapshot(message, [row], Where.NOWHERE))
        return message

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
            message = Message(
                self._next_id(), arrived.tenant, envelope, origin, direction, self._reactor.seconds(), arrived.size, arrived.sha256,
                trace, domain, request,
            )  # fmt: skip
            record = Snapshot(message, self._rows(message, archive, hold), arrived.where, arrived.file)
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

    def _rows(self, message: Message, archive: bool, hold: str) -> list[LiveRow]:
        now, up = message.arrived, self._live.up()
        state = RowState.HELD if hold else RowState.QUEUED
        rows = [
            LiveRow(
                self._next_id(),
                message.id,
                RowKind.DELIVER,
                state,
                recipient.address,
                number,
                now,
                queued=now,
                reason=hold,
                mark=up,
            )
            for number, recipient in enumerate(message.envelope.recipients)
        ]
        if archive:
            rows.append(LiveRow(self._next_id(), message.id, RowKind.ARCHIVE, RowState.WAITING, queued=now, mark=up))
        if not rows:
            raise ValueError("a message needs a recipient or an archive row")
        return rows

    async def _first(self, request: str) -> Message | None:
        """The message that a request already is; None if this is the first, whom later ones wait for."""
        known = self._live.requests.get(request)
        if known is not None and (message := self._live.messages[known].message) is not None:
            return message
        left = self._live.facts.get(REQUESTS, {}).get(request)
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
