"""The door over the real portal store: what the mailbox in memory cannot show."""

from __future__ import annotations

import base64
import email
import email.message
import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imapclient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hornetmail.core.served import Person
from hornetmail.interfaces.folders import IFolderTree
from hornetmail.net.serving.listener import PumpFactory
from hornetmail.servers.imap.session import ImapSession
from hornetmail.servers.imap.site import ImapSite
from hornetmail.testing.corpus import messages
from hornetmail.testing.folders import MemoryAccess
from hornetmail.wire.imap.server.server import ImapServerEngine
from tests.portal.ground import Bytes, Ground, message, row
from tests.servers.imap.door import PLAIN
from tests.servers.imap.mbsync import mbsync, number_of
from tests.servers.imap.mbsync import message as numbered

BOB = "bob@example.test"


async def put(folder: Any, text: bytes) -> None:
    """A message, as a client would append it."""
    deposit = folder.append((), None)
    await deposit.write(text)
    await deposit.commit()


class OverThePortal(TestCase):
    """A listening door."""

    async def start(self) -> None:
        self.ground = Ground("sqlite")
        self.addCleanup(self.ground.clean)
        await self.ground.start()
        self.addCleanup(self.ground.stop)
        access = MemoryAccess({BOB: "secret"})
        self.site = ImapSite(reactor, reactor.getThreadPool(), access, self.trees, self.ground.bus, PLAIN)
        self.factory = PumpFactory(lambda peer: ImapServerEngine(), lambda peer: ImapSession(self.site), reactor)
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory.listener)
        self.number = self.port.getHost().port
        self.addCleanup(self.stop)

    def trees(self, person: Person) -> Sequence[tuple[str, IFolderTree]]:
        return [("", self.ground.portal.tree(person.mailbox))]

    async def stop(self) -> None:
        await self.port.stopListening()
        await self.factory.stop(0)

    async def client(self, work: Callable[[imapclient.IMAPClient], Any]) -> Any:
        def run() -> Any:
            client = imapclient.IMAPClient("127.0.0.1", self.number, ssl=False)
            try:
                client.login(BOB, "secret")
                return work(client)
            finally:
                client.shutdown()

        return await deferToThread(run)

    async def test_delivered_read_moved_drained(self) -> None:
        """Catches a portal copy that IMAP shows with its envelope lines, miscounts, or does not see go (rules 9 and 10)."""
        await self.start()
        portal = self.ground.portal
        body = Bytes(numbered(1, 2000))
        kept = await portal.deliver(1, message(body.data), row(), body)
        second = Bytes(numbered(2))
        await portal.deliver(1, message(second.data, 2), row(2), second)

        def work(client: imapclient.IMAPClient) -> None:
            assert client.select_folder("INBOX")[b"EXISTS"] == 2
            found = client.fetch(client.search(), ["BODY[]", "RFC822.SIZE", "BODYSTRUCTURE", "ENVELOPE", "FLAGS"])
            text = found[1][b"BODY[]"]
            assert text.endswith(body.data)
            assert b"X-HornetMail-Envelope" not in text
            assert found[1][b"RFC822.SIZE"] == len(text)
            assert b"\\Seen" in found[1][b"FLAGS"]
            assert client.search(["SUBJECT", "number 2"]) == [2]
            assert client.search(["BODY", "line 3 of 1"]) == [1]
            client.move([2], "Trash")
            assert client.search() == [1]
            client.idle()

            def drain() -> None:
                self.drained = deferred_drain(portal, kept)

            reactor.callFromThread(drain)
            assert client.idle_check(10) == [(1, b"EXPUNGE")]
            client.idle_done()

        await self.client(work)
        await self.drained

    async def test_searched_twice(self) -> None:
        """A search leaves what it decoded to the next one. Would catch one that finds less the second time, in another message, or what has gone; texts of
        messages that were removed and still lie in the index; and a new message that nobody looks through because the others were."""
        await self.start()
        inbox = await self.ground.portal.folder(1, "INBOX")
        texts = [sample.data for sample in itertools.islice(messages(120, 3, sender="s@x.test", recipients=[BOB]), 120)]
        texts[7] = b"Subject: =?utf-8?q?Kr=C3=B6pfli?=\r\n\r\nnothing\r\n"
        texts[70] = (
            b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.b64encode("Kröpfli".encode())
        )
        texts[80] = b"Subject: long\r\n\r\n" + b"x" * 100_000 + b" kr\xc3\xb6pfli\r\n"
        for text in texts:
            await put(inbox, text)

        def work(client: imapclient.IMAPClient) -> None:
            client.select_folder("INBOX")
            for _ in range(3):
                assert client.search(["TEXT", "KRÖPFLI"], "UTF-8") == [8, 71, 81]
                assert client.search(["BODY", "kröpfli"], "UTF-8") == [71, 81]
                assert client.search(["NOT", "TEXT", "kröpfli", "UID", "70:82"], "UTF-8") == [70, *range(72, 81), 82]
            client.append("INBOX", texts[7])
            assert client.search(["TEXT", "kröpfli"], "UTF-8") == [8, 71, 81, 121]
            client.delete_messages([71])
            client.expunge()
            assert client.search(["TEXT", "kröpfli"], "UTF-8") == [8, 81, 121]

        await self.client(work)
        kept = await self.ground.database.read(lambda cursor: cursor.execute("SELECT uid FROM portal_texts").fetchall())
        uids = {uid for (uid,) in kept}
        assert 71 not in uids
        assert {8, 121} <= uids
        assert 81 not in uids

    async def test_asked_again(self) -> None:
        """What came or was read lately is answered from memory. Would catch an answer about another message, one of a message that has gone, and one that is
        other than what the index says."""
        await self.start()
        inbox = await self.ground.portal.folder(1, "INBOX")
        for number in range(90):
            await put(inbox, numbered(number))
        wanted = ["ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "BODY.PEEK[HEADER.FIELDS (SUBJECT X-ODD)]"]

        def work(client: imapclient.IMAPClient) -> None:
            client.select_folder("INBOX")
            first = client.fetch(range(1, 21), wanted)
            whole = client.fetch(client.search(), wanted)
            assert client.fetch(range(1, 21), wanted) == first
            client.delete_messages([3])
            client.expunge()
            left = client.fetch(client.search(), wanted)
            assert left.keys() == whole.keys() - {3}
            for uid in left:
                assert {**left[uid], b"SEQ": whole[uid][b"SEQ"]} == whole[uid]
            subjects = {whole[uid][b"ENVELOPE"].subject for uid in whole}
            assert len(subjects) == 90
            assert all(whole[uid][b"ENVELOPE"].subject in whole[uid][b"BODY[HEADER.FIELDS (SUBJECT)]"] for uid in whole)
            client.copy([5], "Sent")
            client.select_folder("Sent")
            assert client.fetch(1, wanted)[1][b"ENVELOPE"] == whole[5][b"ENVELOPE"]

        await self.client(work)

    async def test_extensions_at_the_store(self) -> None:
        """What the mailbox in memory only pretends: IDs and dates that outlive renaming, moving and a restart (RFC 8474, RFC 8514), several messages with one
        APPEND (RFC 3502), parts decoded (RFC 3516), REPLACE (RFC 8508), and MOVE into the folder itself (RFC 6851)."""
        await self.start()
        png = bytes(range(1, 256)) * 2_000
        parts = (
            b"Subject: a picture\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHere\r\n"
            b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(png).replace(b"\n", b"\r\n")
            + b"--b--\r\n"
        )
        seen: list[Any] = []

        def status(client: imapclient.IMAPClient, name: str) -> Any:
            return client.folder_status(name, ["MAILBOXID"])[b"MAILBOXID"]

        def work(client: imapclient.IMAPClient) -> None:
            client.create_folder("Bilder")
            said = client.multiappend("Bilder", [parts, {"msg": numbered(7), "flags": [b"\\Flagged"]}])
            assert "1:2" in repr(said)
            client.select_folder("Bilder")
            found = client.fetch([1], ["BINARY.SIZE[2]", "BINARY.PEEK[2]", "EMAILID", "SAVEDATE"])[1]
            assert (found[b"BINARY.SIZE[2]"], found[b"BINARY[2]"]) == (len(png), png)
            seen.append(found[b"EMAILID"])
            seen.append(status(client, "Bilder"))
            client.rename_folder("Bilder", "Photos")
            assert status(client, "Photos") == seen[1]
            client.select_folder("Photos")
            client.move([1], "Photos")
            assert client.search() == [2, 3]
            client.move([3], "INBOX")
            client.select_folder("INBOX")
            moved = client.fetch([1], ["EMAILID", "BODY.PEEK[]"])[1]
            assert (moved[b"EMAILID"], moved[b"BODY[]"]) == (seen[0], parts)
            assert client.search(["EMAILID", seen[0][0].decode()]) == [1]
            assert client.search(["SAVEDSINCE", "1-Jan-2020"]) == [1]

        await self.client(work)
        await self.ground.restart()

        def again(client: imapclient.IMAPClient) -> None:
            assert status(client, "Photos") == seen[1]
            client.select_folder("INBOX")
            assert client.fetch([1], ["EMAILID"])[1][b"EMAILID"] == seen[0]

        await self.client(again)

    async def test_the_corpus(self) -> None:
        """Catches mail that changes between APPEND and FETCH, structures that a client cannot read or that differ from ``email``'s, and
        part numbers that give other bytes than the whole has."""
        await self.start()
        samples = [
            sample.data for sample in messages(60, 5, sender="a@outside.test", recipients=[BOB]) if len(sample.data) < 1_000_000
        ]

        def work(client: imapclient.IMAPClient) -> None:
            for data in samples:
                client.append("INBOX", data)
            client.select_folder("INBOX")
            found = client.fetch(client.search(), ["BODY.PEEK[]", "BODYSTRUCTURE", "ENVELOPE", "BODY.PEEK[1]", "RFC822.SIZE"])
            assert len(found) == len(samples)
            for data, item in zip(samples, found.values(), strict=True):
                assert item[b"BODY[]"] == data
                assert item[b"RFC822.SIZE"] == len(data)
                assert item[b"BODY[1]"] is None or item[b"BODY[1]"] in data
                assert types_of(item[b"BODYSTRUCTURE"]) == email_types(email.message_from_bytes(data))

        await self.client(work)

    async def test_mbsync_both_ways(self) -> None:
        """Catches what does not cross between mbsync and the Maildir store."""
        await self.start()
        if not os.path.exists("/usr/bin/mbsync"):
            self.skipTest("mbsync (Debian: isync) is not installed")

        def fill(client: imapclient.IMAPClient) -> None:
            for n in range(40):
                client.append("INBOX", numbered(n), ["\\Seen"] if n % 2 else [])

        await self.client(fill)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            await mbsync(self.number, path, user=BOB)
            files = [*(path / "INBOX" / "cur").iterdir(), *(path / "INBOX" / "new").iterdir()]
            assert len(files) == 40
            next(f for f in files if number_of(f.read_bytes()) == 3).unlink()
            (path / "INBOX" / "new" / "1.here.example").write_bytes(numbered(500).replace(b"\r\n", b"\n"))
            await mbsync(self.number, path, user=BOB)

            def check(client: imapclient.IMAPClient) -> set[int]:
                client.select_folder("INBOX")
                return {number_of(m[b"BODY[]"]) for m in client.fetch(client.search(), ["BODY.PEEK[]"]).values()}

            assert await self.client(check) == {*range(40), 500} - {3}


def types_of(structure: Any) -> Any:
    """A BODYSTRUCTURE as nested lists of types."""
    if structure.is_multipart:
        return [types_of(part) for part in structure[0]]
    return b"/".join(structure[:2]).decode().lower()


def email_types(found: email.message.Message) -> Any:
    """The same from the standard library."""
    if found.get_content_maintype() == "multipart" and found.is_multipart():
        return [email_types(part) for part in found.get_payload()]  # type: ignore[misc,arg-type]
    return found.get_content_type()


def deferred_drain(portal: Any, kept: Any) -> Any:
    """Hand a copy over, as drain does after the primary's 250."""

    async def drain() -> None:
        assert await portal.begin_drain(kept) is not None
        await portal.end_drain(kept, delivered=True)

    return Deferred.fromCoroutine(drain())
