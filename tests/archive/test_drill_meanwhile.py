"""The restore drill, where the archive went on since its backup (L3)."""

from __future__ import annotations

import pytest

from hornetmail.archive.care.copies.drill import DrillFailed
from hornetmail.testing.archives import NOW, mail
from tests.archive import test_drill


class Meanwhile(test_drill.DrillTest):
    test_it_restores = test_each_loss_is_found = test_an_older_backup_is_no_excuse = None  # type: ignore[assignment]

    async def test_packs_that_were_put_together_since(self) -> None:
        """Would catch a drill that fails each morning since packs of the backup were merged or purged at night, one that calls what is gone opened, and one that is content although
        nothing at all lies where a restore would look for it."""
        archive = await self.begin()
        for number in range(40):
            await self.put(archive, mail(f"Number {number}"), retention_days=400 if number % 2 else 40)
        await self.person("example.test")
        await self.backups.make(NOW, full=True)
        first, second = self.packs()
        content = first.read_bytes()
        first.unlink()
        with pytest.raises(DrillFailed, match="cannot be opened"):
            await self.drill(archive).run(NOW)
        await archive.index().run(lambda cursor: cursor.execute("DELETE FROM pack WHERE pack = ?", (bytes.fromhex(first.stem),)))
        report = await self.drill(archive).run(NOW)
        assert report.mails == 40
        assert report.opened + report.passed_over == 25
        assert 5 <= report.passed_over <= 20, "about half"
        await archive.index().run(lambda cursor: cursor.execute("DELETE FROM pack WHERE pack = ?", (bytes.fromhex(second.stem),)))
        second.unlink()
        with pytest.raises(DrillFailed, match="no mail of the sample"):
            await self.drill(archive).run(NOW)
        first.write_bytes(content)
        assert (await self.drill(archive).run(NOW)).opened == report.passed_over
        assert not self.left()
