"""The connection below ``net.smtp``: client engine, awaited replies, flow control, handshake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from hornetmail.core.mail.reply import Reply
from hornetmail.net import prompt
from hornetmail.wire.engine import NEED_DATA, Event, Lost, Out, TLSPeer
from hornetmail.wire.smtp.client import ClientEngine
from hornetmail.wire.smtp.commands import (
    Greeted,
    Interrupted,
    Replied,
    Violation,
)


class Gone(Exception):
    """The connection ended while a reply was awaited; ``replies`` came before. ``violation``: the server's, if that ended it; ``interrupted``: its
    refusal of the message in the middle of the text."""

    def __init__(
        self,
        text: str,
        replies: Sequence[Reply],
        last: Reply | None,
        violation: Violation | None = None,
        interrupted: Reply | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.replies = replies
        self.last = last
        self.violation = violation
        self.interrupted = interrupted


@implementer(IPushProducer, IHandshakeListener)
class Link(Protocol):
    """The connection itself: engine, replies that are awaited, flow control.

    All that came in one read is understood before anybody who waits goes on: what stands behind the last reply asked for must not be taken for
    the answer to what is asked next.
    """

    log = Logger()
    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.engine = ClientEngine()
        self.alive = True
        self.why = ""
        self.last: Reply | None = None
        self._violation: Violation | None = None
        self._interrupted: Reply | None = None
        self.on_lost: Callable[[], None] | None = None
        self._reactor = reactor
        self._replies: list[Reply] = []
        self._need = 0
        self._wait: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._paused = False
        self._drain: Deferred[None] | None = None
        self._handshake: Deferred[None] | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.engine.receive(data)
        while self.alive and not self.engine.upgrade:
            step = self.engine.next_event()
            if step is NEED_DATA:
                break
            self._event(step)
        if self.alive and self._wait is not None and len(self._replies) >= self._need:
            self._fire(None)

    def _event(self, step: Any) -> None:
        if isinstance(step, (Greeted, Replied)):
            self.last = step.reply
            self._replies.append(step.reply)
            if self._timer is not None:
                self._timer.reset(self._timeout)
        elif isinstance(step, Interrupted):
            self.last = self._interrupted = step.reply
            self.fail(f"refused in the middle of the text: {step.reply}")
        elif isinstance(step, Violation):
            self.last = step.reply or self.last
            if step.farewell:
                self.fail(str(step.reply))
            else:
                self._violation = step
                self.fail(step.reason)
        elif isinstance(step, (Event, Lost)):
            self.fail("connection lost")

    def _fire(self, error: BaseException | None) -> None:
        wait, self._wait = self._wait, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait is not None:
            if error is None:
                wait.callback(None)
            else:
                wait.errback(error)

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
        # A farewell takes nothing back of what was said before (rule 8b); whoever breaks the protocol is not believed at all.
        said = self._violation is None and len(self._replies) >= self._need
        self._fire(None if said else error)
        for waiting in (self._drain, self._handshake):
            if waiting is not None and not waiting.called:
                waiting.errback(error)
        self._drain = self._handshake = None
        if self.on_lost is not None:
            self.on_lost()

    # ---- sending and waiting

    def _gone(self) -> Gone:
        return Gone(self.why, tuple(self._replies), self.last, self._violation, self._interrupted)

    def write(self, outs: Sequence[Out]) -> None:
        """Commands and text, in one write. Raises Gone."""
        if not self.alive:
            raise self._gone()
        prompt.write(self.transport, b"".join(map(self.engine.send, outs)))

    async def expect(self, count: int, timeout: float) -> list[Reply]:
        """The next replies; ``timeout`` seconds between any two. Raises Gone: always after a violation, else if they will not come any more."""
        if self._violation is not None or (not self.alive and len(self._replies) < count):
            raise self._gone()
        if len(self._replies) < count:
            self._need = count
            self._timeout = timeout
            self._wait = Deferred(lambda _: self.fail("cancelled"))
            self._timer = self._reactor.callLater(timeout, self._slow)
            await self._wait
        replies, self._replies = self._replies[:count], self._replies[count:]
        return replies

    def _slow(self) -> None:
        self._timer = None
        self.last = None
        self.fail(f"no answer within {self._timeout:g} s")

    async def drained(self, timeout: float) -> None:
        """Until the transport takes more. Raises Gone."""
        if not self.alive:
            raise self._gone()
        if self._paused:
            self._drain = Deferred()
            timer = self._reactor.callLater(timeout, lambda: self.fail(f"the text was not taken within {timeout:g} s"))
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
        """Handshake. Raises Gone."""
        self._handshake = Deferred()
        timer = self._reactor.callLater(timeout, lambda: self.fail("the TLS handshake took too long"))
        self.transport.startTLS(creator)
        try:
            await self._handshake
        finally:
            if timer.active():
                timer.cancel()

    def handshakeCompleted(self) -> None:
        handle = self.transport.getHandle()
        self.engine.tls_started(TLSPeer(handle.get_protocol_version_name(), handle.get_cipher_name() or ""))
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.callback(None)


class LinkFactory(Factory):
    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: Any) -> Link:
        return Link(self._reactor)
