"""What an attempt makes of its couriers' verdicts, row by row: what is recorded, when it is due again, who is told (rules 1, 3, 5, 8b, L4). Couriers, modes and
notices are the test's, and so is the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.backoff import DAY, HOUR, Backoff
from hornetmail.core.delivery.queued import Claim, Message, Portal, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.events import RecipientSettled
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.bounce import Bounce
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host, Mailbox, PortalOn
from hornetmail.delivery.attempt.agent import Agent
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.portal import Placed
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.world import Meters

DOMAIN = "example.test"
NOW = 1_700_000_000.0


class Modes:
    def __init__(self) -> None:
        self.now = Mode.NORMAL

    def mode(self, domain: str) -> Mode:
        return self.now


class Courier:
    """Says what it was told to say of an address, and calls ``then`` afterwards."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.says: dict[str, Verdict] = {}
        self.asked: list[list[str]] = []
        self.then: Callable[[], None] = lambda: None

    async def deliver(self, message: Message, rows: Sequence[Row], body: Any, verdicts: dict[int, Verdict]) -> None:
        self.asked.append([row.address.partition("@")[0] for row in rows])
        for row in rows:
            verdicts[row.id] = self.says[row.address.partition("@")[0]]
        self.then()


class Evidence:
    def __init__(self) -> None:
        self.learnt: list[str] = []

    async def weigh(self, address: str, message: Message, verdict: Verdict) -> Verdict:
        return verdict

    def learn(self, addresses: Any) -> None:
        self.learnt += addresses


class Notices:
    """``says``: what becomes of a bounce; ``told``: whether a delay could be told."""

    def __init__(self) -> None:
        self.says = (Bounce.SEND, "it may")
        self.told = True
        self.failures: list[tuple[int, Verdict, bool]] = []
        self.delays: list[int] = []

    async def failed(self, message: Message, failures: Any, *, wait: bool = True) -> tuple[Bounce, str]:
        self.failures += [(row.id, verdict, wait) for row, verdict in failures]
        return self.says

    async def delayed(self, message: Message, late: Any) -> bool:
        self.delays += [row.id for row, _ in late]
        return self.told


def said(
    outcome: Outcome, stage: Stage = Stage.RCPT, code: int = 0, courier: str = "primary", unavailable: bool = True
) -> Verdict:
    codes = {Outcome.DELIVERED: 250, Outcome.DEFERRED: 451, Outcome.FAILED: 550, Outcome.UNCERTAIN: 421}
    return Verdict(outcome, Reply(code or codes[outcome], "", "so it is"), courier, stage, "mx", unavailable)


TAKEN, LATER, NEVER = said(Outcome.DELIVERED, Stage.DOT), said(Outcome.DEFERRED), said(Outcome.FAILED, unavailable=False)
AWAY, UNHEARD = said(Outcome.DEFERRED, Stage.CONNECT), said(Outcome.UNCERTAIN, Stage.DOT)
GREY = Verdict(Outcome.DEFERRED, Reply(450, "4.7.1", "greylisted"), "primary", Stage.RCPT, "mx", True)


def copied(uncertain: bool = False) -> Placed:
    return Placed(
        Outcome.DELIVERED, Reply(250, "2.0.0", "in the portal"), "portal", Stage.LOCAL, copy=Portal(1, "copy", uncertain)
    )


class AgentCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(NOW)
        self.queue = MemoryQueue(self.clock.seconds)
        self.modes = Modes()
        self.bus = Bus(self.clock)
        self.heard: list[RecipientSettled] = []
        self.bus.subscribe(RecipientSettled, self.heard.append)
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),), aliases=("alias.test",))],
            [Mailbox(1, f"alice@{DOMAIN}", DOMAIN), Mailbox(2, f"bob@{DOMAIN}", DOMAIN), Mailbox(3, f"carol@{DOMAIN}", DOMAIN)],
        )
        self.primary, self.portal, self.mx = Courier("primary"), Courier("portal"), Courier("mx")
        self.evidence, self.notices = Evidence(), Notices()
        self.copied: list[tuple[str, bool]] = []
        self.backoff = Backoff()
        ground: Any = Ground(self.clock, self.queue, self.directory, self.modes, self.bus, Meters())  # type: ignore[arg-type]
        record = Record(self.clock, self.queue, self.bus, Unrecorded(self.clock))
        self.agent = Agent(
            ground,
            record,
            Retry(self.clock, self.backoff, lambda: 0.5),
            self.evidence,  # type: ignore[arg-type]
            {each.name: each for each in (self.primary, self.portal, self.mx)},  # type: ignore[misc]
            self.notices,  # type: ignore[arg-type]
            Underway(),
            lambda domain, uncertain: self.copied.append((domain, uncertain)),
        )

    def change_domain(self, **changes: Any) -> None:
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], **changes)

    def claim(self, *names: str, door: Door = Door.MX, domain: str = DOMAIN, **changes: Any) -> Claim:
        message = self.queue.take(
            1,
            b"text",
            Envelope("s@outside.test", tuple(Recipient(f"{name}@{domain}") for name in names)),
            Origin(door),
            Direction.IN,
            b"",
            DOMAIN,
            False,
            "",
            "",
        )
        rows = [row for row in self.queue.held.values() if row.message == message.id]
        changed = tuple(msgspec.structs.replace(row, state=RowState.CLAIMED, attempts=3, **changes) for row in rows)
        self.queue.held.update({row.id: row for row in changed})
        return Claim(message, changed)

    def attempt(self, *names: str, **changes: Any) -> list[Settled]:
        """What is recorded of an attempt, in the order of the names."""
        claim = self.claim(*names, **changes)
        before = len(self.queue.settled)
        self.successResultOf(Deferred.fromCoroutine(self.agent.run(claim)))
        self.clock.advance(0)
        recorded = {one.row: one for one in self.queue.settled[before:]}
        return [recorded[row.id] for row in claim.rows]


class Outcomes(AgentCase):
    def test_taken(self) -> None:
        """Would catch a verdict that is not recorded as it was said, an address that is not learnt, or is though the portal took its mail."""
        self.primary.says = {"alice": TAKEN, "bob": AWAY, "carol": NEVER}
        self.portal.says = {"bob": copied()}
        alice, bob, carol = self.attempt("alice", "bob", "carol")
        assert (alice.state, alice.verdict, alice.drain, alice.due) == (RowState.DELIVERED, TAKEN, None, 0.0)
        assert bob.state is RowState.DELIVERED
        assert type(bob.verdict) is Verdict
        assert (carol.state, carol.reason) == (RowState.FAILED, "it may")
        assert self.evidence.learnt == [f"alice@{DOMAIN}"]
        assert self.primary.asked == [["alice", "bob", "carol"]]
        assert self.portal.asked == [["bob"]]
        assert {(each.row, each.domain) for each in self.heard} == {(one.row, DOMAIN) for one in (alice, bob, carol)}
        assert [wait for _, _, wait in self.notices.failures] == [True]

    def test_deferred(self) -> None:
        """Would catch a retry at another time than the back-off's, and mail whose portal is down too that is lost, or tried at once for ever."""
        self.directory.registered.clear()
        self.primary.says = {"alice": LATER}
        [alice] = self.attempt("alice", reason="before")
        assert (alice.state, alice.verdict, alice.waits_for, alice.reason) == (RowState.QUEUED, LATER, WaitsFor.NOTHING, "")
        assert alice.due == NOW + self.backoff.delay(3, 0.5)
        assert not alice.delay_told
        assert not self.copied

    def test_a_copy_for_the_portal(self) -> None:
        """Rule 3: would catch a copy without its drain row, one that is due at once in normal mode or by itself in an emergency, and one that has to wait out its
        back-off although only the outage made it."""
        for first, last, waits_for in (
            (AWAY, None, WaitsFor.OUTAGE),
            (LATER, None, WaitsFor.NOTHING),
            (LATER, AWAY, WaitsFor.NOTHING),
        ):
            self.primary.says = {"alice": first}
            self.portal.says = {"alice": copied()}
            [alice] = self.attempt("alice", last=last)
            assert (alice.state, alice.drain, alice.waits_for) == (RowState.DELIVERED, Portal(1, "copy"), waits_for)
            assert alice.due == NOW + self.backoff.delay(1, 0.5)
        assert not self.copied
        self.modes.now = Mode.EMERGENCY
        [alice] = self.attempt("alice")
        assert (alice.drain, alice.due) == (Portal(1, "copy"), 0.0)
        assert len(self.primary.asked) == 3, "nobody is dialled"
        assert not self.copied
        self.change_domain(primaries=())
        self.modes.now = Mode.NORMAL
        [alice] = self.attempt("alice")
        assert (alice.state, alice.drain, alice.due) == (RowState.DELIVERED, None, 0.0), "it is at home"

    def test_an_uncertain_copy(self) -> None:
        """Rule 1: would catch one that goes home at once, or whose turn nobody watches for."""
        self.primary.says = {"alice": UNHEARD, "bob": AWAY}
        self.portal.says = {"alice": copied(True), "bob": copied()}
        alice, bob = self.attempt("alice", "bob")
        assert alice.due == NOW + self.backoff.patience()
        assert bob.due == NOW + self.backoff.delay(1, 0.5)
        assert self.copied == [(DOMAIN, True)]

    def test_the_emergency_ended_meanwhile(self) -> None:
        """Would catch a copy that was made for an emergency which is over by the time that it is recorded: nobody would take it home."""
        self.modes.now = Mode.EMERGENCY
        self.portal.says = {"alice": copied(), "bob": copied()}
        settle = self.queue.settle

        async def late(verdicts: Sequence[Settled]) -> None:
            self.modes.now = Mode.NORMAL
            await settle(verdicts)

        self.queue.settle = late  # type: ignore[method-assign]
        self.directory.registered[0] = Mailbox(1, f"alice@{DOMAIN}", DOMAIN, aliases=("alice@alias.test",))
        self.attempt("alice", domain="alias.test")
        assert self.copied == [(DOMAIN, False)]

    def test_the_emergency_began_meanwhile(self) -> None:
        """L4: would catch mail that waits for the primary, since it greylists, and is passed over by the adoption because it was being tried just then, also if
        others of the same message were delivered; and an adoption for nothing."""
        self.change_domain(portal_on=PortalOn.OUTAGE)
        adopted: list[str] = []

        async def adopt(domain: str, now: float) -> int:
            adopted.append(domain)
            return 0

        self.queue.adopt = adopt  # type: ignore[method-assign]
        self.primary.says = {"alice": GREY, "bob": TAKEN, "carol": LATER}
        self.portal.says = {"carol": said(Outcome.DEFERRED, Stage.LOCAL, courier="portal")}
        self.attempt("alice", "bob")
        assert adopted == []
        self.primary.then = lambda: setattr(self.modes, "now", Mode.EMERGENCY)
        alice, bob = self.attempt("alice", "bob")
        assert (alice.waits_for, bob.state) == (WaitsFor.PRIMARY, RowState.DELIVERED)
        assert adopted == [DOMAIN]
        self.modes.now = Mode.NORMAL
        self.attempt("bob")
        assert adopted == [DOMAIN]

    def test_waits_for_the_primary(self) -> None:
        """Would catch greylisted mail in the portal of a domain that wants to wait, a notice of ours that waits behind a full mailbox, and mail that the primary
        may have and that is kept from the portal."""
        self.change_domain(portal_on=PortalOn.OUTAGE)
        self.primary.says = {"alice": GREY}
        self.portal.says = {"alice": copied()}
        [alice] = self.attempt("alice")
        assert (alice.state, alice.waits_for) == (RowState.QUEUED, WaitsFor.PRIMARY)
        assert alice.reason == "waits for the primary: greylisting is no outage"
        [alice] = self.attempt("alice", door=Door.NOTICE)
        assert alice.state is RowState.DELIVERED
        [alice] = self.attempt("alice", last=UNHEARD)
        assert alice.state is RowState.DELIVERED

    def test_uncertain_once(self) -> None:
        """Rule 1: would catch a row that the primary may have, and of which that is forgotten when it is deferred after that."""
        self.directory.registered.clear()
        self.primary.says = {"alice": LATER}
        assert self.attempt("alice", last=UNHEARD)[0].verdict == UNHEARD
        assert self.attempt("alice", last=AWAY)[0].verdict == LATER
        self.primary.says = {"alice": said(Outcome.UNCERTAIN, Stage.DOT, 451)}
        assert self.attempt("alice", last=UNHEARD)[0].verdict == self.primary.says["alice"]
        self.primary.says = {"alice": TAKEN}
        assert self.attempt("alice", last=UNHEARD)[0].verdict == TAKEN

    def test_parked(self) -> None:
        """Would catch mail without a portal mailbox that is tried again and again through an emergency, or given up in it."""
        self.modes.now = Mode.EMERGENCY
        [dave] = self.attempt("dave", worked=6 * DAY, delay_told=True)
        assert (dave.state, dave.waits_for, dave.due, dave.delay_told) == (RowState.PARKED, WaitsFor.MAILBOX, 0.0, True)
        assert not self.notices.failures

    def test_elsewhere(self) -> None:
        """Would catch mail for outside that is given to the primary, and recipients of one domain that are dialled for one by one."""
        self.mx.says = {"alice": said(Outcome.DELIVERED, Stage.DOT, courier="mx"), "bob": NEVER}
        alice, bob = self.attempt("alice", "bob", domain="outside.test")
        assert (alice.state, bob.state) == (RowState.DELIVERED, RowState.FAILED)
        assert self.mx.asked == [["alice", "bob"]]
        assert self.evidence.learnt == []


class Telling(AgentCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory.registered.clear()
        self.primary.says = {"alice": LATER}

    def test_late(self) -> None:
        """Would catch a delay of which the sender hears too early, twice, or never because the first try to tell failed."""
        [alice] = self.attempt("alice", worked=4 * HOUR - 1)
        assert (alice.delay_told, self.notices.delays) == (False, [])
        [alice] = self.attempt("alice", worked=4 * HOUR)
        assert (alice.state, alice.delay_told, self.notices.delays) == (RowState.QUEUED, True, [alice.row])
        [alice] = self.attempt("alice", worked=4 * HOUR, delay_told=True)
        assert (alice.delay_told, len(self.notices.delays)) == (True, 1)
        self.notices.told = False
        [alice] = self.attempt("alice", worked=4 * HOUR)
        assert (alice.state, alice.delay_told, len(self.notices.delays)) == (RowState.QUEUED, False, 2)

    def test_given_up(self) -> None:
        """Would catch mail that is given up too early, never, or with a bounce that does not say what the server said last."""
        [alice] = self.attempt("alice", worked=5 * DAY - 1, delay_told=True)
        assert alice.state is RowState.QUEUED
        [alice] = self.attempt("alice", worked=5 * DAY, delay_told=True)
        assert (alice.state, alice.delay_told) == (RowState.FAILED, True)
        assert alice.verdict is not None
        assert (alice.verdict.outcome, alice.verdict.host) == (Outcome.FAILED, "mx")
        assert str(alice.verdict.reply) == "451 given up after 5 days; the last answer: 451 so it is"
        assert len(self.notices.failures) == 1

    def test_no_bounce(self) -> None:
        """Rule 6: would catch a failure that ends in silence where nobody may be told, or whose server is asked again while DNS is down."""
        self.primary.says = {"alice": NEVER}
        self.notices.says = (Bounce.HOLD, "the sender is not proved")
        [alice] = self.attempt("alice")
        assert (alice.state, alice.reason) == (
            RowState.HELD,
            "failed (550 so it is), and no bounce: the sender is not proved",
        )
        self.notices.says = (Bounce.LATER, "no DNS")
        [alice] = self.attempt("alice")
        assert (alice.state, alice.waits_for, alice.verdict) == (RowState.QUEUED, WaitsFor.NOTICE, NEVER)
        assert alice.due == NOW + self.backoff.delay(3, 0.5)
        asked = len(self.primary.asked)
        self.notices.says = (Bounce.SEND, "it may")
        [alice] = self.attempt("alice", waits_for=WaitsFor.NOTICE, last=NEVER)
        assert (alice.state, alice.verdict, len(self.primary.asked)) == (RowState.FAILED, NEVER, asked)
        [alice] = self.attempt("alice", waits_for=WaitsFor.NOTICE)
        assert len(self.primary.asked) == asked + 1, "nobody knows how it failed"

    def test_by_hand(self) -> None:
        """Would catch an order that ends archive rows or copies too, counts what is held, or waits for DNS."""
        rows = []
        for kind, state in (
            (RowKind.DELIVER, RowState.HELD),
            (RowKind.DELIVER, RowState.QUEUED),
            (RowKind.ARCHIVE, RowState.QUEUED),
        ):
            [row] = self.claim("alice").rows
            self.queue.held[row.id] = msgspec.structs.replace(row, kind=kind, state=state, reason="as it was")
            rows.append(row.id)
        assert self.successResultOf(Deferred.fromCoroutine(self.agent.give_up(rows, "enough"))) == 2
        assert [wait for _, _, wait in self.notices.failures] == [False, False]
        by_row = {one.row: one for one in self.queue.settled}
        assert [by_row[row].state for row in rows] == [RowState.FAILED, RowState.FAILED, RowState.QUEUED]
        assert by_row[rows[2]].due == NOW
        self.notices.says = (Bounce.HOLD, "no")
        [row] = self.claim("alice").rows
        self.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.QUEUED)
        assert self.successResultOf(Deferred.fromCoroutine(self.agent.give_up([row.id], "enough"))) == 0
        assert self.queue.settled[-1].state is RowState.HELD
