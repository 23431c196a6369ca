"""After a crash: what became of the attempts that it cut off (design, "Steps that touch two stores"; rule 11). Runs before IMAP and POP listen.

* A drain copy that is gone from INBOX is settled; another may be at the primary already and is handed over again, among the last.
* A recipient whose copy reached the portal, but not the queue's record, gets that record and its drain row now: tried anew it might be
  delivered to a primary that came back meanwhile, and lie in INBOX for ever besides.
* Everything else is tried anew, at once: as uncertain if it may have been at the primary; archive tokens keep it single.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.address import domain_of
from hornetmail.core.backoff import Backoff
from hornetmail.core.mode import Mode
from hornetmail.core.queued import Message, Row, RowKind, RowState, Settled
from hornetmail.core.reply import Reply
from hornetmail.core.route import PORTAL, PRIMARY
from hornetmail.core.verdict import Outcome, Stage, Verdict
from hornetmail.delivery.home.returned import Returned
from hornetmail.interfaces import IDirectory, IModes, IPortal, IQueue


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
        returned: Returned,
        backoff: Backoff,
        jitter: Callable[[], float],
        expect: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._portal = portal
        self._directory = directory
        self._modes = modes
        self._returned = returned
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
            except Exception:  # noqa: BLE001 - it is tried again at its recorded time
                self.log.failure("row {row} could not be looked into after the restart", row=row.id)
                settled.append(self._unknown(row, max(row.due, self._clock.seconds())))
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
            await self._returned.note(message, row)
            return Settled(row.id, RowState.REMOVED, row.last, reason="gone from the portal before the restart")
        await self._portal.end_drain(row.portal, delivered=False)
        return self._unknown(row, self._later(row))

    def _unknown(self, row: Row, due: float) -> Settled:
        """Tried again; where a primary was or may have been dialled, it may have the message (rules 1 and 11)."""
        last = row.last
        if row.kind is RowKind.DRAIN or (row.kind is RowKind.DELIVER and self._dials_primary(row)):
            reply = Reply(451, "4.4.2", "the service stopped during the hand-over")
            last = Verdict(Outcome.UNCERTAIN, reply, PRIMARY, Stage.DOT)
        return Settled(row.id, RowState.QUEUED, last, due, reason=row.reason, delay_told=row.delay_told, waits_for=row.waits_for)

    def _dials_primary(self, row: Row) -> bool:
        domain = self._directory.domain(domain_of(row.address))
        return domain is not None and bool(domain.primaries)

    async def _tried(self, message: Message, row: Row) -> Settled:
        mailbox = self._directory.mailbox(row.address) if row.kind is RowKind.DELIVER else None
        found = await self._portal.received(mailbox.id, row) if mailbox is not None else None
        if found is None:
            return self._unknown(row, self._clock.seconds())
        # Marked as uncertain: whether the primary has it too, nobody knows any more.
        copy = msgspec.structs.replace(found, uncertain=True)
        domain = self._directory.domain(domain_of(row.address))
        verdict = Verdict(Outcome.DELIVERED, Reply(250, "2.0.0", "in the portal"), PORTAL)
        if domain is None or not domain.primaries:
            return Settled(row.id, RowState.DELIVERED, verdict)
        parked = self._modes.mode(domain.name) is Mode.EMERGENCY
        return Settled(
            row.id, RowState.DELIVERED, verdict, 0.0 if parked else self._clock.seconds() + self._backoff.patience(), copy
        )
