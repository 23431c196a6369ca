"""Notifications (RFC 3464, RFC 3461, RFC 6533) and bounces (rule 6)."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.mail.bounce import Bounce, answerable, by_spf, wants
from hornetmail.core.mail.dsn import HEAD_BYTES, Action, Fate, Notification, compose, enhanced_of, header_of, plain_notice
from hornetmail.core.mail.envelope import Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.mail.spf import SPF, SPFVerdict
from tests.strategies import any_bytes

HEAD = b"From: a@x.test\r\nSubject: hello\r\nMessage-ID: <1@x.test>\r\n"


def note(*fates: Fate, action: Action = Action.FAILED, head: bytes = HEAD) -> Notification:
    date = "Sun, 22 Nov 2026 17:00:00 -0000"
    return Notification(action, "mx.test", "a@x.test", date, "token123", date, fates, head, "envid+2B1")


def parts(data: bytes) -> list[email.message.Message]:
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert not message.defects
    return list(message.get_payload())  # type: ignore[arg-type]


def test_failed() -> None:
    """A report that other programs cannot read: parts, fields and the original's header as the RFC has them."""
    fates = (
        Fate("bob@y.test", Reply(550, "5.1.1", "no such user"), "mx.y.test:25", "rfc822;Bob@y.test"),
        Fate("eve@y.test", Reply(451, "4.4.1", "given up")),
    )
    data = compose(note(*fates))
    text, status, original = parts(data)
    assert "<bob@y.test>" in text.get_payload()
    blocks = status.get_payload()
    assert [block["Final-Recipient"] for block in blocks[1:]] == ["rfc822; bob@y.test", "rfc822; eve@y.test"]  # type: ignore[union-attr, index]
    assert [block["Status"] for block in blocks[1:]] == ["5.1.1", "5.4.1"]  # type: ignore[union-attr, index]
    assert blocks[0]["Original-Envelope-Id"] == "envid+2B1"  # type: ignore[index, call-overload]
    assert blocks[1]["Original-Recipient"] == "rfc822;Bob@y.test"  # type: ignore[index, call-overload]
    assert "Subject: hello" in original.get_payload()
    assert data.isascii()
    assert b"\n" not in data.replace(b"\r\n", b"")


def test_without_a_header() -> None:
    """Would catch a report with an empty part that programs stumble over, or one that announces a header, where the original cannot be read any more."""
    data = compose(note(Fate("bob@y.test", Reply(554, "5.3.0", "damaged")), head=b""))
    text, status = parts(data)
    assert "cannot be read any more" in text.get_payload()
    assert "follows" not in text.get_payload()
    assert status.get_payload()[1]["Status"] == "5.3.0"  # type: ignore[index]
    assert data.isascii()


def test_delayed() -> None:
    """A delay that reads like a failure."""
    fate = Fate("bob@y.test", Reply(451, "4.4.1", "refused"), until="Fri, 27 Nov 2026 17:00:00 -0000")
    _, status, _ = parts(compose(note(fate, action=Action.DELAYED)))
    block = status.get_payload()[1]
    assert block["Action"] == "delayed"  # type: ignore[index]
    assert block["Status"] == "4.4.1"  # type: ignore[index]
    assert block["Will-Retry-Until"]  # type: ignore[index]


def test_beyond_ascii() -> None:
    """RFC 6533: addresses and headers in UTF-8 are mangled or make the report undeliverable as 7bit."""
    data = compose(note(Fate("jürgen@y.test", Reply(550, "5.1.1", "unbekannt: jürgen")), head="Subject: Grüße\r\n".encode()))
    _, status, original = parts(data)
    assert status.get_content_type() == "message/global-delivery-status"
    assert original.get_content_type() == "message/global-headers"
    assert "Final-Recipient: utf-8; jürgen@y.test".encode() in data


@given(st.text(max_size=600), any_bytes(400))
def test_anything_said(said: str, head: bytes) -> None:
    """What a remote server says, or an odd header, breaks the report's structure or its line length."""
    data = compose(note(Fate("bob@y.test", Reply(550, "5.0.0", said)), head=header_of(head)))
    part = b"\r\nContent-Type: text/rfc822-headers\r\n"
    mine = data[: data.index(part)] if part in data else data[:500]
    assert all(len(line) <= 998 for line in mine.split(b"\r\n"))
    assert mine.count(b"--=_token123\r\n") >= 2 or part not in data


def test_header_of() -> None:
    """Body text sent back to somebody who did not ask for it."""
    assert header_of(HEAD + b"\r\nsecret") == HEAD
    assert header_of(b"A: b\nC: d\n\nsecret") == b"A: b\nC: d\n"
    assert header_of(b"A: b\r\nC: cut in the mid") == b"A: b\r\n"


def test_plain_notice() -> None:
    """A subject that smuggles header lines in."""
    data = plain_notice(hostname="mx.test", to="a@x.test", subject="a\r\nBcc: all", date="d", unique="u", lines=["Grüße"])
    message = email.message_from_bytes(data)
    assert message["Bcc"] is None
    assert message["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    ("sender", "origin", "own", "bounce"),
    [
        ("a@x.test", Origin(Door.MX), False, Bounce.HOLD),
        ("a@x.test", Origin(Door.MX, aligned=True), False, Bounce.SEND),
        ("a@x.test", Origin(Door.MX, peer="192.0.2.7"), False, Bounce.ASK),
        ("a@x.test", Origin(Door.MX, peer="192.0.2.7"), True, Bounce.ASK),
        ("a@x.test", Origin(Door.LMTP, peer="192.0.2.7"), True, Bounce.HOLD),
        ("a@x.test", Origin(Door.RELAY, peer="192.0.2.7", trusted=True), False, Bounce.HOLD),
        ("", Origin(Door.MX, peer="192.0.2.7"), False, Bounce.NONE),
        ("a@x.test", Origin(Door.SUBMISSION, login="a@x.test"), True, Bounce.SEND),
        ("a@x.test", Origin(Door.RELAY, trusted=True), True, Bounce.SEND),
        ("a@x.test", Origin(Door.RELAY, trusted=True), False, Bounce.HOLD),
        ("", Origin(Door.SUBMISSION, login="a@x.test"), True, Bounce.NONE),
    ],
)
def test_rule_6(sender: str, origin: Origin, own: bool, bounce: Bounce) -> None:
    """Backscatter, a bounce of a bounce, or a sender who never hears."""
    assert answerable(Envelope(sender, ()), origin, own)[0] is bounce


@pytest.mark.parametrize("result", list(SPF))
def test_rule_6_by_spf(result: SPF) -> None:
    """Only a pass proves the sender; only DNS trouble is a reason to ask again."""
    bounce, why = by_spf(SPFVerdict(result, "SPF said so"))
    assert bounce is {SPF.PASS: Bounce.SEND, SPF.TEMPERROR: Bounce.LATER}.get(result, Bounce.HOLD)
    assert why.startswith("SPF said so")


def test_notify() -> None:
    """RFC 3461: NOTIFY=NEVER and wishes for one condition only."""
    assert wants(None, "DELAY")
    assert wants(Recipient("b"), "FAILURE")
    assert not wants(Recipient("b", ("NEVER",)), "FAILURE")
    assert wants(Recipient("b", ("delay",)), "DELAY")
    assert not wants(Recipient("b", ("SUCCESS", "FAILURE")), "DELAY")


def test_header_at_its_ends() -> None:
    """Would catch a first line that goes missing, and a message without a header whose body is taken for one."""
    assert header_of(b"\r\n\r\nsecret") == b"\r\n"
    assert header_of(b"\n\nsecret") == b"\n"
    assert header_of(b"\nsecret") == b"\n"
    assert header_of(b"no line end") == b"no line end"
    assert header_of(b"") == b""
    long = b"A: " + b"x" * (HEAD_BYTES - 5) + b"\r\n" + b"B: c\r\n\r\n"
    assert header_of(long) == long[:HEAD_BYTES]
    assert header_of(b"A" + long) == b"A" + long[: HEAD_BYTES - 1]
    assert HEAD_BYTES == 64 * 1024


@pytest.mark.parametrize(
    ("action", "subject", "text"),
    [
        (Action.FAILED, "Your message could not be delivered", "could not be delivered to"),
        (Action.DELAYED, "Your message is delayed", "has not been delivered yet"),
    ],
)
def test_which_of_the_two_it_is(action: Action, subject: str, text: str) -> None:
    """Would catch a delay told as a failure: the sender sends it again, and it comes twice; and a retry promised that never comes."""
    fate = Fate("bob@y.test", Reply(451, "4.4.1", "refused"), "mx.y.test", until="Fri, 27 Nov 2026 17:00:00 -0000")
    data = compose(note(fate, action=action))
    assert email.message_from_bytes(data)["Subject"] == subject
    words, status, _ = parts(data)
    assert text in words.get_payload()
    assert "mx.y.test said: 451 4.4.1 refused" in words.get_payload()
    block = status.get_payload()[1]
    assert block["Action"] == action  # type: ignore[index]
    assert ("Will-Retry-Until" in block) is (action is Action.DELAYED)  # type: ignore[operator]
    assert block["Remote-MTA"] == "dns; mx.y.test"  # type: ignore[index]
    assert "Remote-MTA" not in parts(compose(note(Fate("b@y.test", Reply(550)))))[1].get_payload()[1]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("to", "recipient", "head", "status", "original", "encoding"),
    [
        ("a@x.test", "b@y.test", HEAD, "message/delivery-status", "text/rfc822-headers", "7bit"),
        ("ä@x.test", "b@y.test", HEAD, "message/global-delivery-status", "text/rfc822-headers", "8bit"),
        ("a@x.test", "ü@y.test", HEAD, "message/global-delivery-status", "text/rfc822-headers", "8bit"),
        ("a@x.test", "b@y.test", "Subject: ü\r\n".encode(), "message/delivery-status", "message/global-headers", "8bit"),
    ],
)
def test_what_is_beyond_ascii(to: str, recipient: str, head: bytes, status: str, original: str, encoding: str) -> None:
    """RFC 6533: would catch a part that says less than it holds, and a global one sent for nothing to a reader who knows none."""
    date = "Sun, 22 Nov 2026 17:00:00 -0000"
    fates = (Fate("first@y.test", Reply(550)), Fate(recipient, Reply(550, "5.1.1", "grün")))
    data = compose(Notification(Action.FAILED, "mx.test", to, date, "token123", date, fates, head))
    message = email.message_from_bytes(data)
    assert message["Content-Transfer-Encoding"] == encoding
    text, *others = message.get_payload()
    assert [part.get_content_type() for part in others] == [status, original]  # type: ignore[union-attr]
    assert text["Content-Transfer-Encoding"] == encoding  # type: ignore[index]
    assert ("grün".encode() in data) is (encoding == "8bit")
    assert b"Original-Envelope-Id" not in data


@pytest.mark.parametrize(
    ("enhanced", "action", "wanted"),
    [
        ("5.1.1", Action.FAILED, "5.1.1"),
        ("4.4.1", Action.FAILED, "5.4.1"),
        ("", Action.FAILED, "5.0.0"),
        ("4.4.1", Action.DELAYED, "4.4.1"),
        ("5.1.1", Action.DELAYED, "4.0.0"),
        ("", Action.DELAYED, "4.0.0"),
    ],
)
def test_status(enhanced: str, action: Action, wanted: str) -> None:
    """RFC 3464 section 2.3.4: a status of another class than the action is read as the other action by programs."""
    assert enhanced_of(Reply(550, enhanced), action) == wanted


@pytest.mark.parametrize("length", [10, 11])
def test_long_lines_are_folded(length: int) -> None:
    """What a server says at length stays in lines of 200 characters, a word that fits on its line, and one without an end is cut."""
    first, last = f"{'w' * 99} {'x' * 80}", "y" * length
    data = compose(note(Fate("bob@y.test", Reply(550, "", f"{first} {last} z {'v' * 300}"))))
    lines = data.decode().split("\r\n")
    if length == 10:
        assert f"     550 {first} {last}" in lines
        assert f"    z {'v' * 180}" in lines
    else:
        assert f"     550 {first}" in lines
        assert f"    {last} z {'v' * 180}" in lines
    assert max(len(line) for line in lines) <= 200
