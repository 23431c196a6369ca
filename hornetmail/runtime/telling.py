"""One way of telling administrators of alarms: gathers what is due, hands it over by tenant, and tries again with what could not be said.

What began at about the same time is told in one piece. Rounds that follow one another closely are spread further and further, so that a flood of
alarms is a few long messages; each alarm is told at its times (``core.alarms.due``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.alarms import AlarmRecord, Stage, Way
from hornetmail.runtime.alarms import AlarmBook

Said = tuple[AlarmRecord, Stage]


class Pace(msgspec.Struct, frozen=True, gc=False):
    """Seconds. ``gather``: from the first thing due to the message; ``widest``: most that floods spread messages to; ``calm``: without a message
    after which it is quick again; ``first`` and ``most``: until another try after a failure."""

    gather: float = 5.0
    widest: float = 600.0
    calm: float = 1800.0
    first: float = 15.0
    most: float = 900.0


class Teller:
    """``send(tenant, said)`` hands over; what it raises means that nothing was said to that tenant, and it is tried again. False: there is
    nobody to say it to."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        book: AlarmBook,
        way: Way,
        send: Callable[[int, Sequence[Said]], Awaitable[bool]],
        repeat: Callable[[int], float],
        pace: Pace | None = None,
    ) -> None:
        self._clock = clock
        self._book = book
        self._way = way
        self._send = send
        self._repeat = repeat
        self._pace = pace or Pace()
        self._gap = self._pace.gather
        self._last = float("-inf")
        self._failed: dict[int, tuple[float, float]] = {}
        self._timer: Any = None
        self._running: Deferred[None] | None = None
        self._stopped = False
        book.listen(self.soon)

    def soon(self) -> None:
        """There may be something to say."""
        if self._timer is None and self._running is None and not self._stopped and self._due():
            now = self._clock.seconds()
            self._timer = self._clock.callLater(max(self._pace.gather, self._last + self._gap - now), self._ring)

    def _due(self) -> list[Said]:
        now = self._clock.seconds()
        waiting = {tenant for tenant, (until, _) in self._failed.items() if now < until <= now + self._pace.most}
        return [(record, stage) for record, stage in self._book.due(self._way, self._repeat) if record.tenant not in waiting]

    def _ring(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self.round())

    async def round(self) -> None:
        """Say all that is due now. Never raises."""
        if self._running is not None:
            waited: Deferred[None] = Deferred()
            self._running.addCallback(lambda _: waited.callback(None))
            await waited
            return
        self._running = Deferred()
        try:
            await self._say()
        except Exception:  # noqa: BLE001 - it is tried again
            self.log.failure("telling of alarms by {way} failed", way=self._way.value)
        finally:
            ended, self._running = self._running, None
            ended.callback(None)

    async def _say(self) -> None:
        by_tenant: dict[int, list[Said]] = {}
        for record, stage in self._due():
            by_tenant.setdefault(record.tenant, []).append((record, stage))
        now = self._clock.seconds()
        for tenant, said in by_tenant.items():
            try:
                anybody = await self._send(tenant, said)
            except Exception as error:  # noqa: BLE001 - whatever the way's trouble is: others hear of theirs, this is tried again
                _, before = self._failed.get(tenant, (0.0, 0.0))
                pause = min(self._pace.most, max(self._pace.first, before * 2))
                self._failed[tenant] = (self._clock.seconds() + pause, pause)
                self.log.error(
                    "{count} alarms cannot be told by {way}, again in {pause:.0f} s: {error}",
                    count=len(said),
                    way=self._way.value,
                    pause=pause,
                    error=error,
                )
                continue
            self._failed.pop(tenant, None)
            ended = [(record, stage) for record, stage in said if anybody or stage is Stage.ENDED]
            if anybody:
                self._spread(now)
            self._book.told(self._way, ended)

    def _spread(self, now: float) -> None:
        close = now - self._last < self._pace.calm
        self._gap = min(self._pace.widest, self._gap * 2) if close else self._pace.gather
        self._last = now

    async def stop(self) -> None:
        """Say nothing more; what is being said is said."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None:
            waited: Deferred[None] = Deferred()
            self._running.addCallback(lambda _: waited.callback(None))
            await waited
