"""Tells those who claim that something is due, or will be earlier than they knew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from hornetmail.core.delivery.queued import RowKind
from hornetmail.spool.rows.dues import Dues

OVERDUE = 5.0
"""Seconds after which listeners are called again while rows stay overdue: a call that came to nothing is not the last."""

LONGEST = 60.0
"""Seconds that the timer sleeps at most: wall clocks are set, and due times are theirs."""


class Waking:
    """Listeners, a timer, and at most one call of them under way."""

    log = Logger()

    def __init__(self, reactor: Any, dues: Dues) -> None:
        self._reactor = reactor
        self._dues = dues
        self._listeners: list[Callable[[], None]] = []
        self._soon: Any = None
        self._timer: Any = None
        self._closed = False

    def listen(self, listener: Callable[[], None]) -> None:
        """See IQueue.wake."""
        self._listeners.append(listener)

    def look(self) -> None:
        """Rows were queued: tell of it in a later turn if one of them is the next to be due."""
        if self._dues.sooner and self._soon is None and not self._closed:
            self._soon = self._reactor.callLater(0, self._call)

    def arm(self) -> None:
        """Set the timer for the next row that is due later, and look again soon after those that are overdue."""
        if self._closed:
            return
        now = self._reactor.seconds()
        at = now + LONGEST
        for kind in RowKind:
            due = self._dues.next((kind,))
            if due is not None:
                at = min(at, due if due > now else now + OVERDUE)
        if self._timer is not None and self._timer.active():
            if now <= self._timer.getTime() <= at:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(at - now, self._ring)

    def stop(self) -> None:
        """No more calls."""
        self._closed = True
        for call in (self._soon, self._timer):
            if call is not None and call.active():
                call.cancel()

    def _ring(self) -> None:
        self._timer = None
        due = self._dues.next()
        if due is not None and due <= self._reactor.seconds():
            self._call()
        else:
            self.arm()

    def _call(self) -> None:
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None
        self._dues.sooner = False
        for listener in self._listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001  a listener's error is its own
                self.log.failure("a listener of the queue failed")
        self.arm()
