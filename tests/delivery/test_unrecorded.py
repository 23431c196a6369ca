"""Rule 11: at most one second copy for each connection open at a crash."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.queued import Settled
from hornetmail.delivery.connections.pool import Limits
from hornetmail.delivery.connections.unrecorded import PATIENCE_SECONDS, Unrecorded
from tests.delivery.world import SLOW_MACHINE, WorldCase, reactor


class Connection:
    """Any object that is one."""


class Gate(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.unrecorded = Unrecorded(self.clock)
        self.one, self.other = Connection(), Connection()

    def dot(self, connection: Connection, *rows: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self.unrecorded.before_dot(connection, rows))

    def test_waits_for_the_record(self) -> None:
        """A second final dot on a connection whose last hand-over is not on disk; or one that waits though it is."""
        self.successResultOf(self.dot(self.one, 1, 2))
        self.successResultOf(self.dot(self.other, 3))
        second = self.dot(self.one, 4)
        self.unrecorded.recorded((1,))
        self.assertNoResult(second)
        self.unrecorded.recorded((3,))
        self.assertNoResult(second)
        self.unrecorded.recorded((2,))
        self.successResultOf(second)
        self.unrecorded.recorded((4,))
        self.successResultOf(self.dot(self.one, 5))
        assert not self.clock.getDelayedCalls()

    def test_a_further_transaction_of_the_same_message(self) -> None:
        """Rule 2's further transactions would wait for their own message."""
        self.successResultOf(self.dot(self.one, 1, 2))
        self.successResultOf(self.dot(self.one, 1, 2))

    def test_patience(self) -> None:
        """A disk that hangs: all mail would stand still."""
        self.successResultOf(self.dot(self.one, 1))
        second = self.dot(self.one, 2)
        self.clock.advance(PATIENCE_SECONDS - 0.1)
        self.assertNoResult(second)
        self.clock.advance(0.2)
        self.successResultOf(second)
        self.unrecorded.recorded((1,))

    def test_given_up(self) -> None:
        """A delivery that is cancelled while it waits leaves nothing behind that breaks when the record comes."""
        self.successResultOf(self.dot(self.one, 1))
        second = self.dot(self.one, 2)
        second.addErrback(lambda failure: None)
        second.cancel()
        self.unrecorded.recorded((1,))
        assert not self.clock.getDelayedCalls()


class Joined(WorldCase):
    settings = msgspec.structs.replace(SLOW_MACHINE, connections=Limits(most=1, first=1, idle=0.5, budget=1.0, rest=0.02))

    async def test_deliveries(self) -> None:
        """One connection, and a journal that takes its time: the second message's text may go over, its final dot may not."""
        await self.build()
        settle = self.queue.settle
        on_disk: Deferred[None] = Deferred()
        waited: list[Sequence[Settled]] = []

        async def slow(verdicts: Sequence[Settled]) -> None:
            waited.append(verdicts)
            if len(waited) == 1:
                await on_disk
            await settle(verdicts)

        self.queue.settle = slow  # type: ignore[method-assign]
        first = await self.send("alice@example.test")
        await self.until(lambda: waited, "the first is being recorded")
        second = await self.send("bob@example.test")
        await self.until(lambda: self.primary.seen.get("DATA") == 2, "the second is at its text")
        assert self.primary.seen["DOT"] == 1
        on_disk.callback(None)
        await self.gone(first)
        await self.gone(second)
        assert self.primary.seen["DOT"] == 2
        assert len({each.connection for each in self.primary.accepted}) == 1

    async def test_several_transactions(self) -> None:
        """One connection, messages of two transactions each: the second transaction of the first waits for the connection, which waits for the
        first message to be recorded."""
        await self.build()
        self.primary.script.most_recipients = 1
        began = reactor.seconds()
        for message in [await self.send("alice@example.test", "bob@example.test") for _ in range(4)]:
            await self.gone(message)
        assert reactor.seconds() - began < PATIENCE_SECONDS
        assert len(self.primary.accepted) == 8
