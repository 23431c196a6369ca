"""Retention in two jobs (C1, A57, A58, rules 18, 19), on a clock that is handed in."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from hornetmail.archive.archive import Archive, ArchiveSettings
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.media.medium import MediumLocked
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.schedule import parse_schedule
from hornetmail.testing.archives import AUDITOR, NOW, BytesBody, item, mail
from tests.archive.cases import ArchiveCase
from tests.archive.test_media_away import Bus

DAY = 86400.0


class RetentionCase(ArchiveCase):
    async def filled(self, keep: int = 40, old: int = 1, **more: object) -> Archive:
        """Mail that stays, and mail that expires after a day."""
        archive = await self.fresh(**more)
        for n in range(keep):
            await self.put(archive, mail(f"Keep{n}"), received=NOW, retention_days=400)
        for n in range(old):
            await self.put(archive, mail(f"Old{n}"), received=NOW, retention_days=1)
        await archive.flush(seal=True)
        return archive

    async def steady(self, archive: Archive, last: float) -> None:
        """Retention has run every night until then, and had nothing to do."""
        assert await archive.mark(NOW + last * DAY) == 0


class TwoJobs(RetentionCase):
    async def test_marked_then_gone_a_day_later(self) -> None:
        """Catches expired mail that goes at once, never goes, is still found after it was marked, or leaves its pack or full text behind."""
        archive = await self.filled()
        packs = len(self.packs())
        assert await self.night(archive, 2) == (1, 0)
        assert await self.total(archive, "old*") == 0
        assert await self.total(archive, "") == 40
        assert (await archive.figures()).marked == 1
        assert len(self.packs()) == packs
        assert await archive.verify(True) == ()
        assert await self.night(archive, 3) == (0, 1)
        assert await self.total(archive, "") == 40
        figures = await archive.figures()
        assert (figures.mails, figures.marked) == (40, 0)
        assert len([p for p in self.packs() if p.parent.parent.parent.name == "packs"]) == packs - 1
        assert await archive.verify(True) == ()

    async def test_a_locked_pack_waits_and_holds_up_no_other(self) -> None:
        """Catches one pack that its medium locks (rule 20), and that keeps all the others there; and nobody who is told until when."""
        bus = Bus()
        archive = await self.filled(bus=bus)
        await self.put(archive, mail("Older"), received=NOW, retention_days=40)
        await archive.flush(seal=True)
        await self.steady(archive, 0.5)
        medium, dead = archive.media.active, {}
        for path in self.packs():
            dead[path.parent.name] = str(path.relative_to(self.medium))
        locked, *_ = (dead[month] for month in sorted(dead))
        delete = medium.delete

        def refuse(name: str) -> None:
            if name == locked:
                raise MediumLocked(f"medium 1: {name} is locked until 2030-01-31")
            delete(name)

        medium.delete = refuse  # type: ignore[method-assign]
        await archive.confirm_purge()
        await self.night(archive, 42)
        await self.night(archive, 43)
        names = {str(path.relative_to(self.medium)) for path in self.packs()}
        assert locked in names
        assert len([one for one in dead.values() if one in names]) == len(dead) - 1
        assert any(f"{locked} is locked until 2030-01-31" in text for text in bus.alarms("archive-purge"))
        medium.delete = delete  # type: ignore[method-assign]
        await self.night(archive, 44)
        assert locked not in {str(path.relative_to(self.medium)) for path in self.packs()}

    async def test_marked_mail_can_still_be_read(self) -> None:
        """Catches mail that is lost to who knows it at the marking already, when it can still be undone."""
        archive = await self.filled()
        hit = await self.only(archive, "old*")
        await self.night(archive, 2)
        assert await archive.read(AUDITOR, hit.id) == mail("Old0")
        await self.night(archive, 3)
        with pytest.raises(KeyError):
            await archive.read(AUDITOR, hit.id)

    async def test_marks_last_across_a_restart(self) -> None:
        """Catches a mark that is forgotten, so that mail never goes where the service is restarted each night."""
        archive = await self.filled()
        await self.night(archive, 2)
        await archive.stop()
        again = await self.reopened()
        assert await self.total(again, "old*") == 0
        assert await self.night(again, 3) == (0, 1)

    async def test_not_before_a_day_has_passed(self) -> None:
        """Catches mail that is marked and goes in the same night, or whenever the purge runs once more."""
        archive = await self.filled()
        await self.night(archive, 2)
        for days in (2.2, 2.9):
            self.clock.now = NOW + days * DAY
            assert await archive.purge(self.clock.now) == 0

    async def test_unmarked_when_it_is_to_live_longer(self) -> None:
        """Catches mail that goes although it arrived again meanwhile, with more time, and mail that no search finds after that."""
        archive = await self.filled()
        await self.night(archive, 2)
        again = item(99, received=NOW + 2.5 * DAY, recipients=("carol@example.test",), retention_days=90)
        await archive.stage(again, BytesBody(mail("Old0")))
        await archive.flush(seal=True)
        assert await self.total(archive, "old*") == 1
        assert await self.night(archive, 3) == (0, 0)
        assert await self.total(archive, "old*") == 1
        assert await archive.verify(True) == ()

    async def test_unmarked_when_its_time_was_changed(self) -> None:
        """Catches a purge that goes by the mark alone: the retention may have been lengthened between the two jobs."""
        archive = await self.filled()
        await self.night(archive, 2)
        database = archive.index()
        await database.run(lambda cursor: cursor.execute("UPDATE mail SET expires = ?", (NOW + 500 * DAY,)).fetchall())
        assert await self.night(archive, 3) == (0, 0)
        assert await self.total(archive, "old*") == 1

    async def test_gone_stays_gone(self) -> None:
        """Catches purged mail that a rebuild brings back from a pack that somebody restored (rules 18, 23)."""
        archive = await self.filled()
        saved = {p: p.read_bytes() for p in self.packs()}
        for days in (2, 3.1):
            await self.night(archive, days)
        for path, data in saved.items():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        await archive.rebuild()
        assert await self.total(archive, "old*") == 0
        assert await self.total(archive, "") == 40


class Refusing(RetentionCase):
    async def test_too_much_at_once(self) -> None:
        """Catches retention that hides, or empties, an archive over a wrong retention or clock; and one that never does it once confirmed."""
        archive = await self.filled(keep=120, old=0)
        await self.steady(archive, 399)
        self.clock.now = NOW + 401 * DAY
        with pytest.raises(ArchiveError, match=r"120 of 120 mails would be marked .* more than 5%"):
            await archive.mark(self.clock.now)
        assert await self.total(archive, "") == 120
        await archive.confirm_purge()
        assert await self.night(archive, 402) == (120, 0)
        assert await self.night(archive, 403) == (0, 120)
        assert (await archive.figures()).mails == 0
        assert await archive.verify(True) == ()

    async def test_a_confirmation_is_used_up(self) -> None:
        """Catches one confirmation that lets everything through for ever."""
        archive = await self.filled(keep=150, old=120)
        await self.steady(archive, 0)
        await archive.confirm_purge()
        assert await self.night(archive, 2) == (120, 0)
        assert await self.night(archive, 3) == (0, 120)
        await self.steady(archive, 400)
        with pytest.raises(ArchiveError, match="150 of 150"):
            await self.night(archive, 402)

    async def test_marks_of_many_days_do_not_go_together(self) -> None:
        """Catches purges that were refused or missed for days and then take more at once than anybody confirmed."""
        settings = ArchiveSettings(retention=RetentionSettings(floor=3))
        archive = await self.filled(keep=60, old=0, settings=settings)
        for n in range(6):
            await self.put(archive, mail(f"Old{n}"), received=NOW, retention_days=n // 3 + 1)
        await archive.flush(seal=True)
        for days in (1.5, 2.5):
            assert await archive.mark(NOW + days * DAY) == 3
        self.clock.now = NOW + 4 * DAY
        with pytest.raises(ArchiveError, match="6 of 66 mails would go at once"):
            await archive.purge(self.clock.now)
        await archive.confirm_purge()
        assert await archive.purge(self.clock.now) == 6

    async def test_small_archive_never_asks_from_day_to_day(self) -> None:
        """Catches a small practice that must confirm every single night, because one mail is more than five per cent of ten."""
        archive = await self.fresh()
        for n in range(12):
            await self.put(archive, mail(f"Day{n}"), received=NOW, retention_days=n + 2)
        await archive.flush(seal=True)
        went = [await self.night(archive, n + 0.5) for n in range(20)]
        assert sum(marked for marked, _ in went) == sum(gone for _, gone in went) == 12
        assert max(went) == (1, 1)

    async def test_small_archive_and_a_clock_years_ahead(self) -> None:
        """Catches the floor taking a small archive whole when the machine came up with a wrong clock: nothing else speaks against it."""
        archive = await self.filled(keep=12, old=0)
        await self.steady(archive, 1)
        await archive.stop()
        self.clock.now = NOW + 3000 * DAY
        again = await self.reopened()
        for _ in range(3):
            with pytest.raises(ArchiveError, match="retention has not run for days"):
                await again.mark(self.clock.now)
            self.clock.now += DAY
        assert await self.total(again, "") == 12
        await again.stop()
        self.clock.now = NOW + 2 * DAY
        back = await self.reopened()
        assert await back.mark(self.clock.now) == 0

    async def test_marked_by_a_clock_that_was_ahead(self) -> None:
        """Catches marks from the future that stay, hidden and never due, after the clock was put right."""
        archive = await self.filled()
        await archive.confirm_purge()
        assert await archive.mark(NOW + 5 * DAY) == 1
        self.clock.now = NOW + 2 * DAY
        with pytest.raises(ArchiveError, match="behind"):
            await archive.mark(self.clock.now)
        await archive.confirm_purge()
        assert await self.night(archive, 2.1) == (1, 0)
        assert await self.night(archive, 3.2) == (0, 1)

    async def test_a_clock_that_jumped(self) -> None:
        """Catches either job believing a clock set wrong, and a confirmation that must be repeated every night until the next restart."""
        archive = await self.filled()
        await self.steady(archive, 0)
        self.clock.now = NOW + 2 * DAY
        self.clock.skew = 2 * 3600.0
        for job in (archive.mark, archive.purge):
            with pytest.raises(ArchiveError, match="clock moved by 7200 s"):
                await job(self.clock.seconds())
        await archive.confirm_purge()
        assert await self.night(archive, 2.2) == (1, 0)
        assert await self.night(archive, 3.3) == (0, 1)

    async def test_a_clock_that_is_behind(self) -> None:
        """Catches a clock behind the newest mail, and a purge that stays off although somebody confirmed that the mail was in the future."""
        archive = await self.filled()
        for job in (archive.mark, archive.purge):
            with pytest.raises(ArchiveError, match="behind"):
                await job(NOW - DAY)
        self.clock.now = NOW - DAY
        await archive.confirm_purge()
        assert await archive.mark(self.clock.now + 60) == 0
        await self.put(archive, mail("Newer"), received=NOW + DAY)
        await archive.flush(seal=True)
        with pytest.raises(ArchiveError, match="behind"):
            await archive.mark(self.clock.now + 120)

    async def test_off_after_a_rebuild(self) -> None:
        """Catches retention after a rebuild that nobody has looked at (rule 18)."""
        archive = await self.filled()
        await archive.rebuild()
        for job in (archive.mark, archive.purge):
            with pytest.raises(ArchiveError, match="rebuild"):
                await job(NOW + 60)
        await archive.confirm_purge()
        assert await self.night(archive, 2) == (1, 0)

    async def test_what_the_administrator_sets(self) -> None:
        """Catches settings without effect."""
        strict = msgspec.structs.replace(ArchiveSettings(), retention=RetentionSettings(share=0.0, floor=0))
        archive = await self.filled(settings=strict)
        await self.steady(archive, 0)
        with pytest.raises(ArchiveError, match="1 of 41"):
            await self.night(archive, 2)


class Calendar(RetentionCase):
    async def test_nights_in_which_the_clocks_change_and_leap_days(self) -> None:
        """A57, A58, rule 19: catches mail that goes an hour or a day early, or lies there for a night too long, around the nights in which the clocks change and around 29 February:
        both jobs run when their schedules say so in Berlin."""
        zone = ZoneInfo("Europe/Berlin")
        marking, purging = parse_schedule("30 2 * * *"), parse_schedule("40 3 * * *")
        for number, (year, month, day, keep) in enumerate(
            (
                (2026, 10, 22, 1),
                (2026, 10, 23, 2),
                (2027, 3, 25, 1),
                (2027, 3, 27, 1),
                (2028, 2, 27, 1),
                (2028, 2, 28, 1),
                (2028, 2, 29, 365),
            )
        ):
            begun = datetime(year, month, day, 2, 29, 59, tzinfo=zone).timestamp()
            top, self.top = self.top, self.top / f"case{number}"
            self.top.mkdir()
            self.clock.now = begun
            archive = await self.fresh(settings=ArchiveSettings(retention=RetentionSettings(share=1.0)))
            for hour in range(0, 48, 3):
                await self.put(archive, mail(f"Mail{hour}"), received=begun - hour * 3600.0, retention_days=keep)
            await archive.flush(seal=True)
            expires = dict(await archive.index().read(_expiries))
            assert expires == {f"Mail{hour}": begun - hour * 3600.0 + keep * DAY for hour in range(0, 48, 3)}, (
                "days have 24 hours"
            )
            self.clock.now = min(expires.values()) - DAY / 2
            await archive.confirm_purge()
            marked: dict[str, float] = {}
            runs = 0
            while expires:
                mark_at, purge_at = (one.after(self.clock.now, zone) for one in (marking, purging))
                self.clock.now = min(mark_at, purge_at)
                there = expires.keys() & (await archive.index().read(_expiries)).keys()
                if mark_at <= purge_at:
                    await archive.mark(self.clock.now)
                    due = {one for one in there if expires[one] < self.clock.now} - marked.keys()
                    marked |= dict.fromkeys(due, self.clock.now)
                    assert (await archive.figures()).marked == len(marked.keys() & there)
                else:
                    await archive.purge(self.clock.now)
                    left = (await archive.index().read(_expiries)).keys()
                    went = {one for one in there if one not in left}
                    assert went == {one for one in there if self.clock.now - marked.get(one, self.clock.now) >= DAY}
                    for one in went:
                        assert self.clock.now - expires.pop(one) < 3.2 * DAY, "not a night too long"
                runs += 1
                assert runs < 20
            await archive.stop()
            self.top = top


def _expiries(cursor: Any) -> dict[str, float]:
    return {str(subject): float(expires) for subject, expires in cursor.execute("SELECT subject, expires FROM mail").fetchall()}
