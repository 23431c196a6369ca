"""Media that are away, swapped or full: mail is taken all the same, nothing is thrown away, and somebody is told (A15, rules 18 and 20)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.watch import MediaWatch
from hornetmail.archive.media.medium import MediumAway, MediumError, Space
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.shelf import pack_rows
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.events import Alarm
from hornetmail.testing.archives import AUDITOR, BytesBody, directory_medium, item, mail
from tests.archive.cases import ArchiveCase, told
from tests.archive.test_parts import ENCODED, with_attachment


class Bus:
    """Keeps what was published."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, event: Any) -> None:
        self.events.append(event)

    def alarms(self, code: str) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Alarm) and event.code == code]


async def turn() -> None:
    """What other threads told the reactor has arrived."""
    from twisted.internet.task import deferLater

    await deferLater(reactor, 0.01, lambda: None)


class Away(ArchiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.bus = Bus()
        self.aside = self.top / "aside"

    def gone(self) -> None:
        """The share is not mounted: an empty directory is in its place."""
        self.medium.rename(self.aside)
        self.medium.mkdir()

    def here(self) -> None:
        self.medium.rmdir()
        self.aside.rename(self.medium)

    async def opened(self, **more: Any) -> Archive:
        return await self.reopened(bus=self.bus, **more)

    async def filled(self) -> Archive:
        archive = await self.fresh(bus=self.bus)
        await self.put(archive, mail("First", "erstens"), retention_days=30)
        await archive.flush(seal=True)
        return archive

    async def test_start_without_it(self) -> None:
        """Catches a service that does not start, SMTP included, because a share is not there; and an archive that needs a restart once it is back."""
        archive = await self.filled()
        await archive.stop()
        self.gone()
        again = await self.opened()
        await turn()
        assert "medium 1 is out of reach" in again.trouble
        assert len(self.bus.alarms("medium-away")) == 1
        await self.put(again, mail("Second", "zweitens"))
        await again.flush()
        assert await self.total(again, "zweitens") == 1
        hit = await self.only(again, "erstens")
        assert "medium 1 is out of reach" in (await again.mail(AUDITOR, hit.id)).away
        with pytest.raises(MediumAway):
            await again.read(AUDITOR, hit.id)
        self.here()
        await again.arriving.look_round()
        assert again.trouble == ""
        assert (await again.mail(AUDITOR, hit.id)).away == ""
        await again.flush(seal=True)
        assert (await again.figures()).staged == 0
        assert await again.verify(True) == ()

    async def test_start_that_needs_it(self) -> None:
        """Catches leaf numbers that are given twice, and keys made anew, where keyring and leaf log are only on a medium that is away (rule 17)."""
        archive = await self.filled()
        root = archive.holdings.leaves.root()
        await archive.stop()
        self.wipe_local()
        self.gone()
        again = await self.opened()
        await turn()
        assert "not open yet" in again.trouble
        assert len(self.bus.alarms("archive-waits")) == 1
        with pytest.raises(ArchiveError, match="not open yet"):
            await again.stage(item(77), BytesBody(mail("Waits")))
        await again.arriving.look_round()
        assert len(self.bus.alarms("archive-waits")) == 1
        self.here()
        await again.arriving.look_round()
        assert again.holdings.leaves.root() == root
        await again.stage(item(77), BytesBody(mail("Waits")))
        assert again.holdings.staging.next_leaf == 2

    async def test_nothing_is_claimed_by_a_start(self) -> None:
        """Catches an empty mount point that becomes a medium: packs would go there, leave the staging area, and vanish under the next mount."""
        archive = await self.filled()
        await self.put(archive, mail("Second"))
        await archive.flush()
        self.gone()
        with pytest.raises(MediumAway):
            await archive.flush(seal=True)
        await archive.stop()
        again = await self.opened()
        with pytest.raises(MediumAway):
            await again.flush(seal=True)
        await again.arriving.look_round()
        assert list(self.medium.iterdir()) == []
        assert (await again.figures()).staged == 1
        self.here()
        await again.flush(seal=True)
        assert await again.verify(True) == ()

    async def test_a_purge_meanwhile(self) -> None:
        """Catches a purge that counts as done on an empty mount point: the pack would stay on the share for good (rule 23)."""
        archive = await self.filled()
        await self.put(archive, mail("Stays"), retention_days=9000)
        await archive.flush(seal=True)
        before = len(self.packs())
        await archive.confirm_purge()
        await self.night(archive, 40)
        self.gone()
        await archive.confirm_purge()
        assert (await self.night(archive, 75))[1] == 1  # gone from the index, and told in the staged journal
        assert list(self.medium.iterdir()) == []
        assert len(await archive.index().read(pack_rows)) == before
        self.here()
        await archive.confirm_purge()
        await self.night(archive, 77)
        await self.night(archive, 79)
        assert not [p for p in self.packs() if "2026-06" in str(p)]
        assert await archive.verify(True) == ()

    async def test_staging_is_not_shredded(self) -> None:
        """Catches a staging area that is rolled, read and told of with each try while the medium is down (41 segments for 3 mails)."""
        archive = await self.filled()
        self.gone()
        staging = self.top / "archive" / "staging"
        for n in range(20):
            await self.put(archive, mail(f"Waits{n}"))
            await archive.flush()
            self.clock.now += 20.0
            archive.arriving.seal_soon()
            if archive.arriving.sealing is not None:
                await archive.arriving.sealing
        await turn()
        assert len(list(staging.glob("*.log"))) == 1
        assert len(self.bus.alarms("archive-backlog")) == 1
        assert archive.arriving.failures < 6
        self.here()
        self.clock.now += 901.0
        archive.arriving.seal_soon()
        assert archive.arriving.sealing is not None
        await archive.arriving.sealing
        assert (await archive.figures()).staged == 0
        assert await archive.verify(True) == ()

    async def test_full_medium_does_not_shred(self) -> None:
        """Catches one more segment for each try where the medium answers, and takes nothing."""
        archive = await self.filled()
        await self.put(archive, mail("Waits"))
        await archive.flush()
        packs = self.medium / "packs"
        shutil.rmtree(packs)
        packs.write_bytes(b"no directory")
        for n in range(5):
            with pytest.raises(MediumError):
                await archive.flush(seal=True)
            await self.put(archive, mail(f"More{n}"))
            await archive.flush()
        assert len(list((self.top / "archive" / "staging").glob("*.log"))) <= 2

    async def test_a_part_that_is_away(self) -> None:
        """Catches one mail that shares an attachment with mail on a medium that is away, and keeps all mail behind it from being found."""
        archive = await self.filled()
        await self.put(archive, with_attachment("Shared", ENCODED), retention_days=400)
        await archive.flush(seal=True)
        await self.put(archive, with_attachment("Again", ENCODED), retention_days=400)
        await archive.stop()
        self.gone()
        again = await self.opened()
        for number in range(3):
            await self.put(again, mail(f"Behind{number}"))
        await again.flush()
        assert await self.total(again, "behind*") == 3
        assert await self.total(again, "again") == 0
        self.here()
        await again.arriving.look_round()
        await again.flush(seal=True)
        assert await self.total(again, "again") == 1
        assert (await again.figures()).staged == 0
        assert await again.verify(True) == ()

    async def test_out_of_use(self) -> None:
        """Catches a medium out of use that vanishes from a rebuild without a word, and one that keeps all other packs from being purged."""
        await (await self.filled()).stop()
        media = Media([directory_medium(1, self.medium), directory_medium(2, self.top / "m2")], 2, frozenset({1}))
        media.any(2).claim(archive_name(self.medium))
        archive = await self.opened(media=media)
        await self.put(archive, mail("Other", "anderes"), retention_days=30)
        await archive.flush(seal=True)
        hit = await self.only(archive, "erstens")
        assert (await archive.mail(AUDITOR, hit.id)).away == "medium 1 is out of use"
        await archive.confirm_purge()
        await self.night(archive, 40)
        await archive.confirm_purge()
        await self.night(archive, 75)
        assert not list((self.top / "m2" / "packs").rglob("*.pack"))
        assert [row.medium for row in await archive.index().read(pack_rows) if row.month] == [1]
        self.gone()
        assert told(await archive.rebuild(), "medium 1", "out of reach")

    async def test_nearly_full(self) -> None:
        """Catches a medium that is full before anybody was told, and an alarm with each look."""
        archive = await self.filled()
        alarms: list[tuple[str, str]] = []
        watch = MediaWatch(
            archive.media, lambda code, text, medium: alarms.append((code, text)), lambda *over: None, self.clock.seconds
        )
        medium = archive.media.active
        for free in (50, 9, 8, 30, 5):
            self.patch(type(medium), "look", lambda _self, free=free: Space(100 << 20, free << 20))
            watch.look()
        assert [code for code, _ in alarms] == ["medium-full", "medium-full"]
        assert "9 MiB are free" in alarms[0][1]


def archive_name(medium: Path) -> bytes:
    """Whose medium it is."""
    import msgspec

    return bytes.fromhex(msgspec.json.decode((medium / "medium").read_bytes())["archive"])
