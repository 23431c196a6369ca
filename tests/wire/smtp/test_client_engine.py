"""The SMTP client engine: replies in any split, commands in their order, parameters only where offered."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.wire.engine import NEED_DATA, Event, LocalProtocolError, Lost, Out, TLSPeer
from hornetmail.wire.smtp.client import ClientEngine
from hornetmail.wire.smtp.client_state import (
    PERMITTED,
    Phase,
)
from hornetmail.wire.smtp.commands import (
    AuthLogin,
    AuthPlain,
    DataCommand,
    Dot,
    Ehlo,
    Greeted,
    Helo,
    Interrupted,
    MailFrom,
    Noop,
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
from tests.strategies import any_bytes


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
        b"251 elsewhere\r\n",
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
@given(any_bytes(500))
def test_garbage_never_raises(data: bytes) -> None:
    """Would catch an exception that a server can cause."""
    events(greeted("PIPELINING"), [data])
    events(ClientEngine(), [data, b""])


def test_replies_are_taken_apart() -> None:
    """Would catch a code or enhanced code that stays in the text (``Reply`` never repeats them)."""
    engine = greeted("PIPELINING")
    engine.send(MailFrom("a@b"))
    (event,) = events(engine, [b"550-5.7.1 first\r\n550 5.7.1 sec\x07\rond\r\n"])
    assert event == Replied(MailFrom("a@b"), Reply(550, "5.7.1", "first\nsec  ond"))
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
        b"150 x\r\n",
        b"000 x\r\n",
        b"999 x\r\n",
        b"250 x\0\r\n",
        b"250x\r\n",
        b"\r\n",
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
    assert event == Violation("'421 4.3.2 down' that nobody asked for", Reply(421, "4.3.2", "down"))
    assert event.farewell


CODES = (200, 211, 214, 220, 221, 235, 250, 251, 252, 253, 299, 300, 334, 354, 399, 400, 421, 451, 499, 500, 550, 599)
SAYING_YES: list[tuple[Out, tuple[int, ...]]] = [
    (Ehlo("c"), (250,)),
    (Helo("c"), (250,)),
    (StartTLS(), (220,)),
    (AuthPlain("u", "p"), (235,)),
    (AuthLogin(), (334,)),
    (Response(b"u"), (334, 235)),
    (MailFrom("a@b"), (250,)),
    (RcptTo(Recipient("c@d")), (250, 251, 252)),
    (DataCommand(), (354,)),
    (Rset(), (250,)),
    (Noop(), (250,)),
    (QuitCommand(), (221,)),
]


@pytest.mark.parametrize(("command", "yes"), SAYING_YES, ids=lambda value: type(value).__name__)
def test_a_reply_counts_only_for_what_was_asked(command: Out, yes: tuple[int, ...]) -> None:
    """Rule 8a: a reply of another class taken for an answer, or one that is an answer taken for a violation."""
    for code in CODES:
        engine = greeted("PIPELINING")
        engine.send(command)
        (event,) = events(engine, [b"%d x\r\n" % code])
        no = code == 421 or (code >= 400 and not isinstance(command, Rset))
        assert isinstance(event, Replied if code in yes or no else Violation), code
        assert (engine.phase is Phase.OVER) is isinstance(event, Violation)
        assert (engine.phase is Phase.TEXT) is (isinstance(command, DataCommand) and code == 354)


def test_every_command_has_its_answers() -> None:
    """Would catch a command without a row in the table."""
    assert {type(command) for command, _ in SAYING_YES} | {Dot} == set(PERMITTED)


def test_greetings() -> None:
    """Would catch another protocol, or the end of another conversation, taken for a greeting."""
    for code in CODES:
        (event,) = events(ClientEngine(), [b"%d x\r\n" % code])
        assert isinstance(event, Greeted if code == 220 or code >= 400 else Violation), code


def in_text() -> ClientEngine:
    engine = greeted("PIPELINING")
    engine.send(DataCommand())
    events(engine, [b"354 go\r\n"])
    engine.send(Text(b"x"))
    return engine


def test_the_verdict_on_the_text() -> None:
    """Rule 8a: 354 after the final dot taken for a success, or a 2xx that says something else: 221, that the server closes the connection."""
    for code in CODES:
        engine = in_text()
        engine.send(Dot())
        (event,) = events(engine, [b"%d x\r\n" % code])
        assert isinstance(event, Replied if code == 250 or code >= 400 else Violation), code


@pytest.mark.parametrize("cut", range(1, 8))
def test_in_the_middle_of_the_text(cut: int) -> None:
    """Would catch a refusal in the middle of the text taken for a broken connection, or anything else there for a verdict; also where the final dot
    was sent when half of that reply was here."""
    for dotted in (False, True):
        for code in CODES:
            engine = in_text()
            reply = b"%d x\r\n" % code
            found = events(engine, [reply[:cut]])
            if dotted and not found:
                engine.send(Dot())
            found += events(engine, [reply[cut:]])
            refused = code >= 400 and code != 421
            assert [type(event) for event in found] == [Interrupted if refused else Violation], code
            assert engine.phase is Phase.OVER


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_reply_that_began_before_its_command(cut: int) -> None:
    """Would catch what a transaction left unread being taken for the first answer to the next, however TCP cut it."""
    engine = greeted("PIPELINING")
    stray = b"250 stray\r\n"
    found = events(engine, [stray[:cut]])
    if not found:
        engine.send(MailFrom("a@b"))
        found = events(engine, [stray[cut:], b"250 ok\r\n"])
    assert isinstance(found[0], Violation)
    assert len(found) == 1


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
