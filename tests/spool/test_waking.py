"""When those who claim are told that something is due: by a clock of the tests' own."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.spool.disk.journal import LiveRow
from hornetmail.spool.rows.dues import Dues
from hornetmail.spool.rows.waking import LONGEST, OVERDUE, Waking
from tests.spool.test_in_memory import A, row

START = 1_000_000.0


class Waked(TestCase):
    """``called``: when the listener was, in seconds from the start."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.rows: dict[int, LiveRow] = {}
        self.dues = Dues(self.rows, set(), lambda message: "x.test")
        self.waking = Waking(self.clock, self.dues)
        self.called: list[float] = []
        self.waking.listen(self.listener)
        self.waking.arm()

    def listener(self) -> None:
        self.called.append(round(self.clock.seconds() - START, 3))

    def queue(self, each: LiveRow) -> None:
        self.rows[each.id] = each
        self.dues.push(each)
        self.waking.look()

    def pass_(self, seconds: float) -> None:
        """In steps of a quarter of a second."""
        self.clock.pump([0.25] * round(seconds * 4))

    def test_at_its_time(self) -> None:
        """Would catch mail that waits beyond its time, and one look too many while nothing is due."""
        self.queue(row(1, START + 20.0))
        self.pass_(0.25)
        assert self.called == [0.25], "it is the next one: whoever plans by it wants to know"
        self.pass_(19.5)
        assert self.called == [0.25]
        self.pass_(0.25)
        assert self.called == [0.25, 20.0]

    def test_what_nobody_takes(self) -> None:
        """Would catch a call that comes to nothing and is the last, one that is repeated without a pause, and one kind that silences another."""
        self.queue(row(1, START + 1.0))
        self.queue(row(2, START + 8.0, A))
        self.pass_(0.25)
        self.called.clear()
        self.pass_(7.5)
        assert self.called == [1.0, 1.0 + OVERDUE]
        self.pass_(0.5)
        assert self.called[-1] == 8.0

    def test_due_this_very_moment(self) -> None:
        """Would catch a reactor that does nothing else while a row is due now and nobody takes it."""
        self.rows[1] = row(1, self.clock.seconds())
        self.dues.push(self.rows[1])
        self.waking.arm()
        self.pass_(OVERDUE - 0.25)
        assert self.called == []
        self.pass_(0.25)
        assert self.called == [OVERDUE]

    def test_many_are_one_call(self) -> None:
        """Would catch a call for each of a thousand rows that one turn of the reactor queues, and a later one that wakes somebody."""
        for number in range(1, 20):
            self.queue(row(number, START + 100.0 - number))
        self.pass_(0.25)
        assert self.called == [0.25]
        self.queue(row(99, START + 500.0))
        self.pass_(10.0)
        assert self.called == [0.25]

    def test_a_clock_that_is_set(self) -> None:
        """Would catch a timer that sleeps for hours because the clock was set forward after it was set, or does not when it was set back."""
        self.queue(row(1, START + 3600.0))
        self.pass_(0.25)
        self.called.clear()
        self.rows[1].due = START + 30.0
        self.dues.push(self.rows[1])
        self.dues.sooner = False
        self.pass_(LONGEST)
        assert self.called
        assert self.called[0] <= LONGEST + 0.25

    def test_a_listener_that_fails(self) -> None:
        """Would catch one whose error keeps the others, and the next time, from being told."""

        def failing() -> None:
            raise ValueError("its own")

        self.waking._listeners.insert(0, failing)
        self.queue(row(1, START + 1.0))
        self.pass_(1.0)
        assert self.called == [0.25, 1.0]
        self.waking.stop()
        self.pass_(100.0)
        assert self.called == [0.25, 1.0], "nor anybody after the end"
        assert not self.clock.getDelayedCalls()
        assert len(self.flushLoggedErrors(ValueError)) == 2  # type: ignore[no-untyped-call]
