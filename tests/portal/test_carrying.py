"""Messages that go from one mailbox into another while something fails: told or not, none of them is in neither."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from sqlcipher3 import dbapi2 as sqlite
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from hornetmail.core.events import FolderChanged
from hornetmail.core.folder import FolderError
from hornetmail.db.engines import DatabaseError
from hornetmail.portal.box.carrying import carry
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.portal.ground import MAIL, Ground


class Carried(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.disk = FaultyDisk()
        self.ground = Ground("sqlite", self.disk)
        await self.ground.start()
        self.source: Any = await self.ground.portal.folder(1, "INBOX")
        self.target: Any = await self.ground.portal.folder(2, "INBOX")
        for _ in range(2):
            deposit = self.source.append([], None)
            await deposit.write(MAIL)
            await deposit.commit()

    async def tearDown(self) -> None:  # type: ignore[override]
        self.disk.heal()
        await self.ground.stop()
        self.ground.clean()

    def files(self, mailbox: int) -> int:
        maildir = self.ground.maildir(mailbox, {1: 1, 2: 7}[mailbox])
        return sum(1 for sub in ("new", "cur") for _ in (maildir / sub).iterdir())

    async def refused(self) -> tuple[int, int]:
        """A move that fails; the files in the source and in the target then."""
        with pytest.raises(FolderError) as caught:
            await carry(self.source, [1, 2], self.target, away=True)
        assert caught.value.code == "UNAVAILABLE"
        self.disk.heal()
        return self.files(1), self.files(2)

    def leaving_fails(self, operation: str, after: int) -> None:
        """Once so many files of the source have been asked to go."""
        true = self.disk.trouble
        asked: list[object] = []

        def trouble(now: str, path: Any) -> Any:
            if now == "unlink" and "/1/1/Maildir/" in str(path):
                asked.append(path)
            if now == operation and len(asked) == after:
                asked.append(None)
                self.disk.fail(operation, times=1)
            return true(now, path)

        self.patch(self.disk, "trouble", trouble)

    async def test_none_leaves(self) -> None:
        """Would catch copies that stay in the target of a move that has not begun to take away anything."""
        self.leaving_fails("unlink", 1)
        assert await self.refused() == (2, 0)

    async def test_one_has_left(self) -> None:
        """Would catch the message that had left its folder already taken back from the other one as well, because the next one could not go: it was in neither."""
        self.leaving_fails("unlink", 2)
        assert await self.refused() == (1, 1)
        await self.ground.portal.sweep()
        assert [len(await folder.entries()) for folder in (self.source, self.target)] == [1, 1]

    async def test_leaving_is_not_synced(self) -> None:
        """As above, for all: their files were gone, only that was not certain to be durable."""
        self.leaving_fails("sync_file", 2)
        assert await self.refused() == (0, 2)

    async def test_the_index_does_not_take_it(self) -> None:
        """As above, where the index fails once the files are gone."""
        await self.index_refuses(DatabaseError("no"))

    async def test_the_index_is_locked(self) -> None:
        """As above: what the driver says of a lock is none of our errors (found by the fault driver: the message was in neither folder)."""
        await self.index_refuses(sqlite.OperationalError("database is locked"))

    async def index_refuses(self, error: Exception) -> None:
        database: Any = self.ground.database
        run = database.run

        async def refuse(fn: Any, *args: Any) -> Any:
            if any(getattr(change, "gone", ()) for change in (args[-1] if args and isinstance(args[-1], list) else ())):
                raise error
            return await run(fn, *args)

        database.run = refuse
        assert await self.refused() == (0, 2)
        database.run = run
        await self.ground.portal.sweep()
        assert [len(await folder.entries()) for folder in (self.source, self.target)] == [0, 2]

    async def test_whoever_asked_is_gone(self) -> None:
        """Would catch a connection that is lost while its move removes messages from one folder, and has them taken back from the other at the same time."""
        left: Deferred[None] = Deferred()

        def changed(event: FolderChanged) -> None:
            if event.mailbox == 1 and not left.called:
                left.callback(None)

        self.ground.bus.subscribe(FolderChanged, changed)
        moving = Deferred.fromCoroutine(carry(self.source, [1, 2], self.target, away=True))
        moving.cancel()
        with pytest.raises(CancelledError):
            await moving
        await left
        assert len(await self.source.entries()) == 0
        assert len(await self.target.entries()) == 2

    async def test_no_room_for_them(self) -> None:
        """Would catch a move that leaves its first messages in the target when there is no room for the next."""
        self.disk.fail("write", errno.ENOSPC, after=1)
        with pytest.raises(FolderError) as caught:
            await carry(self.source, [1, 2], self.target, away=True)
        assert caught.value.code == "OVERQUOTA"
        self.disk.heal()
        assert (self.files(1), self.files(2)) == (2, 0)
