"""When jobs are due: cron expressions in local time (A50-A60), and what was missed. Pure.

An expression has five fields (minute, hour, day of month, month, day of week), as crontab(5) has them. The nights in which the clocks change are
those of Debian's cron: what falls into the hour that is left out is due right after it, and what falls into the hour that comes twice is due
once, unless it is due every hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

import msgspec
from cronsim import CronSim, CronSimError


class ScheduleError(ValueError):
    """An expression that is none; the text names it."""


class Schedule(msgspec.Struct, frozen=True, gc=False):
    """A cron expression that was checked; make it with ``parse_schedule``."""

    text: str

    def after(self, moment: float, zone: tzinfo) -> float:
        """The first time after ``moment``, both Unix seconds; infinity if there is none within 50 years (30 February)."""
        there = datetime.fromtimestamp(moment, UTC).astimezone(zone)
        try:
            found = next(CronSim(self.text, there))
        except StopIteration:
            return float("inf")
        return found.timestamp()

    def words(self) -> str:
        """For people: ``At 02:30 every day``."""
        return CronSim(self.text, datetime(2026, 1, 1, tzinfo=UTC)).explain()


def parse_schedule(text: str) -> Schedule:
    """Raises ScheduleError."""
    plain = " ".join(text.split())
    if len(plain) > 200:
        raise ScheduleError("a schedule has five fields of a crontab, not hundreds of characters")
    if len(plain.split()) == 6:
        raise ScheduleError(f'"{plain}" has six fields: there are no seconds here, the first field is the minute')
    try:
        CronSim(plain, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ScheduleError(
            f'"{plain}" is no schedule ({error}): minute, hour, day, month, day of week, as in "12 1 * * 0"'
        ) from None
    return Schedule(plain)
