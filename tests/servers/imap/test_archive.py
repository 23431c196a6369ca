"""The archive in mail programs (L1, rule 27): said over a real connection, to an archive that is written, purged and locked meanwhile."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import imapclient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue

from hornetmail.archive.archive import Archive, ArchiveSettings
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.tree.texts import Texts
from hornetmail.core.archive.archived import ArchiveError, Refused
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Direction
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.servers.imap.finding import search
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.imap.site import ImapSite
from hornetmail.testing.archives import NOW, mail, user
from hornetmail.testing.folders import MemoryAccess, MemoryDeposit
from hornetmail.wire.imap.server.server import ImapServerEngine
from tests.archive.test_streams import attached
from tests.archive.trees import AUDITOR, BOB, PREFIX, TreeCase
from tests.servers.imap.door import PLAIN
from tests.servers.imap.mbsync import mbsync

T = TypeVar("T")
MAY = b'"Mail archive/Received/2026/05"'
LOOSE = ArchiveSettings(retention=RetentionSettings(1.0))


class Line:
    """A client that says what it likes, in a thread."""

    def __init__(self, port: int, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        assert self.say(b"LOGIN %b@example.test secret" % name.encode())[-1].startswith(b"t OK")

    def say(self, command: bytes, *more: bytes) -> list[bytes]:
        """What came back, a line each; the last is the tagged one. ``more`` is said when the server asks."""
        self._socket.sendall(b"t " + command + b"\r\n")
        rest = list(more)
        said: list[bytes] = []
        while not (said and said[-1].startswith(b"t ")):
            said.append(self._file.readline().rstrip(b"\r\n"))
            if said[-1].startswith(b"+ ") and rest:
                self._socket.sendall(rest.pop(0))
        return said

    def wait(self, pattern: bytes) -> bytes:
        """An untagged line that matches."""
        while True:
            line: bytes = self._file.readline()
            assert line, "closed"
            if re.search(pattern, line):
                return line

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ok(self, command: bytes, *more: bytes) -> list[bytes]:
        """The untagged lines."""
        *said, last = self.say(command, *more)
        assert last.startswith(b"t OK"), last
        return said

    def no(self, command: bytes, *more: bytes) -> bytes:
        """Why not."""
        last = self.say(command, *more)[-1]
        assert last.startswith(b"t NO"), last
        return last[5:]

    def numbers(self, command: bytes) -> list[int]:
        """What a search found."""
        [line] = [line for line in self.ok(command) if line.startswith((b"* SEARCH", b"* SORT"))]
        return [int(number) for number in line.partition(b" (MODSEQ")[0].split()[2:]]

    def found(self, key: str, word: str) -> list[int]:
        """The UIDs of a search for words of any letters."""
        raw = word.encode()
        said = self.ok(b"UID SEARCH CHARSET UTF-8 %b {%d}" % (key.encode(), len(raw)), raw + b"\r\n")
        [line] = [line for line in said if line.startswith(b"* SEARCH")]
        return [int(number) for number in line.split()[2:]]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class AtTheDoor(TreeCase):
    """A listening door over the archive and folders in memory."""

    async def start(self, **more: Any) -> Archive:
        archive = await self.fresh(settings=LOOSE, bus=self.bus, **more)
        await self.listen(archive)
        return archive

    async def listen(self, archive: Archive) -> None:
        shared = self.site(archive)
        access = MemoryAccess({f"{name}@example.test": "secret" for name in ("bob", "carol", "audit")})
        self.imap = ImapSite(
            self.clock,
            reactor.getThreadPool(),
            access,
            lambda person: [("", self.own[person.mailbox]), (PREFIX, self.tree(shared, person.mailbox))],
            self.bus,
            PLAIN,
        )
        factory = PumpFactory(lambda peer: ImapServerEngine(), lambda peer: ImapSession(self.imap), reactor)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory.listener)
        self.number = port.getHost().port

        async def stop() -> None:
            await port.stopListening()
            await factory.stop(0)

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))

    async def said(self, work: Callable[[Line], T], name: str = "bob") -> T:
        """A conversation of one person."""

        def run() -> T:
            with contextlib.closing(Line(self.number, name)) as line:
                return work(line)

        return await deferToThread(run)  # type: ignore[no-any-return]


class Dialogs(AtTheDoor):
    """What is said."""

    async def test_a_namespace_of_its_own(self) -> None:
        """Catches a tree among people's own folders, subscribed without their doing, in the way of a folder that they call Archive, or that cannot be subscribed to."""
        archive = await self.start()
        await self.put(archive, mail("one"))
        await archive.flush()
        await self.own[BOB].create("Archive/2026", "")

        def work(line: Line) -> None:
            assert line.ok(b"NAMESPACE") == [b'* NAMESPACE (("" "/")) NIL (("Mail archive/" "/"))']
            listed = line.ok(b'LIST "" "*"')
            for name in (b'"Mail archive"', b'"Mail archive/Received"', b'"Mail archive/Received/2026"'):
                assert any(each.endswith(name) and b"(\\Noselect \\HasChildren)" in each for each in listed), (name, listed)
            assert any(each.endswith(MAY) and b"\\Noselect" not in each for each in listed)
            assert any(each.endswith(b"Archive/2026") and b"Mail" not in each for each in listed)
            assert line.ok(b'LIST "" "Mail archive/%"')[0].endswith(b'"Mail archive/Received"')
            assert not any(b"Mail archive" in each for each in line.ok(b'LSUB "" "*"'))
            assert not any(b"Mail archive" in each for each in line.ok(b'LIST (SUBSCRIBED) "" "*"'))
            line.ok(b"SUBSCRIBE " + MAY)
            assert any(each.endswith(MAY) for each in line.ok(b'LSUB "" "*"'))
            assert any(each.endswith(MAY) and b"\\Subscribed" in each for each in line.ok(b'LIST (SUBSCRIBED) "" "*"'))
            line.ok(b"UNSUBSCRIBE " + MAY)
            assert not any(b"Mail archive" in each for each in line.ok(b'LSUB "" "*"'))
            [status] = line.ok(b"STATUS " + MAY + b" (MESSAGES UNSEEN RECENT UIDNEXT SIZE DELETED)")
            assert status.endswith(b"(MESSAGES 1 UNSEEN 0 RECENT 0 UIDNEXT 2 SIZE %d DELETED 0)" % len(mail("one")))
            assert b"CANNOT" in line.no(b'CREATE "Mail archive"')
            assert b"CANNOT" in line.no(b'RENAME Archive "Mail archive"')
            line.ok(b'CREATE "Mail archives"')
            assert line.ok(b"GETQUOTAROOT " + MAY) == [b"* QUOTAROOT " + MAY]

        await self.said(work)

    async def test_nothing_is_changed_there(self) -> None:
        """Catches a command that changes the archive, or is answered OK without doing anything, and a refusal that does not say why."""
        archive = await self.start()
        await self.put(archive, mail("one"))
        await archive.flush()

        def work(line: Line) -> None:
            for how in (b"SELECT", b"EXAMINE"):
                said = line.say(how + b" " + MAY)
                assert b"* 1 EXISTS" in said
                assert b"* 0 RECENT" in said
                assert said[-1].startswith(b"t OK [READ-ONLY]")
                assert any(b"PERMANENTFLAGS ()" in each for each in said)
                assert b"NOPERM" in line.no(b"STORE 1 +FLAGS (\\Deleted)")
                assert b"NOPERM" in line.no(b"UID STORE 1 -FLAGS.SILENT (\\Seen)")
                assert b"NOPERM" in line.no(b"EXPUNGE")
                assert b"NOPERM" in line.no(b"UID EXPUNGE 1")
                assert b"CANNOT" in line.no(b"MOVE 1 INBOX")
                assert b"CANNOT" in line.no(b"UID MOVE 1 INBOX")
                assert b"NOPERM" in line.no(b"REPLACE 1 INBOX {5}", b"a: b\n\r\n")
                assert line.ok(b"FETCH 1 (FLAGS BODY[TEXT]<0.4>)")[0].startswith(b"* 1 FETCH (FLAGS (\\Seen) BODY[TEXT]<0> {4}")
            assert b"NOPERM" in line.no(b"APPEND " + MAY + b" {5}", b"a: b\n\r\n")
            assert b"NOPERM" in line.no(b'CREATE "Mail archive/mine"')
            assert b"NOPERM" in line.no(b"DELETE " + MAY)
            assert b"NOPERM" in line.no(b"RENAME " + MAY + b' "Mail archive/Received/2026/06"')
            assert b"CANNOT" in line.no(b"RENAME " + MAY + b" Mine")
            assert b"NONEXISTENT" in line.no(b'SELECT "Mail archive/Received/2026/04"')
            assert b"NONEXISTENT" in line.no(b'SELECT "Mail archive/Everybody/Received/2026/05"')
            line.ok(b"APPEND INBOX {6}", b"a: b\r\n\r\n")
            line.ok(b"SELECT INBOX")
            assert b"CANNOT" in line.no(b"COPY 1 " + MAY)
            assert b"CANNOT" in line.no(b"MOVE 1 " + MAY)

        await self.said(work)
        assert self.sent.mails == []

    async def test_exact_bytes(self) -> None:
        """Catches sizes, dates and bytes that are not those that came: small and large, whole and in pieces, with a part that the archive keeps apart."""
        archive = await self.start()
        texts = [mail("small"), mail("large", "line\r\n" * 400_000), attached(200_000)]
        for text in texts:
            await self.put(archive, text)
        await archive.flush(seal=True)

        def work(client: imapclient.IMAPClient) -> None:
            client.select_folder("Mail archive/Received/2026/05", readonly=True)
            found = client.fetch(
                [1, 2, 3], ["BODY[]", "RFC822.SIZE", "INTERNALDATE", "BODYSTRUCTURE", "ENVELOPE", "BODY[HEADER]", "FLAGS"]
            )
            for uid, text in enumerate(texts, 1):
                assert found[uid][b"BODY[]"] == text
                assert found[uid][b"RFC822.SIZE"] == len(text)
                assert found[uid][b"INTERNALDATE"].timestamp() == NOW
                assert found[uid][b"BODY[HEADER]"] == text[: text.index(b"\r\n\r\n") + 4]
                piece = client.fetch([uid], ["BODY[]<70000.1000>"])[uid].get(b"BODY[]<70000>")
                assert piece == text[70_000:71_000]
            assert found[1][b"ENVELOPE"].subject == b"small"
            assert found[3][b"BODYSTRUCTURE"][1] == b"MIXED"

        await self.client(work)

    async def client(self, work: Callable[[imapclient.IMAPClient], T], name: str = "bob") -> T:
        def run() -> T:
            client = imapclient.IMAPClient("127.0.0.1", self.number, ssl=False)
            client.normalise_times = False
            try:
                client.login(f"{name}@example.test", "secret")
                return work(client)
            finally:
                client.shutdown()

        return await deferToThread(run)  # type: ignore[no-any-return]

    async def test_copy_into_inbox_redelivers(self) -> None:
        """Catches a COPY out of the archive that only copies (C10), tells UIDs of a mailbox on another server, goes to a folder that is not there, or fails without saying why."""
        archive = await self.start()
        for number in range(3):
            await self.put(archive, mail(f"number {number}"))
        await archive.flush()
        await self.own[BOB].create("Kept", "")

        def work(line: Line) -> None:
            line.ok(b"EXAMINE " + MAY)
            assert line.say(b"COPY 1,3 INBOX") == [b"t OK Copied"]
            assert line.say(b"UID COPY 2 inbox") == [b"t OK Copied"]
            assert line.no(b"COPY 1 Nowhere").startswith(b"[TRYCREATE]")
            said = line.say(b"UID COPY 2:3 Kept")[-1]
            assert re.match(rb"t OK \[COPYUID \d+ 2:3 1:2\]", said), said

        await self.said(work)
        assert [to for to, _ in self.sent.mails] == ["bob@example.test"] * 3
        kept = self.own[BOB].found("Kept")
        assert [entry.date for entry in await kept.entries()] == [NOW, NOW]
        for error, code in (
            (Refused("suspended"), b"[NOPERM] suspended"),
            (ArchiveError("medium 7 is away"), b"[UNAVAILABLE]"),
            (OSError(28, "full"), b"[UNAVAILABLE]"),
        ):
            self.sent.fails = error
            refused = await self.said(lambda line: (line.ok(b"EXAMINE " + MAY), line.no(b"COPY 1 INBOX"))[1])
            assert refused.startswith(code), refused
        assert [(actor, action) for actor, action, _ in self.log.rows] == [("bob@example.test", "archive.redeliver")] * 5

    async def test_a_copy_that_fails_leaves_nothing(self) -> None:
        """Catches some of the messages in the own folder after a COPY that was answered NO, whichever step failed."""
        archive = await self.start()
        for number in range(3):
            await self.put(archive, mail(f"number {number}"))
        await archive.flush()
        await self.own[BOB].create("Kept", "")
        kept = self.own[BOB].found("Kept")
        full = FolderError("OVERQUOTA", "the mailbox is full")
        for target, name in ((kept, "commit"), (MemoryDeposit, "write"), (Texts, "body"), (Texts, "sights")):
            with patch.object(target, name, side_effect=full):
                refused = await self.said(lambda line: (line.ok(b"EXAMINE " + MAY), line.no(b"COPY 1:3 Kept"))[1])
            assert refused == b"[OVERQUOTA] the mailbox is full", name
            assert list(await kept.entries()) == []
        await self.said(lambda line: (line.ok(b"EXAMINE " + MAY), line.ok(b"COPY 1:3 Kept")))
        assert len(await kept.entries()) == 3

    async def test_what_comes_and_goes_is_told(self) -> None:
        """Catches an open folder that does not hear of mail that arrives, of what retention takes, or that counts wrongly afterwards; by IDLE, NOOP and QRESYNC."""
        archive = await self.start()
        await self.put(archive, mail("short"), retention_days=10)
        await self.put(archive, mail("stays"))
        await archive.flush(seal=True)
        line = await deferToThread(Line, self.number, "bob")
        self.addCleanup(line.close)

        def begin() -> bytes:
            line.ok(b"ENABLE QRESYNC")
            said = line.ok(b"EXAMINE " + MAY)
            line.send(b"t IDLE\r\n")
            line.wait(rb"^\+ ")
            [validity] = [re.search(rb"UIDVALIDITY (\d+)", each) for each in said if b"UIDVALIDITY" in each]
            [modseq] = [re.search(rb"HIGHESTMODSEQ (\d+)", each) for each in said if b"HIGHESTMODSEQ" in each]
            assert validity is not None
            assert modseq is not None
            return b"%b %b" % (validity[1], modseq[1])

        known = await deferToThread(begin)
        await self.put(archive, mail("new"))
        await archive.flush()
        await deferToThread(line.wait, rb"^\* 3 EXISTS")
        await self.night(archive, 11)
        await deferToThread(line.wait, rb"^\* VANISHED 1\r")

        def rest() -> None:
            line.send(b"DONE\r\n")
            line.wait(rb"^t OK")
            assert line.numbers(b"SEARCH ALL") == [1, 2]
            assert line.numbers(b"UID SEARCH ALL") == [2, 3]
            said = line.ok(b"EXAMINE " + MAY + b" (QRESYNC (" + known + b" 1:2))")
            assert b"* VANISHED (EARLIER) 1" in said, said
            assert b"* 2 EXISTS" in said

        await deferToThread(rest)

    async def test_a_right_that_ends_while_selected(self) -> None:
        """Catches an auditor's open folder that goes on after the role was taken, and one's own after the address was."""
        archive = await self.start()
        await self.put(archive, mail("secret words"))
        await archive.flush()
        line = await deferToThread(Line, self.number, "audit")
        self.addCleanup(line.close)
        everybody = b'"Mail archive/Everybody/Received/2026/05"'

        def before() -> None:
            line.ok(b"EXAMINE " + everybody)
            assert b"secret" in b"".join(line.ok(b"FETCH 1 BODY[]"))

        await deferToThread(before)
        assert [(actor, action) for actor, action, _ in self.log.rows] == [("audit@example.test", "archive.export")]
        del self.rights[AUDITOR]["Everybody/"]

        def after() -> None:
            for command in (b"FETCH 1 BODY[]", b"FETCH 1 ENVELOPE", b"SEARCH TEXT secret", b"COPY 1 INBOX", b"FETCH 1 FLAGS"):
                said = line.say(command)
                assert said[-1].startswith(b"t NO"), said
                assert b"secret" not in b"".join(said)
            assert b"NONEXISTENT" in line.no(b"EXAMINE " + everybody)
            assert not any(b"Everybody" in each for each in line.ok(b'LIST "" "*"'))

        await deferToThread(after)
        assert self.sent.mails == []

    async def test_a_medium_away(self) -> None:
        """See ``a_medium_away``: a mail that is held."""
        await self.a_medium_away(False)

    async def test_a_medium_away_with_a_large_mail(self) -> None:
        """See ``a_medium_away``: a mail that is laid out."""
        await self.a_medium_away(True)

    async def a_medium_away(self, large: bool) -> None:
        """Catches a FETCH that fails for all because of some, does not say which medium is away, or passes over what it could not read in silence."""
        archive = await self.start()
        await self.put(archive, mail("away", "line\r\n" * (400_000 if large else 1)))
        await archive.flush(seal=True)
        await self.put(archive, mail("here"))
        await archive.flush()
        shutil.move(self.medium, self.top / "elsewhere")

        def work(line: Line) -> None:
            line.ok(b"EXAMINE " + MAY)
            for items in (b"ENVELOPE", b"BODY.PEEK[]", b"BODY.PEEK[HEADER.FIELDS (SUBJECT)]", b"BODYSTRUCTURE"):
                for kind in (b"FETCH", b"UID FETCH"):
                    *said, last = line.say(kind + b" 1:2 " + items)
                    assert last.startswith(b"t NO [UNAVAILABLE]"), last
                    assert b"medium 1" in last
                    assert [each.split()[1] for each in said if each.startswith(b"* ")] == [b"2"]
            assert line.ok(b"FETCH 1:2 (UID RFC822.SIZE INTERNALDATE FLAGS)")[-1].startswith(b"* 2 ")
            assert line.numbers(b"SEARCH SUBJECT away") == [1]
            assert b"medium 1" in line.no(b"COPY 1 INBOX")

        await self.said(work)

    async def test_a_locked_archive(self) -> None:
        """Catches people's own folders that cannot be listed while the archive is locked, and a word about it with every LIST."""
        archive = await self.fresh(settings=LOOSE)
        await self.put(archive, mail("one"))
        await archive.flush()
        await archive.stop()
        await self.listen(await self.reopened(root=None))

        def work(line: Line) -> None:
            first, second = line.ok(b'LIST "" "*"'), line.ok(b'LIST "" "*"')
            assert [each for each in first if each.startswith(b"* NO [UNAVAILABLE]") and b"locked" in each]
            assert not [each for each in second if each.startswith(b"* NO")]
            assert any(b"INBOX" in each for each in second)
            assert b"UNAVAILABLE" in line.no(b"SELECT " + MAY)

        await self.said(work)


FIELDS = b"(From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)"
PROGRAMS: dict[str, list[bytes]] = {
    "Thunderbird": [
        b"CAPABILITY",
        b'ID ("name" "Thunderbird" "version" "128.5")',
        b"NAMESPACE",
        b'LIST (SUBSCRIBED) "" "*" RETURN (SPECIAL-USE)',
        b'LSUB "" "Mail archive/*"',
        b'LIST "" "Mail archive/%" RETURN (CHILDREN)',
        b"SUBSCRIBE " + MAY,
        b"SELECT " + MAY + b" (CONDSTORE)",
        b"UID FETCH 1:* (FLAGS)",
        b"UID FETCH 1:3 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS " + FIELDS + b"])",
        b"UID FETCH 2 (UID RFC822.SIZE BODY[])",
        b"UID FETCH 3 (UID RFC822.SIZE BODY[]<0.65536>)",
        b"UID SEARCH UNDELETED SUBJECT number SINCE 1-May-2026",
        b'UID COPY 2 "INBOX"',
        b"NOOP",
        b"CLOSE",
    ],
    "Apple Mail": [
        b'LIST "" "*"',
        b"STATUS " + MAY + b" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)",
        b"ENABLE CONDSTORE QRESYNC",
        b"SELECT " + MAY,
        b"FETCH 1:* (FLAGS UID MODSEQ)",
        b"UID FETCH 1:3 (INTERNALDATE UID RFC822.SIZE FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (date subject from to cc message-id in-reply-to references content-type list-id)])",
        b"UID FETCH 2 (BODYSTRUCTURE BODY.PEEK[])",
        b"UID FETCH 3 BODY.PEEK[1.MIME]",
        b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        b'UID SEARCH CHARSET UTF-8 OR OR FROM "alice" SUBJECT "alice" TO "alice"',
        b"CHECK",
    ],
    "Outlook": [
        b'LIST "" "*"',
        b'LSUB "" "*"',
        b"SELECT " + MAY,
        b"UID FETCH 1:* (UID FLAGS)",
        b"UID FETCH 1:3 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER] BODYSTRUCTURE)",
        b"UID FETCH 2 (UID BODY.PEEK[])",
        b"UID SEARCH 1:* NOT DELETED",
        b"UID COPY 1:2 INBOX",
        b"UNSELECT",
    ],
    "phone": [
        b'LIST "" "*" RETURN (SUBSCRIBED STATUS (MESSAGES UNSEEN UIDNEXT))',
        b"EXAMINE " + MAY,
        b"UID FETCH 1:* (UID PREVIEW ENVELOPE EMAILID THREADID SAVEDATE)",
        b"UID SEARCH RETURN (PARTIAL 1:2) ALL",
        b"UID SORT RETURN (ALL) (REVERSE ARRIVAL) UTF-8 ALL",
        b"UID THREAD REFERENCES UTF-8 ALL",
    ],
}
"""What they say to a folder that they are shown."""


class Sequences(AtTheDoor):
    """What programs say that cannot be run here."""

    async def test_every_command_is_answered(self) -> None:
        """Catches a command that a common program sends as a matter of course, and that a read-only folder without files answers with NO, BAD or nothing."""
        archive = await self.start()
        for number in range(3):
            await self.put(archive, mail(f"number {number}"))
        await archive.flush(seal=True)

        def work(line: Line, commands: list[bytes]) -> None:
            for command in commands:
                said = line.ok(command)
                if b"FETCH" in command and b"CHANGEDSINCE" not in command:
                    assert [each for each in said if b" FETCH (" in each], command

        for commands in PROGRAMS.values():
            await self.said(lambda line, commands=commands: work(line, commands))  # type: ignore[misc]
        assert len(self.sent.mails) == 3


PEOPLE = ("alice@example.test", "dora@example.test", "Jürgen <j@example.test>")
WORDS = ("harvest", "moon", "Rechnung", "offer", "Gruß", "x-ray")


class Finding(AtTheDoor):
    """SEARCH, SORT and THREAD."""

    async def filled(self) -> Archive:
        archive = await self.start()
        for number in range(12):
            await self.put(
                archive,
                mail(
                    f"Re: {WORDS[number % 6]} {number % 4}",
                    f"{WORDS[(number * 5) % 6]} and {WORDS[(number + 1) % 6]}" + " long" * (number * 50),
                    sender=PEOPLE[number % 3],
                    to="bob@example.test" if number % 2 else "list@example.test",
                    cc="bob@example.test" if number % 5 == 0 else "",
                    extra=f"X-Count: {number}\r\nMessage-ID: <{number}@x>"
                    + (f"\r\nReferences: <{number - 3}@x>" if number > 2 else ""),
                ).replace(b"25 May 2026", b"%d May 2026" % (10 + number)),
                received=NOW - (12 - number) * 86_400.0,
            )
        await self.put(archive, mail("not bob's harvest"), recipients=("carol@example.test",))
        await archive.flush()
        return archive

    async def test_the_same_answers_as_the_page(self) -> None:
        """Catches a search that answers otherwise than the archive's page does to the same words, or finds others' mail."""
        archive = await self.filled()
        every = [*WORDS, "and", "harvest moon", "nothing", "GRUSS", "gruß", "jurgen"]
        scope = user("bob@example.test")
        wanted: dict[tuple[str, str], set[int]] = {}
        for word in every:
            for key, term in (("TEXT", ""), ("SUBJECT", "subject:")):
                page = await archive.search(scope, f'{term}"{word}"', limit=50)
                wanted[key, word] = {round((hit.received - NOW) / 86_400.0) + 13 for hit in page.results}

        def work(line: Line) -> dict[tuple[str, str], set[int]]:
            line.ok(b"EXAMINE " + MAY)
            return {(key, word): set(line.found(key, word)) for key, word in wanted}

        assert await self.said(work) == wanted
        assert wanted["TEXT", "harvest"]
        assert wanted["TEXT", "jurgen"] == await self.said(
            lambda line: (line.ok(b"EXAMINE " + MAY), set(line.found("FROM", "jürgen")))[1]
        )

    async def test_keys_together(self) -> None:
        """Catches keys that are answered otherwise by the index than by the messages themselves: each is asked of the archive and of a folder with the same messages."""
        await self.filled()
        keys = [
            b"ALL", b"1:5", b"UID 3:*", b"SEEN", b"UNSEEN", b"NOT SEEN", b"DELETED", b"UNDELETED", b"UNKEYWORD $Junk", b"NEW", b"OLD", b"LARGER 1000", b"SMALLER 1000",
            b"SINCE 20-May-2026", b"BEFORE 20-May-2026", b"ON 20-May-2026", b"NOT ON 20-May-2026", b"SENTSINCE 15-May-2026", b"SENTBEFORE 15-May-2026", b"SENTON 15-May-2026",
            b"SUBJECT harvest", b"SUBJECT offer NOT SINCE 22-May-2026", b"OR SUBJECT moon LARGER 2000", b"FROM alice", b"TO bob@example.test", b"CC bob", b"NOT TO bob",
            b"HEADER X-Count 7", b"HEADER X-Count \"\" BODY moon", b"TEXT moon BODY harvest", b"NOT (OR BODY moon BODY harvest)", b"OR OR SUBJECT 1 SUBJECT 2 FROM dora", b"BODY x-ray",
            b"OLDER 432000", b"YOUNGER 432000", b"MODSEQ 1", b"BCC bob",
        ]  # fmt: skip

        def work(line: Line) -> None:
            line.ok(b"EXAMINE " + MAY)
            line.ok(b"UID COPY 1:* Same")
            archived = {key: line.numbers(b"SEARCH " + key) for key in keys}
            several = {key: line.ok(b"SEARCH RETURN (MIN MAX COUNT ALL) " + key) for key in keys}
            ordered = [
                line.numbers(b"SORT (%b) UTF-8 ALL" % by)
                for by in (b"SUBJECT", b"REVERSE SIZE", b"FROM DATE", b"ARRIVAL", b"REVERSE DATE")
            ]
            threads = line.ok(b"THREAD REFERENCES UTF-8 ALL")
            partial = line.ok(b"UID SEARCH RETURN (PARTIAL -1:-3) SUBJECT Re")
            line.ok(b"SELECT Same")
            line.ok(b"STORE 1:* +FLAGS.SILENT (\\Seen)")
            for key in keys:
                if key not in (b"MODSEQ 1", b"NEW", b"OLD"):
                    assert line.numbers(b"SEARCH " + key) == archived[key], key
                    assert line.ok(b"SEARCH RETURN (MIN MAX COUNT ALL) " + key) == several[key], key
            assert ordered == [
                line.numbers(b"SORT (%b) UTF-8 ALL" % by)
                for by in (b"SUBJECT", b"REVERSE SIZE", b"FROM DATE", b"ARRIVAL", b"REVERSE DATE")
            ]
            assert threads == line.ok(b"THREAD REFERENCES UTF-8 ALL")
            assert partial == line.ok(b"UID SEARCH RETURN (PARTIAL -1:-3) SUBJECT Re")
            assert archived[b"MODSEQ 1"] == archived[b"ALL"] == archived[b"OLD"]
            assert archived[b"HEADER X-Count 7"] == [8]
            line.ok(b"EXAMINE " + MAY)
            modseqs = [int(each) for each in re.findall(rb"MODSEQ \((\d+)\)", b"".join(line.ok(b"FETCH 1:* MODSEQ")))]
            for at, modseq in enumerate(modseqs, 1):
                assert len(line.ok(b"FETCH 1:* FLAGS (CHANGEDSINCE %d)" % modseq)) == len(modseqs) - at
                assert len(line.ok(b"FETCH 2:4 FLAGS (CHANGEDSINCE %d)" % modseq)) == max(0, min(3, 4 - at))
            found = re.search(rb"EMAILID \((M\w+)\) MODSEQ \((\d+)\)", b"".join(line.ok(b"FETCH 4 (EMAILID MODSEQ)")))
            assert found is not None
            assert line.numbers(b"SEARCH EMAILID " + found[1]) == [4]
            assert line.numbers(b"SEARCH EMAILID Mb77") == line.numbers(b"SEARCH EMAILID Ma") == []
            assert line.numbers(b"SEARCH MODSEQ " + found[2]) == archived[b"ALL"][3:]
            assert line.numbers(b"SEARCH MODSEQ %d" % (int(found[2]) + 1)) == archived[b"ALL"][4:]

        await self.own[BOB].create("Same", "")
        await self.said(work)

    async def test_what_the_index_cannot_answer_is_bounded(self) -> None:
        """Catches a search that opens every mail of a large folder: it is refused with how to ask instead, and answered once it is narrow enough."""
        await self.filled()
        before, search.OPENED = search.OPENED, 5
        self.addCleanup(setattr, search, "OPENED", before)

        def work(line: Line) -> None:
            line.ok(b"EXAMINE " + MAY)
            assert b"[LIMIT]" in line.no(b"SEARCH HEADER X-Count 7")
            assert line.numbers(b"SEARCH HEADER X-Count 7 6:9") == [8]
            assert len(line.numbers(b"SEARCH SENTSINCE 12-May-2026")) == 10

        await self.said(work)


class Clients(AtTheDoor):
    """Real programs."""

    async def test_mbsync(self) -> None:
        """Catches anything that mbsync complains of in a read-only folder: once all, then what came and what went, then nothing."""
        archive = await self.start()
        for number in range(40):
            await self.put(
                archive, mail(f"number {number}", sender="Alice <alice@example.test>"), retention_days=10 if number < 4 else 90
            )
        await self.put(
            archive,
            mail("sent"),
            sender="bob@example.test",
            login="bob@example.test",
            recipients=("x@y.test",),
            direction=Direction.OUT,
        )
        await archive.flush(seal=True)
        home = Path(self.mktemp()).resolve()
        home.mkdir()
        await mbsync(self.number, home, user="bob@example.test")
        folder = home / "Mail archive" / "Received" / "2026" / "05"
        assert len(list(folder.glob("cur/*")) + list(folder.glob("new/*"))) == 40
        sent = home / "Mail archive" / "Sent" / "2026" / "05"
        assert len(list(sent.glob("cur/*")) + list(sent.glob("new/*"))) == 1
        await self.put(archive, mail("later"))
        await archive.flush()
        await self.night(archive, 11)
        await mbsync(self.number, home, user="bob@example.test")
        assert len(list(folder.glob("cur/*")) + list(folder.glob("new/*"))) == 37
        await mbsync(self.number, home, user="bob@example.test")
        assert len(list(folder.glob("cur/*")) + list(folder.glob("new/*"))) == 37

    async def test_curl(self) -> None:
        """Catches names or answers that curl's simple client does not understand."""
        archive = await self.start()
        await self.put(archive, mail("by curl"))
        await archive.flush(seal=True)
        base = f"imap://127.0.0.1:{self.number}/"
        for path, more, expected in (
            ("", [], b"Mail archive/Received/2026/05"),
            ("Mail%20archive%2FReceived%2F2026%2F05;UID=1", [], b"Subject: by curl"),
            ("Mail%20archive%2FReceived%2F2026%2F05?SUBJECT%20curl", [], b"* SEARCH 1"),
            ("Mail%20archive%2FReceived%2F2026%2F05", ["-X", "COPY 1 INBOX"], b""),
        ):
            out, err, code = await getProcessOutputAndValue(
                "/usr/bin/curl", ["-sS", "--user", "bob@example.test:secret", *more, base + path], env={"PATH": "/usr/bin"}
            )
            assert code == 0, (path, err)
            assert expected in out, (path, out)
        assert [to for to, _ in self.sent.mails] == ["bob@example.test"]
