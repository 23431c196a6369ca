"""The scheduler's lanes and the coroutines behind them, on a clock that tests advance."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Claim, RowKind, RowState, Settled
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.delivery.attempt.scheduler import Lane, Share
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.tasks import Tasks, pause, together, within
from hornetmail.testing.memory_queue import MemoryQueue


class Lanes(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = MemoryQueue(self.clock.seconds)
        self.ran: list[Claim] = []
        self.gates: list[Deferred[None]] = []

    async def run_gated(self, claim: Claim) -> None:
        self.ran.append(claim)
        gate: Deferred[None] = Deferred()
        self.gates.append(gate)
        await gate
        await self.queue.settle([Settled(row.id, RowState.DELIVERED) for row in claim.rows])

    def lane(self, limit: int = 10, share: Share | None = None) -> Lane:
        lane = Lane(
            self.clock,
            self.queue,
            (RowKind.DELIVER,),
            limit,
            self.run_gated,
            lambda row: self.clock.seconds() + 60,
            Underway(),
            share,
        )
        self.queue.wake(lane.wake)
        lane.start()
        return lane

    def accept(self, count: int = 1, to: str = "a@x.test") -> None:
        for _ in range(count):
            envelope = Envelope("", (Recipient(to),))
            self.queue.take(1, b"", envelope, Origin(Door.MX), Direction.IN, b"", "x.test", False, "", "")

    def test_wakes_at_once(self) -> None:
        """A message that waits for a poll."""
        self.lane()
        self.accept()
        assert len(self.ran) == 1

    def test_idle_is_idle(self) -> None:
        """Polling: an hour without mail costs more than a look every half minute."""
        self.lane()
        before = self.queue.claims
        for _ in range(3600):
            self.clock.advance(1)
        assert self.queue.claims - before <= 121

    def test_limit_and_refill(self) -> None:
        """More side by side than allowed; or a full lane that never goes on; or a claim for each end."""
        self.lane(limit=10)
        self.accept(30)
        assert len(self.ran) == 10
        claims = self.queue.claims
        for gate in self.gates[:5]:
            gate.callback(None)
        self.clock.advance(0.006)
        assert len(self.ran) == 15
        assert self.queue.claims - claims <= 7
        while any(not gate.called for gate in self.gates):
            for gate in list(self.gates):
                if not gate.called:
                    gate.callback(None)
            self.clock.advance(0.006)
        assert len(self.ran) == 30

    def share(self, limit: int, part: float = 0.2) -> Share:
        return Share(part, limit, lambda domain, address: address.rpartition("@")[2])

    def under_way(self) -> Counter[str]:
        """Attempts that did not end, by domain."""
        claims = [claim for claim, gate in zip(self.ran, self.gates, strict=True) if not gate.called]
        return Counter(claim.rows[0].address.rpartition("@")[2] for claim in claims)

    def test_share(self) -> None:
        """300 messages for one destination that hangs would keep the others waiting; the rest of them would wait for ever."""
        lane = self.lane(limit=10, share=self.share(10))
        self.accept(8)
        assert self.under_way() == {"x.test": 2}
        self.accept(3, "b@y.test")
        assert self.under_way() == {"x.test": 2, "y.test": 1}
        while any(not gate.called for gate in self.gates):
            assert lane.busy <= 3
            for gate in list(self.gates):
                if not gate.called:
                    gate.callback(None)
            self.clock.advance(0.006)
        assert len(self.ran) == 11

    def test_many_that_hang(self) -> None:
        """Five hanging destinations with a fifth of the lane each would fill it, twenty all the more, and all other mail would wait."""
        lane = self.lane(limit=300, share=self.share(300))
        held = []
        for number in range(25):
            self.accept(62, f"a@hang{number}.test")
            held.append(self.under_way()[f"hang{number}.test"])
        assert held[0] == 60
        assert sum(held[:5]) <= 300 * (1 - 0.8**5) + 1
        assert all(one <= other for one, other in zip(held[1:], held, strict=False))
        assert min(held) >= 1
        self.accept(1, "b@well.test")
        assert self.under_way()["well.test"] == 1, "it goes at once"
        assert lane.busy <= 300

    def test_many_that_hang_in_one_claim(self) -> None:
        """After a start everything is due at once: the shares hold within one claim too."""
        for number in range(10):
            self.accept(60, f"a@hang{number}.test")
        self.accept(1, "b@well.test")
        self.lane(limit=100, share=self.share(100))
        under_way = self.under_way()
        assert under_way["hang0.test"] == 20
        assert sum(under_way.values()) <= 100 * (1 - 0.8**10) + 1
        assert under_way["well.test"] == 1

    def test_one_message_to_several_destinations(self) -> None:
        """A recipient whose server hangs would keep the places of those elsewhere, whose mail is gone long since."""
        self.lane(limit=21, share=self.share(21, 0.05))
        for _ in range(2):
            envelope = Envelope("", (Recipient("a@hang.test"), Recipient("b@well.test")))
            self.queue.take(1, b"", envelope, Origin(Door.MX), Direction.OUT, b"", "x.test", False, "", "")
        assert self.under_way() == {"hang.test": 1, "well.test": 1}
        for _ in range(2):
            for claim, gate in zip(list(self.ran), list(self.gates), strict=True):
                if claim.rows[0].address == "b@well.test" and not gate.called:
                    gate.callback(None)
            self.clock.advance(0.006)
        assert self.under_way() == {"hang.test": 1}
        assert [claim.rows[0].address for claim in self.ran].count("b@well.test") == 2
        self.accept(1, "c@well.test")
        assert self.under_way() == {"hang.test": 1, "well.test": 1}

    def test_looks_when_rows_are_due(self) -> None:
        """Times that were not told to the lane, which change behind its back, or that pass while it looks away: the queue knows them, and the
        lane looks then and not oftener."""
        self.accept(3)
        for row, due in zip(list(self.queue.held.values()), (5.0, 1.0, 3.0), strict=True):
            self.queue.held[row.id] = msgspec.structs.replace(row, due=due)
        self.lane()
        looks = []
        claim = self.queue.claim

        async def counted(*args: Any) -> Any:
            looks.append(self.clock.seconds())
            return await claim(*args)

        self.queue.claim = counted  # type: ignore[method-assign]
        for _ in range(24):
            self.clock.advance(0.25)
        assert looks == [1.0, 3.0, 5.0]
        assert len(self.ran) == 3

    async def test_due_earlier(self) -> None:
        """A row that is made due earlier waits until the time that the lane knew."""
        self.accept()
        [row] = self.queue.held.values()
        self.queue.held[row.id] = msgspec.structs.replace(row, due=600.0)
        self.lane()
        self.clock.advance(1)
        assert not self.ran
        await self.queue.change([row.id], RowState.QUEUED, due=5.0)
        self.clock.advance(3.9)
        assert not self.ran
        self.clock.advance(0.2)
        assert len(self.ran) == 1

    def test_stop(self) -> None:
        """A stopped lane claims on, or does not wait for what is under way."""
        lane = self.lane()
        self.accept()
        stopping = Deferred.fromCoroutine(lane.stop(5.0))
        self.accept()
        assert len(self.ran) == 1
        self.assertNoResult(stopping)
        self.gates[0].callback(None)
        self.successResultOf(stopping)

    def test_claiming_that_fails(self) -> None:
        """A queue in trouble ends the lane for good."""

        async def broken(*args: Any) -> Any:
            raise OSError("disk")

        lane = self.lane()
        good, self.queue.claim = self.queue.claim, broken  # type: ignore[method-assign, assignment]
        self.accept()
        assert len(self.flushLoggedErrors(OSError)) >= 1
        self.queue.claim = good  # type: ignore[method-assign]
        self.clock.advance(31)
        assert len(self.ran) == 1
        assert lane.busy == 1


class Coroutines(TestCase):
    def test_within(self) -> None:
        """A time-out that does not cancel, or that hides another's cancellation."""
        clock = Clock()
        cancelled: list[bool] = []

        async def endless() -> None:
            try:
                await Deferred()
            except BaseException:
                cancelled.append(True)
                raise

        waiting = Deferred.fromCoroutine(within(clock, 5, endless()))
        clock.advance(5)
        self.failureResultOf(waiting, TimeoutError)
        assert cancelled == [True]
        assert not clock.getDelayedCalls()

    def test_together_waits_for_all(self) -> None:
        """The first error leaves the others running behind one's back."""
        gate: Deferred[None] = Deferred()

        async def fails() -> None:
            raise ValueError

        async def waits() -> None:
            await gate

        both = Deferred.fromCoroutine(together([fails(), waits()]))
        self.assertNoResult(both)
        gate.callback(None)
        self.failureResultOf(both, ValueError)

    def test_errors_are_logged(self) -> None:
        """A background error that nobody sees."""

        async def fails() -> None:
            raise KeyError("x")

        tasks = Tasks(Clock())
        self.successResultOf(tasks.start(fails(), "a test"))
        assert len(self.flushLoggedErrors(KeyError)) == 1
        assert len(tasks) == 0

    def test_pause(self) -> None:
        """A cancelled sleep leaves its call behind."""
        clock = Clock()
        waiting = Deferred.fromCoroutine(pause(clock, 5))
        waiting.cancel()
        self.failureResultOf(waiting)
        assert not clock.getDelayedCalls()
