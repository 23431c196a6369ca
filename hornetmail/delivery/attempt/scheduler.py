"""Wakes, claims what is due, hands it on. Sleeps until the next due time otherwise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.delivery.queued import Claim, Row, RowKind
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.tasks import Tasks, within
from hornetmail.interfaces.queue import IQueue, IShare

REFILL = 0.005
"""Seconds in which ends of attempts are gathered before a full lane claims again: one claim then serves many."""


CLAIM_SECONDS = 60.0
"""A claim that hangs ends its lane no more than one that fails; what it claimed all the same is found by whoever looks for lost claims."""

NONE: Mapping[str, int] = MappingProxyType({})


@implementer(IShare)
class Share:
    """Each destination may have ``part`` of what the others leave of ``limit`` messages under way, and always one while there is room.

    One that hangs has that and no more; each further one that hangs takes ever less, so that it takes dozens of them to fill the lane.
    ``goal(domain, address)`` names a destination.
    """

    def __init__(self, part: float, limit: int, goal: Callable[[str, str], str]) -> None:
        self._part = part
        self._limit = limit
        self.destination = goal
        self._busy: dict[str, int] = {}
        self._all = 0
        self.denied = False

    def room(self, destination: str, taking: Mapping[str, int] = NONE) -> int:
        """See IShare."""
        mine = self._busy.get(destination, 0) + taking.get(destination, 0)
        others = self._all + sum(taking.values()) - mine
        left = max(1, int(self._part * (self._limit - others))) - mine
        self.denied = self.denied or left <= 0
        return left

    def kept_waiting(self) -> None:
        """See IShare."""
        self.denied = True

    def take(self, goal: str) -> None:
        """A message goes under way there."""
        self._busy[goal] = self._busy.get(goal, 0) + 1
        self._all += 1
        # Others may wait for it, now or soon.
        self.denied = self.denied or self.room(goal) <= 0

    def give(self, goal: str) -> None:
        """It ended."""
        self._all -= 1
        self._busy[goal] -= 1
        if not self._busy[goal]:
            del self._busy[goal]


class Lane:
    """Rows of some kinds, at most ``limit`` messages at a time (with ``share``, one that goes to several destinations counts at each). Claims run
    one after another. The queue says when to look (``IQueue.next_due`` and ``wake``), and an attempt that ends while the lane was full.

    ``share``: how much of it a destination may have, if that is limited. ``fallback``: seconds after which it looks at the latest when the
    queue could not be asked.
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
        underway: Underway,
        share: Share | None = None,
        fallback: float = 5.0,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._kinds = tuple(kinds)
        self._limit = limit
        self._run = run
        self._next_due = next_due
        self._underway = underway
        self._share = share
        self._fallback = fallback
        self._tasks = Tasks(clock)
        self._claiming = Tasks(clock)
        self._again = False
        self._full = False
        self._running = False
        self._call: IDelayedCall | None = None

    @property
    def busy(self) -> int:
        """Messages under way."""
        return len(self._tasks)

    def start(self) -> None:
        """Begin."""
        self._running = True
        self.wake()

    async def stop(self, grace: float) -> None:
        """Claim no more; wait ``grace`` s for what is under way."""
        self._running = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        await self._claiming.stop(grace)
        await self._tasks.stop(grace)

    def wake(self) -> None:
        """Something became due, or is due at another time than was known."""
        due = self._queue.next_due(self._kinds)
        if due is not None and due > self._clock.seconds():
            self._look_at(due)
        elif due is not None:
            self._look()

    def _look(self) -> None:
        """Claim what is due, and what waited for room."""
        if not self._running:
            return
        if len(self._claiming):
            self._again = True
        else:
            self._claiming.start(self._turn(), "claiming")

    def _look_at(self, due: float) -> None:
        """Look then, if not earlier."""
        if not self._running:
            return
        if self._call is not None and self._call.active():
            if self._call.getTime() <= due:
                return
            self._call.cancel()
        self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)

    async def _turn(self) -> None:
        self._again = True
        failed = False
        while self._again and self._running:
            self._again = False
            free = self._limit - len(self._tasks)
            if free <= 0:
                self._full = True
                return
            if self._share is not None:
                self._share.denied = False
            try:
                asked = self._queue.claim(self._clock.seconds(), free, self._next_due, self._kinds, self._share)
                claims = await within(self._clock, CLAIM_SECONDS, asked)
            except Exception as error:
                if isinstance(error, CancelledError) and not self._running:
                    raise
                self.log.failure("claiming failed")
                failed = True
                break
            self._full = sum(len(claim.rows) for claim in claims) >= free
            for claim in claims:
                for goal, part in self._parts(claim):
                    self._tasks.start(self._attempt(goal, part), f"message {claim.message.id}").addCallback(
                        lambda _: self._ended()
                    )
        now = self._clock.seconds()
        due = now + self._fallback if failed else self._queue.next_due(self._kinds)
        # What is due by now waits for a place: an attempt that ends looks again, and so does the queue as long as there is any.
        if due is not None and due > now:
            self._look_at(due)

    def _parts(self, claim: Claim) -> list[tuple[str, Claim]]:
        """A claim by destinations: none of a message's recipients waits, or holds a place, for those elsewhere."""
        if self._share is None:
            return [("", claim)]
        parts: dict[str, list[Row]] = {}
        for row in claim.rows:
            parts.setdefault(self._share.destination(claim.message.domain, row.address), []).append(row)
        return [(goal, Claim(claim.message, tuple(rows))) for goal, rows in parts.items()]

    async def _attempt(self, goal: str, claim: Claim) -> None:
        rows = [row.id for row in claim.rows]
        if self._share is None:
            await self._underway.work(rows, self._run(claim))
            return
        self._share.take(goal)
        try:
            await self._underway.work(rows, self._run(claim))
        finally:
            self._share.give(goal)

    def _ended(self) -> None:
        if self._full or (self._share is not None and self._share.denied):
            self._full = False
            self._look_at(self._clock.seconds() + REFILL)
