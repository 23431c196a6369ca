"""Mailboxes as text (RFC 5321 section 4.1.2, RFC 6531)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.mail import address
from hornetmail.core.mail.address import Address, AddressError, domain_of, fold_domain, in_a_labels, key_of, parse, quote_local

LABEL = "a" * 63


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("Bob@Example.TEST", "Bob", "example.test"),
        ("a.b.c@x.test.", "a.b.c", "x.test"),
        ('"a b"@x.test', "a b", "x.test"),
        ('""@x.test', "", "x.test"),
        (r'"a\"b\\c"@x.test', 'a"b\\c', "x.test"),
        ('"~ !"@x.test', "~ !", "x.test"),
        ('"a@b"@x.test', "a@b", "x.test"),
        ("bob@[192.0.2.1]", "bob", "[192.0.2.1]"),
        ("bücher@bücher.test", "bücher", "xn--bcher-kva.test"),
        ("\x80@x.test", "\x80", "x.test"),
        (f"bob@{LABEL}.test", "bob", f"{LABEL}.test"),
        ("bob@a-b_c.test", "bob", "a-b_c.test"),
        (f"{'x' * 255}@x.test", "x" * 255, "x.test"),
    ],
)
def test_mailboxes(text: str, local: str, domain: str) -> None:
    """Would catch a mailbox that exists somewhere and is refused, or is read as another one."""
    assert parse(text) == Address(local, domain)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bob", "no @"),
        ("@x.test", "not a local part"),
        ("a..b@x.test", "not a local part"),
        (".a@x.test", "not a local part"),
        ("a.@x.test", "not a local part"),
        ("a b@x.test", "not a local part"),
        ("a\x7f@x.test", "not a local part"),
        ("b(c@x.test", "not a local part"),
        ('"@x.test', "unbalanced quotes"),
        ('"a@x.test', "unbalanced quotes"),
        ('"a\\"@x.test', "unbalanced quotes"),
        ('"a"b"@x.test', "not a quoted local part"),
        ('"a\x1fb"@x.test', "not a quoted local part"),
        ('"a\x7fb"@x.test', "not a quoted local part"),
        ('"a\\\nb"@x.test', "not a quoted local part"),
        (f"{'x' * 256}@x.test", "longer than 255"),
        (f"{'ü' * 128}@x.test", "longer than 255"),
        ("bob@", "not a domain"),
        ("bob@.", "not a domain"),
        ("bob@a..b", "not a domain"),
        ("bob@.a", "not a domain"),
        ("bob@-a.test", "not a domain"),
        ("bob@a-.test", "not a domain"),
        ("bob@a b.test", "not a domain"),
        ("bob@a!.test", "not a domain"),
        (f"bob@{LABEL}a.test", "not a domain"),
        (f"bob@{'ü' * 64}.test", "not a domain"),
        ("bob@[192.0.2.1", "not an address literal"),
    ],
)
def test_no_mailboxes(text: str, why: str) -> None:
    """Would catch a text that is no mailbox and is taken for one: it would go into a header or a command as it is (rule 8)."""
    with pytest.raises(AddressError, match=why):
        parse(text)


@pytest.mark.parametrize("length", [255, 256])
def test_the_longest_domain(length: int) -> None:
    """RFC 5321 section 4.5.3.1.2: 255 octets, and not one more."""
    name = ".".join(["a" * 49] * 5 + ["b" * (length - 250)])
    assert len(name) == length
    if length == 255:
        assert fold_domain(name) == name
    else:
        with pytest.raises(AddressError):
            fold_domain(name)


@pytest.mark.parametrize(
    ("local", "shown"),
    [
        ("bob", "bob"),
        ("a.b", "a.b"),
        ("bü", "bü"),
        ("\x80", "\x80"),
        ("", '""'),
        ("a..b", '"a..b"'),
        (".a", '".a"'),
        ("a b", '"a b"'),
        ("a\x7fb", '"a\x7fb"'),
        ('a"\\b', '"a\\"\\\\b"'),
    ],
)
def test_quoted_where_it_must_be(local: str, shown: str) -> None:
    """Would catch a local part that is another address, or two words of a command, once it is written down."""
    assert quote_local(local) == shown
    assert str(Address(local, "x.test")) == f"{shown}@x.test"


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=("Cs",)), max_size=60))
def test_written_and_read_again(local: str) -> None:
    """What is written on the wire is read as the same mailbox, whatever stands in its local part."""
    assert parse(str(Address(local, "x.test"))) == Address(local, "x.test")


def test_keys_and_domains_of_any_text() -> None:
    """Would catch one mailbox under two keys, and a text from outside that raises where nobody expects it."""
    assert key_of("BOB@X.test") == key_of('"bob"@x.TEST.') == "bob@x.test"
    assert key_of("Not An Address") == "not an address"
    assert domain_of("bob@X.test.") == "x.test"
    assert domain_of("bob") == domain_of("bob@-") == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bob@bücher.test", "bob@xn--bcher-kva.test"),
        ("Bob@Plain.test", "Bob@Plain.test"),
        ("bü@bücher.test", "bü@bücher.test"),
        ("bücher.test", "bücher.test"),
        (f"bob@{'ü' * 64}.test", f"bob@{'ü' * 64}.test"),
    ],
)
def test_ascii_where_only_the_domain_is_in_the_way(text: str, wanted: str) -> None:
    """RFC 6531 section 3.2: a server without SMTPUTF8 takes the A-labels of a domain, and never another local part."""
    assert in_a_labels(text) == wanted


def test_many_are_remembered_but_not_all() -> None:
    """The memory of parsed mailboxes is bounded: strangers choose what is parsed."""
    assert address.parse.cache_info().maxsize == 4096
