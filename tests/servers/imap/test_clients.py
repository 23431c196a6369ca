"""Other people's clients against the door on a loopback port, each in a thread or process of its own (issue: none may complain)."""

from __future__ import annotations

import imaplib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imapclient
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.servers.imap.door import SIMPLE, Door
from tests.servers.imap.mbsync import mbsync, message, number_of

HOST = "127.0.0.1"


class OnLoopback(TestCase):
    """A listening door."""

    async def start(self) -> None:
        self.door = Door(reactor)
        self.door.threads.start()
        self.addCleanup(self.door.threads.stop)
        self.factory = self.door.factory()
        self.port = await TCP4ServerEndpoint(reactor, 0, interface=HOST).listen(self.factory.listener)
        self.addCleanup(self.stop)
        self.number = self.port.getHost().port

    async def stop(self) -> None:
        await self.port.stopListening()
        await self.factory.stop(0)

    async def client(self, work: Callable[[int], Any]) -> Any:
        return await deferToThread(work, self.number)


class Imaplib(OnLoopback):
    """Python's own client."""

    async def test_a_day(self) -> None:
        """Catches answers that imaplib cannot read, from log-in to log-out, with literals in both directions."""
        await self.start()
        self.door.inbox.add(SIMPLE)
        big = message(1, 300_000)

        def work(port: int) -> None:
            with imaplib.IMAP4(HOST, port) as client:
                client.authenticate("PLAIN", lambda challenge: b"\0alice@example.test\0secret")
                assert client.create('"Ordner &- mehr"')[0] == "OK"
                assert client.select()[1] == [b"1"]
                assert client.append("INBOX", "\\Seen", imaplib.Time2Internaldate(1_700_000_000), big)[0] == "OK"
                assert client.noop()[0] == "OK"
                _, data = client.fetch("2", "(RFC822 INTERNALDATE FLAGS)")
                assert data[0][1] == big
                assert b"14-Nov-2023 22:13:20" in data[0][0] + data[1]
                assert client.search(None, "SUBJECT", '"first words"')[1] == [b"1"]
                assert client.search("UTF-8", "BODY", '"line 7 of"')[1] == [b"2"]
                assert client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")[0] == "OK"
                assert client.copy("1:2", '"Ordner &- mehr"')[0] == "OK"
                assert client.expunge()[1] == [b"1"]
                assert client.status('"Ordner &- mehr"', "(MESSAGES UNSEEN)")[1] == [b'"Ordner &- mehr" (MESSAGES 2 UNSEEN 1)']
                assert client.namespace()[1] == [b'(("" "/")) NIL NIL']
                assert client.close()[0] == "OK"

        await self.client(work)

    async def test_wrong_password(self) -> None:
        """Catches a log-in that is not refused as ``imaplib.error``."""
        await self.start()

        def work(port: int) -> str:
            with imaplib.IMAP4(HOST, port) as client:
                try:
                    client.login("alice@example.test", "wrong")
                except imaplib.IMAP4.error as error:
                    return repr(error.args)
            return ""

        assert "AUTHENTICATIONFAILED" in await self.client(work)


class Imapclient(OnLoopback):
    """imapclient parses envelopes, structures, COPYUID, SPECIAL-USE and IDLE answers itself."""

    async def test_a_day(self) -> None:
        """Catches structures and response codes that a strict parser refuses."""
        await self.start()
        tree = self.door.tree
        tree.make("Gesendet", "\\Sent")
        self.door.inbox.add(SIMPLE)
        self.door.inbox.add(
            b'From: =?utf-8?q?J=C3=B6rg?= <j@example.test>\r\nSubject: caf\xe9 "x\\\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n'
            b'--b\r\nContent-Type: text/html; charset="utf-8"\r\n\r\n<p>hi</p>\r\n'
            b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n\r\n--b--\r\n"
        )

        def work(port: int) -> None:
            client = imapclient.IMAPClient(HOST, port, ssl=False)
            try:
                talk(client)
            finally:
                client.shutdown()

        def talk(client: imapclient.IMAPClient) -> None:
            client.login("alice@example.test", "secret")
            assert client.find_special_folder(b"\\Sent") == "Gesendet"
            client.create_folder("Entwürfe/日本")
            assert [name for _, _, name in client.list_folders()] == ["INBOX", "Entwürfe", "Entwürfe/日本", "Gesendet"]
            client.subscribe_folder("Entwürfe")
            assert [name for _, _, name in client.list_sub_folders()] == ["Entwürfe"]
            chosen = client.select_folder("INBOX")
            assert chosen[b"EXISTS"] == 2
            found = client.fetch([1, 2], ["ENVELOPE", "BODYSTRUCTURE", "BODY", "FLAGS", "RFC822.SIZE", "BODY[2.HEADER]"])
            assert found[1][b"ENVELOPE"].subject == b"First words"
            assert found[2][b"ENVELOPE"].subject == b'caf\xe9 "x\\'
            structure = found[2][b"BODYSTRUCTURE"]
            assert structure.is_multipart
            assert structure[0][1][0:2] == (b"MESSAGE", b"RFC822")
            assert found[2][b"BODY[2.HEADER]"] == b"Subject: inner\r\n\r\n"
            assert client.search(["FROM", "jörg"], "UTF-8") == [2]
            client.copy([1], "Entwürfe")
            client.move([2], "Gesendet")
            client.idle()
            reactor.callFromThread(self.door.inbox.add, SIMPLE)
            assert (2, b"EXISTS") in client.idle_check(10)
            client.idle_done()
            client.delete_messages([1])
            client.uid_expunge([1])
            assert client.search() == [3]
            client.unselect_folder()
            assert client.folder_status("Gesendet", ["MESSAGES", "SIZE"])[b"MESSAGES"] == 1
            client.rename_folder("Entwürfe", "Alt")
            assert client.folder_exists("Alt/日本")
            client.delete_folder("Alt/日本")
            client.id_({"name": "test"})

        await self.client(work)


class Mbsync(OnLoopback):
    """Both ways, with pipelining and LITERAL+."""

    async def test_both_ways(self) -> None:
        """Catches mail, flags, deletions and folders that do not cross in either direction, and any complaint of mbsync."""
        await self.start()
        if not os.path.exists("/usr/bin/mbsync"):
            self.skipTest("mbsync (Debian: isync) is not installed")
        inbox = self.door.inbox
        for n in range(150):
            inbox.add(message(n, 100_000 if n == 7 else 200), ["\\Seen"] if n % 2 else [])
        self.door.tree.make("Ablage").add(message(999))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            await mbsync(self.number, path)
            files = [*(path / "INBOX" / "cur").iterdir(), *(path / "INBOX" / "new").iterdir()]
            assert len(files) == 150
            assert len([*(path / "Ablage" / "new").iterdir(), *(path / "Ablage" / "cur").iterdir()]) == 1
            # here: one deleted, one flagged, one new; there: one deleted, one new
            number = {f: number_of(f.read_bytes()) for f in files}
            victim = next(f for f, n in number.items() if n == 3)
            victim.unlink()
            marked = next(f for f, n in number.items() if n == 5)
            marked.rename(marked.with_name(marked.name.partition(":")[0] + ":2,FS"))
            (path / "INBOX" / "new" / "1.here.example").write_bytes(message(500).replace(b"\r\n", b"\n"))
            inbox.remove(11)
            inbox.add(message(501))
            await mbsync(self.number, path, "PLAIN")
            kept = {number_of(m.data): m for m in inbox.messages.values()}
            assert 3 not in kept
            assert "\\Flagged" in kept[5].entry.flags
            assert b"line 0 of 500" in kept[500].data
            files = [*(path / "INBOX" / "cur").iterdir(), *(path / "INBOX" / "new").iterdir()]
            assert len(files) == len(kept) == 150
            again = await mbsync(self.number, path, "SCRAM-SHA-256")
            assert "F: +0/1 *0/0 #0/0" not in again
