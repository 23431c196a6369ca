"""The scanner: right offsets on what mail is, no exception and bounded time on what it is not."""

from __future__ import annotations

import time

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.mime import structure
from hornetmail.mime.structure import DEPTH, Part, scan
from tests.strategies import any_bytes

NESTED = (
    b'From: a@b\r\nContent-Type: multipart/mixed; boundary="xx"\r\n\r\npreamble\r\n--xx\r\n\r\nhello\r\n'
    b"--xx\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: c@d\r\nContent-Type: multipart/alternative; boundary=xxy\r\n\r\n"
    b"--xxy\r\n\r\nA\r\n--xxy\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nQg==\r\n\r\n--xxy--\r\n"
    b'--xx\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Disposition: attachment; filename="a b.pdf"\r\n'
    b"Content-ID: <1@x>\r\nContent-Language: de, en\r\n\r\n%PDF\r\n--xx--\r\nepilogue\r\n"
)


def text(data: bytes, part: Part) -> bytes:
    return data[part.body : part.end]


def test_nested() -> None:
    """Wrong offsets, a boundary that is the prefix of another, the line end before a boundary counted in (RFC 2046 section 5.1.1)."""
    root = scan(NESTED)
    assert (root.type, root.subtype, root.start, root.end) == ("MULTIPART", "MIXED", 0, len(NESTED))
    plain, message, pdf = root.parts
    assert text(NESTED, plain) == b"hello"
    assert plain.lines == 1
    assert plain.params == (("charset", "us-ascii"),)
    assert message.subtype == "RFC822"
    assert message.summary is None
    (inner,) = message.parts
    assert inner.summary is not None
    assert inner.summary.subject == b"inner"
    assert inner.start == message.body
    assert NESTED[inner.start :].startswith(b"Subject: inner")
    assert [text(NESTED, part) for part in inner.parts] == [b"A", b"Qg==\r\n"]
    assert inner.parts[1].encoding == "BASE64"
    assert text(NESTED, pdf) == b"%PDF"
    assert (pdf.disposition, pdf.disposition_params, pdf.id, pdf.language) == (
        "ATTACHMENT",
        (("filename", "a b.pdf"),),
        b"<1@x>",
        ("de", "en"),
    )
    assert NESTED[pdf.start :].startswith(b"Content-Type: application/pdf")


def test_bare_line_feeds() -> None:
    """Files that other programs put into a Maildir have LF line ends."""
    data = NESTED.replace(b"\r\n", b"\n")
    root = scan(data)
    assert [text(data, part) for part in root.parts[1].parts[0].parts] == [b"A", b"Qg==\n"]


def test_missing_last_boundary() -> None:
    """The last part then reaches to the end of its parent, and no further."""
    data = b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\none\r\n--o\r\n\r\ntwo"
    first, second = scan(data).parts
    assert text(data, first.parts[0]) == b"one"
    assert text(data, second) == b"two"


def test_a_boundary_need_only_begin_a_line() -> None:
    """RFC 2046 section 5.1.1, and Dovecot: of a line that goes on behind the boundary clients saw other parts than everybody else. But a longer boundary of
    a part within is that part's, whichever of the two is looked for."""
    data = b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx \t\r\n\r\na\r\n--xxz\r\n\r\nb\r\n--xx--z\r\nc\r\n"
    assert [text(data, part) for part in scan(data).parts] == [b"a", b"b"]
    inner = b"Content-Type: multipart/mixed; boundary=xxz\r\n\r\n--xxz\r\n\r\na\r\n--xxzz\r\n\r\nb\r\n--xxz--\r\n"
    data = b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\n" + inner + b"--xxy\r\n\r\nc\r\n--xx--\r\n"
    first, second = scan(data).parts
    assert [text(data, part) for part in first.parts] == [b"a", b"b"]
    assert text(data, second) == b"c"


def test_empty_parts() -> None:
    """Delimiters that follow one another directly make empty parts, not negative ones."""
    data = b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\n--xx\r\n\r\n--xx\r\n\r\n\r\n--xx--"
    assert [text(data, part) for part in scan(data).parts] == [b"", b"", b""]


def test_multipart_without_parts() -> None:
    """IMAP's body structure has no multipart without parts: the text stays reachable as part 1."""
    for head in (b"multipart/mixed", b"multipart/mixed; boundary=gone"):
        data = b"Content-Type: " + head + b"\r\n\r\ntext\r\n"
        (part,) = scan(data).parts
        assert text(data, part) == b"text\r\n"


def test_digest() -> None:
    """Parts of a digest are messages unless they say otherwise (RFC 2046 section 5.1.5)."""
    data = b"Content-Type: multipart/digest; boundary=xx\r\n\r\n--xx\r\n\r\nSubject: one\r\n\r\nbody\r\n--xx--\r\n"
    (part,) = scan(data).parts
    assert (part.type, part.subtype) == ("MESSAGE", "RFC822")
    (inner,) = part.parts
    assert inner.summary is not None
    assert inner.summary.subject == b"one"


def test_root_is_a_message() -> None:
    """A mail of type MESSAGE/RFC822 has an envelope of its own besides the one of what it holds (RFC 3501 section 7.4.2)."""
    root = scan(b"Subject: outer\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n")
    (inner,) = root.parts
    assert root.summary is not None
    assert inner.summary is not None
    assert (root.summary.subject, inner.summary.subject) == (b"outer", b"inner")


def test_headers_end() -> None:
    """Blank line, no blank line, a line that is no field, nothing at all: the body begins where it should."""
    for data, body in (
        (b"A: b\r\n\r\nc", b"c"),
        (b"A: b\r\n", b""),
        (b"Just text\r\nmore\r\n", b"Just text\r\nmore\r\n"),
        (b"A: b\r\nJust text\r\n", b"Just text\r\n"),
        (b"\r\nbody", b"body"),
        (b"", b""),
        (b"From someone Mon Jan 1\r\nA: b\r\n\r\nc", b"c"),
        (b">>From someone Mon Jan 1\r\nFrom another\r\nA: b\r\n\r\nc", b"c"),
        (b"From : a@b\r\nA: b\r\n\r\nc", b"c"),
    ):
        part = scan(data)
        assert text(data, part) == body
        assert part.type == "TEXT"


def test_depth_is_bounded() -> None:
    """A thousand levels must neither exhaust the stack nor time (mail bombs)."""
    data = b"Content-Type: message/rfc822\r\n\r\n" * 50_000
    part, depth = scan(data), 0
    while part.parts:
        part, depth = part.parts[0], depth + 1
    assert depth == DEPTH
    assert (part.type, part.subtype) == ("APPLICATION", "OCTET-STREAM")


def test_parts_are_bounded() -> None:
    """A million parts give a bounded tree."""
    data = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\n" * 100_000
    assert len(scan(data).parts) <= structure.PARTS


def test_time_is_linear() -> None:
    """Candidates for boundaries, fields and lines without end may not take quadratic time: 8 MB each in a second."""
    head = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
    for data in (
        head + b"\n--ab" * 1_600_000,
        b"To: a@b\r\n" * 800_000,
        b"X:" + b"\n " * 4_000_000,
        b"Content-Type: a/b" + b";" * 8_000_000,
    ):
        began = time.thread_time()
        scan(data)
        assert time.thread_time() - began < 1


def test_msgpack() -> None:
    """The portal keeps trees as msgpack; a tree that cannot be encoded would lose the message in the index."""
    data = NESTED.replace(b"a b.pdf", b"\xff\xfe\x00\ned\xa0\x80.pdf")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(scan(data)), type=Part) == scan(data)


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"--a",
        b"--a--",
        b"--",
        b"Content-Type: multipart/mixed; boundary=a\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"To: ",
        b"x@y",
        b"<",
        b">",
        b"(",
        b'"',
        b"\\",
        b";",
        b"=",
        b":",
        b" ",
        b"\t",
        b"\x00",
        b"\xff",
        b"=?utf-8?Q?x?=",
        b"text",
        b"Content-Disposition: a; b*0*=c''d",
    ]
)


def nested(part: Part, outer: Part) -> None:
    assert outer.start <= part.start <= part.body <= part.end <= outer.end
    for inner in part.parts:
        nested(inner, part)


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES | any_bytes(8), max_size=60))
def test_anything(pieces: list[bytes]) -> None:
    """Whatever comes in: no exception, offsets within their parent, a tree that can be kept."""
    data = b"".join(pieces)
    root = scan(data)
    nested(root, root)
    assert root.summary is not None
    msgspec.msgpack.encode(root)


def test_the_author_behind_a_blank() -> None:
    """``From : a@b`` (RFC 5322 section 4.5) was taken for the line of an mbox, and the mail had no author."""
    summary = scan(b"From : a@b\r\nSubject: x\r\n\r\ntext").summary
    assert summary is not None
    assert [address.mailbox for address in summary.from_] == [b"a"]
