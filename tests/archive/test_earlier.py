"""An archive that version 0.1 wrote, kept as it is: 32 mails in packs (two share an attachment, one came twice), two that were purged, one staged."""

from __future__ import annotations

import shutil
from pathlib import Path

from hornetmail.archive.archive import Archive
from hornetmail.testing.archives import AUDITOR, NOW, mail
from tests.archive.cases import ArchiveCase

EARLIER = Path(__file__).parent / "earlier"
DAY = 86400.0


class Earlier(ArchiveCase):
    async def opened(self) -> Archive:
        shutil.copytree(EARLIER, self.top, dirs_exist_ok=True)
        self.clock.now = NOW + 4 * DAY
        self.row = 1000
        return await self.reopened()

    async def whole(self, archive: Archive) -> None:
        assert await self.total(archive, "") == 33
        assert await self.total(archive, "keep*") == 30
        assert await self.total(archive, "old*") == 0
        assert await archive.read(AUDITOR, (await self.only(archive, "keep7")).id) == mail("Keep7")
        for number in ("one", "two"):
            plans = await archive.read(AUDITOR, (await self.only(archive, f"plans {number}")).id)
            assert b"plan.bin" in plans
            assert len(plans) > 30_000
        twice = await archive.mail(AUDITOR, (await self.only(archive, "keep3")).id)
        assert set(twice.recipients) == {"bob@example.test", "carol@example.test"}

    async def test_opens_as_it_is(self) -> None:
        """Catches an index of an earlier version that is refused, loses mail, or is said to be damaged."""
        archive = await self.opened()
        await self.whole(archive)
        assert await archive.verify(True) == ()
        await archive.flush(seal=True)
        assert await archive.verify(True) == ()

    async def test_rebuilt_from_its_medium(self) -> None:
        """Catches records of an earlier version that a rebuild cannot read, and what was deleted then and comes back, or is said to be missing."""
        archive = await self.opened()
        assert await archive.rebuild() == ()
        await self.whole(archive)
        assert await archive.verify(True) == ()

    async def test_goes_on(self) -> None:
        """Catches new mail, or a new purge, that an archive of an earlier version does not take."""
        archive = await self.opened()
        await self.put(archive, mail("Fresh"), received=self.clock.now, retention_days=1)
        await archive.flush(seal=True)
        await archive.confirm_purge()
        assert await self.night(archive, 6) == (1, 0)
        assert await self.night(archive, 7) == (0, 1)
        assert await archive.rebuild() == ()
        assert await self.total(archive, "fresh") == 0
        await self.whole(archive)
