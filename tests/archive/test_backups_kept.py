"""Which backups are kept, by their names alone (rule 23)."""

from __future__ import annotations

import datetime

import pytest

from hornetmail.archive.care.copies.backup import BackupName, Keep, backup_named, kept, listed
from hornetmail.testing.archives import NOW, mail
from tests.archive import test_backup

DAY = 86400.0


def stamp(day: float) -> str:
    return datetime.datetime.fromtimestamp(day * DAY, datetime.UTC).strftime("%Y%m%dt%H%M%Sz")


def full(day: float) -> BackupName:
    return BackupName(stamp(day), stamp(day))


def days_kept(days: list[float], now: float, keep: Keep = Keep()) -> list[float]:
    """The days whose full backups are kept."""
    by_name = {full(day): day for day in days}
    return sorted(by_name[name] for name in kept(list(by_name), now * DAY, keep))


@pytest.mark.parametrize("weekday", range(7))
def test_seven_days_and_four_weeks(weekday: int) -> None:
    """Would catch a week that has eight days, one week too few or too many, the oldest of a week kept instead of its newest; on each day of the week."""
    first = 2920 * 7  # a Thursday, as 1 January 1970 was: weeks are counted from there
    today = first + 70 + weekday
    daily = [today - number for number in range(7)]
    weekly = [first + 7 * week + 6 for week in range(7, 10)]
    found = days_kept([float(day) for day in range(first, today + 1)], today + 0.5)
    assert found == sorted({float(day) for day in (*daily, *weekly)})
    assert max(today - day for day in found) * DAY < Keep().longest


def test_the_newest_of_a_day() -> None:
    """Would catch two backups of one day kept as two days, or the first of them."""
    days = [100.1, 100.5, 100.9, 101.2]
    assert days_kept(days, 101.5, Keep(7, 4, 2, 0)) == [100.9, 101.2]
    assert days_kept(days, 101.5, Keep(1, 0, 2, 0)) == [101.2]
    assert days_kept(days, 101.5, Keep(2, 0, 2, 0)) == [100.9, 101.2]
    assert days_kept(days, 102.0, Keep(2, 0, 2, 0)) == [101.2]
    assert days_kept(days, 101.5, Keep(0, 0, 2, 0)) == []


def test_a_clock_that_is_years_ahead() -> None:
    """Would catch all but the newest backup dropped by a clock that jumped; three are kept whatever it says."""
    assert days_kept([1.0, 2.0, 3.0, 4.0, 5.0], 4000.0) == [3.0, 4.0, 5.0]
    assert days_kept([1.0, 2.0], 4000.0) == [1.0, 2.0]
    assert days_kept([], 4000.0) == []


def test_increments() -> None:
    """Would catch increments kept whose full backup went, or of older chains than promised; and those of the newest that go."""
    names = [BackupName(stamp(day), stamp(day + hour / 24)) for day in (10, 11, 12, 13) for hour in (0, 6, 12)]
    left = kept(names, 13.9 * DAY, Keep(days=7, weeks=0, chains=2, least=1))
    assert {name for name in left if name.full} == {full(day) for day in (10, 11, 12, 13)}
    assert sorted({name.chain for name in left if not name.full}) == [stamp(12), stamp(13)]
    assert len([name for name in left if not name.full]) == 4
    left = kept(names, 13.9 * DAY, Keep(days=1, weeks=0, chains=2, least=1))
    assert sorted({name.chain for name in left}) == [stamp(13)]
    assert kept([name for name in names if not name.full], 13.9 * DAY, Keep()) == set()


def test_how_long_what_was_deleted_lasts() -> None:
    """Rule 23: would catch a day given on which something is gone while a backup still has it."""
    assert Keep().longest == 35 * DAY
    assert Keep(days=90).longest == 91 * DAY
    assert Keep(days=3, weeks=0).longest == 7 * DAY


def test_what_lies_there() -> None:
    """Would catch a backup without its manifest, which ended in the middle, taken for a whole one, or its bytes forgotten; and others' files counted."""
    whole, part = full(10), BackupName(stamp(10), stamp(11))
    listing = listed(
        [
            (f"{part.folder}control", 7),
            (whole.manifest, 5),
            (f"{whole.folder}index-000001", 11),
            ("backup/other", 100),
            ("packs/t1/2026-01/x.pack", 100),
        ]
    )
    assert listing.whole == (whole,)
    assert listing.size(whole) == 16
    assert listing.size(full(12)) == 0
    assert backup_named(whole.manifest) == whole
    assert backup_named("backup/other") is None
    assert (whole.full, part.full) == (True, False)
    assert (whole.made, part.made) == (10 * DAY, 11 * DAY)


class Counted(test_backup.BackupCase):
    async def test_what_a_backup_added(self) -> None:
        """Would catch a number of bytes for people, and for the room that is watched, which leaves a part of a backup out; and a count of what was dropped that is another."""
        archive = await self.begin()
        before = 0
        for number in range(5):
            await self.put(archive, mail(f"Number {number}"))
            made = await self.backups.make(NOW + number * DAY, full=number % 2 == 0)
            files = [path for path in self.objects() if f"/{made.name.stamp}/" in path.as_posix()]
            assert made.bytes == sum(path.stat().st_size for path in files)
            assert made.medium == 1
            whole = len([path for path in self.objects() if path.name == "manifest"])
            assert made.dropped == before + 1 - whole
            before = whole
            assert made.words.startswith(
                f"{'full' if number % 2 == 0 else 'incremental'} backup on medium 1, {made.bytes} bytes; "
            )
