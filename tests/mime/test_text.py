"""Mail as text: nothing raises, words are found, forms people use are read."""

from __future__ import annotations

import subprocess
import sys
import time

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hornetmail.mime.charset import codec_for, decode
from hornetmail.mime.reading.mail import MAX_TEXT, MailText, Named, html_to_text, read_mail
from tests.strategies import any_bytes

RAW = (
    b'From: =?utf-8?q?M=C3=BCller?= <a@b.test>\r\nTo: x@y.test, "Z" <z@y.test>\r\nCc: c@y.test\r\nBcc: h@y.test\r\n'
    b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n =?iso-8859-1?q?_aus_K=F6ln?=\r\nDate: Mon, 02 Feb 2026 10:00:00 +0100\r\nMessage-ID: <1@x>\r\n"
    b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n"
    b"<html><head><style>x{}</style></head><body><p>Hallo M\xfcller<br>zweite</p><script>evil()</script><b>en</b>de</body>\r\n"
)


def test_a_mail() -> None:
    """Catches header fields or text that are not what a reader would see."""
    assert msgspec.structs.replace(read_mail(RAW), content=b"") == MailText(
        subject="Grüße aus Köln",
        sender=Named("Müller", "a@b.test"),
        to=(Named("", "x@y.test"), Named("Z", "z@y.test")),
        cc=(Named("", "c@y.test"),),
        bcc=(Named("", "h@y.test"),),
        headers="<1@x>",
        message_id="<1@x>",
        date=1770022800.0,
        text="Hallo Müller zweite ende",
    )
    assert read_mail(RAW, lines=True).text == "Hallo Müller\nzweite\nende"


def test_text_and_html_of_one_mail() -> None:
    """Catches words of the HTML form that are not found because there is a plain form too, and text shown twice."""
    raw = (
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain words\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<p>plain words</p><p>only here</p>\r\n--b--\r\n"
    )
    assert "only here" in read_mail(raw).text
    assert read_mail(raw, lines=True).text == "plain words"


@settings(max_examples=100)
@given(any_bytes(600))
def test_nothing_raises(data: bytes) -> None:
    """Catches a mail that stops the archive (findings: silent skips)."""
    for raw in (data, b"Subject: " + data, b"Content-Type: text/html\r\n\r\n" + data, b"From: " + data + b"\r\n\r\n" + data):
        for lines in (False, True):
            mail = read_mail(raw, lines=lines)
            mail.text.encode()
            mail.subject.encode()
            assert "\x00" not in mail.text + mail.subject


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: text/html\r\n\r\n" + b"<div>" * 200_000,
        b"Content-Type: text/html\r\n\r\n" + b"<" * 500_000,
        b"Content-Type: text/html\r\n\r\n" + b"<p " * 200_000,
        b"To: " + b"(" * 200_000 + b"\r\n\r\n",
        b"To: " + b"a@b.test, " * 50_000 + b"\r\n\r\n",
        b"Subject: " + b"=?utf-8?q?" * 20_000 + b"\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n" * 50_000,
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 5_000,
        b"\r\n" * 300_000,
        b"Subject: x\r\n" + b" y\r\n" * 100_000 + b"\r\n",
        b"Content-Type: text/plain\r\n\r\n" + b"word " * 1_000_000,
    ],
    ids=range(11),
)
def test_crafted_mail_is_bounded(raw: bytes) -> None:
    """Catches time or text that grows without bound on attacker bytes."""
    began = time.process_time()
    for lines in (False, True):
        assert len(read_mail(raw, lines=lines).text) <= MAX_TEXT
    assert time.process_time() - began < 5


def test_html_blocks_and_words() -> None:
    """Catches words glued together over block borders, or torn apart by inline markup."""
    html = "<p>a<b>b</b>c</p><p>second</p><table><tr><td>x<td>y</table><title>t</title>"
    assert html_to_text(html).split()[:4] == ["abc", "second", "x", "y"]
    assert html_to_text(html, lines=True).split("\n")[1:3] == ["abc", "second"]
    assert html_to_text("<!-- gone --> kept &amp; &uuml;") == "kept & ü"


@pytest.mark.parametrize(
    ("data", "label", "wanted"),
    [
        ("Grüße".encode(), "utf-8", "Grüße"),
        ("Grüße".encode(), "us-ascii", "Grüße"),
        ("Grüße".encode("latin-1"), "iso-8859-1", "Grüße"),
        ("Grüße".encode("latin-1"), "", "Grüße"),
        ("Grüße".encode("latin-1"), "utf-8", "Grüße"),
        ("„Grüße“ €".encode("cp1252"), "iso-8859-1", "„Grüße“ €"),
        ("日本語".encode("iso2022_jp"), "iso-2022-jp", "日本語"),
        ("привет, как дела".encode("koi8-r"), "koi8-r", "привет, как дела"),
        ("中文".encode("gb18030"), "gb2312", "中文"),
        (b"plain", "no-such-charset", "plain"),
        (b"plain", "rot13", "plain"),
        (b"\\u0041", "unicode_escape", "\\u0041"),
    ],
)
def test_charsets(data: bytes, label: str, wanted: str) -> None:
    """Catches umlauts that are not found, and labels that name no charset of text."""
    assert decode(data, label) == wanted


@settings(max_examples=60)
@given(any_bytes(200), st.text(max_size=20))
@example(b"~", "UU")
@example(b"~\xff", "hex")
def test_decode_never_raises(data: bytes, label: str) -> None:
    """Catches a label or bytes that stop a reader."""
    assert isinstance(decode(data, label), str)
    assert codec_for(label) is None or isinstance(codec_for(label), str)


def test_parts_in_parts() -> None:
    """30,000 multiparts in one another, 1.6 MB, ended the process: the fast parser calls itself for each. In a process of its own, as a failure
    would end this one."""
    program = """
import threading
from hornetmail.mime.reading.mail import read_mail
for names in ("%d", "b%dx"):
    raw = b"Subject: deep\\r\\n" + b"".join(
        b"Content-Type: multipart/mixed; Boundary=" + (names % n).encode() + b"\\r\\n\\r\\n--" + (names % n).encode() + b"\\r\\n"
        for n in range(60_000)
    )
    thread = threading.Thread(target=lambda: print(read_mail(raw).subject))
    thread.start()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "deep\ndeep\n"), done.stderr[-500:]


@pytest.mark.parametrize("line", [b"From a@b Mon Nov 27 20:00:00 2026\r\n", b">From a@b Mon Nov 27\r\n"])
def test_the_line_of_an_mbox(line: bytes) -> None:
    """A mail that came with it had no subject in the index, and its header as text."""
    mail = read_mail(line + b"Subject: kept\r\nFrom: <a@b>\r\n\r\nhello\r\n")
    assert (mail.subject, mail.text) == ("kept", "hello")
    sender = read_mail(b"From : =?utf-8?q?J=C3=B6rg?= <a@b>\r\nSubject: a blank before the colon\r\n\r\nhello\r\n").sender
    assert sender == Named("Jörg", "a@b")


def test_raw_headers() -> None:
    """Names and subjects in bytes that nobody declared were taken for Latin-1, whatever the mail's text was in."""
    mail = read_mail(
        b"From: =?iso-8859-1?q?J=F6rg?= <j@b>\r\nTo: team: x@y, z@y;\r\nDate: Mon, 3 Nov 25 10:00 UT\r\nSubject: caf\xe9\r\n\r\nb\xe4h\r\n"
    )
    assert mail.sender == Named("Jörg", "j@b")
    assert [one.address for one in mail.to] == ["x@y", "z@y"]
    assert (mail.subject, mail.text, mail.date) == ("café", "bäh", 1_762_164_000.0)
    russian = "Subject: Счёт за ноябрь\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\nпривет\r\n".encode("koi8-r")
    assert read_mail(russian).subject == "Счёт за ноябрь"
