"""One answer among a hundred busy connections (rule 8d): what a bystander waits for does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from hornetmail.net.serving.outbox import Outbox
from hornetmail.net.serving.pump import Pump
from hornetmail.net.serving.rota import Rota
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.pop3 import POP3Policy, POP3Session, POP3Site
from hornetmail.wire.imap.server.server import ImapServerEngine
from hornetmail.wire.pop3.server import POP3ServerEngine
from tests.cost.test_doors import Doorman, Portal
from tests.cost.turns import MOST, MeasuredReactor, calm
from tests.servers.imap.door import SIMPLE, Door

BUSY = 100
QUESTIONS = 40


class House:
    """Doors of one process: connections that share a rota."""

    def __init__(self) -> None:
        self.reactor = MeasuredReactor()
        self.rota = Rota(self.reactor, Outbox(self.reactor))  # type: ignore[arg-type]
        self.door = Door(self.reactor)
        for _ in range(200):
            self.door.inbox.add(SIMPLE)
        self.site = POP3Site(self.reactor, Doorman(), Portal(self.door.tree))  # type: ignore[arg-type]

    def _connected(self, pump: Pump) -> Pump:
        transport: Any = StringTransport()
        transport.setTcpNoDelay = lambda enabled: None
        transport.abortConnection = transport.loseConnection
        pump.makeConnection(transport)
        return pump

    def say(self, pump: Pump, data: bytes) -> bytes:
        """And wait until all is quiet."""
        self.reactor.iterate(lambda: pump.dataReceived(data))
        self.reactor.run()
        return heard(pump)

    def pop3(self) -> Pump:
        pump = self._connected(
            Pump(POP3ServerEngine(POP3Policy(plaintext_login=True)), lambda: POP3Session(self.site), self.reactor, rota=self.rota)  # type: ignore[arg-type]
        )
        assert b"-ERR" not in self.say(pump, b"USER a\r\nPASS b\r\n")
        return pump

    def imap(self) -> Pump:
        pump = self._connected(Pump(ImapServerEngine(), lambda: ImapSession(self.door.site), self.reactor, rota=self.rota))  # type: ignore[arg-type]
        assert b"s OK" in self.say(pump, b"l LOGIN alice@example.test secret\r\ns SELECT INBOX\r\n")
        return pump


def heard(pump: Pump) -> bytes:
    said: bytes = pump.transport.value()
    pump.transport.clear()
    return said


LOADS: dict[str, tuple[Callable[[House], Pump], bytes]] = {
    "POP3 STAT": (House.pop3, b"STAT\r\n" * 8000),
    "POP3 UIDL": (House.pop3, b"UIDL\r\n" * 4000),
    "IMAP NOOP": (House.imap, b"a NOOP\r\n" * 6000),
    "IMAP SEARCH": (House.imap, b"a SEARCH UNKEYWORD k 1:190\r\n" * 2000),
}


@pytest.mark.parametrize("load", LOADS)
def test_bystander(load: str) -> None:
    """100 connections of 5 ms each were half a second for everybody else; and who has much to do must not wait for ever for those with little."""
    connect, flood = LOADS[load]

    def worst() -> float:
        house = House()
        busy = [connect(house) for _ in range(BUSY)]
        bystander = house.pop3()
        reactor = house.reactor
        reactor.iterate(*(lambda pump=pump: pump.dataReceived(flood[:60_000]) for pump in busy))  # type: ignore[misc]
        waited = 0.0
        for _ in range(QUESTIONS):
            asked = [0.0]

            def ask(asked: list[float] = asked) -> None:
                asked[0] = reactor.seconds()
                bystander.dataReceived(b"NOOP\r\n")

            reactor.iterate(ask)
            while not heard(bystander):
                reactor.iterate()
            waited = max(waited, reactor.seconds() - asked[0])
        for _ in range(20 * BUSY):
            if all(pump.transport.value() for pump in busy):
                break
            reactor.iterate()
        assert all(pump.transport.value() for pump in busy), "each of them gets on"
        return max(waited, reactor.longest)

    assert calm(worst) < MOST
