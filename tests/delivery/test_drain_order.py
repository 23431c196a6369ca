"""One domain's drain in passes: in which order, how fast, how wide, when a pass ends, and when the next one comes (C5, rules 1 and 3)."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.pace import Limits
from hornetmail.core.delivery.queued import Message, Portal, Row, RowKind, RowState, WaitsFor
from hornetmail.core.failover.machine import Drained
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.home.drain import BEHIND, HANGS_SECONDS, Drain, DrainLimits
from hornetmail.delivery.home.handover import Result
from hornetmail.delivery.tasks import pause
from hornetmail.runtime.bus import Bus
from hornetmail.testing.destinations import MemoryPortal
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.world import Meters

DOMAIN = "example.test"
T = 1_700_000_000.0
DOWN = Verdict(Outcome.DEFERRED, Reply(451, "4.4.1", "refused"), "primary", Stage.CONNECT, unavailable=True)
FULL = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "mailbox full"), "primary", Stage.RCPT, unavailable=True)


class _Modes:
    """A domain's mode as the test wants it; ``observed``: what the drain told of."""

    def __init__(self) -> None:
        self.now = Mode.DRAINING
        self.observed: list[object] = []

    def mode(self, domain: str) -> Mode:
        return self.now

    def observe(self, domain: str, event: object) -> None:
        self.observed.append(event)


class _HandOver:
    """Hands over within ``takes`` s, with the results that the test names by row; says when, and how many at once."""

    def __init__(self, queue: MemoryQueue, clock: Clock) -> None:
        self.queue = queue
        self.clock = clock
        self.results: dict[int, Result] = {}
        self.takes: float = 0.0
        self.clean: list[Deferred[None]] | None = None
        self.at_once = self.most_at_once = 0
        self.at: list[tuple[float, int]] = []
        self.put_off: list[int] = []

    async def hand(self, message: Message, row: Row, *, sweeping: bool, trial: bool = False) -> Result:
        self.at.append((self.clock.seconds() - T, row.id))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.takes:
            clock: Any = self.clock
            await pause(clock, self.takes)
        self.at_once -= 1
        result = self.results.get(row.id, Result.HOME)
        state = RowState.HOME if result in (Result.HOME, Result.GONE, Result.STUCK) else RowState.PARKED
        self.queue.held[row.id] = msgspec.structs.replace(row, state=state)
        return result

    async def tidied(self, row: Row) -> None:
        if self.clean is not None:
            waiting: Deferred[None] = Deferred()
            self.clean.append(waiting)
            await waiting

    async def later(self, row: Row) -> Result:
        self.put_off.append(row.id)
        return Result.LATER


class DrainCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(T)
        self.queue = MemoryQueue(self.clock.seconds)
        self.modes = _Modes()
        self.portal = MemoryPortal()
        self.hand_over = _HandOver(self.queue, self.clock)
        hosts = (Host("192.0.2.1"),)
        directory = MemoryDirectory([Domain(DOMAIN, primaries=hosts), Domain("second.test", primaries=hosts)], [])
        clock: Any = self.clock
        ground = Ground(clock, self.queue, directory, self.modes, Bus(clock), Meters())  # type: ignore[arg-type]
        retry = Retry(clock, Backoff(), lambda: 0.5)
        self.drain = Drain(ground, retry, self.portal, self.hand_over, Underway(), DrainLimits())  # type: ignore[arg-type]
        self.drain.start()

    def copy(self, number: int, **fields: Any) -> Row:
        envelope = Envelope("from@example.org", (Recipient(f"alice@{DOMAIN}"),))
        self.queue.messages[number] = Message(number, 1, envelope, Origin(Door.MX), Direction.IN, T, 1, b"", b"", DOMAIN)
        row = Row(number, number, RowKind.DRAIN, RowState.PARKED, f"alice@{DOMAIN}", portal=Portal(1, str(number)))
        self.queue.held[number] = row = msgspec.structs.replace(row, **fields)
        return row

    def order(self) -> list[int]:
        """What a pass takes, one after the other."""
        found: Any = Deferred.fromCoroutine(self.drain.order(DOMAIN))
        while not found.called:
            self.clock.advance(0)
        order = self.successResultOf(found)
        rows = []
        while order:
            rows += [row.id for row in self.successResultOf(self.drain._next(DOMAIN, order))]
        return rows

    def go(self, seconds: float, step: float = 0.01) -> None:
        self.drain.kick(DOMAIN)
        self.wait(seconds, step)

    def wait(self, seconds: float, step: float = 0.01) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def in_second(self, second: int) -> int:
        return sum(1 for at, _ in self.hand_over.at if second <= at < second + 1)


class DrainOrder(DrainCase):
    def test_the_order(self) -> None:
        """Newest first; behind them what a primary in trouble was offered often; uncertain ones last. Would catch one message that a server
        cannot digest in front of all others, and a double handed over before what nobody has (rule 1)."""
        for number in (1, 2, 3, 8):
            self.copy(number)
        self.copy(4, attempts=2, last=DOWN)
        self.copy(5, attempts=1, last=DOWN)
        self.copy(6, attempts=9, last=FULL)
        self.copy(7, portal=Portal(1, "7", uncertain=True))
        self.copy(9, state=RowState.HELD)
        assert self.order() == [8, 6, 3, 2, 1, 5, 4, 7]
        assert DrainLimits() == DrainLimits(Limits(20.0, 15, 1.0, 0.1), 3, 5, 5.0, 120.0, 4 * 3600.0, 3600.0)
        assert HANGS_SECONDS == 300

    def test_more_than_a_page(self) -> None:
        """Would catch copies behind the first page of the queue's answer that stay in the portal, an order that holds only within a page, and the second
        recipient of a message that is left out, or offered twice, because its copy came to be later."""
        for number in range(1, 1001):
            self.copy(number)
        for number in (1001, 1003):
            self.copy(number, address=f"bob@{DOMAIN}", message=500)
        self.copy(1002, address=f"bob@{DOMAIN}", message=600, portal=Portal(1, "1002", uncertain=True))
        assert self.order() == [*range(1000, 500, -1), 1003, 1001, *range(500, 0, -1), 1002]

    def test_a_number_of_each(self) -> None:
        """Would catch a pass that keeps the rows of a domain, and their envelopes, of which a hundred thousand take 200 MB; and copies put in order
        that are looked at in one turn of the reactor (rule 8d)."""
        for number in range(1, 10_001):
            self.copy(number)
        asked: list[dict[str, Any]] = []
        pauses: list[float] = []
        rows, later = self.queue.rows, self.clock.callLater

        async def seen(**wanted: Any) -> Any:
            asked.append(wanted)
            return await rows(**wanted)

        self.queue.rows = seen  # type: ignore[method-assign]
        self.clock.callLater = lambda seconds, *rest: pauses.append(seconds) or later(seconds, *rest)  # type: ignore[method-assign,assignment,func-returns-value]
        found: Any = Deferred.fromCoroutine(self.drain.order(DOMAIN))
        while not found.called:
            self.clock.advance(0)
        order = self.successResultOf(found)
        assert len(order) == 10_000
        assert pauses == [0.0] * 20
        assert [kept.itemsize * len(kept) for kept in order._places.values()] == [80_000]
        self.successResultOf(self.drain._next(DOMAIN, order))
        assert not any(each.get("envelopes", True) for each in asked)

    def test_what_a_pass_takes(self) -> None:
        """All of it after an emergency; in normal mode what is parked or waits for the primary as a whole, the rest keeps its own time. What was removed,
        or put off, since it was put in order is let be."""
        self.copy(1)
        self.copy(2, state=RowState.QUEUED, due=T + 60, last=DOWN)
        self.copy(3, state=RowState.QUEUED, due=T + 60, last=FULL)
        self.copy(4, state=RowState.QUEUED, due=T + 60, waits_for=WaitsFor.OUTAGE)
        assert self.order() == [4, 3, 2, 1]
        self.modes.now = Mode.NORMAL
        assert self.order() == [4, 2, 1]
        assert self.successResultOf(self.drain.anything(DOMAIN))
        assert not self.successResultOf(self.drain.anything("other.test"))
        order = self.successResultOf(self.drain.order(DOMAIN))
        self.copy(4, state=RowState.REMOVED)
        self.copy(1, state=RowState.QUEUED, due=T + 60)
        found = []
        while order:
            found += self.successResultOf(self.drain._next(DOMAIN, order))
        assert [row.id for row in found] == [2]

    def test_one_then_more_side_by_side(self) -> None:
        """A primary that just came back gets one, then more at a time, twenty in the first second, and twice as many from second to second: a thousand
        are home within ten seconds."""
        for number in range(1, 1001):
            self.copy(number)
        self.hand_over.takes = 0.01
        self.drain.kick(DOMAIN)
        for _ in range(5):
            self.clock.advance(0)
        assert len(self.hand_over.at) == 1
        self.clock.advance(0.009)
        assert len(self.hand_over.at) == 1
        self.wait(10)
        assert self.in_second(0) <= 22
        assert self.in_second(1) <= 42
        assert self.in_second(2) <= 82
        assert len(self.hand_over.at) == 1000
        assert self.hand_over.at[-1][0] < 7
        assert [number for _, number in self.hand_over.at] == list(range(1000, 0, -1))
        assert [type(event) for event in self.modes.observed] == [Drained]

    def test_a_primary_that_takes_long_is_not_pushed(self) -> None:
        """Answers that become slow: fewer a second, fewer side by side, never more than fifteen."""
        for number in range(1, 1001):
            self.copy(number)
        self.hand_over.takes = 0.1
        self.go(5)
        assert self.hand_over.most_at_once == 15
        before = self.in_second(4)
        self.hand_over.takes = 2.0
        self.go(8)
        assert self.in_second(12) <= 15 < before
        assert self.hand_over.at_once < 15

    def test_the_primary_does_not_wait_for_our_disk(self) -> None:
        """Copies are removed while the next ones go; a disk that hangs holds the pass up all the same, before it has thousands under way."""
        for number in range(1, 201):
            self.copy(number)
        self.hand_over.clean = []
        self.go(10.0)
        assert len(self.hand_over.at) == BEHIND
        assert self.modes.observed == []
        while self.hand_over.clean:
            self.hand_over.clean.pop(0).callback(None)
            self.wait(0.1, 0.1)
        assert len(self.hand_over.at) == 200
        assert len(self.modes.observed) == 1

    def test_domains_of_one_primary_share_its_pace(self) -> None:
        """Would catch a thousand domains that each begin gently with the same server, and one that keeps the others waiting."""
        for number in range(1, 41):
            self.copy(number)
        for number in range(41, 81):
            self.copy(number, address="bob@second.test")
        self.hand_over.takes = 0.01
        self.drain.kick("second.test")
        self.go(1.0)
        first = [number for at, number in self.hand_over.at if at < 1.0]
        assert len(first) <= 22
        assert abs(sum(1 for number in first if number <= 40) - len(first) / 2) <= 1
        self.go(5.0)
        assert len(self.hand_over.at) == 80

    def test_deferrals_slow_it_down(self) -> None:
        """A primary under pressure defers one by one: it is left with what it can stand, and the pass goes on."""
        for number in range(1, 201):
            self.copy(number)
            self.hand_over.results[number] = Result.DEFERRED
        self.go(10.0)
        assert self.in_second(9) <= 2
        assert self.modes.observed == []

    def test_a_primary_in_trouble_ends_the_pass(self) -> None:
        """Three batches in a row, one at a time: then it is left alone for ten seconds, twenty, up to two minutes. Would catch a primary that is
        hammered on, and one message that keeps all the others away."""
        for number in range(1, 8):
            self.copy(number)
            self.hand_over.results[number] = Result.UNAVAILABLE
        self.go(400, 0.5)
        times = [at for at, _ in self.hand_over.at]
        rests = [after - before for before, after in itertools.pairwise(times) if after - before > 2]
        assert rests == [10, 20, 40, 80, 120, 120]
        assert len(times) == 3 * (len(rests) + 1)
        assert self.modes.observed == []

    def test_trouble_between_successes(self) -> None:
        """Would catch a pass that ends though the primary took mail in between, and one that goes on in full width after trouble."""
        for number in range(1, 13):
            self.copy(number)
        for number in (12, 11, 9, 8):
            self.hand_over.results[number] = Result.UNAVAILABLE
        self.go(1.0)
        first_pass = [number for _, number in self.hand_over.at]
        assert first_pass[:12] == list(range(12, 0, -1)), "two in a row are no three"
        assert self.modes.observed == []
        self.hand_over.results.clear()
        self.go(6.0)
        assert [number for _, number in self.hand_over.at][12:] == [12, 11, 9, 8]
        assert len(self.modes.observed) == 1

    def test_a_mailbox_in_use(self) -> None:
        """C6 and rule 10: a POP session holds the mailbox; its copies wait, are not claimed meanwhile, and the lock is given back."""
        self.copy(1)
        self.copy(2, state=RowState.QUEUED, due=T + 60)
        assert self.successResultOf(self.portal.lock(1, "pop"))
        self.go(1.0)
        assert self.hand_over.at == []
        assert {row.state for row in self.queue.held.values()} == {RowState.PARKED}
        self.successResultOf(self.portal.unlock(1, "pop"))
        self.go(11.0)
        assert len(self.hand_over.at) == 2
        assert self.successResultOf(self.portal.lock(1, "pop"))

    def test_in_an_emergency_nothing_goes(self) -> None:
        """Would catch a drain that goes on against a primary that is away again, and one that begins after it was stopped."""
        self.copy(1)
        self.modes.now = Mode.EMERGENCY
        self.go(1.0)
        assert self.hand_over.at == []
        self.modes.now = Mode.DRAINING
        self.successResultOf(self.drain.stop(0.0))
        self.go(1.0)
        assert self.hand_over.at == []
        assert self.modes.observed == []

    def test_it_turns_up_while_a_pass_rests(self) -> None:
        """Would catch mail that waits out a rest though the primary is there, and a rest that is cut for nothing."""
        self.copy(1)
        self.hand_over.results[1] = Result.UNAVAILABLE
        self.go(2.0)
        self.hand_over.results.clear()
        tried = len(self.hand_over.at)
        self.go(1.0)
        assert len(self.hand_over.at) == tried, "asked for once more, it still rests"
        self.drain.turned_up("other.test")
        self.drain.turned_up(DOMAIN)
        self.clock.advance(0.1)
        assert len(self.hand_over.at) == tried + 1
        assert self.clock.getDelayedCalls() == []

    def test_a_fault_of_ours_is_repeated_ever_later(self) -> None:
        """Would catch a drain that ends with a fault of the queue's, or that asks it every five seconds for good."""
        self.copy(1)
        asked: list[float] = []
        rows = self.queue.rows

        async def broken(**_: Any) -> Any:
            asked.append(self.clock.seconds() - T)
            raise OSError("disk")

        self.queue.rows = broken  # type: ignore[method-assign]
        self.go(300, 0.5)
        assert [after - before for before, after in itertools.pairwise(asked)] == [10, 20, 40, 80, 120]
        self.queue.rows = rows  # type: ignore[method-assign]
        self.go(121, 0.5)
        assert [number for _, number in self.hand_over.at] == [1]
        assert len(self.flushLoggedErrors(OSError)) == 6
