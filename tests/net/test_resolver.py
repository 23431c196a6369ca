"""The resolver against a small DNS server on loopback, over UDP and TCP."""

from __future__ import annotations

import random
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from twisted.internet import reactor as default_reactor
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import TestCase

from hornetmail.core.served import Host
from hornetmail.net.resolver import ResolveError, Resolver, alternate, literal, system_servers

reactor: Any = default_reactor

ZONE = {
    ("mx.test.", "MX"): ["20 b.mx.test.", "10 a.mx.test.", "10 c.mx.test."],
    ("null.test.", "MX"): ["0 ."],
    ("a.mx.test.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("a.mx.test.", "AAAA"): ["2001:db8::1"],
    ("plain.test.", "A"): ["192.0.2.9"],
    ("alias.test.", "CNAME"): ["plain.test."],
    ("big.test.", "TXT"): [f'"{"x" * 200}{n}"' for n in range(20)],
}
NAMES = {name for name, _ in ZONE}


def answer(wire: bytes, *, udp: bool) -> bytes:
    query = dns.message.from_wire(wire)
    (question,) = query.question
    response = dns.message.make_response(query)
    name = question.name.to_text().lower()
    kind = question.rdtype.name
    if name == "broken.test.":
        response.set_rcode(dns.rcode.SERVFAIL)
    elif name == "big.test." and udp:
        response.flags |= dns.flags.TC
    elif (name, "CNAME") in ZONE:
        (target,) = ZONE[name, "CNAME"]
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
        if (target, kind) in ZONE:
            response.answer.append(dns.rrset.from_text_list(target, 60, "IN", kind, ZONE[target, kind]))
    elif (name, kind) in ZONE:
        response.answer.append(dns.rrset.from_text_list(name, 60, "IN", kind, ZONE[name, kind]))
    elif name not in NAMES:
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire(max_size=65_535)


class OverUDP(DatagramProtocol):
    def __init__(self) -> None:
        self.asked = 0
        self.silent = False

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.asked += 1
        if not self.silent:
            strange = bytes([datagram[0] ^ 1]) + answer(datagram, udp=True)[1:]
            self.transport.write(strange, addr)  # type: ignore[union-attr]
            self.transport.write(answer(datagram, udp=True), addr)  # type: ignore[union-attr]


class OverTCP(Protocol):
    def dataReceived(self, data: bytes) -> None:
        wire = answer(data[2:], udp=False)
        self.transport.write(len(wire).to_bytes(2, "big") + wire)  # type: ignore[union-attr]


class ResolverCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.udp = OverUDP()
        tcp = reactor.listenTCP(0, Factory.forProtocol(OverTCP), interface="127.0.0.1")
        self.addCleanup(tcp.stopListening)
        self.server = ("127.0.0.1", tcp.getHost().port)
        port = reactor.listenUDP(self.server[1], self.udp, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.resolver = self.make([self.server])

    def make(self, servers: list[tuple[str, int]], **more: Any) -> Resolver:
        return Resolver(reactor, servers, hosts={"Here.test": ["127.0.0.1"]}, timeout=0.3, chance=random.Random(1), **more)

    async def fails(self, awaitable: Any) -> ResolveError:
        try:
            await awaitable
        except ResolveError as error:
            return error
        raise AssertionError("it did not fail")

    async def test_addresses(self) -> None:
        """Would catch a family left out, a wrong order, literals or told names asked of DNS, CNAMEs not followed."""
        six, *four = await self.resolver.addresses("A.mx.test.")
        assert six == "2001:db8::1"
        assert sorted(four) == ["192.0.2.1", "192.0.2.2"], "in the order of the answer, which servers shuffle"
        assert list(await self.resolver.addresses("alias.test")) == ["192.0.2.9"]
        asked = self.udp.asked
        assert list(await self.resolver.addresses("here.test")) == ["127.0.0.1"]
        assert list(await self.resolver.addresses("[IPv6:2001:DB8::5]")) == ["2001:db8::5"]
        assert list(await self.resolver.addresses("192.0.2.77")) == ["192.0.2.77"]
        assert self.udp.asked == asked

    async def test_mail_hosts(self) -> None:
        """Would catch MX out of order, the implicit MX, or a null MX that is dialled (RFC 5321 section 5.1, RFC 7505)."""
        hosts = await self.resolver.mail_hosts("mx.test")
        assert {h.name for h in hosts[:2]} == {"a.mx.test", "c.mx.test"}
        assert hosts[2] == Host("b.mx.test")
        assert list(await self.resolver.mail_hosts("plain.test")) == [Host("plain.test")]
        assert list(await self.resolver.mail_hosts("[192.0.2.4]")) == [Host("192.0.2.4")]
        for name in ("null.test", "gone.test", "a..b", "x" * 70 + ".test"):
            error = await self.fails(self.resolver.mail_hosts(name))
            assert error.permanent, name

    async def test_trouble_is_not_permanent(self) -> None:
        """Would catch mail bounced because DNS was down for a moment."""
        assert not (await self.fails(self.resolver.mail_hosts("broken.test"))).permanent
        self.udp.silent = True
        error = await self.fails(self.resolver.addresses("a.mx.test"))
        assert not error.permanent
        assert not (await self.fails(self.make([]).addresses("a.mx.test"))).permanent

    async def test_next_server(self) -> None:
        """Would catch a resolver that gives up with its first server."""
        dead = reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        self.addCleanup(dead.stopListening)
        resolver = self.make([("127.0.0.1", dead.getHost().port), self.server])
        assert list(await resolver.addresses("plain.test")) == ["192.0.2.9"]

    async def test_truncated_answers_are_asked_for_again(self) -> None:
        """Would catch a cut answer taken for the whole."""
        assert len(await self.resolver.records("big.test", "TXT")) == 20

    async def test_answers_are_kept(self) -> None:
        """Would catch a question to DNS for each message."""
        await self.resolver.addresses("plain.test")
        asked = self.udp.asked
        await self.resolver.addresses("plain.test")
        assert self.udp.asked == asked


def test_small_things() -> None:
    """Would catch a wrong reading of literals and resolv.conf, and families that do not take turns."""
    assert literal("[IPv6:::1]") == "::1"
    assert literal("localhost") == ""
    assert alternate(["6a", "6b"], ["4a"]) == ["6a", "4a", "6b"]
    assert system_servers("# x\nnameserver 192.0.2.53\nsearch test\nnameserver fe80::1%eth0\n") == [
        ("192.0.2.53", 53),
        ("fe80::1", 53),
    ]
