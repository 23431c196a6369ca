"""The one timer of a connection: how long its present state may last."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """``passed()`` is called once, when the time is over. The delayed call is moved only when it would fire too late: it is begun anew with each
    event and each answer, thousands of times a second."""

    __slots__ = ("_clock", "_due", "_fires", "_passed", "_timer")

    def __init__(self, clock: IReactorTime, passed: Callable[[], None]) -> None:
        self._clock = clock
        self._passed = passed
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._fires = 0.0

    def begin(self, seconds: float) -> None:
        """So many seconds from now, whatever was before."""
        self._due = self._clock.seconds() + seconds
        if self._timer is None:
            self._fires = self._due
            self._timer = self._clock.callLater(seconds, self._ticked)
        elif self._due < self._fires:
            self._fires = self._due
            self._timer.reset(seconds)

    def stop(self) -> None:
        """No more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _ticked(self) -> None:
        self._timer = None
        left = self._due - self._clock.seconds()
        if left > 0:
            self.begin(left)
        else:
            self._passed()
