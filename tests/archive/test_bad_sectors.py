"""Media of which single objects, or stretches of them, do not read: what is damaged is lost, and nothing beside it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.backup import newest_backup
from hornetmail.archive.care.copies.mirror import Mirror, Sources, take_mirror
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import IDENTITY, IVisit, Medium, MediumAway, MediumUnread, PlaceTrouble
from hornetmail.archive.media.readaround import MOST_FAILURES, SMALLEST, read_around
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.packs import open_pack
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import AUDITOR, FOLLOWER, NOW, directory_medium, mail, make_archive, user
from tests.archive.cases import ArchiveCase, told
from tests.archive.test_backup import BackupCase, offload

ARCHIVE = bytes(range(16))


class _Visit:
    """A visit of a place with bad sectors."""

    def __init__(self, there: Any, place: BadSectors) -> None:
        self._there = there
        self._place = place

    def get(self, name: str, start: int, length: int) -> bytes:
        self._place.reads += 1
        bad = self._place.bad.get(name)
        if bad and start < bad[1] and (length < 0 or start + length > bad[0]):
            raise PlaceTrouble("Input/output error")
        data: bytes = self._there.get(name, start, length)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._there, name)


class BadSectors(DirectoryPlace):
    """``bad``: by name the first byte that does not read, and the one behind the last."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Disk())
        self.bad: dict[str, tuple[int, int]] = {}
        self.reads = 0

    @contextlib.contextmanager
    def visit(self) -> Iterator[IVisit]:
        with super().visit() as there:
            yield _Visit(there, self)


class BadSectorCase(ArchiveCase):
    place: BadSectors

    async def filled(self, packs: int = 3, mails: int = 2, **more: Any) -> Archive:
        """A medium with so many packs of so many mails each."""
        self.place = BadSectors(self.medium)
        archive = await self.fresh(media=Media([Medium(1, self.place)], 1), **more)
        for pack in range(packs):
            for number in range(mails):
                await self.put(archive, mail(f"pack{pack} mail{number}", "Words. " * 50))
            await archive.flush(seal=True)
        return archive

    def names(self) -> list[str]:
        return [path.relative_to(self.medium).as_posix() for path in self.packs()]

    async def readable(self, archive: Archive) -> set[str]:
        found = set()
        for hit in (await archive.search(AUDITOR, "")).results:
            with contextlib.suppress(ArchiveError):
                assert hit.subject.encode() in await archive.read(AUDITOR, hit.id)
                found.add(hit.subject)
        return found


class Rebuilds(BadSectorCase):
    async def test_a_head_that_does_not_read(self) -> None:
        """L3: catches a bad sector at the beginning of one pack that makes all of the medium count as out of reach: a rebuild had none of its mails."""
        archive = await self.filled()
        self.place.bad[self.names()[0]] = (0, 10**6)
        found = await archive.rebuild()
        assert len(await self.readable(archive)) == 4
        assert told(found, self.names()[0], "does not read")
        assert not told(found, "out of reach")
        assert told(await archive.verify(full=True), self.names()[0])

    async def test_a_sector_among_many(self) -> None:
        """L3: catches a pack of many mails that is given up whole for one sector of it."""
        self.place = BadSectors(self.medium)
        archive = await self.fresh(media=Media([Medium(1, self.place)], 1))
        for number in range(6):
            noise = "".join(f"{(number * 7919 + at * 104729) % 1000003:x}\n" for at in range(20_000))
            await self.put(archive, mail(f"mail{number}", noise))
        await archive.flush(seal=True)
        member = open_pack(self.packs()[0].read_bytes(), archive.keys.current()).members[2]
        assert member.length > 4 * SMALLEST
        self.place.bad[self.names()[0]] = (member.offset + 2 * SMALLEST, member.offset + 2 * SMALLEST + 10)
        before = await self.readable(archive)
        assert len(before) == 5
        found = await archive.rebuild()
        assert await self.readable(archive) == before
        assert told(found, self.names()[0], "do not read")
        assert told(found, f"record {member.record.hex()}")

    async def test_keyring_that_does_not_read(self) -> None:
        """Catches a restore that ends at a keyring which does not read, though the one beside it, or that of another medium, does."""
        archive = await self.filled()
        second = directory_medium(2, self.top / "second")
        second.expect(archive.keys.current().archive)
        second.claim(archive.keys.current().archive)
        archive.keys.publish(second)
        await archive.stop()
        self.wipe_local()
        self.place.bad["keyring"] = (0, 10)
        archive = await self._restored(Media([Medium(1, self.place), second], 1))
        await archive.rebuild()
        assert len(await self.readable(archive)) == 6

    async def _restored(self, media: Media) -> Archive:
        archive = make_archive(self.clock, self.top, media=media)
        archive.restore()
        return await self.started(archive)


class GoesOn(BadSectorCase):
    async def test_mirror(self) -> None:
        """A32: catches a mirror that ends at the first object which does not read, night after night, and has nothing of what comes behind it."""
        archive = await self.filled()
        first = self.names()[0]
        self.place.bad[first] = (100, 101)
        target = take_mirror(DirectoryPlace(self.top / "mirror", Disk()), archive.keys.current().archive, FOLLOWER)
        mirror = Mirror(Sources(archive.media, archive.keys, archive.index, offload))
        with pytest.raises(ArchiveError, match=f"{first} does not read"):
            await mirror.run(target, NOW)
        there = {path.name for path in (self.top / "mirror").rglob("*.pack")}
        assert there == {Path(name).name for name in self.names()[1:]}
        self.place.bad.clear()
        await mirror.run(target, NOW)
        assert (self.top / "mirror" / first).exists()

    async def test_mirror_with_a_medium_that_goes_away(self) -> None:
        """A15, A32: catches a run that ends when one medium goes out of reach in the middle of it, before it has looked at the others; and one that follows deletions then."""
        archive = await self.filled()
        second = directory_medium(2, self.top / "second")
        second.expect(archive.keys.current().archive)
        second.claim(archive.keys.current().archive)
        archive.keys.publish(second)
        archive.media.change([archive.media.any(1), second], 2, frozenset(), {})
        await self.put(archive, mail("on the second"))
        await archive.flush(seal=True)
        target = take_mirror(DirectoryPlace(self.top / "mirror", Disk()), archive.keys.current().archive, FOLLOWER)
        target.put(self.names()[0].replace(Path(self.names()[0]).stem, "ab" * 16), b"gone from the media")
        mirror = Mirror(Sources(archive.media, archive.keys, archive.index, offload))
        listed: Any = archive.media.any(1).names

        def names_then_away(*more: Any) -> Any:
            found = listed(*more)
            self.medium.rename(self.top / "away")
            return found

        archive.media.any(1).names = names_then_away  # type: ignore[method-assign]
        with pytest.raises(ArchiveError, match="not all media could be read"):
            await mirror.run(target, NOW)
        there = {path.name for path in (self.top / "mirror").rglob("*.pack")}
        assert there == {path.name for path in (self.top / "second").rglob("*.pack")} | {"ab" * 16 + ".pack"}

    async def test_merging(self) -> None:
        """Rule 21: catches a medium on which nothing is merged any more, and nothing that was deleted goes, because one pack of it does not read."""
        archive = await self.filled(packs=4)
        before = self.names()
        self.place.bad[before[1]] = (0, 10**6)
        merged = await archive.merge(NOW + 40 * 86400.0)
        assert (merged.sources, merged.away) == (3, ())
        assert before[1] in str(merged.damaged)
        assert before[1] in self.names()
        assert len(self.names()) == 2


class Backups(BackupCase):
    async def test_a_manifest_that_does_not_read(self) -> None:
        """A29: catches increments that fail for good, and a restore without people and settings, because the newest manifest lies on a bad sector."""
        place = BadSectors(self.medium)
        archive = await self.begin(media=Media([Medium(1, place)], 1))
        await self.put(archive, mail("one"))
        first = await self.backups.make(NOW, full=True)
        second = await self.backups.make(NOW + 3600.0, full=True)
        place.bad[second.name.manifest] = (0, 1)
        flaws: list[str] = []
        found = newest_backup(archive.media.active, archive.keys.current(), flaws.append)
        assert found is not None
        assert found[0] == first.name
        assert "does not read" in flaws[0]
        third = await self.backups.make(NOW + 7200.0, full=False)
        assert third.name.full, "an increment cannot stand on what does not read"


class Reads(BadSectorCase):
    async def test_a_real_disk_error(self) -> None:
        """Catches one file that the disk cannot read taken for a medium that is away, and the other way round. The system's own error: this process's memory at 0 does not read."""
        medium = directory_medium(1, self.medium)
        medium.expect(ARCHIVE)
        medium.claim(ARCHIVE)
        medium.put("packs/sound.pack", b"sound")
        (self.medium / "packs" / "bad.pack").symlink_to("/proc/self/mem")
        with pytest.raises(MediumUnread, match=r"packs/bad.pack does not read: Input/output error"):
            medium.get("packs/bad.pack", 0, 10)
        assert medium.get("packs/sound.pack") == b"sound"
        (self.medium / IDENTITY).unlink()
        (self.medium / IDENTITY).symlink_to("/proc/self/mem")
        with pytest.raises(MediumAway, match="Input/output error"):
            medium.get("packs/sound.pack")

    async def test_around(self) -> None:
        """Catches bytes that are lost beside the sector, ones that come out as others, and a dead disk that is asked page by page for hours."""
        place = BadSectors(self.medium)
        medium = Medium(1, place)
        medium.expect(ARCHIVE)
        medium.claim(ARCHIVE)
        data = bytes(at * 31 % 251 for at in range(3_000_001))
        medium.put("packs/a.pack", data)
        place.bad["packs/a.pack"] = (1_234_567, 1_234_600)
        found = read_around(medium, "packs/a.pack", len(data))
        ((start, end),) = found.unread
        assert start <= 1_234_567
        assert end >= 1_234_600
        assert end - start <= SMALLEST
        assert found.data == data[:start] + bytes(end - start) + data[end:]
        place.bad["packs/a.pack"] = (0, len(data))
        place.reads = 0
        with pytest.raises(MediumUnread, match=r"nothing of packs/a.pack reads"):
            read_around(medium, "packs/a.pack", len(data))
        assert place.reads <= 3 * (MOST_FAILURES + 5)


class AnotherRecord(ArchiveCase):
    async def test_a_pack_in_anothers_place(self) -> None:
        """C18, rule 14: catches somebody else's mail, whole and authentic, that is opened in place of the own one because its pack lies where another one should."""
        archive = await self.fresh()
        sizes: dict[str, dict[int, Path]] = {"anna": {}, "otto": {}}
        while not (same := sizes["anna"].keys() & sizes["otto"].keys()):
            # As long as the own one, or neither opens, whatever is asked for.
            for name, found in sizes.items():
                before = set(self.packs())
                await self.put(
                    archive, mail(f"{self.row} of {name}", to=f"{name}@example.test"), recipients=(f"{name}@example.test",)
                )
                await archive.flush(seal=True)
                (path,) = set(self.packs()) - before
                found[path.stat().st_size] = path
        one, other = (sizes[name][min(same)] for name in ("anna", "otto"))
        shutil.copy(one, self.top / "aside")
        shutil.copy(other, one)
        shutil.copy(self.top / "aside", other)
        refused = 0
        for name in ("anna", "otto"):
            for hit in (await archive.search(user(f"{name}@example.test"), "")).results:
                for call in (archive.read, archive.evidence):
                    try:
                        data = await call(AUDITOR, hit.id)
                    except ArchiveError as error:
                        refused += "lies where the index has" in str(error)
                    else:
                        assert f" of {name}".encode() in data
        assert refused >= 2
