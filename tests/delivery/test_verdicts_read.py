"""What answers mean as verdicts, how far a primary's are believed, what the archive is given, and the limits that are promised (rules 1, 2, 4 and 8, C8, C12, C20)."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.archive.archived import ArchiveItem
from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Claim, Message, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.events import Alarm, AlarmEnded, MessageAccepted
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.silence import DAYS, Relay
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Coverage, Domain, Host, Mailbox, PortalOn
from hornetmail.delivery.attempt.archiving import QUICK_LOOK, QUICK_LOOKS, Archiving
from hornetmail.delivery.attempt.evidence import Evidence
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.attempt.scheduler import Share
from hornetmail.delivery.connections.pool import Limits
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.archive import ArchiveCourier, Standing, _token
from hornetmail.delivery.couriers.exchange import verdict_of, verdict_of_broken
from hornetmail.delivery.couriers.fitting import HELD_BYTES, Text
from hornetmail.delivery.home.drain import BEHIND, TRIALS, DrainLimits
from hornetmail.delivery.outage.health import HostHealth, Pace
from hornetmail.delivery.outage.silence import SPACE, Silence
from hornetmail.delivery.outage.waiting import Waiting
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.service import Settings
from hornetmail.net.clients.smtp import Answer, Broken
from hornetmail.runtime.bus import Bus
from hornetmail.testing.destinations import StagedArchive
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryBody, MemoryQueue
from hornetmail.testing.memory_recipients import MemoryRecipients
from tests.delivery.world import Meters

DOMAIN = "example.test"
ALICE, BOB = f"alice@{DOMAIN}", f"bob@{DOMAIN}"
NOW = 1_700_000_000.0


class Promised(TestCase):
    def test_the_limits(self) -> None:
        """As the operations guide and the rules have them."""
        assert (Settings().deliveries, Settings().share, Settings().archivings, Settings().drains, Settings().sweep) == (
            300,
            0.2,
            64,
            20,
            60.0,
        )
        assert Limits() == Limits(20, 4, 30.0, 45.0, 1.0, 1000)
        assert DrainLimits() == DrainLimits(DrainLimits().pace, 3, 5, 5.0, 120.0, 4 * 3600.0, 3600.0)
        assert (TRIALS, BEHIND) == (5, 100)
        assert Pace() == Pace(60.0, 5.0, 8.0)
        assert not HostHealth(Host("x")).nameless

    def test_the_longest_attempt(self) -> None:
        """Would catch attempts that are cut off while they may still succeed: four times all hosts, eight replies, two pieces and the final dot, each at its slowest."""
        assert Settings().longest_attempt() == 4 * (45.0 + 10.0 + 8 * 60.0 + 2 * 120.0 + 600.0)


class Answers(TestCase):
    def test_of_an_answer(self) -> None:
        """Rule 8a: would catch mail that counts as delivered without its final dot, or whose failure is not one; and an answer after which the portal is not tried (C20)."""
        for stage, code, uncertain, outcome, unavailable, said in (
            (Stage.DOT, 250, False, Outcome.DELIVERED, False, "250 so"),
            (Stage.DOT, 250, True, Outcome.UNCERTAIN, True, "250 so"),
            (Stage.RCPT, 550, False, Outcome.FAILED, False, "550 so"),
            (Stage.DOT, 554, False, Outcome.FAILED, False, "554 so"),
            (Stage.RCPT, 450, False, Outcome.DEFERRED, True, "450 so"),
            (Stage.DOT, 354, False, Outcome.DEFERRED, True, "421 4.5.0 no verdict on the message, at dot: 354 so"),
            (Stage.RCPT, 250, False, Outcome.DEFERRED, True, "421 4.5.0 no verdict on the message, at rcpt: 250 so"),
        ):
            found = verdict_of(Answer(stage, Reply(code, "", "so"), uncertain), "mx", "host")
            assert (found.outcome, found.unavailable, str(found.reply), found.courier, found.host) == (
                outcome,
                unavailable,
                said,
                "mx",
                "host",
            )
            assert found.stage is stage

    def test_of_a_broken_connection(self) -> None:
        """Rule 4: would catch mail that bounces because a server refuses our connection, one that may have arrived and counts as not sent, and our own trouble that is
        theirs."""
        for stage, code, certain, outcome, at, unavailable, said in (
            (Stage.CONNECT, 451, True, Outcome.DEFERRED, Stage.CONNECT, True, "451 so"),
            (Stage.EHLO, 554, True, Outcome.DEFERRED, Stage.EHLO, True, "451 4.4.1 the server said at ehlo: 554 so"),
            (Stage.LOCAL, 451, True, Outcome.DEFERRED, Stage.LOCAL, False, "451 so"),
            (Stage.BODY, 421, False, Outcome.UNCERTAIN, Stage.DOT, True, "421 so"),
        ):
            found = verdict_of_broken(Broken(stage, Reply(code, "", "so"), certain=certain), "mx", "host")
            assert (found.outcome, found.stage, found.unavailable, str(found.reply)) == (outcome, at, unavailable, said)

    async def test_what_is_held_of_a_text(self) -> None:
        """Would catch a short message that is read from disk three times, and a long one that is held in memory."""
        for size, reads in ((HELD_BYTES, 1), (HELD_BYTES + 1, 2)):
            read = 0

            async def chunks(size: int = size) -> Any:
                nonlocal read
                read += 1
                yield b"x" * (size - 2)
                yield b"\r\n"

            text = Text(chunks)
            for _ in range(2):
                await text.flaws()
            assert len(b"".join([chunk async for chunk in text.chunks()])) == size
            assert read == reads


class Shares(TestCase):
    def test_a_share(self) -> None:
        """Would catch one that hangs and has more than its part, nothing at all, or part of what others left; and lanes that are woken for nothing, or never, when a place is free."""
        share = Share(0.5, 8, lambda domain, address: domain)
        assert share.room("a") == 4
        assert share.room("a", {"a": 3}) == 1
        assert share.room("a", {"b": 4}) == 2
        assert not share.denied
        assert share.room("a", {"a": 4}) == 0
        assert share.denied
        share.denied = False
        for _ in range(3):
            share.take("a")
        assert not share.denied, "there is room for one more"
        share.take("a")
        assert share.denied
        share.denied = False
        share.take("b")
        assert share.room("b") == 1
        share.take("b")
        share.take("c")
        assert share.room("c") == 0
        assert share.room("d") == 1, "one always"
        for goal in ("a", "a", "a", "a", "b", "b", "c"):
            share.give(goal)
        assert share.room("a") == 4
        assert not share._busy
        share.denied = False
        share.kept_waiting()
        assert share.denied


class Modes:
    def __init__(self) -> None:
        self.verdicts: list[tuple[str, str, int, str, bool, bool]] = []
        self.refusals: list[str] = []

    def mode(self, domain: str) -> Mode:
        return Mode.NORMAL

    def verdict(
        self, domain: str, address: str, message: int, verdict: Verdict, *, sender: str, proven: bool, ours: bool
    ) -> None:
        self.verdicts.append((domain, address, message, sender, proven, ours))

    def refused(self, domain: str, address: str, verdict: Verdict) -> None:
        self.refusals.append(address)


class RoomCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(NOW)
        self.queue = MemoryQueue(self.clock.seconds)
        self.bus = Bus(self.clock)
        self.alarms: list[Alarm] = []
        self.ended: list[AlarmEnded] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.bus.subscribe(AlarmEnded, self.ended.append)
        self.modes = Modes()
        self.directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=(Host("192.0.2.1"),), aliases=("alias.test",), retention_days=77), Domain("other.test")],
            [Mailbox(1, ALICE, DOMAIN), Mailbox(2, BOB, DOMAIN, archive=False)],
        )

    def wait(self, coroutine: Any) -> Any:
        running = Deferred.fromCoroutine(coroutine)
        self.clock.advance(0)
        return self.successResultOf(running)

    def change_domain(self, **changes: Any) -> None:
        self.directory.served[0] = msgspec.structs.replace(self.directory.served[0], **changes)

    def accept(self, *people: str, archive: bool = False, direction: Direction = Direction.IN, **origin: Any) -> Message:
        return self.queue.take(
            1,
            b"Subject: x\r\n\r\n",
            Envelope("s@outside.test", tuple(Recipient(each) for each in people)),
            Origin(**{"door": Door.MX, **origin}),
            direction,
            b"trace",
            DOMAIN,
            archive,
            "",
            "",
        )

    def rows(self, message: Message, kind: RowKind = RowKind.DELIVER) -> list[Row]:
        return [row for row in self.queue.held.values() if row.message == message.id and row.kind is kind]

    def change(self, row: Row, **changes: Any) -> Row:
        changed = self.queue.held[row.id] = msgspec.structs.replace(row, **changes)
        return changed


class Believed(RoomCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = MemoryRecipients()
        self.accepted = AcceptedRecipients(self.clock, self.store, self.directory)
        self.all: set[str] = set()
        self.evidence = Evidence(self.clock, self.directory, self.accepted, self.modes, self.all.__contains__)  # type: ignore[arg-type]

    def weighed(
        self, address: str, code: int, outcome: Outcome, stage: Stage = Stage.RCPT, enhanced: str = "", **origin: Any
    ) -> Verdict:
        given = Verdict(outcome, Reply(code, enhanced, "so"), "primary", stage, "mx", unavailable=outcome is Outcome.DEFERRED)
        return self.wait(self.evidence.weigh(address, self.accept(address, **origin), given))

    def test_a_sick_primary(self) -> None:
        """Rule 4: would catch known recipients' mail that bounces from a primary that lost its directory, and a refusal for another reason that is not believed."""
        people = [f"known{number}@{DOMAIN}" for number in range(4)]
        for address in people:
            self.accepted.learn(address, delivered=True)
        for address in people[:2]:
            assert self.weighed(address, 550, Outcome.FAILED, enhanced="5.1.1").outcome is Outcome.FAILED
        found = self.weighed(people[2], 550, Outcome.FAILED, enhanced="5.1.1")
        assert (found.outcome, found.unavailable, found.host) == (Outcome.DEFERRED, True, "mx")
        assert str(found.reply) == "451 4.3.0 not believed, it refuses known addresses: 550 5.1.1 so"
        assert self.modes.refusals == [people[2]]
        for code, enhanced, stage, outcome in (
            (552, "5.3.4", Stage.RCPT, Outcome.FAILED),
            (550, "5.1.1", Stage.DOT, Outcome.FAILED),
            (450, "", Stage.RCPT, Outcome.DEFERRED),
        ):
            assert self.weighed(people[3], code, outcome, stage, enhanced).outcome is outcome
        assert len(self.modes.refusals) == 1

    def test_what_the_modes_hear(self) -> None:
        """Rule 8c: would catch a stranger's address that counts as proof, or mail of our own side that does not; and a domain by its alias that has evidence of its own."""
        for address, door, outcome, proven, ours in (
            (ALICE, Door.MX, Outcome.DEFERRED, True, False),
            (f"nobody@{DOMAIN}", Door.MX, Outcome.DEFERRED, False, False),
            (f"nobody@{DOMAIN}", Door.MX, Outcome.DELIVERED, True, False),
            (f"nobody@{DOMAIN}", Door.NOTICE, Outcome.DEFERRED, False, True),
            (f"nobody@{DOMAIN}", Door.SUBMISSION, Outcome.DEFERRED, False, True),
            (f"nobody@{DOMAIN}", Door.WEB, Outcome.DEFERRED, False, True),
            (f"nobody@{DOMAIN}", Door.RELAY, Outcome.DEFERRED, False, False),
        ):
            self.weighed(address, 451, outcome, door=door)
            assert self.modes.verdicts[-1][:2] == (DOMAIN, address)
            assert self.modes.verdicts[-1][3:] == ("s@outside.test", proven, ours)
        self.weighed("x@alias.test", 451, Outcome.DEFERRED)
        assert self.modes.verdicts[-1][0] == DOMAIN

    def test_a_slow_store(self) -> None:
        """Would catch a verdict that waits for a disk: after two seconds nobody is known."""
        hanging: list[Deferred[Any]] = []

        async def accepted(address: str) -> Any:
            hanging.append(Deferred())
            return await hanging[-1]

        self.store.accepted = accepted  # type: ignore[method-assign]
        address = f"x@{DOMAIN}"
        given = Verdict(Outcome.DEFERRED, Reply(451), "primary", Stage.RCPT, unavailable=True)
        weighing = Deferred.fromCoroutine(self.evidence.weigh(address, self.accept(address), given))
        self.clock.advance(1.9)
        self.assertNoResult(weighing)
        self.clock.advance(0.2)
        assert self.successResultOf(weighing) == given
        assert not self.modes.verdicts[-1][4]
        assert len(self.flushLoggedErrors(TimeoutError)) == 1

    def test_what_is_learnt(self) -> None:
        """L7: would catch addresses of a primary that accepts everything that count as known, or delivered mail that counts as a question."""
        self.all.add(DOMAIN)
        self.evidence.learn([f"x@{DOMAIN}", "y@alias.test", "z@other.test"])
        self.clock.advance(0)
        assert {fact.address: fact.delivered for fact in self.store.facts.values()} == {"z@other.test": True}


class Archived(RoomCase):
    def setUp(self) -> None:
        super().setUp()
        self.archive = StagedArchive()
        self.courier = ArchiveCourier(self.clock, self.archive, self.queue, self.directory)  # type: ignore[arg-type]
        ground: Any = Ground(self.clock, self.queue, self.directory, self.modes, self.bus, Meters())  # type: ignore[arg-type]
        self.backoff = Backoff()
        record = Record(self.clock, self.queue, self.bus, Unrecorded(self.clock))
        self.archiving = Archiving(ground, record, Retry(self.clock, self.backoff, lambda: 0.5), self.courier)

    def standing(self, *people: str, state: RowState = RowState.DELIVERED, **keywords: Any) -> tuple[list[str], list[str]]:
        message = self.accept(*people, archive=True, **keywords)
        for row in self.rows(message):
            self.change(row, state=state)
        found = self.wait(self.courier.standing(message))
        return [row.address for row in found.entitled], [row.address for row in found.pending]

    def test_whose_mail(self) -> None:
        """C12 and rule 24: would catch mail in the archive of somebody who is exempted, not covered, or did not get it; and mail that is not there though it was delivered."""
        assert self.standing(ALICE, BOB, f"new@{DOMAIN}", "a@outside.test") == ([ALICE, f"new@{DOMAIN}", "a@outside.test"], [])
        assert self.standing(ALICE, BOB, state=RowState.FAILED) == ([], [])
        assert self.standing(ALICE, BOB, state=RowState.HELD) == ([], [ALICE, BOB])
        assert self.standing(BOB, direction=Direction.OUT) == ([BOB], [])
        self.change_domain(coverage=Coverage.PICKED)
        assert self.standing(ALICE, f"new@{DOMAIN}") == ([ALICE], [])
        self.directory.registered[0] = msgspec.structs.replace(self.directory.registered[0], picked=False)
        assert self.standing(ALICE) == ([], [])

    def item(self, message: Message, *people: str) -> ArchiveItem:
        self.archive.items.clear()
        rows = [row for row in self.rows(message) if row.address in people]
        [row] = self.rows(message, RowKind.ARCHIVE)
        verdict = self.wait(self.courier.stage(message, row, Standing(tuple(rows), ()), MemoryBody(b"Subject: x\r\n\r\n")))
        assert verdict.outcome is Outcome.DELIVERED
        [item] = self.archive.items.values()
        return item

    def test_what_it_is_given(self) -> None:
        """Would catch mail that is kept for another time than its domain's, a sender who has no right to what he sent, or a stranger who has (rule 14); and another feed."""
        message = self.accept(ALICE, BOB, archive=True)
        item = self.item(message, ALICE)
        assert (item.tenant, item.feed, item.sender, item.recipients) == (1, "inline", "s@outside.test", (ALICE,))
        assert (item.retention_days, item.login, item.trace, item.received, item.spam) == (77, "", b"trace", NOW, False)
        message = msgspec.structs.replace(message, envelope=msgspec.structs.replace(message.envelope, sender=BOB))
        for trusted, login, door, expected, feed in (
            (False, "", Door.MX, "", "inline"),
            (True, "", Door.RELAY, BOB, "relay"),
            (True, ALICE, Door.SUBMISSION, ALICE, "submission"),
        ):
            given = msgspec.structs.replace(message, origin=Origin(door, login=login, trusted=trusted))
            item = self.item(given, ALICE)
            assert (item.login, item.feed) == (expected, feed)
        stranger = msgspec.structs.replace(given, origin=Origin(Door.RELAY, trusted=True), domain="")
        stranger = msgspec.structs.replace(stranger, envelope=msgspec.structs.replace(stranger.envelope, sender="x@outside.test"))
        item = self.item(stranger, ALICE)
        assert (item.login, item.retention_days) == ("", 90)

    def test_the_token(self) -> None:
        """Would catch a staging that is made twice after a crash, or one that is not made because another set of recipients was staged before."""
        message = self.accept(ALICE, BOB, f"c@{DOMAIN}", archive=True)
        rows = tuple(self.rows(message))
        [row] = self.rows(message, RowKind.ARCHIVE)
        body = MemoryBody(b"x")
        self.wait(self.courier.stage(message, row, Standing(rows, ()), body))
        assert list(self.archive.items) == [row.id], "all at once: the row's own"
        self.archive.items.clear()
        self.wait(self.courier.stage(message, row, Standing(rows[:1], rows[1:]), body))
        later = msgspec.structs.replace(row, staged=(rows[0].id,))
        self.wait(self.courier.stage(message, later, Standing(rows, ()), body))
        assert [item.recipients for item in self.archive.items.values()] == [(ALICE,), (BOB, f"c@{DOMAIN}")]
        tokens = list(self.archive.items)
        assert tokens == [_token(row, rows[:1]), _token(row, rows[1:])]
        assert _token(row, rows) == _token(row, rows[::-1])
        assert all(0 <= token < 2**63 for token in tokens)
        assert max(_token(row, rows[:number]) for number in range(4)) > 2**61, "63 bits of it"
        self.wait(
            self.courier.stage(
                message, msgspec.structs.replace(row, staged=tuple(each.id for each in rows)), Standing(rows, ()), body
            )
        )
        assert len(self.archive.items) == 2

    def archived(self, message: Message, attempts: int = 1) -> Settled:
        [row] = self.rows(message, RowKind.ARCHIVE)
        row = self.change(row, state=RowState.CLAIMED, attempts=attempts)
        self.wait(self.archiving.run(Claim(message, (row,))))
        return self.queue.settled[-1]

    def test_when_it_is_looked_at_again(self) -> None:
        """Would catch a record for each recipient of a message that is just being delivered to all, one that waits for a recipient who hangs, and one who got it later and is not
        in the archive."""
        message = self.accept(ALICE, f"c@{DOMAIN}", archive=True)
        first, second = self.rows(message)
        self.change(first, state=RowState.DELIVERED)
        second = self.change(second, state=RowState.CLAIMED, due=NOW + 500.0)
        for attempts in (1, QUICK_LOOKS):
            one = self.archived(message, attempts)
            assert (one.state, one.due) == (RowState.QUEUED, NOW + QUICK_LOOK)
        assert QUICK_LOOKS == 3
        one = self.archived(message, QUICK_LOOKS + 1)
        assert (one.state, one.due, one.staged) == (RowState.QUEUED, NOW + 530.0, (first.id,))
        for due, expected in ((NOW + 7200.0, NOW + 3600.0), (NOW, NOW + 3600.0), (NOW + 1.0, NOW + 31.0)):
            self.change(second, state=RowState.QUEUED, due=due)
            assert self.archived(message).due == expected
        self.change(second, state=RowState.FAILED)
        one = self.archived(message)
        assert (one.state, one.staged) == (RowState.DELIVERED, (first.id,))
        assert len(self.archive.items) == 1

    def test_nobody_got_it(self) -> None:
        """C20 of the archive: would catch mail in it that nobody got, and one that is given up while somebody may get it."""
        message = self.accept(BOB, archive=True)
        [row] = self.rows(message)
        self.change(row, state=RowState.QUEUED, due=NOW + 100.0)
        assert self.archived(message).state is RowState.QUEUED
        self.change(row, state=RowState.DELIVERED)
        assert self.archived(message).state is RowState.REMOVED
        assert not self.archive.items

    def test_an_archive_that_is_down(self) -> None:
        """Would catch a back-off that is not one, and recipients that count as staged."""
        message = self.accept(ALICE, archive=True)
        self.change(self.rows(message)[0], state=RowState.DELIVERED)
        self.archive.fail = OSError("down")
        one = self.archived(message, 3)
        assert (one.state, one.due, one.staged) == (RowState.QUEUED, NOW + self.backoff.delay(3, 0.5), ())
        assert len(self.flushLoggedErrors(OSError)) == 1


class Quiet(RoomCase):
    """A relay that falls silent."""

    def setUp(self) -> None:
        super().setUp()
        self.up = 0.0
        pauses = {int(NOW // 86_400) - 1: 10 * 3600.0, int(NOW // 86_400) - 2: 2 * 3600.0}
        self.relay = Relay(NOW - 20 * 86_400.0, NOW, pauses)
        self.learnt(self.relay)
        self.silence = self.new()

    def new(self) -> Silence:
        one = Silence(self.clock, self.queue, self.directory, self.bus, lambda: self.up)
        one.start()
        return one

    def learnt(self, relay: Relay, domain: str = DOMAIN) -> None:
        self.wait(self.queue.remember(SPACE, domain, msgspec.msgpack.encode(relay)))

    def remembered(self) -> Relay | None:
        value = self.queue.remembered(SPACE).get(DOMAIN)
        return msgspec.msgpack.decode(value, type=Relay) if value is not None else None

    def look(self, hours: float) -> list[str]:
        """What is told when so many hours more have passed."""
        self.up += hours * 3600.0
        self.clock.advance(hours * 3600.0)
        self.wait(self.silence.look())
        self.clock.advance(0)
        found = [alarm.text for alarm in self.alarms]
        self.alarms.clear()
        return found

    def sends(self, domain: str = DOMAIN, relayed: bool = True) -> None:
        self.silence._accepted(MessageAccepted(1, domain, relayed))
        self.clock.advance(0)

    def test_when(self) -> None:
        """Would catch an alarm before a quarter more than the longest pause has passed, none at it, one each time, and figures that are not right."""
        assert self.look(12.4) == []
        [text] = self.look(0.1)
        assert text.startswith(f"no mail of {DOMAIN} has come through the relay for 12 hours")
        assert "10.0 hours" in text
        assert self.look(5.0) == []
        assert self.silence.over(DOMAIN) == ""
        assert self.silence.over("other.test") != ""
        for domain, relayed in ((DOMAIN, False), ("", True), ("other.test", True)):
            self.sends(domain, relayed)
        assert not self.ended
        self.sends()
        assert [each.why for each in self.ended] == [f"{DOMAIN} sends through the relay again"]
        assert self.silence.over(DOMAIN) != ""
        assert self.look(13.0) == [], "its longest pause is another by now"

    def test_what_is_learnt(self) -> None:
        """Would catch a pause that is not learnt, is measured while we stood still, or is written with each mail."""
        self.up += 3600.0
        self.clock.advance(50 * 3600.0)
        self.sends()
        found = self.remembered()
        assert found is not None
        assert max(found.pauses.values()) == 10 * 3600.0
        assert found.pauses[int((NOW + 50 * 3600.0) // 86_400)] == 3600.0
        assert found.heard == NOW + 50 * 3600.0
        self.sends()
        assert self.remembered() == found, "nothing new was learnt"
        self.sends("other.test")
        assert "other.test" in self.queue.remembered(SPACE)

    def test_who_is_not_expected(self) -> None:
        """Would catch a domain that left and is an alarm for ever, and one that is forgotten too early."""
        self.look(24.0)
        assert self.look(24.0 * (DAYS - 1)) == []
        assert self.remembered() is not None
        self.look(0.1)
        assert self.remembered() is None
        assert len(self.ended) == 1
        self.learnt(self.relay)
        self.silence = self.new()
        self.directory.served.pop(0)
        self.look(0.0)
        assert self.remembered() is None

    def test_a_restart(self) -> None:
        """Would catch an alarm that a restart ends, and a pause that goes on over our own stop."""
        self.up += 10 * 3600.0
        self.silence = self.new()
        assert self.look(12.4) == []
        self.learnt(msgspec.structs.replace(self.relay, silent=NOW))
        self.silence = self.new()
        assert len(self.look(0.0)) == 1


class Patient(RoomCase):
    """Mail that waits in the queue for its primary."""

    def setUp(self) -> None:
        super().setUp()
        self.administrators: list[tuple[str, str, list[str]]] = []
        self.people: list[tuple[str, list[str]]] = []
        self.waiting = Waiting(self.clock, self.queue, self.directory, self, 4 * 3600.0)  # type: ignore[arg-type]
        self.change_domain(portal_on=PortalOn.OUTAGE)

    async def tell_administrators(self, domain: str, subject: str, lines: Any, about: str) -> None:
        self.administrators.append((domain, about, list(lines)))

    async def tell_person(self, mailbox: Mailbox, subject: str, lines: Any, about: str, domain: Domain) -> None:
        self.people.append((mailbox.address, list(lines)))

    def waits(self, address: str, said: str = "", **changes: Any) -> Row:
        [row] = self.rows(self.accept(address))
        last = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", said), "primary") if said else None
        return self.change(row, **{"waits_for": WaitsFor.PRIMARY, "due": NOW + 1e6, "last": last, **changes})

    def swept(self) -> None:
        self.administrators.clear()
        self.people.clear()
        self.wait(self.waiting.sweep())

    def test_told(self) -> None:
        """Would catch a notice too early, or none; one about mail that waits for something else; figures that are not right, and words of another's mailbox."""
        self.waits(ALICE, "full")
        self.waits(ALICE, "full")
        self.waits(BOB)
        self.waits(f"nobody@{DOMAIN}", "grey")
        self.waits(ALICE, "no", waits_for=WaitsFor.NOTHING)
        self.waits(ALICE, "held", state=RowState.HELD)
        self.clock.advance(4 * 3600.0 - 1.0)
        self.swept()
        assert not self.administrators
        self.clock.advance(1.0)
        self.swept()
        [(domain, about, lines)] = self.administrators
        assert (domain, about) == (DOMAIN, f"kept:{DOMAIN}")
        assert lines[0].startswith(f"4 messages for {DOMAIN} have been waiting for more than 4 hours,")
        assert lines[3:] == [f"  <{ALICE}>: 452 4.2.2 full"] * 2 + [
            f"  <{BOB}>: not tried yet",
            f"  <nobody@{DOMAIN}>: 452 4.2.2 grey",
        ]
        assert [(address, text[0].partition(" ")[0], text[2]) for address, text in self.people] == [
            (ALICE, "2", "  452 4.2.2 full"),
            (BOB, "1", ""),
        ]

    def test_many(self) -> None:
        """Would catch a letter with a line for each of a hundred thousand, or mail behind the first page that is not counted."""
        for _ in range(501):
            self.waits(ALICE, "full")
        self.clock.advance(4 * 3600.0)
        self.swept()
        [(_, _, lines)] = self.administrators
        assert lines[0].startswith("501 messages")
        assert len(lines) == 3 + 50

    def test_the_rule_was_changed_back(self) -> None:
        """Would catch mail that goes on waiting for a domain that does not want that any more, or is not served any more; and mail that is let go for nothing."""
        rows = [self.waits(ALICE, "full"), self.waits("x@gone.test")]
        mine = self.waits(BOB, waits_for=WaitsFor.NOTHING)
        self.swept()
        assert [self.queue.held[row.id].due for row in rows] == [NOW + 1e6, NOW]
        self.change_domain(portal_on=Domain(DOMAIN).portal_on)
        self.swept()
        assert self.queue.held[rows[0].id].due == NOW
        assert self.queue.held[mine.id].due == NOW + 1e6
        again = self.waits(ALICE, "full")
        self.swept()
        assert self.queue.held[again.id].due == NOW + 1e6, "nobody wants to wait: nothing is looked for"
