"""What became of attempts that nobody works on (design, "Steps that touch two stores"; rule 11): those that a crash cut off, before IMAP and POP
listen, and, while the service runs, those that will never end.

* A drain copy that is gone from INBOX is settled; another may be at the primary already and is handed over again, among the last.
* A recipient whose copy reached the portal, but not the queue's record, gets that record and its drain row now: tried anew it might be
  delivered to a primary that came back meanwhile, and lie in INBOX for ever besides.
* Everything else is tried anew, at once: as uncertain if it may have been at the primary; archive tokens keep it single.

A claim is taken back when no work belongs to it (a fault between claim and work, a cancelled wait), and when its work lasts longer than any attempt
can: that is cut off first. What ``Record`` knows is not asked again, however long it cannot be recorded.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.delivery.route import PORTAL, PRIMARY
from hornetmail.core.events import Alarm
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.tasks import within
from hornetmail.interfaces.portal import IPortal

ORPHANED_SECONDS = 60.0
"""A claim with no work behind it is taken back after this: work begins a moment after its claim is on disk."""

LOOK_SECONDS = 60.0
"""For looking into the portal; longer, and the row is tried again without."""

SLOWEST = 4096.0
"""Bytes a second that an attempt makes at least, if it gets anywhere."""


class Recovery:
    """``longest``: seconds that an attempt can last besides the time that its text takes on the way."""

    log = Logger()

    def __init__(
        self,
        ground: Ground,
        record: Record,
        retry: Retry,
        portal: IPortal,
        returned: Returned,
        underway: Underway,
        longest: float,
        orphaned: float = ORPHANED_SECONDS,
    ) -> None:
        self._ground = ground
        self._record = record
        self._retry = retry
        self._portal = portal
        self._returned = returned
        self._underway = underway
        self._longest = longest
        self._orphaned = orphaned

    async def run(self) -> int:
        """Settle ``queue.claimed_at_start()``; how many rows there were."""
        rows: Sequence[tuple[Message, Row]] = self._ground.queue.claimed_at_start()
        await self._settle(rows, "after the restart")
        if rows:
            self.log.info("{count} attempts were cut off by the last stop and are settled", count=len(rows))
        return len(rows)

    async def sweep(self) -> int:
        """Take back claims whose attempt will not end; how many. An alarm tells of them."""
        lost = [(message, row) for message, row in self._ground.queue.claimed_for(self._orphaned) if not self._is_alive(row)]
        hung = [(message, row) for message, row in self._ground.queue.claimed_for(self._longest) if self._hangs(message, row)]
        for _, row in hung:
            self._underway.cut(row.id)
        # What was known of one is being recorded now, or is on record already.
        hung = [each for each in hung if not self._record.holds(each[1].id) and self._hangs(*each, cut=True)]
        found = [*lost, *hung]
        if found:
            shown = ", ".join(f"<{row.address or message.envelope.sender}>" for message, row in found[:5])
            text = f"{len(found)} attempts did not end and are taken back, among them those for {shown}"
            self.log.error("{text}", text=text)
            self._ground.bus.publish(Alarm("attempt-lost", text))
            await self._settle(found, "when its attempt was taken back")
        return len(found)

    def _hangs(self, message: Message, row: Row, *, cut: bool = False) -> bool:
        """Whether its attempt lasts for longer than one can, or did so until it was ``cut``."""
        limit = self._longest + message.size / SLOWEST
        claimed = any(row.id == other.id for _, other in self._ground.queue.claimed_for(limit))
        return claimed and (cut or row.id in self._underway)

    def _is_alive(self, row: Row) -> bool:
        return row.id in self._underway or self._record.holds(row.id)

    async def _settle(self, rows: Sequence[tuple[Message, Row]], when: str) -> None:
        tried: list[Deferred[None]] = []
        for message, row in rows:
            asked = self._drained(message, row) if row.kind is RowKind.DRAIN else self._tried(row)
            try:
                one = await within(self._ground.clock, LOOK_SECONDS, asked)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - it is tried again at its recorded time
                self.log.failure("row {row} could not be looked into {when}", row=row.id, when=when)
                one = self._unknown(row, max(row.due, self._ground.clock.seconds()))
            # What is found out of one does not wait for the look at the next; the records share their syncs.
            tried.append(self._record.put([one]))
        for each in tried:
            await each

    async def _drained(self, message: Message, row: Row) -> Settled:
        assert row.portal is not None
        if await self._portal.begin_drain(row.portal) is None:
            await self._returned.note(message, row)
            return Settled(row.id, RowState.REMOVED, row.last, reason="gone from the portal before its hand-over was settled")
        await self._portal.end_drain(row.portal, delivered=False)
        return self._unknown(row, self._retry.again(row))

    def _unknown(self, row: Row, due: float) -> Settled:
        """Tried again; where a primary was or may have been dialled, it may have the message (rules 1 and 11)."""
        last = row.last
        if row.waits_for is WaitsFor.NOTICE:
            due = self._ground.clock.seconds()  # nobody was dialled
        elif row.kind is RowKind.DRAIN or (row.kind is RowKind.DELIVER and self._dials_primary(row)):
            reply = Reply(451, "4.4.2", "the service stopped during the hand-over, or lost sight of it")
            last = Verdict(Outcome.UNCERTAIN, reply, PRIMARY, Stage.DOT)
        return Settled(row.id, RowState.QUEUED, last, due, reason=row.reason, delay_told=row.delay_told, waits_for=row.waits_for)

    def _dials_primary(self, row: Row) -> bool:
        domain = self._ground.directory.domain(domain_of(row.address))
        return domain is not None and bool(domain.primaries)

    async def _tried(self, row: Row) -> Settled:
        mailbox = self._ground.directory.mailbox(row.address) if row.kind is RowKind.DELIVER else None
        found = await self._portal.received(mailbox.id, row) if mailbox is not None else None
        if found is None:
            return self._unknown(row, self._ground.clock.seconds())
        # Marked as uncertain: whether the primary has it too, nobody knows any more.
        copy = msgspec.structs.replace(found, uncertain=True)
        domain = self._ground.directory.domain(domain_of(row.address))
        verdict = Verdict(Outcome.DELIVERED, Reply(250, "2.0.0", "in the portal"), PORTAL)
        if domain is None or not domain.primaries:
            return Settled(row.id, RowState.DELIVERED, verdict)
        due = 0.0 if self._ground.in_emergency(domain.name) else self._ground.clock.seconds() + self._retry.backoff.patience()
        return Settled(row.id, RowState.DELIVERED, verdict, due, copy)
