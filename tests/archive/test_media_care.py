"""Media while the service runs: added, made active, put out of use, merged; numbers are for good, and no mail is lost or hidden (A12-A16)."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.media import _MOVED, MediaCare, Parts
from hornetmail.archive.media.medium import MediumAway, MediumError
from hornetmail.archive.media.register import Means, Register
from hornetmail.archive.media.settings import DirectorySettings, ShareSettings
from hornetmail.archive.store.shelf import pack_rows
from hornetmail.core.archive.archived import MediumRefused, MediumState
from hornetmail.db.pool import Database
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.seal import Seal
from hornetmail.testing.archives import AUDITOR, mail, make_archive
from tests.archive.cases import ArchiveCase

SERVER = bytes(range(32))


async def offload(call: Any, *args: Any) -> Any:
    return await deferToThread(call, *args)


class Care(ArchiveCase):
    alarms: list[tuple[str, str]]

    async def open(self, *, create: bool = True) -> Archive:
        """The archive and its media, from ``control.db``."""
        self.alarms = []
        control = await Database.open(reactor, f"sqlite://{self.top / 'control.db'}", CONTROL, key=bytes(48))
        self.control = control
        self.addCleanup(lambda: Deferred.fromCoroutine(control.close()))
        self.register = Register(self.control, Seal(SERVER), Means(reactor, Disk(), self.medium))
        archive = make_archive(self.clock, self.top, media=await self.register.open())
        if create:
            archive.create()
        await self.started(archive)
        self.care = MediaCare(
            Parts(
                self.register,
                archive.media,
                archive.watch,
                archive.keys,
                archive.holdings.leaves,
                archive.index,
                archive.moving,
                archive.sealed,
                offload,
                lambda code, text, medium: self.alarms.append((code, text)),
                lambda *over: None,
            )
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(self.care.stop()))
        return archive

    async def again(self, archive: Archive) -> Archive:
        """After a restart."""
        await self.care.stop()
        await archive.stop()
        return await self.open(create=False)

    async def state(self, number: int) -> MediumState:
        return {one.id: one for one in await self.care.list()}[number]

    async def sealed(self, archive: Archive, subject: str, **more: Any) -> None:
        await self.put(archive, mail(subject, f"word of {subject}"), **more)
        await archive.flush(seal=True)

    async def moved(self) -> None:
        if self.care._move is not None:
            await self.care._move

    async def test_from_the_first_to_the_second(self) -> None:
        """A12, A13: catches new mail that goes on to the medium before, old mail that is sought on the new one, and a choice that a restart forgets."""
        archive = await self.open()
        await self.sealed(archive, "first")
        number = await self.care.add("directory", str(self.top / "m2"), {}, "", "disk two")
        assert number == 2
        assert (await self.state(1)).active
        await self.care.activate(2)
        await self.sealed(archive, "second")
        assert list((self.top / "m2").rglob("*.pack"))
        states = {one.id: (one.active, one.up, one.mails) for one in await self.care.list()}
        assert states == {1: (False, True, 1), 2: (True, True, 1)}
        archive = await self.again(archive)
        assert archive.media.active.number == 2
        for word, medium in (("first", 1), ("second", 2)):
            hit = await self.only(archive, word)
            assert (await archive.mail(AUDITOR, hit.id)).medium == medium
            assert word.encode() in await archive.read(AUDITOR, hit.id)
        assert await archive.verify(True) == ()

    async def test_what_is_staged_counts_for_the_active_one(self) -> None:
        """Catches figures that leave out mail which is on its way to the medium, or count some that there is not, or for another medium."""
        archive = await self.open()
        assert (await self.state(1)).mails == 0
        for number in range(3):
            await self.put(archive, mail(f"number {number}"))
        await archive.flush()
        assert ((await self.state(1)).mails, (await self.state(1)).packs) == (3, 0)
        await archive.flush(seal=True)
        assert ((await self.state(1)).mails, (await self.state(1)).packs) == (3, 1)
        await self.care.add("directory", str(self.top / "m2"), {}, "")
        await self.care.activate(2)
        await self.put(archive, mail("one more"))
        await archive.flush()
        assert [(one.id, one.mails) for one in await self.care.list()] == [(1, 3), (2, 1)]

    async def test_retired_while_a_pack_for_it_is_on_its_way(self) -> None:
        """Catches a pack that a slow medium takes after all else of it was moved: it would lie on a retired medium, and be sought on the other."""
        archive = await self.open()
        await self.sealed(archive, "first")
        await self.care.add("directory", str(self.top / "m2"), {}, "")
        medium: Any = archive.media.active
        put, begun, go = medium.put, threading.Event(), threading.Event()

        def slow(name: str, data: bytes) -> None:
            begun.set()
            assert go.wait(30)
            put(name, data)

        medium.put = slow
        await self.put(archive, mail("late", "word of late"))
        sealing = Deferred.fromCoroutine(archive.flush(seal=True))
        await deferToThread(begun.wait, 30)
        await self.care.activate(2)
        await self.care.merge([1], 2)
        for _ in range(20):
            await deferToThread(lambda: None)
        assert (await self.state(1)).moved_to == 0
        go.set()
        await sealing
        await self.moved()
        assert (await self.state(1)).moved_to == 2
        shutil.rmtree(self.medium)
        for word in ("first", "late"):
            assert word.encode() in await archive.read(AUDITOR, (await self.only(archive, word)).id)
        assert await archive.verify(True) == ()
        assert self.alarms == []

    async def test_what_may_not_be_done(self) -> None:
        """Catches a medium with mail that is taken out, a number that is given twice, and no or two active ones (A12, A14)."""
        archive = await self.open()
        await self.sealed(archive, "first")
        with pytest.raises(MediumRefused, match="active"):
            await self.care.deactivate(1)
        with pytest.raises(MediumRefused, match="active"):
            await self.care.remove(1)
        await self.care.add("directory", str(self.top / "m2"), {}, "")
        with pytest.raises(MediumRefused, match="medium 2 already"):
            await self.care.add("directory", str(self.top / "m2"), {}, "")
        with pytest.raises(MediumRefused, match="another one of that number"):
            shutil.copytree(self.medium, self.top / "copy")
            await self.care.add("directory", str(self.top / "copy"), {}, "")
        await self.care.activate(2)
        with pytest.raises(MediumRefused, match="holds mail"):
            await self.care.remove(1)
        await self.care.deactivate(1)
        with pytest.raises(MediumAway):
            await archive.read(AUDITOR, (await self.only(archive, "first")).id)
        await self.care.use(1)
        assert await archive.read(AUDITOR, (await self.only(archive, "first")).id)
        await self.care.add("directory", str(self.top / "m3"), {}, "")
        await self.care.remove(3)
        assert await self.care.add("directory", str(self.top / "m4"), {}, "") == 4
        for number in (3, 77):
            with pytest.raises(MediumRefused, match="no medium"):
                await self.care.activate(number)

    async def test_another_archives_place(self) -> None:
        """Catches a medium of another archive that is taken, and a try that failed taken for a medium."""
        await self.open()
        other = self.top / "other"
        other.mkdir()
        (other / "medium").write_bytes(msgspec.json.encode({"archive": "00" * 16, "medium": 1, "format": 1}))
        with pytest.raises(MediumError, match="another archive"):
            await self.care.add("directory", str(other), {}, "")
        strays = self.top / "strays"
        (strays / "packs").mkdir(parents=True)
        (strays / "packs" / "x.pack").write_bytes(b"x")
        with pytest.raises(MediumError, match="no identity"):
            await self.care.add("directory", str(strays), {}, "")
        assert [one.id for one in await self.care.list() if one.used] == [1]
        shutil.rmtree(strays)
        assert await self.care.add("directory", str(strays), {}, "") == 2

    async def test_merged(self) -> None:
        """Catches mail that is lost, not verified or not found when media are merged, and a retired number that leads nowhere (A16)."""
        archive = await self.open()
        await self.sealed(archive, "first")
        await self.sealed(archive, "later", retention_days=400)
        await self.care.add("directory", str(self.top / "m2"), {}, "")
        await self.care.add("directory", str(self.top / "m3"), {}, "")
        await self.care.activate(2)
        await self.sealed(archive, "second")
        await self.care.activate(3)
        with pytest.raises(MediumRefused, match="itself"):
            await self.care.merge([3], 3)
        with pytest.raises(MediumRefused, match="active one"):
            await self.care.merge([3], 2)
        await self.care.merge([1, 2], 3)
        await self.moved()
        assert self.alarms == []
        states = {one.id: (one.moved_to, one.used, one.mails) for one in await self.care.list()}
        assert states == {1: (3, False, 0), 2: (3, False, 0), 3: (0, True, 3)}
        shutil.rmtree(self.medium)
        shutil.rmtree(self.top / "m2")
        archive = await self.again(archive)
        assert archive.trouble == ""
        for word in ("first", "later", "second"):
            hit = await self.only(archive, word)
            assert word.encode() in await archive.read(AUDITOR, hit.id)
        assert await archive.verify(True) == ()
        assert archive.media.get(1).number == 3
        with pytest.raises(MediumRefused, match="retired"):
            await self.care.activate(1)

    async def test_merge_that_is_cut_off(self) -> None:
        """Catches a merge that must begin anew, or believes a copy that was not read back, when the target goes away in the middle."""
        archive = await self.open()
        for n in range(4):
            await self.sealed(archive, f"mail{n}", retention_days=30 + 40 * n)
        await self.care.add("directory", str(self.top / "m2"), {}, "")
        await self.care.activate(2)
        puts = 0
        target = archive.media.any(2)
        whole = type(target).put

        def put(medium: Any, name: str, data: bytes) -> None:
            nonlocal puts
            puts += medium.number == 2 and name.startswith(("packs/", "leaves/"))
            if medium is target and puts == 3:
                (self.top / "m2").rename(self.top / "aside")
            whole(medium, name, data)

        self.patch(type(target), "put", put)
        await self.care.merge([1], 2)
        await self.moved()
        assert [code for code, _ in self.alarms] == ["medium-move"]
        assert (await self.state(1)).moving_to == 2
        media = sorted(row.medium for row in await archive.index().read(pack_rows))
        assert media == [1, 1, 2, 2]
        (self.top / "aside").rename(self.top / "m2")
        archive = await self.again(archive)
        self.care.resume()
        await self.moved()
        assert puts == 3 + 2 + 4  # two packs were left, and four runs of leaves
        assert (await self.state(1)).moved_to == 2
        shutil.rmtree(self.medium)
        assert await archive.verify(True) == ()

    async def half_moved(self, archive: Archive) -> None:
        """Medium 1 with four packs, of which two lie on medium 2 by now, which takes no more; 3 is the active one."""
        for n in range(4):
            await self.sealed(archive, f"mail{n}", retention_days=30 + 40 * n)
        for number in (2, 3):
            await self.care.add("directory", str(self.top / f"m{number}"), {}, "")
        await self.care.activate(3)
        target = archive.media.any(2)
        put = target.put

        def full(name: str, data: bytes) -> None:
            if len(list((self.top / "m2").rglob("*.pack"))) == 2:
                raise DiskFull(28, "medium 2 is full (somewhere)")
            put(name, data)

        self.patch(target, "put", full)
        await self.care.merge([1], 2)
        await self.moved()
        assert [code for code, _ in self.alarms] == ["medium-move"]
        assert sorted(row.medium for row in await archive.index().read(pack_rows)) == [1, 1, 2, 2]

    async def test_merged_into_a_full_one_and_then_elsewhere(self) -> None:
        """Catches a move into a medium without room that says nothing where media are shown, so that the command waits for ever; and that can only wait for that medium."""
        archive = await self.open()
        await self.half_moved(archive)
        assert (await self.state(1)).why == "medium 1 is not yet moved to 2: medium 2 is full (somewhere)"
        await self.care.merge([1], 3)
        await self.moved()
        one = await self.state(1)
        assert (one.moved_to, one.why) == (3, "its mail lies on medium 3")
        assert sorted(row.medium for row in await archive.index().read(pack_rows)) == [2, 2, 3, 3]
        shutil.rmtree(self.medium)
        assert await archive.verify(True) == ()

    async def test_a_target_that_is_lost_on_the_way(self) -> None:
        """Catches mail that is lost with the disk to which it was just moved, though the old place has all of it yet."""
        archive = await self.open()
        await self.half_moved(archive)
        shutil.rmtree(self.top / "m2")
        await self.care.merge([1], 3)
        await self.moved()
        assert (await self.state(1)).moved_to == 3
        assert sorted(row.medium for row in await archive.index().read(pack_rows)) == [3, 3, 3, 3]
        shutil.rmtree(self.medium)
        for n in range(4):
            hit = await self.only(archive, f"mail{n}")
            assert f"mail{n}".encode() in await archive.read(AUDITOR, hit.id)

    async def test_a_target_that_is_retired_itself(self) -> None:
        """Catches packs that come to a medium after that was moved elsewhere, where nobody looks for them."""
        archive = await self.open()
        await self.half_moved(archive)
        await self.care.merge([2], 3)
        await self.moved()
        assert [(await self.state(n)).moved_to for n in (1, 2)] == [3, 3]
        for place in (self.medium, self.top / "m2"):
            shutil.rmtree(place)
        assert sorted(row.medium for row in await archive.index().read(pack_rows)) == [3, 3, 3, 3]
        assert [one for one in await archive.verify(True) if "pack" in one.what] == []

    async def test_merge_of_a_medium_that_lost_a_pack(self) -> None:
        """Catches a medium that counts as moved though a pack of it was not there to be copied."""
        archive = await self.open()
        await self.sealed(archive, "first")
        await self.sealed(archive, "later", retention_days=400)
        self.packs()[0].unlink()
        await self.care.add("directory", str(self.top / "m2"), {}, "")
        await self.care.activate(2)
        await self.care.merge([1], 2)
        await self.moved()
        assert "1 packs" in self.alarms[0][1]
        assert "1 packs" in (await self.state(1)).why
        assert (await self.state(1)).moved_to == 0
        objects = [path for folder in _MOVED for path in (self.medium / folder).rglob("*") if path.is_file()]
        assert (await self.state(1)).copied == len(objects)

    async def test_tested(self) -> None:
        """Catches a test that passes where nothing can be written, or that leaves something behind."""
        await self.open()
        probe = await self.care.test(1)
        assert probe.total >= probe.free > 0
        assert not list((self.medium / "test").iterdir())
        shutil.rmtree(self.medium / "test")
        (self.medium / "test").write_bytes(b"in the way")
        with pytest.raises(MediumError):
            await self.care.test(1)

    async def test_secrets_stay_secret(self) -> None:
        """Catches a password in the database, in what people are shown, or lost with a restart."""
        archive = await self.open()
        settings = ShareSettings("nas.test", "media", user="backup")
        entry = await self.register.add(settings, "share-secret-1", "")
        assert self.register.secret(entry.number) == "share-secret-1"
        raw = await self.control.read(lambda cursor: cursor.execute("SELECT value, secret FROM media").fetchall())
        assert "share-secret-1" not in repr(raw)
        assert "share-secret-1" not in repr([msgspec.structs.asdict(one) for one in await self.care.list()])
        await self.again(archive)
        assert self.register.secret(entry.number) == "share-secret-1"


def test_path_of_first(tmp_path: Path) -> None:
    """Catches a data directory of today whose medium is sought elsewhere than ``hornetmail.toml`` says."""
    means = Means(reactor, Disk(), tmp_path / "archive" / "medium")
    assert means.place(DirectorySettings(), "").where == str(tmp_path / "archive" / "medium")
