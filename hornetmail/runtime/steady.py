"""Timers that count the time that passes, whatever is done to the clock (rule 5).

Twisted's reactor reckons timers in wall-clock time (twisted/twisted#2424): a clock that is put back by an hour stops every probe, retry, time-out and
job for an hour, and one that jumps ahead, as after a suspend, ends every connection at once for slowness. ``keep`` moves the timers that
are set along with the clock. ``reactor.seconds`` stays the wall clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.logger import Logger

STEP_SECONDS = 1.0
"""A clock that differs by more was put to another time; NTP slews what is less."""


class _Seconds:
    """In the place of ``reactor.seconds``: the reactor asks it before it looks at its timers."""

    log = Logger()

    def __init__(self, reactor: Any, uptime: Callable[[], float]) -> None:
        self._reactor = reactor
        self._wall: Callable[[], float] = reactor.seconds
        self._uptime = uptime
        self._ahead = self._wall() - uptime()
        self._owner = threading.get_ident()

    def __call__(self) -> float:
        """Unix seconds."""
        now = self._wall()
        step = now - self._uptime() - self._ahead
        if abs(step) > STEP_SECONDS and threading.get_ident() == self._owner:
            self._ahead += step
            # All alike, the cancelled ones too: so the heap stays one. DelayedCall.reset would search the heap for each.
            for call in (*self._reactor._pendingTimedCalls, *self._reactor._newTimedCalls):
                call.time += step
            self.log.warn("the clock was put {way} by {step:.0f} s", way="forward" if step > 0 else "back", step=abs(step))
        return now


def keep(reactor: Any, uptime: Callable[[], float] = monotonic) -> None:
    """Keep the timers of this reactor (a ``ReactorBase``) from following the wall clock. To be called in its thread; again, it changes nothing."""
    if not isinstance(reactor.seconds, _Seconds):
        reactor.seconds = _Seconds(reactor, uptime)
