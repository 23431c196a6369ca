"""A restore that is cut off at any step goes on when it is run again (A11, L3, rules 18 and 26)."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThreadPool

from hornetmail import config as configuration
from hornetmail.archive.care.copies.backup import Backups
from hornetmail.archive.care.copies.backup import Sources as BackupSources
from hornetmail.archive.care.copies.mirror import Mirror, take_mirror
from hornetmail.archive.care.copies.mirror import Sources as MirrorSources
from hornetmail.archive.index.finding.folders import Month, standing
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.media import register
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.settings import DirectorySettings
from hornetmail.compose.ground.foundations import RESTORING, SERVER_KEY, Foundations
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import archive_of, register_of, root_of
from hornetmail.compose.setting_up import restore as restoring
from hornetmail.compose.setting_up import restored_index
from hornetmail.compose.setting_up.restore import Restored, Source, restore
from hornetmail.compose.setting_up.setup import SetupError, init, with_foundations
from hornetmail.config import Config
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.served import Domain
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import AUDITOR, FOLLOWER, BytesBody, item, mail
from tests.archive.test_bad_sectors import BadSectors

PORTS = 23_000


class PowerCut(BaseException):
    """The process ends here."""


class Place:
    """A data directory made by ``init``."""

    def __init__(self, top: Path) -> None:
        init(top, "mx.hornet.test", PORTS)
        self.dir = top
        self.config: Config = configuration.load(top / "hornetmail.toml")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An archive with five mails and a domain, and its mirror."""
    top = tmp_path_factory.mktemp("source")
    place, mirror = Place(top / "data"), top / "mirror"

    async def task(base: Foundations) -> None:
        people = await People.open(base)
        await people.directory.add_domain(Domain("example.test"))
        archive = archive_of(base, await root_of(base), await register_of(base, people.control).open())
        await archive.start()

        async def offload(call: Any, *args: Any) -> Any:
            return await deferToThreadPool(base.reactor, base.threads, call, *args)

        async def settle() -> None:
            await archive.flush(seal=True)

        for number in range(1, 6):
            await archive.stage(item(number, received=base.reactor.seconds()), BytesBody(mail(f"Number {number}")))
        sources = BackupSources(
            base.reactor,
            archive.media,
            archive.keys,
            archive.index,
            len(MIGRATIONS),
            people.control,
            CONTROL,
            settle,
            lambda: {SERVER_KEY: base.directory(SERVER_KEY).read_bytes()},
            offload,
        )
        await Backups(sources).make(base.reactor.seconds(), full=True)
        target = take_mirror(DirectoryPlace(mirror, Disk()), archive.keys.current().archive, FOLLOWER)
        await Mirror(MirrorSources(archive.media, archive.keys, archive.index, offload)).run(target, base.reactor.seconds())
        await archive.stop()

    with_foundations(place.config, task)
    return place.dir, mirror


def run(place: Place, mirror: Path, original: Path) -> Restored:
    """With the root key in place, as after an import of its paper."""
    shutil.copy(original / "keys" / "archive-root.key", place.dir / "keys" / "archive-root.key")
    return restore(place.config, Source("directory", str(mirror)))


def looked_at(place: Place, *, damaged: bool = False) -> tuple[int, list[str], bool]:
    """Mails found, domains, and whether purging is off. A verification finds nothing but that a backup is ``damaged``."""

    async def task(base: Foundations) -> tuple[int, list[str], bool]:
        people = await People.open(base)
        archive = archive_of(base, await root_of(base), await register_of(base, people.control).open())
        await archive.start()
        try:
            page = await archive.search(AUDITOR, "Number")
            for hit in page.results:
                assert b"Number" in await archive.read(AUDITOR, hit.id)
            try:
                await archive.mark(base.reactor.seconds())
                off = False
            except ArchiveError:
                off = True
            found = [one.where for one in await archive.verify(full=True) if "keyring" not in one.where]
            assert [where for where in found if "backup/" not in where] == []
            assert bool(found) is damaged
        finally:
            await archive.stop()
        return page.total, [one.name for one in people.directory.domains()], off

    return with_foundations(place.config, task)


def uids_since(config: Config) -> int:
    """What UIDVALIDITY of the archive's folders begins at."""

    async def task(base: Foundations) -> int:
        people = await People.open(base)
        archive = archive_of(base, await root_of(base), await register_of(base, people.control).open())
        await archive.start()
        try:
            month = Month(int(f"{datetime.fromtimestamp(base.reactor.seconds(), UTC):%Y%m}"), False)
            found = await archive.index().read(standing, 1, month)
        finally:
            await archive.stop()
        assert found is not None
        return found.base

    return with_foundations(config, task)


class Cut:
    """Ends the process at the n-th change of the disk, or of what is copied; ``count`` says how many there were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.at = 0
        for name in ("write_durably", "rename", "unlink", "make_directory"):
            self._wrap(monkeypatch, Disk, name)
        for name in ("bring_back", "load", "newest_backup"):
            self._wrap(monkeypatch, restoring, name)
        self._wrap(monkeypatch, restored_index, "_write")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                raise PowerCut
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Any]:
    numbers = itertools.count(1)
    return (Place(tmp_path / f"data{number}") for number in numbers)


def test_whole(source: tuple[Path, Path], places: Iterator[Place]) -> None:
    """Catches whatever of mail, people and settings does not come back, and purging that goes on as if nothing had been (rule 18)."""
    original, mirror = source
    place = next(places)
    done = run(place, mirror, original)
    assert (done.mails, done.rebuilt, done.findings) == (5, False, ())
    assert looked_at(place) == (5, ["example.test"], True)
    assert not (place.dir / RESTORING).exists()
    assert uids_since(place.config) > uids_since(configuration.load(original / "hornetmail.toml")), (
        "UIDs may be given again that were given after the backup"
    )
    with pytest.raises(SetupError, match=r"holds packs already|not empty"):
        run(place, mirror, original)


def test_cut_off_at_each_step(source: tuple[Path, Path], places: Iterator[Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a restore that a power cut leaves half done for good, and a service that starts on the half: cut at the n-th change, for many n."""
    original, mirror = source
    cut = Cut(monkeypatch)
    at = 1
    while True:
        place = next(places)
        cut.count, cut.at = 0, at
        try:
            run(place, mirror, original)
        except PowerCut:
            cut.at = 0
        else:
            assert cut.count < at
            break
        if (place.dir / RESTORING).exists():
            with pytest.raises(ValueError, match="restore was begun"):
                looked_at(place)
        assert run(place, mirror, original).mails == 5, f"cut at change {at}"
        assert looked_at(place) == (5, ["example.test"], True), f"cut at change {at}"
        shutil.rmtree(place.dir)
        at += 1 if at < 12 else 3
    assert at > 15, "there are more steps than that"


def test_a_damaged_backup_costs_people_not_mail(source: tuple[Path, Path], places: Iterator[Place], tmp_path: Path) -> None:
    """Catches a restore that ends at a damaged index copy, although the packs hold all of it."""
    original, mirror = source
    copy = tmp_path / "copy"
    shutil.copytree(mirror, copy)
    for path in copy.rglob("index-*"):
        path.write_bytes(b"damaged")
    place = next(places)
    done = run(place, copy, original)
    assert (done.mails, done.rebuilt) == (5, True)
    assert looked_at(place, damaged=True) == (5, ["example.test"], True)
    for path in copy.rglob("manifest"):
        path.write_bytes(b"damaged")
    place = next(places)
    done = run(place, copy, original)
    assert (done.mails, done.rebuilt, done.control) == (5, True, "")
    assert looked_at(place, damaged=True)[0] == 5
    assert [one.where for one in done.findings] == ["backup"]


def test_what_is_damaged_in_the_newest_backup_is_taken_from_the_one_before(
    source: tuple[Path, Path], places: Iterator[Place], tmp_path: Path
) -> None:
    """Catches a restore that ends at damaged rows of ``control.db``, half done, though an older backup has them; and an older one that is taken without a word."""
    original, mirror = source
    for kind in ("control", "manifest"):
        copy = tmp_path / kind
        shutil.copytree(mirror, copy)
        (older,) = (copy / "backup").iterdir()
        newer = copy / "backup" / "20990101t000000z" / "20990101t000000z"
        shutil.copytree(older / older.name, newer)
        (newer / kind).write_bytes((older / older.name / kind).read_bytes())  # sealed under another name: it does not open
        place = next(places)
        done = run(place, copy, original)
        assert (done.mails, done.control) == (5, older.name)
        assert looked_at(place, damaged=True)[1] == ["example.test"]
        assert ["20990101t000000z" in one.what for one in done.findings] == [True]
    (older,) = (mirror / "backup").iterdir()
    copy = tmp_path / "rows"
    shutil.copytree(mirror, copy)
    rows = copy / "backup" / older.name / older.name / "control"
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    place = next(places)
    done = run(place, copy, original)
    assert (done.mails, done.control) == (5, "")
    assert "control" in done.findings[0].what


def test_wrong_sources_change_nothing(source: tuple[Path, Path], places: Iterator[Place], tmp_path: Path) -> None:
    """Catches a restore that takes a directory without identity, or another key, and has put everything aside by then."""
    _, mirror = source
    place = next(places)
    before = sorted(path.relative_to(place.dir).as_posix() for path in place.dir.rglob("*"))
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "none", mirror):
        with pytest.raises((SetupError, ArchiveError)):
            restore(place.config, Source("directory", str(wrong)))
    assert sorted(path.relative_to(place.dir).as_posix() for path in place.dir.rglob("*")) == before


def test_bad_sectors_on_the_mirror(
    source: tuple[Path, Path], places: Iterator[Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L3: catches a restore that ends at the first object which does not read, at each try, on the day on which only the mirror is left."""
    original, mirror = source
    (pack,) = (path for path in (mirror / "packs").rglob("*.pack"))
    name = pack.relative_to(mirror).as_posix()
    run_name = next(iter(sorted(mirror.rglob("*.run")))).relative_to(mirror).as_posix()
    middle = pack.stat().st_size // 2
    for bad in ({name: (middle, middle + 1)}, {run_name: (0, 1)}):

        class Worn(BadSectors):
            def __init__(self, path: Path, disk: Disk) -> None:
                super().__init__(path)
                self.bad = bad if path == mirror else {}  # noqa: B023

        monkeypatch.setattr(register, "DirectoryPlace", Worn)
        place = next(places)
        done = run(place, mirror, original)
        assert done.findings[0].where in bad
        assert "does not read" in done.findings[0].what
        assert (done.mails == 5) == (run_name in bad)
        assert not (place.dir / RESTORING).exists()


def test_without_a_medium_that_is_lost(places: Iterator[Place], tmp_path: Path) -> None:
    """A15, L3: catches a restore that one lost medium of two prevents for good; mail of it that nobody knows of any more; and leaf numbers that are given again."""
    old, second = next(places), tmp_path / "second"

    async def fill(base: Foundations) -> None:
        people = await People.open(base)
        books = register_of(base, people.control)
        media = await books.open()
        archive = archive_of(base, await root_of(base), media)
        await archive.start()
        await archive.stage(item(1, received=base.reactor.seconds()), BytesBody(mail("Number of the first")))
        await archive.flush(seal=True)
        await books.add(DirectorySettings(str(second)), "", "", 2)
        await books.change(2, ready=True)
        books.refresh(media)
        await base.offload(media.any(2).claim, archive.keys.current().archive)
        await books.activate(2)
        books.refresh(media)
        await archive.stage(item(2, received=base.reactor.seconds()), BytesBody(mail("Number of the second")))
        await archive.flush(seal=True)
        # The newest leaf of all is of a further arrival, and on the medium that is lost.
        for number, row in ((1, 3), (2, 0)):
            await books.activate(number)
            books.refresh(media)
            if row:
                await archive.stage(item(row, received=base.reactor.seconds()), BytesBody(mail("Number of the first")))
                await archive.flush(seal=True)

        async def offload(call: Any, *args: Any) -> Any:
            return await deferToThreadPool(base.reactor, base.threads, call, *args)

        async def settle() -> None:
            await archive.flush(seal=True)

        sources = BackupSources(
            base.reactor, archive.media, archive.keys, archive.index, len(MIGRATIONS), people.control, CONTROL, settle,
            lambda: {SERVER_KEY: base.directory(SERVER_KEY).read_bytes()}, offload,
        )  # fmt: skip
        await Backups(sources).make(base.reactor.seconds(), full=True)
        await archive.stop()

    with_foundations(old.config, fill)
    shutil.rmtree(old.dir / "archive" / "medium")
    place = next(places)
    shutil.copy(old.dir / "keys" / "archive-root.key", place.dir / "keys" / "archive-root.key")
    (place.dir / "archive" / "medium").rename(tmp_path / "init's")
    with pytest.raises(SetupError, match=f"mx.hornet.test:{old.dir}.*has not said that it ended"):
        restore(place.config, Source("directory", str(second)), without=(1,))
    assert not (place.dir / RESTORING).exists(), "nothing was begun"
    for words, without in (("--without NUMBER", ()), ("none of this archive", (7,)), ("where all is restored to", (2,))):
        with pytest.raises(SetupError, match=words):
            restore(place.config, Source("directory", str(second)), without=without, take_over=True)
    done = restore(place.config, Source("directory", str(second)), without=(1,), take_over=True)
    assert (done.mails, done.medium, done.rebuilt) == (2, 2, False)
    assert any("told by none and are void now" in one.what for one in done.findings)

    async def look(base: Foundations) -> None:
        people = await People.open(base)
        archive = archive_of(base, await root_of(base), await register_of(base, people.control).open())
        await archive.start()
        try:
            assert archive.holdings.leaves.size == 3
            page = await archive.search(AUDITOR, "Number")
            assert page.total == 2
            for hit in page.results:
                if "first" in hit.subject:
                    with pytest.raises(ArchiveError, match="medium 1 is out of use"):
                        await archive.read(AUDITOR, hit.id)
                else:
                    assert b"second" in await archive.read(AUDITOR, hit.id)
        finally:
            await archive.stop()

    with_foundations(place.config, look)
