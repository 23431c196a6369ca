"""What every kind of medium must do (A8-A10): one suite over a directory, a real samba, and an object store, in both styles of naming buckets."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import tempfile
import unittest
import unittest.mock
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import TestCase

from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import IPlace, Medium, MediumAway, MediumError, MediumLocked, MediumMissing, MediumTaken
from hornetmail.archive.media.s3 import BucketPlace
from hornetmail.archive.media.settings import BucketSettings, ShareSettings
from hornetmail.archive.media.smb import SharePlace
from hornetmail.archive.media.writer import Writer
from hornetmail.disk.files import Disk
from hornetmail.net.tls import HTTPSPolicy
from tests.archive.media import peers
from tests.archive.media.peers import free_port
from tests.net.certificates import Authority

ARCHIVE = bytes(range(16))
OTHER = bytes(16)


async def off(call: Callable[..., Any], *args: Any) -> Any:
    """In a thread, as media are called."""
    return await deferToThread(call, *args)


class Contract:
    """The promises of ``IMedium``. Below, a class a kind."""

    many = 2_500

    def place(self, *, wrong: bool = False) -> IPlace:
        """The place, with the right or a wrong secret."""
        raise NotImplementedError

    def away(self) -> None:
        """Nobody answers there any more."""
        raise NotImplementedError

    def back(self) -> None:
        """It answers again, and holds what it held."""
        raise NotImplementedError

    def swap(self) -> None:
        """Somebody else's empty place is in its stead."""
        raise NotImplementedError

    def fill(self, medium: Medium, objects: dict[str, bytes]) -> None:
        """Put many."""
        for name, data in objects.items():
            medium.put(name, data)

    halves = 1
    """Files that a put which is cut off leaves."""

    def half(self, name: str) -> None:
        """What a put leaves that was cut off in the middle."""
        raise NotImplementedError

    def foreign(self, name: str) -> Path | None:
        """A file of somebody else's, where there are files."""
        top: Path | None = getattr(self, "path", None)
        if top is not None:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(b"theirs")
        return top / name if top is not None else None

    def medium(self, number: int = 1, **more: Any) -> Medium:
        medium = Medium(number, self.place(**more))
        medium.expect(ARCHIVE)
        self.addCleanup(deferToThread, medium.close)  # type: ignore[attr-defined]
        return medium

    async def claimed(self) -> Medium:
        medium = self.medium()
        await off(medium.claim, ARCHIVE)
        return medium

    async def refuses(self, kind: type[Exception], call: Callable[..., Any], *args: Any) -> str:
        with pytest.raises(kind) as caught:
            await off(call, *args)
        return str(caught.value)

    async def test_bytes_come_back(self) -> None:
        """Catches stretches that are off by one, empty bodies, a name that is replaced in part, and pieces behind the end."""
        medium = await self.claimed()
        data = os.urandom(3 << 20)
        for name, body in (("packs/t1/2026-08/a.pack", data), ("journal/t1/empty.pack", b""), ("keyring", b"one")):
            await off(medium.put, name, body)
            assert await off(medium.get, name) == body
        name = "packs/t1/2026-08/a.pack"
        for start, length in (
            (0, 10),
            (1 << 20, 1 << 20),
            (len(data) - 5, 100),
            (len(data), 10),
            (len(data) + 9, 1),
            (7, 0),
            (9, -1),
        ):
            wanted = data[start : start + length] if length >= 0 else data[start:]
            assert await off(medium.get, name, start, length) == wanted, (start, length)
        await off(medium.put, "keyring", b"another, longer")
        assert await off(medium.get, "keyring") == b"another, longer"
        await off(medium.put, "keyring", b"x")
        assert await off(medium.get, "keyring") == b"x"

    async def test_a_pack_from_the_pages_of_a_file(self) -> None:
        """Catches a kind that cannot put what a merging hands it, a view of a file that is too large for memory."""
        medium = await self.claimed()
        data = os.urandom(5 << 20)
        with mmap.mmap(-1, len(data)) as pages:
            pages.write(data)
            view = memoryview(pages)
            await off(medium.put, "packs/view.pack", view)
            view.release()
        assert await off(medium.get, "packs/view.pack") == data

    async def test_missing_and_deleted(self) -> None:
        """Catches a missing object taken for a medium that is away, and a second delete that fails."""
        medium = await self.claimed()
        assert "medium 1 has no packs/x.pack" in await self.refuses(MediumMissing, medium.get, "packs/x.pack")
        assert await off(medium.names, "packs/") == []
        await off(medium.put, "packs/x.pack", b"here")
        await off(medium.delete, "packs/x.pack")
        await off(medium.delete, "packs/x.pack")
        await off(medium.delete, "packs/never/was.pack")
        await self.refuses(MediumMissing, medium.get, "packs/x.pack")

    async def test_names_that_are_none(self) -> None:
        """Catches a name that leads out of the medium."""
        medium = await self.claimed()
        for name in ("", "../x", "a/../b", "/etc/passwd", "A", "a b", "a//b", ".x", "a\\b", "a/"):
            for call, more in ((medium.put, (b"x",)), (medium.get, ()), (medium.delete, ())):
                assert "not a name" in await self.refuses(MediumError, call, name, *more), (call, name)
        assert [name for name, _ in await off(medium.names, "")] == ["medium"]

    async def test_lists(self) -> None:
        """Catches a list that ends with its first page, has things of its neighbour, is out of order, or shows what is not yet whole."""
        medium = await self.claimed()
        wanted = [f"packs/t1/2026-08/{n:05d}.pack" for n in range(self.many)]

        await off(self.fill, medium, {name: name.encode()[: len(name) % 7] for name in wanted})
        await off(medium.put, "packs/t10/2026-08/other.pack", b"x")
        self.half("packs/t1/2026-08/half.pack")
        found = await off(medium.names, "packs/t1/")
        assert [name for name, _ in found] == wanted
        assert found[3][1] == len(wanted[3]) % 7
        paged: list[str] = []
        while page := await off(medium.names, "packs/t1/", paged[-1] if paged else "", 4_000):
            assert len(page) <= 4_000
            paged += [name for name, _ in page]
        assert paged == wanted
        assert {name for name, _ in await off(medium.names, "")} == {*wanted, "packs/t10/2026-08/other.pack", "medium"}

    async def test_half_objects_are_not_there(self) -> None:
        """Catches what an interrupted put left behind taken for an object, or in the way of the next put."""
        medium = await self.claimed()
        self.half("packs/t1/2026-08/a.pack")
        await self.refuses(MediumMissing, medium.get, "packs/t1/2026-08/a.pack")
        assert await off(medium.names, "packs/") == []
        await off(medium.put, "packs/t1/2026-08/a.pack", b"whole")
        assert await off(medium.get, "packs/t1/2026-08/a.pack") == b"whole"

    async def test_what_was_cut_off_goes(self) -> None:
        """Rule 23: catches half packs that every kill and every line that breaks leaves on the medium for good, where no list shows them; and a sweep that takes what is being
        written, an object, or files of others."""
        medium = await self.claimed()
        await off(medium.put, "packs/a.pack", b"whole")
        self.half("packs/t1/2026-08/a.pack")
        stranger = self.foreign("packs/.DS_Store.tmp")
        now = reactor.seconds()
        assert await off(medium.sweep, now - 3600.0) == 0
        left = await off(medium.sweep, now + 3600.0)
        assert left == self.halves
        assert await off(medium.sweep, now + 3600.0) == 0
        assert await off(medium.get, "packs/a.pack") == b"whole"
        assert stranger is None or stranger.exists()

    async def test_another_identity(self) -> None:
        """Catches a medium of another archive, or of another number, that is read, written or emptied."""
        medium = await self.claimed()
        await off(medium.put, "packs/a.pack", b"x")
        foreign = self.medium()
        foreign.expect(OTHER)
        second = self.medium(2)
        for one, words in ((foreign, "another archive"), (second, "calls itself medium 1")):
            assert words in await self.refuses(MediumError, one.put, "packs/b.pack", b"y")
            assert words in await self.refuses(MediumError, one.get, "packs/a.pack")
            assert words in await self.refuses(MediumError, one.names, "packs/")
            assert words in await self.refuses(MediumError, one.delete, "packs/a.pack")
            assert words in await self.refuses(MediumError, one.look)
        assert "another archive" in await self.refuses(MediumError, foreign.claim, OTHER)
        assert await off(medium.names, "packs/") == [("packs/a.pack", 1)]

    async def test_two_who_write(self) -> None:
        """Catches a second installation that writes where another one does, one that cannot read there, one that goes on after it was taken over, and an end after which nobody may begin."""
        await self.claimed()
        one, two = self.writing("one"), self.writing("two")
        await off(one.put, "packs/a.pack", b"first")
        said = await self.refuses(MediumTaken, two.look)
        assert "one:/data, since 2026-" in said
        assert "medium 1" in said
        for call in ((two.put, "packs/a.pack", b"other"), (two.delete, "packs/a.pack"), (two.sweep, 0.0)):
            await self.refuses(MediumTaken, *call)
        assert await off(two.get, "packs/a.pack") == b"first"
        await off(one.look)
        await off(two.take_over)
        assert "two:/data" in await self.refuses(MediumTaken, one.look)
        await self.refuses(MediumTaken, one.put, "packs/b.pack", b"lost")
        await off(two.put, "packs/b.pack", b"kept")
        await off(one.release)
        await self.refuses(MediumTaken, one.look)
        await off(two.release)
        assert "restart this one" in await self.refuses(MediumTaken, one.look)
        three = self.writing("three")
        await off(three.put, "packs/c.pack", b"goes on")
        assert "three:/data" in await self.refuses(MediumTaken, two.look)

    def writing(self, host: str) -> Medium:
        """The medium as an installation of that name writes there."""
        directory = Path(tempfile.mkdtemp(prefix="hm-writer-"))
        self.addCleanup(shutil.rmtree, directory)  # type: ignore[attr-defined]
        writer = Writer(directory, Disk(), 0, f"{host}:/data", lambda: 1_785_000_000.0)
        medium = Medium(1, self.place(), writer=writer)
        medium.expect(ARCHIVE)
        self.addCleanup(deferToThread, medium.close)  # type: ignore[attr-defined]
        return medium

    async def test_never_claimed_by_itself(self) -> None:
        """Catches an empty place that is made a medium by anything but ``claim``, or one with an archive's objects that is claimed."""
        medium = self.medium()
        self.swap()
        for call in (
            lambda: medium.put("packs/a.pack", b"x"),
            medium.look,
            lambda: medium.names("packs/"),
            lambda: medium.delete("packs/a.pack"),
        ):
            assert "there is no medium" in await self.refuses(MediumAway, call)
        await off(medium.claim, ARCHIVE)
        await off(medium.put, "packs/a.pack", b"x")
        with_place = self.place()

        def lose_identity() -> None:
            with with_place.visit() as there:
                there.delete("medium")
            with_place.close()

        await off(lose_identity)
        assert "holds packs/a.pack" in await self.refuses(MediumError, self.medium().claim, ARCHIVE)

    async def test_swapped_in_the_middle(self) -> None:
        """Catches an unmounted share: a put that lands on the empty mount point, a delete that counts as done, a list that is empty, a pack that
        counts as lost (fault: only the medium is away)."""
        medium = await self.claimed()
        await off(medium.put, "packs/a.pack", b"x")
        assert await off(medium.get, "packs/a.pack") == b"x"
        self.away()
        self.swap()
        await self.refuses(MediumAway, medium.get, "packs/a.pack")
        await self.refuses(MediumAway, medium.names, "packs/")
        await self.refuses(MediumAway, medium.look)
        await self.refuses(MediumAway, medium.put, "packs/b.pack", b"y")
        await self.refuses(MediumAway, medium.delete, "packs/a.pack")
        self.back()
        assert await off(medium.names, "packs/") == [("packs/a.pack", 1)]
        await off(medium.put, "packs/b.pack", b"y")

    async def test_away_and_back(self) -> None:
        """Catches a medium that needs a restart once it was away, and an outage that is told as something else."""
        medium = await self.claimed()
        await off(medium.put, "packs/a.pack", b"x")
        self.away()
        for call in (
            lambda: medium.get("packs/a.pack"),
            lambda: medium.put("packs/b.pack", b"y"),
            medium.look,
            lambda: medium.names(""),
        ):
            assert "medium 1 is out of reach" in await self.refuses(MediumAway, call)
        self.back()
        assert await off(medium.get, "packs/a.pack") == b"x"
        await off(medium.put, "packs/b.pack", b"y")
        assert [name for name, _ in await off(medium.names, "packs/")] == ["packs/a.pack", "packs/b.pack"]

    async def test_room(self) -> None:
        """Catches a medium of which nobody can say how full it is, though the place knows."""
        medium = await self.claimed()
        space = await off(medium.look)
        assert 0 <= space.free <= space.total
        assert 0.0 <= space.share <= 1.0


def write_files(top: Path, objects: dict[str, bytes]) -> None:
    """As they lie in a directory, without a sync for each."""
    for name, data in objects.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)


class InDirectory(Contract, TestCase):
    """A directory (A9)."""

    many = 10_000

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()
        self.path = self.top / "medium"
        self.path.mkdir(parents=True)

    def place(self, *, wrong: bool = False) -> IPlace:
        return DirectoryPlace(self.path, Disk())

    def away(self) -> None:
        self.path.rename(self.top / "aside")

    def back(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)
        (self.top / "aside").rename(self.path)

    def swap(self) -> None:
        self.path.mkdir(exist_ok=True)

    def fill(self, medium: Medium, objects: dict[str, bytes]) -> None:
        write_files(self.path, objects)

    def half(self, name: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.123.0123abcd.tmp").write_bytes(b"half")


class Line(ProxyFactory):
    """A line that can be cut, with all connections over it."""

    noisy = False

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.open: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        self.open.append(protocol)
        return protocol

    def cut(self) -> None:
        for protocol in self.open:
            if protocol.transport is not None:
                with contextlib.suppress(AttributeError):  # TLS that is over already
                    protocol.transport.abortConnection()


class _Served(Contract):
    """A place with a server behind it, shared by the tests of a class; each test has a folder of its own."""

    _stack: Any
    server: peers.Process
    count = 0

    async def test_wrong_credentials(self) -> None:
        """Catches a wrong password taken for an empty medium, and one that shows in what people are told."""
        await self.claimed()
        medium = self.medium(wrong=True)
        text = await self.refuses(MediumAway, medium.names, "packs/")
        assert "out of reach" in text
        assert "wrong-secret" not in text


@unittest.skipUnless(shutil.which("smbd") or Path("/usr/sbin/smbd").exists(), "samba is not installed")
class OnShare(_Served, TestCase):
    """An SMB share (A8), served by samba."""

    many = 10_000

    @classmethod
    def setUpClass(cls) -> None:
        cls.top = Path(tempfile.mkdtemp(prefix="hm-smb-"))
        cls._stack = peers.samba(cls.top)
        cls.server, cls.share = cls._stack.__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        cls._stack.__exit__(None, None, None)
        shutil.rmtree(cls.top)

    def setUp(self) -> None:
        type(self).count += 1
        self.folder = f"folder{self.count}"
        self.path = self.share / self.folder
        self.path.mkdir()

    def place(self, *, wrong: bool = False) -> IPlace:
        settings = ShareSettings("127.0.0.1", "media", self.folder, peers.USER, port=self.server.port)
        return SharePlace(settings, "wrong-secret" if wrong else peers.PASSWORD, reactor.seconds)

    def away(self) -> None:
        self.server.stop()
        if self.path.exists():
            self.path.rename(self.share / f"{self.folder}-aside")

    def back(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)
        (self.share / f"{self.folder}-aside").rename(self.path)
        if self.server.process.poll() is not None:
            self.server.start()

    def swap(self) -> None:
        self.path.mkdir(exist_ok=True)
        if self.server.process.poll() is not None:
            self.server.start()

    def fill(self, medium: Medium, objects: dict[str, bytes]) -> None:
        write_files(self.path, objects)

    def half(self, name: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.0123abcd.tmp").write_bytes(b"half")


class _InStore(_Served):
    """A bucket of an object store (A10)."""

    many = 2_500
    halves = 0
    key_id: str
    secret: str
    top: Path
    _stack: Any

    @classmethod
    def tearDownClass(cls) -> None:
        cls._stack.__exit__(None, None, None)
        shutil.rmtree(cls.top)

    def setUp(self) -> None:
        type(self).count += 1
        self.prefix = self.empty = f"prefix{self.count}"
        self.port = free_port()
        self.line: Any = None
        self.back()
        self.addCleanup(self.away)

    def settings(self) -> BucketSettings:
        return BucketSettings(f"http://127.0.0.1:{self.port}", peers.BUCKET, self.prefix, key_id=self.key_id)

    def place(self, *, wrong: bool = False) -> IPlace:
        return BucketPlace(self.settings(), "wrong-secret" if wrong else self.secret, reactor)

    def away(self) -> None:
        """The store keeps all in memory: it is the line to it that is cut."""
        line, self.line = self.line, None
        if line is not None:
            line.factory.cut()
            line.stopListening()

    def back(self) -> None:
        if self.line is None:
            self.line = reactor.listenTCP(self.port, Line("127.0.0.1", self.server.port), interface="127.0.0.1")

    def swap(self) -> None:
        """A bucket is not unmounted; nothing has been put there yet."""

    def half(self, name: str) -> None:
        """An upload that began and was never completed: the store shows nothing of it."""
        peers.begin_upload(self.server.port, self.key_id, self.secret, f"{self.prefix}/{name}")

    async def test_swapped_in_the_middle(self) -> None:
        """Catches a bucket that was emptied and is written to as if it were still the medium, once the identity that was read is no longer fresh."""
        medium = await self.claimed()
        await off(medium.put, "packs/a.pack", b"x")
        place = self.place()
        self.addCleanup(deferToThread, place.close)
        with place.visit() as there:
            await off(there.delete, "medium")
        await self.refuses(MediumAway, medium.get, "packs/gone.pack")
        await self.refuses(MediumAway, medium.put, "packs/b.pack", b"y")
        await self.refuses(MediumAway, medium.delete, "packs/a.pack")
        with place.visit() as there:
            left = await off(lambda: [name for name, _ in there.names("", "", 0)])
        assert left == ["packs/a.pack"], "nothing was written, and nothing removed"

    async def test_keys_that_others_put_there(self) -> None:
        """Catches a key that XML cannot say and that hides all objects of the medium."""
        medium = await self.claimed()
        await off(medium.put, "packs/a.pack", b"x")
        peers.put_object(self.server.port, self.key_id, self.secret, f"{self.prefix}/packs/odd \x01+%2F\u00e4&.pack")
        assert await off(medium.names, "packs/") == [("packs/a.pack", 1)]

    async def test_no_such_bucket(self) -> None:
        """Catches a bucket that is gone taken for one object that is."""
        settings = msgspec.structs.replace(self.settings(), bucket="no-such-bucket")
        medium = Medium(1, BucketPlace(settings, self.secret, reactor))
        self.addCleanup(deferToThread, medium.close)
        assert "out of reach" in await self.refuses(MediumAway, medium.get, "packs/a.pack")


@unittest.skipUnless(shutil.which("swift-proxy-server"), "swift is not installed")
class InSwift(_InStore, TestCase):
    """OpenStack Swift by its S3 face: a store that many run, and that shares no line with the other one of these tests."""

    many = 250  # its pages are made of 100

    @classmethod
    def setUpClass(cls) -> None:
        cls.top = Path(tempfile.mkdtemp(prefix="hm-swift-"))
        cls.key_id, cls.secret = peers.SWIFT_KEY
        cls._stack = peers.swift(cls.top)
        cls.server = cls._stack.__enter__()


class InBucket(_InStore, TestCase):
    """moto, which checks every signature, and can lock objects."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.top = Path(tempfile.mkdtemp(prefix="hm-s3-"))
        cls._stack = peers.object_store(cls.top)
        cls.server, cls.key_id, cls.secret = cls._stack.__enter__()

    async def test_over_tls(self) -> None:
        """Catches a store whose certificate is not looked at, or is another's, and an authority of the operator's own that is not taken."""
        top = Path(self.mktemp())
        folders = [top / name for name in ("ours", "other")]
        for folder in folders:
            folder.mkdir(parents=True)
        ours, other = (Authority(folder) for folder in folders)
        good = ours.issue("store", names=["127.0.0.1"])
        another = ours.issue("another", names=["elsewhere.test"])
        strange = other.issue("strange", names=["127.0.0.1"])

        def medium(pair: tuple[Path, Path], policy: HTTPSPolicy) -> Medium:
            context = DefaultOpenSSLContextFactory(str(pair[1]), str(pair[0]))
            line = Line("127.0.0.1", self.server.port)
            port = reactor.listenSSL(0, line, context, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            self.addCleanup(line.cut)
            settings = msgspec.structs.replace(self.settings(), endpoint=f"https://127.0.0.1:{port.getHost().port}")
            made = Medium(1, BucketPlace(settings, self.secret, reactor, policy))
            self.addCleanup(deferToThread, made.close)
            return made

        trusted = medium(good, HTTPSPolicy(ours.roots))
        await off(trusted.claim, ARCHIVE)
        await off(trusted.put, "packs/a.pack", b"over TLS")
        assert await off(trusted.get, "packs/a.pack") == b"over TLS"
        for pair, policy in ((another, HTTPSPolicy(ours.roots)), (strange, HTTPSPolicy(ours.roots)), (good, HTTPSPolicy())):
            assert "out of reach" in await self.refuses(MediumAway, medium(pair, policy).get, "packs/a.pack")
        with unittest.mock.patch.dict(os.environ, SSL_CERT_FILE=str(ours.roots)):
            assert await off(medium(good, HTTPSPolicy()).get, "packs/a.pack") == b"over TLS"

    def test_names_of_buckets(self) -> None:
        """Catches a store that wants the bucket in the host's name and gets it in the path, and the other way round."""
        for style, wanted in (("path", "https://s3.test:9000/b/p/q/keyring"), ("virtual", "https://b.s3.test:9000/p/q/keyring")):
            place = BucketPlace(BucketSettings("https://s3.test:9000/", "b", "p/q", style=style), "", reactor)  # type: ignore[arg-type]
            assert place.url_of("keyring") == wanted

    async def test_locked_objects(self) -> None:
        """Catches a lock that the store does not take."""
        settings = msgspec.structs.replace(self.settings(), bucket=peers.LOCKED_BUCKET, lock_days=30)
        medium = Medium(1, BucketPlace(settings, self.secret, reactor))
        self.addCleanup(deferToThread, medium.close)
        await off(medium.claim, ARCHIVE)
        await off(medium.put, "packs/a.pack", b"x")
        await off(medium.lock, "packs/a.pack", reactor.seconds() + 400 * 86400.0)
        until = peers.locked_until(self.server.port, self.key_id, self.secret, f"{self.prefix}/packs/a.pack")
        assert 29 * 86400 < until - reactor.seconds() <= 30 * 86400 + 60
        day = datetime.fromtimestamp(until, UTC).date().isoformat()
        told = await self.refuses(MediumLocked, medium.delete, "packs/a.pack")
        assert f"packs/a.pack is locked until {day}" in told
        assert await off(medium.get, "packs/a.pack") == b"x"
        unlocking = Medium(1, BucketPlace(msgspec.structs.replace(settings, lock_days=0), self.secret, reactor))
        self.addCleanup(deferToThread, unlocking.close)
        assert f"locked until {day}" in await self.refuses(MediumLocked, unlocking.delete, "packs/a.pack")

    async def test_gone_from_a_bucket_that_keeps_versions(self) -> None:
        """Catches deleted mail, and wrapped keys that were replaced, of which the store keeps a version that anybody can ask for (rule 23); and a lock
        that ended and holds the object for good."""
        settings = msgspec.structs.replace(self.settings(), bucket=peers.LOCKED_BUCKET, lock_days=30)
        medium = Medium(1, BucketPlace(settings, self.secret, reactor))
        self.addCleanup(deferToThread, medium.close)
        await off(medium.claim, ARCHIVE)

        def versions(name: str) -> list[str]:
            return peers.versions(self.server.port, self.key_id, self.secret, f"{self.prefix}/{name}")

        await off(medium.put, "keyring", b"old keys")
        await off(medium.put, "keyring", b"new keys")
        assert await off(versions, "keyring") == ["version"]
        await off(medium.put, "packs/ab.pack", b"its neighbour")
        await off(medium.put, "packs/a.pack", b"mail")
        await off(medium.lock, "packs/a.pack", reactor.seconds() + 2.0)
        ends = reactor.seconds() + 60
        while True:
            try:
                await off(medium.delete, "packs/a.pack")
                break
            except MediumLocked:
                assert reactor.seconds() < ends
        assert await off(versions, "packs/a.pack") == []
        await off(medium.delete, "packs/a.pack")
        assert await off(versions, "packs/a.pack") == []
        assert await off(medium.get, "packs/ab.pack") == b"its neighbour"
