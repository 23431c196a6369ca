"""Doors: what a listening port makes of connections: pumps within limits, kept while they live and ended together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IOpenSSLContextFactory, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from hornetmail.net.serving.limits import ConnectionCount, Limits
from hornetmail.net.serving.outbox import Outbox
from hornetmail.net.serving.pump import Pump
from hornetmail.net.serving.rota import Rota
from hornetmail.net.serving.session import Session
from hornetmail.wire.engine import Engine


class PumpFactory(Factory):
    """Makes a pump a connection, within limits; keeps the live ones.

    ``make_engine(peer)`` and ``make_session(peer)`` are called with the client's IP address. ``refusal`` is what somebody over the limits
    reads (the protocol's own words, CRLF included) before the connection closes; with implicit TLS it closes without words.
    ``rota``: that of all doors of the process; a door without one has its own.
    Listen with ``listener``: it is this factory, wrapped in TLS if that is implicit.
    """

    log = Logger()
    noisy = False

    def __init__(
        self,
        make_engine: Callable[[str], Engine],
        make_session: Callable[[str], Session],
        clock: IReactorTime,
        *,
        limits: Limits = Limits(),
        refusal: bytes = b"",
        tls_context_factory: IOpenSSLContextFactory | None = None,
        implicit_tls: bool = False,
        rota: Rota | None = None,
    ) -> None:
        self.pumps: set[Pump] = set()
        self.count = ConnectionCount(limits)
        self._make_engine = make_engine
        self._make_session = make_session
        self._clock = clock
        self._refusal = refusal
        self._context = tls_context_factory
        self._implicit = implicit_tls
        self._rota = Rota(clock, Outbox(clock)) if rota is None else rota
        self._stopping = False
        self._emptied: Deferred[None] | None = None

    @property
    def listener(self) -> IProtocolFactory:
        """What to hand to an endpoint's ``listen``."""
        if self._implicit:
            if self._context is None:
                raise ValueError("implicit TLS needs a certificate")
            return cast(IProtocolFactory, TLSMemoryBIOFactory(self._context, False, self, self._clock))
        return cast(IProtocolFactory, self)

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol | None:
        peer: str = getattr(addr, "host", "")
        why = "stopping" if self._stopping else self.count.admit(peer)
        if why:
            self.log.info("connection from {peer} refused: {why}", peer=peer, why=why)
            return Refusal(b"" if self._implicit else self._refusal)
        pump = Pump(
            self._make_engine(peer),
            lambda: self._make_session(peer),
            self._clock,
            self._context,
            implicit_tls=self._implicit,
            on_closed=lambda pump: self._gone(pump, peer),
            rota=self._rota,
        )
        self.pumps.add(pump)
        return pump

    def _gone(self, pump: Pump, peer: str) -> None:
        self.pumps.discard(pump)
        self.count.release(peer)
        if not self.pumps and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    async def stop(self, grace: float) -> None:
        """Say goodbye to idle connections, let running transactions finish within ``grace`` seconds, abort what is left then. New
        connections are refused from now on."""
        self._stopping = True
        for pump in list(self.pumps):
            pump.shutdown()
        if not self.pumps:
            return
        self._emptied = emptied = Deferred[None]()
        timer = self._clock.callLater(grace, self._give_up)
        await emptied
        if timer.active():
            timer.cancel()

    def _give_up(self) -> None:
        for pump in list(self.pumps):
            pump.abort()
        emptied, self._emptied = self._emptied, None
        if emptied is not None:
            emptied.callback(None)


class Refusal(TwistedProtocol):
    """A connection over the limits: a few words, then the end."""

    transport: Any

    def __init__(self, words: bytes) -> None:
        self._words = words

    def connectionMade(self) -> None:
        if self._words:
            self.transport.write(self._words)
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()
