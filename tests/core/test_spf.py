"""The grammar and the macros of SPF records (RFC 7208)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.mail.spf import (
    SPF,
    Directive,
    Kind,
    SPFSyntaxError,
    asks_for,
    expand,
    macro_address,
    parse,
    select,
    usable_name,
)

MACROS = {
    "s": "strong-bad@email.example.com",
    "l": "strong-bad",
    "o": "email.example.com",
    "d": "email.example.com",
    "i": "192.0.2.3",
    "v": "in-addr",
    "h": "mx.email.example.com",
    "p": "mx.example.org",
}


def test_selected() -> None:
    """Section 4.5: another record that only begins like one, a second one, or the strings' order."""
    assert select([]) is None
    assert select([b"v=spf10 -all", b"v=spf", b"x"]) is None
    assert select([b"other", b"V=SPF1"]) == "V=SPF1"
    for several in ([b"v=spf1", b"v=spf1 -all"], [b"v=spf1 a:\xc3\xa4.test"]):
        with pytest.raises(SPFSyntaxError):
            select(several)


def test_terms() -> None:
    """Every mechanism, every qualifier, prefix lengths, and modifiers wherever they stand."""
    record = parse(
        "v=spf1  redirect=r.test A ~mx/24//64 -include:i.test ?exists:%{i}.e.test a:a.test//32 ptr +PTR:p.test x=%{l} exp=e.test -all "
    )
    assert record.redirect == "r.test"
    assert record.directives == (
        Directive(SPF.PASS, Kind.A),
        Directive(SPF.SOFTFAIL, Kind.MX, "", 24, 64),
        Directive(SPF.FAIL, Kind.INCLUDE, "i.test"),
        Directive(SPF.NEUTRAL, Kind.EXISTS, "%{i}.e.test"),
        Directive(SPF.PASS, Kind.A, "a.test", 32, 32),
        Directive(SPF.PASS, Kind.PTR),
        Directive(SPF.PASS, Kind.PTR, "p.test"),
        Directive(SPF.FAIL, Kind.ALL),
    )
    four, six = parse("v=spf1 ip4:192.0.2.7/24 ip6:2001:db8::/32").directives
    assert four.network == ipaddress.ip_network("192.0.2.0/24")
    assert six.network == ipaddress.ip_network("2001:db8::/32")


@pytest.mark.parametrize(
    "term",
    [
        "foo", "foo:bar.test", "all:x", "-", "+-all", "all/8", "a:", "a:/24", "a/33", "a/024", "a/", "a/x.test", "mx/x.test", "mx//129", "a:x", "a:x.1", "a:x.-y",
        "a:x.test:25", "a:%{z}.test", "a:%{d0}", "a:%{d", "a:%x.test", "a:%{c}.test", "include", "include:", "exists", "exists:x.test/24", "ptr/0", "ip4", "ip4:",
        "ip4:192.0.2.1/33", "ip4:192.0.2", "ip4:2001:db8::1", "ip4:192.0.2.1/", "ip6:192.0.2.1", "ip6:fe80::1%eth0", "ip6:::/129", "redirect=", "redirect:x.test",
        "redirect=x.test redirect=x.test", "exp=", "x=%", "1x=y", "\tall", "a:ü.test",
    ],
)  # fmt: skip
def test_no_term(term: str) -> None:
    """Section 4.6: an error anywhere, behind ``all`` too, makes the whole record useless; a forger would profit from guessing."""
    with pytest.raises(SPFSyntaxError):
        parse(f"v=spf1 +all {term}")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l-}", "strong.bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{D002}", "example.com"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}.", "bad.strong.lp._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%{h1}%%%_%-.%{p2}", "com% %20.example.org"),
    ],
)
def test_macros(text: str, meant: str) -> None:
    """Section 7.4: a policy by address or local part asks another name than the domain meant."""
    assert expand(text, MACROS) == meant


def test_ipv6_macro() -> None:
    """Section 7.4's address by nibbles."""
    address = ipaddress.ip_address("2001:db8::cb01")
    expected = "2.0.0.1.0.d.b.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.b.0.1"
    assert macro_address(address) == expected


def test_long_names_lose_labels_on_the_left() -> None:
    """Section 7.3: what DNS does not take is cut, not refused."""
    out = expand("%{d}.tail.test", {"d": ".".join(["a" * 50] * 6)})
    assert out == ".".join(["a" * 50] * 4) + ".tail.test"
    assert asks_for("x.%{P1r}", "p")
    assert not asks_for("p.%%{p", "p")


@pytest.mark.parametrize("name", ["", "a..b", "." + "a", "a" * 64 + ".b", "ä.test", ".".join(["a" * 50] * 6)])
def test_unusable_names(name: str) -> None:
    """Section 4.8: such a name is not asked for."""
    assert not usable_name(name)


WORDS = st.sampled_from(
    [
        "all",
        "a",
        "mx",
        "ptr",
        "ip4:",
        "ip6:",
        "include:",
        "exists:",
        "redirect=",
        "exp=",
        "%{",
        "}",
        "%%",
        "%{d2r}",
        "%{l1-}",
        ".",
        "..",
        "/",
        "//",
        "24",
        "192.0.2.1",
        "::1",
        "x.test",
        "-",
        "~",
        "?",
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=12).map("".join), st.lists(WORDS, max_size=12).map(" ".join)))
def test_any_text(text: str) -> None:
    """A record is a stranger's text: it is parsed or refused, and what is parsed can be expanded to something of bounded length."""
    try:
        record = parse("v=spf1 " + text)
    except SPFSyntaxError:
        return
    for domain in (record.redirect, *(each.domain for each in record.directives)):
        out = expand(domain, MACROS)
        assert len(out) <= 253 or "." not in out


def test_names_at_their_bounds() -> None:
    """Section 4.3: 63 characters a label and 253 in all are asked for, and one more of either is not."""
    assert usable_name("a" * 63 + ".b")
    longest = ".".join(["a" * 50] * 4 + ["b" * 49])
    assert len(longest) == 253
    assert usable_name(longest)
    assert expand("%{d}", {"d": longest}) == longest
    assert not usable_name(longest + "b")
    assert expand("%{d}", {"d": longest + "b"}) == longest.partition(".")[2] + "b"
    assert expand("%{d}", {"d": "a" * 300}) == "a" * 300, "one label cannot be cut; it is not asked for"


def test_lengths_at_their_bounds() -> None:
    """Section 5.6: /0 and /32, /128 are lengths, and what is said of one family says nothing of the other."""
    four, six, both = parse("v=spf1 a/0 a//0 mx/32//128").directives
    assert [(each.four, each.six) for each in (four, six, both)] == [(0, 128), (32, 0), (32, 128)]
    networks = [each.network for each in parse("v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ip4:0.0.0.0/0 ip6:::/128").directives]
    assert [str(each) for each in networks] == ["192.0.2.1/32", "2001:db8::1/128", "0.0.0.0/0", "::/128"]
