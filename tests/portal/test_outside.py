"""What others do to a Maildir besides its messages: folders that come and go, directories that are missing, an index that is older than the files."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.events import FolderChanged
from hornetmail.core.folder import FolderError
from hornetmail.portal.box import survey
from tests.portal.ground import MAIL, Bytes, Ground, message, row


class Outside(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        self.later = 0.0

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    def wait(self, seconds: float) -> None:
        """Time goes on for the portal."""
        ground: Any = self.ground.portal._ground
        true = type(ground).now
        self.later += seconds
        later = self.later
        ground.now = lambda: true(ground) + later

    @property
    def tree(self) -> Any:
        return self.ground.portal.tree(1)

    async def names(self) -> set[str]:
        self.wait(survey.AGAIN_SECONDS)
        return {info.name for info in await self.tree.folders()}

    async def appended(self, name: str) -> int:
        folder = await self.tree.open(name)
        deposit = folder.append([], None)
        await deposit.write(MAIL)
        return (await deposit.commit()).targets[0]

    async def test_folders_that_others_make(self) -> None:
        """Would catch folders of mutt, rsync or a backup that are seen after a restart only, that cannot be opened, or be made a second time."""
        heard: list[FolderChanged] = []
        assert "Lists/python" not in await self.names()
        self.ground.bus.subscribe(FolderChanged, heard.append)
        maildir = self.ground.maildir()
        for name in (".Lists.python", ".Half", "..gone"):
            for sub in ("cur", "new", "tmp") if name != ".Half" else ("tmp",):
                (maildir / name / sub).mkdir(parents=True)
        (maildir / ".Lists.python" / "new" / "1.2.x").write_bytes(MAIL)
        assert {"Lists", "Lists/python"} <= await self.names()
        assert not {"Half"} & await self.names(), "one that is not whole yet"
        assert FolderChanged(1, "Lists/python") in heard
        assert len(await (await self.tree.open("Lists/python")).entries()) == 1
        with pytest.raises(FolderError) as caught:
            await self.tree.create("Lists/python")
        assert caught.value.code == "ALREADYEXISTS"
        (maildir / ".Half" / "new").mkdir()
        (maildir / ".Half" / "cur").mkdir()
        self.wait(1)
        assert await (await self.tree.open("Half")).entries() == [], "asked for by name"

    async def test_folders_that_others_remove(self) -> None:
        """Would catch a folder that is told of, cannot be opened, and cannot be made because it is there already; one whose UIDs are others after it was put back; and one
        that is remembered for ever."""
        await self.tree.create("Old")
        await self.appended("Old")
        before = (await self.tree.open("Old")).info
        directory = self.ground.maildir() / ".Old"
        shutil.copytree(directory, self.ground.root / "backup")
        shutil.rmtree(directory)
        assert "Old" not in await self.names()
        with pytest.raises(FolderError) as caught:
            await self.tree.open("Old")
        assert caught.value.code == "NONEXISTENT"
        shutil.copytree(self.ground.root / "backup", directory)
        assert "Old" in await self.names()
        again = await self.tree.open("Old")
        assert again.info == before
        assert [entry.uid for entry in await again.entries()] == [1]
        shutil.rmtree(directory)
        assert "Old" not in await self.names()
        await self.tree.create("Old")
        assert "Old" in await self.names()
        assert await self.appended("Old") == 2, "no UID twice under one UIDVALIDITY"
        shutil.rmtree(directory)
        assert "Old" not in await self.names()
        self.wait(survey.MISSED_SECONDS + 1)
        assert "Old" not in await self.names()
        await self.tree.create("Old")
        assert (await self.tree.open("Old")).info.uidvalidity > before.uidvalidity
        assert (await self.tree.usage()).messages == 0

    async def test_rights_on_a_folder_that_went_and_was_made_again(self) -> None:
        """Would catch others who keep their rights on a folder whose file of rights went with its directory: its owner would not see them there after a restart."""
        await self.tree.create("Old")
        await self.tree.give("Old", "anyone", "", frozenset("lr"))
        assert "anyone" in dict(await self.tree.grants("Old"))
        shutil.rmtree(self.ground.maildir() / ".Old")
        assert "Old" not in await self.names()
        await self.tree.create("Old")
        assert "anyone" not in dict(await self.tree.grants("Old"))

    async def test_a_message_for_a_folder_whose_directory_went(self) -> None:
        """Would catch a directory that comes back without its mail because somebody appends to the folder that another program has removed."""
        await self.tree.create("Old")
        folder = await self.tree.open("Old")
        shutil.rmtree(self.ground.maildir() / ".Old")
        coming = folder.append([], None)
        with pytest.raises((FolderError, OSError)):
            await coming.write(MAIL * 3000)
            await coming.commit()
        assert not (self.ground.maildir() / ".Old").exists()

    async def test_a_maildir_that_is_being_put_back(self) -> None:
        """Would catch all folders forgotten while a backup is copied into their place, and directories made in its way."""
        await self.tree.create("Old")
        uid = await self.appended("Old")
        before = (await self.tree.open("Old")).info
        maildir = self.ground.maildir()
        maildir.rename(maildir.with_name("away"))
        self.wait(survey.MISSED_SECONDS + 1)
        await self.names()
        await self.ground.portal.sweep()
        with pytest.raises(FolderError):
            await self.tree.open("INBOX")
        with pytest.raises((FolderError, OSError)):
            await self.ground.portal.deliver(1, message(MAIL, 1), row(1), Bytes(MAIL))
        assert not maildir.exists()
        maildir.with_name("away").rename(maildir)
        self.wait(60)
        folder = await self.tree.open("Old")
        assert folder.info == before
        assert [entry.uid for entry in await folder.entries()] == [uid]

    async def test_directories_that_are_missing(self) -> None:
        """Would catch a mailbox that takes no mail until the next start because a backup left out its empty directories."""
        await self.tree.create("Old")
        maildir = self.ground.maildir()
        for number, sub in enumerate(("tmp", "new", "cur"), 1):
            for name, folder in (("INBOX", maildir), ("Old", maildir / ".Old")):
                shutil.rmtree(folder / sub)
                with_flags = (await self.tree.open(name)).append(["\\Seen"], None)
                await with_flags.write(MAIL)
                await with_flags.commit()
            shutil.rmtree(maildir / sub)
            await self.ground.portal.deliver(1, message(MAIL, number), row(number), Bytes(MAIL))
            self.wait(60)
            assert len(await (await self.tree.open("INBOX")).entries()) >= 1

    async def test_an_inbox_that_is_missing_at_the_start(self) -> None:
        """Would catch all other folders and the subscriptions forgotten because one directory of INBOX is missing."""
        await self.tree.create("Old")
        await self.tree.subscribe("Old", True)
        before = (await self.tree.open("Old")).info
        await self.ground.crash()
        shutil.rmtree(self.ground.maildir() / "cur")
        await self.ground.start()
        assert (await self.tree.open("Old")).info == before
        assert "Old" in await self.tree.subscriptions()

    async def test_an_index_that_is_older(self) -> None:
        """Would catch UIDs that clients know given to other messages, because portal.db came from a backup and the Maildirs did not."""
        await self.appended("INBOX")
        path = Path(self.ground.url.removeprefix("sqlite://"))
        await self.ground.stop()
        with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(f"{path}.old")) as copy:
            database.backup(copy)
        await self.ground.start()
        assert await self.appended("INBOX") == 2
        before = {info.name: info for info in await self.tree.folders()}
        [first, second] = [entry.name for entry in await (await self.tree.open("INBOX")).entries()]
        await self.ground.crash()
        await self.ground.start()
        assert {info.name: info for info in await self.tree.folders()} == before, "nothing happens to one that is as it was"
        await self.ground.stop()
        for more in ("-wal", "-shm"):
            Path(f"{path}{more}").unlink(missing_ok=True)
        shutil.copy(f"{path}.old", path)
        await self.ground.start()
        inbox = await self.tree.open("INBOX")
        assert [entry.name for entry in await inbox.entries()] == [first, second]
        after = {info.name: info for info in await self.tree.folders()}
        assert after.keys() == before.keys()
        assert len({info.uidvalidity for info in after.values()}) == len(after)
        assert not {info.object for info in after.values()} & {info.object for info in before.values()}
        for name, info in after.items():
            assert info.uidvalidity > before[name].uidvalidity
