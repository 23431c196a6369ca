"""How long the reactor's turns last, and what ran in the longest (rule 8): for ``/metrics``, and in the log when it hurts.

A timer beats in the reactor; how late it is, is how long the turn before it lasted. A thread looks at the beat and, when it is late, at what the
reactor's thread is doing. Both cost next to nothing: ten beats a second.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from types import FrameType

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.runtime.meters import Meters

BEAT_SECONDS = 0.1
LATE_SECONDS = 0.05
"""A turn of so long is told of."""

BAD_SECONDS = 1.0
"""One of so long is logged."""

KEPT_SECONDS = 600.0
"""The longest turn is that of the last ten to twenty minutes."""


class Turns:
    """``package``: whose code is named as what ran; if none of it did, the innermost function is."""

    log = Logger()

    def __init__(self, reactor: IReactorTime, meters: Meters, package: str = "hornetmail") -> None:
        self._reactor = reactor
        self._meters = meters
        self._package = package + "."
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: IDelayedCall | None = None
        self._reactor_thread = 0
        self._due = 0.0
        self._seen = ""
        self._longest: list[tuple[float, str]] = [(0.0, ""), (0.0, "")]
        self._kept = 0.0

    def start(self) -> None:
        """In the reactor's thread."""
        self._meters.gauges("reactor_longest_turn_seconds", "what", self.longest)
        self._reactor_thread = threading.get_ident()
        self._kept = self._reactor.seconds() + KEPT_SECONDS
        self._next()
        self._thread = threading.Thread(target=self._look, name="turns", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """The thread has ended on return."""
        self._ended.set()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join()

    def longest(self) -> Mapping[str, float]:
        """What ran, and seconds; empty if no turn was long."""
        seconds, what = max(self._longest)
        return {what: seconds} if seconds else {}

    def _next(self) -> None:
        self._due = self._reactor.seconds() + BEAT_SECONDS
        self._timer = self._reactor.callLater(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        now = self._reactor.seconds()
        late, what = now - self._due, self._seen or "unknown"
        self._next()
        self._seen = ""
        if now > self._kept:
            self._kept = now + KEPT_SECONDS
            self._longest = [self._longest[1], (0.0, "")]
        if late < LATE_SECONDS:
            return
        self._meters.observe("reactor_late", late)
        self._longest[1] = max(self._longest[1], (late, what))
        if late >= BAD_SECONDS:
            self.log.warn("nobody was served for {late:.1f} s: {what}", late=late, what=what)

    def _look(self) -> None:
        while not self._ended.wait(LATE_SECONDS / 2):
            if not self._seen and self._reactor.seconds() - self._due > LATE_SECONDS / 2:
                frame = sys._current_frames().get(self._reactor_thread)
                if frame is not None:
                    self._seen = self._name(frame)

    def _name(self, frame: FrameType) -> str:
        inner, found = frame, frame
        while not _module(found).startswith(self._package):
            if found.f_back is None:
                found = inner
                break
            found = found.f_back
        return f"{_module(found)}.{found.f_code.co_qualname}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
