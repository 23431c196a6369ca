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
from hornetmail.servers.imap.finding.match import Content, Kept, Matcher
from hornetmail.servers.imap.messages.fetch import HELD_BYTES, STREAM_BYTES
from hornetmail.servers.imap.site import ImapPolicy
from hornetmail.servers.imap.view import View
from hornetmail.testing.folders import MemoryBus, MemoryTree
from hornetmail.wire.imap.requests.search import parse_search
from hornetmail.wire.imap.tokens.grammar import Cursor
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
    appending = talk.session.appending
    assert appending is not None
    assert talk.session.busy()
    (deposit,) = appending._deposits
    talk.pump.connectionLost(Failure(ConnectionDone()))
    assert not deposit._open  # type: ignore[attr-defined]
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
    assert talk.session.appending is not None
    talk.session.appending._deposits[0].write = broken  # type: ignore[method-assign]
    assert talk.say(b"z" * 40, b"z" * 40) == b""
    assert talk.say(b"z" * 16, b"b NOOP") == b"a NO [UNAVAILABLE] The message cannot be stored now\r\nb OK Done\r\n"
    assert not door.inbox.messages


def test_idle_tells_only_what_is_new() -> None:
    """Catches flags set by this session coming back as news, and those of others getting lost."""
    door = Door()
    door.inbox.add(SIMPLE)
    one, other = door.connect().login(), door.connect().login()
    for talk in (one, one, other):
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
    assert heard.endswith(b"* 2 EXISTS\r\n* 2 RECENT\r\nb OK Done\r\n")
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
    kept = Content(scan(MIXED), MIXED).kept()
    assert kept is not None
    if matcher.of_texts:
        assert matcher.match(entry, Kept(*kept)) is matches
    assert matcher.of_texts is not any(word in key for word in ("FROM", "TO ", "CC", "SUBJECT", "HEADER", "SENT"))


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


def append(talk: Any, tag: bytes, name: bytes, data: bytes = SIMPLE) -> bytes:
    return bytes(talk.say(b"%b APPEND %b {%d+}\r\n%b" % (tag, name, len(data), data)))


def test_append_goes_by_the_name_of_now() -> None:
    """Another session renames the selected folder and makes a new one of its old name: the mail lands in the renamed one. Deleted and made anew:
    APPENDUID carries the dead UIDVALIDITY. Deleted: the answer is no TRYCREATE, and the client does not make it."""
    door = Door()
    one, other = door.connect().login(), door.connect().login()
    one.say(b"a CREATE work", b"b SELECT work")
    other.say(b"a RENAME work old", b"b CREATE work")
    assert b"c OK [APPENDUID" in append(one, b"c", b"work")
    assert (len(door.tree.found("work").messages), len(door.tree.found("old").messages)) == (1, 0)
    one.say(b"d SELECT work")
    other.say(b"c DELETE work", b"d CREATE work")
    assert b"e OK [APPENDUID %d " % door.tree.found("work").info.uidvalidity in append(one, b"e", b"work")
    one = door.connect().login()
    one.say(b"a SELECT work")
    other.say(b"e DELETE work")
    assert b"b NO [TRYCREATE]" in append(one, b"b", b"work")


def test_names_that_change_meanwhile() -> None:
    """Every place that keeps a name goes by what is called so now: a folder that is renamed under a view, an APPEND or an IDLE is looked at
    further; COPY and MOVE go where the name leads when they come; and a folder that has only taken over the name is another one."""
    door = Door()
    one, other = door.connect().login(), door.connect().login()
    one.say(b"a CREATE work", b"b SELECT work", b"c APPEND work {%d}" % len(SIMPLE))
    other.say(b"a RENAME work old", b"b CREATE work")
    assert one.say(SIMPLE).endswith(b"* 1 EXISTS\r\n* 1 RECENT\r\nc OK [APPENDUID 1002 1] Appended\r\n")
    one.say(b"d COPY 1 work")
    assert len(door.tree.found("work").messages) == 1
    assert b"* 2 EXISTS" in one.say(b"e COPY 1 old"), "the selected folder is told of by its new name"
    one.say(b"f IDLE")
    other.say(b"c RENAME old older")
    door.clock.advance(0)
    door.tree.found("older").add(SIMPLE)
    door.clock.advance(0)
    assert one.heard() == b"* 3 EXISTS\r\n* 3 RECENT\r\n"
    other.say(b"d DELETE older", b"e CREATE older")
    door.clock.advance(0)
    assert one.heard() == b"* BYE The selected mailbox is out of reach\r\n"


def test_append_into_the_selected_folder_sees_itself() -> None:
    """What is appended to the folder that is open is news there."""
    door = Door()
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX")
    assert append(talk, b"b", b"INBOX").startswith(b"* 1 EXISTS\r\n* 1 RECENT\r\nb OK [APPENDUID")


def test_nul_is_in_no_literal() -> None:
    """RFC 3501 section 9: a client that counts on it reads on in the wrong place. APPEND took one, FETCH gave one."""
    door = Door()
    talk = door.connect().login()
    assert b"a NO [CANNOT]" in append(talk, b"a", b"INBOX", b"Subject: x\r\n\r\na\0b")
    assert not door.inbox.messages
    door.inbox.add(b"Subject: a\0b\r\n\r\na\0b")
    door.inbox.add(b"Subject: x\r\n\r\n" + b"\0" * (STREAM_BYTES + 10))
    said = talk.say(b"b SELECT INBOX", b"c FETCH 1 (BODY[] BODY[HEADER.FIELDS (SUBJECT)] ENVELOPE)", b"d FETCH 2 BODY[TEXT]")
    assert b"\0" not in said
    assert b"a\x80b" in said
    assert b"{%d}\r\n" % (STREAM_BYTES + 10) + b"\x80" * (STREAM_BYTES + 10) in said


def test_new_keywords_are_told() -> None:
    """Section 7.2.6: a client that gets a keyword it was never told of shows none; in this session, in another, and by FETCH."""
    door = Door()
    for _ in range(2):
        door.inbox.add(SIMPLE)
    one, other, third = (door.connect().login() for _ in range(3))
    for talk in (one, other, third):
        talk.say(b"a SELECT INBOX")
    flags = one.say(b"b STORE 1 +FLAGS ($Work)").partition(b"* 1")[0]
    assert flags.startswith(b"* FLAGS (\\")
    assert flags.endswith(b" $Work)\r\n")
    assert other.say(b"b NOOP") == flags + b"* 1 FETCH (UID 1 FLAGS ($Work))\r\nb OK Done\r\n"
    assert third.say(b"b FETCH 1 FLAGS").startswith(flags)
    assert b"* FLAGS" not in one.say(b"c STORE 2 +FLAGS ($Work)") + other.say(b"c NOOP") + third.say(b"c NOOP")
    assert one.say(b"d STORE 2 +FLAGS.SILENT ($New)").startswith(b"* FLAGS (")


def test_close_that_fails() -> None:
    """The engine thinks the folder is still selected and the session that it is not: each command after it fails until a SELECT."""
    door = Door()
    door.inbox.add(SIMPLE, ("\\Deleted",))
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX")
    good, door.inbox.expunge = door.inbox.expunge, _fails  # type: ignore[method-assign,assignment]
    assert talk.say(b"b CLOSE") == b"b NO [UNAVAILABLE] not now\r\n"
    assert talk.say(b"c FETCH 1 UID") == b"* 1 FETCH (UID 1)\r\nc OK Fetched\r\n"
    door.inbox.expunge = good  # type: ignore[method-assign]
    assert talk.say(b"d CLOSE") == b"d OK Closed\r\n"
    assert talk.say(b"e FETCH 1 UID").startswith(b"e BAD")
    assert not door.inbox.messages


async def _fails(uids: Any = None) -> Any:
    raise FolderError("UNAVAILABLE", "not now")


def test_search_beyond_the_end() -> None:
    """Clients ask for numbers that have just gone; others answer nothing, BAD made them give up."""
    door = Door()
    for _ in range(5):
        door.inbox.add(SIMPLE)
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX")
    assert talk.say(b"b SEARCH 1000") == b"* SEARCH\r\nb OK Searched\r\n"
    assert talk.say(b"c SEARCH 4:1000") == b"* SEARCH 4 5\r\nc OK Searched\r\n"
    assert talk.say(b"d SEARCH NOT 1000 NOT 2") == b"* SEARCH 1 3 4 5\r\nd OK Searched\r\n"
    assert talk.say(b"e SEARCH OR 7 3") == b"* SEARCH 3\r\ne OK Searched\r\n"


def test_idle_says_that_it_lives() -> None:
    """A router forgets a line that says nothing for minutes. And no timer outlives its IDLE, however it ends."""
    door = Door()
    talk = door.connect().login()
    talk.say(b"a SELECT INBOX", b"b IDLE")
    door.clock.advance(121)
    assert talk.heard() == b"* OK Still here\r\n"
    door.clock.advance(121)
    assert talk.heard() == b"* OK Still here\r\n"
    assert talk.say(b"DONE") == b"b OK IDLE done\r\n"
    door.clock.advance(300)
    assert talk.heard() == b""
    talk.say(b"c IDLE")
    assert talk.say(b"what").startswith(b"c BAD")
    door.clock.advance(300)
    assert talk.heard() == b""
    talk.say(b"d IDLE")
    talk.pump.connectionLost(Failure(ConnectionDone()))
    door.clock.advance(0)
    assert door.clock.getDelayedCalls() == []


def test_a_long_id_before_log_in() -> None:
    """A legal ID of 32 kB (RFC 2971: thirty fields of 1,024 bytes) ended the connection."""
    talk = Door().connect()
    pairs = b" ".join(b'"%b" "%b"' % (b"f%d" % n, b"v" * 1024) for n in range(30))
    assert b"a OK" in talk.say(b"a ID (" + pairs + b")")


@pytest.mark.parametrize(
    ("date", "found"),
    [
        (b"Mon, 3 Nov 25 10:00:00 +0100", True),
        (b"3 Nov 125 10:00 UT", True),
        (b"Mon, 03 Nov 2025 10:00:00 (CET)", True),
        (b"Monday, 3-Nov-25 10:00:00 GMT", True),
        (b"Mon, 3 Nov 75 10:00:00 +0100", False),
        (b"Mon, 3 Nov 20255 10:00:00 +0100", False),
        (b"gibberish", False),
    ],
)
def test_sent_on_dates_as_they_come(date: bytes, found: bool) -> None:
    """RFC 5322 section 4.3: two and three digits of a year."""
    data = b"Date: " + date + b"\r\n\r\nx"
    assert (Content(scan(data), data).sent is not None) is (date != b"gibberish" and b"20255" not in date)
    door = Door()
    view = View("INBOX", door.tree, door.inbox, False)  # type: ignore[arg-type]
    matcher = Matcher(parse_search(Cursor(b"SENTON 3-Nov-2025")), view)
    entry = door.inbox.messages[door.inbox.add(data)].entry
    assert matcher.match(entry, Content(scan(data), data)) is found


def test_append_of_a_message_from_an_mbox() -> None:
    """The line before the first field took the header along: no subject, and all of it text. The bytes stay as the client gave them."""
    door = Door()
    talk = door.connect().login()
    data = b"From a@b Mon Nov 27 20:00:00 2026\r\nSubject: kept\r\n\r\ntext\r\n"
    assert b"a OK" in append(talk, b"a", b"INBOX", data)
    said = talk.say(b"s SELECT INBOX", b"f FETCH 1 (ENVELOPE BODY.PEEK[TEXT] BODY.PEEK[])")
    assert b'"kept"' in said
    assert b"BODY[TEXT] {6}\r\ntext\r\n" in said
    assert data in said
