"""Who is told of packs that could not be put together at night, and that they are (rule 8f)."""

from __future__ import annotations

from hornetmail.archive.media.medium import MediumLocked
from hornetmail.core.events import AlarmEnded
from hornetmail.testing.archives import NOW
from tests.archive import test_merging
from tests.archive.test_media_away import Bus
from tests.archive.test_merging import DAY


class Told(test_merging.MergingCase):
    def setUp(self) -> None:
        super().setUp()
        self.bus = Bus()

    def heard(self) -> tuple[list[str], int]:
        """The alarms since the last time, and how often they ended."""
        alarms = self.bus.alarms("archive-merging")
        ended = [one for one in self.bus.events if isinstance(one, AlarmEnded) and one.code == "archive-merging"]
        self.bus.events.clear()
        return alarms, len(ended)

    async def test_a_night_that_went_well(self) -> None:
        """Would catch an alarm that never ends, and one of nothing."""
        archive = await self.filled(bus=self.bus)
        await archive.merge(NOW)
        assert self.heard() == ([], 1)

    async def test_a_damaged_run(self) -> None:
        """Would catch damage of which nobody hears, and an alarm that ends and begins again each night, with a mail each time, while its cause lasts."""
        archive = await self.filled(bus=self.bus)
        run = sorted(self.medium.rglob("*.run"))[1]
        content = run.read_bytes()
        run.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        for night in range(2):
            await archive.merge(NOW + night * DAY)
            [alarm], ended = self.heard()
            assert alarm.startswith("a damaged pack is not merged: medium 1: ")
            assert run.name in alarm
            assert ended == 0
        run.write_bytes(content)
        await archive.merge(NOW + 2 * DAY)
        assert self.heard() == ([], 1)

    async def test_a_pack_under_lock(self) -> None:
        """Rule 23: would catch deleted mail that stays on a medium under lock, unsaid."""
        archive = await self.filled(bus=self.bus)
        locked = str(self.packs()[0].relative_to(self.medium))
        medium = archive.media.active
        delete = medium.delete

        def deleting(name: str) -> None:
            if name == locked:
                raise MediumLocked(f"medium 1: {name} is locked until 2030-01-31")
            delete(name)

        self.patch(medium, "delete", deleting)
        await archive.merge(NOW)
        [alarm], ended = self.heard()
        assert "until its lock ends" in alarm
        assert locked in alarm
        assert ended == 0

    async def test_a_medium_that_is_away(self) -> None:
        """Rule 23: would catch deleted mail that stays on a medium that is away, unsaid."""
        archive = await self.filled(bus=self.bus)
        self.medium.rename(self.top / "aside")
        self.medium.mkdir()
        await archive.merge(NOW)
        alarms, ended = self.heard()
        assert alarms
        assert all("stays there until it is back" in alarm for alarm in alarms)
        assert ended == 0
        self.medium.rmdir()
        (self.top / "aside").rename(self.medium)
        await archive.merge(NOW + DAY)
        assert self.heard() == ([], 1)
