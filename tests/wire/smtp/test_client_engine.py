"""The SMTP client engine: replies in any split, commands in their order, parameters only where offered."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.core.envelope import Recipient
from hornetmail.core.reply import Reply
from hornetmail.wire.engine import NEED_DATA, Event, LocalProtocolError, Lost, TLSPeer
from hornetmail.wire.smtp.client import (
    AuthPlain,
    ClientEngine,
    DataCommand,
    Dot,
    Ehlo,
    Greeted,
    MailFrom,
    Phase,
    QuitCommand,
    RcptTo,
    Replied,
    Response,
    Rset,
    StartTLS,
    Text,
    Violation,
)
from hornetmail.wire.smtp.replies import ReplyParser


def events(engine: ClientEngine, pieces: list[bytes]) -> list[Event]:
    found: list[Event] = []
    for piece in filter(None, pieces):
        engine.receive(piece)
        while (step := engine.next_event()) is not NEED_DATA:
            assert isinstance(step, Event)
            found.append(step)
    return found


def greeted(*extensions: str) -> ClientEngine:
    engine = ClientEngine()
    engine.receive(b"220 hi\r\n")
    assert engine.next_event() == Greeted(Reply(220, "", "hi"))
    engine.send(Ehlo("c"))
    lines = ["server", *extensions]
    engine.receive("".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}\r\n" for n, line in enumerate(lines)).encode())
    assert isinstance(engine.next_event(), Replied)
    return engine


REPLIES = st.sampled_from(
    [
        b"250 2.1.0 ok\r\n",
        b"250\r\n",
        b"250-2.0.0 one\r\n250-2.0.0 two\r\n250 2.0.0 three\r\n",
        b"550 5.1.1 no\n",
        b"452-4.2.2 full\r\n452 4.2.2\r\n",
        "250 grüß\r\n".encode(),
        b"354 go\r\n",
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(REPLIES, max_size=8), st.lists(st.integers(0, 300), max_size=10))
def test_any_split_gives_the_same_events(replies: list[bytes], places: list[int]) -> None:
    """Would catch a parser that depends on how TCP cut the replies."""
    data = b"".join(replies)
    edges = sorted({p % (len(data) + 1) for p in places} | {0, len(data)})
    seen = []
    for pieces in ([data], [data[a:b] for a, b in itertools.pairwise(edges)]):
        engine = greeted("PIPELINING")
        for number in range(len(replies)):
            engine.send(RcptTo(Recipient(f"{number}@b")))
        seen.append(events(engine, pieces))
    assert seen[0] == seen[1]
    assert len(seen[0]) == len(replies)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=500))
def test_garbage_never_raises(data: bytes) -> None:
    """Would catch an exception that a server can cause."""
    events(greeted("PIPELINING"), [data])
    events(ClientEngine(), [data, b""])


def test_replies_are_taken_apart() -> None:
    """Would catch a code or enhanced code that stays in the text (``Reply`` never repeats them)."""
    engine = greeted("PIPELINING")
    engine.send(Rset())
    (event,) = events(engine, [b"550-5.7.1 first\r\n550 5.7.1 second\r\n"])
    assert event == Replied(Rset(), Reply(550, "5.7.1", "first\nsecond"))
    engine.send(Rset())
    (event,) = events(engine, [b"250 4.5.6 is no code of this class\r\n"])
    assert isinstance(event, Replied)
    assert event.reply == Reply(250, "", "4.5.6 is no code of this class")


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"99 x\r\n",
        b"600 x\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-x\r\n" * 101,
        b"250 " + b"x" * 5000,
        b"\xb2\xb3\xb4 x\r\n",
    ],
)
def test_what_is_no_smtp_ends_it(data: bytes) -> None:
    """Would catch endless or senseless replies being gathered in memory."""
    engine = greeted()
    engine.send(Rset())
    (event,) = events(engine, [data])
    assert isinstance(event, Violation)
    assert engine.phase is Phase.OVER


def test_a_reply_nobody_asked_for() -> None:
    """Would catch a late 421 taken for the reply to the next command."""
    engine = greeted()
    (event,) = events(engine, [b"421 4.3.2 down\r\n"])
    assert event == Violation("a reply that nobody asked for", Reply(421, "4.3.2", "down"))


def test_pipelining_rules() -> None:
    """Would catch commands sent behind one that must be last in its group, or without PIPELINING (RFC 2920 section 3.1)."""
    engine = greeted()
    engine.send(MailFrom("a@b"))
    with pytest.raises(LocalProtocolError):
        engine.send(RcptTo(Recipient("c@d")))
    engine = greeted("PIPELINING")
    engine.send(MailFrom("a@b"))
    engine.send(RcptTo(Recipient("c@d")))
    engine.send(DataCommand())
    for out in (Rset(), Text(b"x"), Dot()):
        with pytest.raises(LocalProtocolError):
            engine.send(out)
    assert engine.outstanding == 3
    events(engine, [b"250 ok\r\n250 ok\r\n354 go\r\n"])
    assert engine.send(Text(b".x\r\n.")) == b"..x\r\n.."
    assert engine.send(Dot()) == b"\r\n.\r\n"


def test_parameters_only_where_offered() -> None:
    """Would catch parameters that an old server refuses, and wishes lost where they are understood."""
    mail = MailFrom("a@b", 100, eight_bit=True, smtputf8=True, ret="HDRS", envid="x y")
    recipient = RcptTo(Recipient("c@d", ("FAILURE", "DELAY"), "rfc822;c=x@d"))
    engine = greeted()
    assert engine.send(mail) == b"MAIL FROM:<a@b>\r\n"
    events(engine, [b"250 ok\r\n"])
    assert engine.send(recipient) == b"RCPT TO:<c@d>\r\n"
    engine = greeted("PIPELINING", "SIZE 1000", "8bitmime", "SMTPUTF8", "DSN")
    assert engine.send(mail) == b"MAIL FROM:<a@b> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+20y\r\n"
    assert engine.send(recipient) == b"RCPT TO:<c@d> NOTIFY=FAILURE,DELAY ORCPT=rfc822;c+3Dx@d\r\n"
    assert engine.extensions["SIZE"] == "1000"


def test_no_command_is_injected() -> None:
    """Would catch an address with a line end that becomes a command of its own."""
    engine = greeted("PIPELINING")
    with pytest.raises(LocalProtocolError):
        engine.send(RcptTo(Recipient("a@b>\r\nDATA\r\n")))
    assert engine.outstanding == 0


def test_starttls() -> None:
    """Would catch extensions of before the handshake being believed, and injected replies."""
    engine = greeted("STARTTLS", "AUTH PLAIN")
    engine.send(StartTLS())
    events(engine, [b"220 go\r\n"])
    assert engine.upgrade
    with pytest.raises(LocalProtocolError):
        engine.send(Ehlo("c"))
    engine.tls_started(TLSPeer())
    assert engine.extensions == {}
    assert engine.send(Ehlo("c")) == b"EHLO c\r\n"
    engine = greeted("STARTTLS")
    engine.send(StartTLS())
    (event,) = events(engine, [b"220 go\r\n250 injected\r\n"])
    assert isinstance(event, Violation)


def test_passwords_do_not_show() -> None:
    """Would catch a password in a log line or traceback."""
    assert "secret" not in repr(AuthPlain("u", "secret")) + repr(Response(b"secret"))


def test_end_of_the_connection() -> None:
    """Would catch a lost connection that goes unnoticed, half a reply included."""
    engine = greeted()
    engine.send(QuitCommand())
    engine.receive(b"221 b")
    engine.receive(b"")
    assert isinstance(engine.next_event(), Lost)


def test_old_style_auth_is_understood() -> None:
    """Would catch a log-in that fails because the server writes AUTH=LOGIN."""
    assert greeted("AUTH=LOGIN", "AUTH PLAIN login").extensions["AUTH"] == "LOGIN PLAIN LOGIN"


def test_reply_parser_alone() -> None:
    """Would catch a reply given out before its last line."""
    parser = ReplyParser()
    parser.feed(b"250-a\r\n")
    assert parser.next() is None
    parser.feed(b"250 b\r\n")
    assert parser.next() == Reply(250, "", "a\nb")
