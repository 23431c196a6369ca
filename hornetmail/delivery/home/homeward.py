"""A primary that is seen up again: what waits for it need not wait for its back-off.

Portal copies go in a pass of the drain, which begins with one and ramps up (rule 10). Mail that is in the queue for want of a portal mailbox is
made due, some at first, then more, so that whoever just came back is not overrun. A primary that answers and fails by turns gets that ever less often.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Row, RowKind, RowState
from hornetmail.core.events import HealthChanged, PrimarySeen
from hornetmail.core.failover import outage
from hornetmail.core.failover.mode import Mode
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.home.drain import Drain
from hornetmail.delivery.pages import pages
from hornetmail.delivery.tasks import Tasks

FIRST, MOST = 10, 320
"""Messages made due in the first second after their primary is back, doubled from second to second up to the latter, which no primary need stand: they
go over as many connections as it allows, like all mail."""

CALM_SECONDS = 10.0
LONGEST_CALM_SECONDS = 900.0
"""Between two times for one domain: the first, doubled whenever what was made due came back at once, and at most the second."""

LONGEST_REST_SECONDS = 120.0
"""The same for the drain's passes that an answered probe starts, which end after few troubles: at most so long as a pass rests by itself. A primary that was away
and is there again (``HealthChanged``) gets one at once."""


class Calm(msgspec.Struct, frozen=True, gc=False):
    """When a domain's mail was made due last, and how long not again after it, in seconds."""

    at: float
    wait: float


class Homeward:
    """See the module."""

    log = Logger()

    def __init__(self, ground: Ground, drain: Drain) -> None:
        self._ground = ground
        self._drain = drain
        self._calm: dict[str, Calm] = {}
        self._passes: dict[str, Calm] = {}
        self._looking: set[str] = set()
        self._tasks = Tasks(ground.clock)
        self._ends: list[Callable[[], None]] = []

    def start(self) -> None:
        """Listen."""
        bus = self._ground.bus
        self._ends = [bus.subscribe(PrimarySeen, self._seen), bus.subscribe(HealthChanged, self._changed)]

    async def stop(self) -> None:
        """Listen no more."""
        for end in self._ends:
            end()
        await self._tasks.stop(1.0)

    def _changed(self, event: HealthChanged) -> None:
        if event.up and not self._ground.in_emergency(event.domain):
            self._drain.turned_up(event.domain)

    def _seen(self, event: PrimarySeen) -> None:
        backlog = self._ground.queue.backlog()
        for domain in event.domains:
            if self._ground.in_emergency(domain) or domain in self._looking or not (backlog.deliver or backlog.drain):
                continue
            self._looking.add(domain)
            self._tasks.start(self._look(domain), f"what waits for the primary of {domain}")

    async def _look(self, domain: str) -> None:
        try:
            if self._ground.modes.mode(domain) is Mode.NORMAL:
                await self._pass(domain)
            await self._hurry(domain)
        finally:
            self._looking.discard(domain)

    async def _pass(self, domain: str) -> None:
        now = self._ground.clock.seconds()
        calm = self._passes.get(domain)
        if calm is not None and 0 <= now - calm.at < calm.wait:
            return
        if await self._drain.anything(domain):
            self._passes[domain] = self._calmer(calm, now, LONGEST_REST_SECONDS)
            self._drain.kick(domain)
        elif calm is not None and now - calm.at > 2 * LONGEST_CALM_SECONDS:
            del self._passes[domain]

    async def _hurry(self, domain: str) -> None:
        now = self._ground.clock.seconds()
        calm = self._calm.get(domain)
        if calm is not None and 0 <= now - calm.at < calm.wait:
            return
        count, width, at = 0, FIRST, now
        some: list[Row] = []
        async for row in self._waiting(domain, now):
            if not count:
                self._calm[domain] = self._calmer(calm, now, LONGEST_CALM_SECONDS)
            count += 1
            some.append(row)
            if len(some) == width:
                await self._make_due(some, at)
                some, width, at = [], min(width * 2, MOST), at + 1.0
        await self._make_due(some, at)
        if count:
            self.log.info("{domain}: its primary is there again, {count} deliveries go now", domain=domain, count=count)
        elif calm is not None and now - calm.at > 2 * LONGEST_CALM_SECONDS:
            del self._calm[domain]

    def _calmer(self, before: Calm | None, now: float, longest: float) -> Calm:
        again = before is not None and now - before.at < 2 * max(before.wait, CALM_SECONDS) + self._ground.modes.policy.window
        return Calm(now, min(before.wait * 2, longest) if again and before is not None else CALM_SECONDS)

    async def _make_due(self, rows: Sequence[Row], at: float) -> None:
        later = [row.id for row in rows if row.due > at]
        if later:
            await self._ground.queue.change(later, RowState.QUEUED, due=at)

    async def _waiting(self, domain: str, now: float) -> AsyncIterator[Row]:
        """Deliveries whose back-off the trouble of the primary as a whole gave them, in the order of their arrival. However many there are, memory has those of
        one page (``tests/delivery/test_slices.py``)."""
        ground, states = self._ground, (RowState.QUEUED,)
        async for page in pages(ground.clock, ground.queue, (RowKind.DELIVER,), states, domain=domain):
            for _, row in page:
                if self._is_stalled(row, domain, now):
                    yield row

    def _is_stalled(self, row: Row, domain: str, now: float) -> bool:
        if row.last is None or row.due <= now or self._ground.domain(row) != domain:
            return False
        return outage.read(row.last).breadth.wide
