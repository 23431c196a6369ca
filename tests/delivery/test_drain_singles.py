"""Single copies that go home, trials in an emergency, and when a pass is over (C5, rules 3 and 10). On a clock of the test's."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from hornetmail.core.delivery.queued import Claim, Portal, Row, RowState
from hornetmail.core.failover.machine import Drained
from hornetmail.core.failover.mode import Mode
from hornetmail.delivery.home.drain import TRIALS
from hornetmail.delivery.home.handover import Result
from tests.delivery.test_drain_order import DOMAIN, DrainCase, T


class Trials(DrainCase):
    def trial(self, **results: Result) -> tuple[bool | None, list[int]]:
        """What it says, and who was offered."""
        self.hand_over.at.clear()
        self.hand_over.results = {int(number.removeprefix("n")): result for number, result in results.items()}
        running: Any = Deferred.fromCoroutine(self.drain.trial(DOMAIN))
        self.clock.advance(0)
        return self.successResultOf(running), [number for _, number in self.hand_over.at]

    def setUp(self) -> None:
        super().setUp()
        self.modes.now = Mode.EMERGENCY
        self.seen: list[tuple[bool, bool]] = []
        hand = self.hand_over.hand

        async def seen(message: Any, row: Row, *, sweeping: bool, trial: bool = False) -> Result:
            self.seen.append((sweeping, trial))
            return await hand(message, row, sweeping=sweeping, trial=trial)

        self.hand_over.hand = seen  # type: ignore[method-assign]

    def test_what_it_says(self) -> None:
        """Would catch an emergency that ends for a copy that was gone or refused, one that goes on though a message was taken, and a look that ends at the first that proves
        nothing."""
        for number in (1, 2, 3):
            self.copy(number)
        assert self.trial(n3=Result.HOME) == (True, [3])
        assert self.seen == [(True, True)]
        assert self.trial(n2=Result.DEFERRED) == (False, [2])
        for number in (1, 2, 3):
            self.copy(number)
        assert self.trial(n3=Result.GONE, n2=Result.STUCK, n1=Result.UNAVAILABLE) == (False, [3, 2, 1])
        for number in (1, 2, 3):
            self.copy(number)
        assert self.trial(n3=Result.LATER, n2=Result.LATER, n1=Result.LATER) == (None, [3, 2, 1])

    def test_whom(self) -> None:
        """Would catch a message that the primary cannot digest and that is offered first each time, an uncertain one before the others, and hundreds that are offered."""
        self.copy(1, attempts=1)
        self.copy(2)
        self.copy(3, portal=Portal(1, "3", uncertain=True))
        self.copy(4, attempts=2)
        self.copy(5)
        results = {f"n{number}": Result.LATER for number in range(1, 20)}
        assert self.trial(**results) == (None, [5, 2, 3, 1, 4])
        for number in range(6, 20):
            self.copy(number)
        assert self.trial(**results) == (None, [19, 18, 17, 16, 15])
        assert TRIALS == 5
        self.queue.held.clear()
        assert self.trial() == (None, [])

    def test_more_than_a_page(self) -> None:
        """Would catch a trial that takes the oldest page for all there is."""
        for number in range(1, 502):
            self.copy(number)
        assert self.trial(n501=Result.HOME) == (True, [501])


class Singles(DrainCase):
    def lane(self, *rows: Row) -> None:
        running = Deferred.fromCoroutine(self.drain.run(Claim(self.queue.messages[rows[0].message], rows)))
        self.clock.advance(0)
        self.successResultOf(running)

    def test_from_the_lane(self) -> None:
        """Rule 10: would catch a copy that goes while a POP session reads it, a session that is kept out afterwards, one copy's fault that keeps the others, and a copy whose
        back-off is over and that is parked for the next pass."""
        self.modes.now = Mode.NORMAL
        rows = [self.copy(number, state=RowState.CLAIMED) for number in (1, 2, 3)]
        rows[1] = self.copy(2, state=RowState.CLAIMED, portal=Portal(2, "2"))
        self.successResultOf(self.portal.lock(2, "pop"))
        hand = self.hand_over.hand

        async def faulty(message: Any, row: Row, *, sweeping: bool, trial: bool = False) -> Result:
            assert not sweeping
            if row.id == 1:
                raise OSError("disk")
            return await hand(message, row, sweeping=sweeping, trial=trial)

        self.hand_over.hand = faulty  # type: ignore[method-assign]
        self.lane(*rows)
        assert [number for _, number in self.hand_over.at] == [3]
        assert self.hand_over.put_off == [2]
        assert self.portal.locks == {2: "pop"}
        assert len(self.flushLoggedErrors(OSError)) == 1


class Passes(DrainCase):
    def test_not_before_the_start(self) -> None:
        """Would catch a drain that begins before what a crash left is settled, or after the stop."""
        self.drain._running = False
        self.copy(1)
        self.go(1.0)
        assert not self.hand_over.at
        self.drain.start()
        self.go(1.0)
        assert len(self.hand_over.at) == 1
        fresh = type(self.drain)(
            self.drain._ground, self.drain._retry, self.portal, self.hand_over, self.drain._underway, self.drain.limits  # type: ignore[arg-type]
        )  # fmt: skip
        self.copy(2)
        fresh.kick(DOMAIN)
        self.wait(1.0)
        assert len(self.hand_over.at) == 1

    def test_when_it_is_over(self) -> None:
        """Would catch an emergency that is said to be over while a hand-over is under way elsewhere, and one of normal mode that never is because of a single copy's own time."""
        self.copy(1, state=RowState.CLAIMED)
        self.go(1.0)
        assert self.modes.observed == []
        self.modes.now = Mode.NORMAL
        self.wait(15.0)
        assert [type(event) for event in self.modes.observed] == [Drained]
        self.copy(2, state=RowState.QUEUED, due=T + 900)
        self.go(1.0)
        assert len(self.modes.observed) == 2

    def test_once_more(self) -> None:
        """Would catch copies that come while a pass is under way, and for which nobody begins another."""
        self.copy(1)
        self.hand_over.takes = 1.0
        self.go(0.5)
        self.copy(2)
        self.drain.kick(DOMAIN)
        self.wait(8.0)
        assert [number for _, number in self.hand_over.at] == [1, 2]
        self.copy(3)
        self.wait(60.0, 0.5)
        assert len(self.hand_over.at) == 2, "nobody said anything of it"

    def test_what_moved(self) -> None:
        """Would catch a pass that is repeated ever later although copies go, or that rests as briefly though none does."""
        for number in range(1, 30):
            self.copy(number)
            self.hand_over.results[number] = Result.UNAVAILABLE
        self.hand_over.results[29] = Result.STUCK
        self.go(4.0)
        assert [number for _, number in self.hand_over.at] == [29, 28, 27, 26]
        self.wait(1.5)
        assert len(self.hand_over.at) > 4, "5 s after one that moved some"
        self.wait(4.0)
        tried = len(self.hand_over.at)
        self.wait(5.0)
        assert len(self.hand_over.at) == tried, "10 s after one that moved none"
        self.wait(3.0)
        assert len(self.hand_over.at) > tried

    def test_somebody_elses_domain(self) -> None:
        """Would catch a pass that takes copies of another domain along, of whichever message."""
        self.copy(1)
        self.copy(2, address="bob@second.test")
        self.copy(3, address="bob@second.test", message=1)
        self.go(2.0)
        assert [number for _, number in self.hand_over.at] == [1]
        assert len(self.modes.observed) == 0, "the queue counts by message"
        self.queue.held.pop(2)
        self.queue.held[3] = msgspec.structs.replace(self.queue.held[3], state=RowState.QUEUED)
        self.wait(15.0)
        assert len(self.modes.observed) == 1

    def test_trouble_side_by_side(self) -> None:
        """Would catch three hand-overs that fail at the same moment and count as three times."""
        self.hand_over.takes = 0.01
        for number in range(1, 500):
            self.copy(number)
        self.go(2.0)
        self.hand_over.results = dict.fromkeys(range(1, 500), Result.UNAVAILABLE)
        self.hand_over.takes = 1.0
        before = len(self.hand_over.at)
        self.wait(8.0)
        assert len(self.hand_over.at) - before > 5
