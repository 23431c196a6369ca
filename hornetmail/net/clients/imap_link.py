"""The connection below ``net.imap``: client engine, and what the server says, one thing after the other, as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from hornetmail.net import prompt
from hornetmail.net.clients.link import Connection
from hornetmail.wire.engine import NEED_DATA, PAUSE_BYTES, Event, Lost, Out, TLSPeer
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.imap.client.engine import ClientEngine


class Gone(Exception):
    """The connection ended; ``violation``: because the server does not speak IMAP."""

    def __init__(self, text: str, *, violation: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.violation = violation


class Link(Connection):
    """The connection itself. Nothing is parsed before it is asked for, and nothing more is read meanwhile than ``PAUSE_BYTES`` and one read."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.engine = ClientEngine()
        self._violated = False
        self._waiting: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._full = False

    def dataReceived(self, data: bytes) -> None:
        self.engine.receive(data)
        if self.engine.buffered > PAUSE_BYTES and not self._full:
            self._full = True
            self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self.engine.receive(b"")
        super().connectionLost(reason)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def _tell(self) -> None:
        self._wake()

    def _secured(self, peer: TLSPeer) -> None:
        self.engine.tls_started(peer)

    def _gone(self) -> Gone:
        return Gone(self.why, violation=self._violated)

    def write(self, outs: Sequence[Out]) -> None:
        """Commands and text, in one write. Raises Gone; LocalProtocolError for what cannot be said."""
        if not self.alive:
            raise self._gone()
        prompt.write(self.transport, b"".join(map(self.engine.send, outs)))

    def said(self) -> Event | None:
        """The next thing that is here already. Raises Gone: what the server said before it went is told first (rule 8b)."""
        step = self.engine.next_event()
        if self._full and self.engine.buffered <= PAUSE_BYTES and self.alive:
            self._full = False
            self.transport.resumeProducing()
        if step is NEED_DATA:
            if not self.alive:
                raise self._gone()
            return None
        if isinstance(step, c.Violation):
            self._violated = True
            self.fail(step.reason)
            self.why = step.reason
            raise self._gone()
        if isinstance(step, Lost):
            self.fail("connection lost")
            raise self._gone()
        assert isinstance(step, Event)
        if isinstance(step, c.Farewell):
            self.fail(f"the server says goodbye: {step.text or step.code.word}")
            raise self._gone()
        return step

    async def heard(self, timeout: float) -> Event:
        """The next thing that the server says, within so many seconds. Raises Gone."""
        while (event := self.said()) is None:
            self._waiting = Deferred(lambda _: self.fail("cancelled"))
            self._timer = self.clock.callLater(timeout, self._slow, timeout)
            await self._waiting
        return event

    def _slow(self, timeout: float) -> None:
        self._timer = None
        self.fail(f"no answer within {timeout:g} s")


class LinkFactory(Factory):
    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: Any) -> Link:
        return Link(self._reactor)
