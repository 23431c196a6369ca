"""A mail server that does as it is told: a primary for tests, on Twisted, with code of its own that shares nothing with ours.

It keeps what it accepted with envelope and exact bytes. Its ``script`` may be changed at any time::

    primary = ScriptedPrimary(reactor)
    await primary.listen()
    primary.script.replies["RCPT"] = "452 4.3.1 disk full"
    primary.script.full.add("bob@example.test")
    await primary.stop()          # connections are refused from now on
    await primary.listen()        # on the same port
"""

from __future__ import annotations

import dataclasses
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


@dataclasses.dataclass
class Script:
    """How it behaves. Stages are ``GREETING EHLO MAIL RCPT DATA DOT``.

    ``replies``: stage to reply line; ``BODY`` is said once in the middle of the text, and what follows of it is not read any more. ``limited``: stage to (count, reply line): that many times only. ``hang``: stages at which it says
    nothing. ``drop``: stages at which it drops the connection; ``BODY`` in the middle of the text, ``DOT`` after the final dot
    (``keep_dropped``: the message was accepted all the same). ``grey``: greylists each sender and recipient once. ``full``,
    ``unknown``: recipients refused, after ``tarpit`` seconds (Exchange: 5); ``trouble``: recipient to the reply it gets; ``unknown_start``: so are all that start with it. ``most_recipients`` in a transaction, 0 = any number. ``most_connections``: 421 for more. ``poison``: a text with this in it is deferred at the dot.
    """

    replies: dict[str, str] = dataclasses.field(default_factory=dict)
    limited: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    hang: set[str] = dataclasses.field(default_factory=set)
    drop: set[str] = dataclasses.field(default_factory=set)
    keep_dropped: bool = True
    grey: bool = False
    full: set[str] = dataclasses.field(default_factory=set)
    unknown: set[str] = dataclasses.field(default_factory=set)
    trouble: dict[str, str] = dataclasses.field(default_factory=dict)
    unknown_start: str | tuple[str, ...] = "no-such-user-"
    tarpit: float = 0.0
    most_recipients: int = 0
    most_connections: int = 0
    poison: bytes = b""
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES")


@dataclasses.dataclass(frozen=True)
class Accepted:
    """A message that got its 250 (or would have): reverse-path, recipients, the bytes between DATA and the dot, transparency removed."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    connection: int


class _Dialogue(Protocol):
    transport: Any

    def __init__(self, primary: ScriptedPrimary, number: int) -> None:
        self._primary = primary
        self._number = number
        self._buffer = b""
        self._text: list[bytes] | None = None
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._dead = False
        self._waiting: Any = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._primary.open.add(self)
        most = self._primary.script.most_connections
        if most and len(self._primary.open) > most:
            self._say("421 4.7.0 too many connections")
            self._end()
        elif self._staged("GREETING") is None:
            self._say("220 primary.test ESMTP")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._dead = True
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._primary.open.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while not self._dead and self._waiting is None:
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                return
            self._buffer = rest
            if self._text is not None:
                self._body(line)
            else:
                self._command(line.decode("utf-8", "replace"))

    def _say(self, line: str) -> None:
        if not self._dead:
            self.transport.write(line.encode() + b"\r\n")

    def _end(self) -> None:
        self._dead = True
        self.transport.loseConnection()

    def _staged(self, stage: str) -> str | None:
        """Follow the script at a stage: what was said instead of the normal answer, or None."""
        script = self._primary.script
        self._primary.seen[stage] = self._primary.seen.get(stage, 0) + 1
        if stage in script.drop and stage != "BODY":
            self._dead = True
            self.transport.abortConnection()
            return "dropped"
        if stage in script.hang:
            self._dead = True
            return "hanging"
        line = script.replies.get(stage)
        left = script.limited.get(stage)
        if left is not None and left[0] > 0:
            script.limited[stage] = (left[0] - 1, left[1])
            line = left[1]
        if line is None:
            return None
        self._say(line)
        if line.startswith("421") or (stage == "GREETING" and not line.startswith("2")):
            self._end()
        return line

    def _command(self, line: str) -> None:
        verb = line[:4].upper()
        if verb in ("EHLO", "HELO"):
            if self._staged("EHLO") is None:
                lines = ["primary.test", *(self._primary.script.extensions if verb == "EHLO" else ())]
                for at, each in enumerate(lines):
                    self._say(f"250{'-' if at + 1 < len(lines) else ' '}{each}")
        elif verb == "MAIL":
            if self._staged("MAIL") is None:
                self._sender = _path(line)
                self._recipients = []
                self._say("250 2.1.0 ok")
        elif verb == "RCPT":
            self._recipient(_path(line))
        elif verb == "DATA":
            self._data()
        elif verb == "RSET":
            self._sender, self._recipients = None, []
            self._say("250 2.0.0 ok")
        elif verb == "NOOP":
            self._say("250 2.0.0 ok")
        elif verb == "QUIT":
            self._say("221 2.0.0 bye")
            self._end()
        else:
            self._say("502 5.5.1 what?")

    def _recipient(self, address: str) -> None:
        script = self._primary.script
        if self._sender is None:
            self._say("503 5.5.1 MAIL first")
            return
        self._primary.named.append(address.casefold())
        if self._staged("RCPT") is not None:
            return
        folded = address.casefold()
        pair = (self._sender.casefold(), folded)
        if folded in script.unknown or (script.unknown_start and folded.startswith(script.unknown_start)):
            refusal = f"550 5.1.1 <{address}>: no such user"
            if script.tarpit:
                self._waiting = self._primary.reactor.callLater(script.tarpit, self._tarpitted, refusal)
            else:
                self._say(refusal)
        elif folded in script.trouble:
            self._say(script.trouble[folded])
        elif folded in script.full:
            self._say("452 4.2.2 mailbox full")
        elif script.grey and pair not in self._primary.greeted:
            self._primary.greeted.add(pair)
            self._say("450 4.7.1 greylisted, come again")
        elif script.most_recipients and len(self._recipients) >= script.most_recipients:
            self._say("452 4.5.3 too many recipients")
        else:
            self._recipients.append(address)
            self._say("250 2.1.5 ok")

    def _tarpitted(self, line: str) -> None:
        self._waiting = None
        self._say(line)
        self.dataReceived(b"")

    def _data(self) -> None:
        if not self._recipients:
            self._say("554 5.5.1 no valid recipients")
        elif self._staged("DATA") is None:
            self._text = []
            self._say("354 go on")

    def _body(self, line: bytes) -> None:
        assert self._text is not None
        if line != b".":
            self._text.append(line[1:] if line.startswith(b".") else line)
            if "BODY" in self._primary.script.drop:
                self._dead = True
                self.transport.abortConnection()
            elif "BODY" in self._primary.script.replies:
                self._staged("BODY")
                self._dead = True
                self.transport.pauseProducing()
            return
        data = b"".join(each + b"\r\n" for each in self._text)
        accepted = Accepted(self._sender or "", tuple(self._recipients), data, self._number)
        self._text, self._sender, self._recipients = None, None, []
        said = self._staged("DOT")
        if said is None and self._primary.script.poison and self._primary.script.poison in data:
            self._say("451 4.3.0 the filter failed")
            return
        if said is None:
            self._primary.accepted.append(accepted)
            self._say("250 2.0.0 taken")
        elif said in ("dropped", "hanging") and self._primary.script.keep_dropped:
            self._primary.accepted.append(accepted)


def _path(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]


class ScriptedPrimary(Factory):
    """See the module. ``port`` is chosen at the first ``listen`` and kept. ``seen`` counts stages reached; ``named``: the address of each RCPT."""

    noisy = False

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._listener: Any = None
        self.port = 0
        self.script = Script()
        self.accepted: list[Accepted] = []
        self.connections = 0
        self.open: set[_Dialogue] = set()
        self.greeted: set[tuple[str, str]] = set()
        self.seen: dict[str, int] = {}
        self.named: list[str] = []

    def buildProtocol(self, addr: Any) -> _Dialogue:
        self.connections += 1
        return _Dialogue(self, self.connections)

    async def listen(self) -> None:
        """Take connections on loopback."""
        self._listener = self.reactor.listenTCP(self.port, self, interface="127.0.0.1")
        self.port = self._listener.getHost().port

    async def stop(self) -> None:
        """Drop all connections and refuse new ones."""
        listener, self._listener = self._listener, None
        for each in list(self.open):
            each.transport.abortConnection()
        if listener is not None:
            await listener.stopListening()

    def to(self, recipient: str) -> list[Accepted]:
        """What was accepted for a recipient."""
        return [each for each in self.accepted if recipient in each.recipients]
