"""What happens all together or not at all: messages of one APPEND, a message in another's place, folders that are renamed with those below them. Each operation
of the disk fails, or is the last one that the process did."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import Copied, FolderError
from hornetmail.core.served import Domain
from hornetmail.db.engines import DatabaseError
from hornetmail.testing.faulty_disk import Trouble, TroubledDisk
from tests.portal.ground import MAIL, Bytes, Ground, message, row


class StepsDisk(TroubledDisk):
    """Fails the step with that number, from 0; with ``for_good`` all steps from there on, as if the process ended there. ``steps``: what was asked. What
    only reads never fails."""

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        self.plan(-1)

    def plan(self, step: int, *, for_good: bool = False) -> None:
        self.steps: list[str] = []
        self._at, self._for_good = step, for_good

    def trouble(self, operation: str, path: Path | str | int) -> Trouble | None:
        if operation in ("open", "read"):
            return None
        self.steps.append(operation)
        number = len(self.steps) - 1
        fails = self._at >= 0 and (number >= self._at if self._for_good else number == self._at)
        return Trouble(OSError(errno.EIO, os.strerror(errno.EIO))) if fails else None


def mail(number: int) -> bytes:
    return MAIL.replace(b"one", b"number %d" % number)


class Together(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.disk = StepsDisk()
        self.ground = Ground("sqlite", self.disk)
        await self.ground.start()

    async def tearDown(self) -> None:  # type: ignore[override]
        self.disk.heal()
        await self.ground.stop()
        self.ground.clean()

    async def inbox(self) -> Any:
        return await self.ground.portal.folder(1, "INBOX")

    async def deposits(self, folder: Any, *numbers: int, frees: int = 0) -> list[Any]:
        made = []
        for number in numbers:
            deposit = folder.append(["\\Seen"] if number % 2 else [], None, frees)
            await deposit.write(mail(number))
            made.append(deposit)
        return made

    async def subjects(self, folder: Any) -> list[bytes]:
        heads = await folder.headers([entry.uid for entry in await folder.entries()])
        return [heads[uid].split(b"Subject: ")[1].split(b"\r\n")[0] for uid in sorted(heads)]

    async def each_step(self, work: Callable[[], Awaitable[Any]], check: Callable[[bool], Awaitable[None]]) -> None:
        """Each step of the work fails, then each is the last one before the process ends; ``check`` is told whether the work said that it was done."""
        for for_good in (False, True):
            step = 0
            while True:
                self.disk.plan(step, for_good=for_good)
                done = False
                try:
                    await work()
                    done = True
                except (FolderError, OSError):
                    pass
                steps = len(self.disk.steps)
                self.disk.heal()
                if for_good:
                    await self.ground.restart()
                await check(done)
                if steps <= step:
                    break
                step += 1
            assert step > 5, self.disk.steps

    async def test_several_messages(self) -> None:
        """RFC 3502 section 6.3.11, "no partial appending is permitted": would catch messages of an APPEND that stay although another one failed, at any step, and
        after a crash between two of them."""
        before = 0

        async def work() -> None:
            inbox = await self.inbox()
            copied = await inbox.commit(await self.deposits(inbox, 1, 2, 3))
            assert len(copied.targets) == 3

        async def check(done: bool) -> None:
            nonlocal before
            inbox = await self.inbox()
            await self.ground.portal.sweep()
            new = (await self.subjects(inbox))[before:]
            assert new in ([], [b"number 1", b"number 2", b"number 3"]), new
            assert not done or new
            left = [path.name for path in (self.ground.maildir() / "tmp").iterdir()]
            assert not left or not done, left
            before += len(new)

        await self.each_step(work, check)
        await self.ground.restart()
        assert not list((self.ground.maildir() / "tmp").iterdir())

    async def test_two_messages(self) -> None:
        """The same of the fewest that are several."""

        async def work() -> None:
            inbox = await self.inbox()
            await inbox.commit(await self.deposits(inbox, 1, 2))

        async def check(done: bool) -> None:
            inbox = await self.inbox()
            await self.ground.portal.sweep()
            assert len(await inbox.entries()) % 2 == 0

        await self.each_step(work, check)

    async def test_many_at_once(self) -> None:
        """Would catch a client that is told another UID than its message has (APPENDUID, RFC 4315) because others came in the same moment."""
        inbox = await self.inbox()
        await inbox.commit(await self.deposits(inbox, 0))
        made = await self.deposits(inbox, *range(1, 9))
        waits = [Deferred.fromCoroutine(one.commit()) for one in made]
        told = [(await one).targets[0] for one in waits]
        assert sorted(told) == list(range(2, 10))
        heads = await inbox.headers(told)
        assert [heads[uid].split(b"Subject: ")[1].split(b"\r\n")[0] for uid in told] == [b"number %d" % n for n in range(1, 9)]

    async def test_index(self) -> None:
        """Would catch messages of an APPEND that show up later because only the index refused."""
        inbox = await self.inbox()
        deposits = await self.deposits(inbox, 1, 2, 3)
        database: Any = self.ground.database

        async def refuse(*args: object) -> None:
            raise DatabaseError("no")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "run", refuse)
            with pytest.raises(FolderError):
                await inbox.commit(deposits)
        await self.ground.portal.sweep()
        assert await self.subjects(await self.inbox()) == []
        assert not list((self.ground.maildir() / "tmp").iterdir())

    async def test_others_see_all_or_none(self) -> None:
        """Would catch another session that sees the first message of a command before its last: each change has one modseq."""
        inbox = await self.inbox()
        before = (await inbox.status()).modseq
        await inbox.commit(await self.deposits(inbox, 1, 2, 3))
        assert {entry.modseq for entry in await inbox.changes(before)} == {before + 1}

    async def test_instead(self) -> None:
        """RFC 8508 section 3: would catch both messages lost at a failure, or the old one gone without the new one there."""
        await self.ground.portal.tree(1).create("Other")

        async def work() -> None:
            inbox = await self.inbox()
            [old] = [entry.uid for entry in await inbox.entries()][-1:]
            folder = await self.ground.portal.folder(1, "Other") if self.turn % 2 else inbox
            self.turn += 1
            await folder.commit(await self.deposits(folder, self.turn), (inbox, old))

        async def check(done: bool) -> None:
            inbox, other = await self.inbox(), await self.ground.portal.folder(1, "Other")
            left, new = await self.subjects(inbox), await self.subjects(other)
            this = b"number %d" % self.turn
            assert this in left + new or b"number 1000" in left, (left, new)
            if done:
                assert this in left + new
                assert b"number 1000" not in left
            await inbox.store([entry.uid for entry in await inbox.entries()], add=["\\Deleted"])
            await inbox.expunge()
            await inbox.commit(await self.deposits(inbox, 1000))

        self.turn = 0
        inbox = await self.inbox()
        await inbox.commit(await self.deposits(inbox, 1000))
        await self.each_step(work, check)

    async def test_instead_in_a_full_mailbox(self) -> None:
        """RFC 8508 section 3, "only the net quota consumption is considered": would catch a draft that cannot be saved any more because its former version
        fills the mailbox; and one that is larger than what it replaces let in all the same."""
        inbox = await self.inbox()
        await inbox.commit(await self.deposits(inbox, 11))
        [old] = await inbox.entries()
        self.ground.directory.served = Domain("example.test", primaries=(), quota_bytes=old.size, quota_messages=1)
        with pytest.raises(FolderError) as caught:
            await self.deposits(inbox, 12)
        assert caught.value.code == "OVERQUOTA"
        copied: Copied = await inbox.commit(await self.deposits(inbox, 12, frees=old.size), (inbox, old.uid))
        assert await self.subjects(inbox) == [b"number 12"]
        with pytest.raises(FolderError) as caught:
            await inbox.commit(await self.deposits(inbox, 13, 14, frees=old.size), (inbox, copied.targets[0]))
        assert caught.value.code == "OVERQUOTA"
        with pytest.raises(FolderError) as caught:
            await self.deposits(inbox, 1313, frees=old.size)
        assert caught.value.code == "OVERQUOTA"

    async def test_what_goes_home_is_not_replaced(self) -> None:
        """Rule 10: would catch a copy that is being handed over thrown away for another message."""
        copy = await self.ground.portal.deliver(1, message(MAIL, 1), row(1), Bytes(MAIL))
        assert await self.ground.portal.begin_drain(copy) is not None
        inbox = await self.inbox()
        with pytest.raises(FolderError) as caught:
            await inbox.commit(await self.deposits(inbox, 1), (inbox, 1))
        assert caught.value.code == "INUSE"
        assert [entry.uid for entry in await inbox.entries()] == [1]
        await self.ground.portal.end_drain(copy, delivered=False)

    async def test_moved_and_copied(self) -> None:
        """RFC 3501 section 6.4.7, RFC 6851 section 3.3: would catch messages that are in the target although the client was told NO, because a sync or the index failed after
        their files had moved: copied once more, they are there twice; moved, they have other UIDs."""
        tree = self.ground.portal.tree(1)
        await tree.create("Other")
        inbox = await self.inbox()
        await inbox.commit(await self.deposits(inbox, 1, 2))
        other = await tree.open("Other")
        for away in (True, False):
            step = 0
            while True:
                self.disk.plan(step)
                done = False
                try:
                    await (inbox.move([1, 2], "Other") if away else inbox.copy([3, 4], "Other"))
                    done = True
                except FolderError:
                    pass
                steps = len(self.disk.steps)
                self.disk.heal()
                await self.ground.portal.sweep()
                counts = len(await other.entries()), len(await inbox.entries())
                assert counts == ((2, 0 if away else 2) if done else (0, 2)), (away, step, done)
                if done and not away:
                    await other.store([entry.uid for entry in await other.entries()], add=["\\Deleted"])
                    await other.expunge()
                if steps <= step:
                    break
                step += 1
            assert step > 2
            if away:
                await other.move([entry.uid for entry in await other.entries()], "INBOX")
            [one, two] = await inbox.entries()
            assert (one.uid, two.uid) == (3, 4)
            inbox = await self.inbox()
            database: Any = self.ground.database

            async def refuse(*args: object) -> None:
                raise DatabaseError("no")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(database, "run", refuse)
                with pytest.raises(FolderError):
                    await (inbox.move if away else inbox.copy)([3, 4], "Other")
            await self.ground.portal.sweep()
            assert (len(await other.entries()), [entry.uid for entry in await inbox.entries()]) == (0, [3, 4])

    async def test_folders_below(self) -> None:
        """RENAME of a folder with others below it: would catch some of them renamed and some not, for whatever step failed, by memory, index or disk; after a crash
        too, and UIDs that are others then."""
        tree = self.ground.portal.tree(1)
        for name in ("A", "A/b", "A/b/c", "A/d"):
            await tree.create(name)
            folder = await tree.open(name)
            await folder.commit(await self.deposits(folder, 7, 8))
        uidvalidities = {name[1:]: (await tree.open(name)).info.uidvalidity for name in ("A", "A/b", "A/b/c", "A/d")}
        here = "A"

        async def work() -> None:
            await self.ground.portal.tree(1).rename(here, "Z" if here == "A" else "A")

        async def check(done: bool) -> None:
            nonlocal here
            for again in (False, True):
                tree = self.ground.portal.tree(1)
                names = [info.name for info in await tree.folders() if info.name[:1] in ("A", "Z") and info.name != "Archive"]
                other = "Z" if here == "A" else "A"
                assert names in ([here + below for below in uidvalidities], [other + below for below in uidvalidities]), (
                    names,
                    done,
                )
                assert not done or names[0] == other
                here = names[0]
                done = False
                for name in names:
                    folder = await tree.open(name)
                    assert folder.info.uidvalidity == uidvalidities[name[1:]]
                    assert [entry.uid for entry in await folder.entries()] == [1, 2], name
                if again:
                    break
                await self.ground.restart()

        await self.each_step(work, check)

    async def test_folders_that_stay(self) -> None:
        """Would catch folders that cannot move back known by names under which nothing lies: their mail is out of reach until the next start."""
        tree = self.ground.portal.tree(1)
        for name in ("A", "A/b", "A/c"):
            await tree.create(name)
            folder = await tree.open(name)
            await folder.commit(await self.deposits(folder, 7, 8))
        maildir: Any = self.ground.portal._boxes[1].maildir
        true = maildir.rename_folder

        def renamed(old: str, new: str) -> None:
            if old == "A/c":
                self.disk.plan(0, for_good=True)
            true(old, new)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(maildir, "rename_folder", renamed)
            with pytest.raises(FolderError):
                await tree.rename("A", "Z")
        self.disk.heal()
        for restart in (False, True):
            if restart:
                await self.ground.restart()
            tree = self.ground.portal.tree(1)
            there = [info.name for info in await tree.folders() if info.name[:1] in ("A", "Z") and info.name != "Archive"]
            assert there[-3:] in (["A/c", "Z", "Z/b"], ["Z", "Z/b", "Z/c"]), there
            for name in there[-3:]:
                folder = await tree.open(name)
                assert len(await folder.entries()) == 2

    async def test_inbox(self) -> None:
        """RENAME INBOX: would catch a folder that was made for what could not move, so that the second try is told that it is there already."""
        inbox = await self.inbox()
        await inbox.commit(await self.deposits(inbox, 1, 2))

        async def work() -> None:
            await self.ground.portal.tree(1).rename("INBOX", "Old")

        async def check(done: bool) -> None:
            tree = self.ground.portal.tree(1)
            left = await self.subjects(await self.inbox())
            if not left:
                old = await tree.open("Old")
                assert await self.subjects(old) == [b"number 1", b"number 2"]
                await old.move([entry.uid for entry in await old.entries()], "INBOX")
                await tree.delete("Old")
            else:
                assert not done
                assert left == [b"number 1", b"number 2"]
                with pytest.raises(FolderError):
                    await tree.delete("Old")

        self.disk.plan(-1)
        step = 0
        while True:
            self.disk.plan(step)
            done = False
            try:
                await work()
                done = True
            except FolderError:
                pass
            steps = len(self.disk.steps)
            self.disk.heal()
            await check(done)
            if steps <= step:
                break
            step += 1
        assert step > 5
