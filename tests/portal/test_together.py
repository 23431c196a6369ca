"""What happens all together or not at all: messages of one APPEND, a message in another's place, folders that are renamed with those below them. Each operation
of the disk fails, or is the last one that the process did."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
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
                assert this in left + new and b"number 1000" not in left
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
