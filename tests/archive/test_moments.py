"""What is out of order only for a moment costs nothing: a read that fails, an index that is locked at the start, a purge that died half-way."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import sqlcipher3.dbapi2 as sqlite
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from hornetmail.archive.archive import ArchiveSettings
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.store import staging
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.events import Alarm, AlarmEnded, StoreBroken
from hornetmail.db.pool import Database
from hornetmail.disk.files import DiskFull
from hornetmail.disk.records import LogBroken
from hornetmail.testing.archives import mail
from hornetmail.testing.control import ListeningBus
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.archive.cases import ArchiveCase


class Moments(ArchiveCase):
    async def test_a_read_that_fails_for_a_moment(self) -> None:
        """Catches staged mail that is given up, and kept aside, because the disk refused it once: it was acknowledged, and its row in the queue is gone."""
        disk = FaultyDisk()
        archive = await self.fresh(disk=disk)
        await self.put(archive, mail("Word"))
        await archive.flush()
        disk.fail("read", errno.EIO, times=1)
        with pytest.raises(OSError):
            await archive.flush(seal=True)
        await archive.flush(seal=True)
        assert len(self.packs()) == 1
        assert await archive.verify(True) == ()

    async def test_a_sector_that_stays_bad(self) -> None:
        """Catches one bad sector that keeps all other mail from its medium for ever."""
        disk, bus = FaultyDisk(), ListeningBus()
        archive = await self.fresh(disk=disk, bus=bus)
        await self.put(archive, mail("Bad"))
        await self.put(archive, mail("Good"))
        await archive.flush()
        disk.fail("read", errno.EIO)
        with pytest.raises(OSError):
            await archive.flush(seal=True)
        self.clock.now += staging.BAD_SECONDS
        disk.fail("read", errno.EIO, times=1)
        await archive.flush(seal=True)
        assert len(self.packs()) == 1
        assert any("kept aside" in each.what for each in await archive.verify(True))

    async def test_an_index_that_is_locked_at_the_start(self) -> None:
        """Catches a service that does without its index until somebody rebuilds it, though it was only locked for a moment."""
        archive = await self.fresh()
        await self.put(archive, mail("Word"))
        await archive.flush(seal=True)
        await archive.stop()
        locked = [True]

        async def open_database(*args: Any, **more: Any) -> Database:
            if locked.pop() if locked else False:
                raise sqlite.OperationalError("database is locked")
            return await Database.open(*args, **more)

        bus = ListeningBus()
        archive = await self.reopened(bus=bus, open_database=open_database, settings=ArchiveSettings(tick_seconds=0.05))
        while not (told := [each for each in bus.published if isinstance(each, Alarm)]):
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        assert [(each.code, "rebuild" in each.text) for each in told] == [("archive-index", False)]
        with pytest.raises(ArchiveError):
            archive.index()
        ended: Deferred[None] = Deferred()
        bus.subscribe(AlarmEnded, lambda event: ended.callback(None) if event.code == "archive-index" else None)
        await ended
        assert await self.total(archive, "Word") == 1

    async def test_a_purge_that_died_after_the_medium(self) -> None:
        """Catches a pack that verify misses although a purge took it off its medium, and died before the index had it."""
        archive = await self.fresh(settings=ArchiveSettings(retention=RetentionSettings(share=1.0)))
        await self.put(archive, mail("Short"), retention_days=1)
        await archive.flush(seal=True)
        kept = {path: path.read_bytes() for path in self.packs()}
        marked, _ = await self.night(archive, 3)
        assert marked == 1
        real = archive.media.get(1).delete

        class Died(Exception):
            pass

        def delete(name: str) -> None:
            real(name)
            raise Died

        self.patch(archive.media.get(1), "delete", delete)
        with pytest.raises(Died):
            await self.night(archive, 5)
        assert kept
        assert not self.packs()
        assert await archive.verify(True) == ()

    async def test_a_pack_that_was_put_and_not_entered(self) -> None:
        """Catches a seal that writes the same records once more, under the same name and with other bytes: a backup of the index in between knows the
        first ones, and verify would call the second another pack for ever after a restore."""
        disk = FaultyDisk()
        archive = await self.fresh(disk=disk)
        await self.put(archive, mail("Word"))
        await archive.flush()
        disk.fail("rename", errno.ENOSPC, after=2, times=1)  # the run of leaves, after keyring and pack
        with pytest.raises(DiskFull):
            await archive.flush(seal=True)
        [first] = [path.read_bytes() for path in self.packs()]
        await archive.flush(seal=True)
        assert [path.read_bytes() for path in self.packs()] == [first]
        assert await archive.verify(True) == ()

    async def test_a_rebuild_before_the_journal_was_told(self) -> None:
        """Catches a deletion that only the index knew, since the staging log failed just then, and that a rebuild undoes."""
        disk = FaultyDisk()
        archive = await self.fresh(disk=disk)
        await self.put(archive, mail("Gone"))
        await archive.flush(seal=True)
        hit = await self.only(archive, "Gone")
        disk.fail("sync_data", errno.EIO, times=1)
        with pytest.raises(LogBroken):
            await archive.keeping.delete(1, [hit.id], "admin@example.test", "asked for")
        assert await self.total(archive, "Gone") == 0
        with pytest.raises(ArchiveError, match="would be back"):
            await archive.rebuild()
        await archive.stop()
        archive = await self.reopened()
        await archive.rebuild()
        assert await self.total(archive, "Gone") == 0
        assert await archive.verify(True) == ()

    async def test_a_log_that_broke_is_told(self) -> None:
        """Catches an archive that takes, or seals, nothing any more until somebody happens to restart the service: nobody was told, and nothing ended it."""
        for failing, whole in (("staging", False), ("leaves", True)):
            disk, bus = FaultyDisk(), ListeningBus()
            self.top = Path(self.mktemp()).resolve()
            archive = await self.fresh(disk=disk, bus=bus, settings=ArchiveSettings(tick_seconds=0.05))
            told: Deferred[StoreBroken] = Deferred()
            bus.subscribe(StoreBroken, lambda event, told=told: None if told.called else told.callback(event))
            if whole:
                await self.put(archive, mail("Word"))
                await archive.flush()
            disk.fail("sync_data", errno.EIO)
            with pytest.raises((ArchiveError, LogBroken)):
                await (archive.flush(seal=True) if whole else self.put(archive, mail("Word")))
            disk.heal()
            event = await told
            assert (event.store, Path(event.file).name, event.corrupt) == ("archive", failing, False)
            await archive.stop()
