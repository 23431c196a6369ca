"""What an SMTP session asks, from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from hornetmail.access.login import AccessRefused
from hornetmail.access.scram import derive
from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.core.mail.envelope import Direction, Envelope, Origin
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Mailbox, OverQuota, Person
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.body import IDeposit
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.meters import IMeters
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.recipients import IRecipients
from hornetmail.net.serving.pump import Pump
from hornetmail.servers.guessing import Guesses
from hornetmail.servers.relay import RelayNetworks
from hornetmail.servers.smtp import Services, SMTPSession
from hornetmail.servers.smtp_policy import SMTPPolicy
from hornetmail.testing.destinations import MemoryPortal
from hornetmail.wire.sasl import ScramKeys
from hornetmail.wire.smtp.server import ServerEngine


@implementer(IDeposit)
class FakeDeposit:
    def __init__(self, queue: FakeQueue, tenant: int) -> None:
        self.queue = queue
        self.tenant = tenant
        self.data = b""
        self.aborted = False

    @property
    def size(self) -> int:
        return len(self.data)

    async def write(self, data: bytes) -> None:
        if self.queue.fail_write is not None:
            raise self.queue.fail_write
        self.data += data

    async def commit(
        self,
        envelope: Envelope,
        origin: Origin,
        direction: Direction,
        trace: bytes,
        *,
        domain: str,
        archive: bool,
        hold: str = "",
        request: str = "",
    ) -> Message:
        if self.queue.gate is not None:
            await self.queue.gate
        if self.queue.fail_commit is not None and self.queue.fail_commit(domain):
            raise OSError("disk on fire")
        message = Message(
            len(self.queue.messages) + 1,
            self.tenant,
            envelope,
            origin,
            direction,
            0.0,
            len(self.data),
            hashlib.sha256(self.data).digest(),
            trace,
            domain,
        )
        self.queue.messages.append(message)
        self.queue.bodies.append(self.data)
        self.queue.extras.append((archive, hold))
        return message

    async def abort(self) -> None:
        self.aborted = True


@implementer(IQueue)
class FakeQueue:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.bodies: list[bytes] = []
        self.extras: list[tuple[bool, str]] = []
        self.deposits: list[FakeDeposit] = []
        self.removed: list[int] = []
        self.fail_write: Exception | None = None
        self.fail_commit: Callable[[str], bool] | None = None
        self.gate: Deferred[None] | None = None

    def begin(self, tenant: int) -> FakeDeposit:
        self.deposits.append(FakeDeposit(self, tenant))
        return self.deposits[-1]

    async def rows(self, *, message: int = 0, **_: Any) -> Any:
        found = [m for m in self.messages if m.id == message]
        return [
            (m, Row(m.id * 100 + n, m.id, RowKind.DELIVER, RowState.QUEUED))
            for m in found
            for n, _ in enumerate(m.envelope.recipients)
        ]

    async def change(self, rows: Any, state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        assert state is RowState.REMOVED
        self.removed += list(rows)
        return len(self.removed)


@implementer(IDirectory)
class FakeDirectory:
    version = 1

    def __init__(self, domains: list[Domain]) -> None:
        self._domains = {d.name: d for d in domains}

    def domain(self, name: str) -> Domain | None:
        return self._domains.get(name)

    def domains(self) -> list[Domain]:
        return list(self._domains.values())

    def mailbox(self, address: str) -> Mailbox | None:
        local, _, domain = address.partition("@")
        return Mailbox(1, address, domain) if local == "small" else None


@implementer(IAccess)
class FakeAccess:
    """``asked``: user, door and peer of each log-in."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def login(self, user: str, password: str, door: str, peer: str) -> Person:
        self.asked.append((user, door, peer))
        if password == "broken":
            raise RuntimeError("the directory is down")
        if password == "often":
            raise AccessRefused("throttled", "later")
        if password != "secret":
            raise AccessRefused("credentials", "wrong")
        return Person(1, user, 1, addresses=(user.lower(), "alias@example.test"))

    def offers_scram(self) -> bool:
        return True

    def scram_keys(self, user: str) -> ScramKeys:
        return derive("secret", b"0123456789abcdef", 4096)

    async def proved(self, user: str, keys: ScramKeys, right: bool, door: str, peer: str) -> Person:
        return await self.login(user, "secret" if right else "", door, peer)


@implementer(IRecipients)
class FakeRecipients:
    def __init__(self) -> None:
        self.gate: Deferred[None] | None = None

    async def verify(self, address: str, sender: str = "") -> Reply:
        if self.gate is not None:
            await self.gate
        local = address.partition("@")[0]
        if local == "nobody":
            return Reply(550, "5.1.1", "no such user")
        if local == "later":
            return Reply(451, "4.4.1", "cannot tell")
        if local == "crash":
            raise RuntimeError("crash")
        return Reply(250, "2.1.5", "known")


@implementer(IBus)
class FakeBus:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, event: Any) -> None:
        self.events.append(event)

    def subscribe(self, kind: type, listener: Any) -> Any:
        return lambda: None


@implementer(IMeters)
class FakeMeters:
    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        pass

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        pass


DOMAINS = [
    Domain("example.test", relay_from=("192.0.2.0/24", "127.0.0.1")),
    Domain("sister.test", archive=False),
    Domain("other.test", tenant=2),
    Domain("closed.test", active=False),
    Domain("strict.test", over_quota=OverQuota.REFUSE),
]


class World:
    """Everything around a session."""

    def __init__(self, clock: Any, policy: SMTPPolicy) -> None:
        self.queue = FakeQueue()
        self.bus = FakeBus()
        self.recipients = FakeRecipients()
        self.portal = MemoryPortal()
        self.access = FakeAccess()
        self.clock = clock
        self.policy = policy
        directory = FakeDirectory(DOMAINS)
        self.services = Services(
            self.queue,  # type: ignore[arg-type]
            directory,  # type: ignore[arg-type]
            self.access,  # type: ignore[arg-type]
            self.recipients,
            self.portal,
            RelayNetworks(directory),  # type: ignore[arg-type]
            Guesses(clock),
            self.bus,
            FakeMeters(),
            clock,
        )

    def engine(self, peer: str = "") -> ServerEngine:
        return ServerEngine(self.policy.engine(starttls=False))

    def session(self, peer: str = "") -> SMTPSession:
        return SMTPSession(self.policy, self.services)

    def pump(self) -> Pump:
        return Pump(self.engine(), self.session, self.clock)
