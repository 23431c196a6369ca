"""The delivery room, joined: each part gets what it needs, and those that cannot know each other are told of one another here."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from hornetmail.core.delivery.queued import RowKind
from hornetmail.core.delivery.route import MX, PORTAL, PRIMARY
from hornetmail.core.failover import machine
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
from hornetmail.delivery.filing.connections import Connect as ConnectIMAP
from hornetmail.delivery.filing.filing import Filing, Surroundings
from hornetmail.delivery.filing.ledger import Ledger
from hornetmail.delivery.filing.ways import Ways
from hornetmail.delivery.home.bystate import ByState
from hornetmail.delivery.home.copies import Copies
from hornetmail.delivery.home.drain import Drain
from hornetmail.delivery.home.handover import HandOver
from hornetmail.delivery.home.homeward import Homeward
from hornetmail.delivery.home.recovery import Recovery
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.home.strays import Strays
from hornetmail.delivery.home.uncertain import UncertainTurns
from hornetmail.delivery.home.undrained import Undrained
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.letters.redelivery import Redelivery
from hornetmail.delivery.outage.health import Health, Watch
from hornetmail.delivery.outage.modes import Consequences, Modes
from hornetmail.delivery.outage.waiting import Waiting
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.recipients.callforward import Asking, CallForward, Hearers
from hornetmail.delivery.recipients.store import RecipientStore
from hornetmail.delivery.service import Attempts, Delivery, Home, Letters, Outage, Recipients, Settings
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.archive import IArchive
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.courier import ICourier
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.meters import IMeters
from hornetmail.interfaces.portal import IPortal
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.senders import ISenderCheck
from hornetmail.net.clients.imap import IMAPClient
from hornetmail.net.clients.smtp import SMTPClient


class House(msgspec.Struct, frozen=True):
    """What everybody in it shares. ``clock`` is the reactor, or a test's clock."""

    clock: IReactorTime
    directory: IDirectory
    access: IAccess
    bus: IBus
    meters: IMeters


class Stores(msgspec.Struct, frozen=True):
    """Where mail lies, and what is known of recipients. ``ways`` and ``filed``: who goes home by IMAP, and what did (L13); both or neither."""

    queue: IQueue
    known: RecipientStore
    portal: IPortal
    archive: IArchive
    ways: Ways | None = None
    filed: Ledger | None = None


class Lines(msgspec.Struct, frozen=True):
    """The world outside. ``connect`` is ``SMTPClient.connect``, ``connect_imap`` ``IMAPClient.connect``, or what a test puts in their place."""

    dialer: Any
    resolver: MailHosts
    senders: ISenderCheck
    hostname: str
    connect: Connect = SMTPClient.connect
    connect_imap: ConnectIMAP = IMAPClient.connect


def _token() -> str:
    return secrets.token_hex(12)


class Chance(msgspec.Struct, frozen=True):
    """``jitter`` draws from [0, 1); ``unique`` makes a token that occurs nowhere else."""

    jitter: Callable[[], float] = random.random
    unique: Callable[[], str] = _token


def delivery_of(
    house: House, stores: Stores, lines: Lines, settings: Settings | None = None, chance: Chance | None = None
) -> Delivery:
    """Not started."""
    return _Joining(house, stores, lines, settings or Settings(), chance or Chance()).whole()


class _Joining:
    """The parts in the order in which they need each other. Those that come later are told of by the methods at the end."""

    def __init__(self, house: House, stores: Stores, lines: Lines, settings: Settings, chance: Chance) -> None:
        self._house = house
        self._stores = stores
        self._lines = lines
        self._settings = settings
        self._chance = chance
        clock, directory, bus = house.clock, house.directory, house.bus
        self._unrecorded = Unrecorded(clock)
        self._accepted = AcceptedRecipients(clock, stores.known, directory, settings.recipients)
        consequences = Consequences(self._drain_domain, self._letter, self._trial, self._about_recipients)
        self._modes = modes = Modes(clock, stores.queue, directory, bus, consequences, settings.policy)
        watch = Watch(self._probed, modes.suspicious, modes.strict, self._accepted.examples)
        self._health = modes.health = Health(
            clock,
            directory,
            bus,
            lines.dialer,
            lines.hostname,
            watch,
            connect=lines.connect,
            pace=settings.pace,
            chance=chance.jitter,
        )
        self._ground = Ground(clock, stores.queue, directory, modes, bus, house.meters)
        self._retry = Retry(clock, settings.backoff, chance.jitter)
        self._record = Record(clock, stores.queue, bus, self._unrecorded)
        self._underway = Underway()
        self._primaries = self._pool(settings.connections, told=self._health.saw)
        self._exchangers = self._pool(settings.connections)
        questions = settings.patience.most + settings.patience.late
        self._probes = self._pool(Limits(most=questions, first=questions, idle=10.0, budget=settings.patience.quick, rest=0.5))
        self._primary = PrimaryCourier(self._primaries, directory)
        self._outside = MXCourier(self._exchangers, directory, lines.resolver, lines.hostname)
        self._returned = Returned(clock, stores.queue, stores.portal, directory, modes, bus)
        self._uncertain = UncertainTurns(clock, stores.queue, directory, modes, settings.backoff)

    def _pool(self, limits: Limits, **more: Any) -> Pool:
        lines = self._lines
        return Pool(
            self._house.clock,
            lines.dialer,
            lines.hostname,
            connect=lines.connect,
            timeouts=self._settings.timeouts,
            limits=limits,
            unrecorded=self._unrecorded,
            **more,
        )

    def whole(self) -> Delivery:
        """All of it."""
        settings, modes = self._settings, self._modes
        clock, queue, directory = self._house.clock, self._stores.queue, self._house.directory
        self._letters = letters = self._written()
        self._callforward = CallForward(
            clock,
            queue,
            directory,
            modes,
            self._accepted,
            Asking(self._probes, self._chance.unique, settings.patience),
            Hearers(self._house.bus, modes.unverified, modes.refused),
        )
        evidence = Evidence(clock, directory, self._accepted, modes, self._callforward.accepts_everything)
        home = self._home(evidence)
        self._drain = home.drain
        return Delivery(
            self._ground,
            settings,
            Recipients(self._accepted, self._callforward),
            Outage(self._health, Waiting(clock, queue, directory, letters.notices, settings.drain.undrained)),
            self._attempts(evidence, home.drain),
            home,
            letters,
        )

    def _written(self) -> Letters:
        clock, directory, access = self._house.clock, self._house.directory, self._house.access
        queue, lines, unique = self._stores.queue, self._lines, self._chance.unique
        backoff = self._settings.backoff
        notices = Notices(clock, queue, directory, self._house.bus, lines.senders, lines.hostname, unique, backoff)
        return Letters(notices, Redelivery(clock, queue, self._stores.archive, directory, access, unique))

    def _home(self, evidence: Evidence) -> Home:
        ground, record, retry, portal = self._ground, self._record, self._retry, self._stores.portal
        settings, returned = self._settings, self._returned
        copies = Copies(ground, record, portal)
        filing = self._filing()
        way = ByState(self._primary, filing)
        hand_over = HandOver(ground, record, retry, portal, way, evidence, copies, returned, settings.drain.suspect)
        drain = Drain(ground, retry, portal, hand_over, self._underway, settings.drain)
        longest, orphaned = settings.longest_attempt(), settings.orphaned_claim
        return Home(
            drain,
            Homeward(ground, drain),
            copies,
            returned,
            self._uncertain,
            Undrained(ground, self._letters.notices, drain.kick, settings.drain),
            Recovery(ground, record, retry, portal, returned, self._underway, longest, orphaned),
            Strays(ground.clock, ground.queue, portal, ground.directory, self._modes, returned),
            filing,
        )

    def _filing(self) -> Filing | None:
        house, stores, lines = self._house, self._stores, self._lines
        if stores.ways is None or stores.filed is None:
            return None
        surroundings = Surroundings(house.clock, lines.dialer, house.directory, self._modes, stores.portal, house.bus)
        return Filing(surroundings, stores.ways, stores.filed, lines.connect_imap)

    def _attempts(self, evidence: Evidence, drain: Drain) -> Attempts:
        ground, record, retry, underway, settings = self._ground, self._record, self._retry, self._underway, self._settings
        directory, clock, queue = ground.directory, ground.clock, ground.queue
        couriers: dict[str, ICourier] = {
            PRIMARY: self._primary,
            PORTAL: PortalCourier(self._stores.portal, directory),
            MX: self._outside,
        }
        agent = Agent(ground, record, retry, evidence, couriers, self._letters.notices, underway, self._copied)
        archiving = Archiving(ground, record, retry, ArchiveCourier(ground.clock, self._stores.archive, queue, directory))
        share, again = Share(settings.share, settings.deliveries, self._outside.destination), retry.next_due
        lanes = (
            Lane(clock, queue, (RowKind.DELIVER,), settings.deliveries, agent.run, again, underway, share),
            Lane(clock, queue, (RowKind.ARCHIVE,), settings.archivings, archiving.run, again, underway),
            Lane(clock, queue, (RowKind.DRAIN,), settings.drains, drain.run, again, underway),
        )
        return Attempts(agent, record, lanes, (self._primaries, self._exchangers, self._probes))

    # -- who is told of what, whoever came first

    def _drain_domain(self, domain: str) -> None:
        self._drain.kick(domain)

    async def _trial(self, domain: str) -> bool | None:
        return await self._drain.trial(domain)

    async def _letter(self, domain: str, text: str) -> None:
        await self._letters.notices.tell_of_deferring(domain, text)

    async def _about_recipients(self, domain: str) -> dict[str, Any]:
        return await self._callforward.about(domain)

    def _copied(self, domain: str, uncertain: bool) -> None:
        """A portal copy was made outside an emergency."""
        if uncertain:
            self._uncertain.expect(domain)
        else:
            self._drain.kick(domain)

    def _probed(self, domain: str, event: machine.Event) -> None:
        if isinstance(event, machine.ProbeAnswered):
            served = self._house.directory.domain(domain)
            for host in served.primaries if served is not None else ():
                self._primaries.rested(host)
        self._modes.observe(domain, event)


__all__ = ["Chance", "House", "Lines", "Stores", "delivery_of"]
