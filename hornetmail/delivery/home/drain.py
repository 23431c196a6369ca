"""What was left in the portal goes home, a domain at a time (C5, rules 3, 10).

A domain on its way back is drained in passes: all its copies, newest first, uncertain ones last, one at first and then more side by side,
throttled. Copies of single failures in normal mode come through the scheduler's lane with the queue's back-off, or in a pass as soon as the
primary as a whole is seen up again after trouble. A pass that fails by a fault of ours is repeated like one that the primary ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Claim, Message, Portal, Row, RowKind, RowState
from hornetmail.core.delivery.turn import is_uncertain, waits_for_whole_primary
from hornetmail.core.failover import outage
from hornetmail.core.failover.machine import Drained
from hornetmail.core.failover.mode import Mode
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.home.handover import HandOver, Result
from hornetmail.delivery.tasks import Tasks, pause, together, within
from hornetmail.interfaces.portal import IPortal

OWNER = "drain"

WAITING = (RowState.PARKED, RowState.QUEUED)


HANGS_SECONDS = 300.0
"""A step of ours that is not answered for that long has failed: the pass is repeated. A hand-over has limits of its own."""


class DrainLimits(msgspec.Struct, frozen=True, gc=False):
    """``most`` hand-overs of a domain side by side, ``per_second`` started; ``troubled`` batches in a row at which the primary was in trouble end
    a pass; passes that end early are repeated after ``again`` s, doubled up to ``slowest``; a copy at which the primary was in trouble
    ``suspect`` times has that trouble to itself and follows its own back-off; a copy undrained for ``undrained`` s is told; one whose domain has had no primary for ``orphaned`` s stays for good."""

    most: int = 10
    per_second: float = 50.0
    troubled: int = 3
    suspect: int = 5
    again: float = 5.0
    slowest: float = 120.0
    undrained: float = 4 * 3600.0
    orphaned: float = 3600.0


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

    async def waiting(self, domain: str = "", states: Collection[RowState] = WAITING) -> list[tuple[Message, Row]]:
        """All copies that have to get home (a domain's, if one is given), in the order of draining."""
        found: list[tuple[Message, Row]] = []
        after = 0
        while True:
            page = await self._queue.rows(domain=domain, kinds=(RowKind.DRAIN,), states=states, after=after)
            found.extend(each for each in page if not domain or self._ground.domain(each[1]) == domain)
            if len(page) < 500:
                break
            after = page[-1][1].id
        found.sort(key=lambda each: (is_uncertain(each[1]), _troubles(each[1]), -each[0].arrived, -each[1].id))
        return found

    async def anything(self, domain: str) -> bool:
        """Whether a pass would have something to do."""
        return bool(await self._todo(domain))

    async def _todo(self, domain: str) -> list[Row]:
        """All of a domain that comes back from an emergency. In normal mode what is parked, and what waits only because the primary as a whole
        was in trouble; the rest has a back-off, or a turn, of its own."""
        rows = [row for _, row in await self.waiting(domain)]
        if self._ground.modes.mode(domain) is Mode.DRAINING:
            return rows
        now = self._clock.seconds()
        return [row for row in rows if row.state is RowState.PARKED or waits_for_whole_primary(row, now)]

    async def _pass(self, domain: str) -> tuple[int, int]:
        """One go over everything; how many are left (whose hand-over is under way elsewhere too, before an emergency is over), and how many moved."""
        todo = await within(self._clock, HANGS_SECONDS, self._todo(domain))
        if todo:
            self.log.info("{domain}: {count} messages in the portal go home", domain=domain, count=len(todo))
        width, moved, troubled = 1, 0, 0
        while todo and self._running and not self._ground.in_emergency(domain):
            batch, todo = todo[:width], todo[width:]
            began = self._clock.seconds()
            results = await together(self._by_id(row) for row in batch)
            moved += sum(1 for each in results if each in (Result.HOME, Result.GONE, Result.STUCK))
            if Result.UNAVAILABLE in results:
                # Not every message that a server stumbles over means that it is down: the next ones are tried.
                width, troubled = 1, troubled + 1 if Result.HOME not in results else 1
                if troubled >= self.limits.troubled:
                    break
            else:
                width, troubled = min(width + 1, self.limits.most), 0
            rest = began + len(batch) / self.limits.per_second - self._clock.seconds()
            if todo and rest > 0:
                await pause(self._clock, rest)
        states = (RowState.PARKED, RowState.CLAIMED) if self._ground.modes.mode(domain) is Mode.DRAINING else (RowState.PARKED,)
        asked = self._queue.rows(domain=domain, kinds=(RowKind.DRAIN,), states=states, limit=1, envelopes=False)
        left = await within(self._clock, HANGS_SECONDS, asked)
        return len(left), moved

    async def _by_id(self, row: Row) -> Result:
        """One of a pass. A fault of ours with one copy keeps no others: it is left to the next pass, or to whoever finds its claim."""
        assert row.portal is not None
        try:
            for claim in await within(self._clock, HANGS_SECONDS, self._claim(row, row.portal)):
                for each in claim.rows:
                    return await self._underway.work([each.id], self._hand_over.hand(claim.message, each, sweeping=True))
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


def _troubles(row: Row) -> int:
    """How often the primary as a whole was in trouble when it was offered this copy: it goes behind those that it may still take, for
    one message that a server cannot digest must not keep all others away from it."""
    wide = row.last is not None and outage.read(row.last).breadth.wide
    return row.attempts if wide else 0
