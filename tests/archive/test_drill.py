"""The restore drill (L3): it restores, and it fails when a restore would."""

from __future__ import annotations

import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.drill import Drill, DrillFailed, Sources
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import NOW, mail
from tests.archive.test_backup import DAY, BackupCase, offload


class DrillTest(BackupCase):
    def drill(self, archive: Archive) -> Drill:
        return Drill(
            Sources(
                self.clock,
                Disk(),
                self.top / "archive",
                archive.media,
                archive.keys,
                archive.shelf,
                CONTROL,
                archive.index,
                offload,
            )
        )

    async def backed_up(self) -> Archive:
        archive = await self.begin()
        for number in range(40):
            await self.put(archive, mail(f"Number {number}"))
        await self.person("example.test")
        await self.backups.make(NOW, full=True)
        return archive

    def left(self) -> list[str]:
        return [path.name for path in (self.top / "archive").iterdir() if path.name.startswith("drill")]

    async def test_it_restores(self) -> None:
        """Catches a drill that looks at nothing, or leaves its scratch files behind."""
        archive = await self.backed_up()
        report = await self.drill(archive).run(NOW + 3600)
        assert (report.mails, report.opened, report.passed_over) == (40, 25, 0)
        assert report.rows > 2
        assert not self.left()

    async def test_each_loss_is_found(self) -> None:
        """Catches a drill that is content although a restore would fail: no backup, an old one, any of its objects damaged, wrapped keys that are gone, a lost pack."""
        archive = await self.begin()
        with pytest.raises(DrillFailed, match="no backup"):
            await self.drill(archive).run(NOW)
        archive = await self.reached(archive)
        with pytest.raises(DrillFailed, match="newest backup"):
            await self.drill(archive).run(NOW + 30 * DAY)
        losses = [*self.objects(), self.medium / "keyring", *self.packs()]
        assert len(losses) == 5
        for path in losses:
            whole = path.read_bytes()
            path.write_bytes(b"")
            with pytest.raises(ArchiveError):
                await self.drill(archive).run(NOW)
            path.unlink()
            with pytest.raises(ArchiveError):
                await self.drill(archive).run(NOW)
            path.write_bytes(whole)
            assert not self.left()
        await self.drill(archive).run(NOW)

    async def test_an_older_backup_is_no_excuse(self) -> None:
        """Catches a drill that passes over a newest backup that does not open, restores the one before, and calls it well."""
        archive = await self.reached(await self.begin())
        newest = await self.backups.make(NOW + DAY, full=True)
        for kind in ("manifest", "control"):
            path = self.medium / newest.name.folder / kind
            whole = path.read_bytes()
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            with pytest.raises(DrillFailed, match=newest.name.stamp):
                await self.drill(archive).run(NOW + DAY)
            path.write_bytes(whole)
        await self.drill(archive).run(NOW + DAY)

    async def reached(self, archive: Archive) -> Archive:
        await self.put(archive, mail("Hello"))
        await self.backups.make(NOW, full=True)
        return archive
