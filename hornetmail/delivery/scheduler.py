"""Wakes, claims what is due, hands it on. Sleeps until the next due time otherwise."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.core.queued import Claim, Row, RowKind
from hornetmail.delivery.tasks import Tasks
from hornetmail.interfaces import IQueue

REFILL = 0.005
"""Seconds in which ends of attempts are gathered before a full lane claims again: one claim then serves many."""


class Lane:
    """Rows of some kinds, at most ``limit`` messages at a time. Claims run one after another.

    ``fallback``: seconds after which it looks without being woken, for times that were due before this process started.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        kinds: Collection[RowKind],
        limit: int,
        run: Callable[[Claim], Coroutine[Any, Any, None]],
        next_due: Callable[[Row], float],
        fallback: float = 30.0,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._kinds = tuple(kinds)
        self._limit = limit
        self._run = run
        self._next_due = next_due
        self._fallback = fallback
        self._tasks = Tasks(clock)
        self._claiming = Tasks(clock)
        self._again = False
        self._full = False
        self._refilling = False
        self._dues: list[float] = []
        self._running = False
        self._call: IDelayedCall | None = None

    @property
    def busy(self) -> int:
        """Messages under way."""
        return len(self._tasks)

    def start(self) -> None:
        """Begin."""
        self._running = True
        if self._dues:
            self._arm(self._dues[0])
        self.wake()

    async def stop(self, grace: float) -> None:
        """Claim no more; wait ``grace`` s for what is under way."""
        self._running = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        await self._claiming.stop(grace)
        await self._tasks.stop(grace)

    def wake(self) -> None:
        """Something became due."""
        if not self._running:
            return
        if len(self._claiming):
            self._again = True
            return
        self._claiming.start(self._turn(), "claiming")

    def expect(self, due: float) -> None:
        """Something becomes due then."""
        if self._running and (not self._dues or due < self._dues[0]):
            self._arm(due)
        heapq.heappush(self._dues, due)

    def _arm(self, due: float) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._come)

    def _come(self) -> None:
        """The earliest of the expected times is here."""
        now = self._clock.seconds()
        while self._dues and self._dues[0] <= now:
            heapq.heappop(self._dues)
        if self._dues:
            self._arm(self._dues[0])
        self.wake()

    async def _turn(self) -> None:
        self._again = True
        while self._again and self._running:
            self._again = self._refilling = False
            free = self._limit - len(self._tasks)
            if free <= 0:
                self._full = True
                break
            try:
                claims = await self._queue.claim(self._clock.seconds(), free, self._next_due, self._kinds)
            except Exception:  # noqa: BLE001 - the queue is in trouble, it says so itself; look again later
                self.log.failure("claiming failed")
                break
            self._full = sum(len(claim.rows) for claim in claims) >= free
            for claim in claims:
                self._tasks.start(self._run(claim), f"message {claim.message.id}").addCallback(lambda _: self._ended())
        look = self._clock.seconds() + self._fallback
        if not self._dues or self._dues[0] > look:
            self.expect(look)

    def _ended(self) -> None:
        if self._full and not self._refilling:
            self._refilling = True
            self.expect(self._clock.seconds() + REFILL)
