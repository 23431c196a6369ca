"""Reads dialogs from text files and plays them against a pump.

``C: `` what the client sends (CRLF is added; ``\\r``, ``\\n``, ``\\0``, ``\\xhh`` and ``\\\\`` are escapes; ``C- `` adds no CRLF), ``S: `` a line that must
come back (a last ``...`` matches any rest; ``S: <close>``: the connection closes). ``#`` begins a comment. ``@door`` and ``@peer`` at the top say where.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from hornetmail.servers import smtp_policy
from tests.servers.smtp_fakes import World

DOORS = {
    "mx": smtp_policy.mx("mx.hornet.test"),
    "relay": smtp_policy.relay("mx.hornet.test"),
    "submission": smtp_policy.submission("mx.hornet.test", plaintext=True),
    "strict": smtp_policy.submission("mx.hornet.test"),
    "lmtp": smtp_policy.lmtp("mx.hornet.test"),
}


class Player:
    """One dialog being played."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_text("utf-8").splitlines()
        settings = dict(line[1:].split(None, 1) for line in self.lines if line.startswith("@"))
        self.world = World(Clock(), DOORS[settings.get("door", "mx")])
        peer = settings.get("peer", "198.51.100.7")
        kind = IPv6Address if ":" in peer else IPv4Address
        self.transport = StringTransport(peerAddress=kind("TCP", peer, 4321))
        self.pump = self.world.pump()
        self.pump.makeConnection(self.transport)
        self.said = b""

    def play(self) -> None:
        for number, line in enumerate(self.lines, 1):
            kind, text = line[:2], line[3:]
            if kind == "C:":
                self.pump.dataReceived(_unescape(text) + b"\r\n")
            elif kind == "C-":
                self.pump.dataReceived(_unescape(text))
            elif kind == "S:":
                self.expect(number, text)
        self.said += self.transport.value()
        assert self.said == b"", f"unexpected: {self.said!r}"

    def expect(self, number: int, text: str) -> None:
        self.said += self.transport.value()
        self.transport.clear()
        if text == "<close>":
            assert self.transport.disconnecting, f"line {number}: still open"
            return
        line, crlf, self.said = self.said.partition(b"\r\n")
        assert crlf, f"line {number}: nothing was said, {text!r} expected"
        said = line.decode("utf-8")
        good = said.startswith(text[:-3]) if text.endswith("...") else said == text
        assert good, f"line {number}: {said!r} is not {text!r}"


def _unescape(text: str) -> bytes:
    return text.encode("utf-8").decode("latin-1").encode("latin-1").decode("unicode_escape").encode("latin-1")
