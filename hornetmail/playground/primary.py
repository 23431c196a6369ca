"""A small primary in the same process: it takes mail for example.test, some of it badly on purpose, and can be stopped."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort

from hornetmail.core.mail.address import key_of
from hornetmail.core.mail.reply import Reply
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.net.serving.pump import Result, Session, Wire
from hornetmail.wire.engine import Broken, Chunk, End, Event
from hornetmail.wire.smtp.events import Accept, Data, GoAhead, Greeting, Hello, Mail, Noop, Quit, Rcpt, Refuse, Reset, Welcome
from hornetmail.wire.smtp.server import Policy, ServerEngine

KEPT = 200

REFUSALS = {
    "full": Reply(452, "4.2.2", "mailbox full"),
    "gone": Reply(550, "5.1.1", "no such user"),
    "rejected": Reply(554, "5.7.1", "we do not like this"),
}
"""Local parts that fail on purpose at RCPT. ``greylisted`` fails once per sender; ``later`` is refused at the end of data."""


class Taken(msgspec.Struct, frozen=True):
    """A message that the primary took."""

    at: float
    sender: str
    recipients: tuple[str, ...]
    size: int
    subject: str


class SmallPrimary:
    """Listens on a loopback port while it is started."""

    def __init__(self, reactor: Any, port: int, domain: str) -> None:
        self.port = port
        self.domain = domain
        self.taken: deque[Taken] = deque(maxlen=KEPT)
        self.greeted: set[tuple[str, str]] = set()
        self.reactor = reactor
        self._listening: IListeningPort | None = None
        self._factory: PumpFactory | None = None

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._listening is not None

    async def start(self) -> None:
        """Listen. Raises CannotListenError."""
        if self._listening is None:
            policy = Policy(hostname=f"primary.{self.domain}", software="small primary")
            self._factory = PumpFactory(lambda peer: ServerEngine(policy), lambda peer: _Session(self), self.reactor)
            endpoint = TCP4ServerEndpoint(self.reactor, self.port, interface="127.0.0.1")
            self._listening = await endpoint.listen(self._factory.listener)

    async def stop(self) -> None:
        """Refuse connections from now on, and cut those that are open: an outage."""
        listening, self._listening = self._listening, None
        factory, self._factory = self._factory, None
        if listening is not None:
            stopped = listening.stopListening()
            if stopped is not None:
                await stopped
        if factory is not None:
            await factory.stop(0.2)


class _Session(Session):
    def __init__(self, primary: SmallPrimary) -> None:
        self._primary = primary
        self._sender = ""
        self._recipients: list[str] = []
        self._head = b""
        self._size = 0

    def attach(self, wire: Wire) -> Result:
        self.wire = wire
        return Greeting()

    def on(self, event: Event) -> Result:
        ok = Accept(Reply(250, "2.0.0", "ok"))
        match event:
            case Hello():
                return Welcome()
            case Mail():
                self._sender, self._recipients, self._head, self._size = event.sender, [], b"", 0
                return ok
            case Rcpt():
                return self._recipient(event.recipient.address)
            case Data():
                return GoAhead() if self._recipients else Refuse(Reply(554, "5.5.1", "no valid recipients"))
            case Chunk():
                self._size += len(event.data)
                if len(self._head) < 16_384:
                    self._head += event.data
                return None
            case End():
                return self._take()
            case Noop() | Reset():
                return ok
            case Quit():
                return Accept(Reply(221, "2.0.0", "bye"))
            case Broken():
                return event.suggested
            case _:
                return Refuse(Reply(502, "5.5.1", "not here"))

    def _recipient(self, address: str) -> Result:
        local, _, domain = key_of(address).rpartition("@")
        if domain != self._primary.domain:
            return Refuse(Reply(550, "5.7.1", "not a domain of ours"))
        if local in REFUSALS:
            return Refuse(REFUSALS[local])
        if local == "greylisted" and (self._sender, local) not in self._primary.greeted:
            self._primary.greeted.add((self._sender, local))
            return Refuse(Reply(451, "4.7.1", "greylisted, come again"))
        if local not in ("alice", "bob", "admin", "postmaster", "later", "greylisted", "auditor"):
            return Refuse(Reply(550, "5.1.1", "no such user"))
        self._recipients.append(address)
        return Accept(Reply(250, "2.1.5", "ok"))

    def _take(self) -> Result:
        if any(key_of(each).startswith("later@") for each in self._recipients):
            return Refuse(Reply(451, "4.3.0", "cannot store it now"))
        subject = next((line[8:].strip() for line in self._head.split(b"\r\n") if line[:8].lower() == b"subject:"), b"")
        self._primary.taken.append(
            Taken(
                self._primary.reactor.seconds(),
                self._sender,
                tuple(self._recipients),
                self._size,
                subject.decode("utf-8", "replace"),
            )
        )
        return Accept(Reply(250, "2.0.0", f"taken as {len(self._primary.taken)}"))
