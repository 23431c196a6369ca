"""When to try again, when to tell the sender, when to give up. Pure: jitter and time are handed in."""

from __future__ import annotations

import msgspec

HOUR = 3600.0
DAY = 86400.0


class Backoff(msgspec.Struct, frozen=True, gc=False):
    """Seconds: the ``first`` delay doubles up to ``ceiling``; a sender hears of a delay after ``late``; ``give_up`` ends it.

    ``late`` and ``give_up`` are measured in ``Row.worked``, the time in which the service was up and the row not parked (rule 5).
    """

    first: float = 60.0
    ceiling: float = HOUR
    late: float = 4 * HOUR
    give_up: float = 5 * DAY

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds until the attempt after ``attempts`` (1 or more) ones. ``jitter`` of [0, 1) spreads it by 20 % either way,
        so that what failed together is not tried together again."""
        doubled = self.first * 2.0 ** min(max(attempts - 1, 0), 40)
        return min(doubled, self.ceiling) * (0.8 + 0.4 * jitter)

    def patience(self) -> float:
        """Seconds after which an uncertain copy is handed over whatever was heard of the primary; it goes earlier when its turn comes
        (``core.turn``)."""
        return max(self.ceiling, 5 * self.first)

    def over(self, worked: float) -> bool:
        """Whether to give up."""
        return worked >= self.give_up

    def is_late(self, worked: float, told: bool) -> bool:
        """Whether a delay notice is due."""
        return not told and worked >= self.late
