"""No connection holds the others up (rule 8d): whatever a client says, no turn of the reactor lasts over 50 ms. Before, each of these stood for seconds."""

from __future__ import annotations

import base64
import random
import zlib
from typing import Any

import pytest
from zope.interface import implementer

from hornetmail.core.served import Person, Scope
from hornetmail.interfaces.access import IAccess
from hornetmail.net.serving.pump import Pump
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.pop3 import POP3Policy, POP3Session, POP3Site
from hornetmail.wire.imap.server.server import ImapServerEngine
from hornetmail.wire.pop3.server import POP3ServerEngine
from tests.cost.turns import MOST, Line, MeasuredReactor, calm
from tests.servers.dialogs import DOORS
from tests.servers.imap.door import SIMPLE, Door
from tests.servers.smtp_fakes import World

MESSAGES = 2000


class Portal:
    """A portal with one mailbox in memory."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    async def lock(self, mailbox: int, owner: str) -> bool:
        return True

    async def unlock(self, mailbox: int, owner: str) -> None:
        """Nothing to do."""

    def tree(self, mailbox: int) -> Any:
        return self._tree


@implementer(IAccess)
class Doorman:
    async def login(self, user: str, password: str, door: str, peer: str) -> Person:
        return Person(1, user, 1)

    def offers_scram(self) -> bool:
        return False

    def scope(self, person: Person) -> Scope:
        return Scope(1, frozenset())


def imap(messages: int = MESSAGES, folders: int = 0, last: bytes = b"") -> Line:
    """Logged in, INBOX selected; ``last``: a message behind the others."""
    reactor = MeasuredReactor()
    door = Door(reactor)
    for _ in range(messages):
        door.inbox.add(SIMPLE)
    if last:
        door.inbox.add(last)
    for number in range(folders):
        door.tree.make(f"Folder {number} " + "a" * 200)
    session = ImapSession(door.site)
    line = Line(reactor, Pump(ImapServerEngine(), lambda: session, reactor))  # type: ignore[arg-type]
    line.say(b"l LOGIN alice@example.test secret\r\ns SELECT INBOX\r\n")
    reactor.longest = 0.0
    return line


def pop3() -> Line:
    """Logged in."""
    reactor = MeasuredReactor()
    door = Door(reactor)
    for _ in range(MESSAGES):
        door.inbox.add(SIMPLE)
    site = POP3Site(reactor, Doorman(), Portal(door.tree))  # type: ignore[arg-type]
    line = Line(reactor, Pump(POP3ServerEngine(POP3Policy(plaintext_login=True)), lambda: POP3Session(site), reactor))  # type: ignore[arg-type]
    assert b"-ERR" not in line.say(b"USER a\r\nPASS b\r\n")
    reactor.longest = 0.0
    return line


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (b"STAT\r\n", 10_000),
        (b"UIDL\r\n", 300),
        (b"LIST\r\n", 300),
        (b"DELE 1\r\nSTAT\r\nRSET\r\nUIDL\r\n", 100),
        (b"NOOP\r\n", 10_000),
    ],
)
def test_pop3(said: bytes, times: int) -> None:
    """STAT counted all messages each time, UIDL made its list anew; and a packet of commands was one turn (3.0 s)."""

    def longest() -> float:
        line = pop3()
        answers = line.say(said * times)
        assert answers.count(b"+OK") == times * said.count(b"\r\n")
        return line.reactor.longest

    assert calm(longest) < MOST


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (b"a UID SEARCH UNKEYWORD k 1:1990\r\n", 100),
        (b"a SEARCH" + b" UNKEYWORD k" * 990 + b"\r\n", 1),
        (b"a SEARCH " + b"OR UNKEYWORD a " * 19 + b"ALL\r\n", 20),
        (b"a SEARCH NOT 1:3 2:* 5:1000\r\n", 50),
        (b"a FETCH 1:200 (" + b" ".join(b"BODY.PEEK[]<%d.1>" % n for n in range(1899)) + b")\r\n", 1),
        (b"a FETCH 1:* (FLAGS UID RFC822.SIZE INTERNALDATE)\r\n", 10),
        (b"a STORE 1:* +FLAGS.SILENT (k)\r\n", 5),
        (b"a NOOP\r\n", 10_000),
    ],
)
def test_imap(said: bytes, times: int) -> None:
    """One command's work, keys times messages or messages times pieces, was one turn (1.1 to 1.8 s)."""

    def longest() -> float:
        line = imap()
        answers = line.say(said * times)
        assert answers.count(b"a OK") == times, answers[-200:]
        return line.reactor.longest

    assert calm(longest) < MOST


@pytest.mark.parametrize(
    "said",
    [
        b"a FETCH 2001 (BINARY.SIZE[1] BINARY.PEEK[1])\r\n" * 3,
        b"a FETCH 2001 (" + b" ".join(b"BINARY.PEEK[1]<%d.9>" % (n * 1000) for n in range(30)) + b")\r\n",
        b"a STATUS INBOX (DELETED)\r\n" * 200,
        b"a APPEND INBOX {20+}\r\n" + SIMPLE[:20] + b" {20+}\r\n".join([b"", *[SIMPLE[:20]] * 255]) + b"\r\n",
    ],
)
def test_parts_and_messages(said: bytes) -> None:
    """A part of 8 MB is decoded in slices, and many messages of one APPEND come one after the other."""

    def longest() -> float:
        large = base64.encodebytes(bytes(range(256)) * 32_000).replace(b"\n", b"\r\n")
        line = imap(last=b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + large)
        answers = line.say(said)
        assert answers.endswith(b"\r\n")
        assert b"a NO" not in answers
        assert b"a BAD" not in answers
        return line.reactor.longest

    assert calm(longest) < MOST


@pytest.mark.parametrize("opening", [b"", b"a APPEND INBOX {62914560+}\r\n", b"a SEARCH SUBJECT {62914560+}\r\n"])
def test_a_bomb(opening: bytes) -> None:
    """60 MiB out of 60 KiB (RFC 4978) were inflated in one turn, wherever much may come: a message, what is passed over, a line."""

    def longest() -> float:
        line = imap(1)
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        assert line.say(b"c COMPRESS DEFLATE\r\n").startswith(b"c OK")
        line.reactor.longest = 0.0
        line.say(deflater.compress(opening + b"z" * (60 << 20)) + deflater.flush(zlib.Z_SYNC_FLUSH))
        return line.reactor.longest

    assert calm(longest) < MOST


def test_what_is_sent_compressed() -> None:
    """A MiB of text that is rendered in one go is also compressed in one go."""

    def longest() -> float:
        words = random.Random(7).choices(
            [b"every", b"sentence", b"of", b"this", b"one", b"is", b"unlike", b"another\r\n"], k=40_000
        )
        line = imap(0, last=b"Subject: long\r\n\r\n" + b" ".join(words)[:250_000])
        line.say(b"p COPY 1 INBOX\r\n" * 8 + b"c COMPRESS DEFLATE\r\n")
        line.reactor.longest = 0.0
        deflater, inflater = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)
        said = line.say(deflater.compress(b"a FETCH 1:* BODY.PEEK[]\r\n") + deflater.flush(zlib.Z_SYNC_FLUSH))
        assert inflater.decompress(said).endswith(b"a OK Fetched\r\n")
        return line.reactor.longest

    assert calm(longest) < MOST


@pytest.mark.parametrize("pattern", [b"*" * 900, b"%*" * 450, b"*a" * 400, b"%" * 900, b"*a%" * 300 + b"b"])
@pytest.mark.parametrize("command", [b"LIST", b"LSUB"])
def test_list(command: bytes, pattern: bytes) -> None:
    """900 stars: 1.3 s with six folders, 80 s with a longer line."""

    def longest() -> float:
        line = imap(1, folders=500)
        line.say(b"".join(b'b SUBSCRIBE "Folder %d %b"\r\n' % (n, b"a" * 200) for n in range(500)))
        line.reactor.longest = 0.0
        answers = line.say(b'a %b "" "%b"\r\n' % (command, pattern))
        assert b"a OK" in answers
        return line.reactor.longest

    assert calm(longest) < MOST


def test_many_patterns() -> None:
    """A hundred patterns on five hundred folders."""

    def longest() -> float:
        line = imap(1, folders=500)
        answers = line.say(b'a LIST "" (' + b" ".join([b'"*a%b*"' % (b"b*a" * 60)] * 100) + b")\r\n")
        assert b"a OK" in answers
        return line.reactor.longest

    assert calm(longest) < MOST


def test_strangers() -> None:
    """Floods of commands before log-in: they end the conversation instead of keeping it up for ever."""
    for engine, session, said, last in (
        (ImapServerEngine, lambda: ImapSession(Door(MeasuredReactor()).site), b"a NOOP\r\n", b"* BYE"),
        (ImapServerEngine, lambda: ImapSession(Door(MeasuredReactor()).site), b"a CAPABILITY\r\n", b"* BYE"),
        (
            lambda: POP3ServerEngine(POP3Policy()),
            lambda: POP3Session(POP3Site(None, Doorman(), Portal(None))),  # type: ignore[arg-type]
            b"CAPA\r\n",
            b"-ERR too many commands",
        ),
    ):

        def longest(engine: Any = engine, session: Any = session, said: bytes = said, last: bytes = last) -> float:
            reactor = MeasuredReactor()
            line = Line(reactor, Pump(engine(), session, reactor))  # type: ignore[arg-type]
            answers = line.say(said * 5_000)
            assert last in answers
            assert answers.count(b"\r\n") < 1000
            assert line.transport.disconnecting
            return reactor.longest

        assert calm(longest) < MOST


def test_a_stranger_holds_little() -> None:
    """62 literals of 4 KB held 300 KB a connection before log-in: bounds are a command's, not a literal's."""
    reactor = MeasuredReactor()
    engine = ImapServerEngine()
    session = ImapSession(Door(reactor).site)
    line = Line(reactor, Pump(engine, lambda: session, reactor))  # type: ignore[arg-type]
    answers = line.say(b"a LOGIN {4000+}\r\n" + (b"x" * 4000 + b" {4000+}\r\n") * 62)
    assert b"BAD [TOOBIG]" in answers
    assert len(engine._command) + engine.buffered < 40_000


@pytest.mark.parametrize(
    "said", [b"NOOP\r\n", b"RSET\r\n", b"MAIL FROM:<a@b.test>\r\nRSET\r\n", b"EHLO x\r\n", b"VRFY x\r\n", b"XYZZY\r\n"]
)
def test_smtp(said: bytes) -> None:
    """Floods over SMTP."""

    def longest() -> float:
        reactor = MeasuredReactor()
        world = World(reactor, DOORS["mx"])
        line = Line(reactor, world.pump())
        line.say(b"EHLO client.test\r\n")
        reactor.longest = 0.0
        answers = line.say(said * 10_000)
        assert answers.count(b"\r\n") >= 10
        return reactor.longest

    assert calm(longest) < MOST
