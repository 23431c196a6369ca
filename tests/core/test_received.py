"""Our Received line, counting, and knowing our own again (rule 7)."""

from __future__ import annotations

import email
import email.policy
import email.utils

from hornetmail.core.mail.dates import rfc5322_date
from hornetmail.core.mail.fields import each_field
from hornetmail.core.mail.received import Hop, count, loops, own, protocol, received

HOP = Hop("client.test", "192.0.2.1", "mx.test", "abc", 1_790_000_000.0)


def test_line_is_a_header() -> None:
    """Would catch a trace line that other software cannot read."""
    line = received(HOP, ("bob@example.test",))
    message = email.message_from_bytes(line + b"\r\n", policy=email.policy.default)
    assert list(message.keys()) == ["Received"]
    _, _, date = line.decode().rpartition(";")
    assert email.utils.parsedate_to_datetime(date.strip()).timestamp() == HOP.at
    assert max(map(len, line.split(b"\r\n"))) < 200


def test_date_agrees_with_the_standard_library() -> None:
    """Would catch a wrong weekday, month or zone."""
    for at in (0.0, 951_782_400.0, 1_709_210_096.9, 1_790_000_000.0):
        assert email.utils.parsedate_to_datetime(rfc5322_date(at)).timestamp() == int(at)


def test_nobody_else_is_named() -> None:
    """Would catch a Bcc recipient told to all the others."""
    assert b" for " not in received(HOP, ("a@b", "c@d"))


def test_what_clients_say_stays_in_its_line() -> None:
    """Would catch a header injected by EHLO or an address, or one that passes for our own."""
    line = received(Hop("x (y) by mx.test (HornetMail)\r\nEvil: 1", "::1", "mx.test", "i", 0.0), ("a\r\nb@c>;",))
    assert count(line) == 1
    assert len(list(each_field(line))) == 1
    assert b"[IPv6:::1]" in line
    assert own(line.replace(b"mx.test (H", b"other.test (H"), "mx.test") == []


def test_words_of_rfc_3848() -> None:
    """Would catch a protocol word that says TLS or AUTH where there was none."""
    assert protocol(Hop("", "", "", "", 0, esmtp=False)) == "SMTP"
    assert protocol(Hop("", "", "", "", 0, tls=True, authenticated=True)) == "ESMTPSA"
    assert protocol(Hop("", "", "", "", 0, smtputf8=True, tls=True)) == "UTF8SMTPS"
    assert protocol(Hop("", "", "", "", 0, lmtp=True)) == "LMTP"


def test_counting() -> None:
    """Would catch folded lines, other fields or the case of letters counting wrongly."""
    header = b"Received: a\r\n\treceived: folded\r\nRECEIVED: b\r\nX-Received: c\r\nSubject: Received: d\r\n"
    assert count(header) == 2


def test_knowing_our_own() -> None:
    """Would catch a loop that is not seen, or mail of others taken for one."""
    header = b"Received: from a by b\r\n" + received(HOP, ("Bob@Example.test",)) + b"Subject: x\r\n"
    assert own(header, "mx.test") == ["bob@example.test"]
    assert own(header, "mx2.test") == []
    assert loops(own(header, "mx.test"), "BOB@example.test")
    assert not loops(own(header, "mx.test"), "alice@example.test")
    silent = received(HOP, ("a@b", "c@d"))
    assert not loops(own(silent * 2, "mx.test"), "x@y")
    assert loops(own(silent * 3, "mx.test"), "x@y")


def test_it_is_ascii() -> None:
    """Would catch our own line being what keeps a message from a server without SMTPUTF8."""
    assert received(HOP, ("bob@bücher.test",)).isascii()
    assert b"for <bob@xn--bcher-kva.test>;" in received(HOP, ("bob@bücher.test",))
    assert received(Hop("exämple", *("192.0.2.1", "mx.test", "abc", 0.0)), ("bob@example.test",)).isascii()
    assert "for <jürgen@bücher.test>;".encode() in received(HOP, ("jürgen@bücher.test",))


def test_bounds_of_what_clients_say() -> None:
    """Would catch a line that a client makes endless, and a name that is cut though it fits."""
    line = received(Hop("h" * 300, "192.0.2.1", "mx.test", "i", 0.0, cipher="c" * 99), ("a" * 400,))
    assert b"from " + b"h" * 255 + b" (" in line
    assert b"(" + b"c" * 80 + b")" in line
    assert b"for <" + b"a" * 320 + b">" in line
    assert b"from unknown ([192.0.2.1])" in received(Hop("", "192.0.2.1", "mx.test", "i", 0.0), ())
    assert b" for " not in received(HOP, ())
    assert b"x_y_" in received(Hop("x(y\\", "192.0.2.1", "mx.test", "i", 0.0), ())
    assert protocol(Hop("", "", "", "", 0)) == "ESMTP", "nothing is said where there was nothing"
    assert rfc5322_date(1_790_000_000.0) == "Mon, 21 Sep 2026 14:13:20 +0000"


def test_lines_without_a_recipient() -> None:
    """Would catch a field of others that names us in passing, and a folded first line that is lost."""
    header = b"\tfolded\r\nX: by mx.test (HornetMail) for <a@b>;\r\n" + received(HOP, ("a@b", "c@d"))
    assert own(header, "mx.test") == [""]
    assert [field[0] for field in each_field(b" first\r\nA: b\r\n\tc\r\n d\r\nno field\r\n\r\nE: f")] == [
        b"A: b\r\n\tc\r\n d\r\n",
        b"E: f",
    ]
    assert count(b"X: y\r\n") == 0
