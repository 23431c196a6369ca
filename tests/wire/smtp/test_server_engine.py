"""The SMTP server engine: any split, every phase, all ways of smuggling."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.core.mail.reply import Reply
from hornetmail.wire.engine import NEED_DATA, WAITING, Broken, Chunk, End, Event, LocalProtocolError, Lost, Out, TLSPeer
from hornetmail.wire.smtp.data import Stuffer, Unstuffer
from hornetmail.wire.smtp.events import (
    Accept,
    Auth,
    AuthResponse,
    Challenge,
    Data,
    Farewell,
    GoAhead,
    Greeting,
    Hello,
    Mail,
    Noop,
    PerRecipient,
    Quit,
    Rcpt,
    Refuse,
    StartTLS,
    Welcome,
)
from hornetmail.wire.smtp.server import Policy, ServerEngine
from hornetmail.wire.smtp.state import TABLE, Phase
from tests.strategies import any_bytes

OK = Reply(250, "2.0.0", "ok")


def usual(event: Event) -> Out:
    """The friendly answer."""
    if isinstance(event, Hello):
        return Welcome(("PLAIN", "LOGIN", "UNHEARD-OF"))
    if isinstance(event, Data):
        return GoAhead() if event.recipients else Refuse(Reply(554, "5.5.1", "no valid recipients"))
    if isinstance(event, (Auth, AuthResponse)):
        return Accept(Reply(235, "2.7.0", "welcome")) if getattr(event, "initial", b"x") is not None else Challenge(b"Username:")
    if isinstance(event, (Quit, StartTLS)):
        return Accept(Reply(221 if isinstance(event, Quit) else 220, "2.0.0", "bye"))
    if isinstance(event, Broken):
        return event.suggested
    return Accept(OK)


def run(engine: ServerEngine, pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """Feed pieces and answer; the events with chunks joined, and what was said."""
    events: list[Event] = []
    said = b""
    for piece in filter(None, pieces):
        engine.receive(piece)
        while (step := engine.next_event()) not in (NEED_DATA, WAITING):
            assert isinstance(step, Event)
            if isinstance(step, Chunk):
                assert len(step.data) <= 65_536
                if events and isinstance(events[-1], Chunk):
                    events[-1] = Chunk(events[-1].data + step.data)
                elif step.data:
                    events.append(step)
            else:
                events.append(step)
                if isinstance(step, Lost):
                    break
                said += engine.send(usual(step))
            if engine.closing:
                break
    return events, said


def fresh(**keywords: object) -> ServerEngine:
    engine = ServerEngine(Policy(hostname="mx.example.test", **keywords))  # type: ignore[arg-type]
    engine.send(Greeting())
    return engine


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({p % (len(data) + 1) for p in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


LINES = st.sampled_from(
    [
        b"EHLO client.example.test\r\n",
        b"HELO x\r\n",
        b"MAIL FROM:<a@example.test> SIZE=100 BODY=8BITMIME\r\n",
        b"MAIL FROM:<>\r\n",
        b"RCPT TO:<b@example.test>\r\n",
        b'RCPT TO:<"q >\\" "@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+40x\r\n',
        "RCPT TO:<müller@example.test>\r\n".encode(),
        b"DATA\r\n",
        b"Subject: x\r\n\r\n..dot\r\ntext\r\n.\r\n",
        b".\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"AUTH PLAIN AGEAYg==\r\n",
        b"AUTH LOGIN\r\n",
        b"YQ==\r\n",
        b"*\r\n",
        b"VRFY a\r\n",
        b"bare\nline\n",
        b"\x00\xff\r\n",
        b"x" * 3000 + b"\r\n",
        b"QUIT\r\n",
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(LINES, max_size=14), st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_gives_the_same_events(lines: list[bytes], places: list[int]) -> None:
    """Would catch a parser that depends on how TCP cut the bytes. (Text behind a refused DATA ends the connection if it is already
    here, so such inputs are compared up to there.)"""
    data = b"".join([b"EHLO c\r\n", *lines])
    whole, said = run(fresh(auth=("PLAIN", "LOGIN"), auth_plaintext=True), [data])
    split, said_split = run(fresh(auth=("PLAIN", "LOGIN"), auth_plaintext=True), cut(data, places))
    if any(isinstance(e, Data) and not e.recipients for e in whole):
        assert split[: len(whole)] == whole
    else:
        assert (_whole_texts(split), said_split) == (_whole_texts(whole), said)


def _whole_texts(events: list[Event]) -> list[Event]:
    """Without the beginnings of texts that are refused or never end: how far one is handed on before its flaw is seen lies in the cuts."""
    return [
        event
        for event, following in itertools.zip_longest(events, events[1:])
        if not isinstance(event, Chunk) or isinstance(following, End)
    ]


@settings(max_examples=100, deadline=None)
@given(any_bytes(3000), st.lists(st.integers(0, 3000), max_size=6))
def test_garbage_never_raises(data: bytes, places: list[int]) -> None:
    """Would catch an exception that a peer can cause."""
    run(fresh(), cut(b"EHLO x\r\n" + data + b"\r\n", places))


BODY = b"Subject: smuggle\r\n\r\nfirst"
SMUGGLES = [
    b"\n.\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n\n.\n\n",
    b"\r\n\x00.\r\n",
    b"\r\r\n.\r\r\n",
    b"\n.\r",
    b"\r.\n",
]


def envelope() -> bytes:
    return b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n"


@pytest.mark.parametrize("how", SMUGGLES)
def test_smuggling_is_refused_at_every_split(how: bytes) -> None:
    """Would catch a second message smuggled behind a false end of data, wherever it is cut (550 5.6.11)."""
    text = BODY + how + b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nevil\r\n.\r\n"
    for place in range(len(text)):
        engine = fresh()
        run(engine, [envelope()])
        events, said = run(engine, [text[:place], text[place:]])
        assert said == b"550 5.6.11 " + said[11:]
        assert said.count(b"\r\n") == 1
        assert not any(isinstance(e, (Mail, End)) for e in events)
        assert engine.phase is Phase.READY


@pytest.mark.parametrize("how", [h for h in SMUGGLES if b"\x00" not in h])
def test_normalising_never_ends_early(how: bytes) -> None:
    """Would catch a normalised bare CR or LF that makes an end of data, or one that stays bare."""
    text = BODY + how + b"MAIL FROM:<evil@example.test>\r\n.\r\n"
    seen = set()
    for place in range(len(text)):
        engine = fresh(bare="normalise")
        run(engine, [envelope()])
        events, said = run(engine, [text[:place], text[place:]])
        assert said.startswith(b"250 ")
        assert [type(e) for e in events] == [Chunk, End]
        assert isinstance(events[0], Chunk)
        clean = events[0].data
        assert clean.count(b"\r") == clean.count(b"\n") == clean.count(b"\r\n")
        assert b"evil" in clean
        seen.add(clean)
    assert len(seen) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\r\n.", b"long " * 50, b"\xff\xfe"]), max_size=40).map(b"".join),
    st.lists(st.integers(0, 4000), max_size=10),
    st.lists(st.integers(0, 4000), max_size=10),
)
def test_stuffing_and_unstuffing_are_inverse(text: bytes, cuts_out: list[int], cuts_in: list[int]) -> None:
    """Would catch a dot lost or doubled at a chunk edge or on the first line, on either side."""
    if text and not text.endswith(b"\r\n"):
        text += b"\r\n"
    stuffer = Stuffer()
    wire = b"".join(stuffer.feed(piece) for piece in cut(text, cuts_out)) + stuffer.finish()
    engine = fresh()
    run(engine, [envelope()])
    events, said = run(engine, cut(wire, cuts_in))
    assert said == b"250 2.0.0 ok\r\n"
    assert b"".join(e.data for e in events if isinstance(e, Chunk)) == text


def test_stuffer_lets_nothing_bare_out() -> None:
    """Would catch outbound smuggling from stored mail with bare line ends."""
    for text in (b"a\n.\nb", b"a\r.\rb", b"a\r", b".\n", b"\n.\r\n."):
        for place in range(len(text) + 1):
            stuffer = Stuffer()
            wire = stuffer.feed(text[:place]) + stuffer.feed(text[place:]) + stuffer.finish()
            assert wire.endswith(b"\r\n.\r\n") or wire == b".\r\n"
            assert wire.count(b"\r\n.\r\n") <= 1
            assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")


def test_large_text_comes_in_chunks() -> None:
    """Would catch a body held whole, or an event too large for the pump's bargain."""
    engine = fresh()
    run(engine, [envelope()])
    line = b"x" * 998 + b"\r\n"
    events, said = run(engine, [line * 3000, b".\r\n"])
    assert said.startswith(b"250")
    assert isinstance(events[0], Chunk)
    assert events[0].data == line * 3000
    assert engine.buffered == 0


def test_size_limit_is_kept_without_size_parameter() -> None:
    """Would catch a message over the limit that did not declare its size (552 after its end, and the connection goes on)."""
    engine = fresh(max_size=1000)
    run(engine, [envelope()])
    events, said = run(engine, [b"x" * 900 + b"\r\n", b"y" * 200 + b"\r\n.\r\nNOOP\r\n"])
    assert said.startswith(b"552 5.3.4 ")
    assert said.endswith(b"250 2.0.0 ok\r\n")
    assert not any(isinstance(e, End) for e in events)


def test_long_text_lines_never_become_commands() -> None:
    """Would catch twisted.mail's fault: a line over a limit inside DATA drops the session into command mode."""
    engine = fresh(max_text_line=70_000)
    run(engine, [envelope()])
    events, said = run(engine, [b"x" * 69_000 + b"\r\n.\r\n"])
    assert said.startswith(b"250")
    run(engine, [envelope()[8:]])
    events, said = run(engine, [b"x" * 60_000, b"x" * 60_000 + b"\r\nQUIT\r\n.\r\n"])
    assert said.startswith(b"554 5.6.0")
    assert [type(e) for e in events] == [Chunk, Broken]


def test_plaintext_behind_starttls_is_fatal() -> None:
    """Would catch STARTTLS injection (RFC 3207 section 4.2): commands sent in the clear must not run inside TLS."""
    engine = fresh(starttls=True)
    events, said = run(engine, [b"EHLO x\r\nSTARTTLS\r\nRSET\r\n"])
    assert engine.closing
    assert b"554" in said
    assert b"220" not in said
    engine = fresh(starttls=True)
    run(engine, [b"EHLO x\r\nSTARTTLS\r\n"])
    assert engine.upgrade
    events, _ = run(engine, [b"RSET\r\n"])
    assert isinstance(events[0], Broken)
    assert engine.closing


def test_bytes_that_arrive_while_starttls_is_answered_are_fatal() -> None:
    """Would catch the same injection when the answer takes its time."""
    engine = fresh(starttls=True)
    engine.receive(b"STARTTLS\r\n")
    assert isinstance(engine.next_event(), StartTLS)
    engine.receive(b"NOOP\r\n")
    assert engine.send(Accept(Reply(220, "2.0.0", "go"))).startswith(b"554")
    assert engine.closing
    assert not engine.upgrade


def test_tls_forgets_what_was_before() -> None:
    """Would catch a transaction or EHLO that survives the handshake (RFC 3207 section 4.2)."""
    engine = fresh(starttls=True, auth=("PLAIN",))
    _, said = run(engine, [b"EHLO x\r\nAUTH PLAIN AGEAYg==\r\nSTARTTLS\r\n"])
    assert b"STARTTLS" in said
    assert b"AUTH" not in said.split(b"538")[0]
    engine.tls_started(TLSPeer("TLSv1.3"))
    _, said = run(engine, [b"MAIL FROM:<a@b>\r\nEHLO x\r\nSTARTTLS\r\n"])
    assert said.startswith(b"503")
    assert b"250-STARTTLS" not in said
    assert b"250-AUTH PLAIN" in said
    assert said.endswith(b"503 5.5.1 TLS is active\r\n")


def test_auth_dialogue() -> None:
    """Would catch wrong base64, cancelling and repetition (RFC 4954 section 4)."""
    engine = fresh(auth=("PLAIN", "LOGIN"), auth_plaintext=True)
    events, said = run(engine, [b"EHLO x\r\nAUTH LOGIN\r\n*\r\nAUTH PLAIN !!\r\nAUTH CRAM-MD5\r\nAUTH PLAIN =\r\nAUTH PLAIN\r\n"])
    replies = [line[:3] for line in said.splitlines() if line[3:4] == b" "]
    assert replies == [b"250", b"334", b"501", b"501", b"504", b"235", b"503"]
    assert "secret" not in repr(AuthResponse(b"secret"))
    engine = fresh(auth=("PLAIN",), auth_plaintext=True)
    big = base64.b64encode(b"\0a\0" + b"x" * 8000)
    events, _ = run(engine, [b"EHLO x\r\nAUTH PLAIN " + big + b"\r\n"])
    assert isinstance(events[-1], Auth)


def test_unknown_words_and_other_protocols() -> None:
    """Would catch a browser that posts mail to us, and unknown commands that end a session."""
    engine = fresh()
    _events, said = run(engine, [b"FOO\r\nEHLO x\r\nMAIL FROM:<a@b> FOO=1\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert [line[:3] for line in said.splitlines() if line[3:4] == b" "] == [b"500", b"250", b"555", b"554"]
    assert engine.closing


def test_endless_line() -> None:
    """Would catch memory that grows with a line that never ends."""
    engine = fresh()
    events, said = run(engine, [b"x" * 40_000, b"x" * 40_000])
    assert isinstance(events[-1], Broken)
    assert events[-1].fatal
    assert engine.buffered == 0
    assert said.startswith(b"500")


def test_a_long_line_is_refused_and_not_kept() -> None:
    """Would catch what no command can be kept until its line ends, and a line that is cut in two commands."""
    engine = fresh()
    events, said = run(engine, [b"NOOP " + b"x" * 20_000])
    assert (events, engine.buffered) == ([], 0)
    events, said = run(engine, [b"RSET\r", b"\nNOOP\r\n"])
    assert [type(event) for event in events] == [Broken, Noop]
    assert said.startswith(b"500")
    assert not engine.closing


def test_text_behind_a_refused_data_is_not_run() -> None:
    """Would catch message text that runs as commands because the client did not wait for 354."""
    engine = fresh()
    events, _said = run(engine, [b"EHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\nRSET\r\nMAIL FROM:<evil@b>\r\n"])
    assert [type(e) for e in events] == [Hello, Mail, Data]
    assert engine.closing


def test_wrong_answers_raise_and_change_nothing() -> None:
    """Would catch a session that answers what was not asked."""
    engine = fresh()
    with pytest.raises(LocalProtocolError):
        engine.send(Accept(OK))
    engine.receive(b"EHLO x\r\n")
    engine.next_event()
    for out in (Accept(OK), GoAhead(), Challenge(), PerRecipient(())):
        with pytest.raises(LocalProtocolError):
            engine.send(out)
    assert engine.next_event() is WAITING
    assert engine.send(Welcome()).startswith(b"250-mx.example.test\r\n")
    assert engine.send(Farewell(Reply(421, "4.3.2", "going down"))) == b"421 4.3.2 going down\r\n"
    assert engine.closing


def test_lmtp_answers_each_recipient() -> None:
    """Would catch LMTP with one reply for all (RFC 2033 section 4.2)."""
    engine = fresh(lmtp=True)
    run(engine, [b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@b>\r\nRCPT TO:<c@b>\r\nDATA\r\n"])
    engine.receive(b"text\r\n.\r\n")
    assert isinstance(engine.next_event(), Chunk)
    assert isinstance(engine.next_event(), End)
    with pytest.raises(LocalProtocolError):
        engine.send(PerRecipient((OK,)))
    assert engine.send(PerRecipient((OK, Reply(450, "4.2.0", "later")))) == b"250 2.0.0 ok\r\n450 4.2.0 later\r\n"
    _, said = run(engine, [b"EHLO x\r\n"])
    assert said.startswith(b"500")


def test_table_names_every_open_event_once() -> None:
    """Would catch two rows of the state machine that contradict each other."""
    rows = [(phase, event) for phases, event, _ in TABLE for phase in phases]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"MAIL FROM:a@b", b"501 5.5.4"),
        (b"MAIL FROM:<a@b", b"501 5.5.4"),
        (b"MAIL FROM:<a b@c>", b"501 5.1.7"),
        (b"MAIL FROM:<a@b> SIZE=x", b"501 5.5.4"),
        (b"MAIL FROM:<a@b> SIZE=1 SIZE=1", b"501 5.5.4"),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME", b"501 5.5.4"),
        ("MAIL FROM:<ä@b>".encode(), b"553 5.6.7"),
        ("MAIL FROM:<ä@b> SMTPUTF8".encode(), b"250 2.0.0"),
        (b"MAIL FROM:<@hop.test,@b.test:a@b> RET=HDRS ENVID=x+2By", b"250 2.0.0"),
        (b"mail from: <A@B.example>", b"250 2.0.0"),
        (b'MAIL FROM:<"a>b"@c> SIZE=1', b"250 2.0.0"),
        (b'MAIL FROM:<"a\\"> b"@c>', b"250 2.0.0"),
        (b'MAIL FROM:<"a>b@c>', b"501 5.5.4"),
        (b"RCPT TO:<a@b>", b"503 5.5.1"),
        (b"EHLO", b"501 5.5.4"),
    ],
)
def test_arguments(line: bytes, code: bytes) -> None:
    """Would catch arguments taken that no RFC allows, and good ones refused."""
    engine = fresh()
    _, said = run(engine, [b"EHLO x\r\n"])
    _events, said = run(engine, [line + b"\r\n"])
    assert said[:9] == code


@pytest.mark.parametrize("line", [b"\n", b"NOOP\n", b"NO\rOP\r\n", b"\r\r\n"])
def test_lines_end_with_crlf(line: bytes) -> None:
    """Would catch command lines that end where no other server sees an end (RFC 5321 section 2.3.8)."""
    engine = fresh()
    _, said = run(engine, [b"EHLO x\r\n"])
    events, said = run(engine, [line])
    assert said == b"500 5.5.2 lines end with CRLF\r\n"
    assert isinstance(events[0], Broken)


def test_recipient_parameters_are_parsed() -> None:
    """Would catch DSN wishes lost on the way (RFC 3461 sections 4.1, 4.2)."""
    engine = fresh()
    events, _ = run(
        engine, [b"EHLO x\r\nMAIL FROM:<> ENVID=a+2Bb\r\nRCPT TO:<b@b> NOTIFY=failure,delay ORCPT=rfc822;x+3Dy@z\r\n"]
    )
    assert isinstance(events[1], Mail)
    assert events[1].envid == "a+b"
    assert isinstance(events[2], Rcpt)
    assert events[2].recipient.notify == ("FAILURE", "DELAY")
    assert events[2].recipient.orcpt == "rfc822;x=y@z"


def test_unstuffer_flaw_does_not_depend_on_the_cut() -> None:
    """Would catch a verdict that changes with TCP's segments."""
    text = b"a\nb\0c" + b"x" * 300 + b"\r\n.\r\n"
    seen = set()
    for place in range(len(text)):
        unstuffer = Unstuffer(max_size=100, max_line=50, normalise=False)
        _, at, over = unstuffer.take(text[:place], 0)
        rest = text[:place][at:] + text[place:]
        at = 0
        while not over:
            _, at, over = unstuffer.take(rest, at)
        seen.add((unstuffer.flaw, unstuffer.size))
    assert len(seen) == 1
