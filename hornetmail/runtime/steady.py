"""Timers that count the time that passes, whatever is done to the clock (rule 5).

Twisted's reactor reckons timers in wall-clock time (twisted/twisted#2424): a clock that is put back by an hour stops every probe, retry, time-out and
job for an hour, and one that jumps ahead, as after a suspend, ends every connection at once for slowness. ``keep`` moves the timers that
are set along with the clock. ``reactor.seconds`` stays the wall clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

STEP_SECONDS = 1.0
"""A clock that differs by more was put to another time; NTP slews what is less."""

_log = Logger()


def keep(reactor: Any, wall: Callable[[], float] = time.time, uptime: Callable[[], float] = time.monotonic) -> None:
    """Keep the timers of this reactor (a ``ReactorBase``) from following the wall clock. To be called in its thread."""
    ahead = wall() - uptime()
    owner = threading.get_ident()

    def seconds() -> float:
        """The reactor asks this before it looks at its timers."""
        nonlocal ahead
        now = wall()
        step = now - uptime() - ahead
        if abs(step) > STEP_SECONDS and threading.get_ident() == owner:
            ahead += step
            _move(reactor, step)
            _log.warn("the clock was put {way} by {step:.0f} s", way="forward" if step > 0 else "back", step=abs(step))
        return now

    reactor.seconds = seconds


def _move(reactor: Any, step: float) -> None:
    """All alike, the cancelled ones too: so the heap stays one. ``DelayedCall.reset`` would be a search of the heap for each."""
    for call in (*reactor._pendingTimedCalls, *reactor._newTimedCalls):
        call.time += step
