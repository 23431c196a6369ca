"""A connection that we opened, below the protocol that is spoken over it: its end, flow control, handshake. The same for every client of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from hornetmail.wire.engine import TLSPeer


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """``alive`` until it ended, ``why`` then says why; ``on_lost`` is called. Who inherits says what those are told who wait (``_gone``, ``_tell``), and forgets
    what was said before TLS (``_secured``)."""

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.alive = True
        self.why = ""
        self.on_lost: Callable[[], None] | None = None
        self.clock = reactor
        self._paused = False
        self._drain: Deferred[None] | None = None
        self._handshake: Deferred[None] | None = None

    def _gone(self) -> Exception:
        """What is raised at those who want something of a connection that ended."""
        raise NotImplementedError

    def _tell(self) -> None:
        """It ended: those who wait for what it says hear of it."""
        raise NotImplementedError

    def _secured(self, peer: TLSPeer) -> None:
        """TLS is up."""
        raise NotImplementedError

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def fail(self, why: str) -> None:
        """The connection is of no use any more."""
        if self.alive:
            self.alive = False
            self.why = why
            self.transport.abortConnection()
            self._ended()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        if self.alive:
            self.alive = False
            value = reason.value
            self.why = "the TLS handshake failed" if isinstance(value, SSL.Error) else "connection lost"
            self._ended()

    def _ended(self) -> None:
        error = self._gone()
        self._tell()
        for waiting in (self._drain, self._handshake):
            if waiting is not None and not waiting.called:
                waiting.errback(error)
        self._drain = self._handshake = None
        if self.on_lost is not None:
            self.on_lost()

    # ---- flow

    async def drained(self, timeout: float) -> None:
        """Until the transport takes more. Raises what ``_gone`` says."""
        if not self.alive:
            raise self._gone()
        if self._paused:
            self._drain = Deferred()
            timer = self.clock.callLater(timeout, lambda: self.fail(f"the text was not taken within {timeout:g} s"))
            try:
                await self._drain
            finally:
                if timer.active():
                    timer.cancel()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        drain, self._drain = self._drain, None
        if drain is not None:
            drain.callback(None)

    def stopProducing(self) -> None:
        self._paused = True

    # ---- TLS

    async def start_tls(self, creator: Any, timeout: float) -> None:
        """Handshake. Raises what ``_gone`` says."""
        self._handshake = Deferred()
        timer = self.clock.callLater(timeout, lambda: self.fail("the TLS handshake took too long"))
        self.transport.startTLS(creator)
        try:
            await self._handshake
        finally:
            if timer.active():
                timer.cancel()

    def handshakeCompleted(self) -> None:
        handle = self.transport.getHandle()
        self._secured(TLSPeer(handle.get_protocol_version_name(), handle.get_cipher_name() or ""))
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.callback(None)
