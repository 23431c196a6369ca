"""The mirror on every kind of place (A32, A8-A10): a directory, a real samba, an object store."""

from __future__ import annotations

import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.threads import deferToThread

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.mirror import Mirror, Mirrored, Sources, followed, mirror_at, superseded, take_mirror
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import IPlace, MediumAway, MediumError, MediumTaken, PlaceAway, identity_at
from hornetmail.archive.media.s3 import FRESH, BucketPlace
from hornetmail.archive.media.settings import BucketSettings, ShareSettings
from hornetmail.archive.media.smb import SharePlace
from hornetmail.archive.proof.leaves import encode_run
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import FOLLOWER, NOW, mail
from tests.archive.media import peers
from tests.archive.media.test_contract import Line
from tests.archive.test_backup import BackupCase, offload

DAY = 86400.0
OTHER = "0f" * 16


class Following:
    """What a mirror does wherever it lies. Below, a class a kind."""

    far = True
    """Whether it is somebody else who has to answer."""

    def place(self) -> IPlace:
        raise NotImplementedError

    def settle(self: Any) -> None:
        """What was read there is believed for some seconds; they go by."""
        self.ahead = getattr(self, "ahead", 0.0) + 2 * FRESH

    async def begin_there(self: Any) -> Archive:
        archive: Archive = await self.begin()
        self.mirror = Mirror(Sources(archive.media, archive.keys, archive.index, offload))
        self.where = self.place()
        self.target = await deferToThread(take_mirror, self.where, archive.keys.current().archive, FOLLOWER)
        self.addCleanup(deferToThread, self.target.close)
        return archive

    async def seal(self: Any, archive: Archive, *words: str, **more: Any) -> None:
        for word in words:
            await self.put(archive, mail(word, f"{word} " * 50), **more)
            await archive.flush(seal=True)

    async def follow(self: Any, now: float = NOW) -> Mirrored:
        done: Mirrored = await self.mirror.run(self.target, now)
        return done

    async def objects(self: Any, medium: Any) -> dict[str, bytes]:
        """All but the identity."""

        def read() -> dict[str, bytes]:
            return {name: medium.get(name) for name, _ in medium.names("") if name != "medium"}

        found: dict[str, bytes] = await deferToThread(read)
        return found

    async def same(self: Any, archive: Archive) -> bool:
        return bool(await self.objects(self.target) == await self.objects(archive.media.active))

    async def test_it_holds_what_the_media_hold(self: Any) -> None:
        """Catches a kind of place on which objects are lacking, cut off or copied each time; and one on which what was merged, purged or replaced stays for good:
        packs, runs of leaves, the keys from before a change of the root key."""
        archive = await self.begin_there()
        await self.seal(archive, "one", "two", "three", "four")
        await self.seal(archive, "short", retention_days=30)
        await self.backups.make(NOW, full=True)
        await deferToThread(archive.media.active.put, "keyring-previous", b"under the key from before")
        assert (await self.follow()).copied >= 12
        assert await self.same(archive)
        assert (await self.follow()).copied == 0
        await archive.merge(NOW + 40 * DAY)
        await deferToThread(archive.media.active.delete, "keyring-previous")
        await archive.confirm_purge()
        assert (await self.night(archive, 31.0))[0] == 1
        assert (await self.night(archive, 33.0))[1] == 1
        done = await self.follow(NOW + 33 * DAY)
        assert done.deleted >= 4 + 1 + 4 + 1, "packs that were merged, one that expired, runs that were merged, a keyring"
        there = {name for name in await self.objects(self.target) if not name.startswith("backup/")}
        assert there == {name for name in await self.objects(archive.media.active) if not name.startswith("backup/")}
        assert sum(name.startswith("leaves/") for name in there) < 5

    async def test_what_the_medium_lost_stays(self: Any) -> None:
        """Catches a mirror that deletes the last good copy of a run of leaves that a disk lost."""
        archive = await self.begin_there()
        await self.seal(archive, "one", "two", "three")
        await self.follow()
        lost = archive.holdings.leaves.name_at(1)
        await deferToThread(archive.media.active.delete, lost)
        assert (await self.follow(NOW + 60)).deleted == 0
        assert lost in await self.objects(self.target)

    async def test_away_and_back(self: Any) -> None:
        """Catches a mirror out of reach that is taken for an empty one, and one that does not go on when it is back."""
        archive = await self.begin_there()
        await self.seal(archive, "one")
        await self.follow()
        await self.seal(archive, "two")
        self.away()
        with pytest.raises(MediumAway, match="the mirror is out of reach"):
            await self.follow()
        self.back()
        await self.follow()
        assert await self.same(archive)

    async def test_taken_over(self: Any) -> None:
        """Two installations of one archive, one restored from the other's mirror: catches two that follow into one place and delete each other's objects; a take-over that does not take
        what runs already, or that needs the other one; and a mirror that nobody can follow into any more, or read."""
        archive = await self.begin_there()
        await self.seal(archive, "one")
        await self.follow()
        name = archive.keys.current().archive
        with pytest.raises(MediumTaken, match=r"another installation .*follows"):
            await deferToThread(followed, self.where, name, OTHER)
        other = await deferToThread(take_mirror, self.where, name, OTHER)
        self.settle()
        before = await self.objects(other)
        await self.seal(archive, "two")
        with pytest.raises(MediumTaken):
            await self.follow()
        with pytest.raises(MediumTaken):
            await deferToThread(self.target.delete, "keyring")
        assert await self.objects(other) == before
        assert await self.objects(await deferToThread(mirror_at, self.where, name)) == before, "to repair from"
        self.target = await deferToThread(take_mirror, self.where, name, FOLLOWER)
        self.settle()
        assert (await self.follow()).copied
        assert await self.same(archive)
        with pytest.raises(MediumTaken):
            await deferToThread(other.put, "keyring", b"")

    async def test_both_at_once(self: Any) -> None:
        """Catches two that take over in the same moment and both go on: whichever wrote its mark last has it, the other is told, at once (a share does not let two replace one file) or at its next call."""
        archive = await self.begin_there()
        name = archive.keys.current().archive
        takes = [deferToThread(take_mirror, self.where, name, mark) for mark in (FOLLOWER, OTHER)]
        results = await DeferredList(takes, consumeErrors=True)
        self.settle()
        for done, why in results:
            assert done or why.check(MediumError), why
        going = 0
        for mark in (FOLLOWER, OTHER):
            try:
                await deferToThread(followed, self.where, name, mark)
                going += 1
            except MediumTaken:
                pass
        assert going == 1

    async def test_one_from_before_there_were_marks(self: Any) -> None:
        """Catches mirrors of version 0.1 that are refused, and one that is taken up and left open to all."""
        archive = await self.begin_there()
        name = archive.keys.current().archive
        await self.seal(archive, "one")
        await self.follow()
        identity = await deferToThread(identity_at, self.where)
        old = b'{"archive":"%s","medium":0,"format":1}\n' % identity.archive.encode()

        def put_back() -> None:
            with self.where.visit() as there:
                there.put("medium", old)

        await deferToThread(put_back)
        self.settle()
        self.target = await deferToThread(followed, self.where, name, OTHER)
        assert (await self.follow()).copied == 0
        with pytest.raises(MediumTaken):
            await deferToThread(followed, self.where, name, FOLLOWER)

    async def test_away_while_taking_over(self: Any) -> None:
        """Catches a take-over that is believed though the mirror was out of reach, an empty place that is made a mirror by the job, and a mark that is lost by it."""
        archive = await self.begin_there()
        name = archive.keys.current().archive
        await self.seal(archive, "one")
        await self.follow()
        self.away()
        for call in (followed, take_mirror) if self.far else (followed,):
            with pytest.raises((MediumAway, PlaceAway)):
                await deferToThread(call, self.where, name, OTHER)
        self.back()
        self.settle()
        self.target = await deferToThread(followed, self.where, name, FOLLOWER)
        assert (await self.follow()).copied == 0


class InDirectory(Following, BackupCase):
    """A directory."""

    far = False

    def settle(self) -> None:
        """Nothing is believed without a look."""

    def place(self) -> IPlace:
        return DirectoryPlace(self.top / "mirror", Disk())

    def away(self) -> None:
        (self.top / "mirror").rename(self.top / "aside")

    def back(self) -> None:
        (self.top / "aside").rename(self.top / "mirror")

    def test_what_is_said_elsewhere(self) -> None:
        """Catches runs that are deleted though some of their leaves lie nowhere else, and those of another node that count."""

        def run(first: int, count: int, node: int = 0) -> tuple[str, int]:
            return f"leaves/n{node}/{first:020d}.run", len(encode_run(first, [bytes(32)] * count))

        there = dict([run(0, 4), run(4, 4), run(8, 4), run(20, 2), ("keyring-previous", 5), ("keyring", 5)])
        assert superseded(there, dict([run(0, 4)])) == ["keyring-previous"]
        assert superseded(there, dict([run(0, 6), run(6, 3), ("keyring-previous", 5)])) == [run(4, 4)[0]]
        assert superseded(there, dict([run(0, 6, 1), run(7, 5, 1)])) == ["keyring-previous"]
        assert superseded(there, dict([run(0, 30), ("keyring-previous", 5)])) == [run(4, 4)[0], run(8, 4)[0], run(20, 2)[0]]
        assert superseded(there, {}) == ["keyring-previous"]


@unittest.skipUnless(shutil.which("smbd") or Path("/usr/sbin/smbd").exists(), "samba is not installed")
class OnShare(Following, BackupCase):
    """An SMB share, served by samba."""

    count = 0

    @classmethod
    def setUpClass(cls) -> None:
        cls.base = Path(tempfile.mkdtemp(prefix="hm-smb-"))
        cls.stack = peers.samba(cls.base)
        cls.server, cls.share = cls.stack.__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.stack.__exit__(None, None, None)
        shutil.rmtree(cls.base)

    def place(self) -> IPlace:
        type(self).count += 1
        folder = f"mirror{self.count}"
        (self.share / folder).mkdir()
        settings = ShareSettings("127.0.0.1", "media", folder, peers.USER, port=self.server.port)
        return SharePlace(settings, peers.PASSWORD, lambda: reactor.seconds() + getattr(self, "ahead", 0.0))

    def away(self) -> None:
        self.server.stop()

    def back(self) -> None:
        self.server.start()


class InBucket(Following, BackupCase):
    """A bucket of an object store."""

    count = 0

    @classmethod
    def setUpClass(cls) -> None:
        cls.base = Path(tempfile.mkdtemp(prefix="hm-s3-"))
        cls.stack = peers.object_store(cls.base)
        cls.server, cls.key_id, cls.secret = cls.stack.__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.stack.__exit__(None, None, None)
        shutil.rmtree(cls.base)

    def place(self) -> IPlace:
        type(self).count += 1
        self.port = peers.free_port()
        self.line: Any = None
        self.back()
        self.addCleanup(self.away)
        url = f"http://127.0.0.1:{self.port}"
        place = BucketPlace(BucketSettings(url, peers.BUCKET, f"mirror{self.count}", key_id=self.key_id), self.secret, reactor)
        self.patch(place, "slot", lambda: (reactor.seconds() + getattr(self, "ahead", 0.0)) // FRESH)
        return place

    def away(self) -> None:
        """The store keeps all in memory: it is the line to it that is cut."""
        line, self.line = self.line, None
        if line is not None:
            line.factory.cut()
            line.stopListening()

    def back(self) -> None:
        self.line = reactor.listenTCP(self.port, Line("127.0.0.1", self.server.port), interface="127.0.0.1")
