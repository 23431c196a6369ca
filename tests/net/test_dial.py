"""Dialling: addresses in turn, overlapping, within one budget."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from hornetmail.core.served import Host
from hornetmail.net.clients.dial import STAGGER_SECONDS, Dialer, DialError, _reason
from hornetmail.net.resolver import ResolveError
from hornetmail.testing.resolver import FakeResolver


class Rig:
    def __init__(self, *addresses: str) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.dialer = Dialer(self.reactor, FakeResolver({"mx.test": addresses}))
        self.result: list[Any] = []
        dialling = Deferred.fromCoroutine(self.dialer.connect(Host("mx.test", 25), Factory.forProtocol(Protocol), timeout=10))
        dialling.addBoth(self.result.append)

    @property
    def dialled(self) -> list[str]:
        return [client[0] for client in self.reactor.tcpClients]

    def refuse(self, number: int, error: Exception | None = None) -> None:
        client = self.reactor.tcpClients[number]
        client[2].clientConnectionFailed(self.reactor.connectors[number], Failure(error or ConnectionRefusedError()))

    def connect(self, number: int) -> Any:
        protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        from twisted.internet.testing import StringTransport

        transport = StringTransport()
        transport.abortConnection = lambda: setattr(transport, "aborted", True)  # type: ignore[attr-defined]
        protocol.makeConnection(transport)
        return transport


def test_the_next_address_starts_early() -> None:
    """Would catch a slow first address that holds up the delivery for its whole time-out."""
    rig = Rig("192.0.2.1", "192.0.2.2")
    assert rig.dialled == ["192.0.2.1"]
    rig.reactor.advance(STAGGER_SECONDS)
    assert rig.dialled == ["192.0.2.1", "192.0.2.2"]
    rig.connect(1)
    assert rig.result[0][1] == "192.0.2.2"


def test_a_refused_address_is_followed_at_once() -> None:
    """Would catch waiting where nothing is to be waited for."""
    rig = Rig("192.0.2.1", "192.0.2.2")
    rig.refuse(0)
    assert rig.dialled == ["192.0.2.1", "192.0.2.2"]
    rig.refuse(1)
    error = rig.result[0].value
    assert isinstance(error, DialError)
    assert error.text.count("refused") == 2


def test_a_cancelled_attempt_is_no_error_of_ours() -> None:
    """Would catch an attempt that Twisted cancels underneath us, and whose failure nobody takes."""
    rig = Rig("192.0.2.1", "192.0.2.2")
    rig.refuse(0, ConnectingCancelledError(IPv4Address("TCP", "192.0.2.1", 25)))
    rig.connect(1)
    assert rig.result[0][1] == "192.0.2.2"


def test_no_answer_at_all() -> None:
    """Would catch a dial without end: 10 s altogether (rule 1)."""
    rig = Rig("192.0.2.1")
    assert rig.reactor.tcpClients[0][3] == 10
    rig = Rig("192.0.2.1", "192.0.2.2")
    rig.reactor.advance(STAGGER_SECONDS)
    assert rig.reactor.tcpClients[1][3] == 10 - STAGGER_SECONDS


def test_unknown_names() -> None:
    """Would catch an exception of the resolver's in place of DialError."""
    reactor: Any = MemoryReactorClock()
    dialer = Dialer(reactor, FakeResolver({"sick.test": ResolveError("no DNS")}))
    for name, permanent in (("sick.test", False), ("gone.test", True)):
        result: list[Any] = []
        Deferred.fromCoroutine(dialer.connect(Host(name), Factory.forProtocol(Protocol))).addBoth(result.append)
        assert isinstance(result[0].value, DialError)
        assert (result[0].value.resolved, result[0].value.permanent) == (False, permanent)


def test_a_slow_lookup_ends() -> None:
    """Would catch a resolver that hangs and takes the delivery with it (Twisted's TimeoutError is not Python's)."""

    class Silent(FakeResolver):
        async def addresses(self, name: str) -> Any:
            await Deferred()

    reactor: Any = MemoryReactorClock()
    result: list[Any] = []
    Deferred.fromCoroutine(Dialer(reactor, Silent()).connect(Host("mx.test"), Factory.forProtocol(Protocol))).addBoth(
        result.append
    )
    reactor.advance(11)
    assert isinstance(result[0].value, DialError)


def test_reasons_are_words() -> None:
    """Would catch a bare error number where an administrator reads why a primary is down."""
    assert _reason(Failure(ConnectionRefusedError(osError=111, string="refused"))) == "connection refused"
    assert _reason(Failure(ConnectionRefusedError())).startswith("connection was refused")
