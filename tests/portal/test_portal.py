"""The Maildir store on both databases: deliveries, folders, the drain."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.events import FolderChanged
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Recipient
from hornetmail.mime import headers
from hornetmail.testing import corpus
from tests.portal.ground import MAIL, TRACE, Bytes, Ground, message, row


class OnEveryDatabase(TestCase):
    """What the portal promises. Runs on SQLite here and on PostgreSQL below."""

    engine: ClassVar[str] = "sqlite"

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground(self.engine)
        await self.ground.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def refused(self, code: str, doing: object) -> None:
        with pytest.raises(FolderError) as caught:
            await doing  # type: ignore[misc]
        assert caught.value.code == code

    async def inbox(self, mailbox: int = 1):  # type: ignore[no-untyped-def]
        return await self.ground.portal.tree(mailbox).open("inbox")

    async def delivered(self, number: int = 1, data: bytes = MAIL, **keywords: object) -> Portal:
        return await self.ground.portal.deliver(1, message(data, number, **keywords), row(number), Bytes(data))

    # Deliveries

    async def test_deliver(self) -> None:
        """What is served is trace and body to the byte, the envelope lines before them hidden (rule 9, C4)."""
        copy = await self.delivered()
        inbox = await self.inbox()
        (entry,) = await inbox.entries()
        assert (entry.uid, entry.size, entry.name, entry.date) == (1, len(TRACE + MAIL), copy.name, 1790000001.0)
        assert await (await inbox.body(1)).read() == TRACE + MAIL
        assert await (await inbox.body(1)).read(5, 10) == (TRACE + MAIL)[5:15]
        (path,) = (self.ground.maildir() / "new").iterdir()
        raw = path.read_bytes()
        assert raw.endswith(TRACE + MAIL)
        assert headers.first(raw, b"return-path") == b"<alice@example.test>"
        assert headers.first(raw, b"delivered-to") == b"Bob@example.test"
        assert f",S={len(raw)}," in path.name
        assert list((self.ground.maildir() / "tmp").iterdir()) == []

    async def test_big(self) -> None:
        """A message larger than what is held in memory arrives whole, in order, and is read back in pieces."""
        data = b"Subject: big\r\n\r\n" + b"".join(b"%075d\r\n" % number for number in range(60_000))
        await self.delivered(1, data)
        body = await (await self.inbox()).body(1)
        assert b"".join([piece async for piece in body.chunks()]) == TRACE + data

    async def test_twice_is_once(self) -> None:
        """The same row again, at once or after it was read, moved or deleted, makes no second copy (rule 11)."""
        assert await self.ground.portal.received(1, row()) is None
        first = await self.delivered()
        assert await self.delivered() == first
        assert await self.ground.portal.received(1, row()) == first
        inbox = await self.inbox()
        await inbox.move([1], "Trash")
        assert await self.ground.portal.received(1, row()) == first
        assert await self.delivered() == first
        trash = await self.ground.portal.tree(1).open("Trash")
        await trash.store([1], add=["\\Deleted"])
        await trash.expunge()
        assert (await self.delivered()).name == first.name
        assert await inbox.entries() == []

    async def test_corpus(self) -> None:
        """Every kind of mail is served, and goes home, as it came: byte for byte; none breaks the scanner."""
        samples = list(corpus.messages(2 * len(corpus.KINDS), 11, sender="x@outside.test", recipients=["bob@example.test"]))
        copies = [await self.delivered(number, sample.data, sender=sample.sender) for number, sample in enumerate(samples, 1)]
        inbox = await self.inbox()
        assert len(await inbox.structures(range(1, len(samples) + 1))) == len(samples)
        for uid, (sample, copy) in enumerate(zip(samples, copies, strict=True), 1):
            assert await (await inbox.body(uid)).read() == TRACE + sample.data
            claimed = await self.ground.portal.begin_drain(copy)
            assert claimed is not None
            assert claimed[0].sender == sample.sender
            assert b"".join([piece async for piece in claimed[1].chunks()]) == TRACE + sample.data

    async def test_many_at_once(self) -> None:
        """200 deliveries at once, one of them asked for twice: each is there once, with a UID of its own."""
        numbers = [*range(1, 201), 7]
        await gatherResults([Deferred.fromCoroutine(self.delivered(number)) for number in numbers])
        inbox = await self.inbox()
        entries = await inbox.entries()
        assert [entry.uid for entry in entries] == list(range(1, 201))
        assert len(list((self.ground.maildir() / "new").iterdir())) == 200
        assert len(await inbox.structures([entry.uid for entry in entries])) == 200

    async def test_an_empty_mount_point(self) -> None:
        """Would catch a portal whose disk was not mounted at the start: every copy counted as removed by its owner, nothing went home, and nobody was told."""
        await self.delivered()
        await self.ground.stop()
        root = self.ground.root
        os.rename(root, f"{root}.away")
        root.mkdir()
        (root / "lost+found").mkdir()
        with pytest.raises(FileNotFoundError, match="not mounted"):
            await self.ground.start()
        await self.ground.database.close()
        (root / "lost+found").rmdir()
        root.rmdir()
        os.rename(f"{root}.away", root)
        await self.ground.start()
        assert len(await (await self.inbox()).entries()) == 1

    async def test_unknown_mailbox(self) -> None:
        """Nobody's mailbox is no place to deliver to."""
        await self.refused("NONEXISTENT", self.ground.portal.deliver(99, message(), row(), Bytes(MAIL)))

    async def test_tenant(self) -> None:
        """Tenants lie apart (rule 25)."""
        await self.ground.portal.deliver(2, message(), row(1, "carol@example.test"), Bytes(MAIL))
        assert len(list((self.ground.maildir(2, 7) / "new").iterdir())) == 1

    async def test_wrong_length(self) -> None:
        """A body shorter than promised is not delivered, and leaves no litter."""
        with pytest.raises(OSError, match="bytes"):
            await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL[:-5]))
        assert await (await self.inbox()).entries() == []
        assert list((self.ground.maildir() / "tmp").iterdir()) == []

    # Folders

    async def test_special_folders(self) -> None:
        """Every mailbox has them from its creation (RFC 6154)."""
        infos = await self.ground.portal.tree(1).folders()
        assert [info.name for info in infos] == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
        assert {info.use for info in infos} == {"", "\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"}
        assert all(info.subscribed for info in infos)

    async def test_make_missing(self) -> None:
        """An outage must not begin with making Maildirs; made ones are left alone."""
        await self.ground.portal.tree(1).folders()
        assert await self.ground.portal.make_missing() == 1
        assert (self.ground.maildir(2, 7) / ".Sent" / "cur").is_dir()
        assert await self.ground.portal.make_missing() == 0

    async def test_mended(self) -> None:
        """Directories that a crash of the machine took, synced too late, are there again at the next start."""
        await self.ground.portal.tree(1).folders()
        (self.ground.maildir() / ".Sent" / "cur").rmdir()
        (self.ground.maildir() / "new").rmdir()
        await self.ground.restart()
        await self.delivered()
        assert (await (await self.ground.portal.folder(1, "Sent")).status()).messages == 0

    async def test_folder_names(self) -> None:
        """Umlauts, dots and levels survive the way to disk and back, and a restart."""
        tree = self.ground.portal.tree(1)
        for name in ("Büro/2026.11/A&B", "日本"):
            await tree.create(name)
        await self.ground.restart()
        tree = self.ground.portal.tree(1)
        names = [info.name for info in await tree.folders()]
        for name in ("Büro", "Büro/2026.11", "Büro/2026.11/A&B", "日本"):
            assert name in names
        await self.refused("ALREADYEXISTS", tree.create("日本"))
        for name in ("", "a//b", "/a", "a/", "x\ny", "iNbOx", "a" * 300, " a"):
            with pytest.raises(FolderError) as caught:
                await tree.create(name)
            assert caught.value.code in ("CANNOT", "ALREADYEXISTS"), name
        await self.refused("NONEXISTENT", tree.open("nowhere"))

    async def test_delete_and_rename(self) -> None:
        """Lower levels move along; a folder made anew has another UIDVALIDITY; INBOX stays and gives its messages."""
        tree = self.ground.portal.tree(1)
        await tree.create("a/b")
        before = (await tree.open("a/b")).info.uidvalidity
        await tree.rename("a", "x/y")
        names = {info.name: info for info in await tree.folders()}
        assert names["x/y/b"].uidvalidity == before
        assert "a/b" not in names
        held = await tree.open("x/y/b")
        await tree.delete("x/y/b")
        await self.refused("NONEXISTENT", held.store([1], add=["\\Seen"]))
        await tree.create("x/y/b")
        assert (await tree.open("x/y/b")).info.uidvalidity != before
        await tree.delete("x")
        assert not {info.name: info for info in await tree.folders()}["x"].selectable
        await self.refused("CANNOT", tree.delete("INBOX"))
        await self.refused("NONEXISTENT", tree.rename("nowhere", "z"))
        await self.delivered()
        await tree.rename("INBOX", "old")
        assert (await (await tree.open("INBOX")).status()).messages == 0
        assert (await (await tree.open("old")).status()).messages == 1

    async def test_subscriptions(self) -> None:
        """They outlive their folders, and a restart."""
        tree = self.ground.portal.tree(1)
        await tree.subscribe("Gone/away.now", True)
        await tree.subscribe("Junk", False)
        await self.ground.restart()
        names = await self.ground.portal.tree(1).subscriptions()
        assert "Gone/away.now" in names
        assert "Junk" not in names

    async def test_flags(self) -> None:
        """Flags reach the file's name, keywords the index; both survive a restart; every change has a modseq and a hint."""
        await self.delivered()
        inbox = await self.inbox()
        heard: list[FolderChanged] = []
        self.ground.bus.subscribe(FolderChanged, heard.append)
        before = (await inbox.status()).modseq
        (entry,) = await inbox.store([1, 99], add=["\\seen", "$Work", "\\Recent", "no word"])
        assert entry.flags == {"\\Seen", "$Work"}
        assert entry.modseq > before
        assert heard == [FolderChanged(1, "INBOX")]
        assert [one.uid for one in await inbox.changes(before)] == [1]
        assert await inbox.changes(entry.modseq) == []
        (path,) = (self.ground.maildir() / "cur").iterdir()
        assert path.name.endswith(":2,S")
        await inbox.store([1], replace=["\\Flagged", "$Work"])
        await self.ground.restart()
        inbox = await self.inbox()
        (entry,) = await inbox.entries()
        assert entry.flags == {"\\Flagged", "$Work"}
        status = await inbox.status()
        assert (status.messages, status.unseen, status.size) == (1, 1, len(TRACE + MAIL))

    async def test_same_flags_change_nothing(self) -> None:
        """A STORE that changes nothing must not make every client fetch again."""
        await self.delivered()
        inbox = await self.inbox()
        (one,) = await inbox.store([1], add=["\\Seen"])
        (two,) = await inbox.store([1], add=["\\Seen"])
        assert one == two

    async def test_expunge(self) -> None:
        """Only what is marked goes; the file goes with it; others hear the UID, also after a restart."""
        for number in (1, 2, 3):
            await self.delivered(number)
        inbox = await self.inbox()
        await inbox.store([1, 3], add=["\\Deleted"])
        before = (await inbox.status()).modseq
        body = await inbox.body(3)
        assert await inbox.expunge([2, 3]) == [3]
        assert [(one.uid, one.gone) for one in await inbox.changes(before)] == [(3, True)]
        await self.refused("EXPUNGEISSUED", body.read())
        await self.refused("EXPUNGEISSUED", inbox.body(3))
        assert await inbox.expunge() == [1]
        assert len(list((self.ground.maildir() / "cur").iterdir()) + list((self.ground.maildir() / "new").iterdir())) == 1
        await self.ground.restart()
        assert [(one.uid, one.gone) for one in await (await self.inbox()).changes(before)] == [(3, True), (1, True)]

    async def test_append(self) -> None:
        """Flags, date and bytes are kept; bare LF becomes CRLF, wherever the pieces are cut."""
        tree = self.ground.portal.tree(1)
        sent = await tree.open("Sent")
        deposit = sent.append(["\\Seen", "$Forwarded"], 1_600_000_000.0)
        for piece in (b"Subject: x\r", b"\n\r\nbare\nand", b" whole\r\n", b"\nend"):
            await deposit.write(piece)
        done = await deposit.commit()
        assert done.targets == (1,)
        (entry,) = await sent.entries()
        assert (entry.flags, entry.date) == ({"\\Seen", "$Forwarded"}, 1600000000.0)
        assert await (await sent.body(1)).read() == b"Subject: x\r\n\r\nbare\r\nand whole\r\n\r\nend"
        assert entry.size == len(await (await sent.body(1)).read())
        (path,) = (self.ground.maildir() / ".Sent" / "cur").iterdir()
        assert (path.stat().st_mtime, path.name.rpartition(":")[2]) == (1600000000.0, "2,PS")
        other = sent.append([], None)
        await other.write(b"x")
        await other.abort()
        await other.abort()
        assert (await sent.status()).messages == 1

    async def test_copy(self) -> None:
        """Flags, date, keywords and structure go along; the target says TRYCREATE when it is not there (RFC 3501 section 6.4.7)."""
        await self.delivered()
        inbox = await self.inbox()
        await inbox.store([1], add=["\\Seen", "$Work"])
        done = await inbox.copy([1, 55], "Archive")
        assert (done.sources, done.targets) == ((1,), (1,))
        goal = await self.ground.portal.tree(1).open("Archive")
        assert done.uidvalidity == goal.info.uidvalidity
        (entry,) = await goal.entries()
        assert (entry.flags, entry.date) == ({"\\Seen", "$Work"}, 1790000001.0)
        assert await (await goal.body(1)).read() == TRACE + MAIL
        assert await goal.structures([1]) == await inbox.structures([1])
        await inbox.copy([1], "INBOX")
        assert (await inbox.status()).messages == 2
        await self.refused("TRYCREATE", inbox.copy([1], "nowhere"))

    async def test_move(self) -> None:
        """It is there and no longer here, under the same name; the UIDL does not change."""
        copy = await self.delivered()
        inbox = await self.inbox()
        done = await inbox.move([1], "Trash")
        assert (done.sources, done.targets) == ((1,), (1,))
        assert await inbox.entries() == []
        (entry,) = await (await self.ground.portal.tree(1).open("Trash")).entries()
        assert entry.name == copy.name
        await self.refused("TRYCREATE", inbox.move([1], "nowhere"))

    async def test_structures(self) -> None:
        """Trees are kept, made when they are missing, and their offsets fit what is served."""
        await self.delivered()
        inbox = await self.inbox()
        part = (await inbox.structures([1, 9]))[1]
        assert (TRACE + MAIL)[part.body : part.end] == b"Hello\r\n.\r\nBob\r\n"
        assert part.summary.subject == b"one"
        await self.ground.database.run(lambda cursor: cursor.execute("DELETE FROM portal_trees") and None)
        await self.ground.restart()
        inbox = await self.inbox()
        assert await inbox.structures([1]) == {1: part}
        assert len(await self.ground.database.read(lambda cursor: cursor.execute("SELECT uid FROM portal_trees").fetchall())) == 1

    # Other programs

    async def test_foreign_files(self) -> None:
        """What another program delivers, reads, flags and removes is seen, with its LF line ends served as CRLF."""
        inbox = await self.inbox()
        new = self.ground.maildir() / "new"
        (new / "1600000000.1_1.other").write_bytes(b"Subject: f\n\nline\nline\n")
        os.utime(new / "1600000000.1_1.other", (1_600_000_000, 1_600_000_000))
        inbox = await self.inbox()
        (entry,) = await inbox.entries()
        assert (entry.size, entry.date) == (26, 1600000000.0)
        assert await (await inbox.body(1)).read() == b"Subject: f\r\n\r\nline\r\nline\r\n"
        assert await (await inbox.body(1)).read(14, 4) == b"line"
        (new / "1600000000.1_1.other").rename(self.ground.maildir() / "cur" / "1600000000.1_1.other:2,FSa")
        assert await (await inbox.body(1)).read(0, 3) == b"Sub"
        await self.ground.portal.sweep()
        assert (await inbox.entries())[0].flags == {"\\Flagged", "\\Seen"}
        await inbox.store([1], remove=["\\Flagged"])
        (path,) = (self.ground.maildir() / "cur").iterdir()
        assert path.name == "1600000000.1_1.other:2,Sa"
        path.unlink()
        await self.ground.portal.sweep()
        assert await inbox.entries() == []
        await self.refused("EXPUNGEISSUED", inbox.body(1))

    async def test_flags_race_with_another_program(self) -> None:
        """A file renamed by another program between our look and our rename keeps both changes."""
        await self.delivered()
        inbox = await self.inbox()
        (path,) = (self.ground.maildir() / "new").iterdir()
        path.rename(self.ground.maildir() / "cur" / (path.name + ":2,F"))
        (entry,) = await inbox.store([1], add=["\\Seen"])
        assert entry.flags == {"\\Flagged", "\\Seen"}
        (path,) = (self.ground.maildir() / "cur").iterdir()
        assert path.name.endswith(":2,FS")

    async def test_removed_under_a_move(self) -> None:
        """All or nothing: one file that has gone keeps the others where they are."""
        for number in (1, 2):
            await self.delivered(number)
        inbox = await self.inbox()
        sorted((self.ground.maildir() / "new").iterdir())[1].unlink()
        await self.refused("EXPUNGEISSUED", inbox.move([1, 2], "Trash"))
        assert [entry.uid for entry in await inbox.entries()] == [1]
        assert list((self.ground.maildir() / ".Trash" / "new").iterdir()) == []

    async def test_foreign_folder(self) -> None:
        """A Maildir++ folder made by another program is there after a restart, one that was removed is not."""
        tree = self.ground.portal.tree(1)
        await tree.create("Mine")
        for sub in ("new", "cur", "tmp"):
            (self.ground.maildir() / ".Theirs.B&APw-ro" / sub).mkdir(parents=True)
            (self.ground.maildir() / ".Mine" / sub).rmdir()
        (self.ground.maildir() / ".Mine").rmdir()
        await self.ground.restart()
        names = [info.name for info in await self.ground.portal.tree(1).folders()]
        assert "Theirs/Büro" in names
        assert "Mine" not in names

    # Crashes

    async def test_file_without_row(self) -> None:
        """Killed between rename and commit: the file is the message, also for the queue's second attempt."""
        copy = await self.delivered()
        before = (await self.inbox()).info.uidvalidity
        for table in ("portal_messages", "portal_trees", "portal_received"):
            await self.ground.database.run(lambda cursor, table=table: cursor.execute(f"DELETE FROM {table}") and None)
        await self.ground.restart()
        assert await self.delivered() == copy
        inbox = await self.inbox()
        (entry,) = await inbox.entries()
        assert (entry.name, entry.size) == (copy.name, len(TRACE + MAIL))
        assert inbox.info.uidvalidity == before

    async def test_row_without_file(self) -> None:
        """Killed between unlink and commit: the message is gone, and said to be."""
        await self.delivered()
        before = (await (await self.inbox()).status()).modseq
        (path,) = (self.ground.maildir() / "new").iterdir()
        path.unlink()
        await self.ground.restart()
        inbox = await self.inbox()
        assert await inbox.entries() == []
        assert [one.gone for one in await inbox.changes(before)] == [True]

    async def test_litter(self) -> None:
        """Unfinished files and half-removed folders go at the next start; other programs' unfinished files stay."""
        await self.inbox()
        (self.ground.maildir() / "tmp" / "1.R5P1.host,S=1,E=1.arriving").write_bytes(b"x")
        (self.ground.maildir() / "tmp" / "theirs").write_bytes(b"x")
        (self.ground.maildir() / "..gone5" / "cur").mkdir(parents=True)
        (self.ground.maildir() / "..gone5" / "cur" / "x").write_bytes(b"x")
        await self.ground.restart()
        await self.inbox()
        assert [path.name for path in (self.ground.maildir() / "tmp").iterdir()] == ["theirs"]
        assert not (self.ground.maildir() / "..gone5").exists()

    async def test_rebuild(self) -> None:
        """Without its index everything is there again, under another UIDVALIDITY."""
        await self.delivered()
        inbox = await self.inbox()
        await inbox.store([1], add=["\\Seen"])
        before = inbox.info.uidvalidity
        for table in ("boxes", "folders", "messages", "trees", "gone", "received"):
            await self.ground.database.run(lambda cursor, table=table: cursor.execute(f"DELETE FROM portal_{table}") and None)
        await self.ground.restart()
        inbox = await self.inbox()
        (entry,) = await inbox.entries()
        assert (entry.flags, entry.size) == ({"\\Seen"}, len(TRACE + MAIL))
        assert len(await self.ground.portal.tree(1).folders()) == 6
        assert inbox.info.uidvalidity >= before

    async def test_machine_crash(self) -> None:
        """After a power cut the index may have forgotten UIDs that clients know: none of them comes again."""
        await self.delivered()
        status = await (await self.inbox()).status()
        await self.ground.restart(boot="two")
        after = await (await self.inbox()).status()
        assert after.uidnext > status.uidnext + 1000
        assert after.uidvalidity == status.uidvalidity

    # Drain

    async def test_drain(self) -> None:
        """The original envelope, the exact bytes, and afterwards the message is gone from open sessions and from disk (C5, rule 9)."""
        sent = message(MAIL, 1, "x@example.test", "bob@example.test", eight_bit=True, smtputf8=True, ret="HDRS", envid="a b=ä")
        sent = type(sent)(
            **{name: getattr(sent, name) for name in sent.__struct_fields__ if name != "envelope"},
            envelope=type(sent.envelope)(
                sent.envelope.sender,
                (sent.envelope.recipients[0], Recipient("bob@example.test", ("FAILURE", "DELAY"), "rfc822;b@x")),
                True,
                True,
                "HDRS",
                "a b=ä",
            ),
        )
        copy = await self.ground.portal.deliver(1, sent, row(1, "bob@example.test", 1), Bytes(MAIL), uncertain=True)
        assert copy.uncertain
        inbox = await self.inbox()
        await inbox.store([1], add=["\\Seen"])
        before = (await inbox.status()).modseq
        claimed = await self.ground.portal.begin_drain(copy)
        assert claimed is not None
        envelope, body = claimed
        assert envelope.sender == "alice@example.test"
        assert envelope.recipients == (sent.envelope.recipients[1],)
        assert (envelope.eight_bit, envelope.smtputf8, envelope.ret, envelope.envid) == (True, True, "HDRS", "a b=ä")
        assert (body.size, await body.read()) == (len(TRACE + MAIL), TRACE + MAIL)
        await self.refused("INUSE", inbox.store([1], add=["\\Deleted"]))
        await self.refused("INUSE", inbox.move([1], "Trash"))
        await self.ground.portal.end_drain(copy, delivered=True)
        assert [(one.uid, one.gone) for one in await inbox.changes(before)] == [(1, True)]
        assert list((self.ground.maildir() / "cur").iterdir()) == []
        assert await self.ground.portal.begin_drain(copy) is None

    async def test_removed_does_not_drain(self) -> None:
        r"""Deleted, marked \Deleted, or moved out of INBOX: not delivered again (C6, rule 10)."""
        copies = [await self.delivered(number) for number in (1, 2, 3)]
        inbox = await self.inbox()
        await inbox.store([1, 2], add=["\\Deleted"])
        await inbox.expunge([1])
        await inbox.move([3], "Archive")
        assert [await self.ground.portal.begin_drain(copy) for copy in copies] == [None, None, None]
        assert await self.ground.portal.copies(1) == []

    async def test_back_in_inbox_drains(self) -> None:
        """Moved away and back, with MOVE or with COPY and EXPUNGE as older clients do: drains (rule 10)."""
        copies = [await self.delivered(number) for number in (1, 2)]
        inbox = await self.inbox()
        archive = await self.ground.portal.tree(1).open("Archive")
        await inbox.move([1], "Archive")
        await archive.move([1], "INBOX")
        await inbox.copy([2], "Archive")
        await inbox.store([2], add=["\\Deleted"])
        await inbox.expunge()
        await archive.copy([2], "INBOX")
        for copy in copies:
            claimed = await self.ground.portal.begin_drain(copy)
            assert claimed is not None
            assert await claimed[1].read() == TRACE + MAIL
            await self.ground.portal.end_drain(copy, delivered=True)
        assert await inbox.entries() == []
        assert (await archive.status()).messages == 1

    async def test_copies_in_inbox_drain_once(self) -> None:
        """Two copies of one message in INBOX go home as one."""
        copy = await self.delivered()
        inbox = await self.inbox()
        await inbox.copy([1], "INBOX")
        assert await self.ground.portal.begin_drain(copy) is not None
        await self.ground.portal.end_drain(copy, delivered=True)
        assert await inbox.entries() == []

    async def test_refused_at_drain(self) -> None:
        """A 5xx leaves the message, with keyword and reason; clients may change it again; it can be tried again (rule 10)."""
        copy = await self.delivered()
        inbox = await self.inbox()
        await self.ground.portal.begin_drain(copy)
        await self.ground.portal.end_drain(copy, delivered=False, keyword="$NotDelivered", reason="552 too big")
        (entry,) = await inbox.store([1], add=["\\Seen"])
        assert entry.flags == {"\\Seen", "$NotDelivered"}
        assert await self.ground.portal.notes(1) == {copy.name: "552 too big"}
        assert await self.ground.portal.begin_drain(copy) is not None

    async def test_claims_die_with_the_process(self) -> None:
        """After a crash nobody is kept from his mail, and the queue can claim again."""
        copy = await self.delivered()
        await self.ground.portal.begin_drain(copy)
        await self.ground.restart()
        await (await self.inbox()).store([1], add=["\\Seen"])
        assert await self.ground.portal.begin_drain(copy) is not None

    async def test_original_recipient(self) -> None:
        """An alias of this mailbox alone is kept; a list's address becomes the mailbox's main address (rule 9)."""
        alias = await self.ground.portal.deliver(
            1, message(MAIL, 1, "robert@example.test"), row(1, "robert@example.test"), Bytes(MAIL)
        )
        team = await self.ground.portal.deliver(
            1, message(MAIL, 2, "team@example.test"), row(2, "team@example.test"), Bytes(MAIL)
        )
        for copy, wanted in ((alias, "robert@example.test"), (team, "Bob@example.test")):
            claimed = await self.ground.portal.begin_drain(copy)
            assert claimed is not None
            assert [one.address for one in claimed[0].recipients] == [wanted]

    async def test_without_envelope(self) -> None:
        """APPENDed and foreign files stay, are listed, and drain with <> if somebody wants them to (rule 10)."""
        await self.delivered()
        inbox = await self.inbox()
        deposit = inbox.append([], None)
        await deposit.write(MAIL)
        await deposit.commit()
        (entry,) = await self.ground.portal.unaddressed(1)
        assert entry.uid == 2
        assert len(await self.ground.portal.copies(1)) == 1
        claimed = await self.ground.portal.begin_drain(Portal(1, entry.name))
        assert claimed is not None
        assert (claimed[0].sender, claimed[0].recipients[0].address) == ("", "Bob@example.test")
        assert claimed[0].eight_bit, "nobody knows what is in it"
        assert await claimed[1].read() == MAIL

    async def test_drain_waits_for_pop(self) -> None:
        """While a POP session has the mailbox nothing is claimed; afterwards it is (rule 10)."""
        copy = await self.delivered()
        portal = self.ground.portal
        assert await portal.lock(1, "a")
        assert not await portal.lock(1, "b")
        done: list[object] = []
        waiting = Deferred.fromCoroutine(portal.begin_drain(copy)).addCallback(done.append)
        await portal.unlock(1, "b")
        await (await self.inbox()).status()
        assert done == []
        await portal.unlock(1, "a")
        await waiting
        assert len(done) == 1
        assert done[0] is not None

    async def test_figures(self) -> None:
        """What the dashboard shows."""
        await self.delivered(1)
        await self.delivered(2)
        await (await self.inbox()).move([1], "Trash")
        figures = await self.ground.portal.figures()
        assert figures == {
            "mailboxes": 1,
            "messages": 2,
            "bytes": 2 * len(TRACE + MAIL),
            "inbox_messages": 1,
            "inbox_bytes": len(TRACE + MAIL),
            "claimed": 0,
        }

    async def test_cancelled_change(self) -> None:
        """A connection lost in the middle of a change leaves file, index and memory agreeing."""
        await self.delivered()
        inbox = await self.inbox()
        doing = Deferred.fromCoroutine(inbox.store([1], add=["\\Seen"]))
        doing.addErrback(lambda failure: None)
        doing.cancel()
        (entry,) = await inbox.store([1], add=["\\Flagged"])
        assert entry.flags == {"\\Seen", "\\Flagged"}
        await self.ground.restart()
        assert (await (await self.inbox()).entries())[0].flags == {"\\Seen", "\\Flagged"}


class OnPostgreSQL(OnEveryDatabase):
    """The same on PostgreSQL."""

    engine = "postgresql"
