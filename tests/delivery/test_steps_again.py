"""Steps that are tried again, lanes that look again, and mail that is sent again: how often, how long, and with what (rules 8b, 16). On a clock of the test's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Claim, Row, RowKind, RowState
from hornetmail.core.events import AlarmEnded
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.delivery.attempt.scheduler import REFILL, Lane
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.home.copies import Copies
from hornetmail.delivery.letters.enclosed import LONGEST, Cover, Fitness, Unfit, around
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.test_home_bounds import HomeCase


class Tidying(HomeCase):
    """``fails``: how often yet a removal raises, and what."""

    def setUp(self) -> None:
        super().setUp()
        self.copies = Copies(self.ground, self.record, self.portal)  # type: ignore[arg-type]
        self.ended: list[AlarmEnded] = []
        self.bus.subscribe(AlarmEnded, self.ended.append)
        self.tried: list[float] = []
        self.fails = 0
        self.error: Exception = OSError("read-only")
        self.began = self.clock.seconds()
        self.end, self.portal.end_drain = self.portal.end_drain, self.failing  # type: ignore[method-assign]

    async def failing(self, *args: Any, **keywords: Any) -> None:
        self.tried.append(self.clock.seconds() - self.began)
        if self.fails:
            self.fails -= 1
            raise self.error
        await self.end(*args, **keywords)

    def home(self) -> Row:
        return self.copy(state=RowState.HOME)

    def pass_by(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)

    def test_how_often(self) -> None:
        """Would catch a disk that is asked all the time, or once an hour; an alarm at the first try, none, or one each time; and one that does not end."""
        self.fails = 8
        row = self.home()
        self.copies.remove(row, claimed=True)
        self.copies.remove(row, claimed=True)
        assert self.tried == [0.0], "one step at a time"
        self.pass_by(62)
        assert [round(at) for at in self.tried] == [0, 1, 3, 7, 15, 31]
        assert not self.alarms
        self.pass_by(2)
        self.pass_by(130)
        assert [alarm.subject for alarm in self.alarms] == [row.portal.name]  # type: ignore[union-attr]
        assert self.alarms[0].text.startswith("<alice@example.test>: the portal's copy")
        assert not self.ended
        self.pass_by(130)
        assert [each.why for each in self.ended] == ["it is done"]
        assert not self.portal.copies
        assert not self.queue.all(RowKind.DRAIN)

    def test_whose_mailbox_is_gone(self) -> None:
        """Would catch a step that is repeated for ever for nobody, and an alarm that names nobody or does not end; other trouble of a folder is repeated."""
        self.fails, self.error = 1, FolderError("CANNOT", "no such mailbox")
        self.copies.remove(self.home(), claimed=True)
        assert not self.queue.all(RowKind.DRAIN)
        assert (len(self.tried), self.ended) == (1, [])
        self.fails, self.error = 10**6, FolderError("INUSE", "a session")
        row = self.copy(state=RowState.HOME, mailbox=77)
        self.copies.remove(row, claimed=True)
        self.pass_by(64)
        assert self.alarms[0].text.startswith("mailbox 77: the portal's copy")
        self.error = FolderError("CANNOT", "no such mailbox")
        self.pass_by(130)
        assert [each.why for each in self.ended] == ["its mailbox was removed"]

    def test_what_its_owner_did_meanwhile(self) -> None:
        """C6: would catch a copy that is removed though its owner moved it while the disk was full."""
        self.fails = 1
        row = self.home()
        self.copies.remove(row, claimed=True)
        self.portal.copies[row.portal.name].moved = True  # type: ignore[union-attr]
        self.pass_by(2)
        assert len(self.tried) == 1
        assert self.portal.copies
        assert not self.queue.all(RowKind.DRAIN), "its row is done all the same"

    def test_let_go(self) -> None:
        """Would catch a copy that stays and is removed, or that its owner cannot use."""
        row = self.copy()
        there = self.portal.copies[row.portal.name]  # type: ignore[union-attr]
        there.claimed = True
        self.copies.let_go(row.portal, "$Failed", "refused")  # type: ignore[arg-type]
        assert (there.claimed, there.keywords, there.reason) == (False, ("$Failed",), "refused")

    def test_what_a_crash_left(self) -> None:
        """Would catch copies that the primary has and that stay in INBOX, a number that is not theirs, and one whose record is just being made."""
        rows = [self.home() for _ in range(3)]
        self.record._rows[rows[0].id] = 1
        assert self.wait(self.copies.sweep()) == 3
        assert list(self.portal.copies) == [rows[0].portal.name]  # type: ignore[union-attr]
        assert self.portal.copies[rows[0].portal.name].claimed is False  # type: ignore[union-attr]

    def test_who_waits(self) -> None:
        """Would catch a pass that waits for a disk which hangs, or does not wait for one that is slow; and somebody who is told that nothing is done with a copy while it is."""
        row = self.home()
        gates: list[Deferred[None]] = []

        async def slow(*args: Any, **keywords: Any) -> None:
            gates.append(Deferred())
            await gates[-1]
            await self.end(*args, **keywords)

        self.portal.end_drain = slow  # type: ignore[method-assign]
        self.copies.remove(row, claimed=True)
        tried = [Deferred.fromCoroutine(self.copies.tried(row.portal)) for _ in range(2)]  # type: ignore[arg-type]
        rest = Deferred.fromCoroutine(self.copies.at_rest(row.portal))  # type: ignore[arg-type]
        self.clock.advance(9.9)
        self.assertNoResult(tried[0])
        self.clock.advance(0.2)
        for each in tried:
            self.successResultOf(each)
        self.assertNoResult(rest)
        gates[0].callback(None)
        self.successResultOf(rest)
        self.successResultOf(Deferred.fromCoroutine(self.copies.tried(row.portal)))  # type: ignore[arg-type]
        self.successResultOf(Deferred.fromCoroutine(self.copies.at_rest(row.portal)))  # type: ignore[arg-type]
        row = self.home()
        self.fails = 1
        self.portal.end_drain = self.failing  # type: ignore[method-assign]
        self.copies.remove(row, claimed=True)
        self.successResultOf(Deferred.fromCoroutine(self.copies.tried(row.portal)))  # type: ignore[arg-type]

    def test_one_that_hangs(self) -> None:
        """Would catch a removal that never comes to its second try."""
        hanging: list[Deferred[None]] = []

        async def hang(*args: Any, **keywords: Any) -> None:
            hanging.append(Deferred())
            await hanging[-1]

        self.portal.end_drain = hang  # type: ignore[method-assign]
        self.copies.remove(self.home(), claimed=True)
        self.pass_by(119)
        assert len(hanging) == 1
        self.pass_by(3)
        assert len(hanging) == 2


class Looking(TestCase):
    """A lane that looks again."""

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.queue = MemoryQueue(self.clock.seconds)
        self.ran: list[Claim] = []
        self.gates: list[Deferred[None]] = []
        self.lane = Lane(
            self.clock, self.queue, (RowKind.DELIVER,), 2, self.attempt, lambda row: self.clock.seconds() + 60, Underway()
        )  # fmt: skip

    async def attempt(self, claim: Claim) -> None:
        self.ran.append(claim)
        self.gates.append(Deferred())
        await self.gates[-1]

    def accept(self, due: float = 0.0) -> None:
        message = self.queue.take(
            1, b"", Envelope("", (Recipient("a@x.test"),)), Origin(Door.MX), Direction.IN, b"", "x.test", False, "", ""
        )
        [row] = [row for row in self.queue.held.values() if row.message == message.id]
        self.queue.held[row.id] = msgspec.structs.replace(row, due=due)

    def test_before_the_start_and_after_the_stop(self) -> None:
        """Would catch a claim before what a crash left is settled, and a timer that outlives the service."""
        self.accept()
        self.accept(50.0)
        self.lane.wake()
        self.clock.advance(100.0)
        assert not self.ran
        assert not self.clock.getDelayedCalls()
        for row in self.queue.held.values():
            self.queue.held[row.id] = msgspec.structs.replace(row, due=500.0)
        self.lane.start()
        assert len(self.clock.getDelayedCalls()) == 1
        self.successResultOf(Deferred.fromCoroutine(self.lane.stop(0.0)))
        assert not self.clock.getDelayedCalls()
        self.lane.wake()
        self.clock.advance(1000.0)
        assert not self.ran

    def test_after_a_claim_that_failed(self) -> None:
        """Would catch a lane that ends with a claim that fails, was cancelled by somebody else, or hangs; and one that asks all the time."""
        asked: list[float] = []
        claim = self.queue.claim
        errors: list[BaseException] = [OSError("disk"), CancelledError()]

        async def failing(*rest: Any) -> Any:
            asked.append(self.clock.seconds())
            if errors:
                raise errors.pop(0)
            return await claim(*rest)

        self.queue.claim = failing  # type: ignore[method-assign]
        self.accept()
        self.lane.start()
        for _ in range(24):
            self.clock.advance(0.5)
        assert asked[:3] == [0.0, 5.0, 10.0]
        assert len(self.ran) == 1
        assert len(self.flushLoggedErrors(OSError, CancelledError)) == 2

    def test_a_full_lane(self) -> None:
        """Would catch a lane that is full and forgets to look when a place is free, or that looks for each that ends although nothing waits."""
        for _ in range(3):
            self.accept()
        self.lane.start()
        assert len(self.ran) == 2
        claims = self.queue.claims
        self.gates[0].callback(None)
        self.clock.advance(REFILL)
        assert len(self.ran) == 3
        assert self.queue.claims == claims + 1
        for gate in self.gates[1:]:
            gate.callback(None)
        self.clock.advance(1.0)
        claims = self.queue.claims
        self.accept()
        self.lane.wake()
        self.gates[-1].callback(None)
        assert self.queue.claims == claims + 1
        self.clock.advance(1.0)
        assert self.queue.claims == claims + 1, "one of two: it was not full"

    def test_the_earliest_time(self) -> None:
        """Would catch a time that is put off by a later one."""
        self.lane.start()
        self.accept(20.0)
        self.lane.wake()
        self.accept(30.0)
        self.lane.wake()
        [call] = self.clock.getDelayedCalls()
        assert call.getTime() == 20.0
        self.accept(10.0)
        self.lane.wake()
        [call] = self.clock.getDelayedCalls()
        assert call.getTime() == 10.0
        self.clock.advance(10.0)
        assert len(self.ran) == 1


class Enclosed(TestCase):
    def test_the_longest_line(self) -> None:
        """Would catch a line of 999 bytes that is sent, or one of 998 that is not, however it is cut."""
        assert LONGEST == 998
        for cut in (1, 500, 997, 998, 999, 5000):
            for length, fits in ((998, True), (999, False)):
                for data in (b"x" * length + b"\r\n", b"a\r\n" + b"x" * length, b"a\r\n" + b"x" * length + b"\r\nb"):
                    fitness = Fitness()

                    def look(data: bytes = data, fitness: Fitness = fitness, cut: int = cut) -> None:
                        for start in range(0, len(data), cut):
                            fitness.feed(data[start : start + cut])
                        fitness.end()

                    if fits:
                        look()
                    else:
                        with pytest.raises(Unfit):
                            look()

    def test_a_boundary_that_it_has_not(self) -> None:
        """Would catch a mail that ends in its middle because it has our boundary in it."""
        cover = Cover(1, "a@x.test", "x.test", "date", "u", "then", b"\1" * 32)
        for data, boundary in ((b"", b"=_u_0"), (b"--=_u_0 and =_u_1", b"=_u_2")):
            head, tail = around(cover, data)
            assert b'boundary="' + boundary + b'"' in head
            assert tail == b"\r\n--" + boundary + b"--\r\n"
