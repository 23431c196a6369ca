"""Packs merged at night (rules 21, 23)."""

from __future__ import annotations

import errno
import os
import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.archive.archive import Archive, ArchiveSettings
from hornetmail.archive.care.packs.merging import MergeSettings, plan_group
from hornetmail.archive.care.packs.runs import merge_runs
from hornetmail.archive.media.medium import MediumLocked
from hornetmail.archive.proof.stampsheets import SHEET
from hornetmail.archive.store.packs import month_of
from hornetmail.archive.store.shelf import PackRow, pack_rows
from hornetmail.testing.archives import AUDITOR, NOW, mail, make_archive
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.archive.cases import ArchiveCase, told
from tests.archive.test_recovery import contents

DAY = 86400.0
MIB = 1 << 20


class _Died(Exception):
    """The process died here."""


def attachment(subject: str, data: bytes) -> bytes:
    """A mail with an attachment that is large enough to be shared."""
    body = b"\r\n".join(data.hex().encode()[i : i + 76] for i in range(0, 2 * len(data), 76))
    head = (
        f"From: a@example.test\r\nTo: b@example.test\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nwords\r\n--x\r\n'
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + body + b"\r\n--x--\r\n"


class MergingCase(ArchiveCase):
    async def filled(self, packs: int = 5, **more: Any) -> Archive:
        """An archive with as many packs of one month, an attachment that two of them share, and a mail that came twice."""
        archive = await self.fresh(**more)
        shared = os.urandom(40_000)
        for n in range(packs):
            await self.put(archive, mail(f"Mail{n}", f"common word{n}"))
            if n < 2:
                await self.put(archive, attachment(f"Shared{n}", shared))
            if n in (1, 3):
                await self.put(archive, mail("Twice"), recipients=(f"r{n}@example.test",))
            await archive.flush(seal=True)
        return archive

    async def whole(self, archive: Archive) -> None:
        """Every mail can be read, and verify finds nothing."""
        for hit in (await archive.search(AUDITOR, "", limit=500)).results:
            await archive.read(AUDITOR, hit.id)
        assert await archive.verify(True) == ()

    async def rows(self, archive: Archive) -> Sequence[PackRow]:
        database = archive.index()
        return await database.read(pack_rows)


class Merging(MergingCase):
    async def test_many_become_one(self) -> None:
        """Catches packs that stay many, records that are lost, doubled or changed on the way, and facts and parts that are left behind."""
        archive = await self.filled()
        before = await contents(archive)
        merged = await archive.merge(NOW)
        assert (merged.sources, merged.packs, merged.dropped, merged.damaged) == (5, 1, 0, ())
        assert len(self.packs()) == 1
        assert await contents(archive) == before
        await self.whole(archive)
        assert await archive.rebuild() == ()
        assert await contents(archive) == before
        await self.whole(archive)

    async def test_a_second_night_does_nothing(self) -> None:
        """Catches a medium that is rewritten each night although nothing is new."""
        archive = await self.filled()
        await archive.merge(NOW)
        (path,) = self.packs()
        before = path.stat().st_mtime_ns
        merged = await archive.merge(NOW + DAY)
        assert (merged.sources, merged.packs) == (0, 0)
        assert path.stat().st_mtime_ns == before

    async def test_months_and_tenants_stay_apart(self) -> None:
        """Catches a pack in which mail of another tenant or month keeps others' alive, or goes with it."""
        archive = await self.fresh()
        for n in range(3):
            for tenant in (1, 2):
                for days in (90, 400):
                    await self.put(archive, mail(f"m{n} {days}"), tenant=tenant, retention_days=days)
            await archive.flush(seal=True)
        merged = await archive.merge(NOW)
        assert (merged.sources, merged.packs) == (12, 4)
        assert len({path.parent for path in self.packs()}) == len(self.packs()) == 4
        await self.whole(archive)

    async def test_bounded(self) -> None:
        """Catches packs that grow for ever."""
        settings = ArchiveSettings(merging=MergeSettings(limit=100_000))
        archive = await self.fresh(settings=settings)
        for n in range(12):
            await self.put(archive, mail(f"m{n}", os.urandom(12_000).hex()))
            await archive.flush(seal=True)
        await archive.merge(NOW)
        sizes = [path.stat().st_size for path in self.packs()]
        assert 2 <= len(sizes) <= 4
        assert max(sizes) <= 100_000
        await self.whole(archive)

    async def test_memory_is_flat(self) -> None:
        """Catches a merging that holds whole packs in memory."""
        archive = await self.fresh()
        for _ in range(6):
            await self.put(archive, os.urandom(6 * MIB))
            await archive.flush(seal=True)
        tracemalloc.start()
        try:
            merged = await archive.merge(NOW)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert merged.packs == 1
        assert most < 24 * MIB, most

    async def test_the_journal_too(self) -> None:
        """Catches a journal that gets an object a night for good, or loses what was deleted when it is merged."""
        archive = await self.fresh()
        for n in range(3):
            await self.put(archive, mail(f"Old{n}"), retention_days=n + 1)
        await self.put(archive, mail("Keep"), retention_days=400)
        await archive.flush(seal=True)
        saved = {path: path.read_bytes() for path in self.packs()}
        await archive.confirm_purge()
        for n in range(5):
            await self.night(archive, n + 1.5)
        assert len([p for p in self.packs() if "journal" in p.parts]) == 3
        await archive.merge(NOW + 6 * DAY)
        assert len([p for p in self.packs() if "journal" in p.parts]) == 1
        for path, data in saved.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert await archive.rebuild() == ()
        assert await self.total(archive, "") == 1


class Crashes(MergingCase):
    timeout = 900
    """Seconds: two dozen archives are made one after the other, which took longer than trial's 120 on a machine that others keep busy."""

    async def test_death_at_each_step(self) -> None:
        """Catches mail lost, doubled or left behind when the process dies between two steps, with and without a rebuild after it."""
        for rebuild in (False, True):
            step = 0
            while not await self._died(step, rebuild):
                step += 1
            assert step > 8

    async def _died(self, step: int, rebuild: bool) -> bool:
        """A merging that dies before its step of that number; True if it has no more steps."""
        self.setUp()
        archive = await self.filled(4)
        before = await contents(archive)
        calls = 0

        def watched(call: Any) -> Any:
            def wrapped(*args: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > step:
                    raise _Died
                return call(*args, **more)

            return wrapped

        medium, database = archive.media.active, archive.index()
        for target, name in ((medium, "put"), (medium, "delete"), (database, "run")):
            setattr(target, name, watched(getattr(target, name)))
        try:
            await archive.merge(NOW)
            survived = True
        except _Died:
            survived = False
        for target, name in ((medium, "put"), (medium, "delete"), (database, "run")):
            delattr(target, name)
        await archive.stop()
        again = await self.reopened()
        assert await contents(again) == before, step
        await self.whole(again)
        if rebuild:
            assert await again.rebuild() == (), step
            assert await contents(again) == before, step
            await self.whole(again)
        await again.merge(NOW + DAY)
        assert await contents(again) == before, step
        assert len(self.packs()) == 1, step
        await self.whole(again)
        await again.stop()
        return survived

    async def _put_and_not_entered(self, archive: Archive) -> tuple[Path, bytes]:
        """A merging that ends between the medium and the index; what it put."""
        old = set(self.packs())
        database = archive.index()
        run = database.run

        async def fail(fn: Any, *args: Any) -> Any:
            if fn.__name__ == "enter_pack":
                raise _Died
            return await run(fn, *args)

        database.run = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(_Died):
            await archive.merge(NOW)
        del database.run
        (new,) = set(self.packs()) - old
        return new, new.read_bytes()

    async def test_a_pack_that_was_put_and_not_entered_stays_as_it_is(self) -> None:
        """Catches a second pack of the same name with other bytes: a mirror or a backup may have the first."""
        archive = await self.filled(4)
        before = await contents(archive)
        new, data = await self._put_and_not_entered(archive)
        merged = await archive.merge(NOW + DAY)
        assert (merged.sources, merged.packs, merged.damaged) == (4, 1, ())
        assert self.packs() == [new]
        assert new.read_bytes() == data
        assert await contents(archive) == before
        await self.whole(archive)

    async def test_a_pack_that_was_put_torn_is_written_anew(self) -> None:
        """Catches bytes that are believed because of their name."""
        for tear in (
            lambda d: d[:-100],
            lambda d: d[:200] + bytes([d[200] ^ 1]) + d[201:],
            lambda d: d[:-1] + b"!",
            lambda d: b"",
        ):
            self.setUp()
            archive = await self.filled(4)
            before = await contents(archive)
            new, data = await self._put_and_not_entered(archive)
            new.write_bytes(tear(data))
            await archive.merge(NOW + DAY)
            assert self.packs() == [new]
            assert len(new.read_bytes()) == len(data)
            assert await contents(archive) == before
            await self.whole(archive)
            await archive.stop()

    async def test_a_pack_that_was_put_with_what_went_since_is_removed(self) -> None:
        """Catches a deleted mail that comes back, or stays on the medium, with a merging that is taken up again (rule 23)."""
        archive = await self.filled(4)
        new, _ = await self._put_and_not_entered(archive)
        (gone,) = (await archive.search(AUDITOR, "word2", limit=5)).results
        await archive.keeping.delete(1, [gone.id], "ann@example.test", "asked for")
        await archive.merge(NOW + DAY)
        assert not new.exists()
        assert (await archive.search(AUDITOR, "word2", limit=5)).results == ()
        await self.whole(archive)

    async def test_a_pack_that_was_put_outlasts_its_damaged_source(self) -> None:
        """Catches the last whole copy of a mail that is removed although its source cannot be read any more."""
        archive = await self.filled(4)
        sources = set(self.packs())
        new, data = await self._put_and_not_entered(archive)
        bad = min(sources)
        bad.write_bytes(bad.read_bytes()[:-50])
        merged = await archive.merge(NOW + DAY)
        assert any(bad.name in one for one in merged.damaged)
        assert new.read_bytes() == data

    async def test_a_new_pack_that_is_damaged_before_its_sources_are_gone(self) -> None:
        """Catches a merging that goes on with a pack which did not survive the crash, while its sources are still there."""
        archive = await self.filled(3)
        database = archive.index()
        run = database.run
        moved = 0

        async def die(fn: Any, *args: Any) -> Any:
            nonlocal moved
            if fn.__name__ == "replaced":
                raise _Died
            moved += fn.__name__ == "move"
            return await run(fn, *args)

        database.run = die  # type: ignore[method-assign,assignment]
        with pytest.raises(_Died):
            await archive.merge(NOW)
        del database.run
        assert moved
        new = max(self.packs(), key=lambda p: p.stat().st_size)
        data = bytearray(new.read_bytes())
        data[100] ^= 1
        new.write_bytes(data)
        merged = await archive.merge(NOW + DAY)
        assert any(new.name in one for one in merged.damaged)
        assert len(self.packs()) == 1
        await self.whole(archive)


class Damage(MergingCase):
    async def test_a_damaged_source_is_named_and_left_alone(self) -> None:
        """Catches damage that merging carries into a new pack under a fresh checksum, or that keeps all others from being merged."""
        archive = await self.filled()
        path = self.packs()[2]
        data = bytearray(path.read_bytes())
        data[120] ^= 1
        path.write_bytes(data)
        merged = await archive.merge(NOW)
        assert len(merged.damaged) == 1
        assert path.name in merged.damaged[0]
        assert (merged.sources, merged.packs) == (4, 1)
        assert len(self.packs()) == 2
        assert path.read_bytes() == data
        assert told(await archive.verify(True), path.name)

    async def test_a_cut_or_missing_source(self) -> None:
        """Catches a merging that stops, or drops records, over a pack without its end, or without anything."""
        archive = await self.filled()
        cut, missing = self.packs()[1:3]
        cut.write_bytes(cut.read_bytes()[:-60])
        missing.unlink()
        merged = await archive.merge(NOW)
        assert len(merged.damaged) == 2
        assert (merged.sources, merged.packs) == (3, 1)
        assert told(await archive.verify(True), missing.name, "missing")

    async def test_full_disk(self) -> None:
        """Catches a merging that loses its sources, or never goes on, after the disk was full."""
        disk = FaultyDisk()
        archive = await self.filled(disk=disk)
        before = await contents(archive)
        disk.fail("write", errno.ENOSPC, after=3)
        merged = await archive.merge(NOW)
        assert 1 <= len(merged.away) <= 2
        assert merged.packs == 0
        disk.heal()
        await self.whole(archive)
        assert (await archive.merge(NOW + DAY)).packs == 1
        assert await contents(archive) == before
        await self.whole(archive)

    async def test_medium_out_of_reach(self) -> None:
        """Catches a merging that marks packs as merged which it could not write."""
        archive = await self.filled()
        self.medium.rename(self.top / "aside")
        merged = await archive.merge(NOW)
        assert merged.away
        assert (merged.packs, merged.damaged) == (0, ())
        (self.top / "aside").rename(self.medium)
        assert (await archive.merge(NOW)).packs == 1
        await self.whole(archive)

    async def test_a_locked_pack_waits_for_its_day(self) -> None:
        """Catches a pack that its medium locks (rule 20) told as damage, or one that keeps the others from going, or stays for good."""
        archive = await self.filled()
        before = await contents(archive)
        medium, locked = archive.media.active, str(self.packs()[0].relative_to(self.medium))
        delete = medium.delete

        def refuse(name: str) -> None:
            if name == locked:
                raise MediumLocked(f"medium 1: {name} is locked until 2030-01-31")
            delete(name)

        medium.delete = refuse  # type: ignore[method-assign]
        merged = await archive.merge(NOW)
        assert (merged.packs, merged.damaged, merged.away) == (1, (), ())
        assert merged.locked == (f"medium 1: {locked} is locked until 2030-01-31",)
        assert len(self.packs()) == 2
        assert await contents(archive) == before
        assert (await archive.merge(NOW + DAY)).locked
        medium.delete = delete  # type: ignore[method-assign]
        assert (await archive.merge(NOW + 2 * DAY)).locked == ()
        assert len(self.packs()) == 1
        await self.whole(archive)


def pack_of(number: int, size: int, made: float = NOW, **more: int) -> PackRow:
    """A pack as the index might have it."""
    row = PackRow(number, 1, number.to_bytes(16, "big"), 1, 203001, size, b"", 10, 0, made, made)
    return msgspec.structs.replace(row, **more)


class Runs(MergingCase):
    """Runs of leaves."""

    def runs(self) -> list[Path]:
        return sorted(self.medium.rglob("*.run"))

    async def test_many_become_one(self) -> None:
        """Catches a medium that gets an object a segment for good, and leaf numbers that are given twice, or lost, after a merging (rule 17)."""
        archive = await self.filled(6)
        root = archive.holdings.leaves.root()
        assert len(self.runs()) == 6
        await archive.merge(NOW)
        assert len(self.runs()) == 1
        await self.whole(archive)
        await self.put(archive, mail("Later"))
        await archive.flush(seal=True)
        assert len(self.runs()) == 2
        await archive.stop()
        self.wipe_local()
        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        assert again.holdings.leaves.size == 11
        assert again.holdings.leaves.root() != root
        assert await again.rebuild() == ()
        await self.whole(again)

    async def test_a_log_that_ends_within_a_merged_run(self) -> None:
        """Catches leaf numbers that are given twice because a local log from before, put back from a copy of the disk, ends within a merged run."""
        archive = await self.filled(3)
        await archive.stop()
        shutil.copytree(self.top / "archive" / "leaves", self.top / "old")
        archive = await self.reopened()
        for n in range(3):
            await self.put(archive, mail(f"Later{n}"))
            await archive.flush(seal=True)
        await archive.merge(NOW)
        size, root = archive.holdings.leaves.size, archive.holdings.leaves.root()
        await archive.stop()
        shutil.rmtree(self.top / "archive" / "leaves")
        shutil.copytree(self.top / "old", self.top / "archive" / "leaves")
        again = await self.reopened()
        assert (again.holdings.leaves.size, again.holdings.leaves.root()) == (size, root)

    async def test_bounded_damaged_and_overlapping(self) -> None:
        """Catches runs that grow for ever, one damaged run that ends the merging of all others or is believed, and what a crash left beside a merged run."""
        archive = await self.filled(6)
        medium = archive.media.active
        saved = {path: path.read_bytes() for path in self.runs()}
        broken = self.runs()[4]
        data = bytearray(broken.read_bytes())
        data[40] ^= 1
        broken.write_bytes(data)
        fewer, damaged = merge_runs(medium, 0, archive.holdings.leaves.size, most=5)
        assert [broken.name in one for one in damaged] == [True]
        broken.write_bytes(saved[broken])
        assert fewer + merge_runs(medium, 0, archive.holdings.leaves.size, most=5)[0] >= 3
        assert all(path.stat().st_size <= 56 + 5 * 32 for path in self.runs())
        await self.whole(archive)
        for path, content in saved.items():
            if not path.exists():
                path.write_bytes(content)
        await self.whole(archive)
        merge_runs(medium, 0, archive.holdings.leaves.size)
        assert len(self.runs()) == 1
        await self.whole(archive)


class Planning(TestCase):
    def test_rewriting_grows_with_the_logarithm(self) -> None:
        """Catches a policy that writes a growing pack anew each night: 256 MiB for the sake of one."""
        settings = MergeSettings(limit=256 * MIB)
        packs: list[PackRow] = []
        written = stored = 0
        most = 0
        for night in range(600):
            now = NOW + night * DAY
            packs.append(pack_of(10_000 + night, MIB, now))
            stored += MIB
            for plan in plan_group(packs, now, settings):
                packs = [pack for pack in packs if pack not in plan]
                size = sum(pack.size for pack in plan)
                written += size
                packs.append(pack_of(night, size, now))
            most = max(most, len([pack for pack in packs if pack.size <= 128 * MIB]))
        assert sum(pack.size for pack in packs) == stored
        assert written <= 8 * stored, written / stored
        assert most <= 9
        later = plan_group(packs, NOW + 700 * DAY, settings)
        assert len(later) <= 1

    def test_ten_years_of_a_million_mails(self) -> None:
        """Catches a layout whose objects grow with the age of the archive: a node that takes a million mails a year (40 KB each on the medium, 40 segments a
        working day), six in ten kept ten years, three one year, one 90 days, holds fewer than 5,000 objects at the end."""
        day_bytes = 40_000_000_000 // 365
        shares = ((3650, 6), (365, 3), (90, 1))
        settings = MergeSettings()
        groups: dict[int, list[PackRow]] = {}
        number = written = leaves = runs = 0
        for night in range(3650):
            now = NOW + night * DAY
            for days, share in shares:
                month = month_of(now + days * DAY)
                for _ in range(40):
                    number += 1
                    groups.setdefault(month, []).append(pack_of(number, day_bytes * share // 400, now, month=month))
            groups.setdefault(0, []).append(pack_of(number, 20_000, now, month=0))
            for month in [month for month in groups if month and month < month_of(now)]:
                del groups[month]
            for month, packs in groups.items():
                for plan in plan_group(packs, now, settings):
                    size = sum(pack.size for pack in plan)
                    written += size
                    number += 1
                    packs = [pack for pack in packs if pack not in plan]
                    packs.append(pack_of(number, size, now, month=month))
                groups[month] = packs
            leaves += 2740
            runs = leaves // 65_536 + 1
        stamps = 3650 // SHEET + 2 * SHEET
        objects = sum(map(len, groups.values())) + runs + stamps
        stored = sum(pack.size for packs in groups.values() for pack in packs)
        assert stored > 230 << 30
        assert objects < 5000, objects
        assert written < 5 * day_bytes * 3650, written / day_bytes / 3650

    def test_expiring_month_is_not_rewritten_each_night(self) -> None:
        """Catches a purge that makes each night rewrite the whole month that is expiring; what was asked for does not wait."""
        pack = pack_of(1, 200 * MIB, dead=5, month=202605)
        assert plan_group([pack], NOW, MergeSettings()) == []
        assert plan_group([msgspec.structs.replace(pack, soon=1)], NOW, MergeSettings())
        assert plan_group([pack], NOW + 10 * DAY, MergeSettings())
        assert plan_group([msgspec.structs.replace(pack, month=202701)], NOW, MergeSettings())
