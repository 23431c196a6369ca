"""check_host of RFC 7208 over a resolver that knows what it was told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from hornetmail.core.mail.spf import SPF, SPFVerdict
from hornetmail.filter.spf import SenderCheck
from hornetmail.net.resolver import ResolveError
from hornetmail.testing.resolver import FakeResolver

IP = "192.0.2.7"
SENDER = "bob@x.test"

ZONE: dict[tuple[str, str], Any] = {
    ("x.test", "A"): ["192.0.2.7"],
    ("x.test", "AAAA"): ["2001:db8::7"],
    ("x.test", "MX"): ["10 mail.x.test.", "20 ."],
    ("mail.x.test", "A"): ["198.51.100.1", "203.0.113.200"],
    ("mail.x.test", "AAAA"): ["2001:db8:1::1"],
    ("7.2.0.192.in-addr.arpa", "PTR"): ["liar.other.test.", "host.x.test."],
    ("host.x.test", "A"): ["192.0.2.7"],
    ("liar.other.test", "A"): ["192.0.2.8"],
    ("pass.test", "TXT"): ['"v=spf1 ip4:192.0.2.0/24 -all"'],
    ("soft.test", "TXT"): ['"v=spf1 ~all"'],
    ("broken.test", "TXT"): ['"v=spf1 nonsense"'],
    ("bob.x.test.192.0.2.7.pol.test", "A"): ["127.0.0.2"],
    ("client.pol.test", "A"): ["127.0.0.2"],
    ("host.x.test.pol.test", "A"): ["127.0.0.2"],
    ("down.test", "TXT"): ResolveError("no answer"),
    ("down.test", "A"): ResolveError("no answer"),
    ("down.test", "MX"): ResolveError("no answer"),
    ("7.100.51.198.in-addr.arpa", "PTR"): ResolveError("no answer"),
    ("many.test", "MX"): [f"10 m{n}.test." for n in range(11)],
    ("loop.test", "TXT"): ['"v=spf1 include:loop.test"'],
}


def verdict(record: str, ip: str = IP, *, sender: str = SENDER, zone: dict[tuple[str, str], Any] | None = None) -> SPFVerdict:
    """What x.test, publishing ``record``, says of an address."""
    resolver = FakeResolver(zone={**ZONE, ("x.test", "TXT"): [f'"{record}"'], **(zone or {})})
    return run(resolver, ip, sender)


def run(resolver: FakeResolver, ip: str, sender: str) -> SPFVerdict:
    got: list[SPFVerdict] = []
    Deferred.fromCoroutine(SenderCheck(Clock(), resolver).spf(ip, "client", sender)).addCallback(got.append)
    return got[0]


@pytest.mark.parametrize(
    ("terms", "ip", "result"),
    [
        ("+all", IP, SPF.PASS),
        ("-all", IP, SPF.FAIL),
        ("~all", IP, SPF.SOFTFAIL),
        ("?all", IP, SPF.NEUTRAL),
        ("", IP, SPF.NEUTRAL),
        ("ip4:192.0.2.0/29 -all", IP, SPF.PASS),
        ("ip4:192.0.2.0/30 -all", IP, SPF.FAIL),
        ("ip4:192.0.2.7 -all", "::ffff:192.0.2.7", SPF.PASS),
        ("ip6:2001:db8::/32 -all", "2001:db8:5::1", SPF.PASS),
        ("ip6:::/0 -all", IP, SPF.FAIL),
        ("a -all", IP, SPF.PASS),
        ("a -all", "2001:db8::7", SPF.PASS),
        ("a//64 -all", "2001:db8::99", SPF.PASS),
        ("a/24 -all", "192.0.2.99", SPF.PASS),
        ("a -all", "192.0.2.99", SPF.FAIL),
        ("a:mail.x.test -all", "198.51.100.1", SPF.PASS),
        ("mx -all", "203.0.113.200", SPF.PASS),
        ("mx/24 -all", "203.0.113.1", SPF.PASS),
        ("mx -all", "2001:db8:1::1", SPF.PASS),
        ("mx -all", IP, SPF.FAIL),
        ("ptr -all", IP, SPF.PASS),
        ("ptr:other.test -all", IP, SPF.FAIL),
        ("ptr -all", "198.51.100.7", SPF.FAIL),
        ("exists:%{l}.%{o}.%{i}.pol.test -all", IP, SPF.PASS),
        ("exists:%{l}.%{o}.%{i}.pol.test -all", "192.0.2.8", SPF.FAIL),
        ("exists:%{h}.pol.test -all", IP, SPF.PASS),
        ("exists:%{p}.pol.test -all", IP, SPF.PASS),
        ("exists:%{p}.pol.test -all", "203.0.113.9", SPF.FAIL),
        (f"a:{'a' * 64}.test -all", IP, SPF.FAIL),
        ("include:pass.test -all", IP, SPF.PASS),
        ("include:pass.test ~all", "203.0.113.9", SPF.SOFTFAIL),
        ("include:soft.test ?all", IP, SPF.NEUTRAL),
        ("include:broken.test +all", IP, SPF.PERMERROR),
        ("include:nothing.test +all", IP, SPF.PERMERROR),
        ("include:down.test +all", IP, SPF.TEMPERROR),
        ("a:down.test +all", IP, SPF.TEMPERROR),
        ("mx:down.test +all", IP, SPF.TEMPERROR),
        ("redirect=pass.test", IP, SPF.PASS),
        ("redirect=pass.test", "203.0.113.9", SPF.FAIL),
        ("redirect=pass.test ?all", "203.0.113.9", SPF.NEUTRAL),
        ("redirect=nothing.test", IP, SPF.PERMERROR),
        ("-all exp=nothing.test", IP, SPF.FAIL),
        ("+all nonsense", IP, SPF.PERMERROR),
        ("mx:many.test +all", IP, SPF.PERMERROR),
        ("include:loop.test +all", IP, SPF.PERMERROR),
    ],
)
def test_mechanisms(terms: str, ip: str, result: SPF) -> None:
    """A pass where there is none is backscatter, the reverse is a sender who never hears (rule 6; RFC 7208 sections 4 to 7)."""
    assert verdict(f"v=spf1 {terms}", ip).result is result


@pytest.mark.parametrize(
    ("sender", "ip", "result"),
    [
        ("a@nothing.test", IP, SPF.NONE),
        ("a@soft.test", IP, SPF.SOFTFAIL),
        ("a@localhost", IP, SPF.NONE),
        ("a@[192.0.2.7]", IP, SPF.NONE),
        ('""@pass.test', IP, SPF.PASS),
        ("nobody", IP, SPF.NONE),
        ("a@pass.test", "no address", SPF.NONE),
        ("a@pass.test", "fe80::1%eth0", SPF.FAIL),
        ("a@down.test", IP, SPF.TEMPERROR),
    ],
)
def test_who_asks(sender: str, ip: str, result: SPF) -> None:
    """Whatever stands in an envelope gets a verdict, never an exception."""
    assert run(FakeResolver(zone=ZONE), ip, sender).result is result


def test_reasons() -> None:
    """An administrator who sees a held message has to learn from it what to tell whom."""
    assert verdict("v=spf1 ~all").why == "SPF of x.test says softfail for 192.0.2.7"
    assert run(FakeResolver(), IP, SENDER).why == "x.test has no SPF record"
    assert verdict("v=spf1 foo:bar").why == "SPF of x.test cannot be used: x.test: 'foo:bar' is no term of SPF"
    assert verdict("v=spf1 include:down.test").why == "SPF of x.test cannot be looked up now: no answer"


def test_ten_lookups() -> None:
    """Section 4.6.4: the eleventh term that asks DNS ends it, across includes; ip4 and all are free."""
    zone: dict[tuple[str, str], Any] = {("five.test", "TXT"): ['"v=spf1 a:x.test a:x.test a:x.test a:x.test a:x.test"']}
    other = "203.0.113.9"
    ten = "v=spf1 include:five.test ip4:198.51.100.0/24 a a a a"
    assert verdict(f"{ten} -all", other, zone=zone).result is SPF.FAIL
    assert verdict(f"{ten} a -all", other, zone=zone).result is SPF.PERMERROR
    assert verdict(f"{ten} redirect=pass.test", other, zone=zone).result is SPF.PERMERROR


def test_two_voids() -> None:
    """Section 4.6.4: the third answer without a record ends it."""
    assert verdict("v=spf1 a:n1.test exists:n2.test -all").result is SPF.FAIL
    assert verdict("v=spf1 a:n1.test mx:n2.test exists:n3.test +all").result is SPF.PERMERROR


def test_non_ascii_local_part() -> None:
    """RFC 8616 section 4: a term with such a local part matches nothing, and asks for nothing."""
    resolver = FakeResolver(zone={("x.test", "TXT"): ['"v=spf1 exists:%{l}.x.test ~all"']})
    assert run(resolver, IP, "bärbel@x.test").result is SPF.SOFTFAIL
    assert resolver.asked == ["x.test TXT"]


def test_local_part_is_no_zone_file() -> None:
    """A backslash in a quoted local part is a character of the name asked for, and hides no dot."""
    resolver = FakeResolver(zone={("x.test", "TXT"): ['"v=spf1 exists:%{l}.x.test ~all"']})
    run(resolver, IP, '"a\\\\b"@x.test')
    assert resolver.asked[1] == "a\\\\b.x.test A"


class Hanging(FakeResolver):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: list[str] = []

    async def records(self, name: str, kind: str) -> Any:
        """See IResolver."""
        waiting: Deferred[Any] = Deferred(lambda _: self.cancelled.append(name))
        return await waiting


def test_twenty_seconds() -> None:
    """Section 4.6.4: DNS that answers slowly keeps an attempt no longer than that, and is asked no more."""
    clock, resolver = Clock(), Hanging()
    got: list[SPFVerdict] = []
    Deferred.fromCoroutine(SenderCheck(clock, resolver).spf(IP, "client", SENDER)).addCallback(got.append)
    clock.advance(19.9)
    assert not got
    clock.advance(0.2)
    assert got[0].result is SPF.TEMPERROR
    assert resolver.cancelled == ["x.test"]


def test_side_by_side() -> None:
    """Many senders with name servers that hang would keep all deliveries from ending."""
    clock, got = Clock(), list[SPFVerdict]()
    check = SenderCheck(clock, Hanging())
    for _ in range(17):
        Deferred.fromCoroutine(check.spf(IP, "client", SENDER)).addCallback(got.append)
    assert [each.result for each in got] == [SPF.TEMPERROR]
    clock.advance(21)
    assert len(got) == 17
    Deferred.fromCoroutine(check.spf(IP, "client", SENDER)).addCallback(got.append)
    assert len(got) == 17, "there is room again"
    clock.advance(21)


DOMAINS = st.sampled_from(
    ["x.test", "y.test", "%{d}", "%{l}.%{d}", "%{p}.test", "down.test", "many.test", "%{i}.%{v}.x.test", "nothing.test"]
)
TERMS = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(["a", "mx", "include", "exists", "ptr", "-include", "?a"]), DOMAINS),
    st.builds("redirect={}".format, DOMAINS),
    st.sampled_from(["all", "-all", "a", "mx", "ptr", "ip4:192.0.2.1", "ip6:::1", "exp=%{d}", "nonsense", "x=y"]),
    st.text(st.characters(codec="ascii", exclude_characters='"\\\r\n\t'), max_size=10),
)
RECORDS = st.lists(TERMS, max_size=20).map(lambda terms: "v=spf1 " + " ".join(terms))


@given(RECORDS, RECORDS, st.sampled_from([IP, "2001:db8::1", "198.51.100.7"]))
def test_any_record(one: str, other: str, ip: str) -> None:
    """Two strangers' records that refer to one another: always a verdict, never more questions than the limits add up to."""
    texts: dict[tuple[str, str], Any] = {
        (name, "TXT"): [f'"{part}"' for part in [text[:250]]]
        for name, text in (("x.test", one), ("y.test", other))
        if text.isprintable()
    }
    resolver = FakeResolver(zone={**ZONE, **texts})
    assert run(resolver, ip, SENDER).why
    assert len(resolver.asked) <= 1 + 10 * 11 + 11
