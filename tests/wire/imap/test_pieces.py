"""Names, sequence sets, dates, strings, sections: the pure pieces of IMAP."""

from __future__ import annotations

import imaplib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.mime.structure import scan
from hornetmail.wire.imap.answers.render import flag_list, mailbox_name, nstring, string
from hornetmail.wire.imap.answers.structure import body_structure, cut, envelope, pick_fields, span
from hornetmail.wire.imap.requests.items import parse_items
from hornetmail.wire.imap.tokens.dates import day_of, parse_date, parse_date_time, render_date_time
from hornetmail.wire.imap.tokens.grammar import Bad, Cursor
from hornetmail.wire.imap.tokens.names import Pattern, decode_name, encode_name
from hornetmail.wire.imap.tokens.sequences import compressed, parse_sequence_set, spans_of_numbers, spans_of_uids
from tests.strategies import any_bytes

NUMBER = st.integers(1, 30)
SET = st.lists(
    st.one_of(NUMBER.map(str), st.just("*"), st.tuples(NUMBER, NUMBER).map("{0[0]}:{0[1]}".format), NUMBER.map("{}:*".format)),
    min_size=1,
)


@pytest.mark.parametrize("raw", ["a\x85b", "a\u2028b", "a\u2029b", "\x9f"])
def test_names_that_nobody_can_read(raw: str) -> None:
    """RFC 6855 section 3: catches control characters and ends of lines in the names of mailboxes, in any spelling."""
    for name, utf8 in ((raw.encode(), True), (raw.encode(), False), (encode_name(raw), False)):
        with pytest.raises(ValueError, match="control character"):
            decode_name(name, utf8=utf8)


def test_quoted_strings_are_utf8_once_it_was_enabled() -> None:
    """RFC 6855 section 3: catches other octets let in, and refused where nobody spoke of UTF-8."""
    assert Cursor('"Grüße"'.encode(), utf8=True).string() == "Grüße".encode()
    with pytest.raises(Bad, match="UTF-8 expected"):
        Cursor(b'"Gr\xfc\xdfe"', utf8=True).string()
    assert Cursor(b'"Gr\xfc\xdfe"').string() == b"Gr\xfc\xdfe"


@settings(max_examples=100)
@given(SET, st.sets(NUMBER))
def test_sequence_sets_against_brute_force(parts: list[str], present: set[int]) -> None:
    """Catches ranges that are reversed, overlap, or use ``*`` and come out wrong (RFC 3501 section 9)."""
    wanted = parse_sequence_set(",".join(parts).encode())
    assert wanted is not None
    uids = sorted(present)

    def named(top: int) -> set[int]:
        found: set[int] = set()
        for part in parts:
            low, _, high = part.replace("*", str(top)).partition(":")
            a, b = int(low), int(high or low)
            found |= set(range(min(a, b), max(a, b) + 1))
        return found

    if uids:
        picked = [uids[n] for start, end in spans_of_uids(wanted, uids) for n in range(start, end)]
        assert picked == sorted(named(uids[-1]) & present)
        numbers = [n + 1 for start, end in spans_of_numbers(wanted, len(uids)) for n in range(start, end)]
        assert numbers == [n for n in sorted(named(len(uids))) if n <= len(uids)]
    else:
        assert spans_of_uids(wanted, uids) == spans_of_numbers(wanted, 0) == []


@pytest.mark.parametrize("raw", [b"", b"0", b"1,", b",1", b"1:", b":1", b"1::2", b"4294967296", b"1:2:3", b"**", b"01"])
def test_no_sequence_sets(raw: bytes) -> None:
    """Catches sloppy sets that are taken."""
    assert parse_sequence_set(raw) is None


def test_long_sets_are_quick() -> None:
    """Catches quadratic parsing (findings: 1 s for 2,000 numbers in twisted.mail), and ranges being spelled out."""
    raw = b",".join(b"%d" % n for n in range(1, 100_000, 2))
    before = time.thread_time()
    wanted = parse_sequence_set(raw)
    assert wanted is not None
    assert len(spans_of_numbers(wanted, 4_000_000_000)) == 50_000
    assert time.thread_time() - before < 2


@given(st.lists(NUMBER, unique=True).map(sorted))
def test_compressed_sets_say_the_same(numbers: list[int]) -> None:
    """Catches COPYUID and ESEARCH answers that name other messages."""
    raw = compressed(numbers)
    if not numbers:
        assert raw == b""
        return
    wanted = parse_sequence_set(raw)
    assert wanted is not None
    assert [n for low, high in wanted.ranges for n in range(low, (high or low) + 1)] == numbers


@settings(max_examples=100)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30))
def test_names_round_trip(name: str) -> None:
    """Catches mailbox names that change on their way (RFC 3501 section 5.1.3)."""
    raw = encode_name(name)
    assert raw.isascii()
    back = decode_name(raw)
    assert back == name or back[:5] == "INBOX" == name[:5].upper()
    cursor = Cursor(mailbox_name(name))
    assert cursor.astring() == raw


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
        (b"&-", "&"),
        (b"a&AOQ-b", "aäb"),
        (b"inBox", "INBOX"),
        (b"inbox/x", "INBOX/x"),
        (b"inboxes", "inboxes"),
        ("Entwürfe".encode(), "Entwürfe"),
    ],
)
def test_known_names(raw: bytes, name: str) -> None:
    """Catches a codec that agrees only with itself; the first one is the RFC's."""
    assert decode_name(raw) == name


@pytest.mark.parametrize("raw", [b"&", b"&AOQ", b"&!!-", b"&A-", b"\xff", b"a\nb", b"&2AA-"])
def test_broken_names(raw: bytes) -> None:
    """Catches half a surrogate, broken base64 and control characters that come through."""
    with pytest.raises(ValueError):
        decode_name(raw)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "a/b", True),
        ("%", "a/b", False),
        ("%", "a", True),
        ("a/%", "a/b", True),
        ("a%/b", "axx/b", True),
        ("*b", "a/b", True),
        ("inbox", "INBOX", True),
        ("Inbox/%", "INBOX/x", True),
        ("a*c", "abd", False),
        ("", "a", False),
        ("%%%a", "a", True),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    """Catches wrong wildcards (RFC 3501 section 6.3.8)."""
    assert Pattern(pattern).matches(name) is matches


def test_patterns_do_not_explode() -> None:
    """Catches exponential matching of hostile patterns."""
    before = time.thread_time()
    assert not Pattern("*a" * 200 + "b").matches("a" * 900)
    assert time.thread_time() - before < 3


@given(st.integers(-2_000_000_000, 30_000_000_000))
def test_dates_round_trip(moment: int) -> None:
    """Catches INTERNALDATE that comes back as another moment."""
    quoted = render_date_time(float(moment))
    assert parse_date_time(quoted.strip(b'"')) == moment
    assert parse_date(quoted[1:12].strip()) == day_of(float(moment))


def test_dates_of_others() -> None:
    """Catches a format that only we understand."""
    assert parse_date_time(imaplib.Time2Internaldate(1_700_000_000).strip('"').encode()) == 1_700_000_000
    assert parse_date_time(b" 1-Feb-2024 00:00:00 -0130") == 1_706_751_000
    for raw in (b"31-Feb-2024 00:00:00 +0000", b"1-Foo-2024 00:00:00 +0000", b"1-Feb-2024 25:00:00 +0000", b""):
        assert parse_date_time(raw) is None


@settings(max_examples=100)
@given(any_bytes(40))
def test_strings_are_read_back(raw: bytes) -> None:
    """Catches quoting that changes a string, or 8-bit bytes in quotes."""
    out = string(raw)
    assert Cursor(out).string() == raw.replace(b"\0", b"")
    assert out[:1] == b"{" or out.isascii()
    assert nstring(None) == b"NIL"


def test_flag_lists() -> None:
    """Catches an order that changes from run to run."""
    assert flag_list(frozenset({"b", "a", "\\Seen", "\\Answered"})) == b"(\\Answered \\Seen a b)"


NESTED = (
    b"From: a@x.test\r\nSubject: outer\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n"
    b"--o\r\n\r\nplain\r\n"
    b"--o\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n\r\none\r\n--i\r\nContent-Type: text/html\r\n\r\n<b>two</b>\r\n--i--\r\n"
    b"\r\n--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: leaf\r\n\r\nleaf body\r\n--o--\r\n"
)


def section(text: str, data: bytes = NESTED) -> bytes | None:
    """The bytes of ``BODY[text]``."""
    (wanted,) = parse_items(Cursor(b"BODY.PEEK" + text.encode())).sections
    found = span(scan(data), wanted)
    if found is None:
        return None
    if wanted.fields:
        out = pick_fields(data[slice(*found)], wanted)
        return out[slice(*cut(wanted, 0, len(out)))]
    return data[slice(*cut(wanted, *found))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", NESTED),
        ("[HEADER]", NESTED[: NESTED.index(b"--o")]),
        ("[TEXT]<2.1>", b"o"),
        ("[1]", b"plain"),
        ("[1.MIME]", b"\r\n"),
        ("[1.1]", None),
        ("[2.MIME]", b"Content-Type: message/rfc822\r\n\r\n"),
        ("[2.HEADER]", b"Subject: inner\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"),
        ("[2.HEADER.FIELDS (subject)]", b"Subject: inner\r\n\r\n"),
        ("[2.HEADER.FIELDS.NOT (subject)]<0.7>", b"Content"),
        ("[2.1]", b"one"),
        ("[2.2]", b"<b>two</b>"),
        ("[2.2.MIME]", b"Content-Type: text/html\r\n\r\n"),
        ("[2.3]", None),
        ("[3]", b"Subject: leaf\r\n\r\nleaf body"),
        ("[3.1]", b"leaf body"),
        ("[3.TEXT]", b"leaf body"),
        ("[3.1.1]", None),
        ("[4]", None),
        ("[1.HEADER]", None),
    ],
)
def test_sections(text: str, expected: bytes | None) -> None:
    """Catches part numbers that name other bytes (RFC 3501 section 6.4.5, the example's rules)."""
    assert section(text) == expected


def test_single_part() -> None:
    """Catches BODY[1] of a message that is no multipart."""
    data = b"Subject: s\r\nX: a\r\n b\r\n\r\nbody\r\n"
    assert section("[1]", data) == b"body\r\n"
    assert section("[2]", data) is None
    assert section("[HEADER.FIELDS (x)]", data) == b"X: a\r\n b\r\n\r\n"
    assert section("[HEADER.FIELDS.NOT (x)]", data) == b"Subject: s\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"BODY[",
        b"BODY[MIME]",
        b"BODY[1.]",
        b"BODY[.1]",
        b"BODY[0]",
        b"BODY[1..2]",
        b"BODY[]<1>",
        b"BODY[]<0.0>",
        b"()",
        b"X",
        b"(FAST)",
    ],
)
def test_no_items(raw: bytes) -> None:
    """Catches sloppy items that are taken."""
    with pytest.raises(Bad):
        parse_items(Cursor(raw)) and Cursor(raw).end()


def test_structures() -> None:
    """Catches a BODYSTRUCTURE in the wrong order (RFC 3501 section 7.4.2)."""
    root = scan(NESTED)
    routed = scan(b"From: <@one.test,@two.test:a@x.test>\r\n\r\nx").summary
    assert envelope(routed).startswith(b'(NIL NIL ((NIL "@one.test,@two.test" "a" "x.test"))')
    assert envelope(root.summary).startswith(b'(NIL "outer" ((NIL NIL "a" "x.test"))')
    plain = body_structure(root, extended=False)
    assert plain.startswith(b'(("TEXT" "PLAIN" ("charset" "us-ascii") NIL NIL "7BIT" 5 1)("MESSAGE" "RFC822" NIL NIL NIL "7BIT" ')
    assert b'(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL) (("TEXT" "PLAIN"' in plain
    assert plain.endswith(b' "MIXED")')
    assert body_structure(root, extended=True).endswith(b' "MIXED" ("boundary" "o") NIL NIL NIL)')


def test_envelopes_of_a_root_that_is_a_message() -> None:
    """Catches ENVELOPE that shows the message inside (RFC 3501 section 7.4.2: of the message itself; BODYSTRUCTURE has the inner one)."""
    root = scan(b"Subject: outer\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n")
    assert envelope(root.summary).startswith(b'(NIL "outer" ')
    assert b'(NIL "inner" ' in body_structure(root, extended=False)
    assert b'"outer"' not in body_structure(root, extended=False)


@settings(max_examples=100)
@given(
    st.lists(
        st.sampled_from(
            [
                b"Content-Type: ",
                b"multipart/mixed",
                b"; boundary=x",
                b"\r\n",
                b"--x",
                b"--",
                b"\xff",
                b'"',
                b"message/rfc822",
                b"a: b",
                b"(",
                b"\0",
                b"From: <",
                b"@",
            ]
        )
    ).map(b"".join)
)
def test_any_message_has_a_structure(data: bytes) -> None:
    """Catches messages whose structure cannot be rendered or read back as one parenthesised thing."""
    root = scan(data)
    for rendered in (body_structure(root, True), body_structure(root, False), envelope(root.summary)):
        assert balanced(rendered)


def balanced(data: bytes) -> bool:
    """One parenthesised list, strings skipped."""
    cursor, depth = Cursor(data), 0
    while cursor.peek() >= 0:
        here = cursor.peek()
        if here in (0x22, 0x7B):
            cursor.string()
            continue
        depth += {0x28: 1, 0x29: -1}.get(here, 0)
        cursor.at += 1
        if not depth:
            break
    return depth == 0 and cursor.peek() < 0
