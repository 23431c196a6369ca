"""What other programs do to a Maildir while it is open: told by the machine where it can, seen by looking where not."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hornetmail.core.events import FolderChanged
from hornetmail.disk.inotify import Inotify
from hornetmail.portal.maildir import watching
from tests.portal.ground import MAIL, Bytes, Ground, message, row


class Watched(TestCase):
    """With inotify; below without."""

    told = True

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        if not self.told:
            self.patch(watching, "Inotify", self.none)
        await self.ground.start()
        for number in range(1, 4):
            await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))
        self.inbox = await self.open()
        self.before = (await self.inbox.status()).modseq

    def none(self, reactor: Any) -> None:
        raise OSError(errno.ENOSYS, "none")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def open(self) -> Any:
        return await self.ground.portal.tree(1).open("INBOX")

    async def seen(self) -> list[tuple[int, bool, frozenset[str]]]:
        await self.open()
        return [(entry.uid, entry.gone, entry.flags) for entry in await self.inbox.changes(self.before)]

    def file(self, number: int = 0) -> Path:
        return sorted(self.ground.maildir().glob("*/*,S=*"))[number]

    async def test_moved_between_new_and_cur(self) -> None:
        """A mail program takes what is new: no UID changes, and its flags are seen."""
        file = self.file()
        os.rename(file, file.parent.parent / "cur" / f"{file.name}:2,S")
        assert await self.seen() == [(1, False, frozenset({"\\Seen"}))]

    async def test_removed(self) -> None:
        """Would catch a message that is listed although its file is gone."""
        self.file(1).unlink()
        assert await self.seen() == [(2, True, frozenset())]
        assert (await self.inbox.status()).messages == 2

    async def test_flags_changed(self) -> None:
        """Would catch flags of a file in ``cur`` that were changed there and back, or only once."""
        await self.inbox.store([1], add=["\\Seen"])
        self.before = (await self.inbox.status()).modseq
        file = next((self.ground.maildir() / "cur").iterdir())
        for letters in ("FS", "S", "FRS"):
            file = file.rename(file.with_name(file.name.partition(":2,")[0] + ":2," + letters))
        assert await self.seen() == [(1, False, frozenset({"\\Seen", "\\Flagged", "\\Answered"}))]
        file.rename(file.with_name(file.name.partition(":2,")[0] + ":2,FRS"))
        assert len(await self.seen()) == 1

    async def test_copied_in(self) -> None:
        """As rsync does it: a hidden name first, then renamed; and a whole Maildir's files at once."""
        new = self.ground.maildir() / "new"
        (new / ".1.rsync.Xa12").write_bytes(MAIL)
        assert await self.seen() == []
        (new / ".1.rsync.Xa12").rename(new / "1.rsync")
        for number in range(300):
            (new / f"2.{number}.rsync").write_bytes(MAIL)
        assert [uid for uid, _, _ in await self.seen()] == list(range(4, 305))

    async def test_more_than_is_remembered(self) -> None:
        """Would catch changes that are forgotten because there are too many, or because the kernel's queue ran over (16,384 events)."""
        file = self.file()
        for _ in range(9_000):
            file = file.rename(file.with_name(file.name.partition(":2,")[0]))
            file = file.rename(file.with_name(file.name + "x")).rename(file)
        self.file(1).unlink()
        assert (2, True, frozenset()) in await self.seen()

    async def test_uids_survive(self) -> None:
        """UIDs and modseqs: would catch a restart, or another program's work meanwhile, that gives a message another UID or an old modseq."""
        file = self.file()
        os.rename(file, file.parent.parent / "cur" / f"{file.name}:2,S")
        await self.seen()
        entries = await self.inbox.entries()
        await self.ground.restart()
        file = self.file(1)
        os.rename(file, file.parent.parent / "cur" / f"{file.name}:2,F")
        self.inbox = await self.open()
        later = await self.inbox.entries()
        assert [entry.uid for entry in later] == [entry.uid for entry in entries] == [1, 2, 3]
        assert sum(entry.modseq > max(one.modseq for one in entries) for entry in later) == 1


class Looked(Watched):
    """Where nothing tells."""

    told = False


class Told(TestCase):
    """What inotify adds."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL))
        self.inbox = await self.ground.portal.tree(1).open("INBOX")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    def listings(self) -> list[str]:
        """Names of folders that are listed from now on."""
        box = self.ground.portal._boxes[1]
        look, listed = box.maildir.look, []

        def noted(name: str, *arguments: Any) -> Any:
            listed.append(name)
            return look(name, *arguments)

        self.patch(box.maildir, "look", noted)
        return listed

    async def test_whoever_waits_is_told(self) -> None:
        """Would catch an IDLE that hears of a dropped file only when the folder is looked at in turn, half a minute later."""
        heard: Deferred[FolderChanged] = Deferred()
        self.ground.bus.subscribe(FolderChanged, lambda event: None if heard.called else heard.callback(event))
        (self.ground.maildir() / "new" / "1.1_1.other").write_bytes(MAIL)
        heard.addTimeout(20, reactor)
        assert await heard == FolderChanged(1, "INBOX")
        assert len(await self.inbox.entries()) == 2

    async def test_our_own_changes_are_no_news(self) -> None:
        """Would catch a folder of 10,000 that is listed at each SELECT because we changed it ourselves."""
        tree = self.ground.portal.tree(1)
        await tree.open("Sent")
        listed = self.listings()
        for number in range(2, 6):
            await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))
            await tree.open("INBOX")
        await self.inbox.store([1, 2], add=["\\Seen", "\\Deleted"])
        await self.inbox.copy([3], "Sent")
        await self.inbox.move([4], "Sent")
        await self.inbox.move([3], "INBOX")
        await self.inbox.expunge()
        for name in ("INBOX", "Sent"):
            await tree.open(name)
        await deferLater(reactor, watching.NEWS_SECONDS * 2)
        assert listed == []

    async def test_a_folder_that_is_renamed(self) -> None:
        """Would catch a folder that nobody watches under its new name, and a new one of the old name that is taken for it."""
        tree = self.ground.portal.tree(1)
        await tree.create("A")
        folder = await tree.open("A")
        await tree.rename("A", "B")
        await tree.create("A")
        other = await tree.open("A")
        (self.ground.maildir() / ".B" / "new" / "1.1_1.other").write_bytes(MAIL)
        await tree.open("B")
        await tree.open("A")
        assert len(await folder.entries()) == 1
        assert len(await other.entries()) == 0

    async def test_a_directory_that_goes(self) -> None:
        """Would catch a watch of one directory that ends all others, as Twisted's does, and a folder that is believed for ever."""
        tree = self.ground.portal.tree(1)
        await tree.create("A")
        await tree.open("A")
        shutil.rmtree(self.ground.maildir() / ".A")
        with pytest.raises(Exception, match="gone"):
            await tree.open("A")
        listed = self.listings()
        await tree.open("INBOX")
        assert listed == []
        (self.ground.maildir() / "new" / "1.1_1.other").write_bytes(MAIL)
        await tree.open("INBOX")
        assert len(await self.inbox.entries()) == 2

    async def test_no_more_watches(self) -> None:
        """Would catch a machine whose limit of watches is reached: folders cannot be opened, or are believed without a look."""
        self.patch(Inotify, "add", self.full)
        tree = self.ground.portal.tree(2)
        carol = await tree.open("INBOX")
        (self.ground.maildir(2, 7) / "new" / "1.1_1.other").write_bytes(MAIL)
        await tree.open("INBOX")
        assert len(await carol.entries()) == 1

    def full(self, path: str) -> int:
        raise OSError(errno.ENOSPC, "no space")
