"""Delays that grow with failed log-ins, by account and by network (rule 8: IPv6 counts by /64)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

FORGET = 3600.0
"""Seconds without a failure after which all is forgotten."""

LONGEST = 900.0
MOST = 50_000
"""Accounts and networks remembered; the ones heard of least recently go first."""


class _Entry(msgspec.Struct, gc=False):
    failures: int
    last: float
    until: float


class Throttle:
    """Counts attempts by key. ``free`` attempts cost nothing, each further one twice the delay of the one before, from 1 s to 15 min.

    An attempt is charged when it starts, so that a thousand parallel ones get no further than one after the other, and given back when it succeeds.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def wait(self, keys: Sequence[str]) -> float:
        """Seconds until these keys may try again; 0 means now."""
        now = self._clock.seconds()
        return max(
            (entry.until - now for key in keys if (entry := self._entry(key)) is not None and entry.until > now), default=0.0
        )

    def charge(self, key: str, free: int) -> None:
        """An attempt begins."""
        now = self._clock.seconds()
        entry = self._entry(key) or _Entry(0, now, 0.0)
        entry.failures += 1
        entry.last = now
        if entry.failures >= free:
            entry.until = now + min(LONGEST, 2.0 ** min(entry.failures - free, 20))
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > MOST:
            self._entries.popitem(last=False)

    def give_back(self, key: str) -> None:
        """It was no failure after all."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.failures -= 1
            entry.until = 0.0
            if entry.failures <= 0:
                del self._entries[key]

    def clear(self, key: str) -> None:
        """Forget a key's failures."""
        self._entries.pop(key, None)

    def _entry(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and self._clock.seconds() - entry.last > FORGET:
            del self._entries[key]
            return None
        return entry
