"""Watches for the turn of uncertain copies in normal mode (rule 1, ``core.turn``); a drain after an emergency has an order of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Row, RowKind, RowState
from hornetmail.core.delivery.turn import Turns, is_held_back, is_stalled
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.address import domain_of
from hornetmail.delivery.outage.modes import Modes
from hornetmail.delivery.pages import PAGE, pages
from hornetmail.delivery.tasks import Tasks
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.queue import IQueue

LOOKS = 6
"""So many looks to one step of the back-off, while a domain has copies that wait for their turn."""


WAITING = (RowState.QUEUED, RowState.PARKED, RowState.CLAIMED)


class UncertainTurns:
    """Makes uncertain copies due when their turn comes. Lost in a crash, it starts anew from the queue."""

    def __init__(self, clock: IReactorTime, queue: IQueue, directory: IDirectory, modes: Modes, backoff: Backoff) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._modes = modes
        self._step = backoff.first
        self._looks: dict[str, IDelayedCall] = {}
        self._ahead: dict[str, float] = {}
        """When certain copies were let ahead last, by domain."""
        self._tasks = Tasks(clock)
        self._running = False

    async def start(self) -> None:
        """Take up what the last run left."""
        self._running = True
        domains: set[str] = set()
        async for row in self._copies():
            if is_held_back(row):
                domains.add(self._domain_of(row))
        for domain in domains:
            self.expect(domain)

    async def stop(self) -> None:
        """Look no more."""
        self._running = False
        for call in self._looks.values():
            call.cancel()
        self._looks.clear()
        await self._tasks.stop(1.0)

    def expect(self, domain: str) -> None:
        """A copy of this domain waits for its turn."""
        if self._running and domain not in self._looks:
            self._looks[domain] = self._clock.callLater(self._step / LOOKS, self._due, domain)

    def _due(self, domain: str) -> None:
        del self._looks[domain]
        self._tasks.start(self._look_again(domain), f"turn of uncertain copies of {domain}")

    async def _look_again(self, domain: str) -> None:
        """A look that fails by a fault of ours is repeated like one that found them waiting."""
        try:
            await self._look(domain)
        except Exception:
            self.expect(domain)
            raise

    async def _look(self, domain: str) -> None:
        if self._modes.mode(domain) is Mode.EMERGENCY:
            # The drain that ends it takes them last.
            return
        now = self._clock.seconds()
        turns = Turns(self._modes.answering(domain), self._step, now)
        async for row in self._copies(domain):
            turns.add(row)
        going = turns.ripe()
        ahead = await self._let_ahead(domain, now) if going else 0
        if not ahead:
            for start in range(0, len(going), PAGE):
                await self._queue.change(going[start : start + PAGE], RowState.QUEUED, due=now)
        if ahead or len(going) < turns.held_back:
            self.expect(domain)
        else:
            self._ahead.pop(domain, None)

    async def _let_ahead(self, domain: str, now: float) -> int:
        """Certain copies that the primary's trouble keeps waiting: it answers now, so they are tried before the uncertain ones; how many. Once only:
        one that the primary cannot digest would keep the others for ever. So those that were there the last time do not count."""
        since = self._ahead.get(domain, -inf)
        count = 0
        some: list[int] = []
        async for row in self._copies(domain):
            if row.queued > since and is_stalled(row, now):
                some.append(row.id)
            if len(some) == PAGE:
                count += await self._queue.change(some, RowState.QUEUED, due=now)
                some = []
        if some:
            count += await self._queue.change(some, RowState.QUEUED, due=now)
        if count:
            self._ahead[domain] = now
        return count

    async def _copies(self, domain: str = "") -> AsyncIterator[Row]:
        """A domain's, or all. However many there are, memory has those of one page (``tests/delivery/test_slices.py``)."""
        if self._queue.backlog().drain:
            async for page in pages(self._clock, self._queue, (RowKind.DRAIN,), WAITING, domain=domain):
                for _, row in page:
                    if not domain or self._domain_of(row) == domain:
                        yield row

    def _domain_of(self, row: Row) -> str:
        name = domain_of(row.address)
        served = self._directory.domain(name)
        return served.name if served is not None else name
