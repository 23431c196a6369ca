"""After a crash: what became of the attempts that it cut off (design, "Steps that touch two stores"; rule 11). Runs before IMAP and POP listen.

* A drain copy that is gone from INBOX is settled; another may be at the primary already and is handed over again, among the last.
* A recipient whose copy reached the portal, but not the queue's record, gets that record and its drain row now: tried anew it might be
  delivered to a primary that came back meanwhile, and lie in INBOX for ever besides.
* Everything else is tried anew, at once; archive tokens keep it single.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.address import domain_of
from hornetmail.core.backoff import Backoff
from hornetmail.core.mode import Mode
from hornetmail.core.queued import Message, Portal, Row, RowKind, RowState, Settled
from hornetmail.core.reply import Reply
from hornetmail.core.route import PORTAL, PRIMARY
from hornetmail.core.verdict import Outcome, Stage, Verdict
from hornetmail.delivery.moved import Moved
from hornetmail.interfaces import IBody, IDirectory, IModes, IPortal, IQueue


class _Absent(OSError):
    """The copy is not there."""


@implementer(IBody)
class _NoBody:
    """Asks the portal whether it has a row's copy: ``deliver`` answers with it, or wants a body and gets none."""

    size = 0

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """Never."""
        raise _Absent

    async def chunks(self) -> AsyncIterator[bytes]:
        """Never."""
        raise _Absent
        yield b""


class Recovery:
    """Settles ``queue.claimed_at_start()``."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        portal: IPortal,
        directory: IDirectory,
        modes: IModes,
        moved: Moved,
        backoff: Backoff,
        jitter: Callable[[], float],
        expect: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._portal = portal
        self._directory = directory
        self._modes = modes
        self._moved = moved
        self._backoff = backoff
        self._jitter = jitter
        self._expect = expect

    async def run(self) -> int:
        """How many rows there were."""
        rows: Sequence[tuple[Message, Row]] = self._queue.claimed_at_start()
        settled: list[Settled] = []
        for message, row in rows:
            try:
                settled.append(
                    await self._drained(message, row) if row.kind is RowKind.DRAIN else await self._tried(message, row)
                )
            except Exception:  # noqa: BLE001 - it is tried again at its recorded time then
                self.log.failure("row {row} could not be looked into after the restart", row=row.id)
        if settled:
            await self._queue.settle(settled)
            self.log.info("{count} attempts were cut off by the last stop and are settled", count=len(settled))
        return len(rows)

    def _later(self, row: Row) -> float:
        due = self._clock.seconds() + self._backoff.delay(max(row.attempts, 1), self._jitter())
        self._expect(due)
        return due

    async def _drained(self, message: Message, row: Row) -> Settled:
        assert row.portal is not None
        if await self._portal.begin_drain(row.portal) is None:
            await self._moved.note(message, row)
            return Settled(row.id, RowState.REMOVED, row.last, reason="gone from the portal before the restart")
        await self._portal.end_drain(row.portal, delivered=False)
        reply = Reply(451, "4.4.2", "the service stopped during the hand-over")
        return Settled(row.id, RowState.QUEUED, Verdict(Outcome.UNCERTAIN, reply, PRIMARY, Stage.DOT), self._later(row))

    async def _tried(self, message: Message, row: Row) -> Settled:
        copy = await self._copy(message, row) if row.kind is RowKind.DELIVER else None
        if copy is None:
            return Settled(row.id, RowState.QUEUED, row.last, self._clock.seconds(), reason=row.reason, delay_told=row.delay_told)
        domain = self._directory.domain(domain_of(row.address))
        verdict = Verdict(Outcome.DELIVERED, Reply(250, "2.0.0", "in the portal"), PORTAL)
        if domain is None or not domain.primaries:
            return Settled(row.id, RowState.DELIVERED, verdict)
        parked = self._modes.mode(domain.name) is Mode.EMERGENCY
        return Settled(row.id, RowState.DELIVERED, verdict, 0.0 if parked else self._later(row), copy)

    async def _copy(self, message: Message, row: Row) -> Portal | None:
        mailbox = self._directory.mailbox(row.address)
        if mailbox is None:
            return None
        try:
            # Marked as uncertain: whether the primary has it too, nobody knows any more.
            return await self._portal.deliver(mailbox.id, message, row, _NoBody(), uncertain=True)
        except _Absent:
            return None
