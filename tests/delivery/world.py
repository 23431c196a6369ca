"""A delivery room with everything around it in memory, and primaries over real loopback sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.compose.rooms.delivery import House, Lines, Stores, delivery_of
from hornetmail.core.archive.archived import ArchivedMail, Refused
from hornetmail.core.delivery import pace
from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Message, Row, RowKind
from hornetmail.core.events import Alarm, ModeChanged
from hornetmail.core.failover.machine import Policy
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import Domain, Host, Mailbox, Role, Scope, TLSPolicy
from hornetmail.delivery.connections.pool import Limits
from hornetmail.delivery.home.drain import DrainLimits
from hornetmail.delivery.outage.health import Pace
from hornetmail.delivery.service import Delivery, Settings
from hornetmail.filter.spf import SenderCheck
from hornetmail.net.clients.dial import Dialer
from hornetmail.net.clients.smtp import Timeouts
from hornetmail.runtime.bus import Bus
from hornetmail.testing.destinations import MemoryPortal, StagedArchive
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from hornetmail.testing.memory_recipients import MemoryRecipients
from hornetmail.testing.resolver import FakeResolver
from hornetmail.testing.scripted_primary import ScriptedPrimary

reactor: Any = _reactor

HOSTNAME = "mx.hornet.test"
TRACE = b"Received: from outside.test\r\n\tby mx.hornet.test; today\r\n"
SENDER = "sender@outside.test"
MAIL = b"From: sender@outside.test\r\nSubject: hello\r\n\r\n.dots\r\n..more\r\nlast\r\n"

QUICK = Settings(
    backoff=Backoff(first=0.2, ceiling=0.4),
    policy=Policy(signs=3, window=10, span=0.1, probes=2, stay=0.1, ask_again=0.2, alarm_again=60),
    pace=Pace(calm=0.1, alert=0.05, patience=0.4),
    connections=Limits(idle=0.5, budget=1.0, rest=0.02),
    timeouts=Timeouts(connect=0.3, reply=0.5, data=0.5, dot=0.5),
    drain=DrainLimits(again=0.05, slowest=0.2, pace=pace.Limits(first=1000.0)),
    sweep=0.1,
)
"""Everything in tenths of a second."""

SLOW_MACHINE = Settings(
    backoff=Backoff(first=0.2, ceiling=0.4),
    policy=Policy(signs=1000),
    pace=Pace(calm=60, alert=60, patience=0.4),
    connections=QUICK.connections,
    timeouts=QUICK.timeouts,
    drain=QUICK.drain,
    sweep=0.1,
)
"""The same with a mode machine that never switches."""


class Meters:
    """Counts nothing."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """See IMeters."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """See IMeters."""


class FakeArchive(StagedArchive):
    """Two mails for redelivery on top of staging."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: dict[int, tuple[ArchivedMail, bytes, frozenset[str]]] = {}
        self.scopes: list[Scope] = []

    async def mail(self, scope: Scope, identifier: int) -> ArchivedMail:
        """See IArchive."""
        mail, _, owners = self.mails[identifier]
        if scope.addresses is not None and not scope.addresses & owners:
            raise KeyError(identifier)
        return mail

    async def read(self, scope: Scope, identifier: int) -> bytes:
        """See IArchive."""
        await self.mail(scope, identifier)
        if not scope.content:
            raise Refused("no right to content")
        self.scopes.append(scope)
        return self.mails[identifier][1]


class Access:
    """Rule 14 and 15 in three lines."""

    def offers_scram(self) -> bool:
        """See IAccess: nobody has keys."""
        return False

    def scope(self, person: Any) -> Scope:
        """See IAccess."""
        if person.has(Role.ADMIN):
            return Scope(person.tenant, None, content=False)
        return Scope(person.tenant, frozenset(person.addresses))


class WorldCase(TestCase):
    """Alice (1, with an alias), Bob (2), the administrator (3), and a domain of which nobody but them is registered."""

    timeout = 240
    settings = QUICK

    async def build(self, primaries: int = 1, **domain: Any) -> None:
        self.primaries = [ScriptedPrimary(reactor) for _ in range(primaries)]
        for each in self.primaries:
            await each.listen()
        self.primary = self.primaries[0]
        hosts = tuple(Host("127.0.0.1", each.port) for each in self.primaries)
        served = {"tls": TLSPolicy.NONE, **domain}
        self.directory = MemoryDirectory(
            [Domain("example.test", primaries=hosts, **served)],
            [
                Mailbox(1, "alice@example.test", "example.test", aliases=("al@example.test",)),
                Mailbox(2, "bob@example.test", "example.test"),
                Mailbox(3, "admin@example.test", "example.test", roles=(Role.ADMIN,)),
            ],
        )
        self.queue = MemoryQueue(reactor.seconds)
        self.known = MemoryRecipients()
        self.portal = MemoryPortal()
        self.archive = FakeArchive()
        self.bus = Bus(reactor)
        self.alarms: list[Alarm] = []
        self.changes: list[ModeChanged] = []
        self.bus.subscribe(Alarm, self.alarms.append)
        self.bus.subscribe(ModeChanged, self.changes.append)
        self.resolver = FakeResolver()
        self.made: list[Delivery] = []
        await self.launch()

    async def launch(self) -> None:
        house: Any = House(reactor, self.directory, Access(), self.bus, Meters())  # type: ignore[arg-type]
        stores = Stores(self.queue, self.known, self.portal, self.archive)  # type: ignore[arg-type]
        lines = Lines(Dialer(reactor, self.resolver), self.resolver, SenderCheck(reactor, self.resolver), HOSTNAME)
        self.delivery = delivery_of(house, stores, lines, self.settings)
        self.made.append(self.delivery)
        await self.delivery.start()

    async def tearDown(self) -> None:
        for each in self.made:
            await each.stop(0.2)
        for primary in self.primaries:
            await primary.stop()
        await self.until(lambda: not any(each.open for each in self.primaries), "all connections are closed")
        assert not self.queue.read_whole, "delivery reads a hundred thousand envelopes from disk to look at rows"

    async def until(self, true: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        """Wait for something that other coroutines bring about."""
        give_up = reactor.seconds() + seconds
        while not true():
            if reactor.seconds() > give_up:
                raise AssertionError(f"never: {what}; rows: {list(self.queue.held.values())}")
            waited: Deferred[None] = Deferred()
            reactor.callLater(0.005, waited.callback, None)
            await waited

    async def send(
        self,
        *recipients: str,
        sender: str = SENDER,
        data: bytes = MAIL,
        origin: Origin | None = None,
        archive: bool = True,
        direction: Direction = Direction.IN,
        domain: str = "example.test",
    ) -> Message:
        deposit = self.queue.begin(1)
        await deposit.write(data)
        return await deposit.commit(
            Envelope(sender, tuple(Recipient(each) for each in recipients)),
            origin or Origin(Door.MX, peer="203.0.113.9", aligned=True),
            direction,
            TRACE,
            domain=domain,
            archive=archive,
        )

    async def gone(self, message: Message) -> None:
        await self.until(lambda: message.id in self.queue.left, f"message {message.id} left the queue")

    def mode(self) -> Mode:
        return self.delivery.modes.mode("example.test")

    def drains(self, *states: Any) -> list[Row]:
        return self.queue.all(RowKind.DRAIN, *states)

    def notices(self) -> list[Message]:
        return [each for each in self.queue.messages.values() if each.origin.door is Door.NOTICE]
