"""The pool at its limits (rule 2): how many connections, for how long, and whose fault it is when there is none."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.failover.verdict import Stage
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.delivery.connections.pool import Limits, Pool
from hornetmail.net.clients.smtp import Broken
from tests.delivery.test_pool import Network, gone

A, B = Host("a.test"), Host("b.test")


class Bounds(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network()
        self.heard: list[tuple[Host, bool]] = []
        self.gates: list[Deferred[None]] = []
        limits = Limits(most=4, first=2, idle=30.0, budget=20.0, rest=1.0, uses=3)
        told = lambda host, up, reason: self.heard.append((host, up))  # noqa: E731
        self.pool = Pool(self.clock, None, "mx.test", connect=self.network.connect, limits=limits, told=told)

    def destination(self, *hosts: Host) -> Any:
        return self.pool.destination(hosts or (A,), TLSPolicy.NONE)

    def run_job(self, destination: Any, job: Any = None, but: Any = ()) -> Deferred[Any]:
        return Deferred.fromCoroutine(destination.exchange(job or self.ok, but))

    async def ok(self, client: Any) -> str:
        client.used += 1
        return str(client.host)

    async def gated(self, client: Any) -> str:
        gate: Deferred[None] = Deferred()
        self.gates.append(gate)
        await gate
        return await self.ok(client)

    def open(self) -> None:
        """All that are under way end well, and those that wait have their turn."""
        gates, self.gates = self.gates, []
        for gate in gates:
            gate.callback(None)
        self.clock.advance(0)

    def test_one_more_for_each_message_that_went_well(self) -> None:
        """Would catch a server that gets all connections at once, one that never gets more, and one more than it was to have."""
        destination = self.destination()
        running = [self.run_job(destination, self.gated) for _ in range(20)]
        for at_work in (2, 4, 4, 4):
            assert (len(self.gates), destination.busy) == (at_work, at_work)
            self.open()
        assert destination.ceiling == 4
        while self.gates:
            self.open()
        assert all(self.successResultOf(each) == "a.test:25" for each in running)
        assert destination.busy == 0

    def test_places_that_are_handed_on(self) -> None:
        """Would catch a turn of the reactor for each of hundreds that end at once (a host that is gone), where one hands all their places on."""
        destination = self.destination()
        for _ in range(8):
            self.run_job(destination, self.gated)
        for gate in self.gates[:2]:
            gate.callback(None)
        assert len([call for call in self.clock.getDelayedCalls() if call.getTime() == self.clock.seconds()]) == 1
        self.clock.advance(0)
        assert len(self.gates) == 6

    def test_too_many_at_once(self) -> None:
        """Would catch a greeting of 421 beside connections at work that is taken for an outage, one with nobody beside it that is waited out, one in
        the middle of a dialogue that is tried again and again, and a wait beyond the budget."""
        destination = self.destination()
        first = self.run_job(destination, self.gated)
        self.network.down[A] = gone(Stage.GREETING, 421)
        second = self.run_job(destination)
        assert destination.ceiling == 1
        self.assertNoResult(second)
        assert self.heard == [(A, True)], "it is there"
        self.open()
        assert self.successResultOf(second) == self.successResultOf(first) == "a.test:25"
        for stage in (Stage.MAIL, Stage.DOT):

            async def told_off(client: Any, stage: Stage = stage) -> str:
                raise gone(stage, 421, certain=False)

            beside = self.run_job(destination, self.gated)
            self.network.down.clear()
            destination.ceiling = 4
            self.failureResultOf(self.run_job(destination, told_off), Broken)
            assert destination.ceiling == 1
            self.open()
            self.successResultOf(beside)
        self.network.down[A] = gone(Stage.GREETING, 421)
        fresh = self.destination(A, B)
        self.network.down[B] = gone(Stage.GREETING, 421)
        fresh.ceiling = 4
        self.failureResultOf(self.run_job(fresh), Broken)
        assert (fresh.ceiling, fresh.busy) == (2, 0)
        assert self.heard[-2:] == [(A, False), (B, False)]

    def test_patience_ends(self) -> None:
        """Would catch a message that waits for ever for a server that has room for its other connections only."""
        destination = self.destination()
        beside = self.run_job(destination, self.gated)
        self.network.down[A] = gone(Stage.GREETING, 421)
        destination.ceiling = 4
        waits = self.run_job(destination)
        self.assertNoResult(waits)
        self.clock.advance(20.0)
        destination.ceiling = 4
        destination._hand_out()
        self.failureResultOf(waits, Broken)
        self.open()
        self.successResultOf(beside)

    def test_a_rest_after_all_hosts_failed(self) -> None:
        """Would catch hundreds of messages that wait out the same time-out each, and a server that is left alone longer than a second."""
        destination = self.destination(A, B)
        self.network.down = {A: gone(), B: gone()}
        self.failureResultOf(self.run_job(destination), Broken)
        assert self.network.dialled == [A, B]
        self.clock.advance(0.9)
        self.network.down.clear()
        assert self.failureResultOf(self.run_job(destination), Broken).value.stage is Stage.CONNECT
        assert self.network.dialled == [A, B]
        self.clock.advance(0.1)
        assert self.successResultOf(self.run_job(destination)) == "a.test:25"
        self.network.down = {A: gone(), B: gone()}
        fresh = self.destination(B)
        self.failureResultOf(self.run_job(fresh), Broken)
        self.network.down.clear()
        fresh.rested()
        assert self.successResultOf(self.run_job(fresh)) == "b.test:25", "somebody saw it answer"

    def test_no_rest_when_one_host_was_left_out(self) -> None:
        """Would catch everybody who is kept from the second host because somebody had tried it before."""
        destination = self.destination(A, B)
        self.network.down = {A: gone()}
        self.failureResultOf(self.run_job(destination, but={B}), Broken)
        assert self.successResultOf(self.run_job(destination)) == "b.test:25"

    def test_hosts_that_failed_lately_come_last(self) -> None:
        """Would catch a host that is down and costs each message its time-out, and one that is back and is not preferred again."""
        destination = self.destination(A, B)
        self.network.down[A] = gone()
        self.clock.advance(100.0)
        assert self.successResultOf(self.run_job(destination)) == "b.test:25"
        self.network.down.clear()
        self.clock.advance(31.0)
        assert self.successResultOf(self.run_job(destination)) == "b.test:25"
        self.network.down[B] = gone()
        self.clock.advance(31.0)
        assert self.successResultOf(self.run_job(destination)) == "a.test:25"
        assert self.network.dialled == [A, B, B, B, A]

    def test_no_answer_at_all(self) -> None:
        """Would catch a time-out that says nothing of the host, or is no temporary failure."""
        self.network.slow = {A}
        failing = self.run_job(self.destination())
        self.clock.advance(20.0)
        error = self.failureResultOf(failing, Broken).value
        assert (error.stage, str(error.reply)) == (
            Stage.CONNECT,
            "451 4.4.1 a.test:25 did not answer within 20 s",
        )
        assert self.heard == [(A, False)]

    def test_a_fault_of_ours_is_not_theirs(self) -> None:
        """Rule 5: would catch hosts that are told as down, or left alone for a while, because we have no sockets."""
        destination = self.destination(A, B)
        self.network.down[A] = gone(Stage.LOCAL)
        assert self.failureResultOf(self.run_job(destination), Broken).value.stage is Stage.LOCAL
        assert (self.heard, self.network.dialled) == ([], [A])
        self.network.down.clear()
        assert self.successResultOf(self.run_job(destination)) == "a.test:25"

    def test_for_how_long_a_connection_is_kept(self) -> None:
        """Would catch a connection that is closed after each message, or kept for more messages, or seconds, than it may."""
        destination = self.destination()
        for _ in range(4):
            self.successResultOf(self.run_job(destination))
        assert [each.used for each in self.network.made] == [3, 1]
        assert [each.parted for each in self.network.made] == [True, False]
        self.clock.advance(29.9)
        assert not self.network.made[1].parted
        self.clock.advance(0.1)
        assert self.network.made[1].parted
        assert destination.unused
        assert self.clock.getDelayedCalls() == []

    def test_idle_ones_end_one_by_one(self) -> None:
        """Would catch a connection that is lost to the pool when another one has had its time, and one that its server closed and that is kept."""
        destination = self.destination()
        running = [self.run_job(destination, self.gated) for _ in range(2)]
        self.gates.pop().callback(None)
        self.clock.advance(20.0)
        self.open()
        for each in running:
            self.successResultOf(each)
        self.clock.advance(10.0)
        assert sorted(each.parted for each in self.network.made) == [False, True]
        self.successResultOf(self.run_job(destination))
        assert len(self.network.made) == 2
        closed = next(each for each in self.network.made if each.alive)
        both = [self.run_job(destination, self.gated) for _ in range(2)]
        self.open()
        for each in both:
            self.successResultOf(each)
        other = self.network.made[-1]
        closed.abort()
        assert [client for client, _ in destination._idle] == [other]
        assert len(self.clock.getDelayedCalls()) == 1

    def test_destinations_are_forgotten(self) -> None:
        """Would catch a table that only grows with the world's mail servers, and one that forgets who is at work."""
        busy = self.destination(Host("busy.test"))
        running = self.run_job(busy, self.gated)
        for number in range(300):
            self.destination(Host(f"{number}.test"))
        self.clock.advance(60.0)
        self.destination(Host("one.more.test"))
        assert len(self.pool._destinations) == 302, "they were in use a minute ago"
        self.clock.advance(0.1)
        self.destination(Host("another.test"))
        assert len(self.pool._destinations) == 3
        assert self.destination(Host("busy.test")) is busy
        self.open()
        self.successResultOf(running)
