"""Time as the reactor's thread got it: what the machine gave to others in between is not counted.

Many tests set the product's patience to tenths of a second and are both ends of a connection. On a busy machine the process stands still for as long,
and Twisted runs timers before it looks what the network brought: a primary that answered at once has "timed out". Here a timer is due
after so many seconds that were worked or waited, and never while there is something to read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class OwnTime:
    """In the place of a reactor's ``seconds`` and of its poller (``EPollReactor``). ``reached`` must be called now and then."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self._worked = time.pthread_getcpuclockid(threading.get_ident())
        self._waited = 0.0
        self._waits: tuple[float, float] | None = None
        self._start = 0.0
        self.reached(time.time())

    def __call__(self) -> float:
        """Unix seconds; asked by any thread."""
        return self._start + time.clock_gettime(self._worked) + self._waited + self._waiting()

    def reached(self, now: float) -> None:
        """It is at least so late: what was not counted is made up for, at a moment when nothing waits for a timer."""
        self._start += max(0.0, now - self())

    def poll(self, timeout: float = -1, most: int = -1) -> list[tuple[int, int]]:
        """As ``select.epoll`` has it. Seconds; below 0, for as long as it takes."""
        found: list[tuple[int, int]] = self._poller.poll(0, most)
        if found or timeout == 0:
            return found
        self._waits = (time.monotonic(), timeout if timeout >= 0 else float("inf"))
        try:
            found = self._poller.poll(timeout, most)
        finally:
            self._waited, self._waits = self._waited + self._waiting(), None
        return found

    def _waiting(self) -> float:
        """Of the wait that lasts: not longer than was asked for."""
        waits = self._waits
        return min(time.monotonic() - waits[0], waits[1]) if waits is not None else 0.0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._poller, name)  # type: ignore[no-any-return]


def keep(reactor: Any) -> OwnTime:
    """Let an ``EPollReactor`` go by its own time, in whose thread this is called."""
    own = OwnTime(reactor._poller)
    reactor.seconds = own
    reactor._poller = own
    return own
