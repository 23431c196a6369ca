"""Alarms as HTTP: a POST of JSON to a URL of the administrators' choice, signed if a secret is set.

``X-HornetMail-Signature: t=SECONDS,v1=HEX``: HMAC-SHA256 (RFC 2104) with the secret over ``SECONDS.BODY``; a receiver that checks the
seconds too cannot be shown an old one. Redirects are not followed, and of the answer only the status counts.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from io import BytesIO
from typing import Any
from typing import Protocol as Shape
from urllib.parse import urlsplit

import msgspec
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IHandshakeListener, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from hornetmail.core.alarms import AlarmRecord, Stage, kind_of
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.net.clients.dial import Dialer, DialError
from hornetmail.net.resolver import ResolveError
from hornetmail.net.tls import Caller, ClientTLS, TLSRefused, check_peer

CONNECT = 10.0
"""Seconds for the connection."""

SECONDS = 20.0
"""The whole of one POST."""

MOST = 500
"""Alarms in one POST."""


class Target(msgspec.Struct, frozen=True):
    """Where to. ``url``: https, or http to this machine itself; ``secret``: for the signature, ``""`` for none."""

    url: str
    secret: str = ""


class WebhookFailed(Exception):
    """It was not taken; the message says why."""


def checked(url: str, *, local: bool) -> str:
    """The URL. ``local``: whoever sets it operates this machine, so http to loopback is allowed. Raises ValueError."""
    parts = urlsplit(url.strip())
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{url[:200]!r}: not a port") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.fragment or (port is not None and not port):
        raise ValueError(f"{url[:200]!r}: not a URL that begins with https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no log-in in the URL: it would be shown to everybody who sees the settings")
    if not url.isascii() or any(c <= " " for c in url.strip()) or len(url) > 2000:
        raise ValueError(f"{url[:200]!r}: not a URL")
    if parts.scheme == "http" and not (local and _loopback(parts.hostname)):
        raise ValueError("https only: alarms say what is wrong here")
    return url.strip()


def _loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Resolver(Shape):
    """The part of ``IResolver`` that is needed."""

    async def addresses(self, name: str) -> Sequence[str]:
        """Raises ResolveError."""
        ...


class OutsideOnly:
    """A resolver for those who do not operate this machine: what is within the house (loopback, private, link-local) has no address for them."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def addresses(self, name: str) -> Sequence[str]:
        """Public ones. Raises ResolveError."""
        found = [text for text in await self._resolver.addresses(name) if ipaddress.ip_address(text).is_global]
        if not found:
            raise ResolveError(f"{name} has no public address", permanent=True)
        return found


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Gives the connection to the real protocol once the certificate was held against the name; OpenSSL itself has looked at the chain alone."""

    def __init__(self, factory: Any, name: str) -> None:
        self._factory = factory
        self._name = name
        self._inner: Any = None
        self.ready: Deferred[Any] = Deferred()

    def handshakeCompleted(self) -> None:
        """See IHandshakeListener."""
        transport: Any = self.transport
        try:
            check_peer(transport.getHandle(), self._name)
        except TLSRefused as error:
            transport.abortConnection()
            self.ready.errback(error)
            return
        self._inner = self._factory.buildProtocol(transport.getPeer())
        self._inner.makeConnection(transport)
        self.ready.callback(self._inner)

    def dataReceived(self, data: bytes) -> None:
        """See Protocol."""
        if self._inner is not None:
            self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See Protocol."""
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.ready.called:
            self.ready.errback(reason)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """One connection to one host, over TLS if there is a ``caller``."""

    def __init__(self, dialer: Dialer, host: Host, caller: Caller | None) -> None:
        self._dialer = dialer
        self._host = host
        self._caller = caller

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """See IStreamClientEndpoint."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        if self._caller is None:
            protocol, _ = await self._dialer.connect(self._host, factory, timeout=CONNECT)
            return protocol
        handshakes: list[_Handshake] = []

        def build() -> _Handshake:
            handshakes.append(_Handshake(factory, self._host.name))
            return handshakes[-1]

        outer: Any = TLSMemoryBIOFactory(self._caller, True, Factory.forProtocol(build))
        connected, _ = await self._dialer.connect(self._host, outer, timeout=CONNECT)
        inner: Any = connected
        return await inner.wrappedProtocol.ready


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, dialer: Dialer, tls: ClientTLS) -> None:
        self._dialer = dialer
        self._tls = tls

    def endpointForURI(self, uri: Any) -> _Endpoint:
        """See IAgentEndpointFactory."""
        host = Host(uri.host.decode("ascii").strip("[]"), uri.port)
        return _Endpoint(self._dialer, host, self._tls.to(host.name, TLSPolicy.VERIFY) if uri.scheme == b"https" else None)


class _Unread(Protocol):
    """The body of an answer is nobody's business, however long it is."""

    def connectionMade(self) -> None:
        """See Protocol."""
        transport: Any = self.transport
        transport.loseConnection()


class Webhook:
    """Posts. ``outside`` keeps tenants that do not operate this machine away from addresses within the house."""

    def __init__(self, reactor: Any, resolver: Resolver, hostname: str, tls: ClientTLS | None = None) -> None:
        self._reactor = reactor
        self._hostname = hostname
        certificates = tls or ClientTLS()
        self._agents = {
            outside: Agent.usingEndpointFactory(reactor, _Endpoints(Dialer(reactor, kind), certificates))
            for outside, kind in ((False, resolver), (True, OutsideOnly(resolver)))
        }

    async def post(self, target: Target, body: bytes, *, outside: bool = False) -> None:
        """Taken with a 2xx. Raises WebhookFailed, within ``SECONDS``."""
        headers = {
            b"User-Agent": [b"HornetMail"],
            b"Content-Type": [b"application/json"],
            b"X-HornetMail-Host": [self._hostname.encode("ascii", "replace")],
        }
        if target.secret:
            headers[b"X-HornetMail-Signature"] = [signature(target.secret, body, int(self._reactor.seconds())).encode()]
        producer: Any = FileBodyProducer(BytesIO(body), cooperator=Cooperator(scheduler=lambda f: self._reactor.callLater(0, f)))
        asked: Deferred[Any] = self._agents[outside].request(b"POST", target.url.encode("ascii"), Headers(headers), producer)
        asked.addTimeout(SECONDS, self._reactor)
        try:
            answer = await asked
        except Exception as error:  # noqa: BLE001 - whatever it is, it was not taken
            raise WebhookFailed(f"{shown(target.url)}: {_why(error)}") from None
        answer.deliverBody(_Unread())
        if not 200 <= answer.code < 300:
            raise WebhookFailed(f"{shown(target.url)} answers {answer.code}")


def signature(secret: str, body: bytes, seconds: int) -> str:
    """The header's value."""
    mac = hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={mac}"


def shown(url: str) -> str:
    """A URL for log and messages: without its query, which is where services put their secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}" + ("?…" if parts.query else "")


def _why(error: BaseException) -> str:
    reasons = getattr(error, "reasons", None)
    first: Any = reasons[0].value if reasons else error
    if isinstance(first, SSL.Error):
        return "its certificate is not one that we trust, or TLS failed"
    if isinstance(first, (DeferredTimeout, CancelledError)):
        return f"no answer within {SECONDS:g} s"
    if isinstance(first, DialError):
        return first.text
    return str(first) or type(first).__name__


def payload(hostname: str, said: Sequence[tuple[AlarmRecord, Stage]]) -> bytes:
    """``{"host", "alarms": [{"event": "began" | "lasts" | "ended", "id", "code", "title", "subject", "domain", "text", "since", "last", "count",
    "ended", "why"}], "left_out"}``; at most ``MOST`` alarms, the others counted. An alarm keeps its ``id``; what came once may come again."""
    alarms = [
        {
            "event": stage.value,
            "id": str(record.number),
            "code": record.code,
            "title": kind_of(record.code).title,
            "subject": record.subject,
            "domain": record.domain,
            "text": record.text,
            "since": record.since,
            "last": record.last,
            "count": record.count,
            "ended": record.ended,
            "why": record.why,
        }
        for record, stage in said[:MOST]
    ]
    return msgspec.json.encode({"host": hostname, "alarms": alarms, "left_out": max(0, len(said) - MOST)})
