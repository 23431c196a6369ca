"""A lane on the real queue: rows that wait for room at their destination are looked at again, however claims and ends of attempts fall."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from hornetmail.core.delivery.queued import Claim, RowKind
from hornetmail.delivery.attempt.scheduler import Lane, Share
from hornetmail.delivery.attempt.underway import Underway
from tests.spool.test_queue import Base, never


class LostWake(Base):
    timeout = 240

    async def test_ends_while_it_claims(self) -> None:
        """Two of five go to a destination that may have two. The first ends, the lane claims the third, for which there is room, and while that is being
        recorded the second ends: the lane was told by nobody that others wait, and when the third ended nobody looked any more. Mail lay in the queue until
        the next message came."""
        queue = await self.open()
        ran: list[Claim] = []
        gates: list[Deferred[None]] = []
        begun: list[Deferred[None]] = [Deferred() for _ in range(5)]

        async def run(claim: Claim) -> None:
            ran.append(claim)
            gates.append(Deferred())
            begun[len(ran) - 1].callback(None)
            await gates[-1]

        share = Share(0.2, 10, lambda domain, address: "there")
        lane = Lane(reactor, queue, (RowKind.DELIVER,), 10, run, never, Underway(), share)  # type: ignore[arg-type]
        for _ in range(5):
            await self.accept(queue)
        queue.wake(lane.wake)
        lane.start()
        await begun[1]
        assert len(ran) == 2
        claim = queue.claim
        claimed: list[int] = []

        async def claim_and_end(*arguments: Any, **keywords: Any) -> Any:
            recording = Deferred.fromCoroutine(claim(*arguments, **keywords))
            if not claimed:
                assert not recording.called
                gates[1].callback(None)  # it ends while the claim is on its way to the disk
            claims = await recording
            claimed.append(len(claims))
            return claims

        queue.claim = claim_and_end  # type: ignore[method-assign]
        gates[0].callback(None)
        await begun[2]
        assert claimed == [1], "room for one"
        gates[2].callback(None)
        await begun[3]
        await begun[4]
        gates[3].callback(None)
        gates[4].callback(None)
        await lane.stop(1.0)
        assert len({each.message.id for each in ran}) == 5
