"""One question over HTTP, and a short answer: for services that are asked now and then (time stamps)."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from hornetmail.net.tls import HTTPSPolicy

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 40.0


class AskError(Exception):
    """No answer that could be used; the message says why."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Status, content type without parameters, body."""

    status: int
    kind: str
    body: bytes


class Asker:
    """Asks. Certificates of HTTPS servers are held against the system's roots and the name that was dialled; redirects are not followed."""

    def __init__(self, reactor: Any, policy: HTTPSPolicy | None = None) -> None:
        self._reactor = reactor
        self._agent = Agent(reactor, policy or HTTPSPolicy(), connectTimeout=CONNECT_SECONDS)

    async def post(self, url: str, kind: str, body: bytes, *, user: str = "", password: str = "", limit: int = 1 << 18) -> Answer:
        """POST ``body``; an answer of at most ``limit`` bytes, within ``ANSWER_SECONDS``. Raises AskError."""
        headers = Headers({b"content-type": [kind.encode("ascii")], b"user-agent": [b"HornetMail"]})
        if user:
            login = base64.b64encode(f"{user}:{password}".encode())
            headers.addRawHeader(b"authorization", b"Basic " + login)
        asking: Deferred[Answer] = Deferred.fromCoroutine(self._ask(url, headers, body, limit))
        asking.addTimeout(ANSWER_SECONDS, self._reactor)
        try:
            return await asking
        except AskError:
            raise
        except Exception as error:  # noqa: BLE001  whatever the HTTP client makes of it, there is no answer
            reasons = getattr(error, "reasons", None)
            why = reasons[-1].value if reasons else error
            late = isinstance(why, (DeferredTimeout, CancelledError))
            raise AskError("no answer in time" if late else _words(why)) from None

    async def _ask(self, url: str, headers: Headers, body: bytes, limit: int) -> Answer:
        response = await self._agent.request(b"POST", url.encode("ascii"), headers, FileBodyProducer(BytesIO(body)))
        collector = _Collector(limit)
        response.deliverBody(collector)
        data = await collector.done
        kinds = response.headers.getRawHeaders(b"content-type") or [b""]
        return Answer(response.code, kinds[0].decode("latin-1").partition(";")[0].strip().lower(), data)


class _Collector(Protocol):
    """Takes a body up to its limit."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._parts: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            if not self.done.called:
                self.done.errback(AskError("the answer is too long"))
            self._abort()
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(AskError("the answer was cut off"))

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            abort = getattr(transport, "abortConnection", None) or transport.loseConnection
            abort()


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
