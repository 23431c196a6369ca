"""One way of telling administrators of alarms: gathers what is due, hands it over by tenant, and tries again with what could not be said.

What began at about the same time is told in one piece. Rounds that follow one another closely are spread further and further, so that a flood of
alarms is a few long messages; each alarm is told at its times (``core.alarms.due``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.alarms import AlarmRecord, Stage, Way
from hornetmail.runtime.alarms import AlarmBook

Said = tuple[AlarmRecord, Stage]


SIDE_BY_SIDE = 16
"""Tenants that are told at a time: one whose receiver hangs holds up no others."""

STOP_SECONDS = 2.0
"""What is being said when the service stops has so long to be said; the next start says it otherwise."""


class Pace(msgspec.Struct, frozen=True, gc=False):
    """Seconds. ``gather``: from the first thing due to the message; ``widest``: most that floods spread messages to; ``calm``: without a message
    after which it is quick again; ``first`` and ``most``: until another try after a failure."""

    gather: float = 5.0
    widest: float = 600.0
    calm: float = 1800.0
    first: float = 15.0
    most: float = 900.0


TOLD_SECONDS = 60.0
"""A way that fails for that long, and more than once, is trouble of its own."""


class Failing(msgspec.Struct, frozen=True):
    """A tenant that could not be told. ``until``: not tried again before, ``pause`` after it failed; ``since``: when it failed first; ``goal``: where
    it was to go."""

    until: float
    pause: float
    since: float
    goal: object


class Outlet(msgspec.Struct, frozen=True):
    """A way out. ``send(tenant, said)`` hands over; what it raises means that nothing was said to that tenant, and it is tried again. False: there is
    nobody to say it to. ``goal(tenant)``: where that would go; when it changes, what failed before is tried at once. ``trouble(tenant, why)`` hears
    that it keeps failing, and with ``""`` that it does not."""

    way: Way
    send: Callable[[int, Sequence[Said]], Awaitable[bool]]
    goal: Callable[[int], object] = lambda tenant: None
    trouble: Callable[[int, str], None] = lambda tenant, why: None


class Teller:
    """See the module. ``repeat(tenant)``: seconds between reminders."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        book: AlarmBook,
        outlet: Outlet,
        repeat: Callable[[int], float],
        pace: Pace | None = None,
    ) -> None:
        self._clock = clock
        self._book = book
        self._way = outlet.way
        self._outlet = outlet
        self._repeat = repeat
        self._pace = pace or Pace()
        self._gap = self._pace.gather
        self._last = float("-inf")
        self._failed: dict[int, Failing] = {}
        self._timer: Any = None
        self._running: Deferred[None] | None = None
        self._saying: list[Deferred[bool]] = []
        self._stopped = False
        book.listen(self.soon)

    def soon(self) -> None:
        """There may be something to say."""
        if self._timer is None and self._running is None and not self._stopped and self._due():
            now = self._clock.seconds()
            self._timer = self._clock.callLater(max(self._pace.gather, self._last + self._gap - now), self._ring)

    def _due(self) -> list[Said]:
        now = self._clock.seconds()
        goal, most = self._outlet.goal, self._pace.most
        waiting = {one for one, last in self._failed.items() if now < last.until <= now + most and last.goal == goal(one)}
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
        turns = DeferredSemaphore(SIDE_BY_SIDE)
        self._saying = [turns.run(self._told, tenant, said) for tenant, said in by_tenant.items()]
        if any(told and reached for told, reached in await DeferredList(self._saying, consumeErrors=True)):
            self._spread(now)

    def _told(self, tenant: int, said: list[Said]) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._tell(tenant, said))

    async def _tell(self, tenant: int, said: list[Said]) -> bool:
        """Whether somebody was told."""
        goal = self._outlet.goal(tenant)
        try:
            anybody = await self._outlet.send(tenant, said)
        except Exception as error:  # noqa: BLE001 - whatever the way's trouble is: others hear of theirs, this is tried again
            now, last = self._clock.seconds(), self._failed.get(tenant)
            if last is not None and last.goal != goal:
                last = None
            pause = min(self._pace.most, max(self._pace.first, last.pause * 2 if last is not None else 0.0))
            since = last.since if last is not None else now
            self._failed[tenant] = Failing(now + pause, pause, since, goal)
            if now - since >= TOLD_SECONDS:
                self._outlet.trouble(tenant, str(error))
            self.log.error(
                "{count} alarms cannot be told by {way}, again in {pause:.0f} s: {error}",
                count=len(said),
                way=self._way.value,
                pause=pause,
                error=error,
            )
            return False
        self._failed.pop(tenant, None)
        self._outlet.trouble(tenant, "")
        self._book.told(self._way, [(record, stage) for record, stage in said if anybody or stage is Stage.ENDED])
        return anybody

    def _spread(self, now: float) -> None:
        close = now - self._last < self._pace.calm
        self._gap = min(self._pace.widest, self._gap * 2) if close else self._pace.gather
        self._last = now

    async def stop(self) -> None:
        """Say nothing more; what is being said is said, or given up after ``STOP_SECONDS``."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None:
            waited: Deferred[None] = Deferred()
            self._running.addCallback(lambda _: waited.callback(None))
            end = self._clock.callLater(STOP_SECONDS, self._give_up)
            await waited
            if end.active():
                end.cancel()

    def _give_up(self) -> None:
        for each in self._saying:
            each.cancel()
