"""The delivery room as a whole: builds its parts, joins them, starts and stops them."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from hornetmail.core import machine
from hornetmail.core.address import domain_of
from hornetmail.core.backoff import Backoff
from hornetmail.core.events import DirectoryChanged
from hornetmail.core.queued import RowKind
from hornetmail.core.route import MX, PORTAL, PRIMARY
from hornetmail.core.served import Host, Role
from hornetmail.delivery.attempt.agent import Agent
from hornetmail.delivery.attempt.evidence import Evidence
from hornetmail.delivery.attempt.scheduler import Lane, Share
from hornetmail.delivery.connections.pool import Connect, Limits, Pool
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.couriers.archive import ArchiveCourier
from hornetmail.delivery.couriers.mx import MailHosts, MXCourier
from hornetmail.delivery.couriers.portal import PortalCourier
from hornetmail.delivery.couriers.primary import PrimaryCourier
from hornetmail.delivery.home.drain import Drain, DrainLimits
from hornetmail.delivery.home.recovery import Recovery
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.home.strays import Strays
from hornetmail.delivery.home.uncertain import UncertainTurns
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.letters.redelivery import Redelivery
from hornetmail.delivery.outage.health import Health, Pace, Watch
from hornetmail.delivery.outage.modes import Consequences, Modes
from hornetmail.delivery.outage.waiting import Waiting
from hornetmail.delivery.recipients.accepted import AcceptedRecipients, RecipientLimits
from hornetmail.delivery.recipients.callforward import CallForward, Patience
from hornetmail.delivery.recipients.store import RecipientStore
from hornetmail.delivery.tasks import Tasks, together
from hornetmail.interfaces import IAccess, IArchive, IBus, ICourier, IDirectory, IMeters, IPortal, IQueue, ISenderCheck
from hornetmail.net.smtp import SMTPClient, Timeouts


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
        evidence = Evidence(directory, self.accepted, modes, self.recipients.accepts_everything)
        primary = PrimaryCourier(self._primaries, directory)
        self._outside = MXCourier(self._exchangers, directory, resolver, hostname)
        couriers: dict[str, ICourier] = {
            PRIMARY: primary,
            PORTAL: PortalCourier(portal, directory),
            MX: self._outside,
        }
        self._uncertain = UncertainTurns(clock, queue, directory, self.modes, chosen.backoff)
        self.agent = Agent(
            clock,
            queue,
            directory,
            self.modes,
            evidence,
            couriers,
            ArchiveCourier(archive, queue, directory),
            notices,
            bus,
            meters,
            chosen.backoff,
            jitter,
            self._expect,
            self._drain_domain,
            self._uncertain.expect,
            unrecorded,
        )
        self._returned = Returned(clock, queue, portal, directory, self.modes, bus)
        self.drain = Drain(
            clock,
            queue,
            portal,
            directory,
            self.modes,
            evidence,
            primary,
            notices,
            self._returned,
            bus,
            chosen.backoff,
            jitter,
            self._expect,
            unrecorded,
            chosen.drain,
        )
        self._waiting = Waiting(clock, queue, directory, notices, chosen.drain.undrained)
        self._recovery = Recovery(
            clock, queue, portal, directory, self.modes, self._returned, chosen.backoff, jitter, self._expect
        )
        self.strays = Strays(clock, queue, portal, directory, self.modes, self._returned)
        self.redelivery = Redelivery(clock, queue, archive, directory, access, unique)
        agent = self.agent
        self._lanes = (
            Lane(
                clock,
                queue,
                (RowKind.DELIVER,),
                chosen.deliveries,
                agent.run,
                agent.next_due,
                share=Share(chosen.share, chosen.deliveries, self._destination),
            ),
            Lane(clock, queue, (RowKind.ARCHIVE,), chosen.archivings, agent.archive, agent.next_due),
            Lane(clock, queue, (RowKind.DRAIN,), chosen.drains, self.drain.run, self.drain.next_due),
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
        self._running = True
        self.drain.start()
        self._returned.start()
        await self._uncertain.start()
        self.health.start()
        self.modes.resume()
        self._unsubscribe = self._bus.subscribe(DirectoryChanged, self._directory_changed)
        self._queue.wake(self._wake)
        for lane in self._lanes:
            lane.start()
        self._sweeping = self._clock.callLater(0.0, self._sweep)

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
        await self.drain.stop(max(0.0, grace - (self._clock.seconds() - began)))
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

    def _expect(self, due: float) -> None:
        for lane in self._lanes:
            lane.expect(due)

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
        for sweep in (self.modes.sweep, self._returned.sweep, self.drain.sweep, self._waiting.sweep):
            try:
                await sweep()
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - one that fails keeps the others from nothing
                self.log.failure("a part of the sweep failed, it is repeated with the next one")
        self._tasks.start(self.recipients.test(self._directory.domains()), "the question for impossible addresses")
