"""Names to addresses, domains to mail hosts (RFC 5321 section 5, RFC 7505).

Answers come from what is told first (``hosts``), address literals, and DNS with dnspython's wire codec over Twisted's UDP and, for
truncated answers, TCP.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import random
from collections.abc import Mapping, Sequence
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectError, ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from hornetmail.core.served import Host

UDP_BYTES = 1_232
"""EDNS buffer that passes without fragments (DNS flag day 2020)."""


OUR_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""What the system says when it has no socket, memory or port left for us: nobody outside is to blame (rule 5)."""


def is_ours(error: object) -> bool:
    """Whether an error of the network is for want of something of ours. Twisted's wrap the system's error number."""
    if isinstance(error, CannotListenError):
        return True
    number = getattr(error, "osError", None)
    if not isinstance(number, int):
        number = getattr(error, "errno", None)
    return number in OUR_ERRORS


class ResolveError(Exception):
    """DNS did not help. ``permanent``: the name does not exist, or takes no mail (then mail to it fails, it is not deferred). ``ours``: it could
    not be asked, for want of sockets above all."""

    def __init__(self, text: str, *, permanent: bool = False, ours: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.permanent = permanent
        self.ours = ours


class IResolver(Interface):
    """Where names lead."""

    async def addresses(name: str) -> Sequence[str]:
        """IP addresses of a host name or literal, IPv6 and IPv4 alternating, at least one. Raises ResolveError."""

    async def mail_hosts(domain: str) -> Sequence[Host]:
        """Hosts that take mail for a domain, best first, equals shuffled; the domain itself if it has no MX but an address.
        Raises ResolveError; for a null MX (RFC 7505) a permanent one."""

    async def records(name: str, kind: str) -> Sequence[Any]:
        """dnspython's records of any type (TXT for SPF and DKIM) of a name in presentation format; empty if there are none, or no
        such name. ``hosts`` do not count here. Raises ResolveError; for what is no name a permanent one."""


def literal(name: str) -> str:
    """The IP address, if the name is one, with or without brackets and ``IPv6:``; else ``""``."""
    text = name.strip("[]")
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(text))
    return ""


def alternate(six: Sequence[str], four: Sequence[str]) -> list[str]:
    """IPv6 first, the families taking turns (RFC 8305 section 4)."""
    out: list[str] = []
    for place in range(max(len(six), len(four))):
        out += six[place : place + 1]
        out += four[place : place + 1]
    return out


class _Answer(msgspec.Struct, frozen=True):
    exists: bool
    records: tuple[Any, ...]


@implementer(IResolver)
class Resolver:
    """DNS over the servers handed in, ``hosts`` (name to addresses) before it.

    Each server is asked in turn, ``timeout`` seconds each, twice around. Answers are kept for their TTL, at most ``keep`` seconds and
    1,000 names.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[tuple[str, int]],
        *,
        hosts: Mapping[str, Sequence[str]] | None = None,
        timeout: float = 3.0,
        keep: float = 300.0,
        chance: random.Random | None = None,
    ) -> None:
        self._reactor = reactor
        self._servers = tuple(servers)
        self._hosts = {name.lower().rstrip("."): tuple(found) for name, found in (hosts or {}).items()}
        self._timeout = timeout
        self._keep = keep
        self._chance = chance or random.SystemRandom()
        self._kept: dict[tuple[str, str], tuple[float, _Answer]] = {}

    async def addresses(self, name: str) -> Sequence[str]:
        """See IResolver."""
        name = name.lower().rstrip(".")
        there = literal(name)
        if there:
            return (there,)
        if name in self._hosts:
            return self._hosts[name]
        answers = await gatherResults(
            [Deferred.fromCoroutine(self._maybe(name, kind)) for kind in ("AAAA", "A")], consumeErrors=True
        )
        six, four = ([str(r.address) for r in a.records] if isinstance(a, _Answer) else [] for a in answers)
        if six or four:
            return alternate(six, four)
        for answer in answers:
            if isinstance(answer, ResolveError):
                raise answer
        raise ResolveError(f"{name} has no address", permanent=True)

    async def mail_hosts(self, domain: str) -> Sequence[Host]:
        """See IResolver."""
        domain = domain.lower().rstrip(".")
        there = literal(domain)
        if there:
            return (Host(there),)
        if domain in self._hosts:
            return (Host(domain),)
        answer = await self._ask(domain, "MX")
        if not answer.exists:
            raise ResolveError(f"{domain} does not exist", permanent=True)
        if not answer.records:
            await self.addresses(domain)
            return (Host(domain),)
        ranked = [(r.preference, self._chance.random(), r.exchange.to_text(omit_final_dot=True)) for r in answer.records]
        if [name for _, _, name in ranked] == ["@"] or all(name in ("", ".", "@") for _, _, name in ranked):
            raise ResolveError(f"{domain} takes no mail (null MX)", permanent=True)
        return tuple(Host(name.lower()) for _, _, name in sorted(ranked) if name not in ("", ".", "@"))

    async def records(self, name: str, kind: str) -> Sequence[Any]:
        """See IResolver."""
        return (await self._ask(name.lower().rstrip("."), kind)).records

    async def _maybe(self, name: str, kind: str) -> _Answer | ResolveError:
        try:
            return await self._ask(name, kind)
        except ResolveError as error:
            return error

    async def _ask(self, name: str, kind: str) -> _Answer:
        clock: IReactorTime = self._reactor
        kept = self._kept.get((name, kind))
        if kept is not None and kept[0] > clock.seconds():
            return kept[1]
        try:
            query = dns.message.make_query(name, kind, use_edns=0, payload=UDP_BYTES)
        except (dns.exception.DNSException, ValueError, UnicodeError) as error:
            raise ResolveError(f"{name} is no name: {error}", permanent=True) from None
        last, ours = "no DNS server is configured", False
        for server in self._servers * 2:
            try:
                response = await self._exchange(query, server)
            except (
                DeferredTimeout,
                ConnectError,
                CannotListenError,
                OSError,
                ResolveError,
                dns.exception.DNSException,
            ) as error:
                last, ours = f"{server[0]}: {error or type(error).__name__}", is_ours(error)
                continue
            code = response.rcode()
            if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                last, ours = f"{server[0]} says {dns.rcode.to_text(code)}", False
                continue
            return self._take(name, kind, response)
        raise ResolveError(f"looking up {name} {kind}: {last}", ours=ours)

    def _take(self, name: str, kind: str, response: dns.message.QueryMessage) -> _Answer:
        try:
            chain = response.resolve_chaining()
        except dns.exception.DNSException as error:
            raise ResolveError(f"looking up {name} {kind}: {error}") from None
        records = tuple(chain.answer) if chain.answer is not None else ()
        exists = response.rcode() != dns.rcode.NXDOMAIN or bool(records)
        answer = _Answer(exists, records)
        if len(self._kept) >= 1000:
            self._kept.pop(next(iter(self._kept)))
        ttl = min(self._keep, chain.minimum_ttl if records else min(60, chain.minimum_ttl))
        self._kept[name, kind] = (self._reactor.seconds() + ttl, answer)
        return answer

    async def _exchange(self, query: dns.message.Message, server: tuple[str, int]) -> dns.message.QueryMessage:
        query.id = self._chance.randrange(65_536)
        response = dns.message.from_wire(await self._udp(query, server))
        if response.flags & dns.flags.TC:
            response = dns.message.from_wire(await self._tcp(query, server))
        if not isinstance(response, dns.message.QueryMessage) or not query.is_response(response):
            raise ResolveError(f"{server[0]} answered another question")
        return response

    async def _udp(self, query: dns.message.Message, server: tuple[str, int]) -> bytes:
        protocol = _Datagram(query, server)
        port = self._reactor.listenUDP(0, protocol, interface="::" if ":" in server[0] else "")
        try:
            # Not before: what is raised while it starts would leave the socket open.
            protocol.ask()
            protocol.answer.addTimeout(self._timeout, self._reactor)
            return await protocol.answer
        finally:
            port.stopListening()

    async def _tcp(self, query: dns.message.Message, server: tuple[str, int]) -> bytes:
        protocol = _Stream(query.to_wire(prepend_length=True))
        endpoint = HostnameEndpoint(self._reactor, server[0], server[1], timeout=self._timeout)
        connected: Any = await connectProtocol(endpoint, protocol)
        try:
            connected.answer.addTimeout(self._timeout, self._reactor)
            answer: bytes = await connected.answer
            return answer
        finally:
            connected.transport.abortConnection()


class _Datagram(DatagramProtocol):
    """One question, one answer; strangers' and strays are ignored."""

    transport: Any

    def __init__(self, query: dns.message.Message, server: tuple[str, int]) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._query = query
        self._server = server

    def ask(self) -> None:
        """Send the question. Raises OSError."""
        self.transport.connect(*self._server)
        self.transport.write(self._query.to_wire())

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self.answer.called and datagram[:2] == self._query.id.to_bytes(2, "big"):
            self.answer.callback(datagram)

    def connectionRefused(self) -> None:
        if not self.answer.called:
            self.answer.errback(OSError("nobody listens"))


class _Stream(Protocol):
    """The same over TCP, with a length in front."""

    transport: Any

    def __init__(self, question: bytes) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._question = question
        self._buffer = b""

    def connectionMade(self) -> None:
        self.transport.write(self._question)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        if not self.answer.called and len(self._buffer) >= 2:
            length = int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) >= length + 2:
                self.answer.callback(self._buffer[2 : length + 2])

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        if not self.answer.called:
            self.answer.errback(OSError("connection lost"))


def system_servers(text: str) -> list[tuple[str, int]]:
    """The name servers of a resolv.conf given as text."""
    words = (line.split() for line in text.splitlines())
    return [(w[1].partition("%")[0], 53) for w in words if len(w) >= 2 and w[0] == "nameserver"]
