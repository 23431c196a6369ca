"""Backups of the databases on the medium (A29, A55, A56, rule 26)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.backup import (
    DAY,
    BackupBroken,
    BackupName,
    Backups,
    Halted,
    Keep,
    Sources,
    backup_seal,
    backups_on,
    kept,
    newest_backup,
    read_control,
    read_manifest,
    read_pieces,
)
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.media.medium import MediumError
from hornetmail.db.dump import load
from hornetmail.db.pool import Database
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.files import DiskFull
from hornetmail.testing.archives import AUDITOR, NOW, mail
from tests.archive.cases import ArchiveCase

reactor: Any = _reactor
HOUR = 3600.0
WORD = b"Zwetschgenmus"


async def offload(call: Any, *args: Any) -> Any:
    return await deferToThread(call, *args)


class BackupCase(ArchiveCase):
    """An archive with ``control.db`` beside it, and its backups."""

    async def begin(self, **more: Any) -> Archive:
        archive = await self.fresh(**more)
        self.control = await Database.open(self.clock, f"sqlite://{self.top / 'control.db'}", CONTROL, key=bytes(48))
        self.addCleanup(self.control.close)
        self.backups = self.make_backups(archive)
        return archive

    def make_backups(self, archive: Archive, keep: Keep = Keep()) -> Backups:
        async def settle() -> None:
            await archive.flush(seal=True)

        return Backups(
            Sources(
                reactor=reactor,
                media=archive.media,
                keys=archive.keys,
                index=archive.index,
                index_schema=len(MIGRATIONS),
                control=self.control,
                migrations=CONTROL,
                settle=settle,
                secrets=lambda: {"keys/server.key": b"k" * 32},
                offload=offload,
            ),
            keep,
        )

    async def person(self, name: str) -> None:
        def insert(cursor: Any) -> None:
            cursor.execute("INSERT INTO domains (name, tenant, value) VALUES (?, 1, ?)", (name, "{}"))

        await self.control.run(insert)

    async def restored(self, archive: Archive, name: str = "restored.db") -> Database:
        """The newest backup of the index, opened."""
        medium = archive.media.active
        found = newest_backup(medium, archive.keys.current())
        assert found is not None
        path = self.top / name
        path.write_bytes(b"".join(read_pieces(medium, found[1])))
        database = await Database.open(self.clock, f"sqlite://{path}", MIGRATIONS, key=archive.keys.current().database_key())
        self.addCleanup(database.close)
        return database

    def objects(self) -> list[Path]:
        return sorted(path for path in (self.medium / "backup").rglob("*") if path.is_file())


def mails_in(cursor: Any) -> int:
    return int(cursor.execute("SELECT count(*) FROM mail").fetchone()[0])


class BackupTest(BackupCase):
    async def test_full_and_increment_open_again(self) -> None:
        """A29, A55, A56: catches a backup that lacks what came last, an increment that stores all again, and one that cannot be put together."""
        archive = await self.begin()
        for number in range(300):
            await self.put(archive, mail(f"Number {number}", "Words. " * 300))
        full = await self.backups.make(NOW, full=True)
        assert full.name.full
        assert await (await self.restored(archive)).read(mails_in) == 300
        await self.put(archive, mail("One more"))
        await self.person("example.test")
        increment = await self.backups.make(NOW + HOUR, full=False)
        assert (increment.name.full, increment.name.chain) == (False, full.name.stamp)
        medium, seal = archive.media.active, backup_seal(archive.keys.current())
        old, new = (read_manifest(medium, one.name, seal).pieces for one in (full, increment))
        assert all(b == a for a, b in zip(old, new, strict=False) if a.digest == b.digest), (
            "what did not change is not stored again"
        )
        assert await (await self.restored(archive, "again.db")).read(mails_in) == 301

    async def test_without_changes_an_increment_is_small(self) -> None:
        """Catches an increment an hour that fills the medium though nothing happens."""
        archive = await self.begin()
        for number in range(100):
            await self.put(archive, mail(f"Number {number}", "Words. " * 300))
        full = await self.backups.make(NOW, full=True)
        increment = await self.backups.make(NOW + HOUR, full=False)
        assert increment.bytes < full.bytes / 10

    async def test_people_come_back(self) -> None:
        """Rule 26: catches settings and people that are not in the backup, and log-ins of today that are."""
        archive = await self.begin()
        await self.person("example.test")
        await self.backups.make(NOW, full=False)
        medium, keyring = archive.media.active, archive.keys.current()
        found = newest_backup(medium, keyring)
        assert found is not None
        dumped = read_control(medium, found[1], backup_seal(keyring))
        assert found[1].secrets == {"keys/server.key": b"k" * 32}
        assert "sessions" not in {table.name for table in dumped.tables}
        other = await Database.open(self.clock, f"sqlite://{self.top / 'other.db'}", CONTROL[: dumped.schema], key=bytes(48))
        self.addCleanup(other.close)
        await other.run(load, dumped, CONTROL)
        names = await other.read(lambda cursor: cursor.execute("SELECT name FROM domains").fetchall())
        assert [tuple(row) for row in names] == [("example.test",)]

    async def test_the_medium_has_no_plain_text(self) -> None:
        """Rule 24: catches words of mail, addresses and names that lie readable on a share."""
        archive = await self.begin()
        await self.put(archive, mail(WORD.decode(), f"{WORD.decode()} " * 50))
        await self.person(WORD.decode().lower())
        await self.backups.make(NOW, full=True)
        everything = b"".join(path.read_bytes() for path in self.medium.rglob("*") if path.is_file())
        for word in (WORD, WORD.lower(), b"SQLite format", b"example.test", b"CREATE TABLE"):
            assert word not in everything, word

    async def test_mail_goes_on_meanwhile(self) -> None:
        """Catches a backup that holds up the writer, and one that mixes two states of the index."""
        archive = await self.begin()
        for number in range(50):
            await self.put(archive, mail(f"Number {number}"))
        await archive.flush()
        frozen = await self.backups._freeze()
        before = hashlib.sha256(frozen.path.read_bytes()).digest()
        for number in range(200):
            await self.put(archive, mail(f"Later {number}", "Words. " * 300))
        await archive.flush()
        assert await self.total(archive, "Later") == 200
        assert hashlib.sha256(frozen.path.read_bytes()).digest() == before
        frozen.thaw()
        await self.backups.make(NOW, full=True)
        assert await (await self.restored(archive)).read(mails_in) == 250

    async def test_what_is_damaged_is_named(self) -> None:
        """Catches a restore from a flipped bit; each object of a backup, one after the other."""
        archive = await self.begin()
        await self.put(archive, mail("Hello"))
        await self.backups.make(NOW, full=True)
        medium, keyring = archive.media.active, archive.keys.current()
        (name,) = backups_on(medium).whole
        for path in self.objects():
            whole = path.read_bytes()
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            with pytest.raises(BackupBroken) as told:
                manifest = read_manifest(medium, name, backup_seal(keyring))
                read_control(medium, manifest, backup_seal(keyring))
                list(read_pieces(medium, manifest))
            assert path.relative_to(self.medium).as_posix() in str(told.value)
            path.write_bytes(whole)

    async def test_an_increment_on_something_damaged_becomes_a_full_one(self) -> None:
        """Catches increments that stand on a manifest that does not open, or on objects that are gone: none of them would ever be of use."""
        archive = await self.begin()
        await self.put(archive, mail("Hello"))
        first = await self.backups.make(NOW, full=True)
        (self.medium / first.name.manifest).write_bytes(b"garbage")
        second = await self.backups.make(NOW + HOUR, full=False)
        assert second.name.full
        for path in (self.medium / second.name.folder).glob("index-*"):
            path.unlink()
        third = await self.backups.make(NOW + 2 * HOUR, full=False)
        assert third.name.full
        assert await (await self.restored(archive)).read(mails_in) == 1
        for path in (self.medium / third.name.folder).glob("index-*"):
            path.write_bytes(path.read_bytes()[:-1])
        assert (await self.backups.make(NOW + 3 * HOUR, full=False)).name.full

    async def test_an_increment_without_its_full_one_is_not_dropped_at_once(self) -> None:
        """Catches an increment that is made and, since the manifest of its chain's full one is gone, dropped in the same run, hour after hour."""
        archive = await self.begin()
        await self.put(archive, mail("Hello"))
        await self.backups.make(NOW - DAY, full=True)
        full = await self.backups.make(NOW, full=True)
        await self.backups.make(NOW + HOUR, full=False)
        (self.medium / full.name.manifest).unlink()
        made = await self.backups.make(NOW + 2 * HOUR, full=False)
        assert made.name in backups_on(archive.media.active).whole
        assert await (await self.restored(archive)).read(mails_in) == 1

    async def test_cut_off_at_each_step(self) -> None:
        """Catches a backup that counts as one though a power cut ended it, and a cut that costs the one before: the medium fails at its n-th write,
        for each n."""
        archive = await self.begin()
        await self.put(archive, mail("Hello"))
        first = await self.backups.make(NOW, full=True)
        medium: Any = archive.media.active
        for at in range(1, 30):
            writes = 0
            put = medium.put

            def failing(name: str, data: bytes, put: Any = put, at: int = at) -> None:
                nonlocal writes
                writes += 1
                if writes == at:
                    raise MediumError("the power went")
                put(name, data)

            medium.put = failing
            try:
                await self.put(archive, mail(f"More {at}", "Words. " * 300))
                made = await self.backups.make(NOW + at * HOUR, full=at % 2 == 0)
            except MediumError:
                names = backups_on(medium).whole
                assert first.name in names
                assert all(read_manifest(medium, name, backup_seal(archive.keys.current())) for name in names)
            else:
                assert writes < at, "no failure was made up, all steps were tried"
                assert made.name in backups_on(medium).whole
                break
            finally:
                medium.put = put
        else:
            raise AssertionError("there are more steps than were tried")
        await archive.flush(seal=True)
        await self.backups.make(NOW + 40 * HOUR, full=False)
        folders = backups_on(medium)
        assert set(folders.objects) == set(folders.whole), "what was begun and cut off is gone"

    async def test_one_that_does_not_fit(self) -> None:
        """Catches a backup for which there is no room and that keeps what room there was: mail could not be archived any more. So does one whose process died."""
        archive = await self.begin()
        for number in range(100):
            await self.put(archive, mail(f"Number {number}", "Words. " * 3000))
        medium: Any = archive.media.active
        put = medium.put

        def full(name: str, data: bytes) -> None:
            if name.endswith("control"):
                raise DiskFull(28, "medium 1 is full (somewhere)")
            put(name, data)

        self.patch(medium, "put", full)
        with pytest.raises(DiskFull, match="medium 1 is full"):
            await self.backups.make(NOW, full=True)
        assert self.objects() == []
        left = BackupName("20260101t000000z", "20260101t000000z")
        put(f"{left.folder}index-000000", b"half")
        with pytest.raises(DiskFull):
            await self.backups.make(NOW, full=False)
        assert self.objects() == []

    async def test_halted(self) -> None:
        """Catches a service that cannot stop while a backup runs."""
        archive = await self.begin()
        for number in range(20):
            await self.put(archive, mail(f"Number {number}", "Words. " * 3000))
        self.backups.halt()
        with pytest.raises(Halted):
            await self.backups.make(NOW, full=True)
        assert not backups_on(archive.media.active).whole
        assert (await archive.search(AUDITOR, "Number")).total == 20

    async def test_old_ones_go(self) -> None:
        """Catches a medium that fills up with backups, and a rule that drops the last one."""
        archive = await self.begin()
        await self.put(archive, mail("Hello"))
        for day in range(12):
            await self.backups.make(NOW + day * DAY, full=True)
            await self.backups.make(NOW + day * DAY + HOUR, full=False)
        names = [name for name, _, _ in await self.backups.listing()]
        assert sum(not name.full for name in names) == 2
        assert 7 <= sum(name.full for name in names) <= 9
        for day in range(400, 404):
            await self.backups.make(NOW + day * DAY, full=True)
        assert {name.made for name, _, _ in await self.backups.listing()} == {NOW + day * DAY for day in range(400, 404)}

    async def test_a_clock_that_is_years_ahead(self) -> None:
        """Catches backups that go, all but one, because the clock of one run is years ahead; and what cannot be restored when it is right again."""
        archive = await self.begin()
        await self.put(archive, mail("Hello"))
        for day in range(5):
            await self.backups.make(NOW + day * DAY, full=True)
        for hour in range(5):
            await self.backups.make(NOW + 3000 * DAY + hour * HOUR, full=hour == 0)
        names = [name for name, _, _ in await self.backups.listing()]
        assert {NOW + day * DAY for day in (3, 4)} <= {name.made for name in names}
        await self.backups.make(NOW + 5 * DAY, full=False)
        assert await (await self.restored(archive)).read(mails_in) == 1


def name(day: float, chain: float | None = None) -> BackupName:
    from hornetmail.archive.care.copies.backup import _stamp

    return BackupName(_stamp((day if chain is None else chain) * DAY), _stamp(day * DAY))


def stays(names: Sequence[BackupName], day: float) -> set[BackupName]:
    return kept(names, day * DAY, Keep())


def test_the_rule() -> None:
    """7 daily, 4 weekly: catches a rule that keeps too little, or for ever (rule 23: ``Keep.longest`` is a promise)."""
    fulls = [name(20000 + day) for day in range(100)]
    staying = stays(fulls, 20099.5)
    ages = sorted(20099.5 - one.made / DAY for one in staying)
    assert [round(age, 1) for age in ages[:7]] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert 8 <= len(staying) <= 10
    assert max(ages) * DAY < Keep().longest
    assert stays([name(1)], 20000) == {name(1)}, "the last one stays however old it is"
    assert not stays([], 20000)
    increments = [name(20099.1, 20099), name(20097.1, 20097)]
    assert stays([*fulls, *increments], 20099.5) - staying == {increments[0]}
