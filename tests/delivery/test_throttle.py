"""Whose turn it is to hand over to a primary."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.pace import Answer, Limits
from hornetmail.core.served import Host
from hornetmail.delivery.home.throttle import IDLE_SECONDS, Throttles


class Turns(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        clock: Any = self.clock
        self.throttles = Throttles(clock, Limits(first=10.0))
        self.throttle = self.throttles.of((Host("mx"),))

    def begin(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.throttle.begin())

    def test_one_after_another(self) -> None:
        """In the order of asking, a tenth of a second apart, and never more side by side than the pace has it."""
        first, second, third = (self.begin() for _ in range(3))
        self.successResultOf(first)
        self.clock.advance(5)
        self.assertNoResult(second)
        self.throttle.end(5.0, None)
        self.successResultOf(second)
        self.throttle.end(0.01, Answer.TAKEN)
        self.assertNoResult(third)
        self.clock.advance(0.1)
        self.successResultOf(third)

    def test_whoever_gives_up_leaves_nothing_behind(self) -> None:
        """Would catch a turn that is given to somebody who has gone, and a timer that outlives the service."""
        self.successResultOf(self.begin())
        self.throttle.end(0.01, Answer.TAKEN)
        waiting, next_one = self.begin(), self.begin()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.clock.advance(0.1)
        self.successResultOf(next_one)
        last = self.begin()
        last.cancel()
        self.failureResultOf(last, CancelledError)
        assert self.clock.getDelayedCalls() == []

    def test_a_clock_that_is_put_back(self) -> None:
        """Would catch a drain that stands still until the old time comes again."""
        self.successResultOf(self.begin())
        self.throttle.end(0.01, Answer.TAKEN)
        self.clock.rightNow -= 3600
        self.successResultOf(self.begin())

    def test_a_primary_is_met_anew(self) -> None:
        """After a while nobody knows how it is: gently again. One that works is not forgotten, whoever asks for it."""
        for _ in range(40):
            self.successResultOf(self.begin())
            self.throttle.end(0.01, Answer.TAKEN)
            self.clock.advance(0.1)
        assert self.throttle._pace.width > 1
        assert self.throttles.of([Host("mx")]) is self.throttle
        self.clock.advance(IDLE_SECONDS + 1)
        assert self.throttles.of([Host("mx")]) is not self.throttle
        self.successResultOf(self.begin())
        assert self.throttle._pace.width == 1
