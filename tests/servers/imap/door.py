"""An IMAP door over a mailbox in memory, on an in-memory transport or a real loopback port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.threadpool import ThreadPool

from hornetmail.core.served import Person
from hornetmail.interfaces.folders import IFolderTree
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.serving.pump import Pump
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.imap.site import ImapPolicy, ImapSite
from hornetmail.testing.folders import MemoryAccess, MemoryBus, MemoryTree
from hornetmail.wire.imap.server.server import ImapServerEngine

PLAIN = ImapPolicy(plaintext_login=True, starttls=False)

SIMPLE = (
    b"From: Bob <bob@example.test>\r\nTo: alice@example.test\r\nSubject: First words\r\nDate: Mon, 3 Nov 2025 10:00:00 +0100\r\n"
    b"Message-ID: <1@example.test>\r\n\r\nHello Alice\r\n"
)


class Door:
    """A site, one user ``alice@example.test`` (password ``secret``) and her tree."""

    def __init__(self, reactor: Any = None, policy: ImapPolicy = PLAIN, more: Sequence[tuple[str, IFolderTree]] = ()) -> None:
        self.bus = MemoryBus()
        self.tree = MemoryTree(1, self.bus)
        self.inbox = self.tree.found("INBOX")
        self.access = MemoryAccess({"alice@example.test": "secret"})
        self.clock = Clock() if reactor is None else reactor
        self.threads = ThreadPool(1, 2, "searches")
        self.more = more
        self.site = ImapSite(self.clock, self.threads, self.access, self.trees, self.bus, policy)

    def trees(self, person: Person) -> Sequence[tuple[str, IFolderTree]]:
        return [("", self.tree), *self.more]

    def connect(self) -> Talk:
        """A conversation without sockets."""
        return Talk(self)

    def factory(self, tls: Any = None, *, implicit: bool = False) -> PumpFactory:
        """For a listening port."""
        return PumpFactory(
            lambda peer: ImapServerEngine(tls=implicit),
            lambda peer: ImapSession(self.site),
            self.clock,
            tls_context_factory=tls,
            implicit_tls=implicit,
        )


class Talk:
    """A client that says what it likes."""

    def __init__(self, door: Door, *, login: bool = False) -> None:
        self.door = door
        self.session = ImapSession(door.site)
        self.pump = Pump(ImapServerEngine(), lambda: self.session, door.clock)
        self.transport = StringTransport()
        self.transport.setTcpNoDelay = lambda enabled: None  # type: ignore[attr-defined]
        self.pump.makeConnection(self.transport)
        self.greeting = self.heard()

    def heard(self) -> bytes:
        """What came since the last time."""
        data = self.transport.value()
        self.transport.clear()
        return data

    def say(self, *lines: bytes) -> bytes:
        """Say lines and hear what comes back at once."""
        self.pump.dataReceived(b"".join(line + b"\r\n" for line in lines))
        return self.heard()

    def login(self) -> Talk:
        """Log in as Alice."""
        assert b"l OK" in self.say(b"l LOGIN alice@example.test secret")
        return self
