"""The session in situations that a dialog of lines cannot show: slow stores, lost connections, TLS, large messages, text searches."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import FolderError
from hornetmail.mime.structure import scan
from hornetmail.servers.imap.fetch import HELD_BYTES, STREAM_BYTES
from hornetmail.servers.imap.match import Content, Matcher
from hornetmail.servers.imap.site import ImapPolicy
from hornetmail.servers.imap.view import View
from hornetmail.testing.folders import MemoryBus, MemoryTree
from hornetmail.wire.imap.grammar import Cursor
from hornetmail.wire.imap.search import parse_search
from tests.servers.imap.door import SIMPLE, Door


def test_plaintext_log_in_needs_tls() -> None:
    """Catches a password taken in the clear (RFC 3501 section 11.2, L of LOGINDISABLED)."""
    talk = Door(policy=ImapPolicy()).connect()
    assert b"STARTTLS LOGINDISABLED" in talk.greeting
    assert b"AUTH=" not in talk.greeting
    assert talk.say(b"a LOGIN alice@example.test secret").startswith(b"a NO [PRIVACYREQUIRED]")
    assert talk.say(b"b AUTHENTICATE PLAIN").startswith(b"b NO [PRIVACYREQUIRED]")
    assert not talk.door.access.asked


def test_commands_wait_for_one_another() -> None:
    """Catches pipelined commands that overtake a slow one, or run side by side (findings: twisted.mail's LOGIN/SELECT/FETCH)."""
    door = Door()
    door.inbox.add(SIMPLE)
    waits: list[Deferred[None]] = []

    def pause() -> Deferred[None]:
        waits.append(Deferred())
        return waits[-1]

    door.tree.pause = pause
    talk = door.connect()
    heard = talk.say(b"a LOGIN alice@example.test secret", b"b SELECT INBOX", b"c FETCH 1 FLAGS", b"d NOOP", b"e LOGOUT")
    while waits:
        assert len(waits) == 1
        waits.pop().callback(None)
        heard += talk.heard()
    tags = [line.split(b" ")[0] for line in heard.split(b"\r\n") if line and not line.startswith(b"*")]
    assert tags == [b"a", b"b", b"c", b"d", b"e"]


def test_lost_while_a_message_arrives() -> None:
    """Catches a deposit that is left behind, or committed by half."""
    door = Door()
    talk = door.connect().login()
    talk.say(b"a APPEND INBOX {100}")
    talk.say(b"half of it")
    appending = talk.session._appending
    assert appending is not None
    assert talk.session.busy()
    talk.pump.connectionLost(Failure(ConnectionDone()))
    assert not appending._deposit._open  # type: ignore[attr-defined]
    assert not door.inbox.messages


def test_lost_while_selected() -> None:
    """Catches watchers that outlive their connection."""
    door = Door()
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX", b"b IDLE")
    assert door.site.watch._listeners
    talk.pump.connectionLost(Failure(ConnectionDone()))
    assert not door.site.watch._listeners


def test_store_fails_while_a_message_arrives() -> None:
    """Catches an error in the middle that is answered before the end, or makes a half message."""
    door = Door()
    talk = door.connect().login()

    async def broken(data: bytes) -> None:
        raise OSError("the disk says no")

    talk.say(b"a APPEND INBOX {100}")
    assert talk.session._appending is not None
    talk.session._appending._deposit.write = broken  # type: ignore[method-assign]
    assert talk.say(b"z" * 40, b"z" * 40) == b""
    assert talk.say(b"z" * 16, b"b NOOP") == b"a NO [UNAVAILABLE] The message cannot be stored now\r\nb OK Done\r\n"
    assert not door.inbox.messages


def test_idle_tells_only_what_is_new() -> None:
    """Catches flags set by this session coming back as news, and those of others getting lost."""
    door = Door()
    door.inbox.add(SIMPLE)
    one, other = door.connect().login(), door.connect().login()
    for talk in (one, other):
        talk.say(b"a SELECT INBOX")
    other.say(b"b IDLE")
    assert one.say(b"c STORE 1 +FLAGS (\\Answered)") == b"* 1 FETCH (FLAGS (\\Answered))\r\nc OK Stored\r\n"
    assert one.say(b"d NOOP") == b"d OK Done\r\n"
    door.clock.advance(0)
    assert other.heard() == b"* 1 FETCH (UID 1 FLAGS (\\Answered))\r\n"


def test_many_changes_in_idle_are_told_together() -> None:
    """Catches a write a message when a thousand arrive."""
    door = Door()
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX", b"b IDLE")
    for _ in range(1000):
        door.inbox.add(SIMPLE)
    door.clock.advance(0)
    assert talk.heard() == b"* 1000 EXISTS\r\n* 1000 RECENT\r\n"


def test_changes_that_were_forgotten() -> None:
    """Catches a client that is never told of removals which the store no longer remembers."""
    door = Door()
    for _ in range(30):
        door.inbox.add(SIMPLE)
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX")
    for uid in range(1, 30):
        door.inbox.remove(uid)
    door.inbox._gone.clear()
    door.inbox.add(SIMPLE)
    heard = talk.say(b"b CHECK")
    assert heard.count(b"EXPUNGE") == 29
    assert heard.endswith(b"* 2 EXISTS\r\n* 1 RECENT\r\nb OK Done\r\n")
    assert b"* 29 EXPUNGE\r\n* 28 EXPUNGE" in heard
    assert talk.say(b"c UID FETCH 1:* UID").count(b"FETCH (") == 2


def test_a_fault_of_ours_is_an_answer() -> None:
    """Catches an exception that ends the connection or leaves the client waiting."""
    door = Door()
    talk = door.connect().login()

    async def broken() -> None:
        raise RuntimeError("ours")

    door.tree.folders = broken  # type: ignore[method-assign,assignment]
    talk.session.log = talk.pump.log = _Silent()  # type: ignore[assignment]
    assert talk.say(b'a LIST "" "*"', b"b NOOP") == b"a NO [UNAVAILABLE] Internal error, try again later\r\nb OK Done\r\n"


class _Silent:
    def failure(self, *args: Any, **keywords: Any) -> None:
        """The fault is on purpose."""


def test_goodbye() -> None:
    """Catches a shutdown that does not say BYE."""
    door = Door()
    talk = door.connect().login()
    talk.pump.shutdown()
    assert talk.heard() == b"* BYE [UNAVAILABLE] Server shutting down\r\n"
    assert talk.transport.disconnecting


def test_large_messages_are_streamed() -> None:
    """Catches FETCH holding much more than a MiB of text, or sending while the peer does not read."""
    door = Door()
    large = b"Subject: large\r\n\r\n" + b"z" * (8 * HELD_BYTES)
    door.inbox.add(large, ["\\Seen"])
    door.inbox.add(SIMPLE, ["\\Seen"])
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX")
    write = talk.transport.write

    def full(data: bytes) -> None:
        write(data)
        talk.pump.pauseProducing()

    talk.transport.write = full  # type: ignore[method-assign]
    tracemalloc.start()
    more = talk.say(b"b FETCH 1:2 (BODY[] RFC822.HEADER)")
    heard, turns, tail = 0, 0, b""
    while more:
        assert len(more) < 2 * STREAM_BYTES
        heard += len(more)
        tail = (tail + more)[-1000:]
        turns += 1
        talk.pump.resumeProducing()
        more = talk.heard()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert heard > len(large)
    assert b"BODY[] {%d}" % len(SIMPLE) in tail
    assert turns > 8
    assert peak < 3 * HELD_BYTES


MIXED = (
    b"From: =?utf-8?q?J=C3=B6rg_M=C3=BCller?= <j@example.test>\r\nTo: a@x.test, Team <team@x.test>\r\n"
    b"Subject: =?iso-8859-1?q?Gr=FC=DFe?= aus Ulm\r\nDate: Sat, 1 Nov 2025 23:30:00 -0800\r\nX-Spam: yes\r\nMessage-ID: <m@x>\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nStra=DFe nach M=FCn=\r\nchen\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+R2Vow6RudGU8L3A+\r\n"
    b"--b\r\nContent-Type: image/png; name=needle.png\r\nContent-Transfer-Encoding: base64\r\n\r\nbmVlZGxl\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("key", "matches"),
    [
        ("FROM JÖRG", True),
        ("FROM j@example", True),
        ("TO team", True),
        ("CC team", False),
        ('SUBJECT "grüsse"', True),
        ("SUBJECT AUS", True),
        ("HEADER X-Spam yes", True),
        ('HEADER X-Spam ""', True),
        ('HEADER X-Ham ""', False),
        ("HEADER Message-ID <m@x>", True),
        ("BODY STRASSE", True),
        ("BODY münchen", True),
        ("BODY gehänte", True),
        ("BODY needle.png", True),
        ("BODY bmVlZGxl", False),
        ("BODY ulm", False),
        ("TEXT ulm", True),
        ("TEXT x-spam", True),
        ("SENTON 1-Nov-2025", True),
        ("SENTSINCE 2-Nov-2025", False),
        ("SENTBEFORE 2-Nov-2025", True),
        ("NOT FROM nobody", True),
        ("OR CC nobody BODY Straße", True),
        ("UNSEEN FROM nobody", False),
        ("(SEEN BODY strasse)", False),
    ],
)
def test_texts(key: str, matches: bool) -> None:
    """Catches searches that miss umlauts, encoded words, transfer encodings, or find what is not text (RFC 3501 section 6.4.4)."""
    raw = key.encode()
    if not raw.isascii() and b'"' not in raw:
        head, _, word = raw.rpartition(b" ")
        raw = head + b' "' + word + b'"'
    tree = MemoryTree(1, MemoryBus())
    inbox = tree.found("INBOX")
    entry = inbox.messages[inbox.add(MIXED)].entry
    view = View("INBOX", tree, inbox, False)
    view.uids.append(entry.uid)
    matcher = Matcher(parse_search(Cursor(raw)), view)
    assert matcher.match(entry, Content(scan(MIXED), MIXED)) is matches
    assert matcher.light(entry) in (None, matches)


class Searches(TestCase):
    """With real threads."""

    async def test_through_bodies(self) -> None:
        """Catches searches that stop at a batch, hold the reactor, or mix up numbers and UIDs."""
        door = Door(reactor)
        door.threads.start()
        self.addCleanup(door.threads.stop)
        for n in range(300):
            door.inbox.add(SIMPLE.replace(b"Hello", b"needle" if n % 100 == 7 else b"hay"))
        door.inbox.remove(1)
        talk = door.connect().login()
        talk.say(b"a SELECT INBOX")
        heard = talk.say(b"b SEARCH CHARSET UTF-8 BODY {6}", b"NEEDLE UNDELETED", b"c UID SEARCH OR BODY needle UID 3")
        while b"c OK" not in heard:
            await deferLater(reactor, 0.01)
            heard += talk.heard()
        assert b"* SEARCH 7 107 207\r\n" in heard
        assert b"* SEARCH 3 8 108 208\r\n" in heard
        talk.pump.connectionLost(Failure(ConnectionDone()))


def test_expunge_issued_is_not_for_uid_fetch() -> None:
    """Catches UID FETCH that complains about messages that went meanwhile (section 6.4.8)."""
    door = Door()
    door.inbox.add(SIMPLE)
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX")
    door.inbox.remove(1)
    assert talk.say(b"b UID FETCH 1 BODY.PEEK[]") == b"* 1 EXPUNGE\r\nb OK Fetched\r\n"


def test_folder_errors_have_codes() -> None:
    """Catches FolderError codes that do not reach the client."""
    door = Door()
    talk = door.connect().login()

    async def full(name: str, use: str = "") -> None:
        raise FolderError("OVERQUOTA", "full")

    door.tree.create = full  # type: ignore[method-assign]
    assert talk.say(b"a CREATE x") == b"a NO [OVERQUOTA] full\r\n"
