"""Replies of one reactor turn, written at its end.

A reply that is sent while other connections of the turn still wait for theirs wakes its reader at once: on another core, or worse, in place
of this process. Sent one behind the other they wake whoever reads many of them once. A turn with one reply ends right behind it.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IReactorTime


class Writer(Protocol):
    """Who has something to write."""

    def flush(self) -> None:
        """Write it now. Safe when the connection is gone, or nothing is left to write."""


class Outbox:
    """``clock`` is the reactor."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._writers: dict[Writer, None] = {}

    def add(self, writer: Writer) -> None:
        """``writer.flush()`` is called once, when this turn is over."""
        if not self._writers:
            self._clock.callLater(0, self._send)
        self._writers[writer] = None

    def _send(self) -> None:
        writers, self._writers = self._writers, {}
        for writer in writers:
            writer.flush()
