"""What was left in the portal goes home, a domain at a time (C5, rules 3, 10).

A domain on its way back is drained in passes: all its copies, newest first, uncertain ones last, one at first and then more side by side, as fast
as its primary's answers stay quick (``throttle.py``). Copies of single failures in normal mode come through the scheduler's lane with the queue's back-off, or in a pass as soon as the
primary as a whole is seen up again after trouble. A pass that fails by a fault of ours is repeated like one that the primary ended.
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from collections.abc import AsyncIterator, Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from hornetmail.core.delivery.pace import Answer, Limits
from hornetmail.core.delivery.queued import Claim, Portal, Row, RowKind, RowState
from hornetmail.core.delivery.turn import is_uncertain, waits_for_whole_primary
from hornetmail.core.failover import outage
from hornetmail.core.failover.machine import Drained
from hornetmail.core.failover.mode import Mode
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.home.handover import HandOver, Result
from hornetmail.delivery.home.throttle import Throttle, Throttles
from hornetmail.delivery.pages import pages
from hornetmail.delivery.tasks import Tasks, within
from hornetmail.interfaces.portal import IPortal

OWNER = "drain"

WAITING = (RowState.PARKED, RowState.QUEUED)


HANGS_SECONDS = 300.0
"""A step of ours that is not answered for that long has failed: the pass is repeated. A hand-over has limits of its own."""


BEHIND = 100
"""Hand-overs of a pass that are over but for their copies' removal: a disk that is slower than the primary holds the pass up then."""


class DrainLimits(msgspec.Struct, frozen=True, gc=False):
    """``pace``: see there, of a primary; ``troubled`` times in a row at which the primary was in trouble end a pass (what was under way side by side
    is one time); passes that end early are repeated after ``again`` s, doubled up to ``slowest``; a copy at which the primary was in trouble
    ``suspect`` times has that trouble to itself and follows its own back-off; a copy undrained for ``undrained`` s is told; one whose domain has had no primary for ``orphaned`` s stays for good."""

    pace: Limits = Limits()
    troubled: int = 3
    suspect: int = 5
    again: float = 5.0
    slowest: float = 120.0
    undrained: float = 4 * 3600.0
    orphaned: float = 3600.0


TRIALS = 5
"""Copies that a primary in an emergency is offered one after the other, until one is taken or deferred: what became of the others tells nothing."""

ANSWERS = {
    Result.HOME: Answer.TAKEN,
    Result.STUCK: Answer.TAKEN,
    Result.DEFERRED: Answer.DEFERRED,
    Result.UNAVAILABLE: Answer.TROUBLE,
}
"""What a hand-over tells of the primary's pace; of others it tells nothing."""


Place = tuple[bool, int]
"""See ``place_of``."""


class _Pass(msgspec.Struct):
    """How many ``moved`` out of the way so far; how often in a row the primary was in trouble (``troubled``)."""

    moved: int = 0
    troubled: int = 0


class Drain:
    """See the module."""

    log = Logger()

    def __init__(
        self, ground: Ground, retry: Retry, portal: IPortal, hand_over: HandOver, underway: Underway, limits: DrainLimits
    ) -> None:
        self._ground = ground
        self._clock = ground.clock
        self._queue = ground.queue
        self._retry = retry
        self._portal = portal
        self._hand_over = hand_over
        self._underway = underway
        self.limits = limits
        self._tasks = Tasks(ground.clock)
        self._throttles = Throttles(ground.clock, limits.pace)
        self._passes: set[str] = set()
        self._wanted: set[str] = set()
        self._resting: dict[str, Deferred[None]] = {}
        self._running = False

    # -- life

    def start(self) -> None:
        """Passes may run from now on."""
        self._running = True

    async def stop(self, grace: float) -> None:
        """Begin nothing new, wait for hand-overs."""
        self._running = False
        await self._tasks.stop(grace)

    def kick(self, domain: str) -> None:
        """Drain a domain, now if no pass is under way, else once more after it."""
        if domain in self._passes:
            self._wanted.add(domain)
        elif self._running:
            self._passes.add(domain)
            self._tasks.start(self._domain(domain), f"drain of {domain}")

    def turned_up(self, domain: str) -> None:
        """Its primary is there again after it was away: a pass that rests after trouble goes on now."""
        self.kick(domain)
        resting = self._resting.pop(domain, None)
        if resting is not None:
            resting.callback(None)

    # -- passes

    async def _domain(self, domain: str) -> None:
        wait = self.limits.again
        try:
            while self._running and not self._ground.in_emergency(domain):
                self._wanted.discard(domain)
                try:
                    left, moved = await self._pass(domain)
                    if not left:
                        self._ground.modes.observe(domain, Drained())
                except CancelledError:
                    raise
                except Exception:  # noqa: BLE001 - a fault of ours: mail must not be left behind by it
                    self.log.failure("a pass of the drain of {domain} failed, it is repeated", domain=domain)
                    left, moved = 1, 0
                if not left:
                    if domain not in self._wanted:
                        return
                    continue
                wait = self.limits.again if moved else min(wait * 2, self.limits.slowest)
                if await self._rest(domain, wait):
                    wait = self.limits.again
        finally:
            self._passes.discard(domain)
            if domain in self._wanted and self._running:
                self._wanted.discard(domain)
                self.kick(domain)

    async def _rest(self, domain: str, seconds: float) -> bool:
        """Between two passes. True: the primary turned up meanwhile."""
        waited: Deferred[None] = Deferred()
        call = self._clock.callLater(seconds, waited.callback, None)
        self._resting[domain] = waited
        try:
            await waited
        finally:
            self._resting.pop(domain, None)
            cut = call.active()
            if cut:
                call.cancel()
        return cut

    async def order(self, domain: str) -> Order:
        """What a pass has to do, in the order in which it is done: newest first, behind them what the primary was in trouble with, uncertain ones last. Read
        and put in order in slices: nobody waits for a hundred thousand (rule 8d), and no more of each is kept than a number (``tests/delivery/test_drain_order.py``)."""
        order = Order()
        async for page in self._pages(domain):
            for row in self._due(domain, page):
                order.add(row)
        return order

    async def _pages(self, domain: str) -> AsyncIterator[list[Row]]:
        """The copies of a domain that have to get home, oldest row first."""
        async for page in pages(self._clock, self._queue, (RowKind.DRAIN,), WAITING, domain=domain):
            yield [row for _, row in page if self._ground.domain(row) == domain]

    async def anything(self, domain: str) -> bool:
        """Whether a pass would have something to do; looks no further than the page on which it finds that."""
        async for page in self._pages(domain):
            if self._due(domain, page):
                return True
        return False

    async def _next(self, domain: str, order: Order) -> list[Row]:
        """The next message's copies as they are now, if they still have to get home."""
        place, message = order.pop()
        found = await self._queue.rows(message=message, kinds=(RowKind.DRAIN,), states=WAITING, envelopes=False)
        mine = [row for _, row in found if self._ground.domain(row) == domain and place_of(row) == place]
        return list(reversed(self._due(domain, mine)))

    def _due(self, domain: str, rows: Sequence[Row]) -> list[Row]:
        """All of a domain that comes back from an emergency. In normal mode what is parked, and what waits only because the primary as a whole
        was in trouble; the rest has a back-off, or a turn, of its own."""
        if self._ground.modes.mode(domain) is Mode.DRAINING:
            return list(rows)
        now = self._clock.seconds()
        return [row for row in rows if row.state is RowState.PARKED or waits_for_whole_primary(row, now)]

    async def _pass(self, domain: str) -> tuple[int, int]:
        """One go over everything; how many are left (whose hand-over is under way elsewhere too, before an emergency is over), and how many moved."""
        order = await within(self._clock, HANGS_SECONDS, self.order(domain))
        if order:
            self.log.info("{domain}: {count} messages in the portal go home", domain=domain, count=len(order))
        throttle = self._throttle(domain)
        so_far = _Pass()
        under_way: list[Deferred[None]] = []
        todo: deque[Row] = deque()
        while (todo or order) and self._goes_on(domain, so_far):
            if not todo:
                todo.extend(await within(self._clock, HANGS_SECONDS, self._next(domain, order)))
                continue
            await throttle.begin()
            if not self._goes_on(domain, so_far):
                throttle.end(0.0, None)
                break
            row = todo.popleft()
            under_way = [each for each in under_way if not each.called]
            if len(under_way) >= BEHIND:
                await under_way[0]
            under_way.append(self._tasks.start(self._one(row, throttle, so_far), f"drain of row {row.id}"))
        for each in under_way:
            await each
        states = (RowState.PARKED, RowState.CLAIMED) if self._ground.modes.mode(domain) is Mode.DRAINING else (RowState.PARKED,)
        asked = self._queue.rows(domain=domain, kinds=(RowKind.DRAIN,), states=states, limit=1, envelopes=False)
        left = await within(self._clock, HANGS_SECONDS, asked)
        return len(left), so_far.moved

    def _goes_on(self, domain: str, so_far: _Pass) -> bool:
        return self._running and so_far.troubled < self.limits.troubled and not self._ground.in_emergency(domain)

    def _throttle(self, domain: str) -> Throttle:
        served = self._ground.directory.domain(domain)
        return self._throttles.of(served.primaries if served is not None else ())

    async def _one(self, row: Row, throttle: Throttle, so_far: _Pass) -> None:
        began, troubled = self._clock.seconds(), so_far.troubled
        result = Result.LATER
        try:
            result = await self._by_id(row)
        finally:
            if result in (Result.HOME, Result.GONE, Result.STUCK):
                so_far.moved += 1
            if result is Result.HOME:
                so_far.troubled = 0
            elif result is Result.UNAVAILABLE and so_far.troubled <= troubled:
                # Not every message that a server stumbles over means that it is down: the next ones are tried.
                so_far.troubled += 1
            throttle.end(self._clock.seconds() - began, ANSWERS.get(result))
        await self._hand_over.tidied(row)

    async def trial(self, domain: str) -> bool | None:
        """In an emergency: whether the primary takes one of a domain's copies; None if there is none of which it could be said. Those that it
        was offered before come last, so that one message which it cannot digest proves nothing."""
        rows: list[Row] = []
        async for page in self._pages(domain):
            rows = heapq.nsmallest(TRIALS, (*rows, *page), key=lambda row: (row.attempts, place_of(row), -row.message, -row.id))
        for row in rows:
            result = await self._by_id(row, trial=True)
            await self._hand_over.tidied(row)
            if result is Result.HOME:
                return True
            if result in (Result.DEFERRED, Result.UNAVAILABLE):
                return False
        return None

    async def _by_id(self, row: Row, *, trial: bool = False) -> Result:
        """One of a pass. A fault of ours with one copy keeps no others: it is left to the next pass, or to whoever finds its claim."""
        assert row.portal is not None
        try:
            for claim in await within(self._clock, HANGS_SECONDS, self._claim(row, row.portal)):
                for each in claim.rows:
                    return await self._underway.work(
                        [each.id], self._hand_over.hand(claim.message, each, sweeping=True, trial=trial)
                    )
        except CancelledError:
            if not self._running:
                raise
            # Only this hand-over was cut off, because it would never have ended.
        except Exception:  # noqa: BLE001 - see above
            self.log.failure("drain of row {row} failed", row=row.id)
        return Result.LATER

    async def _claim(self, row: Row, copy: Portal) -> Sequence[Claim]:
        if not await self._read_by_pop(copy.mailbox):
            return await self._queue.claim_rows([row.id], self._clock.seconds(), self._retry.next_due)
        if row.state is RowState.QUEUED:
            # Later (rule 10), and not before: parked, it is the next pass's.
            await self._queue.change([row.id], RowState.PARKED)
        return ()

    # -- single copies

    async def run(self, claim: Claim) -> None:
        """Copies whose back-off is over, from the scheduler's lane."""
        for row in claim.rows:
            assert row.portal is not None
            try:
                if await self._read_by_pop(row.portal.mailbox):
                    await self._hand_over.later(row)
                else:
                    await self._hand_over.hand(claim.message, row, sweeping=False)
                    await self._hand_over.tidied(row)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - the others do not wait for it; whoever finds its claim takes it back
                self.log.failure("drain of row {row} failed", row=row.id)

    async def _read_by_pop(self, mailbox: int) -> bool:
        """Whether a POP session has the mailbox: tried and given back at once. The portal makes sure of it again when it is claimed."""
        if not await self._portal.lock(mailbox, OWNER):
            return True
        await self._portal.unlock(mailbox, OWNER)
        return False


def place_of(row: Row) -> Place:
    """Where it comes: uncertain ones last, and by how often the primary as a whole was in trouble when it was offered this copy: it goes
    behind those that it may still take, for one message that a server cannot digest must not keep all others away from it."""
    wide = row.last is not None and outage.read(row.last).breadth.wide
    return is_uncertain(row), row.attempts if wide else 0


class Order:
    """The messages of a pass, 8 bytes each, which are taken one after the other."""

    def __init__(self) -> None:
        self._places: dict[Place, array[int]] = {}
        self._current: tuple[Place, array[int]] | None = None

    def add(self, row: Row) -> None:
        """Its message comes at its place; all come before the first is taken."""
        messages = self._places.setdefault(place_of(row), array("q"))
        if not messages or messages[-1] != row.message:
            messages.append(row.message)

    def __len__(self) -> int:
        return sum(map(len, self._places.values())) + (len(self._current[1]) if self._current is not None else 0)

    def pop(self) -> tuple[Place, int]:
        """The next one, and at which place it was put."""
        if self._current is None or not self._current[1]:
            place = min(self._places)
            self._current = place, array("q", sorted(self._places.pop(place)))
        place, messages = self._current
        message = messages.pop()
        while messages and messages[-1] == message:
            messages.pop()  # a later recipient of it, whose copy came to be after those of other messages
        return place, message
