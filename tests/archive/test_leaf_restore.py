"""The leaf log made anew where it was lost here, and what is on the media is not whole (L3, rule 17)."""

from __future__ import annotations

import shutil
from pathlib import Path

from hornetmail.archive.archive import Archive
from hornetmail.archive.store.shelf import pack_rows
from hornetmail.core.archive.archived import Finding
from hornetmail.testing.archives import mail, make_archive
from tests.archive.cases import told
from tests.archive.test_stamping import StampCase


class LeafRestoreCase(StampCase):
    async def filled(self) -> tuple[bytes, list[Path]]:
        """An archive of four runs, with an arrival of the same bytes and a leaf of the audit log, stopped: the root of its log, and the runs on its medium."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        for number in range(3):
            await self.put(archive, mail(f"mail{number}"), received=self.clock.now)
            if number == 1:
                await self.put(archive, mail("mail0"), received=self.clock.now)
            await archive.flush(seal=True)
        self.audit.hashes = [b"h" * 32]
        await archive.stamps.stamp()
        assert await archive.verify(full=True) == ()
        root = archive.holdings.leaves.root()
        await archive.stop()
        runs = sorted(self.medium.rglob("*.run"))
        assert len(runs) == 4
        return root, runs

    async def restored(self) -> tuple[Archive, list[Finding]]:
        """From the medium and the key alone."""
        self.wipe_local()
        archive = make_archive(self.clock, self.top, **self.more())
        found = list(archive.restore())
        await self.started(archive)
        rebuilt = await archive.rebuild()
        assert not any("stamp" not in one.where for one in rebuilt)
        return archive, found


class Restores(LeafRestoreCase):
    async def test_runs_that_are_damaged_or_missing(self) -> None:
        """L3, rule 17: catches a restore that one run of 32 bytes prevents; a log that is filled with void leaves, though records state what they were; and a last run whose numbers are given
        again, without a word."""
        root, runs = await self.filled()
        shutil.copytree(self.medium, self.top / "whole")
        for lost, damaged in (((1,), False), ((1,), True), ((0, 2), False), ((3,), False), ((3,), True), ((0, 1, 2, 3), False)):
            shutil.rmtree(self.medium)
            shutil.copytree(self.top / "whole", self.medium)
            for number in lost:
                if damaged:
                    runs[number].write_bytes(b"x" * runs[number].stat().st_size)
                else:
                    runs[number].unlink()
            archive, found = await self.restored()
            assert archive.holdings.leaves.root() == root, lost
            assert told(found, "leaf log", "put together from their records"), lost
            assert await archive.verify(full=True) == (), lost
            await archive.stop()

    async def test_a_leaf_that_nothing_tells_of(self) -> None:
        """Catches a restore that ends, or says nothing, when run and record of a mail are both lost."""
        root, runs = await self.filled()
        runs[2].unlink()
        archive = await self.reopened(**self.more())
        packs = await archive.index().read(pack_rows)
        assert told(await archive.verify(full=True), "leaf log", "missing on the media")
        await archive.stop()
        (self.medium / max((pack for pack in packs if pack.month), key=lambda pack: pack.number).name).unlink()
        archive, found = await self.restored()
        assert told(found, "leaf log", "1 are told by none and are void now")
        assert archive.holdings.leaves.size == 5
        assert archive.holdings.leaves.root() != root
        assert told(await archive.verify(full=True), "stamp 0", "its root is not that")

    async def test_a_start_without_a_log(self) -> None:
        """Rule 17, 8f: catches a service that does not start, SMTP included, because the log here is gone and one run on the medium is damaged."""
        root, runs = await self.filled()
        shutil.rmtree(self.top / "archive" / "leaves")
        (self.top / "archive" / "leaves-checkpoint").unlink()
        runs[1].write_bytes(b"x" * runs[1].stat().st_size)
        self.alarms.clear()
        archive = await self.reopened(**self.more())
        assert archive.holdings.leaves.root() == root
        assert "archive-leaves" in self.codes()
        assert await archive.verify(full=True) == ()

    async def test_an_older_directory_and_a_gap_on_the_medium(self) -> None:
        """Rule 17: catches leaf numbers that are given again, because the directory was put back from a copy and the run that comes next is missing, while later ones are there."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        await self.put(archive, mail("first"), received=self.clock.now)
        await archive.flush(seal=True)
        await archive.stop()
        shutil.copytree(self.top / "archive", self.top / "older")
        archive = await self.reopened(**self.more())
        for number in range(3):
            await self.put(archive, mail(f"later{number}"), received=self.clock.now)
            await archive.flush(seal=True)
        root = archive.holdings.leaves.root()
        await archive.stop()
        self.wipe_local()
        (self.top / "older").rename(self.top / "archive")
        sorted(self.medium.rglob("*.run"))[1].unlink()
        archive = await self.reopened(**self.more())
        assert archive.holdings.leaves.root() == root

    async def test_locked(self) -> None:
        """Rule 22: catches a locked archive that gives leaf numbers again, since only the key opens the records which have them; and one that does not begin once it is unlocked."""
        root, runs = await self.filled()
        shutil.rmtree(self.top / "archive" / "leaves")
        (self.top / "archive" / "leaves-checkpoint").unlink()
        runs[3].unlink()
        runs[1].unlink()
        archive = await self.reopened(root=None, **self.more())
        assert "put together from the records once the archive is unlocked" in archive.trouble
        await archive.unlock(bytes(range(32)))
        assert archive.trouble == ""
        assert archive.holdings.leaves.root() == root
