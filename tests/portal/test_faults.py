"""The portal on a disk or a database that fails: what is refused has not happened, and what happened is seen."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.folder import FolderError
from hornetmail.db.engines import DatabaseError
from hornetmail.disk.anchor import DiskAway
from hornetmail.disk.files import DiskFull
from hornetmail.portal.rows import index
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.portal.ground import MAIL, TRACE, Bytes, Ground, message, row


class DiskTakenAway(TestCase):
    """Its mount point is there, with the directories of an older time."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.disk = FaultyDisk()
        self.ground = Ground("sqlite", self.disk)
        await self.ground.start()
        self.inbox = await self.ground.portal.folder(1, "INBOX")
        self.copy = await self.ground.portal.deliver(1, message(MAIL, 1), row(1), Bytes(MAIL))
        await self.ground.portal.deliver(1, message(MAIL, 2), row(2), Bytes(MAIL))

    async def tearDown(self) -> None:  # type: ignore[override]
        self.back()
        await self.ground.stop()
        self.ground.clean()

    def away(self, *, identity: bool = True) -> None:
        root = self.ground.root
        os.rename(root, f"{root}.away")
        shutil.copytree(f"{root}.away", root)
        for each in [*root.rglob("*/new/*"), *root.rglob("*/cur/*")]:
            each.unlink()
        if not identity:
            (root / "identity").unlink()

    def back(self) -> None:
        root = self.ground.root
        if Path(f"{root}.away").exists():
            shutil.rmtree(root)
            os.rename(f"{root}.away", root)

    async def test_nothing_is_gone(self) -> None:
        """Would catch mail that counts as removed because its disk is: it would never go home, and its UIDs vanish from all clients."""
        portal = self.ground.portal
        for identity in (True, False):
            self.away(identity=identity)
            await portal.sweep()
            with pytest.raises(FolderError) as caught:
                await portal.folder(1, "INBOX")
            assert caught.value.code == "UNAVAILABLE"
            for question in (portal.begin_drain(self.copy), portal.holding([1]), portal.folder(2, "INBOX")):
                with pytest.raises((DiskAway, FolderError)) as away:
                    await question
                assert isinstance(away.value, DiskAway) or away.value.code == "UNAVAILABLE"
            with pytest.raises(FolderError) as caught:
                await (await self.inbox.body(1)).read()
            assert caught.value.code == "UNAVAILABLE"
            self.back()
        inbox = await portal.folder(1, "INBOX")
        assert [entry.uid for entry in await inbox.entries()] == [1, 2]
        assert await portal.begin_drain(self.copy) is not None
        await portal.end_drain(self.copy, delivered=True)

    async def test_nothing_is_written_there(self) -> None:
        """Would catch deliveries into the mount point, expunges that come back with the disk, mailboxes made beside it."""
        portal = self.ground.portal
        self.away()
        before = sorted(self.ground.root.rglob("*"))
        with pytest.raises(DiskAway):
            await portal.deliver(1, message(MAIL, 3), row(3), Bytes(MAIL))
        with contextlib.suppress(FolderError, DiskAway):
            await self.inbox.store([1], add=["\\Deleted"])
        with pytest.raises((FolderError, DiskAway)):
            await self.inbox._box.expunge(self.inbox._snapshot, [1])
        with pytest.raises(FolderError):
            await portal.tree(1).create("New")
        assert await portal.make_missing() == 0
        assert sorted(self.ground.root.rglob("*")) == before
        self.back()
        assert [entry.uid for entry in await (await portal.folder(1, "INBOX")).entries()] == [1, 2]
        await portal.deliver(1, message(MAIL, 3), row(3), Bytes(MAIL))

    async def test_an_index_of_before_there_were_identities(self) -> None:
        """Would catch an upgrade that does not start over a portal that is full, one that starts over an empty mount point and believes it, and
        a first start that is refused."""
        root = self.ground.root

        def forget(cursor: Any) -> None:
            cursor.execute("DELETE FROM portal_facts WHERE name = 'disk'")

        (root / "identity").unlink()
        await self.ground.database.run(forget)
        await self.ground.restart()
        assert len(await (await self.ground.portal.folder(1, "INBOX")).entries()) == 2
        assert await self.ground.database.read(index.token)
        await self.ground.database.run(forget)
        await self.ground.stop()
        os.rename(root, f"{root}.away")
        root.mkdir()
        (root / "lost+found").mkdir()
        with pytest.raises(FileNotFoundError, match="is empty"):
            await self.ground.start()
        await self.ground.database.close()
        self.back()
        await self.ground.start()

    async def test_at_the_start(self) -> None:
        """Would catch the directories of an older time, below the mount point or on another disk, believed by the next start: each start leaves a
        word of its own."""
        root = self.ground.root
        await self.ground.stop()
        old = Path(f"{root}.old")
        shutil.copytree(root, old)
        await self.ground.start()
        await self.ground.stop()
        for foreign in (old, None):
            os.rename(root, f"{root}.away")
            shutil.copytree(old, root)
            if foreign is None:
                (root / "identity").unlink()
            with pytest.raises(FileNotFoundError, match="not mounted"):
                await self.ground.start()
            await self.ground.database.close()
            self.back()
        await self.ground.start()
        assert len(await (await self.ground.portal.folder(1, "INBOX")).entries()) == 2

    async def test_all_of_it_of_an_older_time(self) -> None:
        """Would catch UIDs that mean other messages than mail programs remember: Maildirs and index were put back together, and agree with each other."""
        old = Path(f"{self.ground.root}.old")
        index_file = Path(self.ground.url.removeprefix("sqlite://"))
        await self.ground.stop()
        shutil.copytree(self.ground.root, old)
        index_then = index_file.read_bytes()
        await self.ground.start()
        before = (await self.ground.portal.folder(1, "INBOX")).info.uidvalidity
        await self.ground.portal.deliver(1, message(MAIL, 3), row(3), Bytes(MAIL))
        await self.ground.stop()
        shutil.rmtree(self.ground.root)
        shutil.copytree(old, self.ground.root)
        index_file.write_bytes(index_then)
        await self.ground.start()
        inbox = await self.ground.portal.folder(1, "INBOX")
        assert len(await inbox.entries()) == 2
        assert inbox.info.uidvalidity > before
        await self.ground.restart()
        assert (await self.ground.portal.folder(1, "INBOX")).info.uidvalidity == inbox.info.uidvalidity, "once"

    async def test_a_start_that_is_cut_off(self) -> None:
        """Would catch a directory that is not known any more because the process died between the file and the index, or the index lost its last
        moments with the machine."""
        for operation in ("rename", "sync_file"):
            await self.ground.stop()
            self.disk.fail(operation, times=1)
            with pytest.raises(OSError, match="Input/output"):
                await self.ground.start()
            self.disk.heal()
            await self.ground.database.close()
            await self.ground.start()
        before = await self.ground.database.read(index.token)
        await self.ground.restart()
        await self.ground.restart()
        await self.ground.database.run(index.set_token, before)
        await self.ground.restart()
        assert len(await (await self.ground.portal.folder(1, "INBOX")).entries()) == 2


class OnAFailingDisk(TestCase):
    """Each operation of the disk fails once."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.disk = FaultyDisk()
        self.ground = Ground("sqlite", self.disk)
        await self.ground.start()
        self.inbox = await self.ground.portal.folder(1, "INBOX")

    async def tearDown(self) -> None:  # type: ignore[override]
        self.disk.heal()
        await self.ground.stop()
        self.ground.clean()

    async def delivered(self, number: int = 1) -> Portal:
        return await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))

    def files(self, name: str = "") -> list[str]:
        return [path.name for sub in ("new", "cur", "tmp") for path in (self.ground.maildir() / name / sub).iterdir()]

    async def test_delivery(self) -> None:
        """Open, write, sync or rename fails: not delivered, nothing left behind; the next attempt succeeds."""
        for operation in ("open", "write", "sync_file", "rename"):
            self.disk.fail(operation, times=1, partial=20)
            with pytest.raises(OSError, match="Input/output"):
                await self.delivered()
            self.disk.heal()
            assert self.files() == []
            assert await (await self.ground.portal.folder(1, "INBOX")).entries() == []
        await self.delivered()
        assert len(self.files()) == 1

    async def test_delivery_that_is_not_synced(self) -> None:
        """Would catch a copy that is there although its delivery failed, because only the sync of its directory did: it has no way home, and the
        message is delivered once more elsewhere."""
        await self.delivered(7)
        for after in range(3):
            self.disk.fail("sync_file", after=after, times=1)
            with contextlib.suppress(OSError):
                await self.delivered(8 + after)
                self.disk.heal()
                continue
            self.disk.heal()
            assert not [name for name in self.files() if f".R{1008 + after}P" in name], f"sync {after}"

    async def test_full(self) -> None:
        """No room is told as such: DiskFull to the courier (452), OVERQUOTA to IMAP."""
        self.disk.fail("write", errno.ENOSPC)
        with pytest.raises(DiskFull):
            await self.delivered()
        deposit = self.inbox.append([], None)
        await deposit.write(MAIL)
        with pytest.raises(FolderError) as caught:
            await deposit.commit()
        assert caught.value.code == "OVERQUOTA"
        self.disk.heal()
        assert self.files() == []

    async def test_one_of_many(self) -> None:
        """A rename that fails in a batch fails that batch and no other; each message is there once or refused."""
        self.disk.fail("rename", after=3, times=1)

        async def one(number: int) -> int:
            try:
                await self.delivered(number)
            except OSError:
                return 0
            return number

        numbers = await gatherResults([Deferred.fromCoroutine(one(number)) for number in range(1, 81)])
        done = {number for number in numbers if number}
        rows = {int(name.partition(".R")[2].partition("P")[0]) - 1000 for name in self.files()}
        assert rows == done
        assert len(done) < 80
        assert len(await self.inbox.entries()) == len(done)

    async def test_changes(self) -> None:
        """A failed change is refused with UNAVAILABLE, and memory and disk agree afterwards."""
        for number in (1, 2, 3):
            await self.delivered(number)
        await self.inbox.store([3], add=["\\Deleted"])
        for operation, change in (
            ("rename", lambda: self.inbox.store([1], add=["\\Seen"])),
            ("unlink", lambda: self.inbox.expunge()),
            ("rename", lambda: self.inbox.move([1, 2], "Trash")),
            ("sync_file", lambda: self.inbox.copy([1, 2], "Trash")),
        ):
            self.disk.fail(operation, after=1 if operation == "rename" and self.disk.calls.count("unlink") else 0, times=1)
            with pytest.raises(FolderError) as caught:
                await change()
            assert caught.value.code == "UNAVAILABLE"
            self.disk.heal()
        await self.ground.portal.sweep()
        assert [entry.uid for entry in await self.inbox.entries()] == [1, 2, 3]
        for uid in (1, 2, 3):
            assert await (await self.inbox.body(uid)).read() == TRACE + MAIL
        assert len(self.files()) == 3

    async def test_a_folder_that_is_not_quite_removed(self) -> None:
        """Would catch a folder whose removal is refused for ever although its messages are gone: it was out of sight when deleting its files failed."""
        await self.delivered()
        tree = self.ground.portal.tree(1)
        await tree.create("Old")
        await self.inbox.move([1], "Old")
        self.disk.fail("remove_directory", errno.EACCES)
        await tree.delete("Old")
        self.disk.heal()
        assert "Old" not in {info.name for info in await tree.folders()}
        await self.ground.restart()
        assert len(await self.ground.portal.tree(1).folders()) > 1
        assert not list(self.ground.maildir().glob("..gone*")), "what was left is swept at the next start"

    async def test_index(self) -> None:
        """The index refuses: what was refused does not show up later by itself."""
        database: Any = self.ground.database
        true = database.run

        async def refuse(*args: object) -> None:
            raise DatabaseError("no")

        self.patch(database, "run", refuse)
        with pytest.raises(DatabaseError):
            await self.delivered()
        self.patch(database, "run", true)
        assert self.files() == []
        await self.delivered()
        assert [entry.uid for entry in await (await self.ground.portal.folder(1, "INBOX")).entries()] == [1]

    async def test_no_messages(self) -> None:
        """A directory, a dangling link and an odd name among the messages disturb nothing."""
        new = self.ground.maildir() / "new"
        (new / "directory").mkdir()
        (new / "dangling").symlink_to("/nowhere")
        (new / ".hidden").write_bytes(b"x")
        with open(bytes(new) + b"/odd\xff", "wb") as file:
            file.write(b"x")
        (self.ground.maildir() / "cur" / "without-info").write_bytes(b"Subject: x\r\n\r\n")
        inbox = await self.ground.portal.folder(1, "INBOX")
        (entry,) = await inbox.entries()
        assert await (await inbox.body(entry.uid)).read() == b"Subject: x\r\n\r\n"
