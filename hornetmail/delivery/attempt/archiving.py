"""An attempt for a message's ARCHIVE row: stages it, and comes back for recipients that are still under way (step 7)."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Claim, Message, Row, RowState, Settled
from hornetmail.core.delivery.route import ARCHIVE
from hornetmail.core.events import Alarm
from hornetmail.core.failover.verdict import Outcome
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.couriers.archive import ArchiveCourier
from hornetmail.spool.disk.errors import BodyLost

QUICK_LOOKS = 3
QUICK_LOOK = 0.5
"""An archive row whose message is just being delivered to others looks again that many times after that many seconds."""


class Archiving:
    """See the module."""

    log = Logger()

    def __init__(self, ground: Ground, record: Record, retry: Retry, archive: ArchiveCourier) -> None:
        self._ground = ground
        self._record = record
        self._retry = retry
        self._archive = archive

    async def run(self, claim: Claim) -> None:
        """An attempt for claimed ARCHIVE rows. What a cancelled one did not come to know is tried again: staging twice is staging once."""
        for row in claim.rows:
            try:
                settled = await self._attempt(claim.message, row)
            except CancelledError:
                raise
            except BodyLost as error:
                settled = self._lost(claim.message, row, error)
            except Exception:  # noqa: BLE001 - a fault of ours delays archiving
                self.log.failure("archive row {row} failed", row=row.id)
                settled = Settled(row.id, RowState.QUEUED, row.last, self._retry.again(row), reason=row.reason)
            await self._record.put([settled])

    def _lost(self, message: Message, row: Row, error: BodyLost) -> Settled:
        reason = f"it cannot be archived, its text cannot be read any more ({error})"
        self._ground.bus.publish(Alarm("message-lost", f"message {message.id}: {reason}", message.domain))
        return Settled(row.id, RowState.HELD, row.last, reason=reason)

    async def _attempt(self, message: Message, row: Row) -> Settled:
        now, ceiling = self._ground.clock.seconds(), self._retry.backoff.ceiling
        standing = await self._archive.standing(message)
        if not standing.entitled and not standing.pending:
            return Settled(row.id, RowState.REMOVED, None, reason="nobody in the service's scope got it (A20)")
        if row.attempts <= QUICK_LOOKS and any(each.state is RowState.CLAIMED for each in standing.pending):
            # Most recipients of one message are delivered within a second: one record for all of them is cheaper.
            return Settled(row.id, RowState.QUEUED, row.last, now + QUICK_LOOK, reason=row.reason)
        body = await self._ground.queue.body(message.id)
        verdict = await self._archive.stage(message, row, standing, body)
        self._ground.meters.count("delivery_attempts", courier=ARCHIVE, outcome=str(verdict.outcome))
        if verdict.outcome is not Outcome.DELIVERED:
            return Settled(row.id, RowState.QUEUED, verdict, self._retry.again(row), reason=row.reason)
        if not standing.pending:
            return Settled(row.id, RowState.DELIVERED, verdict, staged=standing.staged)
        # Those still under way are united with the record when they got it.
        soonest = min((each.due for each in standing.pending if each.due > now), default=now + ceiling)
        return Settled(row.id, RowState.QUEUED, verdict, min(soonest + 30.0, now + ceiling), staged=standing.staged)
