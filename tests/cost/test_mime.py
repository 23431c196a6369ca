"""What reading a mail costs (rule 8d): twice the length never much more than twice the time, and of one message never more than a turn, or in a thread."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Callable

import pytest

from hornetmail.core.mail import received
from hornetmail.core.mail.fields import each_field
from hornetmail.mime.reading.mail import read_mail
from hornetmail.mime.structure import scan
from hornetmail.mime.transfer import decoded, texts
from hornetmail.servers.imap.finding.match import Content, occurs
from hornetmail.wire.imap.answers.structure import body_structure, envelope, outweighs
from tests.cost.turns import grows

INPUTS: dict[str, Callable[[int], bytes]] = {
    "parameters without a value": lambda n: b"Content-Type: text/plain" + b";a" * n + b"\r\n\r\nx",
    "parameters": lambda n: b"Content-Type: text/plain" + b";a=b" * n + b"\r\n\r\nx",
    "semicolons": lambda n: b"Content-Type: text/plain" + b";" * n + b"\r\n\r\nx",
    "quotes": lambda n: b"Content-Type: text/plain; a=" + b'"' * n + b"\r\n\r\nx",
    "backslashes": lambda n: b'Content-Type: text/plain; a="' + b"\\" * n + b"\r\n\r\nx",
    "a folded header": lambda n: b"Received: x\r\n" + b" y\r\n" * n + b"\r\nx",
    "many fields": lambda n: b"A: b\r\n" * n + b"\r\nx",
    "colons": lambda n: b"To: " + b":" * n + b"\r\n\r\nx",
    "addresses": lambda n: b"To: " + b"a@b.test, " * n + b"c@d.test\r\n\r\nx",
    "brackets": lambda n: b"To: " + b"<" * n + b"\r\n\r\nx",
    "parentheses": lambda n: b"To: " + b"(" * n + b"\r\n\r\nx",
    "groups": lambda n: b"To: " + b"g:;" * n + b"\r\n\r\nx",
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?=41?= " * n + b"\r\n\r\nx",
    "encoded words without end": lambda n: b"Subject: " + b"=?utf-8?q?" * n + b"\r\n\r\nx",
    "parts": lambda n: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * n + b"--b--\r\n",
    "parts in parts": lambda n: b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (i, i) for i in range(n)
    ),
    "dashes": lambda n: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--\r\n" * n,
    "lines that begin with the boundary": lambda n: (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"boundary=b0%d\r\n" * n % tuple(range(n))
        + b"--b\r\n"
        + b"--b0\r\n" * n
    ),
    "lines of an mbox": lambda n: b"From x\r\n" * n + b"Subject: x\r\n\r\n",
    "lines": lambda n: b"Subject: x\r\n\r\n" + b"\r\n" * n,
    "files in a text": lambda n: b"\r\n" + b"begin 644 a.txt\n" * n + b"\nend\n",
    "soft line ends": lambda n: b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"= \t" * n + b"= \n" * n,
}

HTML: dict[str, Callable[[int], bytes]] = {
    "attributes": lambda n: b"<p" + b" a%d=b" * n % tuple(range(n)) + b">x",
    "attributes in quotes": lambda n: b"<p" + b' a%d=">"' * n % tuple(range(n)) + b">x",
    "attributes without values": lambda n: b"<p" + b" a%d" * n % tuple(range(n)) + b">x",
    "quotes without end": lambda n: b"<p '" * n + b'<p "',
    "styles without end": lambda n: b"x" * 70_000 + b"<style>" * n,
    "styles": lambda n: b"x" * 70_000 + b"<style></style>" * n,
    "data": lambda n: b"x" * 70_000 + b"data:" * n + b"data:image/png;base64," + b"A" * n,
    "links": lambda n: b"<a href=https://x.test/%d>" * n % tuple(range(n)),
    "half links": lambda n: b'<a href="https:' * n,
    "elements in elements": lambda n: b"<div>" * n,
    "brackets": lambda n: b"<" * n,
    "descriptions": lambda n: b'<img alt="' * n,
}


@pytest.mark.parametrize("name", INPUTS)
def test_structure(name: str) -> None:
    """``mime.scan`` and all that IMAP makes of it; 300 ms a megabyte of parameters without a value."""

    def cost(n: int) -> None:
        part = scan(INPUTS[name](n))
        body_structure(part, True)
        envelope(part.summary)

    grows(cost, 20_000)


@pytest.mark.parametrize("name", INPUTS)
def test_text(name: str) -> None:
    """The text for index and viewer."""
    grows(lambda n: read_mail(INPUTS[name](n)), 20_000)


@pytest.mark.parametrize("name", HTML)
def test_html(name: str) -> None:
    """30,000 attributes took 1.7 to 4.8 s: the parser compares each with all others."""
    grows(lambda n: read_mail(b"Content-Type: text/html\r\n\r\n" + HTML[name](n)), 20_000)


def test_received() -> None:
    """A folded header of 260 KB took 0.7 s: each line was put behind a string that was copied for it."""
    for header in (b"Received: x\r\n" + b" y\r\n", b"no field\r\n", b"A:\r\n", b"A "):
        grows(lambda n, header=header: sum(1 for _ in each_field(header * n)), 50_000)  # type: ignore[misc]
    header = b"Received: by mx.test (HornetMail)\r\n" + b" y\r\n" * 65_000
    assert sum(1 for _ in each_field(header)) == 1
    assert received.own(header, "mx.test") == [""]


def test_large_trees_are_known() -> None:
    """A structure or an envelope that would take a turn is rendered elsewhere; that is found out at little cost."""
    params = b"".join(b";p%d=v" % n for n in range(200))
    part = b"--b\r\nContent-Type: text/plain" + params + b"\r\n\r\nx\r\n"
    large = scan(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 999 + b"--b--\r\n")
    many = scan(b"".join(b"%b: %b\r\n" % (name, b", ".join([b"a@b.test"] * 4000)) for name in (b"To", b"Cc")) + b"\r\nx")
    small = scan(b"To: a@b.test\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n")
    assert outweighs(large, 2000)
    assert outweighs(many, 2000)
    assert not outweighs(small, 2000)
    grows(lambda n: outweighs(large, n), 2000)


def test_search_in_a_large_text() -> None:
    """Four searches in a mail of 45 MB with one sign outside Latin-1: 2.1 GB, as the whole text was there as text, twice. Now a piece is."""
    line = "Grüße an alle 🦊 und einen schönen Tag\r\n" * 3
    plain = (line * 100_000 + "the Needle, at last\r\n").encode()
    body = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(plain)
    content = Content(scan(body), body)
    tracemalloc.start()
    try:
        assert content.body_has("needle, at")
        assert not content.body_has("nowhere")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body) * 1.5, "the raw part, and pieces"


def test_pieces_are_the_whole() -> None:
    """A word across two pieces is not found, or a letter at a piece's end is broken."""
    plain = ("ä🦊é" * 50_001 + "zwölf Boxkämpfer").encode()
    for encoding, raw in (
        ("BASE64", base64.encodebytes(plain)),
        ("BASE64", base64.b64encode(plain[:99_999]) + b"\r\n" + base64.b64encode(plain[99_999:]).rstrip(b"=")),
        (
            "QUOTED-PRINTABLE",
            b"=\r\n".join(b"".join(b"=%02X" % c for c in plain[at : at + 25]) for at in range(0, len(plain), 25)),
        ),
        ("8BIT", plain),
    ):
        assert decoded(raw, encoding) == plain
        assert "".join(texts(raw, encoding, "utf-8")) == plain.decode()
        assert "".join(texts(raw, encoding, "us-ascii")) == plain.decode(), "the label cannot be true"
    assert occurs("abcdef", iter(["xab", "cd", "", "efx"]))
    assert not occurs("abcdef", iter(["xab", "cd", "xefx"]))
    assert "".join(texts(b"\xe4" * 100_000, "8BIT", "iso-8859-1")) == "ä" * 100_000
