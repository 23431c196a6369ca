"""The IMAP client engine: what a server says in any split, and what it may never make us believe, hold or do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.wire.engine import NEED_DATA, Chunk, Event, LocalProtocolError, Lost, Out, TLSPeer
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.imap.client.engine import UNTAGGED, ClientEngine
from hornetmail.wire.imap.client.reader import RESPONSE_BYTES
from hornetmail.wire.imap.client.state import Phase
from tests.strategies import any_bytes

OK, NO = c.Status.OK, c.Status.NO


def events(engine: ClientEngine, pieces: Iterable[bytes]) -> list[Event]:
    found: list[Event] = []
    for piece in filter(None, pieces):
        engine.receive(piece)
        while (step := engine.next_event()) is not NEED_DATA:
            assert isinstance(step, Event)
            found.append(step)
            if isinstance(step, Lost):
                return found
    return found


def said(engine: ClientEngine, data: bytes) -> list[Event]:
    return events(engine, [data])


def inside(*capabilities: str, selected: bool = False) -> ClientEngine:
    """Logged in; with ``selected`` INBOX is, too."""
    engine = ClientEngine()
    said(engine, b"* PREAUTH [CAPABILITY IMAP4rev1 %b] hello\r\n" % " ".join(capabilities).encode())
    if selected:
        engine.send(c.Select(b"INBOX"))
        said(engine, b"h1 OK [READ-WRITE] done\r\n")
        assert engine.phase is Phase.SELECTED
    return engine


def joined(found: Sequence[Event]) -> list[Event]:
    """The same wherever chunks were cut."""
    out: list[Event] = []
    for event in found:
        if isinstance(event, Chunk) and out and isinstance(out[-1], Chunk):
            out[-1] = Chunk(out[-1].data + event.data)
        else:
            out.append(event)
    return out


FETCHED = (
    b"* 3 EXISTS\r\n"
    b'* 1 FETCH (UID 7 FLAGS (\\seen $Forwarded) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 4286)\r\n'
    b'* 2 FETCH (BODY[HEADER.FIELDS (TO {2}\r\nCC)] NIL ENVELOPE ("a" NIL (("x" NIL {3}\r\na\r\n "b"))) BODY[]<0> {11}\r\nab\r\nh2 OK\r\n UID 9)\r\n'
    b'* 3 FETCH (BODY[TEXT] "short" UID 10)\r\n'
    b"* 2 EXPUNGE\r\n* OK [ALERT] full soon {5}\r\n"
    b"h2 OK [X] done {3}\r\n"
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, len(FETCHED) - 1), max_size=20))
def test_any_split_says_the_same(cuts: list[int]) -> None:
    """A line end, a literal's end or its announcement that is cut by the network: parts of mail would be taken for responses."""
    places = [0, *sorted(cuts), len(FETCHED)]
    engine = inside(selected=True)
    engine.send(c.UidFetch(((7, 10),), ("BODY.PEEK[]",), 100))
    found = joined(events(engine, [FETCHED[a:b] for a, b in itertools.pairwise(places)]))
    assert found == [
        c.Exists(3),
        c.Fetched(1, 7, frozenset({"\\Seen", "$Forwarded"}), 4286, 837596665.0),
        c.Part(2, "BODY[]<0>", 11),
        Chunk(b"ab\r\nh2 OK\r\n"),
        c.PartEnd(),
        c.Fetched(2, 9),
        c.Part(3, "BODY[TEXT]", 5),
        Chunk(b"short"),
        c.PartEnd(),
        c.Fetched(3, 10),
        c.Expunged(2),
        c.Noted(OK, c.Code("ALERT"), "full soon {5}"),
        c.Completed(c.UidFetch(((7, 10),), ("BODY.PEEK[]",), 100), OK, c.Code("X"), "done {3}"),
    ]
    assert not engine.buffered


COMMANDS: list[c.Command] = [
    c.Capability(),
    c.StartTLS(),
    c.Login(b"a", b"b"),
    c.Authenticate("PLAIN", b"x"),
    c.Namespace(),
    c.List(),
    c.Select(b"INBOX"),
    c.UidSearch(("ALL",)),
    c.UidFetch(((1, 2),), ("UID", "BODY.PEEK[]"), 10),
    c.UidStore(((1, 1),), "+FLAGS.SILENT", ("\\Seen",)),
    c.Append(b"INBOX", 3),
    c.Unselect(),
    c.Logout(),
]
OUTS: list[Out] = [*COMMANDS, c.Text(b"abc"), c.Further(), c.Response(b""), c.Response(None)]
LINES = [
    b"* OK hi\r\n",
    b"* PREAUTH hi\r\n",
    b"* BYE\r\n",
    b"+ \r\n",
    b"+ !\r\n",
    b"h1 OK\r\n",
    b"h2 OK\r\n",
    b"h2 NO [OVERQUOTA] no\r\n",
    b"h3 OK\r\n",
    b"* SEARCH 1 2 5\r\n",
    b"* LIST () NIL x\r\n",
    b"* 1 FETCH (BODY[] {3}\r\nabc UID 1)\r\n",
    b"* 1 FETCH (BODY[] {99}\r\n",
    b"* FLAGS\r\n",
    b"\r\n",
    b"* NAMESPACE ((",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(OUTS), st.sampled_from(LINES), any_bytes(30)), max_size=25))
def test_no_order_of_things_breaks_it(steps: list[Out | bytes]) -> None:
    """A server that says anything at any time, and we anything at any time: nothing raises but LocalProtocolError, which changes no state, and nothing follows the end."""
    engine = ClientEngine()
    over = False
    for step in steps:
        if isinstance(step, bytes):
            found = said(engine, step) if step else []
            assert not (over and found), "something followed the end"
        else:
            before = (engine.phase, engine.outstanding, engine.wants)
            try:
                engine.send(step)
            except LocalProtocolError:
                assert before == (engine.phase, engine.outstanding, engine.wants)
            if engine.upgrade:
                engine.tls_started(TLSPeer())
        over = over or engine.closing


@pytest.mark.parametrize(
    "line",
    [
        b"h2 OK done\r\n",
        b"a1 OK done\r\n",
        b"* PREAUTH again\r\n",
        b"+ go on\r\n",
        b"* 1 FETCH (BODY[] {3}\r\n",
        b"* SEARCH 99999999999\r\n",
        b"* LIST (\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b'* LIST () "/" {%d}\r\n' % RESPONSE_BYTES,
        b"* X " + b"y" * RESPONSE_BYTES,
    ],
)
def test_what_was_not_asked_ends_it(line: bytes) -> None:
    """Wrong tags, a continuation nobody waits for, parts of mail nobody asked for, what is too large: believed, it would answer another question (rule 8a)."""
    engine = inside()
    engine.send(c.List())
    assert isinstance(said(engine, line)[0], c.Violation)
    assert engine.closing


def test_said_too_early_counts_for_nothing() -> None:
    """A server that sends the answer before the question: an APPEND it never saw would be home."""
    engine = inside()
    engine.receive(b"h1 OK [APPENDUID 1 1] done\r\n")
    engine.send(c.Append(b"INBOX", 3))
    assert isinstance(engine.next_event(), c.Violation)
    engine = inside(selected=True)
    engine.receive(b"* SEARCH 5\r\n")
    engine.send(c.UidSearch(("HEADER", b"Message-ID", b"<a@b>")))
    assert said(engine, b"* SEARCH\r\nh2 OK\r\n")[0] == c.Found(())


def test_an_endless_answer_ends() -> None:
    """Untagged lines without end, each of them small: the command would last for ever."""
    engine = inside()
    engine.send(c.Namespace())
    for _ in range(UNTAGGED // 1000):
        assert not said(engine, b"* 1 RECENT\r\n" * 1000)
    assert isinstance(said(engine, b"* 1 RECENT\r\n")[0], c.Violation)


def append(engine: ClientEngine, size: int = 5000) -> c.Append:
    out = c.Append(b"Sent", size, ("\\Seen", "$Done"), 837596665.0)
    assert engine.send(out).endswith(b' APPEND "Sent" (\\Seen $Done) "17-Jul-1996 09:44:25 +0000" {%d}\r\n' % size)
    return out


def test_append_waits_until_it_is_asked() -> None:
    """Text that goes before the server wants it would be read as commands."""
    engine = inside("LITERAL+")
    out = append(engine)
    assert engine.wants == 0
    with pytest.raises(LocalProtocolError):
        engine.send(c.Text(b"x"))
    assert said(engine, b"+ OK\r\n") == [c.Wanted()]
    assert engine.send(c.Text(b"x" * 4999)) == b"x" * 4999
    with pytest.raises(LocalProtocolError):
        engine.send(c.Text(b"xx"))
    with pytest.raises(LocalProtocolError):
        engine.send(c.Text(b"\0"))
    assert engine.send(c.Text(b"y")) == b"y\r\n"
    done = said(engine, b"h1 OK [APPENDUID 38505 3955] done\r\n")
    assert done == [c.Completed(out, OK, c.Code("APPENDUID", b"38505 3955"), "done")]
    assert c.Code("APPENDUID", b"38505 3955").numbers() == (38505, 3955)


def test_append_refused_before_and_amid_the_text() -> None:
    """A refusal before the text leaves the connection whole; one amid it does not, for the rest would be read as commands; an OK amid it is a lie."""
    engine = inside()
    out = append(engine)
    assert said(engine, b"h1 NO [TRYCREATE] no\r\n") == [c.Completed(out, NO, c.Code("TRYCREATE"), "no")]
    out = append(engine)
    said(engine, b"+ \r\n")
    engine.send(c.Text(b"x"))
    assert said(engine, b"h2 NO [OVERQUOTA] no\r\n") == [c.Completed(out, NO, c.Code("OVERQUOTA"), "no")]
    assert engine.closing
    engine = inside()
    append(engine)
    said(engine, b"+ \r\n")
    engine.send(c.Text(b"x"))
    assert isinstance(said(engine, b"h1 OK done\r\n")[0], c.Violation)


def test_small_literals_are_not_asked_for() -> None:
    """With LITERAL- at most 4,096 bytes go at once (RFC 7888 section 5); a name that cannot be quoted goes as a literal, asked for or not."""
    engine = inside("LITERAL-")
    assert engine.send(c.Append(b"INBOX", 4096)).endswith(b"{4096+}\r\n")
    assert engine.wants == 4096
    engine = inside("LITERAL+")
    assert engine.send(c.Create("é".encode())) == "h1 CREATE {2+}\r\né\r\n".encode()
    engine = inside()
    assert engine.send(c.Append("é".encode(), 3, ("\\Seen",))) == b"h1 APPEND {2}\r\n"
    assert said(engine, b"+ ok\r\n") == [c.Wanted()]
    assert engine.wants == 0
    assert engine.send(c.Further()) == "é (\\Seen) {3}\r\n".encode()
    assert said(engine, b"+ ok\r\n") == [c.Wanted()]
    assert engine.send(c.Text(b"abc")) == b"abc\r\n"


def test_injection() -> None:
    """A line end in what somebody else named, a folder or a flag, would be a command of its own."""
    engine = inside(selected=True)
    for out in (
        c.UidStore(((1, 1),), "+FLAGS", ("x\r\nh9 DELETE INBOX",)),
        c.UidSearch(("ALL\r\n",)),
        c.UidStore(((1, 1),), "+FLAGS", ("Größe",)),
        c.Id(((b"a", b"\xff"),)),
    ):
        with pytest.raises(LocalProtocolError):
            engine.send(out)
    assert engine.send(c.Create(b'a"b\\\r\n')) == b"h2 CREATE {6}\r\n"
    with pytest.raises(LocalProtocolError):
        inside().send(c.Create(b"a\0b"))


def test_starttls_forgets() -> None:
    """Plaintext behind the answer to STARTTLS would be taken for what came over TLS; so would the capabilities from before."""
    engine = ClientEngine()
    said(engine, b"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] hi\r\n")
    engine.send(c.StartTLS())
    assert isinstance(said(engine, b"h1 OK go\r\n* CAPABILITY X\r\n")[0], c.Violation)
    engine = ClientEngine()
    said(engine, b"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] hi\r\n")
    engine.send(c.StartTLS())
    said(engine, b"h1 OK go\r\n")
    assert engine.upgrade
    engine.tls_started(TLSPeer())
    assert not engine.capabilities
    assert engine.phase is Phase.NOT_AUTHENTICATED


def test_bye_and_logout() -> None:
    """BYE ends it wherever it comes; in answer to LOGOUT it is no trouble."""
    engine = inside(selected=True)
    engine.send(c.UidSearch(("ALL",)))
    assert said(engine, b"* BYE [UNAVAILABLE] shutting down\r\n") == [c.Farewell(c.Code("UNAVAILABLE"), "shutting down")]
    engine = inside()
    engine.send(c.Logout())
    assert said(engine, b"* BYE bye\r\nh1 OK\r\n") == [c.Completed(c.Logout(), OK, c.Code(), "")]
    assert engine.closing
    engine = ClientEngine()
    assert said(engine, b"* BYE busy\r\n") == [c.Greeted(c.Status.BYE, c.Code(), "busy")]
    assert engine.closing


def test_what_servers_say() -> None:
    """Lists, namespaces and results as real servers write them: spaces at the end, names without quotes, extensions."""
    engine = inside("ESEARCH", selected=True)
    engine.send(c.List())
    found = said(
        engine,
        b'* LIST (\\HasNoChildren \\Sent) "/" "Sent Items"\r\n* LIST () NIL [Gmail]/All\r\n* LIST (\\Noselect) "." {3}\r\na"b\r\nh2 OK\r\n',
    )
    assert found[:3] == [
        c.Listed(b"Sent Items", b"/", frozenset({"\\hasnochildren", "\\sent"})),
        c.Listed(b"[Gmail]/All", b"", frozenset()),
        c.Listed(b'a"b', b".", frozenset({"\\noselect"})),
    ]
    engine.send(c.Namespace())
    found = said(engine, b'* NAMESPACE (("INBOX." "." "X-PARAM" ("a" "b"))("" NIL)) NIL NIL\r\nh3 OK\r\n')
    assert found[0] == c.Spaces(((b"INBOX.", b"."), (b"", b"")))
    assert engine.send(c.UidSearch(("HEADER", b"Message-ID", b'<"x"@y>'))) == (
        b'h4 UID SEARCH RETURN (ALL) HEADER "Message-ID" "<\\"x\\"@y>"\r\n'
    )
    assert said(engine, b'* ESEARCH (TAG "h4") UID ALL 2:4,9\r\nh4 OK\r\n')[0] == c.Found(((2, 4), (9, 9)))
    engine.send(c.UidSearch(("ALL",)))
    assert said(engine, b'* ESEARCH (TAG "h4") UID ALL 7\r\n* ESEARCH (TAG "h5") UID\r\nh5 OK\r\n')[0] == c.Found(())
    engine.send(c.UidSearch(("ALL",)))
    assert said(engine, b"* SEARCH 4 2 3 (MODSEQ 9) \r\nh6 OK\r\n")[0] == c.Found(((2, 4),))


def test_authenticate() -> None:
    """With SASL-IR the first response goes along, else it waits for the challenge; who refuses has not let us in."""
    engine = ClientEngine()
    said(engine, b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
    assert engine.send(c.Authenticate("PLAIN", b"\0a\0b")) == b"h1 AUTHENTICATE PLAIN AGEAYg==\r\n"
    assert said(engine, b"h1 NO [AUTHENTICATIONFAILED] no\r\n")[0] == c.Completed(
        c.Authenticate("PLAIN", b"\0a\0b"), NO, c.Code("AUTHENTICATIONFAILED"), "no"
    )
    assert engine.phase is Phase.NOT_AUTHENTICATED
    engine.send(c.Authenticate("LOGIN"))
    assert said(engine, b"+ VXNlcm5hbWU6\r\n") == [c.Wanted(b"Username:")]
    assert engine.send(c.Response(b"me")) == b"bWU=\r\n"
    said(engine, b"h2 OK welcome\r\n")
    assert engine.phase is Phase.AUTHENTICATED
    assert not engine.capabilities
    assert "b'b'" not in repr(c.Login(b"a", b"b"))
