"""The IMAP server engine without any session."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.wire.engine import NEED_DATA, WAITING, Broken, Chunk, End, Event, LocalProtocolError, Lost, TLSPeer
from hornetmail.wire.imap.answers.answers import Bye, Continuation, Greeting, Tagged, Untagged
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.server.server import Bounds, ImapServerEngine
from hornetmail.wire.imap.server.state import TABLE, Phase
from tests.strategies import any_bytes

SMALL = Bounds(line=200, literal=100, command=400, stranger_line=120, stranger_literal=50, discard=1000)


def greeted(bounds: Bounds = SMALL, *, inside: bool = True) -> ImapServerEngine:
    engine = ImapServerEngine(bounds=bounds)
    engine.send(Greeting("here"))
    if inside:
        engine.receive(b"x LOGIN a b\r\n")
        assert isinstance(engine.next_event(), c.Login)
        engine.send(Tagged("OK", "in"))
    return engine


def play(engine: ImapServerEngine, pieces: list[bytes]) -> list[object]:
    """All events, neighbouring chunks joined, with the bytes that answered them; every command is said yes to."""
    out: list[object] = []
    for piece in pieces:
        engine.receive(piece)
        while True:
            event = engine.next_event()
            if event is NEED_DATA or event is WAITING:
                break
            assert isinstance(event, Event)
            if isinstance(event, Chunk):
                assert len(event.data) <= 65_536
                if out and isinstance(out[-1], bytearray):
                    out[-1] += event.data
                else:
                    out.append(bytearray(event.data))
                continue
            out.append(event)
            if isinstance(event, Lost):
                return out
            if isinstance(event, Broken):
                out.append(engine.send(event.suggested))
            elif isinstance(event, c.LiteralWanted | c.Append | c.Further | c.Idle):
                out.append(engine.send(Continuation()))
            elif isinstance(event, c.Authenticate):
                out.append(engine.send(Continuation("Zg==")))
            else:
                out.append(engine.send(Tagged("OK", "done")))
            if engine.upgrade:
                engine.tls_started(TLSPeer())
    return out


LINES = st.sampled_from(
    [
        b"a1 NOOP\r\n",
        b"a2 SELECT inbox\r\n",
        b"a3 FETCH 1:* (FLAGS BODY.PEEK[1.2]<0.9>)\r\n",
        b'a4 STATUS "In\\"box" (MESSAGES)\r\n',
        b"a5 APPEND INBOX (\\Seen) {8+}\r\nabc\r\n{1}\r\n",
        b"a6 APPEND {5}\r\nINBOX {3}\r\nabc\r\n",
        b"a6 APPEND INBOX {3}\r\nabc too much {3+}\r\nxyz\r\n",
        b"a6 APPEND INBOX {3+}\r\nabc (\\Seen) {2}\r\nde ~{4+}\r\n{3+}\r\n",
        b"a6 APPEND INBOX {3+}\r\nabc (\\Seen {2+}\r\nde {3+}\r\nfgh\r\n",
        b"a6 UID REPLACE 7 INBOX ~{3+}\r\na\0c\r\n",
        b"a7 ENABLE UTF8=ACCEPT\r\na7 APPEND INBOX UTF8 (~{3+}\r\na\0c) UTF8 (~{2}\r\nde\r\n",
        b"a7 SEARCH SUBJECT {3+}\r\nabc FROM {2}\r\nde\r\n",
        b"a8 SEARCH SUBJECT {300+}\r\n" + b"z" * 300 + b" x {2+}\r\nab\r\n",
        b"a9 IDLE\r\nDONE\r\n",
        b"b1 IDLE\r\nNOOP\r\n",
        b"b2 LOGIN {3}\r\n",
        b"b3 \r\n",
        b"nonsense\r\n",
        b"b4 NOOP\n",
        b"\r\n",
        b"b5 SEARCH {2+}\r\n\0\0\r\n",
        b"b6 FETCH " + b"1," * 100 + b"1 FLAGS\r\n",
        b"b7 LOGOUT\r\n",
        b"{3+}\r\nabc\r\n",
    ]
)


@settings(max_examples=100)
@given(st.lists(LINES, max_size=8), st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_any_split_gives_the_same(lines: list[bytes], cuts: list[int], inside: bool) -> None:
    """Catches parsing that depends on where the network cuts (wire/engine.py, last rule)."""
    data = b"".join(lines)
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    split = [data[a:b] for a, b in itertools.pairwise(at) if b > a]
    whole = play(greeted(inside=inside), [data, b""] if data else [b""])
    assert play(greeted(inside=inside), [*split, b""]) == whole
    single = [bytes([byte]) for byte in data]
    assert play(greeted(inside=inside), [*single, b""]) == whole


TOKENS = st.sampled_from(
    b'a1 |UID |FETCH |SEARCH |STORE |LIST |APPEND |LOGIN |AUTHENTICATE |RETURN |BODY|[|]|(|)|{3}\r\n|{3+}\r\n|"|\\|*|%|1|:|,|.|<|>| |NIL|\0|\xff|\r\n|'
    b"~{3+}\r\n|~{2}\r\n|REPLACE |UID REPLACE 1 |APPEND x |UTF8 (|ENABLE UTF8=ACCEPT\r\n|COMPRESS DEFLATE\r\n|BINARY|.SIZE|"
    b"HEADER.FIELDS|FLAGS|+FLAGS|OR |NOT |CHARSET |UTF-8|&-|&|~|STATUS|MESSAGES|DONE|=|=\r\n".split(b"|")
)


@settings(max_examples=100)
@given(st.lists(st.one_of(TOKENS, any_bytes(6)), max_size=40).map(b"".join), st.booleans())
def test_never_raises(data: bytes, inside: bool) -> None:
    """Catches whatever a peer may send that makes the engine raise instead of answer."""
    engine = greeted(inside=inside)
    play(engine, [data, b""])
    assert engine.buffered <= len(data)


@pytest.mark.parametrize("word", ["SEARCH ", "SEARCH NOT ", "SEARCH OR ALL "])
def test_nesting_is_bounded(word: str) -> None:
    """Catches recursion that a stranger controls."""
    engine = greeted(Bounds())
    key = word.removeprefix("SEARCH ") or "("
    line = f"a SEARCH {key * 5000}ALL\r\n".encode()
    events = play(engine, [line])
    assert isinstance(events[0], Broken)
    assert "too deeply" in events[0].reason


def test_endless_line_ends_the_connection() -> None:
    """Catches a buffer that grows as long as somebody sends (bounded at the line's limit)."""
    engine = greeted(inside=False)
    events = play(engine, [b"a" * 121])
    assert isinstance(events[0], Broken)
    assert events[0].fatal
    assert events[1].startswith(b"* BYE")  # type: ignore[attr-defined]
    assert engine.closing
    assert not engine.buffered


def test_plaintext_behind_starttls_is_fatal() -> None:
    """Catches commands injected before TLS (RFC 3501 section 11.3 by way of engine.py's rule)."""
    engine = greeted(inside=False)
    events = play(engine, [b"a STARTTLS\r\nb LOGIN x y\r\n"])
    assert len(events) == 2
    assert isinstance(events[0], Broken)
    assert engine.closing
    assert not engine.upgrade


def test_plaintext_that_comes_while_starttls_is_answered_is_fatal() -> None:
    """Catches the same, sent a moment later."""
    engine = greeted(inside=False)
    engine.receive(b"a STARTTLS\r\n")
    assert isinstance(engine.next_event(), c.Starttls)
    engine.receive(b"b NOOP\r\n")
    assert engine.send(Tagged("OK", "go")).startswith(b"* BYE")
    assert engine.closing
    assert not engine.upgrade


def test_plaintext_between_the_answer_and_the_handshake_is_fatal() -> None:
    """Catches the same, sent when STARTTLS is answered and TLS is not up."""
    engine = greeted(inside=False)
    engine.receive(b"a STARTTLS\r\n")
    assert isinstance(engine.next_event(), c.Starttls)
    assert engine.send(Tagged("OK", "go")) == b"a OK go\r\n"
    assert engine.upgrade
    assert engine.next_event() is NEED_DATA
    engine.receive(b"b LOGIN x y\r\n")
    event = engine.next_event()
    assert isinstance(event, Broken)
    assert event.fatal
    assert engine.send(event.suggested).startswith(b"* BYE")
    assert engine.closing
    assert not engine.buffered


def test_starttls_then_login() -> None:
    """Catches an engine that does not go on after the handshake, or offers TLS twice."""
    engine = greeted(inside=False)
    play(engine, [b"a STARTTLS\r\n"])
    assert engine.tls
    events = play(engine, [b"b STARTTLS\r\n", b"c LOGIN x y\r\n"])
    assert isinstance(events[0], Broken)
    assert isinstance(events[2], c.Login)
    assert engine.phase is Phase.AUTHENTICATED


def test_nothing_is_parsed_before_the_answer() -> None:
    """Catches pipelined commands overtaking one another."""
    engine = greeted()
    engine.receive(b"a NOOP\r\nb NOOP\r\n")
    assert engine.next_event() == c.Noop(b"a")
    assert engine.next_event() is WAITING
    assert engine.send(Untagged(b"* 1 EXISTS\r\n")) == b"* 1 EXISTS\r\n"
    assert engine.next_event() is WAITING
    assert engine.send(Tagged("OK", "done\r\nx", "C\nODE")) == b"a OK [C ODE] done  x\r\n"
    assert engine.next_event() == c.Noop(b"b")


def test_our_own_mistakes_leave_the_state() -> None:
    """Catches a state that moves although ``send`` refused."""
    engine = ImapServerEngine()
    for out in (Tagged("OK", "x"), Untagged(b""), Continuation()):
        with pytest.raises(LocalProtocolError):
            engine.send(out)
    assert engine.phase is Phase.GREETING
    engine.send(Greeting("x"))
    with pytest.raises(LocalProtocolError):
        engine.send(Greeting("x"))
    with pytest.raises(LocalProtocolError):
        engine.send(Tagged("OK", "x"))
    engine.receive(b"a NOOP\r\n")
    engine.next_event()
    with pytest.raises(LocalProtocolError):
        engine.send(Continuation())
    assert engine.send(Tagged("OK", "x")) == b"a OK x\r\n"
    engine.send(Bye("end"))
    with pytest.raises(LocalProtocolError):
        engine.send(Bye("again"))


def test_refused_append_without_waiting_is_skipped() -> None:
    """Catches a refused LITERAL+ message whose lines run as commands."""
    engine = greeted()
    engine.receive(b"a APPEND x {8+}\r\nb NOOP\r\n\r\nc NOOP\r\n")
    assert isinstance(engine.next_event(), c.Append)
    engine.send(Tagged("NO", "no"))
    assert engine.next_event() == c.Noop(b"c")


def test_far_too_large_refused_append_ends_the_connection() -> None:
    """Catches gigabytes being read only to be thrown away."""
    engine = greeted()
    engine.receive(b"a APPEND x {1001+}\r\n")
    assert isinstance(engine.next_event(), c.Append)
    assert engine.send(Tagged("NO", "no")).startswith(b"* BYE")
    assert engine.closing


def test_message_comes_in_bounded_chunks() -> None:
    """Catches an APPEND that is held whole in memory."""
    engine = greeted()
    engine.receive(b"a APPEND x {100000}\r\n")
    assert isinstance(engine.next_event(), c.Append)
    engine.send(Continuation())
    engine.receive(b"z" * 100_000 + b"\r\n")
    sizes = []
    while isinstance(event := engine.next_event(), Chunk):
        sizes.append(len(event.data))
    assert sizes == [65_536, 34_464]
    assert event == End()


def test_every_command_has_its_phases() -> None:
    """Catches a command that was added without saying when it is allowed."""
    kinds = {kind for kind in vars(c).values() if isinstance(kind, type) and issubclass(kind, c.Command)} - {c.Command}
    assert kinds <= {asked for _, asked, _ in TABLE}


def test_a_thousand_literals_that_come_unasked_are_one_command() -> None:
    """RFC 7888 section 3: catches an engine that goes a level deeper for each literal that is here already, so that a stranger's line of 300 empty ones
    breaks it; and literals without a bound."""
    engine = greeted(Bounds(), inside=False)
    engine.receive(b"a ID (" + b" ".join([b"{1+}\r\na {0+}\r\n"] * 500) + b")\r\n")
    refused = play(engine, [b"x"])[0]
    assert isinstance(refused, Broken)
    assert "too many fields" in refused.reason
    engine = greeted(Bounds())
    play(engine, [b"s SELECT INBOX\r\n"])
    engine.receive(b"b SEARCH" + b" TEXT {1+}\r\nx" * 900 + b"\r\nc SEARCH TEXT" + b" {0+}\r\n" * 2500 + b"\r\nd NOOP\r\n")
    first, _, second, said, third, *_ = play(engine, [b"x"])
    assert isinstance(first, c.Search)
    assert first.tag == b"b"
    assert isinstance(second, Broken)
    assert said == b"c BAD [TOOBIG] Too many literals\r\n"
    assert isinstance(third, c.Noop)
    assert third.tag == b"d"
