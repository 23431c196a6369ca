"""The certificate of our doors: an alarm before it ends, and when a new one cannot be used. Nobody reads a log until programs refuse to log in."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.interfaces import IReactorTime

from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.interfaces.bus import IBus
from hornetmail.net.tls import ServerTLS
from hornetmail.runtime.timetable import Job

CODE = "certificate"

DAYS = 14
"""Before the end: whatever renews certificates has failed for two weeks by then."""

OFTEN = 3600.0
"""Seconds between two looks."""


class Certificate:
    """Looks at what ``tls`` uses."""

    def __init__(self, clock: IReactorTime, bus: IBus, tls: ServerTLS) -> None:
        self._clock = clock
        self._bus = bus
        self._tls = tls

    def jobs(self) -> tuple[Job, ...]:
        """For the timetable."""
        return (Job("certificate", OFTEN, self.look, first=5.0),)

    async def look(self) -> None:
        """One that ends soon, or could not be used, is read anew: whoever put a new one there may have forgotten to say so."""
        if self._days() < DAYS or self._tls.trouble:
            self._tls.reload()
        self.tell()

    def tell(self) -> None:
        """Raise the alarm, or end it."""
        days = self._days()
        if self._tls.trouble:
            why = f"{self._tls.trouble}; the one before stays in use, and {self._end(days)}"
        elif days < DAYS:
            why = f"the certificate of our doors {self._end(days)}"
        else:
            self._bus.publish(AlarmEnded(CODE, why="a good certificate is in use"))
            return
        self._bus.publish(Alarm(CODE, why))

    def _days(self) -> float:
        return (self._tls.ends - self._clock.seconds()) / 86_400.0

    def _end(self, days: float) -> str:
        day = datetime.fromtimestamp(self._tls.ends, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"ended {day}: programs refuse it" if days <= 0 else f"ends {day}"
