"""How fast a server that was away is given what waited for it (rule 10): slowly at first, faster while its answers are quick, slower once they are not.

Two figures: how many are offered it side by side, one at first and one more for each that it takes; and how many a second, twice as many from
second to second as long as it keeps up. Its answers are looked at once a second. Those that take long, or deferrals, halve both, and growth is gentle
from then on. Trouble of the server as a whole begins anew.
"""

from __future__ import annotations

import enum
import statistics

import msgspec


class Limits(msgspec.Struct, frozen=True, gc=False):
    """``first`` a second at the start; ``most`` side by side, which leaves new mail a quarter of the connections to one place; slow are answers
    whose median is above ``patience`` s and twice that of the server's quickest second; ``deferrals``: that part of a second's answers is too many."""

    first: float = 20.0
    most: int = 15
    patience: float = 1.0
    deferrals: float = 0.1


class Answer(enum.Enum):
    """What a server did with a message: took it, or refused it for good; put it off, for a reason that may be the server's own; or was in trouble."""

    TAKEN = "taken"
    DEFERRED = "deferred"
    TROUBLE = "trouble"


class Pace:
    """``rate``: messages a second. ``width``: side by side."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._usual = 0.0
        self._gentle = False
        self.rate = limits.first
        self.width = 1
        self._second(now)

    def _second(self, now: float) -> None:
        self._since = now
        self._times: list[float] = []
        self._deferred = 0

    def answered(self, now: float, seconds: float, answer: Answer) -> None:
        """An answer came after so many seconds. Times are of one clock that runs on."""
        if answer is Answer.TROUBLE:
            self.rate, self.width, self._gentle = self._limits.first, 1, True
            self._second(now)
            return
        self._times.append(seconds)
        if answer is Answer.DEFERRED:
            self._deferred += 1
        else:
            self.width = min(self.width + 1, self._limits.most)
        if now - self._since >= 1.0:
            self._look(now)

    def _look(self, now: float) -> None:
        count = len(self._times)
        reached = count / (now - self._since)
        typical = statistics.median(self._times)
        slow = bool(self._usual) and typical > max(self._limits.patience, 2 * self._usual)
        self._usual = min(self._usual or typical, typical)
        if slow or self._deferred > self._limits.deferrals * count:
            # What was reached counts: it may be bounded by something else, and half of what nobody uses would change nothing.
            self.rate = max(1.0, min(self.rate, reached) / 2)
            self.width = max(1, self.width // 2)
            self._gentle = True
        elif reached >= self.rate / 2:
            self.rate *= 1.25 if self._gentle else 2.0
        self._second(now)
