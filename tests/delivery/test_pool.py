"""What the pool does before C20 applies (rule 2), over a scripted primary and with connections made of nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.failover.verdict import Stage
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.delivery.connections.pool import Limits, Pool
from hornetmail.delivery.outage.health import Pace
from hornetmail.net.clients.smtp import Broken, Timeouts
from tests.delivery.world import SLOW_MACHINE, WorldCase

A, B = Host("a.test"), Host("b.test")


class Connection:
    """Counts its uses; jobs do the rest."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.alive = True
        self.used = 0
        self.parted = False
        self._lost: Any = lambda: None

    def on_lost(self, callback: Any) -> None:
        self._lost = callback

    def abort(self) -> None:
        if self.alive:
            self.alive = False
            self._lost()

    async def quit(self) -> None:
        self.parted = True
        self.abort()


class Network:
    """Hands out connections; ``down`` hosts break with a reply, ``slow`` ones never answer."""

    def __init__(self) -> None:
        self.down: dict[Host, Broken] = {}
        self.slow: set[Host] = set()
        self.dialled: list[Host] = []
        self.made: list[Connection] = []

    async def connect(self, dialer: Any, host: Host, **keywords: Any) -> Any:
        self.dialled.append(host)
        if host in self.slow:
            await Deferred()
        if host in self.down:
            raise self.down[host]
        connection = Connection(host)
        self.made.append(connection)
        return connection


def gone(stage: Stage = Stage.CONNECT, code: int = 451, *, certain: bool = True) -> Broken:
    return Broken(stage, Reply(code, "4.4.1", "gone"), certain=certain)


class PoolCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network()
        self.heard: list[tuple[Host, bool]] = []

    def pool(self, *hosts: Host, **limits: Any) -> Any:
        pool = Pool(
            self.clock,
            None,
            "mx.test",
            connect=self.network.connect,
            limits=Limits(**{"most": 4, "first": 2, "idle": 30.0, "budget": 20.0, "rest": 1.0, **limits}),
            told=lambda host, up, reason: self.heard.append((host, up)),
        )
        return pool.destination(hosts or (A,), TLSPolicy.NONE)

    def run_job(self, destination: Any, job: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(destination.exchange(job))

    async def ok(self, client: Any) -> str:
        client.used += 1
        return str(client.host)

    def test_reuse_and_idle_close(self) -> None:
        """A connection per message; or connections that stay open for ever."""
        destination = self.pool()
        for _ in range(5):
            assert self.successResultOf(self.run_job(destination, self.ok)) == "a.test:25"
        assert len(self.network.made) == 1
        self.clock.advance(31)
        assert self.network.made[0].parted
        assert destination.unused

    def test_a_host_that_greets_and_breaks_off(self) -> None:
        """Rule 2: would catch mail that goes to the portal, and never home, because one of two hosts greets and breaks each transaction off while the other works; a host
        that is asked first again and again although it did that; a final dot that goes to both; more time for it than the budget; and our own trouble held against a host."""
        destination = self.pool(A, B)
        self.clock.advance(1.0)
        asked: list[str] = []
        said: dict[str, Any] = {"a.test": gone(Stage.DATA, 421)}

        async def job(client: Any) -> str:
            asked.append(client.host.name)
            if (error := said.get(client.host.name)) is not None:
                raise error
            return "taken"

        def outcome() -> Any:
            asked.clear()
            done = self.run_job(destination, job)
            done.addErrback(lambda failure: failure.value)
            for client in self.network.made:
                client.abort()  # none is kept
            return self.successResultOf(done)

        assert (outcome(), asked) == ("taken", ["a.test", "b.test"])
        assert (outcome(), asked) == ("taken", ["b.test"]), "the one that works comes first"
        said["b.test"] = gone(Stage.RCPT, 421)
        assert (outcome(), asked) == (said["b.test"], ["b.test", "a.test"]), "each once, and the first is told"
        self.network.down[B] = gone()
        said["a.test"] = gone(Stage.MAIL, 421)
        destination._failed.clear()
        assert outcome() is said["a.test"], "nearer to the truth than that the other one is away"
        self.network.down.clear()
        for error in (gone(Stage.DOT, certain=False), gone(Stage.LOCAL)):
            destination._failed.clear()
            said = {"a.test": error}
            assert (outcome(), asked) == (error, ["a.test"])
        assert not destination._failed

        async def slow(client: Any) -> str:
            self.clock.advance(20.0)
            return await job(client)

        said = {"a.test": gone(Stage.MAIL, 421)}
        asked.clear()
        self.failureResultOf(self.run_job(destination, slow), Broken)
        assert asked == ["a.test"]

    def test_error_on_reused_connection_is_repeated_once(self) -> None:
        """Rule 2: a primary that closed a kept connection is taken for an outage; or the repetition never ends."""
        destination = self.pool()
        self.successResultOf(self.run_job(destination, self.ok))
        tries: list[Any] = []

        async def breaks_on_kept(client: Any) -> str:
            tries.append(client)
            if client.used:
                raise gone(Stage.MAIL, 421)
            return await self.ok(client)

        assert self.successResultOf(self.run_job(destination, breaks_on_kept)) == "a.test:25"
        assert len(tries) == 2

        async def always(client: Any) -> str:
            tries.append(client)
            raise gone(Stage.MAIL)

        tries.clear()
        self.failureResultOf(self.run_job(destination, always), Broken)
        assert len(tries) == 2
        assert destination.busy == 0

    def test_not_repeated_after_the_dot(self) -> None:
        """Rule 1: an uncertain hand-over is repeated, and the mail is there twice."""
        destination = self.pool()
        self.successResultOf(self.run_job(destination, self.ok))
        tries = []

        async def uncertain(client: Any) -> str:
            tries.append(client)
            raise gone(Stage.DOT, certain=False)

        failure = self.failureResultOf(self.run_job(destination, uncertain), Broken)
        assert failure.value.certain is False
        assert len(tries) == 1

    def test_all_hosts_within_one_budget(self) -> None:
        """Rule 2: the second host is not tried, or each gets time-outs of its own until the sender's patience is gone."""
        self.network.down[A] = gone()
        destination = self.pool(A, B)
        assert self.successResultOf(self.run_job(destination, self.ok)) == "b.test:25"
        assert self.heard == [(A, False), (B, True)]
        self.network.slow = {A, B}
        other = self.pool(B, A)
        waiting = self.run_job(other, self.ok)
        self.clock.advance(20)
        self.failureResultOf(waiting, Broken)

    def test_one_timeout_for_many(self) -> None:
        """A hundred messages to a dead host wait out a hundred time-outs one after the other."""
        self.network.slow = {A}
        destination = self.pool()
        waiting = [self.run_job(destination, self.ok) for _ in range(100)]
        self.clock.advance(20)
        for each in waiting:
            self.failureResultOf(each, Broken)
        assert len(self.network.dialled) == 2
        self.network.slow = set()
        self.failureResultOf(self.run_job(destination, self.ok), Broken)
        self.clock.advance(1.1)
        self.successResultOf(self.run_job(destination, self.ok))

    def test_concurrency_ramps_and_421_lowers_it(self) -> None:
        """More connections than allowed; or a primary's 421 for too many taken for an outage."""
        destination = self.pool()
        gates: list[Deferred[None]] = []

        async def gated(client: Any) -> str:
            gate: Deferred[None] = Deferred()
            gates.append(gate)
            await gate
            return await self.ok(client)

        running = [self.run_job(destination, gated) for _ in range(10)]
        assert len(gates) == 2
        gates[0].callback(None)
        assert len(self.network.made) <= 3
        self.network.down[A] = gone(Stage.GREETING, 421)
        before = len(gates)
        gates[1].callback(None)
        for _ in range(30):
            for gate in list(gates[before:]):
                if not gate.called:
                    gate.callback(None)
            for gate in gates:
                if not gate.called:
                    gate.callback(None)
            self.clock.advance(0)
        assert [self.successResultOf(each) for each in running] == ["a.test:25"] * 10
        assert 1 <= destination.ceiling <= 4
        assert destination.busy == 0

    def test_cancelled_waiters_leave_no_trace(self) -> None:
        """A cancelled message keeps its place and blocks those behind it."""
        destination = self.pool(first=1, most=1)
        gate: Deferred[None] = Deferred()

        async def gated(client: Any) -> str:
            await gate
            return await self.ok(client)

        first = self.run_job(destination, gated)
        second = self.run_job(destination, self.ok)
        third = self.run_job(destination, self.ok)
        second.cancel()
        self.failureResultOf(second)
        gate.callback(None)
        self.successResultOf(first)
        self.clock.advance(0)
        self.successResultOf(third)
        assert destination.busy == 0

    def test_hundreds_that_wait_for_a_host_that_is_gone(self) -> None:
        """Each that fails at once wakes the next one inside itself, until Python's stack ends: an error of ours for each of them, instead of
        "refused"."""
        destination = self.pool(first=1, most=1)
        self.network.down[A] = gone()
        gate: Deferred[None] = Deferred()
        connect = self.network.connect

        async def late(*words: Any, **keywords: Any) -> Any:
            await gate
            return await connect(*words, **keywords)

        destination._connect = lambda host, seconds: late(None, host)
        running = [self.run_job(destination, self.ok) for _ in range(1000)]
        gate.callback(None)
        for _ in range(1000):
            self.clock.advance(0)
        assert {type(self.failureResultOf(each).value) for each in running} == {Broken}
        assert destination.busy == 0


class Rule2(WorldCase):
    settings = SLOW_MACHINE

    async def test_too_many_recipients(self) -> None:
        """Rule 2: 452 4.5.3 after an accepted RCPT sends the rest into the portal instead of a further transaction."""
        await self.build()
        self.primary.script.most_recipients = 2
        message = await self.send(*(f"u{n}@example.test" for n in range(7)))
        await self.gone(message)
        assert [len(each.recipients) for each in self.primary.accepted] == [2, 2, 2, 1]
        assert len({each.connection for each in self.primary.accepted}) == 1

    async def test_second_host(self) -> None:
        """Rule 2: a primary with two hosts, one down: the portal gets mail that the other would take."""
        await self.build(primaries=2)
        await self.primaries[0].stop()
        await self.gone(await self.send("alice@example.test"))
        assert self.primaries[1].accepted
        assert not self.portal.copies

    async def test_many_over_few_connections(self) -> None:
        """A connection for each message, or one after the other. On a machine that has no time, too: no connection is given up for that."""
        self.settings = msgspec.structs.replace(
            SLOW_MACHINE,
            connections=Limits(idle=60.0, budget=60.0, rest=0.02),
            timeouts=Timeouts(connect=60.0, reply=60.0, data=60.0, dot=60.0),
            pace=Pace(calm=60.0, alert=60.0, patience=60.0),
        )
        await self.build()
        messages = [await self.send("alice@example.test", archive=False) for _ in range(60)]
        for message in messages:
            await self.gone(message)
        assert len(self.primary.accepted) == 60
        assert self.primary.connections <= 20 + 2, "besides a probe and the question for an impossible address"

    async def test_limit_of_connections(self) -> None:
        """421 for too many connections while others work lowers the concurrency and is no outage (rule 2)."""
        await self.build()
        self.primary.script.most_connections = 4
        messages = [await self.send("alice@example.test", archive=False) for _ in range(40)]
        for message in messages:
            await self.gone(message)
        assert len(self.primary.accepted) == 40
        assert not [s for s in self.queue.settled if s.drain is not None], "none went to the portal"

    async def test_5xx_of_one_recipient(self) -> None:
        """A verdict for each recipient: one refusal spoils the others."""
        await self.build()
        self.primary.script.unknown = {"bob@example.test"}
        message = await self.send("alice@example.test", "bob@example.test", sender="")
        await self.gone(message)
        assert [each.recipients for each in self.primary.accepted] == [("alice@example.test",)]


def test_of_the_fake() -> None:
    """The fake says what the real one says."""
    with pytest.raises(Broken) as raised:
        raise gone(certain=False)
    assert raised.value.stage is Stage.CONNECT
