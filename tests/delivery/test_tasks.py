"""Coroutines that nobody waits for: what becomes of their errors, of their time, and of them at the end."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.delivery.tasks import Tasks, awaiting, pause, together, within


async def failing(text: str) -> None:
    raise ValueError(text)


class SideBySide(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.tasks = Tasks(self.clock)

    async def given(self, waited: Deferred[str]) -> str:
        return await waited

    def test_results_and_the_first_error(self) -> None:
        """Would catch results of one that are taken for another's, an error that turns into a different one, and others that are left behind by it."""
        waits: list[Deferred[str]] = [Deferred(), Deferred()]
        done = Deferred.fromCoroutine(together(self.given(each) for each in waits))
        waits[1].callback("b")
        self.assertNoResult(done)
        waits[0].callback("a")
        assert self.successResultOf(done) == ["a", "b"]
        assert self.successResultOf(Deferred.fromCoroutine(together([]))) == []
        held: Deferred[str] = Deferred()
        mixed = Deferred.fromCoroutine(together([self.given(held), failing("first"), failing("second")]))
        self.assertNoResult(mixed)
        held.callback("late")
        assert str(self.failureResultOf(mixed, ValueError).value) == "first"

    def test_no_answer_in_time(self) -> None:
        """Would catch a wait without an end, one that ends too soon, and a cancelled one that is told as an answer that did not come."""
        waited: Deferred[str] = Deferred()
        late = Deferred.fromCoroutine(within(self.clock, 5.0, self.given(waited)))
        self.clock.advance(4.9)
        self.assertNoResult(late)
        self.clock.advance(0.1)
        assert str(self.failureResultOf(late, TimeoutError).value) == "no answer within 5 s"
        soon: Deferred[str] = Deferred()
        answered = Deferred.fromCoroutine(within(self.clock, 5.0, awaiting(soon)))
        soon.callback("x")
        assert self.successResultOf(answered) == "x"
        cancelled = Deferred.fromCoroutine(within(self.clock, 5.0, self.given(Deferred())))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        failed = Deferred.fromCoroutine(within(self.clock, 5.0, failing("own")))
        self.failureResultOf(failed, ValueError)
        assert self.clock.getDelayedCalls() == []

    def test_a_pause(self) -> None:
        """Would catch a timer that stays behind when nobody waits for it any more."""
        slept = Deferred.fromCoroutine(pause(self.clock, 3.0))
        self.clock.advance(3.0)
        assert self.successResultOf(slept) is None
        woken = Deferred.fromCoroutine(pause(self.clock, 3.0))
        woken.cancel()
        self.failureResultOf(woken, CancelledError)
        assert self.clock.getDelayedCalls() == []

    def test_errors_are_logged_and_end_nothing(self) -> None:
        """Would catch an error that nobody is told of, one that stops who waits for the end, and a cancelled one told as an error."""
        ended = self.tasks.start(failing("own"), "this")
        assert self.successResultOf(ended) is None
        assert [str(each.value) for each in self.flushLoggedErrors(ValueError)] == ["own"]  # type: ignore[no-untyped-call]
        self.tasks.start(self.given(Deferred()), "that")
        assert len(self.tasks) == 1
        self.successResultOf(Deferred.fromCoroutine(self.tasks.stop(0.0)))
        assert len(self.tasks) == 0
        assert self.flushLoggedErrors() == []  # type: ignore[no-untyped-call]

    def test_the_grace_of_a_stop(self) -> None:
        """Would catch a stop that cuts off what would be done in a moment, waits longer than it may, or ends before the last is done."""
        waits: list[Deferred[str]] = [Deferred(), Deferred()]
        for each in waits:
            self.tasks.start(self.given(each), "a delivery")
        stopped = Deferred.fromCoroutine(self.tasks.stop(1.0))
        waits[0].callback("done")
        self.assertNoResult(stopped)
        waits[1].callback("done")
        self.successResultOf(stopped)
        assert self.clock.getDelayedCalls() == []
        hangs = self.tasks.start(self.given(Deferred()), "another")
        stopped = Deferred.fromCoroutine(self.tasks.stop(10.0))
        self.clock.advance(9.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.successResultOf(hangs)
        now = self.tasks.start(self.given(Deferred()), "a third")
        self.successResultOf(Deferred.fromCoroutine(self.tasks.stop(0.0)))
        self.successResultOf(now)
        self.successResultOf(Deferred.fromCoroutine(self.tasks.stop(5.0)))
        assert self.clock.getDelayedCalls() == []
