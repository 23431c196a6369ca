"""Statistics for the administrator (A59)."""

from __future__ import annotations

from hornetmail.archive.care.statistics import DAYS, count
from hornetmail.core.archive.statistics import DAY, DayOf, Statistics, Sum
from hornetmail.core.mail.envelope import Direction
from hornetmail.testing.archives import NOW, mail
from hornetmail.web.pages.archive.statistics import HEIGHT, SHOWN, chart
from tests.archive.cases import ArchiveCase


class StatisticsTest(ArchiveCase):
    async def test_counted_by_day_direction_and_sender(self) -> None:
        """Catches mails counted on the wrong day, twice after a second run, or in another tenant's figures (rule 25)."""
        archive = await self.fresh()
        for number in range(3):
            await self.put(archive, mail(f"in {number}"), received=NOW - 2 * DAY)
        await self.put(archive, mail("out", "x" * 5000), direction=Direction.OUT, sender="big@example.test", received=NOW - DAY)
        await self.put(archive, mail("other"), tenant=2)
        await self.put(archive, mail("long ago"), received=NOW - 2 * DAYS * DAY)
        await archive.flush(seal=True)
        found = await count(archive.index, NOW, {})
        today = int(NOW // DAY)
        assert {one.day: {name: sums.mails for name, sums in one.by.items()} for one in found[1].days} == {
            today - 2: {"in": 3},
            today - 1: {"out": 1},
        }
        assert [one.address for one in found[1].senders] == ["big@example.test", "alice@example.test"]
        assert found[2].days[0].total.mails == 1
        assert found[1].stored > 0
        await self.put(archive, mail("today"), received=NOW + 60)
        await archive.flush()
        again = await count(archive.index, NOW + 3600, found)
        assert [one.total.mails for one in again[1].days] == [3, 1, 1]
        later = await count(archive.index, NOW + 3 * DAYS * DAY, again)
        assert later[1].days == ()


def test_forecast() -> None:
    """Catches a forecast that takes today's half day for a whole one, or forgets days without mail."""
    days = (DayOf(100, {"in": Sum(1, 1000)}), DayOf(103, {"in": Sum(1, 3000)}), DayOf(104, {"in": Sum(9, 9_000_000)}))
    found = Statistics(104.5 * DAY, days, (), 10_000, 5_000)
    assert found.forecast(10) == 5_000 + 10 * 500
    assert Statistics(0.0, (), (), 0, 0).forecast(365) == 0


def test_chart() -> None:
    """Catches columns outside of the picture, and a division by zero where nothing came."""
    days = [DayOf(100, {"in": Sum(3, 10), "out": Sum(1, 10)}), DayOf(40, {"in": Sum(1, 1)}), DayOf(1, {"in": Sum(99, 1)})]
    drawn = chart(days, 100, "mails")
    assert drawn.most == 4
    assert [(bar.direction, bar.y, bar.height) for bar in drawn.bars] == [("in", 40.0, 120.0), ("out", 0.0, 40.0)]
    assert all(0 <= bar.y <= HEIGHT for bar in drawn.bars)
    assert chart([], 100, "bytes").bars == []
    assert SHOWN < 61
