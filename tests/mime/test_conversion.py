"""Mail that does not fit a server: surveyed, converted, read again by Python's email package (RFC 6152 section 3, RFC 5322 section 2.1.1)."""

from __future__ import annotations

import email
import email.policy
import itertools
import time
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.mime.conversion import Conversion, Findings, Flaw, Survey
from hornetmail.mime.structure import Part, scan
from hornetmail.mime.walk import Kind, Walker
from hornetmail.mime.words import MOST

BOTH = Flaw.EIGHT | Flaw.LONG


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def survey(data: bytes, places: list[int] | None = None) -> Findings:
    found = Survey()
    for piece in cut(data, places or []):
        found.feed(piece)
    return found.finish()


def convert(data: bytes, flaws: Flaw = BOTH, places: list[int] | None = None, *, headers: bool = True) -> bytes:
    findings = survey(data, places)
    assert not findings.unfit(flaws), findings.fixed
    conversion = Conversion(findings, flaws, headers=headers)
    return b"".join([conversion.feed(piece) for piece in cut(data, places or [])]) + conversion.finish()


def leaves(data: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of every part without parts, as Python's email package reads it."""
    found: list[tuple[str, bytes]] = []

    def walk(message: Message) -> None:
        if message.is_multipart():
            for each in message.get_payload():
                assert isinstance(each, Message)
                walk(each)
        else:
            content = message.get_payload(decode=True)
            assert isinstance(content, bytes)
            found.append((message.get_content_type(), content.replace(b"\r\n", b"\n")))

    walk(email.message_from_bytes(data))
    return found


def fits(data: bytes) -> bool:
    return data.isascii() and max(map(len, data.replace(b"\r\n", b"\n").split(b"\n"))) <= MOST


UMLAUTS = "Grüße aus Köln – mit Leerzeichen am Ende \r\n.\r\n=3D\r\n".encode()
LONG = b"<p>" + b"word " * 600 + b"</p>\r\n"
MIXED = b"".join(
    [
        b"From: a@example.test\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n",
        b'Content-Type: multipart/mixed; boundary="out"\r\n\r\npreamble\r\n',
        b'--out\r\nContent-Type: multipart/alternative; boundary="in"\r\n\r\n',
        b"--in\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + UMLAUTS + b"\r\n",
        b"--in\r\nContent-Type: text/html; charset=us-ascii\r\n\r\n" + LONG + b"\r\n",
        b"--in--\r\nepilogue\r\n",
        b"--out\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        + bytes(range(1, 256)) * 3,
        b"\r\n--out\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        b"Subject: within\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nfran\xe7ais\r\n",
        b"\r\n--out\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 500 + b"\r\n",
        b"--out\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
        "a=3Dü=C3=BC=\r\n".encode() + b"x=41" * 400 + b"\r\nlast\r\n",
        b"--out\r\nContent-Type: text/plain\r\n\r\nuntouched  \r\nlines\r\n",
        b"--out--\r\n",
    ]
)


def test_everything_in_one_mail() -> None:
    """Would catch a part that is altered, left 8-bit or long, labelled wrongly, or a neighbour that is touched without need."""
    findings = survey(MIXED)
    assert (findings.header, findings.body) == (Flaw.NONE, BOTH)
    done = convert(MIXED)
    assert fits(done)
    assert leaves(done) == leaves(MIXED)
    assert b"\r\n\r\nuntouched  \r\nlines\r\n--out--\r\n" in done
    assert b"8bit" not in done
    assert b"binary" not in done
    assert done.count(b"\r\n--out") == MIXED.count(b"\r\n--out")
    assert survey(done).body is Flaw.NONE


def test_long_lines_alone() -> None:
    """Would catch 8-bit parts being encoded for a server that takes them."""
    done = convert(MIXED, Flaw.LONG)
    assert leaves(done) == leaves(MIXED)
    assert UMLAUTS in done
    assert survey(done).body is Flaw.EIGHT


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=12))
def test_any_split_gives_the_same(places: list[int]) -> None:
    """Would catch a conversion that depends on how the message was cut."""
    assert survey(MIXED, places) == survey(MIXED)
    assert convert(MIXED, places=places) == convert(MIXED)


FRAGMENTS = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"--",
            b"-",
            b"a",
            b"a--",
            b"\r\n--a\r\n",
            b"\r\n--a--\r\n",
            b"\r\n--b\r\n",
            b"\n--b--",
            b" ",
            b"\t",
        ),
        *(
            b"Content-Type: multipart/mixed; boundary=a\r\n",
            b"Content-Type: multipart/signed; boundary=b\r\n",
            b"\xff",
            b"\xc3\xbc",
        ),
        *(b"Content-Type: message/rfc822\r\n", b"Content-Transfer-Encoding: 8bit\r\n", b"Content-Transfer-Encoding: base64\r\n"),
        *(b"Subject: ", b"x" * 1100, b"=", b"=4", b"From ", b"Content-Type: application/x-y\r\n", b"text text\r\n", b"\0"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAGMENTS, max_size=40).map(b"".join), st.lists(st.integers(0, 20_000), max_size=8))
def test_whatever_comes(data: bytes, places: list[int]) -> None:
    """Would catch bytes lost or made up by the walk, an exception, a result that depends on the cuts, or one that still does not fit."""
    walker = Walker()
    pieces = [piece for each in cut(data, places) for piece in walker.feed(each)] + walker.finish()
    assert b"".join(piece.data for piece in pieces) == data
    findings = survey(data, places)
    assert findings == survey(data)
    if not findings.unfit(BOTH):
        done = convert(data, places=places)
        assert done == convert(data)
        assert done.isascii()
        assert Flaw.LONG not in survey(done.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")).body


@pytest.mark.parametrize("end", [b"\xff", b"\xff\r\nepilogue\r\n", b" \xc3\xbc\r\n--b--\r\n"])
@pytest.mark.parametrize("subtype", [b"mixed", b"signed"])
def test_what_follows_a_boundary_in_its_line(subtype: bytes, end: bytes) -> None:
    """Would catch bytes above 127 that go to a server that takes none, because they stand in the line of a boundary (RFC 2046 section 5.1.1)."""
    data = b"Content-Type: multipart/" + subtype + b"; boundary=b\r\n\r\n--b\r\n\r\nplain\r\n--b--"
    assert not survey(data).unfit(BOTH)
    assert "behind" in survey(data + end).unfit(Flaw.EIGHT)
    assert not survey(data + end).unfit(Flaw.LONG)


def test_a_long_line_that_begins_with_a_boundary() -> None:
    """Would catch findings that depend on the cuts: whether the line's end came along made a boundary of it or none."""
    line = b"\r\n--a--" + b"x" * 1100
    data = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + line + b"\r\nlast\r\n"
    assert survey(data) == survey(data, [len(data) - 20]) == survey(data, [len(data) - 200, len(data) - 20])
    assert fits(convert(data))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"\xc3\xbc", b"a", b"=", b" ", b"\t", b".", b"\r\n", b"\r", b"\0", b"x" * 1200, b"\xff", b"--"])
    ).map(b"".join)
)
def test_text_and_data_come_out_as_they_went_in(content: bytes) -> None:
    """Would catch a byte that quoted-printable or base64 changes."""
    for kind in (b"text/plain", b"application/x-data"):
        data = b"MIME-Version: 1.0\r\nContent-Type: " + kind + b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + content + b"\xfc"
        done = convert(data)
        decoded = email.message_from_bytes(done).get_payload(decode=True)
        assert isinstance(decoded, bytes)
        if kind == b"text/plain":
            content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            decoded = decoded.replace(b"\r\n", b"\n")
        assert decoded == content + b"\xfc"
        assert done.isascii()


def test_mail_from_before_mime() -> None:
    """Would catch an encoded body without the fields that say so."""
    done = convert("Subject: x\r\n\r\nschön\r\n".encode())
    message = email.message_from_bytes(done)
    assert message["MIME-Version"] == "1.0"
    assert message.get_payload(decode=True) == "schön\r\n".encode()


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b'Content-Type: multipart/signed; boundary="b"; protocol="x"', "signed"),
        (b'Content-Type: multipart/encrypted; boundary="b"', "encrypted"),
        (b"Content-Type: multipart/mixed", "without a usable boundary"),
        (b"Content-Type: message/partial", "message/partial"),
        (b"Content-Transfer-Encoding: x-uuencode", "x-uuencode"),
    ],
)
def test_what_must_not_be_changed(header: bytes, why: str) -> None:
    """Would catch a broken signature, or an encoding where RFC 2045 section 6.4 forbids one: such mail does not fit, and says why."""
    for flaw in (b"sch\xc3\xb6n", b"x" * 1_000):
        findings = survey(header + b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n" + flaw + b"\r\n--b--\r\n")
        assert why in findings.unfit(BOTH)
    # One that has nothing to change is none of our business.
    assert not survey(header + b"\r\n\r\n--b\r\n\r\nplain\r\n--b--\r\n").unfit(BOTH)


def test_a_signed_part_beside_others() -> None:
    """Would catch a forwarded signed mail that keeps the 8-bit text beside it from being encoded, or is touched itself."""
    signed = (
        b'Content-Type: multipart/signed; boundary="s"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n--s\r\n\r\nsigned \r\n--s--\r\n'
    )
    data = b'Content-Type: multipart/mixed; boundary="o"\r\n\r\n--o\r\n' + signed + b"--o\r\n\r\nsch\xc3\xb6n\r\n--o--\r\n"
    done = convert(data)
    assert signed in done
    assert leaves(done) == leaves(data)
    # Sealed is also what lies deeper in it, whatever its label says.
    inner = b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n--i--\r\n"
    outer = b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\nsch\xc3\xb6n\r\n--o\r\n"
    outer += b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n%s\r\n--s--\r\n--o--\r\n"
    assert "signed" in survey(outer % (inner % b"\xff")).unfit(BOTH)
    assert inner % b"plain" in convert(outer % (inner % b"plain"))


def test_headers() -> None:
    """Would catch a word of a header that reads otherwise afterwards, or an address that was encoded."""
    data = "".join(
        [
            "Subject: Grüße an alle Freunde und Bekannte, die schon lange nichts gehört haben: viele Grüße\r\n",
            'From: "Jürgen \\"JJ\\" Müller" <j@example.test>, Bärbel <b@example.test> (Büro)\r\n',
            "To: plain@example.test, Köln: x@y.test;\r\n",
            "Received: from exämple by x\r\n",
            'Content-Disposition: attachment; filename="Bericht für März – mit einem sehr langen Namen, der umbrochen werden muß.pdf"\r\n',
            "X-Long: " + "word " * 400 + "\r\n",
            "\r\nbody\r\n",
        ]
    ).encode()
    assert survey(data).header is BOTH
    done = convert(data)
    assert fits(done)
    message = email.message_from_bytes(done, policy=email.policy.default)
    before = email.message_from_bytes(data, policy=email.policy.default)
    assert message["Subject"] == "Grüße an alle Freunde und Bekannte, die schon lange nichts gehört haben: viele Grüße"
    assert [(str(a.display_name), a.addr_spec) for a in message["From"].addresses] == [
        ('Jürgen "JJ" Müller', "j@example.test"),
        ("Bärbel", "b@example.test"),
    ]
    assert [a.addr_spec for a in message["To"].addresses] == ["plain@example.test", "x@y.test"]
    assert message.get_filename() == "Bericht für März – mit einem sehr langen Namen, der umbrochen werden muß.pdf"
    assert message["X-Long"].split() == before["X-Long"].split()
    for address in ("ü@example.test", "<ü@example.test>", '"ü"@example.test'):
        assert "is not ASCII" in survey(f"From: {address}\r\n\r\n".encode()).unfit(Flaw.EIGHT)
    assert "cannot be folded" in survey(b"Message-ID: <" + b"x" * 1000 + b"@y>\r\n\r\n").unfit(Flaw.LONG)


def test_long_words_of_headers() -> None:
    """Would catch mail bounced for a header line that has no place to fold, as marketing writes them, though there is another way to write it."""
    link, name, word = "https://list.test/" + "u" * 2_000, "n" * 1_200 + ".pdf", "w" * 3_000
    data = (
        f"List-Unsubscribe: <{link}>\r\nContent-Disposition: attachment; filename={name}\r\nX-Long: {word}\r\n\r\nx\r\n".encode()
    )
    done = convert(data)
    assert fits(done)
    message = email.message_from_bytes(done, policy=email.policy.default)
    assert "".join(message["List-Unsubscribe"].split()) == f"<{link}>"
    assert message.get_filename() == name
    assert message["X-Long"] == word


def test_headers_of_parts_count() -> None:
    """Would catch SMTPUTF8 dropped from a mail that needs it for the header of a part or of a message within (RFC 6532)."""
    part = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Description: schön\r\n\r\nx\r\n--b--\r\n".encode()
    within = "Content-Type: message/rfc822\r\n\r\nSubject: schön\r\n\r\nx\r\n".encode()
    body = "Subject: x\r\n\r\nSubject: schön\r\n".encode()
    assert [survey(each).header for each in (part, within, body)] == [Flaw.EIGHT, Flaw.EIGHT, Flaw.NONE]


def test_exactly_998() -> None:
    """Would catch an edge of the limit that is off by one, with either line end and wherever it is cut."""
    for size in (997, 998, 999, 1000):
        for end in (b"\r\n", b"\n", b""):
            for before in (b"", b"x\r\n", b"y" * 900 + b"\r\n"):
                data = b"\r\n" + before + b"x" * size + end
                for places in ([], list(range(len(data)))):
                    assert (Flaw.LONG in survey(data, places).body) is (size > 998), (size, end)


def costly(size: int) -> bytes:
    """Much of everything that costs: boundaries, lines that only look like them, long lines, 8-bit text."""
    part = b"--b\r\nContent-Type: text/plain\r\n\r\n" + "für\r\n--bx\r\n".encode() * 4 + LONG + b"\xfc" * 900
    return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + (part + b"\r\n") * size + b"--b--\r\n"


def test_cost_is_linear() -> None:
    """Would catch a conversion whose time grows faster than the message (rule 8d), or a turn of the reactor (one piece of 64 KiB) over 50 ms."""

    def seconds(size: int) -> float:
        data = costly(size)
        pieces = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
        best = []
        for _ in range(3):
            began = time.thread_time()
            found = Survey()
            for piece in pieces:
                found.feed(piece)
            conversion = Conversion(found.finish(), BOTH)
            for piece in pieces:
                conversion.feed(piece)
            best.append(time.thread_time() - began)
        return min(best)

    assert seconds(1_600) / seconds(800) < 3


@pytest.mark.parametrize("name", ["parts", "dashes", "words", "addresses", "folds", "escapes"])
def test_no_turn_is_long(name: str) -> None:
    """Would catch input, as bad as it fits into one piece of 64 KiB or one header, that holds the reactor (rule 8d; 50 ms on an idle machine)."""
    multipart = b"Content-Type: multipart/mixed; boundary=b\n\n"
    data = {
        "parts": multipart + b"--b\n\n\xff\n" * 1_990,
        "dashes": multipart + b"--x\n" * 16_000 + b"\xff",
        "words": b"".join("X-%d: ü a ü\r\n".encode() % n for n in range(3_500)) + b"\r\n",
        "addresses": b"To: " + "ü <a@b>, ".encode() * 6_000 + b"\r\n\r\n",
        "folds": b"X: " + b" x" * 130_000 + b"\r\n\r\n",
        "escapes": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * 30_000 + "ü".encode() * 15_000,
    }[name]
    best = []
    for _ in range(3):
        found = Survey()
        began = time.thread_time()
        found.feed(data)
        findings = found.finish()
        between = time.thread_time()
        Conversion(findings, BOTH).feed(data)
        best.append(max(between - began, time.thread_time() - between))
    assert min(best) < 0.1


def test_memory_is_flat() -> None:
    """Would catch a conversion that gathers a body: what goes in must come out soon after."""
    data = b"Content-Type: text/plain\r\n\r\n" + "ü".encode() * 1_000_000
    conversion = Conversion(survey(data), BOTH)
    came = 0
    for at in range(0, len(data), 65_536):
        came += len(conversion.feed(data[at : at + 65_536]))
        assert came >= at * 2


def test_bounds() -> None:
    """Would catch a walk that gets lost in depth or number: what is beyond does not fit and says so."""
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(60)) + b"\r\n\xff"
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\xff\r\n" * 2_001
    endless = b"Subject: " + b"\xff" * 1_200_000
    whys = [survey(each).unfit(BOTH) for each in (deep, many, endless)]
    assert whys == ["parts nested too deep", "too many parts", "a header without end"]


def test_kinds() -> None:
    """Would catch text outside of parts taken for a part, or a part for what is outside."""
    walker = Walker()
    pieces = walker.feed(MIXED) + walker.finish()
    outside = b"".join(piece.data for piece in pieces if piece.kind is Kind.OUTSIDE)
    assert outside == b"preamble\r\nepilogue" or outside.replace(b"\r\n", b"") == b"preambleepilogue"


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx \t\r\n\r\na\r\n--xxz\r\n\r\nb\r\n--xx--z\r\nc\r\n",
        b"Content-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\nContent-Type: multipart/mixed; boundary=xxz\r\n\r\n--xxz\r\n\r\na\r\n"
        b"--xxzz\r\n\r\nb\r\n--xxz--\r\n--xxy\r\n\r\nc\r\n--xx--\r\n",
        b">From a@b Mon\r\nContent-Type: multipart/mixed; boundary=xx\r\n\r\n--xx\r\n\r\na\r\n--xx--\r\n",
    ],
)
def test_the_walk_sees_the_parts_of_the_structure(data: bytes) -> None:
    """Two readers of boundaries: a message is converted where nobody else sees a part, or not where everybody does."""

    def leaves(part: Part) -> list[bytes]:
        return [data[part.body : part.end]] if not part.parts else [body for child in part.parts for body in leaves(child)]

    for cut in (1, 7, len(data)):
        walker = Walker()
        pieces = [piece for at in range(0, len(data), cut) for piece in walker.feed(data[at : at + cut])] + walker.finish()
        assert b"".join(piece.data for piece in pieces) == data
        bodies: dict[int, bytes] = {}
        for piece in pieces:
            if piece.kind is Kind.BODY:
                bodies[piece.entity.number] = bodies.get(piece.entity.number, b"") + piece.data
        assert list(bodies.values()) == leaves(scan(data))
