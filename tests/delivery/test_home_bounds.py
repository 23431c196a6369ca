"""The way home at its bounds: what is told of and when, what a crash left, what comes back, and to whom a copy is addressed (rules 3, 9-11, C6). The queue and the portal are
in memory, and the clock is the test's."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.backoff import DAY, HOUR, Backoff
from hornetmail.core.delivery.pace import Limits
from hornetmail.core.delivery.queued import Message, Portal, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.events import Alarm, FolderChanged, WentHome
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host, Mailbox
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.exchange import Load
from hornetmail.delivery.home.copies import Copies
from hornetmail.delivery.home.drain import DrainLimits
from hornetmail.delivery.home.handover import KEYWORD, HandOver, Result
from hornetmail.delivery.home.recovery import Recovery
from hornetmail.delivery.home.returned import SPACE, Returned
from hornetmail.delivery.home.throttle import IDLE_SECONDS, Throttle
from hornetmail.delivery.home.uncertain import UncertainTurns
from hornetmail.delivery.home.undrained import SHOWN, Undrained
from hornetmail.runtime.bus import Bus
from hornetmail.testing.destinations import Copy, MemoryPortal
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.world import Meters

DOMAIN = "example.test"
ALICE = f"alice@{DOMAIN}"
NOW = 1_700_000_000.0


class Modes:
    def __init__(self) -> None:
        self.now = Mode.NORMAL

    def mode(self, domain: str) -> Mode:
        return self.now

    def answering(self, domain: str) -> float:
        return 0.0


class Notices:
    """Keeps what it is to tell: about what, and the lines."""

    def __init__(self) -> None:
        self.administrators: list[tuple[str, str, list[str]]] = []
        self.people: list[tuple[str, str]] = []

    async def tell_administrators(self, domain: str, subject: str, lines: Any, about: str) -> None:
        self.administrators.append((domain, about, list(lines)))

    async def tell_person(self, mailbox: Mailbox, subject: str, lines: Any, about: str, domain: Domain) -> None:
        self.people.append((mailbox.address, lines[0]))


class HomeCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(NOW)
        self.queue = MemoryQueue(self.clock.seconds)
        self.portal = MemoryPortal()
        self.modes, self.notices, self.bus = Modes(), Notices(), Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.went: list[WentHome] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.bus.subscribe(WentHome, self.went.append)
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),), aliases=("alias.test",)), Domain("portal.test")],
            [Mailbox(1, ALICE, DOMAIN, aliases=(f"al@{DOMAIN}",)), Mailbox(2, f"bob@{DOMAIN}", DOMAIN)],
        )
        self.ground: Any = Ground(self.clock, self.queue, self.directory, self.modes, self.bus, Meters())  # type: ignore[arg-type]
        self.unrecorded = Unrecorded(self.clock)
        self.record = Record(self.clock, self.queue, self.bus, self.unrecorded)
        self.backoff = Backoff()
        self.retry = Retry(self.clock, self.backoff, lambda: 0.5)
        self.returned = Returned(
            self.clock, self.queue, self.portal, self.directory, self.modes, self.bus  # type: ignore[arg-type]
        )  # fmt: skip

    def wait(self, coroutine: Any) -> Any:
        running = Deferred.fromCoroutine(coroutine)
        self.clock.advance(0)
        return self.successResultOf(running)

    def change_domain(self, **changes: Any) -> None:
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], **changes)

    def copy(self, address: str = ALICE, mailbox: int = 1, door: Door = Door.MX, uncertain: bool = False, **changes: Any) -> Row:
        """A copy in INBOX with its drain row, parked unless that is changed."""
        message = self.queue.take(
            1, b"text", Envelope("s@x.test", (Recipient(address),)), Origin(door), Direction.IN, b"", DOMAIN, False, "", ""
        )
        [row] = [row for row in self.queue.held.values() if row.message == message.id]
        portal = Portal(mailbox, f"copy-{row.id}", uncertain)
        changed = msgspec.structs.replace(row, kind=RowKind.DRAIN, state=RowState.PARKED, portal=portal)
        self.queue.held[row.id] = changed = msgspec.structs.replace(changed, **changes)
        self.portal.copies[portal.name] = Copy(portal, message.envelope, b"text")
        return changed

    def message(self, row: Row) -> Message:
        return self.queue.messages[row.message]


class Told(HomeCase):
    def setUp(self) -> None:
        super().setUp()
        self.kicked: list[str] = []
        self.undrained = Undrained(self.ground, self.notices, self.kicked.append, DrainLimits())  # type: ignore[arg-type]

    def swept(self) -> tuple[list[tuple[str, str, list[str]]], list[tuple[str, str]]]:
        self.notices.administrators.clear()
        self.notices.people.clear()
        self.wait(self.undrained.sweep())
        return self.notices.administrators, self.notices.people

    def test_whose_and_how_many(self) -> None:
        """Would catch a notice a minute too early, none at all, one about copies that are refused, young, or our own notices, and figures that are not right."""
        self.clock.advance(-1.0)
        for state in (RowState.PARKED, RowState.QUEUED, RowState.CLAIMED, RowState.STUCK):
            self.copy(state=state)
        self.copy(f"bob@{DOMAIN}", 2)
        self.copy(door=Door.NOTICE)
        self.copy(mailbox=77)
        self.clock.advance(1.0)
        self.copy()
        self.clock.advance(4 * HOUR - 1.0)
        administrators, people = self.swept()
        [(domain, about, lines)] = administrators
        assert (domain, about) == (DOMAIN, f"undrained:{DOMAIN}")
        assert lines[0].startswith(
            f"5 messages for {DOMAIN} have been in the portal for more than 4 hours, because the mail server did not"
        )
        assert lines[3:] == [f"  <{ALICE}>: not tried yet"] * 3 + [
            f"  <bob@{DOMAIN}>: not tried yet",
            f"  <{ALICE}>: not tried yet",
        ]
        assert [(address, text.partition(" ")[0]) for address, text in people] == [(ALICE, "3"), (f"bob@{DOMAIN}", "1")]
        self.modes.now = Mode.EMERGENCY
        assert "because the mail server is not there" in self.swept()[0][0][2][0]

    def test_just_young_enough(self) -> None:
        """Would catch a bound that is not four hours."""
        self.copy()
        self.clock.advance(4 * HOUR - 1.0)
        assert self.swept() == ([], [])
        self.clock.advance(1.0)
        assert len(self.swept()[1]) == 1

    def test_many(self) -> None:
        """Would catch a letter with a hundred thousand lines."""
        for _ in range(SHOWN + 1):
            self.copy()
        self.clock.advance(4 * HOUR)
        [(_, _, lines)] = self.swept()[0]
        assert len(lines) == 3 + SHOWN
        assert lines[0].startswith(f"{SHOWN + 1} messages")

    def test_overlooked(self) -> None:
        """Would catch parked copies that nobody takes home in normal mode, and passes for those of an emergency, or that have a back-off."""
        self.copy(state=RowState.QUEUED)
        self.swept()
        assert self.kicked == []
        self.copy("alice@alias.test")
        self.copy(state=RowState.QUEUED)
        self.swept()
        assert self.kicked == [DOMAIN]
        self.modes.now = Mode.EMERGENCY
        self.swept()
        assert self.kicked == [DOMAIN]

    def test_nobody_is_left(self) -> None:
        """Would catch copies of a domain without primaries that are tried for ever, or let go within the hour in which the primary is being replaced; and an hour that does
        not begin anew."""
        self.copy()
        self.copy(f"bob@{DOMAIN}", 2)
        self.change_domain(primaries=())
        assert self.swept() == ([], [])
        self.clock.advance(3599.0)
        self.change_domain(primaries=(Host("192.0.2.1"),))
        self.swept()
        self.change_domain(primaries=())
        self.swept()
        self.clock.advance(3599.0)
        self.swept()
        assert len(self.queue.all(RowKind.DRAIN)) == 2
        assert not self.alarms
        self.clock.advance(1.0)
        [(domain, about, lines)] = self.swept()[0]
        self.clock.advance(0)
        assert (domain, about) == (DOMAIN, f"orphaned:{DOMAIN}")
        assert lines == [self.alarms[0].text + "."]
        assert [alarm.text for alarm in self.alarms] == [
            f"{DOMAIN} has no primary any more: 2 messages that were to be drained stay in the portal for good"
        ]
        assert not self.queue.all(RowKind.DRAIN)
        assert self.swept() == ([], [])


class AfterACrash(HomeCase):
    def setUp(self) -> None:
        super().setUp()
        self.underway = Underway()
        self.recovery = Recovery(self.ground, self.record, self.retry, self.portal, self.returned, self.underway, 100.0, 60.0)  # type: ignore[arg-type]

    def deliver(self, address: str = ALICE, **changes: Any) -> Row:
        message = self.queue.take(
            1, b"text", Envelope("s@x.test", (Recipient(address),)), Origin(Door.MX), Direction.IN, b"", DOMAIN, False, "", ""
        )
        [row] = [row for row in self.queue.held.values() if row.message == message.id]
        self.queue.held[row.id] = changed = msgspec.structs.replace(row, state=RowState.CLAIMED, attempts=2, **changes)
        return changed

    def settled(self, row: Row) -> Settled:
        self.queue._at_start = [(self.message(row), row)]
        assert self.wait(self.recovery.run()) == 1
        return self.queue.settled[-1]

    def test_a_delivery(self) -> None:
        """Rules 1 and 11: would catch one that may be at the primary and is tried as if it were not, one that cannot be and is marked, or one that waits."""
        one = self.settled(self.deliver())
        assert (one.state, one.due) == (RowState.QUEUED, NOW)
        assert one.verdict is not None
        assert (one.verdict.outcome, one.verdict.stage, str(one.verdict.reply)) == (
            Outcome.UNCERTAIN,
            Stage.DOT,
            "451 4.4.2 the service stopped during the hand-over, or lost sight of it",
        )
        for address in ("a@outside.test", "paula@portal.test"):
            one = self.settled(self.deliver(address))
            assert (one.state, one.due, one.verdict) == (RowState.QUEUED, NOW, None), address
        no = Verdict(Outcome.FAILED, Reply(550, "5.1.1"), "primary")
        one = self.settled(self.deliver(waits_for=WaitsFor.NOTICE, last=no, reason="not yet told", delay_told=True))
        assert (one.verdict, one.due, one.waits_for, one.reason, one.delay_told) == (
            no,
            NOW,
            WaitsFor.NOTICE,
            "not yet told",
            True,
        )
        one = self.settled(self.deliver(kind=RowKind.ARCHIVE))
        assert (one.state, one.verdict) == (RowState.QUEUED, None)

    def test_in_the_portal_already(self) -> None:
        """Would catch a copy that is made twice, that goes home as certain, or that nobody takes home."""
        for mode, primaries, due in (
            (Mode.NORMAL, True, NOW + self.backoff.patience()),
            (Mode.EMERGENCY, True, 0.0),
            (Mode.NORMAL, False, 0.0),
        ):
            self.modes.now = mode
            self.change_domain(primaries=(Host("192.0.2.1"),) if primaries else ())
            row = self.deliver()
            placed = Portal(1, f"row-{row.id}")
            self.portal.copies[placed.name] = Copy(placed, self.message(row).envelope, b"text")
            one = self.settled(row)
            assert (one.state, one.due) == (RowState.DELIVERED, due)
            assert one.drain == (Portal(1, placed.name, True) if primaries else None)
            assert one.verdict is not None
            assert str(one.verdict.reply) == "250 2.0.0 in the portal"

    def test_a_copy(self) -> None:
        """C6: would catch one that its owner removed and that is offered, or forgotten when it comes back; one that stays claimed in the portal, so that its owner cannot use
        it; and one that the primary may have and that goes as certain."""
        row = self.copy(state=RowState.CLAIMED, attempts=2)
        self.portal.copies[f"copy-{row.id}"].claimed = True
        one = self.settled(row)
        assert (one.state, one.due) == (RowState.QUEUED, NOW + self.backoff.delay(2, 0.5))
        assert one.verdict is not None
        assert one.verdict.outcome is Outcome.UNCERTAIN
        assert not self.portal.copies[f"copy-{row.id}"].claimed
        gone = self.copy(state=RowState.CLAIMED)
        del self.portal.copies[f"copy-{gone.id}"]
        assert self.settled(gone).state is RowState.REMOVED
        assert self.returned.watched(1) == [f"copy-{gone.id}"]

    def test_what_cannot_be_looked_into(self) -> None:
        """Would catch a start that ends at a portal which fails, and a row that is tried before its time because of it."""
        self.portal.fail = OSError("disk")
        for due, expected in ((NOW + 500.0, NOW + 500.0), (NOW - 500.0, NOW)):
            one = self.settled(self.deliver(due=due))
            assert (one.state, one.due) == (RowState.QUEUED, expected)
        assert len(self.flushLoggedErrors(OSError)) == 2

    def sweep(self) -> int:
        return int(self.wait(self.recovery.sweep()))

    def test_claims_that_nobody_works_on(self) -> None:
        """Would catch a claim that is taken back while its work is just beginning, is under way, or is being recorded; one that stays; and an alarm of a megabyte."""
        rows = [self.deliver(f"user{number}@{DOMAIN}") for number in range(7)]
        self.queue._claimed_at.update({row.id: NOW for row in rows})
        never: list[Deferred[None]] = [Deferred()]

        async def work() -> None:
            await never[0]

        working: Any = Deferred.fromCoroutine(self.underway.work([rows[0].id], work()))
        self.clock.advance(60.0)
        assert self.sweep() == 0
        self.clock.advance(0.5)
        assert self.sweep() == 6
        self.clock.advance(0)
        [alarm] = self.alarms
        assert alarm.text == "6 attempts did not end and are taken back, among them those for " + ", ".join(
            f"<user{number}@{DOMAIN}>" for number in range(1, 6)
        )
        assert self.queue.held[rows[0].id].state is RowState.CLAIMED
        working.addErrback(lambda _: None)
        never[0].callback(None)

    def test_attempts_that_last_too_long(self) -> None:
        """Would catch a large message that is cut off on its way over a slow line, one that hangs for ever, and one whose verdict was being recorded and that is asked again."""
        small, large = self.deliver(), self.deliver()
        message = self.message(large)
        self.queue.messages[message.id] = msgspec.structs.replace(message, size=409_600)
        self.queue._claimed_at.update({small.id: NOW, large.id: NOW})
        gates: dict[int, Deferred[None]] = {row.id: Deferred() for row in (small, large)}
        ended: list[int] = []

        async def work(row: int) -> None:
            try:
                await gates[row]
            finally:
                ended.append(row)

        running = [Deferred.fromCoroutine(self.underway.work([row.id], work(row.id))) for row in (small, large)]
        for each in running:
            each.addErrback(lambda _: None)
        self.clock.advance(99.9)
        assert (self.sweep(), ended) == (0, [])
        self.clock.advance(0.5)
        assert (self.sweep(), ended) == (1, [small.id])
        self.clock.advance(99.0)
        assert (self.sweep(), ended) == (0, [small.id])
        self.clock.advance(1.0)
        assert (self.sweep(), ended) == (1, [small.id, large.id])


class ComeBack(HomeCase):
    def note(self, row: Row) -> None:
        """It was not in INBOX when its turn came, and its row is done."""
        self.wait(self.returned.note(self.message(row), row))
        self.portal.copies[row.portal.name].moved = True  # type: ignore[union-attr]
        self.wait(self.queue.change([row.id], RowState.REMOVED))

    def back(self, row: Row) -> None:
        self.portal.copies[row.portal.name].moved = False  # type: ignore[union-attr]

    def test_it_drains(self) -> None:
        """Would catch one that stays, that drains twice, at once in an emergency, or as certain though the primary may have it; and a look that says another number."""
        certain, doubtful, away = self.copy(), self.copy(uncertain=True), self.copy()
        for row in (certain, doubtful, away):
            self.note(row)
        assert self.wait(self.returned.look(1)) == 0
        self.back(certain)
        assert self.wait(self.returned.look(1)) == 1
        assert self.wait(self.returned.look(1)) == 0
        [row] = self.queue.all(RowKind.DRAIN)
        assert (row.portal, row.state, row.due, row.address) == (certain.portal, RowState.QUEUED, NOW, ALICE)
        self.modes.now = Mode.EMERGENCY
        self.back(doubtful)
        assert self.wait(self.returned.look(1)) == 1
        row = self.queue.all(RowKind.DRAIN)[-1]
        assert (row.portal, row.state) == (doubtful.portal, RowState.PARKED)
        assert self.returned.watched() == self.returned.watched(1) == [away.portal.name]  # type: ignore[union-attr]
        assert self.returned.watched(2) == []
        assert list(self.queue.remembered(SPACE)) == [f"1/{away.portal.name}"]  # type: ignore[union-attr]

    def test_one_that_has_a_row(self) -> None:
        """Would catch a second row for a copy that somebody chose meanwhile, and a copy that is forgotten while its old row is just being given up."""
        row = self.copy()
        self.wait(self.returned.note(self.message(row), row))
        self.queue.held[row.id] = msgspec.structs.replace(row, state=RowState.CLAIMED)
        assert self.wait(self.returned.look(1)) == 0
        assert self.returned.watched(1)
        self.queue.held[row.id] = row
        assert self.wait(self.returned.look(1)) == 0
        assert not self.returned.watched(1)
        assert len(self.queue.all(RowKind.DRAIN)) == 1

    def test_when_it_is_looked_for(self) -> None:
        """Would catch a look at each change of each folder, or none at the one that counts."""
        row = self.copy()
        self.note(row)
        looked: list[int] = []

        async def look(mailbox: int) -> int:
            looked.append(mailbox)
            return 0

        self.returned.look = look  # type: ignore[method-assign]
        self.returned.start()
        for mailbox, folder in ((1, "Archive"), (2, "INBOX"), (1, "INBOX")):
            self.bus.publish(FolderChanged(mailbox, folder))
            self.clock.advance(0)
        assert looked == [1]
        self.wait(self.returned.stop(0))
        self.bus.publish(FolderChanged(1, "INBOX"))
        self.clock.advance(0)
        assert looked == [1]

    def test_in_turn(self) -> None:
        """Would catch a sweep that looks at ten thousand mailboxes, always at the same ones, or at none."""
        looked: list[int] = []

        async def look(mailbox: int) -> int:
            looked.append(mailbox)
            return 0

        self.returned.look = look  # type: ignore[method-assign]
        for mailbox in range(1, 121):
            row = self.copy(mailbox=mailbox)
            self.note(row)
        for _ in range(3):
            self.wait(self.returned.sweep())
        assert looked == [*range(1, 121), *range(1, 31)]

    def test_for_how_long(self) -> None:
        """Would catch a fact that is kept for ever, or forgotten while its copy may still come back: as long as the domain keeps folders, and thirty days."""
        for days, lasts in ((90, 120), (0, 366)):
            self.setUp()
            self.change_domain(portal_days=days)
            row = self.copy()
            self.note(row)
            self.clock.advance(lasts * DAY)
            self.wait(self.returned.sweep())
            assert self.returned.watched(1), days
            self.clock.advance(1.0)
            self.wait(self.returned.sweep())
            assert not self.returned.watched(1), days
            assert not self.queue.remembered(SPACE)
            assert not self.returned._turns
        row = self.copy()
        self.note(row)
        self.directory.served.clear()
        self.clock.advance(366 * DAY)
        self.wait(self.returned.sweep())
        assert self.returned.watched(1)

    def test_nowhere_to_go(self) -> None:
        """Would catch a row for a copy whose domain has no primary any more."""
        row = self.copy()
        self.note(row)
        self.back(row)
        self.change_domain(primaries=())
        assert self.wait(self.returned.look(1)) == 0
        assert self.returned.watched(1)
        self.directory.served.clear()
        assert self.wait(self.returned.look(1)) == 0

    def test_a_restart(self) -> None:
        """Would catch facts that one unreadable among them takes along."""
        row = self.copy()
        self.note(row)
        for key, value in (("x/copy", b""), ("1/broken", b"nonsense")):
            self.wait(self.queue.remember(SPACE, key, value))
        again = Returned(
            self.clock, self.queue, self.portal, self.directory, self.modes, self.bus  # type: ignore[arg-type]
        )  # fmt: skip
        again.load()
        assert again.watched() == [row.portal.name]  # type: ignore[union-attr]

    def test_one_look_at_a_time(self) -> None:
        """Would catch two looks that each make a row, and one that failed and lets none follow."""
        row = self.copy()
        self.note(row)
        self.portal.returned = self.broken  # type: ignore[method-assign, assignment]
        assert self.wait(self.returned.look(1)) == 0
        assert len(self.flushLoggedErrors(OSError)) == 1
        assert not self.returned._looking
        self.returned._looking.add(1)
        assert self.wait(self.returned.look(1)) == 0
        assert not self.flushLoggedErrors(OSError)

    async def broken(self, mailbox: int, names: Any) -> Any:
        raise OSError("disk")


class Evidence:
    def __init__(self) -> None:
        self.learnt: list[str] = []

    async def weigh(self, address: str, message: Message, verdict: Verdict) -> Verdict:
        return verdict

    def learn(self, addresses: Any) -> None:
        self.learnt += addresses


class Primary:
    """``says``: its verdict, or what is raised; ``dot``: the final dot was on its way."""

    def __init__(self, case: HandedOver) -> None:
        self.case = case
        self.says: Verdict | Exception = verdict(Outcome.DELIVERED)
        self.dot = False
        self.loads: list[Load] = []

    async def hand_over(
        self, domain: str, load: Load, copy: Portal, verdicts: dict[int, Verdict], *, doubtful: bool = False, trial: bool = False
    ) -> None:
        self.loads.append(load)
        if self.dot:
            await self.case.unrecorded.before_dot(self, load.rows)
        if isinstance(self.says, Exception):
            raise self.says
        verdicts[load.rows[0]] = self.says


def verdict(outcome: Outcome, stage: Stage = Stage.DOT, code: int = 250, unavailable: bool = True) -> Verdict:
    return Verdict(outcome, Reply(code, "", "so it is"), "primary", stage, "mx", unavailable)


class HandedOver(HomeCase):
    def setUp(self) -> None:
        super().setUp()
        self.primary, self.evidence = Primary(self), Evidence()
        self.copies = Copies(self.ground, self.record, self.portal)  # type: ignore[arg-type]
        self.hand_over = HandOver(
            self.ground, self.record, self.retry, self.portal, self.primary, self.evidence, self.copies, self.returned, 5  # type: ignore[arg-type]
        )  # fmt: skip

    def handed(self, row: Row, *, sweeping: bool = True, trial: bool = False, **changes: Any) -> tuple[Result, Settled]:
        before = len(self.queue.settled)
        row = msgspec.structs.replace(row, state=RowState.CLAIMED, **changes)
        self.queue.held[row.id] = row
        result = self.wait(self.hand_over.hand(self.message(row), row, sweeping=sweeping, trial=trial))
        self.clock.advance(0)
        return result, self.queue.settled[before]

    def test_taken(self) -> None:
        """Would catch a copy that is removed before that is on record, an address that is not learnt, and people who are not told that it went home."""
        row = self.copy()
        result, one = self.handed(row, delay_told=True)
        assert (result, one.state, one.delay_told) == (Result.HOME, RowState.HOME, True)
        assert [each.state for each in self.queue.settled] == [RowState.HOME, RowState.DELIVERED]
        assert not self.portal.copies
        assert self.evidence.learnt == [ALICE]
        assert self.went == [WentHome(DOMAIN, 1, True)]

    def test_refused(self) -> None:
        """Rule 10: would catch one that goes on draining, vanishes, or is refused in silence."""
        self.primary.says = verdict(Outcome.FAILED, Stage.RCPT, 550, False)
        row = self.copy("alice@alias.test")
        result, one = self.handed(row)
        assert (result, one.state, one.reason) == (Result.STUCK, RowState.STUCK, "the primary refused it: 550 so it is")
        [there] = self.portal.copies.values()
        assert (there.keywords, there.claimed, there.reason) == ((KEYWORD,), False, one.reason)
        assert self.went == [WentHome(DOMAIN, 1, False)]
        assert [(alarm.code, alarm.text) for alarm in self.alarms] == [
            ("drain-refused", "<alice@alias.test>: the primary refused it: 550 so it is; it stays in INBOX")
        ]

    def test_deferred(self) -> None:
        """Would catch a copy that waits for the next pass though its own mailbox is the trouble, or out its back-off though the primary was; one at which the primary was in
        trouble five times has that trouble to itself; and a pass that goes on, or ends, for the wrong reason."""
        connect, rcpt = verdict(Outcome.DEFERRED, Stage.CONNECT, 451), verdict(Outcome.DEFERRED, Stage.RCPT, 451)
        full = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "full"), "primary", Stage.RCPT, "mx", True)
        back = NOW + self.backoff.delay(4, 0.5)
        for says, sweeping, attempts, result, state, due in (
            (connect, True, 4, Result.UNAVAILABLE, RowState.PARKED, 0.0),
            (connect, True, 5, Result.UNAVAILABLE, RowState.QUEUED, NOW + self.backoff.delay(5, 0.5)),
            (connect, False, 4, Result.UNAVAILABLE, RowState.QUEUED, back),
            (rcpt, True, 4, Result.DEFERRED, RowState.QUEUED, back),
            (full, True, 4, Result.LATER, RowState.QUEUED, back),
            (verdict(Outcome.UNCERTAIN, Stage.DOT, 421), True, 4, Result.UNAVAILABLE, RowState.QUEUED, back),
        ):
            self.primary.says = says
            got, one = self.handed(self.copy(), sweeping=sweeping, attempts=attempts)
            assert (got, one.state, one.due, one.verdict) == (result, state, due, says)
        assert not any(copy.claimed for copy in self.portal.copies.values()), "their owner can use them"

    def test_never_heard_of(self) -> None:
        """Rule 11: would catch a copy that comes to somebody's mailbox again and again because the primary never answers its final dot, and one that is given up for attempts
        that did not come so far."""
        row = self.copy()
        unheard = verdict(Outcome.UNCERTAIN, Stage.DOT, 421)
        self.primary.says = unheard
        for count in range(4):
            result, one = self.handed(row, unheard=count)
            assert (result, one.unheard) == (Result.UNAVAILABLE, count + 1)
        self.primary.says = verdict(Outcome.DEFERRED, Stage.CONNECT, 451)
        self.handed(row, unheard=4)
        assert self.queue.held[row.id].unheard == 4
        self.primary.says = unheard
        result, one = self.handed(row, unheard=4)
        assert (result, one.state, one.unheard) == (Result.STUCK, RowState.STUCK, 5)
        assert one.reason.startswith("the primary may have it, 5 times by now, but never says so: 421")
        self.primary.says = verdict(Outcome.FAILED, Stage.RCPT, 550, False)
        assert self.handed(row, unheard=5)[1].reason.startswith("the primary refused it")
        self.primary.says = unheard
        assert self.handed(row, unheard=5)[0] is Result.STUCK, "what it may have it has, whatever it said since"

    def test_trouble_of_our_own(self) -> None:
        """Would catch a fault of ours that is held against the primary, or after which a copy that may be there goes as certain."""
        for dot, outcome, said, result in (
            (False, Outcome.DEFERRED, "451 4.3.0 trouble of our own", Result.LATER),
            (True, Outcome.UNCERTAIN, "451 4.4.2 trouble of our own after the final dot", Result.UNAVAILABLE),
        ):
            self.primary.says, self.primary.dot = OSError("disk"), dot
            got, one = self.handed(self.copy())
            assert one.verdict is not None
            assert (got, one.state, one.verdict.outcome, str(one.verdict.reply)) == (result, RowState.QUEUED, outcome, said)
            assert len(self.flushLoggedErrors(OSError)) == 1
        assert one.verdict.unavailable

    def test_what_the_portal_says(self) -> None:
        """Would catch a copy that is offered while a POP session has it, or after it was removed (C6), and one whose mailbox was removed that is tried for ever."""
        row = self.copy()
        self.portal.locks[1] = "pop"
        assert self.handed(row) == (Result.LATER, Settled(row.id, RowState.QUEUED, None, NOW + 20.0))
        self.portal.locks.clear()
        begin = self.portal.begin_drain
        for error, result, state in (
            (FolderError("CANNOT", "gone"), Result.GONE, RowState.REMOVED),
            (OSError("disk"), Result.LATER, RowState.QUEUED),
        ):
            row = self.copy()

            async def failing(copy: Portal, error: Exception = error) -> Any:
                raise error

            self.portal.begin_drain = failing  # type: ignore[method-assign]
            got, one = self.handed(row)
            assert (got, one.state) == (result, state)
        assert one.verdict is not None
        assert (str(one.verdict.reply), one.verdict.stage) == ("451 4.3.0 our portal store failed", Stage.LOCAL)
        self.portal.begin_drain = begin  # type: ignore[method-assign]
        row = self.copy()
        del self.portal.copies[row.portal.name]  # type: ignore[union-attr]
        got, one = self.handed(row)
        assert (got, one.state, one.reason) == (Result.GONE, RowState.REMOVED, "removed from INBOX before it was drained (C6)")
        assert self.returned.watched(1)
        assert not self.primary.loads

    def test_in_an_emergency(self) -> None:
        """Would catch copies that are offered to a primary in an emergency, beside the one that is to tell whether it is over."""
        self.modes.now = Mode.EMERGENCY
        row = self.copy()
        assert self.handed(row)[1].state is RowState.PARKED
        assert not self.primary.loads
        assert self.handed(row, trial=True)[0] is Result.HOME

    def test_to_whom(self) -> None:
        """Rule 9: would catch a copy that goes to an address that is somebody else's by now, or to another than it was sent to although that is its owner's; and the sender's
        wishes that are lost on the way."""
        wished = Recipient(f"al@{DOMAIN}", ("NEVER",), "rfc822;al@x.test")
        for mailbox, address, expected in (
            (1, f"al@{DOMAIN}", f"al@{DOMAIN}"),
            (2, f"al@{DOMAIN}", f"bob@{DOMAIN}"),
            (1, f"gone@{DOMAIN}", ALICE),
            (77, f"gone@{DOMAIN}", f"gone@{DOMAIN}"),
        ):
            row = self.copy(address, mailbox)
            message = self.message(row)
            envelope = msgspec.structs.replace(message.envelope, recipients=(msgspec.structs.replace(wished, address=address),))
            self.queue.messages[message.id] = msgspec.structs.replace(message, envelope=envelope)
            self.handed(row)
            [recipient] = self.primary.loads[-1].recipients
            assert recipient == msgspec.structs.replace(wished, address=expected)
        row = self.copy()
        self.portal.copies[row.portal.name].envelope = Envelope("", ())  # type: ignore[union-attr]
        self.handed(row)
        assert self.primary.loads[-1].recipients == (Recipient(ALICE),)


class Bounds(HomeCase):
    def test_a_primary_that_was_given_nothing(self) -> None:
        """Would catch one that is met anew too early, never, or for ever after a clock was put back."""
        throttle = Throttle(self.clock, Limits(first=10.0))
        self.clock.advance(IDLE_SECONDS - 0.1)
        assert not throttle.idle
        self.clock.advance(0.1)
        assert throttle.idle
        self.clock.rightNow -= 10.0
        assert not throttle.idle
        self.clock.rightNow -= IDLE_SECONDS
        assert throttle.idle, "the clock was put back"
        self.wait(throttle.begin())
        self.clock.advance(IDLE_SECONDS)
        assert not throttle.idle, "one is under way"
        throttle.end(1.0, None)
        assert not throttle.idle, "in this moment"
        waiting = [Deferred.fromCoroutine(throttle.begin()) for _ in range(3)]
        self.clock.advance(2 * IDLE_SECONDS)
        assert not throttle.idle, "others wait"
        for each in waiting:
            each.addErrback(lambda _: None)
            each.cancel()

    def test_turns_of_a_service_that_does_not_run(self) -> None:
        """Would catch looks that are made for before the start or after the stop, and that nobody ends."""
        turns = UncertainTurns(self.clock, self.queue, self.directory, self.modes, self.backoff)  # type: ignore[arg-type]
        turns.expect(DOMAIN)
        assert not self.clock.getDelayedCalls()
        self.wait(turns.start())
        turns.expect(DOMAIN)
        turns.expect(DOMAIN)
        [call] = self.clock.getDelayedCalls()
        assert call.getTime() == NOW + 10.0
        self.wait(turns.stop())
        turns.expect(DOMAIN)
        assert not self.clock.getDelayedCalls()
