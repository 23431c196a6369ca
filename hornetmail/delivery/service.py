"""The delivery room as a whole: builds its parts, joins them, starts and stops them."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import RowKind
from hornetmail.core.delivery.route import MX, PORTAL, PRIMARY
from hornetmail.core.events import DirectoryChanged
from hornetmail.core.failover import machine
from hornetmail.core.mail.address import domain_of
from hornetmail.core.served import Host, Role
from hornetmail.delivery.attempt.agent import Agent
from hornetmail.delivery.attempt.archiving import Archiving
from hornetmail.delivery.attempt.evidence import Evidence
from hornetmail.delivery.attempt.ground import Ground, Retry
from hornetmail.delivery.attempt.record import Record
from hornetmail.delivery.attempt.scheduler import Lane, Share
from hornetmail.delivery.attempt.underway import Underway
from hornetmail.delivery.connections.pool import Connect, Limits, Pool
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.archive import ArchiveCourier
from hornetmail.delivery.couriers.mx import MailHosts, MXCourier
from hornetmail.delivery.couriers.portal import PortalCourier
from hornetmail.delivery.couriers.primary import PrimaryCourier
from hornetmail.delivery.home.copies import Copies
from hornetmail.delivery.home.drain import Drain, DrainLimits
from hornetmail.delivery.home.handover import HandOver
from hornetmail.delivery.home.homeward import Homeward
from hornetmail.delivery.home.recovery import ORPHANED_SECONDS, Recovery
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.home.strays import Strays
from hornetmail.delivery.home.uncertain import UncertainTurns
from hornetmail.delivery.home.undrained import Undrained
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.letters.redelivery import Redelivery
from hornetmail.delivery.outage.health import Health, Pace, Watch
from hornetmail.delivery.outage.modes import Consequences, Modes
from hornetmail.delivery.outage.waiting import Waiting
from hornetmail.delivery.recipients.accepted import AcceptedRecipients, RecipientLimits
from hornetmail.delivery.recipients.callforward import CallForward, Patience
from hornetmail.delivery.recipients.store import RecipientStore
from hornetmail.delivery.tasks import Tasks, together, within
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.archive import IArchive
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.courier import ICourier
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.meters import IMeters
from hornetmail.interfaces.portal import IPortal
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.senders import ISenderCheck
from hornetmail.net.smtp import SMTPClient, Timeouts

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


class Delivery:
    """``modes``, ``recipients``, ``redelivery``, ``strays``, ``notices`` and ``health`` are for the other rooms. ``clock`` is the reactor, or a test's clock."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        queue: IQueue,
        known: RecipientStore,
        portal: IPortal,
        archive: IArchive,
        directory: IDirectory,
        access: IAccess,
        dialer: Any,
        resolver: MailHosts,
        senders: ISenderCheck,
        bus: IBus,
        meters: IMeters,
        hostname: str,
        *,
        settings: Settings | None = None,
        connect: Connect = SMTPClient.connect,
        jitter: Callable[[], float] = random.random,
        unique: Callable[[], str] = lambda: secrets.token_hex(12),
    ) -> None:
        self.settings = settings or Settings()
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._bus = bus
        chosen = self.settings
        self.accepted = AcceptedRecipients(clock, known, directory, chosen.recipients)
        consequences = Consequences(self._drain_domain, self._letter, self._about_recipients)
        self.modes = modes = Modes(clock, queue, directory, bus, consequences, chosen.policy)
        watch = Watch(self._probed, modes.suspicious, modes.strict, self.accepted.examples)
        self.health = Health(clock, directory, bus, dialer, hostname, watch, connect=connect, pace=chosen.pace, chance=jitter)
        self.modes.health = self.health

        unrecorded = Unrecorded(clock)

        def pool(limits: Limits, told: Callable[[Host, bool, str], None] | None = None) -> Pool:
            common: dict[str, Any] = {"connect": connect, "timeouts": chosen.timeouts, "limits": limits, "unrecorded": unrecorded}
            return Pool(clock, dialer, hostname, **(common if told is None else {**common, "told": told}))

        self._primaries = pool(chosen.connections, self.health.saw)
        self._exchangers = pool(chosen.connections)
        ground = Ground(clock, queue, directory, modes, bus, meters)
        retry = Retry(clock, chosen.backoff, jitter)
        underway = Underway()
        self.record = record = Record(clock, queue, bus, unrecorded)
        questions = chosen.patience.most + chosen.patience.late
        self._probes = pool(Limits(most=questions, first=questions, idle=10.0, budget=chosen.patience.quick, rest=0.5))
        self.notices = notices = Notices(clock, queue, directory, bus, senders, hostname, unique, chosen.backoff)
        self.recipients = CallForward(
            clock,
            queue,
            directory,
            modes,
            self.accepted,
            self._probes,
            bus,
            unique,
            modes.unverified,
            modes.refused,
            chosen.patience,
        )
        evidence = Evidence(clock, directory, self.accepted, modes, self.recipients.accepts_everything)
        primary = PrimaryCourier(self._primaries, directory)
        self._outside = MXCourier(self._exchangers, directory, resolver, hostname)
        couriers: dict[str, ICourier] = {
            PRIMARY: primary,
            PORTAL: PortalCourier(portal, directory),
            MX: self._outside,
        }
        self._uncertain = UncertainTurns(clock, queue, directory, self.modes, chosen.backoff)
        self.agent = Agent(ground, record, retry, evidence, couriers, notices, underway, self._copied)
        archiving = Archiving(ground, record, retry, ArchiveCourier(archive, queue, directory))
        self._returned = Returned(clock, queue, portal, directory, self.modes, bus)
        self._copies = Copies(ground, record, portal)
        hand_over = HandOver(ground, record, retry, portal, primary, evidence, self._copies, self._returned, chosen.drain.suspect)
        self.drain = Drain(ground, retry, portal, hand_over, underway, chosen.drain)
        self._homeward = Homeward(ground, self.drain)
        self._undrained = Undrained(ground, notices, self.drain.kick, chosen.drain)
        self._waiting = Waiting(clock, queue, directory, notices, chosen.drain.undrained)
        self._recovery = Recovery(
            ground, record, retry, portal, self._returned, underway, chosen.longest_attempt(), chosen.orphaned_claim
        )
        self.strays = Strays(clock, queue, portal, directory, self.modes, self._returned)
        self.redelivery = Redelivery(clock, queue, archive, directory, access, unique)
        share = Share(chosen.share, chosen.deliveries, self._destination)
        again = retry.next_due
        self._lanes = (
            Lane(clock, queue, (RowKind.DELIVER,), chosen.deliveries, self.agent.run, again, underway, share),
            Lane(clock, queue, (RowKind.ARCHIVE,), chosen.archivings, archiving.run, again, underway),
            Lane(clock, queue, (RowKind.DRAIN,), chosen.drains, self.drain.run, again, underway),
        )
        self._sweeping: IDelayedCall | None = None
        self._sweep_anew = False
        self._peopled: frozenset[str] = frozenset()
        self._releasing = False
        self._tasks = Tasks(clock)
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
        await together(each.close() for each in (self._primaries, self._exchangers, self._probes))

    async def give_up(self, rows: Sequence[int], reason: str) -> int:
        """See Agent.give_up."""
        return await self.agent.give_up(rows, reason)

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.wake()

    def _copied(self, domain: str, uncertain: bool) -> None:
        """A portal copy was made outside an emergency."""
        if uncertain:
            self._uncertain.expect(domain)
        else:
            self.drain.kick(domain)

    def _destination(self, domain: str, address: str) -> str:
        """What a delivery shares connections with, one name for all domains whose mail goes to the same hosts: a served domain's primaries,
        a sender's smarthost, else the recipient's mail exchangers as far as they are known."""
        name = domain_of(address)
        served = self._directory.domain(name)
        if served is not None:
            return min(str(host) for host in served.primaries) if served.primaries else served.name
        sender = self._directory.domain(domain) if domain else None
        if sender is not None and sender.smarthost is not None:
            return str(sender.smarthost)
        return self._outside.exchanger(name)

    def _drain_domain(self, domain: str) -> None:
        self.drain.kick(domain)

    async def _about_recipients(self, domain: str) -> dict[str, Any]:
        """For the panel: whether registration is required (rule 4), and whose mail would have to wait in an emergency (L7)."""
        gaps = await self.accepted.gaps(domain)
        return {
            "accepts_everything": self.recipients.accepts_everything(domain),
            "gaps": list(gaps.first),
            "gaps_total": gaps.total,
        }

    async def _letter(self, domain: str, text: str) -> None:
        """Tell a domain's own administrators, or its postmaster, over its primary; at most once an hour."""
        served = self._directory.domain(domain)
        if served is None:
            return
        people = [each.address for each in self._directory.mailboxes(domain) if Role.ADMIN in each.roles and each.enabled][:3]
        lines = [f"About the mail server of {domain}:", "", text, "", "This message takes the same way as the mail of others."]
        about = f"defers:{domain}:{int(self._clock.seconds() // 3600)}"
        for address in people or [f"postmaster@{domain}"]:
            await self.notices.tell(served.tenant, address, f"{domain}: the mail server defers mail", lines, about, domain)

    def _probed(self, domain: str, event: machine.Event) -> None:
        if isinstance(event, machine.ProbeAnswered):
            served = self._directory.domain(domain)
            for host in served.primaries if served is not None else ():
                self._primaries.rested(host)
        self.modes.observe(domain, event)

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
