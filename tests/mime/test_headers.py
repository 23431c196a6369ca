"""Fields and what is in them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hornetmail
from hornetmail.core.mail.dates import parse_date
from hornetmail.mime import headers
from hornetmail.mime.headers import Mailaddress, addresses, decode_parameters, decode_text, parameters
from tests.strategies import any_bytes

HEADER = b"Received: one\r\n\tand more\r\nSubject:  folded\r\n text \r\nRECEIVED: two\r\n\r\nSubject: not me\r\n"


def test_fields() -> None:
    """Offsets that do not give back the field's bytes break signatures and partial fetches."""
    found = list(headers.fields(HEADER))
    assert [field.name for field in found] == [b"received", b"subject", b"received"]
    assert b"".join(HEADER[field.start : field.end] for field in found) == HEADER[: headers.header_end(HEADER)[0]]
    assert HEADER[headers.header_end(HEADER)[1] :] == b"Subject: not me\r\n"
    assert headers.first(HEADER, b"Subject") == b"folded text"
    assert headers.every(HEADER, b"received") == [b"one\tand more", b"two"]
    assert headers.first(HEADER, b"Date") is None


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"a@b", [(None, b"a", b"b")]),
        (b'"Doe, J." <j@d.test>, B C <b@c>', [(b"Doe, J.", b"j", b"d.test"), (b"B C", b"b", b"c")]),
        (rb'"a \"q\" b" <x@y>', [(b'a "q" b', b"x", b"y")]),
        (b'"c d"@e', [(None, b"c d", b"e")]),
        (b"x@y (Some (nested) one)", [(b"Some (nested) one", b"x", b"y")]),
        (b"John Q. Public <j@x>", [(b"John Q. Public", b"j", b"x")]),
        (b"<@a,@b:c@d>", [(None, b"c", b"d", b"@a,@b")]),
        (b"X <@a:c@d>, <e@f>", [(b"X", b"c", b"d", b"@a"), (None, b"e", b"f")]),
        (b"a@[192.0.2.1]", [(None, b"a", b"[192.0.2.1]")]),
        (
            b"team: a@b, c@d;, e@f",
            [(None, b"team", None), (None, b"a", b"b"), (None, b"c", b"d"), (None, None, None), (None, b"e", b"f")],
        ),
        (b"undisclosed-recipients:;", [(None, b"undisclosed-recipients", None), (None, None, None)]),
        (b"=?utf-8?Q?J=C3=B6?= <j@x>", [(b"=?utf-8?Q?J=C3=B6?=", b"j", b"x")]),
        (b"MAILER-DAEMON", [(None, b"MAILER-DAEMON", b"")]),
        (b"", []),
        (b", ,", []),
    ],
)
def test_addresses(raw: bytes, wanted: list[tuple[bytes | None, ...]]) -> None:
    """ENVELOPE shows wrong people, or none (RFC 3501 section 7.4.2, RFC 5322 section 3.4)."""
    assert list(addresses(raw)) == [Mailaddress(*one) for one in wanted]


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?Q?J=C3=B6rg?= x", "Jörg x"),
        (b"a =?utf-8?B?w7Y=?=", "a ö"),
        (b"=?utf-8?Q?=C3?= =?utf-8?Q?=B6?=", "ö"),
        (b"=?utf-8?Q?a?=\r\n =?iso-8859-1?Q?=F6?=", "aö"),
        (b"=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"),
        (b"=?iso-2022-jp?B?GyRCRnxLXDhsGyhC?=", "日本語"),
        ("grüße".encode(), "grüße"),
        (b"gr\xfc\xdfe", "grüße"),
        (b"=?nonsense?Q?x?= =?rot13?Q?nop?=", "xnop"),
        (b"=?utf-8?B?!?=", "=?utf-8?B?!?="),
    ],
)
def test_decode_text(raw: bytes, wanted: str) -> None:
    """Subjects shown wrong (RFC 2047)."""
    if raw.endswith(b"B?!?="):
        assert decode_text(raw) in (wanted, "")
    else:
        assert decode_text(raw) == wanted


def test_parameters() -> None:
    """Names of attachments in the three ways they are written (RFC 2045, 2231, and the wrong one)."""
    value, found = parameters(
        b'attachment; filename*0*=utf-8\'en\'a%20b; FileName*1="c.txt";\r\n x="y;\\"z"; n==?utf-8?Q?=C3=B6?=; bare'
    )
    assert value == "attachment"
    assert decode_parameters(found) == {"x": 'y;"z', "n": "ö", "filename": "a bc.txt"}


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"Sun, 22 Nov 2026 17:12:53 +0100", 1795363973.0),
        (b"22 Nov 2026 16:12 GMT", 1795363920.0),
        (b"Sun, 22 Nov 26 11:12:53 EST (comment)", 1795363973.0),
        (b"Thu, 1 Jan 1970 00:00:00 -0000", 0.0),
        (b"Sun, 99 Nov 2026 17:12:53 +0100", None),
        (b"yesterday", None),
        (b"", None),
    ],
)
def test_parse_date(raw: bytes, wanted: float | None) -> None:
    """Dates an hour off, or an exception on nonsense (RFC 5322 section 3.3)."""
    assert parse_date(raw) == wanted


EVIL = [
    b";",
    b"a;",
    b'"',
    b"<",
    b"(",
    b"\\",
    b"a ",
    b" ",
    b"=?",
    b"=?a?q?",
    b"=?a?q??=",
    b"@",
    b",",
    b":;",
    b"a:",
    b"[",
    b"a=",
    b"\r\n ",
]


@pytest.mark.parametrize("evil", EVIL)
def test_linear(evil: bytes) -> None:
    """A megabyte of one thing takes quadratic time in a careless expression: each must do it in a second."""
    data = evil * (1_000_000 // len(evil))
    began = time.thread_time()
    for read in (addresses, parameters, decode_text, headers.message_id, headers.message_ids, parse_date, headers.fields):
        result = read(data)
        if read is headers.fields:
            list(result)  # type: ignore[call-overload]
    assert time.thread_time() - began < 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(EVIL) | any_bytes(6), max_size=40).map(b"".join))
def test_anything(data: bytes) -> None:
    """Nothing raises on nonsense, and text always has a UTF-8 form."""
    addresses(data)
    decode_text(data).encode()
    value, found = parameters(data)
    value.encode()
    for name, text in decode_parameters(found).items():
        (name + text).encode()
    parse_date(data)
    headers.message_id(data)


def test_one_reader_of_each() -> None:
    """A second reader of fields, dates or charsets sees another mail than the first: what is found is not what is shown, or a Bcc stays."""
    product = Path(hornetmail.__file__).parent
    allowed = {
        "core/mail/dates.py": "months and how they are read",
        "mime/charset.py": "charsets by their labels",
        "mime/transfer.py": "the same, piece by piece",
    }
    found: dict[str, list[str]] = {}
    for path in product.rglob("*.py"):
        name = path.relative_to(product).as_posix()
        if name.startswith("testing/"):
            continue
        text = path.read_text()
        for sign in (
            "email.utils",
            "email.parser",
            "decode_header",
            '"Jan"',
            "b'jan",
            'b"jan',
            "codecs.lookup",
            "getincrementaldecoder",
        ):
            if sign in text:
                found.setdefault(name, []).append(sign)
    assert set(found) == set(allowed), found
