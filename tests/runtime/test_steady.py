"""Timers and a clock that is put to another time."""

from __future__ import annotations

import pytest
from twisted.internet.base import ReactorBase

from hornetmail.runtime import steady


class Reactor(ReactorBase):
    """The timers of a reactor, and two clocks."""

    def __init__(self) -> None:
        self.wall, self.up = 1_800_000_000.0, 50.0
        self.called: list[str] = []
        super().__init__()
        for _ in range(2):
            steady.keep(self, lambda: self.up)

    def seconds(self) -> float:  # type: ignore[override]
        return self.wall

    def installWaker(self) -> None:
        """None is needed."""

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds
        self.runUntilCurrent()


@pytest.mark.parametrize("step", [-3600.0, -20.0, 20.0, 6 * 86400.0])
def test_a_step_of_the_clock_moves_no_timer(step: float) -> None:
    """Would catch a clock put back by an hour that stops every timer for an hour, and one put ahead that ends all at once: those that are in
    the heap, new ones, and those behind a cancelled or a delayed one."""
    reactor = Reactor()
    for seconds in (30, 10, 20):
        reactor.callLater(seconds, reactor.called.append, f"set {seconds} s before")
    cancelled = reactor.callLater(5, reactor.called.append, "cancelled")
    delayed = reactor.callLater(6, reactor.called.append, "delayed")
    reactor.passes(1)
    cancelled.cancel()
    delayed.delay(29)
    new = reactor.callLater(11, reactor.called.append, "new")
    reactor.wall += step
    assert reactor.seconds() == reactor.wall
    assert reactor.timeout() == pytest.approx(4)
    assert new.getTime() == pytest.approx(reactor.wall + 11)
    reactor.passes(8)
    assert reactor.called == []
    reactor.passes(2)
    assert reactor.called == ["set 10 s before"]
    reactor.passes(10)
    assert reactor.called == ["set 10 s before", "new", "set 20 s before"]
    reactor.passes(30)
    assert reactor.called == ["set 10 s before", "new", "set 20 s before", "set 30 s before", "delayed"]


def test_a_clock_that_is_slewed_stays() -> None:
    """Small corrections are no steps."""
    reactor = Reactor()
    reactor.callLater(10, reactor.called.append, "called")
    for _ in range(9):
        reactor.wall += 0.05
        reactor.passes(1)
    assert reactor.called == []
    reactor.passes(1)
    assert reactor.called == ["called"]
