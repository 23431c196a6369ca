"""What the modes make of what they hear, to the detail: who is asked, what counts as a sign, what the panel shows (C2-C7, L6, rule 8c). On a clock that the
test advances."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import RowKind, RowState, WaitsFor
from hornetmail.core.events import Alarm, ModeChanged
from hornetmail.core.failover import machine
from hornetmail.core.failover.machine import Evidence, Proof
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Coverage, Domain, Failover, Host, Mailbox
from hornetmail.delivery.outage.health import HostHealth
from hornetmail.delivery.outage.modes import Consequences, Modes
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue

DOMAIN, ALIAS = "example.test", "alias.test"
HERE = Host("192.0.2.1")
TROUBLE = machine.Trouble("one", "refused")


class Health:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.hurried: list[str] = []
        self.taken: list[tuple[str, str, str]] = []
        self.surveyed = machine.Surveyed(0, 0, machine.Own.TAKES)

    def hurry(self, domain: str) -> None:
        self.hurried.append(domain)

    def took(self, domain: str, sender: str, address: str) -> None:
        self.taken.append((domain, sender, address))

    def host(self, host: Host) -> HostHealth:
        return HostHealth(host, True, 5.0, 6.0, "answered EHLO")

    def up(self, domain: Domain) -> bool:
        return True

    def next_probe(self, domain: str) -> float:
        return 77.0

    async def survey(self, domain: str) -> machine.Surveyed:
        return self.surveyed


class ModesCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(1_000_000.0)
        self.queue = MemoryQueue(self.clock.seconds)
        self.bus = Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.changes: list[ModeChanged] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.bus.subscribe(ModeChanged, self.changes.append)
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(HERE,), aliases=(ALIAS,)), Domain("portal.test")],
            [Mailbox(1, f"alice@{DOMAIN}", DOMAIN)],
        )
        self.drained: list[str] = []
        self.kept = self.made()

    def made(self) -> Modes:
        async def letter(domain: str, text: str) -> None:
            """Nobody reads it."""

        async def trial(domain: str) -> bool | None:
            return None

        async def recipients(domain: str) -> dict[str, Any]:
            return {"domain": domain}

        kept = Modes(
            self.clock, self.queue, self.directory, self.bus, Consequences(self.drained.append, letter, trial, recipients)
        )
        kept.health = self.health = Health()  # type: ignore[assignment]
        return kept

    def wait(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def state(self, **changes: Any) -> machine.State:
        """The domain's, changed if that is wanted."""
        if changes:
            self.kept._states[DOMAIN] = machine.State(**changes)
        return self.kept._state(DOMAIN)

    def change_domain(self, **changes: Any) -> None:
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], **changes)


def verdict(outcome: Outcome = Outcome.DEFERRED, stage: Stage = Stage.RCPT, code: int = 451, text: str = "not now") -> Verdict:
    return Verdict(outcome, Reply(code, "4.3.0" if code < 500 else "5.1.1", text), "primary", stage, "mx", unavailable=True)


class Life(ModesCase):
    def test_what_the_last_run_left(self) -> None:
        """Would catch an emergency that is forgotten by a restart, one that adopts nothing, a way back on which nothing drains, and a start that ends at a record
        that cannot be read."""
        for name, mode in (("a.test", Mode.EMERGENCY), ("b.test", Mode.DRAINING), ("c.test", Mode.NORMAL)):
            self.wait(self.queue.remember("modes", name, msgspec.json.encode(machine.State(mode, ended=5.0))))
        self.wait(self.queue.remember("modes", "d.test", b"nonsense"))
        self.kept.load()
        assert [self.kept.mode(f"{name}.test") for name in "abcd"] == [Mode.EMERGENCY, Mode.DRAINING, Mode.NORMAL, Mode.NORMAL]
        assert self.kept.ended("a.test") == 5.0
        adopted: list[str] = []

        async def adopt(domain: str, now: float) -> int:
            adopted.append(domain)
            return 0

        self.queue.adopt = adopt  # type: ignore[method-assign]
        self.kept.resume()
        assert adopted == ["a.test"]
        assert self.drained == ["b.test"]
        self.wait(self.kept.sweep())
        assert adopted == ["a.test"] * 2

    def test_by_whichever_name(self) -> None:
        """Would catch an alias of a domain that knows nothing of its emergency, and a domain that is not served any more for which everything fails."""
        self.state(mode=Mode.EMERGENCY, ended=7.0)
        assert self.kept.mode(ALIAS) is Mode.EMERGENCY
        assert self.kept.ended(ALIAS) == 7.0
        assert self.kept.explain(ALIAS)["domain"] == DOMAIN
        assert self.wait(self.kept.recipients(ALIAS)) == {"domain": DOMAIN}
        assert self.kept.mode("gone.test") is Mode.NORMAL
        assert self.kept.ended("gone.test") == 0.0
        gone = self.kept.explain("gone.test")
        assert (gone["domain"], gone["automatic"], gone["up"], gone["primaries"]) == ("gone.test", False, None, [])
        assert self.wait(self.kept.recipients("gone.test")) == {"domain": "gone.test"}

    def test_the_panel(self) -> None:
        """Would catch a panel that shows another thing than is so, or the same decision line after line instead of how often it was made."""
        for seconds in (0.0, 1.0, 1.0):
            self.clock.advance(seconds)
            self.kept.observe(DOMAIN, machine.Trouble(f"key {self.clock.seconds()}", "refused"))
        shown = self.kept.explain(DOMAIN)
        assert shown["automatic"]
        assert shown["up"]
        assert shown["primaries"] == [{"host": str(HERE), "up": True, "since": 5.0, "seen": 6.0, "reason": "answered EHLO"}]
        assert shown["next_probe"] == 77.0
        assert shown["probes_needed"] == 3
        assert len(shown["evidence"]) == 3
        assert [made["count"] for made in shown["decisions"]] == [1, 1, 1]
        self.change_domain(failover=Failover.MANUAL)
        assert not self.kept.explain(DOMAIN)["automatic"]
        self.state(mode=Mode.EMERGENCY, since=1.0)
        for number in range(3):
            self.kept.observe(DOMAIN, machine.Trouble(f"key {number}", "still refused"))
        assert self.kept.explain(DOMAIN)["decisions"][-1]["why"] == shown["decisions"][-1]["why"], "nothing was decided"
        self.state(mode=Mode.EMERGENCY, since=1.0, by="admin", streak=1)
        for number in range(4):
            self.kept.observe(DOMAIN, machine.Trouble(f"key {number}", "still refused", probe=True))
            self.state(mode=Mode.EMERGENCY, since=1.0, by="admin", streak=1)
            self.clock.advance(1.0)
        last = self.kept.explain(DOMAIN)["decisions"][-1]
        assert (last["count"], last["at"]) == (4, self.clock.seconds() - 1.0)

    def test_fifty_decisions(self) -> None:
        """Would catch a list that grows with every mail that a primary defers."""
        for number in range(120):
            self.clock.advance(200.0)
            self.kept.observe(DOMAIN, machine.Trouble("key", f"refused {number}"))
        decisions = self.kept.explain(DOMAIN)["decisions"]
        assert len(decisions) == 50
        assert decisions[-1]["why"].endswith("refused 119")

    def test_orders_that_make_no_sense(self) -> None:
        """Would catch an emergency of a domain that is not ours, or that has no primary and would never leave it."""
        for name, error in (("gone.test", KeyError), ("portal.test", ValueError)):
            self.failureResultOf(Deferred.fromCoroutine(self.kept.switch(name, Mode.EMERGENCY, "admin")), error)
        assert not self.kept._states
        self.wait(self.kept.switch(ALIAS, Mode.EMERGENCY, "admin", "works"))
        assert (self.state().mode, self.state().by, self.state().reason) == (Mode.EMERGENCY, "admin", "works")
        self.clock.advance(0)
        assert [(each.domain, each.mode, each.by) for each in self.changes] == [(DOMAIN, Mode.EMERGENCY, "admin")]
        assert self.health.hurried == [DOMAIN]

    def test_an_order_overtaken_while_it_is_recorded(self) -> None:
        """Would catch an order whose failure undoes what was decided after it."""
        left: list[Deferred[None]] = []

        async def remember(space: str, key: str, value: bytes | None) -> None:
            left.append(Deferred())
            await left[-1]

        self.queue.remember = remember  # type: ignore[method-assign]
        failing: Any = Deferred.fromCoroutine(self.kept.switch(DOMAIN, Mode.EMERGENCY, "admin"))
        self.clock.advance(1.0)
        self.state(mode=Mode.DRAINING, since=self.clock.seconds())
        left[0].errback(OSError("disk full"))
        self.failureResultOf(failing, OSError)
        assert self.state().mode is Mode.DRAINING


class Suspicion(ModesCase):
    def test_when_to_ask_more_often(self) -> None:
        """Would catch a primary that is asked every minute although something is wrong with it, or every few seconds though nothing is."""
        sign = (Evidence(1.0, "key", "refused"),)
        for state, suspicious, strict in (
            ({"since": 1.0}, False, False),
            ({"evidence": sign}, True, False),
            ({"evidence": sign, "strict": True}, True, False),
            ({"mode": Mode.EMERGENCY}, True, False),
            ({"mode": Mode.EMERGENCY, "strict": True}, True, True),
            ({"mode": Mode.DRAINING, "strict": True}, False, False),
        ):
            self.state(**state)
            assert (self.kept.suspicious(DOMAIN), self.kept.strict(DOMAIN)) == (suspicious, strict), state
        assert (self.kept.suspicious("gone.test"), self.kept.strict("gone.test")) == (False, False)

    def test_since_when_it_answers(self) -> None:
        """Would catch an uncertain copy that goes home while the primary as a whole is in trouble, or that never goes because one mailbox was (rule 1)."""
        answering = self.kept.answering
        assert answering(DOMAIN) == 0.0
        began = self.clock.seconds()
        delivered = verdict(Outcome.DELIVERED, Stage.DOT, 250)

        def well() -> None:
            self.kept.verdict(DOMAIN, f"alice@{DOMAIN}", 1, delivered)

        well()
        self.clock.advance(5.0)
        well()
        assert answering(DOMAIN) == began, "since the first of them"
        self.kept.verdict(DOMAIN, f"alice@{DOMAIN}", 1, verdict())
        assert answering(DOMAIN) == began, "one recipient's trouble"
        self.kept.verdict(DOMAIN, f"alice@{DOMAIN}", 1, verdict(stage=Stage.CONNECT))
        assert answering(DOMAIN) == 0.0
        self.kept.observe(DOMAIN, machine.ProbeAnswered("mx"))
        assert answering(DOMAIN) == began + 5.0
        self.kept.observe(DOMAIN, TROUBLE)
        assert answering(DOMAIN) == began + 5.0, "a sign of somebody's mail"
        self.kept.observe(DOMAIN, machine.Trouble("probe", "refused", probe=True))
        assert answering(DOMAIN) == 0.0
        well()
        self.kept.refused(DOMAIN, f"alice@{DOMAIN}", verdict(Outcome.FAILED, code=550))
        assert answering(DOMAIN) == 0.0

    def test_a_delivery_voids_signs(self) -> None:
        """Would catch signs that are held against a primary that took mail since, and pairs of senders and recipients that are asked for later but never were."""
        delivered = verdict(Outcome.DELIVERED, Stage.DOT, 250)
        self.kept.observe(DOMAIN, TROUBLE)
        assert self.state().evidence
        self.kept.verdict(DOMAIN, f"alice@{DOMAIN}", 1, delivered, sender="s@outside.test")
        assert not self.state().evidence
        assert self.health.taken == [(DOMAIN, "s@outside.test", f"alice@{DOMAIN}")]
        self.kept.verdict(DOMAIN, f"alice@{DOMAIN}", 1, delivered)
        assert len(self.health.taken) == 1, "nobody's mail"

    def keys(self) -> list[tuple[str, bool, Proof, bool]]:
        found = [(each.key, each.dns, each.proof, each.ours) for each in self.state().evidence]
        self.kept._states.clear()
        return found

    def test_what_counts_as_a_sign(self) -> None:
        """Rule 8c: would catch signs that a stranger makes by the addresses he guesses, one trouble that counts for many, many that count for one, and what a
        refusal proves."""
        alice = f"Alice@{DOMAIN}"

        def told(given: Verdict, **keywords: Any) -> list[tuple[str, bool, Proof, bool]]:
            self.kept.verdict(DOMAIN, alice, 9, given, **keywords)
            return self.keys()

        recipient = f"recipient alice@{DOMAIN}"
        assert told(verdict(stage=Stage.CONNECT)) == [("message 9", False, Proof.CONNECTION, False)]
        assert told(verdict(stage=Stage.CONNECT), proven=False) == [("message 9", False, Proof.CONNECTION, False)]
        assert told(verdict(stage=Stage.RESOLVE)) == [("message 9", True, Proof.CONNECTION, False)]
        assert told(verdict()) == [(recipient, False, Proof.ENVELOPE, False)]
        assert told(verdict(), ours=True) == [(recipient, False, Proof.ENVELOPE, True)]
        assert told(verdict(stage=Stage.CONNECT), ours=True) == [("message 9", False, Proof.CONNECTION, True)]
        assert told(verdict(), proven=False) == []
        assert told(verdict(stage=Stage.DOT)) == [(recipient, False, Proof.TEXT, False)]
        assert told(verdict(code=421)) == [("message 9", False, Proof.ENVELOPE, False)]
        assert told(verdict(text="greylisted")) == []
        assert told(verdict(Outcome.FAILED, code=550)) == []
        self.kept.unverified(DOMAIN, alice, verdict(stage=Stage.GREETING), proven=False)
        assert self.keys() == [("a question about a recipient", False, Proof.CONNECTION, False)]
        self.kept.unverified(DOMAIN, alice, verdict(), proven=True)
        assert self.keys() == [(recipient, False, Proof.ENVELOPE, False)]
        self.kept.unverified(DOMAIN, alice, verdict(), proven=False)
        assert self.keys() == []
        self.kept.refused(DOMAIN, alice, verdict(Outcome.FAILED, code=550))
        assert self.keys() == [(f"refused alice@{DOMAIN}", False, Proof.ENVELOPE, False)]

    def test_whose_trouble_nobody_minds(self) -> None:
        """Would catch an outage of a domain that is switched off (C11), has no primary, or is not served; and one that was switched off in an emergency and can
        never leave it."""
        for domain in ("gone.test", "portal.test"):
            self.kept.observe(domain, TROUBLE)
        self.change_domain(active=False)
        self.kept.observe(DOMAIN, TROUBLE)
        assert not self.kept._states
        assert not self.health.hurried
        self.state(mode=Mode.DRAINING, since=1.0)
        self.kept.observe(DOMAIN, machine.Drained())
        assert self.state().mode is Mode.NORMAL

    def test_when_the_primary_is_asked_soon(self) -> None:
        """Would catch a first sign after which nobody asks for a minute, and a stream of signs in an emergency, each of which asks."""
        self.kept.observe(DOMAIN, TROUBLE)
        assert self.health.hurried == [DOMAIN]
        self.kept.observe(DOMAIN, machine.ProbeAnswered("mx"))
        assert self.health.hurried == [DOMAIN]
        self.state(mode=Mode.EMERGENCY, since=1.0)
        self.kept.observe(DOMAIN, TROUBLE)
        assert self.health.hurried == [DOMAIN]

    def test_by_hand_it_stays(self) -> None:
        """C7: would catch a domain that is switched by hand and switches by itself, or one that is to switch by itself and does not; nobody is told."""
        self.health.surveyed = machine.Surveyed(2, 0, machine.Own.SILENT)
        for failover, mode, codes in ((Failover.MANUAL, Mode.NORMAL, ["primary-down"]), (Failover.AUTO, Mode.EMERGENCY, [])):
            self.kept._states.clear()
            self.alarms.clear()
            self.change_domain(failover=failover)
            for number in range(6):
                self.kept.observe(DOMAIN, machine.Trouble(f"key {number}", "refused"))
                self.clock.advance(2.0)
            assert self.state().mode is mode
            assert [alarm.code for alarm in self.alarms] == codes


class Following(ModesCase):
    def test_how_often_it_is_tried_again(self) -> None:
        """Would catch a database that is down and asked every second for hours, or an emergency whose record waits for longer than a minute."""
        tried: list[float] = []
        began = self.clock.seconds()

        async def remember(space: str, key: str, value: bytes | None) -> None:
            tried.append(self.clock.seconds() - began)
            raise OSError("disk full")

        self.queue.remember = remember  # type: ignore[method-assign]
        act = machine.Switch(Mode.EMERGENCY, machine.HEALTH, "an outage")
        self.wait(self.kept._act(DOMAIN, act))
        self.wait(self.kept._act(DOMAIN, act))
        for _ in range(250):
            self.clock.advance(1.0)
        assert tried == [0.0, 0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0, 243.0]
        self.flushLoggedErrors(OSError)
        stopping = Deferred.fromCoroutine(self.kept.stop())
        self.clock.advance(1.0)
        self.successResultOf(stopping)

    def parked(self, address: str, waits_for: WaitsFor) -> int:
        message = self.queue.take(
            1, b"", Envelope("s@outside.test", (Recipient(address),)), Origin(Door.MX), Direction.IN, b"", DOMAIN, False, "", ""
        )
        [row] = [row for row in self.queue.held.values() if row.message == message.id]
        self.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.PARKED, waits_for=waits_for)
        return row.id

    def test_who_may_go(self) -> None:
        """Would catch mail that waits for a mailbox in an emergency though there is one now, or that goes though there is none; what an administrator parked and
        that goes by itself; and a count that is not right."""
        self.state(mode=Mode.EMERGENCY, since=1.0)
        there = [self.parked(f"alice@{DOMAIN}", WaitsFor.MAILBOX) for _ in range(2)]
        waits = self.parked(f"nobody@{DOMAIN}", WaitsFor.MAILBOX)
        by_hand = self.parked(f"alice@{DOMAIN}", WaitsFor.NOTHING)
        assert self.wait(self.kept.release("other.test")) == 0
        assert self.wait(self.kept.release(DOMAIN)) == 2
        assert {row.id for row in self.queue.all(RowKind.DELIVER, RowState.QUEUED)} == set(there)
        self.change_domain(coverage=Coverage.PICKED)
        self.directory.registered[0] = msgspec.structs.replace(self.directory.registered[0], picked=False)
        again = self.parked(f"alice@{DOMAIN}", WaitsFor.MAILBOX)
        assert self.wait(self.kept.release()) == 0, "not one of the picked ones"
        self.state(mode=Mode.DRAINING, since=1.0)
        assert self.wait(self.kept.release()) == 2
        assert {row.id for row in self.queue.all(RowKind.DELIVER, RowState.PARKED)} == {by_hand}
        assert {waits, again} < {row.id for row in self.queue.all(RowKind.DELIVER, RowState.QUEUED)}
