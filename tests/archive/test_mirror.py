"""The mirror of all media (A32, A55, A56, rule 23), and repair from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.backup import Halted
from hornetmail.archive.care.copies.follower import NAME, follower_at
from hornetmail.archive.care.copies.mirror import Mirror, Mirrored, Sources, take_mirror
from hornetmail.archive.care.copies.repair import Repair
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import MediumError, PlaceTrouble
from hornetmail.archive.media.roster import Media
from hornetmail.core.archive.archived import ArchiveError, Finding, MediumRefused
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.testing.archives import FOLLOWER, NOW, directory_medium, mail, make_archive
from tests.archive.test_backup import BackupCase, offload

DAY = 86400.0


def test_the_mark_of_an_installation(tmp_path: Path) -> None:
    """Catches a mark that is another one after a restart, so that nobody follows; one that two installations share; and a damaged one that is believed, or replaced without a word."""
    mark = follower_at(tmp_path, Disk())
    assert follower_at(tmp_path, Disk()) == mark
    (tmp_path / "other").mkdir()
    assert follower_at(tmp_path / "other", Disk()) != mark
    for wrong in (b"", b"\xff", mark.upper().encode() + b"0", mark[:-1].encode()):
        (tmp_path / NAME).write_bytes(wrong)
        with pytest.raises(ArchiveError, match=r"mirror-follower is damaged: remove it, and set the mirror again"):
            follower_at(tmp_path, Disk())


class MirrorCase(BackupCase):
    """Two media and a mirror."""

    async def begin(self, **more: Any) -> Archive:
        media = [directory_medium(number, self.top / name) for number, name in ((1, "medium"), (2, "second"))]
        archive = await super().begin(media=Media(media, 1), **more)
        media[1].claim(archive.keys.current().archive)
        archive.keys.publish(media[1])
        self.sources = Sources(archive.media, archive.keys, archive.index, offload)
        self.mirror = Mirror(self.sources)
        self.target = take_mirror(DirectoryPlace(self.top / "mirror", Disk()), archive.keys.current().archive, FOLLOWER)
        return archive

    async def follow(self, now: float = NOW) -> Mirrored:
        return await self.mirror.run(self.target, now)

    async def repair(self, full: bool) -> Sequence[Finding]:
        return await Repair(self.sources, self.target, full).run()

    async def fill(self, archive: Archive, *words: str, **more: Any) -> None:
        for word in words:
            await self.put(archive, mail(word, f"{word} " * 50), **more)
        await archive.flush(seal=True)

    def lies(self, top: str) -> dict[str, bytes]:
        base = self.top / top
        names = {p.relative_to(base).as_posix(): p for p in base.rglob("*") if p.is_file()}
        return {name: path.read_bytes() for name, path in names.items() if name != "medium"}


class MirrorTest(MirrorCase):
    async def test_all_media_united(self) -> None:
        """A32: catches a mirror that lacks a medium, the wrapped keys, leaves or backups, and one that copies all anew each hour."""
        archive = await self.begin()
        await self.fill(archive, "one")
        archive.media.change([archive.media.any(1), archive.media.any(2)], 2, frozenset(), {})
        await self.fill(archive, "two")
        await self.backups.make(NOW, full=True)
        done = await self.follow()
        assert done.copied
        expected = {**self.lies("medium"), **self.lies("second")}
        assert self.lies("mirror") == expected
        assert {name.partition("/")[0] for name in expected} == {"packs", "leaves", "backup", "keyring"}
        again = await self.follow()
        assert (again.copied, again.bytes, again.deleted) == (0, 0, 0)
        await self.fill(archive, "three")
        assert 0 < (await self.follow()).copied <= 3

    async def test_deletions_are_followed(self) -> None:
        """Rule 23: catches deleted mail that lies in the mirror for good."""
        archive = await self.begin()
        await self.fill(archive, "short", retention_days=30)
        await self.fill(archive, "long", retention_days=4000)
        await self.follow()
        before = self.lies("mirror")
        assert sum(name.endswith(".pack") for name in before) == 2
        await archive.confirm_purge()
        assert (await self.night(archive, 31.0))[0] == 1
        assert (await self.night(archive, 33.0))[1] == 1
        done = await self.follow(NOW + 33 * DAY)
        assert done.deleted == 1
        assert {name for name in self.lies("mirror") if name.startswith("packs/")} == {
            name for name in self.lies("medium") if name.startswith("packs/")
        }

    async def test_damage_is_not_followed_and_repaired(self) -> None:
        """Catches a mirror that deletes the last good copy of what a disk lost; and a pack that stays lost, or damaged, though the mirror has it."""
        archive = await self.begin()
        await self.fill(archive, "one")
        await self.fill(archive, "two")
        await self.follow()
        lost, flipped = self.packs()
        original = lost.read_bytes(), flipped.read_bytes()
        lost.unlink()
        flipped.write_bytes(original[1][:100] + bytes([original[1][100] ^ 1]) + original[1][101:])
        await self.follow(NOW + 60)
        assert len([name for name in self.lies("mirror") if name.startswith("packs/")]) == 2
        assert await archive.verify(full=True)
        (quick,) = await self.repair(False)
        assert quick.mended
        assert lost.name in quick.where
        (full,) = await self.repair(True)
        assert full.mended
        assert flipped.name in full.where
        assert (lost.read_bytes(), flipped.read_bytes()) == original
        assert not await archive.verify(full=True)

    async def test_no_cut_off_object_takes_the_place_of_a_whole_one(self) -> None:
        """Catches a mirror that loses the last good copy of packs, leaves, stamps, backups and wrapped keys because the medium's were cut off or damaged,
        and says nothing; and one that does not take up a medium's whole copy in place of its own damaged one."""
        archive = await self.begin()
        await self.fill(archive, "one", "two")
        await self.backups.make(NOW, full=True)
        await self.follow()
        before, medium = self.lies("mirror"), self.lies("medium")
        assert {name.partition("/")[0] for name in before} == {"packs", "leaves", "backup", "keyring"}
        for name, data in medium.items():
            (self.medium / name).write_bytes(data[:-10])
            with pytest.raises(ArchiveError, match=f"left in the mirror as they were: medium 1: {name}:"):
                await self.follow(NOW + 60)
            assert self.lies("mirror") == before
            (self.medium / name).write_bytes(data)
            (self.top / "mirror" / name).write_bytes(data[:-10])
            assert (await self.follow(NOW + 60)).copied == 1
            assert self.lies("mirror") == before

    async def test_runs_that_were_merged_leave_the_mirror(self) -> None:
        """Catches a mirror that keeps an object for each segment of ten years; and one that drops them though the longer run is damaged there."""
        archive = await self.begin()
        for word in ("one", "two", "three", "four"):
            await self.fill(archive, word)
        await self.follow()
        await archive.merge(NOW)
        merged = {name: data for name, data in self.lies("medium").items() if name.startswith("leaves/")}
        assert len(merged) == 1
        (longer,) = merged
        copy, whole = self.top / "mirror" / longer, merged[longer]
        copy.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
        await self.follow(NOW + 60)
        assert len([name for name in self.lies("mirror") if name.startswith("leaves/")]) == 4
        copy.write_bytes(whole)
        await self.follow(NOW + 120)
        assert {name: data for name, data in self.lies("mirror").items() if name.startswith("leaves/")} == merged

    async def test_a_damaged_mirror_mends_nothing(self) -> None:
        """Catches a repair that puts one damaged pack in place of another."""
        archive = await self.begin()
        await self.fill(archive, "one")
        await self.follow()
        (pack,) = self.packs()
        (copy,) = (self.top / "mirror" / "packs").rglob("*.pack")
        copy.write_bytes(copy.read_bytes()[:-1] + b"x")
        pack.unlink()
        (found,) = await self.repair(True)
        assert not found.mended
        assert not pack.exists()

    async def test_after_a_rebuild_nothing_is_deleted_until_confirmed(self) -> None:
        """Rule 18: a rebuild does not know a pack that a disk lost; catches the mirror that takes it for deleted."""
        archive = await self.begin()
        await self.fill(archive, "one")
        await self.fill(archive, "two")
        await self.follow()
        self.packs()[0].unlink()
        await archive.rebuild()
        assert (await self.follow(NOW + 60)).deleted == 0
        assert len([name for name in self.lies("mirror") if name.startswith("packs/")]) == 2

    async def test_a_medium_that_is_away(self) -> None:
        """Catches deletions because a medium is not mounted, a failure that is not told, and new mail on other media that waits for it."""
        archive = await self.begin()
        await self.fill(archive, "one")
        archive.media.change([archive.media.any(1), archive.media.any(2)], 2, frozenset(), {})
        await self.follow()
        count = len(self.lies("mirror"))
        (self.top / "medium").rename(self.top / "aside")
        (self.top / "medium").mkdir()
        await self.fill(archive, "two")
        with pytest.raises(ArchiveError, match="medium 1"):
            await self.follow()
        assert len(self.lies("mirror")) > count

    async def test_an_unmounted_mirror_is_no_empty_one(self) -> None:
        """Catches a mirror that fills the disk below its mount point; another archive's mirror, and a medium, that are taken for ours."""
        archive = await self.begin()
        await self.fill(archive, "one")
        await self.follow()
        (self.top / "mirror").rename(self.top / "aside")
        (self.top / "mirror").mkdir()
        with pytest.raises(MediumError, match="out of reach"):
            await self.follow()
        assert not list((self.top / "mirror").iterdir())
        with pytest.raises(MediumRefused, match="medium 2"):
            take_mirror(DirectoryPlace(self.top / "second", Disk()), archive.keys.current().archive, FOLLOWER)
        with pytest.raises((MediumError, PlaceTrouble), match="another archive"):
            take_mirror(DirectoryPlace(self.top / "aside", Disk()), bytes(16), FOLLOWER)

    async def test_cut_off_at_each_object(self) -> None:
        """Catches a mirror that begins anew after each cut, or that holds half an object: it fails at its n-th write, for each n, and goes on."""
        archive = await self.begin()
        for word in ("one", "two", "three"):
            await self.fill(archive, word)
        await self.backups.make(NOW, full=True)
        target: Any = self.target
        put, rounds = target.put, 0
        while True:
            writes = 0

            def failing(name: str, data: bytes) -> None:
                nonlocal writes
                writes += 1
                if writes == 2:
                    raise MediumError("the line went")
                put(name, data)

            target.put = failing
            rounds += 1
            try:
                await self.follow()
                break
            except MediumError:
                continue
            finally:
                target.put = put
        assert rounds >= 6, "one object a round"
        assert self.lies("mirror") == {**self.lies("second"), **self.lies("medium")}

    async def test_a_full_mirror(self) -> None:
        """Catches a mirror without room in which nothing is deleted any more, so that it stays full for good; one whose room goes to backups and not to mail; and one that deletes packs whose
        records lie in a merged pack for which it had no room."""
        archive = await self.begin()
        for word in ("one", "two"):
            await self.fill(archive, word)
        for day in range(3):
            await self.backups.make(NOW + day * DAY, full=True)
        await self.follow(NOW + 3 * DAY)
        for day in range(400, 403):
            await self.backups.make(NOW + day * DAY, full=True)
        target: Any = self.target
        put = target.put

        def full(name: str, data: bytes) -> None:
            if name.startswith(no_room):
                raise DiskFull(28, "the mirror is full (somewhere)")
            put(name, data)

        self.patch(target, "put", full)
        no_room = ("packs/", "leaves/")
        await self.fill(archive, "three")
        assert (await archive.merge(NOW)).packs
        before = self.lies("mirror")
        with pytest.raises(ArchiveError, match=r"the mirror is full \(somewhere\): the rest is not copied"):
            await self.follow(NOW + 403 * DAY)
        after = self.lies("mirror")
        assert {name for name in before if name.startswith("packs/")} == {name for name in after if name.startswith("packs/")}
        no_room = ("backup/",)
        with pytest.raises(ArchiveError, match="the mirror is full"):
            await self.follow(NOW + 403 * DAY)
        assert {name for name in self.lies("mirror") if name.startswith("packs/")} == {
            name for name in self.lies("medium") if name.startswith("packs/")
        }
        no_room = ("nothing",)
        for _ in range(2):
            await self.follow(NOW + 403 * DAY)
        assert self.lies("mirror") == self.lies("medium")

    async def test_what_fits_is_taken(self) -> None:
        """Catches one pack that is too large for the room that is left, and keeps all others behind it out of the mirror."""
        archive = await self.begin()
        for days in range(30, 300, 40):
            large = days % 80 == 30
            await self.put(archive, mail(f"Mail{days}", os.urandom(20_000).hex() if large else "short"), retention_days=days)
            await archive.flush(seal=True)
        put = self.target.put

        def full(name: str, data: bytes | memoryview) -> None:
            if len(data) > 10_000:
                raise DiskFull(28, "the mirror is full (somewhere)")
            put(name, data)

        self.patch(self.target, "put", full)
        with pytest.raises(ArchiveError, match="the mirror is full"):
            await self.follow()
        sizes = {name: len(data) for name, data in self.lies("medium").items()}
        assert any(size > 10_000 for size in sizes.values())
        assert set(self.lies("mirror")) == {name for name, size in sizes.items() if size <= 10_000}

    async def test_halted(self) -> None:
        """Catches a service that cannot stop while terabytes are copied."""
        archive = await self.begin()
        await self.fill(archive, "one")
        self.mirror.halt()
        with pytest.raises(Halted):
            await self.follow()

    async def test_a_mirror_is_enough(self) -> None:
        """L3: catches a mirror from which the archive does not come back: media and index lost, all packs taken from it."""
        archive = await self.begin()
        await self.fill(archive, "one", "two")
        await self.follow()
        await archive.stop()
        self.wipe_local()
        shutil.rmtree(self.medium)
        copy = self.top / "mirror"
        identity = Path(copy / "medium").read_text()
        copy.rename(self.medium)
        (self.medium / "medium").write_text(identity.replace('"medium":0', '"medium":1'))

        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        await again.rebuild()
        assert await self.total(again, "one") == 1
        assert await self.total(again, "two") == 1
