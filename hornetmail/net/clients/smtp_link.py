"""The connection below ``net.smtp``: client engine, awaited replies, flow control, handshake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory

from hornetmail.core.mail.reply import Reply
from hornetmail.net import prompt
from hornetmail.net.clients.link import Connection
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


class Link(Connection):
    """The connection itself: engine, replies that are awaited, flow control.

    All that came in one read is understood before anybody who waits goes on: what stands behind the last reply asked for must not be taken for
    the answer to what is asked next.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.engine = ClientEngine()
        self.last: Reply | None = None
        self._violation: Violation | None = None
        self._interrupted: Reply | None = None
        self._replies: list[Reply] = []
        self._need = 0
        self._wait: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

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

    def _tell(self) -> None:
        # A farewell takes nothing back of what was said before (rule 8b); whoever breaks the protocol is not believed at all.
        said = self._violation is None and len(self._replies) >= self._need
        self._fire(None if said else self._gone())

    def _secured(self, peer: TLSPeer) -> None:
        self.engine.tls_started(peer)

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
            self._timer = self.clock.callLater(timeout, self._slow)
            await self._wait
        replies, self._replies = self._replies[:count], self._replies[count:]
        return replies

    def _slow(self) -> None:
        self._timer = None
        self.last = None
        self.fail(f"no answer within {self._timeout:g} s")


class LinkFactory(Factory):
    noisy = False

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: Any) -> Link:
        return Link(self._reactor)
