"""Mail made fit for showing: what strangers send must not act, and nothing honest may get lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.web import mailview
from tests.strategies import any_bytes

HEAD = b"From: =?utf-8?q?J=C3=B6rg?= <joerg@example.com>\r\nTo: a@example.test\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
HTML = b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(2)</script></svg>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href=" JaVaScRiPt:alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<iframe src="https://evil.example"></iframe>',
    '<form action="https://evil.example"><input name=a></form>',
    '<meta http-equiv="refresh" content="0;url=https://evil.example">',
    '<base href="https://evil.example/">',
    '<link rel=stylesheet href="https://evil.example/a.css">',
    "<style>@import url(https://evil.example/a.css)</style>",
    '<div style="background:url(https://evil.example/p.gif)">x</div>',
    '<div style="background-color:red;behavior:url(#x)">x</div>',
    '<div style="b\\61 ckground:u\\72l(https://evil.example)">x</div>',
    '<object data="https://evil.example/a.swf"></object>',
    '<img src="https://evil.example/p.gif">',
    '<img src="//evil.example/p.gif">',
    '<img src="data:image/svg+xml,<svg onload=alert(1)>">',
    '<table background="https://evil.example/p.gif"><tr><td>x</td></tr></table>',
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<video src="https://evil.example/v"></video>',
    '<img srcset="https://evil.example/p.gif 2x">',
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_html_of_strangers_does_not_act_or_fetch(attack: str) -> None:
    """Catches script, forms, foreign frames, and everything that would tell a sender that the mail was read."""
    made = mailview.document(HEAD + HTML + attack.encode(), remote=False).html.lower()
    for bad in (
        "<script",
        "onerror",
        "onload",
        "javascript:",
        "evil.example",
        "<iframe",
        "<form",
        "<meta",
        "<base",
        "<style",
        "<svg",
        "url(",
    ):
        assert bad not in made, made


@given(st.text(alphabet=st.sampled_from("<>/\"'= abcimgsrcdtjpvon:();&#x0\\-!")))
@settings(max_examples=80, deadline=None)
def test_no_markup_brings_an_active_element_through(text: str) -> None:
    """Catches combinations that nobody thought of."""
    made = mailview.document(HEAD + HTML + text.encode(), remote=False).html.lower()
    for bad in ("<script", " onerror=", " onload=", "<iframe", "<form"):
        assert bad not in made


def test_images_elsewhere_are_counted_and_shown_on_request_only() -> None:
    """Catches tracking by default, and a note that miscounts."""
    data = HEAD + HTML + b'<img src="https://a.example/1.png"><img src="http://a.example/2.png"><p style="color:red">x</p>'
    closed = mailview.document(data, remote=False)
    assert closed.blocked == 2
    assert "a.example" not in closed.html
    assert "color:red" in closed.html.replace(" ", "")
    assert mailview.document(data, remote=True).html.count("a.example") == 2


def test_links_open_elsewhere_without_a_referrer() -> None:
    """Catches links that hand the opener or our address to a stranger's page."""
    made = mailview.document(HEAD + HTML + b'<a href="https://a.example/x" target="_self">x</a>', remote=False).html
    assert 'target="_blank"' in made
    assert "noopener" in made
    assert "noreferrer" in made


RELATED = (
    HEAD
    + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n"
    + b"--a\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n"
    + b"--a\r\nContent-Type: multipart/related; boundary=r\r\n\r\n--r\r\nContent-Type: text/html; charset=utf-8\r\n"
    + b'Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>Gr=C3=BC=C3=9Fe</p><img src=3D"cid:one@x"><img src=3D"cid:none">\r\n'
    + b"--r\r\nContent-Type: image/png\r\nContent-ID: <one@x>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0K\r\n--r--\r\n--a--\r\n"
    + b'--m\r\nContent-Type: application/pdf; name="../../x/Angebot.pdf"\r\nContent-Disposition: attachment;\r\n'
    + b" filename*=utf-8''Angebot%20Fr%C3%BChjahr.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0x\r\n"
    + b"--m\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--m--\r\n"
)


def test_a_usual_mail_is_taken_apart_rightly() -> None:
    """Catches the wrong alternative, images shown twice, attachments lost, names not decoded, charsets misread."""
    shown = mailview.show(RELATED)
    assert shown.head.subject == "Grüße"
    assert shown.head.sender[0].name == "Jörg"
    assert shown.html
    assert shown.text.strip() == "Grüße"
    assert [file.name for file in shown.attachments] == ["Angebot Frühjahr.pdf", "message-5.eml"]
    assert mailview.part_of(RELATED, shown.attachments[0].number) == ("Angebot Frühjahr.pdf", "application/pdf", b"%PDF-1")
    made = mailview.document(RELATED, remote=False)
    assert "Grüße" in made.html
    assert "data:image/png;base64,iVBORw0K" in made.html
    assert "cid:" not in made.html


def test_names_of_files_hold_no_path() -> None:
    """Catches a download that writes where it should not, and header injection through a name."""
    data = (
        HEAD + b'Content-Type: application/x; name="..\\..\\a\x0d\x0ab/..//evil.exe"\r\nContent-Disposition: attachment\r\n\r\nx'
    )
    name = mailview.show(data).attachments[0].name
    assert "/" not in name
    assert "\\" not in name
    assert not name.startswith(".")
    line = mailview.disposition('a"b\r\nSet-Cookie: x=ü.pdf')
    assert "\r" not in line
    assert line.count('"') == 2


def test_plain_text_is_escaped_and_linked() -> None:
    """Catches markup in plain text coming alive, and links that swallow the punctuation behind them."""
    made = mailview.text_html('<b>x</b> see https://a.example/?a=1&b="2" or (https://b.example/x).\n> quoted <i>')
    assert "<b>" not in made
    assert 'href="https://a.example/?a=1&amp;b="' in made
    assert 'href="https://b.example/x"' in made
    assert '<span class="quoted">&gt; quoted &lt;i&gt;</span>' in made


@given(any_bytes(400))
@settings(max_examples=100, deadline=None)
def test_nothing_that_arrives_raises(data: bytes) -> None:
    """Catches a mail that cannot be opened."""
    mailview.show(HEAD + data)
    mailview.document(HEAD + data, remote=False)
