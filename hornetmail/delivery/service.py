"""The delivery room as a whole: builds its parts, joins them, starts and stops them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.events import DirectoryChanged
from hornetmail.core.failover import machine
from hornetmail.delivery.attempt.agent import Agent
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.attempt.scheduler import Lane
from hornetmail.delivery.connections.pool import Limits, Pool
from hornetmail.delivery.filing.filing import Filing
from hornetmail.delivery.home.copies import Copies
from hornetmail.delivery.home.drain import Drain, DrainLimits
from hornetmail.delivery.home.homeward import Homeward
from hornetmail.delivery.home.recovery import ORPHANED_SECONDS, Recovery
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.home.strays import Strays
from hornetmail.delivery.home.uncertain import UncertainTurns
from hornetmail.delivery.home.undrained import Undrained
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.letters.redelivery import Redelivery
from hornetmail.delivery.outage.health import Health, Pace
from hornetmail.delivery.outage.waiting import Waiting
from hornetmail.delivery.recipients.accepted import AcceptedRecipients, RecipientLimits
from hornetmail.delivery.recipients.callforward import CallForward, Patience
from hornetmail.delivery.tasks import Tasks, together, within
from hornetmail.net.clients.smtp import Timeouts

START_SECONDS = 60.0
SWEEP_SECONDS = 300.0
"""A part of the start, and of the sweep, that takes longer has failed; the others are not to wait for it."""


class Settings(msgspec.Struct, frozen=True, gc=False):
    """Everything that can be set. ``deliveries`` and ``archivings`` count messages side by side, of
    which one destination may have the part ``share`` of what the others leave; ``sweep`` is in seconds."""

    backoff: Backoff = Backoff()
    policy: machine.Policy = machine.Policy()
    pace: Pace = Pace()
    connections: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    drain: DrainLimits = DrainLimits()
    recipients: RecipientLimits = RecipientLimits()
    patience: Patience = Patience()
    deliveries: int = 300
    share: float = 0.2
    archivings: int = 64
    drains: int = 20
    sweep: float = 60.0
    orphaned_claim: float = ORPHANED_SECONDS

    def longest_attempt(self) -> float:
        """Seconds that a delivery attempt can last, but for its text: as many transactions as rule 2 allows one after the other (a
        further one for what was too many, the next host for what one deferred, once more on a fresh connection), each at its slowest."""
        times = self.timeouts
        return 4 * (self.connections.budget + times.connect + 8 * times.reply + 2 * times.data + times.dot)


class Recipients(msgspec.Struct, frozen=True):
    """Who is known, and who asks the primary about the others."""

    accepted: AcceptedRecipients
    callforward: CallForward


class Outage(msgspec.Struct, frozen=True):
    """What watches the primaries, and who tells of what waits for them."""

    health: Health
    waiting: Waiting


class Attempts(msgspec.Struct, frozen=True):
    """What carries out and records attempts: ``lanes`` claim, ``pools`` connect."""

    agent: Agent
    record: Record
    lanes: tuple[Lane, ...]
    pools: tuple[Pool, ...]


class Home(msgspec.Struct, frozen=True):
    """What brings portal copies home, and looks after those that stay."""

    drain: Drain
    homeward: Homeward
    copies: Copies
    returned: Returned
    uncertain: UncertainTurns
    undrained: Undrained
    recovery: Recovery
    strays: Strays
    filing: Filing | None = None


class Letters(msgspec.Struct, frozen=True):
    """All mail that we write, or send again."""

    notices: Notices
    redelivery: Redelivery


class Delivery:
    """``modes``, ``recipients``, ``redelivery``, ``strays``, ``notices`` and ``health`` are for the other rooms. ``compose/rooms/delivery.py`` joins the
    parts; here they live: started, swept and stopped in order."""

    log = Logger()

    def __init__(
        self,
        ground: Ground,
        settings: Settings,
        recipients: Recipients,
        outage: Outage,
        attempts: Attempts,
        home: Home,
        letters: Letters,
    ) -> None:
        self.settings = settings
        self.ground = ground
        self._clock = ground.clock
        self._queue = ground.queue
        self._directory = ground.directory
        self._bus = ground.bus
        self.modes = ground.modes
        self.accepted, self.recipients = recipients.accepted, recipients.callforward
        self.health, self._waiting = outage.health, outage.waiting
        self.agent, self.record = attempts.agent, attempts.record
        self._lanes, self._pools = attempts.lanes, attempts.pools
        self.drain, self._homeward, self._copies, self._returned = home.drain, home.homeward, home.copies, home.returned
        self._uncertain, self._undrained, self._recovery, self.strays = home.uncertain, home.undrained, home.recovery, home.strays
        self.filing = home.filing
        self.notices, self.redelivery = letters.notices, letters.redelivery
        self._sweeping: IDelayedCall | None = None
        self._sweep_anew = False
        self._peopled: frozenset[str] = frozenset()
        self._releasing = False
        self._tasks = Tasks(ground.clock)
        self._unsubscribe: Callable[[], None] | None = None
        self._running = False

    async def start(self) -> None:
        """Settle what a crash left claimed, take up modes and drains, then deliver. Await it before IMAP and POP listen."""
        await self.accepted.start(self._queue)
        self.recipients.load()
        self.modes.load()
        self._returned.load()
        await self._recovery.run()
        await self._take_up(self._copies.sweep())
        self._running = True
        self.drain.start()
        self._returned.start()
        await self._take_up(self._uncertain.start())
        self._homeward.start()
        if self.filing is not None:
            self.filing.start()
        self.health.start()
        self.modes.resume()
        self._unsubscribe = self._bus.subscribe(DirectoryChanged, self._directory_changed)
        self._queue.wake(self._wake)
        for lane in self._lanes:
            lane.start()
        self._sweeping = self._clock.callLater(0.0, self._sweep)

    async def _take_up(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """What the last run left: a fault in it does not keep the service from starting, the sweep comes to it again."""
        try:
            await within(self._clock, START_SECONDS, coroutine)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - see above
            self.log.failure("what the last run left could not be taken up now")

    async def stop(self, grace: float) -> None:
        """Begin nothing new, give what is under way ``grace`` seconds. What is cut off is settled at the next start."""
        self._running = False
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._sweeping is not None and self._sweeping.active():
            self._sweeping.cancel()
        await self.health.stop()
        await self.recipients.stop()
        began = self._clock.seconds()
        for lane in self._lanes:
            await lane.stop(max(0.0, grace - (self._clock.seconds() - began)))
        await self._homeward.stop()
        if self.filing is not None:
            await self.filing.stop(max(0.0, grace - (self._clock.seconds() - began)))
        await self.drain.stop(max(0.0, grace - (self._clock.seconds() - began)))
        # Last what the others left: whatever is known is recorded, if it can be.
        await self.record.stop(max(1.0, grace - (self._clock.seconds() - began)))
        await self._copies.stop(1.0)
        await self.record.stop(1.0)
        await self.agent.stop(1.0)
        await self._uncertain.stop()
        await self._returned.stop(0)
        await self._tasks.stop(0)
        await self.modes.stop()
        await self.accepted.stop()
        await together(each.close() for each in self._pools)

    async def give_up(self, rows: Sequence[int], reason: str) -> int:
        """See Agent.give_up."""
        return await self.agent.give_up(rows, reason)

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.wake()

    def _directory_changed(self, event: DirectoryChanged) -> None:
        """A domain that changed may change everything that waits; other people in one only whether its recipients have a mailbox now."""
        if event.domains:
            self._sweep_soon()
        elif event.people and self._running:
            self._peopled |= event.people
            if not self._releasing:
                self._tasks.start(self._released(), "release of what waits for a mailbox")

    async def _released(self) -> None:
        """One domain after the other, those that come meanwhile too: an import tells of the same one again and again."""
        self._releasing = True
        try:
            while self._peopled:
                name = min(self._peopled)
                self._peopled -= {name}
                await self.modes.release(name)
        finally:
            self._releasing = False

    def _sweep_soon(self) -> None:
        if self._running and self._sweeping is not None and self._sweeping.active():
            self._sweeping.reset(0.0)
        else:
            self._sweep_anew = True

    def _sweep(self) -> None:
        self._sweep_anew = False
        self._tasks.start(self._swept(), "sweep").addCallback(lambda _: self._sweep_again())

    def _sweep_again(self) -> None:
        if self._running:
            self._sweeping = self._clock.callLater(0.0 if self._sweep_anew else self.settings.sweep, self._sweep)

    async def _swept(self) -> None:
        """One after another; one that fails keeps none of the others."""
        parts: tuple[Callable[[], Coroutine[Any, Any, Any]], ...] = (
            self._recovery.sweep,
            self._copies.sweep,
            self.modes.sweep,
            self._returned.sweep,
            self._undrained.sweep,
            self._waiting.sweep,
        )
        for part in parts:
            try:
                await within(self._clock, SWEEP_SECONDS, part())
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - a fault of ours with one of them
                self.log.failure("a part of the sweep failed")
        self._tasks.start(self.recipients.test(self._directory.domains()), "the question for impossible addresses")
