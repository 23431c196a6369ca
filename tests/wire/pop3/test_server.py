"""The POP3 engine: dialogs, its table, any split, transparency."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.wire.engine import NEED_DATA, WAITING, Broken, Event, LocalProtocolError, Lost, Out, TLSPeer
from hornetmail.wire.pop3 import events as e
from hornetmail.wire.pop3.rendering import whole
from hornetmail.wire.pop3.server import AUTH_BYTES, COMMAND_BYTES, POP3Policy, POP3ServerEngine
from hornetmail.wire.pop3.state import TABLE, Phase
from hornetmail.wire.server import ENDLESS_BYTES

PLAIN = POP3Policy(hostname="mx.example.test", plaintext_login=True)


def begun(policy: POP3Policy = PLAIN) -> POP3ServerEngine:
    engine = POP3ServerEngine(policy)
    assert engine.next_event() is WAITING
    assert engine.send(e.Greeting()) == b"+OK mx.example.test HornetMail POP3\r\n" or policy is not PLAIN
    return engine


def inside() -> POP3ServerEngine:
    engine = begun()
    engine.receive(b"USER a@b.test\r\nPASS s e c r e t \r\n")
    engine.next_event()
    engine.send(e.Ok())
    engine.next_event()
    engine.send(e.Welcome())
    return engine


def ask(engine: POP3ServerEngine, line: bytes) -> Event:
    engine.receive(line + b"\r\n")
    event = engine.next_event()
    assert isinstance(event, Event)
    return event


def refused(engine: POP3ServerEngine, line: bytes) -> bytes:
    event = ask(engine, line)
    assert isinstance(event, Broken)
    return engine.send(event.suggested)


def test_login() -> None:
    """A password may hold spaces, also at its end (RFC 1939 section 7); it never shows in a log."""
    engine = begun()
    assert ask(engine, b"user a@b.test") == e.User("a@b.test")
    assert engine.send(e.Ok("go on")) == b"+OK go on\r\n"
    event = ask(engine, b"PASS s e c r e t ")
    assert event == e.Pass("a@b.test", "s e c r e t ")
    assert "s e c" not in repr(event)
    assert engine.send(e.Err("no", "AUTH")) == b"-ERR [AUTH] no\r\n"
    assert b"USER comes first" in refused(engine, b"PASS x")
    assert b"log in first" in refused(engine, b"STAT")


def test_sasl() -> None:
    """AUTH PLAIN with and without initial response, cancelled, and broken (RFC 5034)."""
    initial = base64.b64encode(b"\0a@b.test\0pw")
    engine = begun()
    assert ask(engine, b"AUTH plain " + initial) == e.Auth("PLAIN", b"\0a@b.test\0pw")
    engine.send(e.Err("no"))
    assert ask(engine, b"AUTH PLAIN =") == e.Auth("PLAIN", b"")
    engine.send(e.Err("no"))
    assert ask(engine, b"AUTH PLAIN") == e.Auth("PLAIN")
    assert engine.send(e.Challenge(b"")) == b"+ \r\n"
    assert refused(engine, b"*") == b"-ERR cancelled\r\n"
    ask(engine, b"AUTH PLAIN")
    engine.send(e.Challenge(b"x"))
    assert b"base64" in refused(engine, b"&&&")
    assert engine.phase is Phase.AUTHORIZATION
    ask(engine, b"AUTH PLAIN")
    engine.send(e.Challenge(b""))
    assert ask(engine, initial) == e.AuthResponse(b"\0a@b.test\0pw")
    engine.send(e.Welcome())
    assert engine.phase is Phase.TRANSACTION
    assert b"-ERR" in refused(engine, b"AUTH PLAIN")


def test_no_login_without_tls() -> None:
    """Passwords are not taken in the clear, and not offered to be; after STLS they are (RFC 2595)."""
    engine = begun(POP3Policy(starttls=True))
    ask(engine, b"CAPA")
    words = engine.send(e.Capabilities())
    assert b"\r\nSTLS\r\n" in words
    assert b"USER" not in words
    assert b"SASL" not in words
    for line in (b"USER a", b"AUTH PLAIN", b"AUTH PLAIN AGEAYg=="):
        assert b"STLS" in refused(engine, line)
    assert ask(engine, b"STLS") == e.Stls()
    assert engine.send(e.Ok()) == b"+OK\r\n"
    assert engine.upgrade
    engine.tls_started(TLSPeer())
    assert not engine.upgrade
    ask(engine, b"CAPA")
    words = engine.send(e.Capabilities(("SCRAM-SHA-256", "PLAIN")))
    assert b"\r\nSTLS\r\n" not in words
    assert b"\r\nSASL SCRAM-SHA-256 PLAIN\r\n" in words
    assert b"active already" in refused(engine, b"STLS")
    assert ask(engine, b"USER a") == e.User("a")


@pytest.mark.parametrize("late", [False, True])
def test_injection(late: bool) -> None:
    """Plaintext behind STLS would be executed inside TLS: fatal, whenever it comes."""
    engine = begun(POP3Policy(starttls=True))
    engine.receive(b"STLS\r\n" if late else b"STLS\r\nCAPA\r\n")
    engine.next_event()
    said = engine.send(e.Ok())
    if late:
        engine.receive(b"CAPA\r\n")
        event = engine.next_event()
        assert isinstance(event, Broken)
        assert event.fatal
        said = engine.send(event.suggested)
    assert said.startswith(b"-ERR")
    assert engine.closing
    assert engine.next_event() is NEED_DATA


def test_commands() -> None:
    """Each command after log-in, and what is wrong with wrong ones."""
    engine = inside()
    answers: list[tuple[bytes, Event, Out]] = [
        (b"STAT", e.Stat(), e.Ok("2 320")),
        (b"list", e.List(), e.Listing("2 messages", b"1 120\r\n2 200\r\n")),
        (b"LIST 2", e.List(2), e.Ok("2 200")),
        (b"UIDL", e.Uidl(), e.Listing("", b"1 a\r\n")),
        (b"UIDL 1", e.Uidl(1), e.Ok("1 a")),
        (b"DELE 1", e.Dele(1), e.Ok()),
        (b"NOOP", e.Noop(), e.Ok()),
        (b"RSET", e.Rset(), e.Ok()),
        (b"CAPA", e.Capa(), e.Capabilities()),
    ]
    for line, event, out in answers:
        assert ask(engine, line) == event
        assert engine.send(out).startswith(b"+OK")
    for line in (
        b"DELE",
        b"DELE 0",
        b"DELE -1",
        b"DELE x",
        b"RETR 1 2",
        b"TOP 1",
        b"TOP 1 -1",
        b"LIST 1 2",
        b"STAT 1",
        b"",
        b"XYZ",
        b"LAST",
    ):
        assert refused(engine, line).startswith(b"-ERR")
    for line in (b"USER a", b"PASS b", b"STLS", b"APOP a b"):
        assert refused(engine, line).startswith(b"-ERR")
    assert refused(engine, b"NOOP \xff").startswith(b"-ERR")
    assert refused(engine, b"DELE 1\0").startswith(b"-ERR")
    assert ask(engine, b"TOP 1 0") == e.Top(1, 0)
    engine.send(e.Err("gone"))
    assert ask(engine, b"QUIT") == e.Quit(update=True)
    assert engine.send(e.Ok("bye")) == b"+OK bye\r\n"
    assert engine.closing


def test_utf8_and_languages() -> None:
    """RFC 6856: UTF8 before log-in only, forgotten with TLS like all that was said in the clear; LANG at any time."""
    engine = begun(POP3Policy(starttls=True, plaintext_login=True))
    assert ask(engine, b"UTF8") == e.Utf8()
    engine.send(e.Ok())
    assert engine.utf8
    assert ask(engine, b"LANG") == e.Lang()
    assert engine.send(e.Listing("", b"en English\r\n")) == b"+OK\r\nen English\r\n.\r\n"
    assert ask(engine, b"lang EN") == e.Lang("en")
    engine.send(e.Ok())
    assert b"one language" in refused(engine, b"LANG en de")
    assert b"arguments" in refused(engine, b"UTF8 now")
    ask(engine, b"STLS")
    engine.send(e.Ok())
    engine.tls_started(TLSPeer())
    assert not engine.utf8
    engine = inside()
    assert b"not now" in refused(engine, b"UTF8")
    assert ask(engine, b"LANG *") == e.Lang("*")


def test_another_protocol() -> None:
    """A browser that is made to speak to us is sent away at once."""
    engine = begun()
    event = ask(engine, b"POST / HTTP/1.1")
    assert isinstance(event, Broken)
    assert event.fatal
    engine.send(event.suggested)
    assert engine.closing


def test_answers_that_do_not_fit() -> None:
    """Our own mistakes raise and change nothing."""
    engine = inside()
    with pytest.raises(LocalProtocolError):
        engine.send(e.Ok())
    ask(engine, b"RETR 1")
    for wrong in (e.Ok(), e.Finish(), e.Body(b"x"), e.Listing("", b"")):
        with pytest.raises(LocalProtocolError):
            engine.send(wrong)
    engine.send(e.Begin())
    for wrong in (e.Ok(), e.Begin(), e.Err("x"), e.Farewell("x")):
        with pytest.raises(LocalProtocolError):
            engine.send(wrong)
    engine.send(e.Finish())
    assert engine.phase is Phase.TRANSACTION
    assert engine.send(e.Farewell("bye")) == b"-ERR [SYS/TEMP] bye\r\n"
    with pytest.raises(LocalProtocolError):
        engine.send(e.Farewell("bye"))


def test_table() -> None:
    """Every row leads somewhere: an event without an answer would hang its connection."""
    for phases, event, outs in TABLE:
        assert phases
        assert outs
        assert event is None or issubclass(event, Event)


def unstuffed(wire: bytes) -> bytes:
    """What a client makes of an answer (RFC 1939 section 3)."""
    first, _, rest = wire.partition(b"\r\n")
    assert first.startswith(b"+OK")
    assert rest.endswith(b"\r\n.\r\n") or rest == b".\r\n"
    lines = rest[:-3].split(b"\r\n")
    assert b"." not in lines
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@settings(max_examples=100)
@given(st.lists(st.sampled_from([b".", b"\r\n", b"..", b"a", b"\r\n.\r\n", b"b.", b"\r"]), max_size=12), st.data())
def test_transparency(pieces: list[bytes], data: st.DataObject) -> None:
    """A dot at a piece's edge left unstuffed ends the message early, or loses a dot; here at every edge."""
    body = b"".join(pieces)
    engine = inside()
    ask(engine, b"RETR 1")
    wire = engine.send(e.Begin())
    pos = 0
    while pos < len(body):
        size = data.draw(st.integers(1, 3))
        wire += engine.send(e.Body(body[pos : pos + size]))
        pos += size
    wire += engine.send(e.Finish())
    whole = body if body.endswith(b"\r\n") or not body else body + b"\r\n"
    assert unstuffed(wire) == whole


def test_bare_line_feed() -> None:
    """A client that takes a lone LF for a line end must not see the end of the message in it."""
    engine = inside()
    ask(engine, b"RETR 1")
    engine.send(e.Begin())
    assert engine.send(e.Body(b"a\n")) + engine.send(e.Body(b".\nb\n.\n")) + engine.send(e.Finish()) == b"a\n..\nb\n..\n\r\n.\r\n"


def events_of(pieces: list[bytes]) -> list[Event]:
    """Events when the session says yes to everything."""
    engine = begun()
    found: list[Event] = []

    def drain() -> None:
        while isinstance(event := engine.next_event(), Event):
            found.append(event)
            if isinstance(event, Lost):
                return
            answer(engine, event)

    for piece in pieces:
        engine.receive(piece)
        drain()
    engine.receive(b"")
    drain()
    return found


def answer(engine: POP3ServerEngine, event: Event) -> None:
    if isinstance(event, Broken):
        engine.send(event.suggested)
    elif isinstance(event, (e.Pass, e.AuthResponse)):
        engine.send(e.Welcome())
    elif isinstance(event, e.Auth):
        engine.send(e.Challenge(b""))
    elif isinstance(event, e.Capa):
        engine.send(e.Capabilities())
    elif isinstance(event, (e.Retr, e.Top)):
        engine.send(e.Begin())
        engine.send(e.Finish())
    else:
        engine.send(e.Ok())


LINES = st.sampled_from(
    [
        b"USER a",
        b"PASS b c",
        b"AUTH PLAIN",
        b"AGEAYg==",
        b"*",
        b"CAPA",
        b"STAT",
        b"LIST 1",
        b"RETR 1",
        b"TOP 1 2",
        b"DELE 1",
        b"NOOP",
        b"RSET",
        b"XX",
        b"QUIT",
        b"",
        b"\xff",
        b"a" * COMMAND_BYTES,
        b"a" * (COMMAND_BYTES + 1),
        b"a" * (AUTH_BYTES + 2),
        b"a" * (ENDLESS_BYTES + 1),
        b"STLS",
        b"\r",
    ]
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(LINES, max_size=8), st.sampled_from([b"\r\n", b"\n"]), st.lists(st.integers(1, 70_000), max_size=12), st.booleans()
)
def test_any_split(lines: list[bytes], end: bytes, cuts: list[int], whole: bool) -> None:
    """The same bytes in other pieces are the same conversation."""
    stream = b"".join(line + end for line in lines) + (b"" if whole else b"rest")
    pieces, pos = [], 0
    for cut in cuts:
        if stream[pos : pos + cut]:
            pieces.append(stream[pos : pos + cut])
            pos += cut
    if stream[pos:]:
        pieces.append(stream[pos:])
    together = events_of([stream] if stream else [])
    assert events_of(pieces) == together
    if len(stream) < 3_000:
        assert events_of([stream[i : i + 1] for i in range(len(stream))]) == together


@given(st.lists(st.sampled_from([b".", b"\r\n", b"..", b"a", b"\r\n.\r\n", b"b.", b"\r", b"\n"]), max_size=12).map(b"".join))
def test_whole_is_what_its_pieces_are(body: bytes) -> None:
    """Would catch a short message that goes out otherwise than a long one."""
    one, other = inside(), inside()
    ask(one, b"RETR 1")
    ask(other, b"RETR 1")
    pieces = other.send(e.Begin(f"{len(body)} octets")) + other.send(e.Body(body)) + other.send(e.Finish())
    assert one.send(e.Whole(whole(body, len(body)))) == pieces
    assert one.phase is other.phase is Phase.TRANSACTION
