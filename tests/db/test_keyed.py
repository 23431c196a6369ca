"""A database that an earlier version kept plain gets a key at its first opening, and loses nothing (rule 24)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlcipher3.dbapi2 as sqlite
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.db import keyed
from hornetmail.db.engines import Cursor, DatabaseBroken
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk
from tests.db.test_database import FIRST, names, put

KEY = bytes(range(48))
WORD = "Zwetschgenmus"


def count(cursor: Cursor) -> int:
    cursor.execute("INSERT INTO counted (tenant, n) VALUES (1, 1) RETURNING id")
    return int(cursor.fetchone()[0])


class Keyed(TestCase):
    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()
        self.top.mkdir(parents=True)
        self.path = self.top / "some.db"

    async def open(self, key: bytes | None = KEY) -> Database:
        database = await Database.open(reactor, f"sqlite://{self.path}", (FIRST,), key=key)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.close()))
        return database

    async def plain(self) -> None:
        """With rows; as a process leaves it that was killed: all of it may still be in the log."""
        database = await self.open(None)
        for number in range(20):
            await database.run(put, number, f"{WORD} {number}")
            await database.run(count)
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{self.path}.killed{suffix}")
        await database.close()
        for suffix in ("", "-wal"):
            shutil.move(f"{self.path}.killed{suffix}", f"{self.path}{suffix}")

    def everything(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.top.iterdir())

    async def test_it_gets_its_key(self) -> None:
        """Catches rows, or the next number of a counter, that are lost on the way; and words that stay behind in the file or its log."""
        await self.plain()
        assert WORD.encode() in self.everything()
        database = await self.open()
        assert await database.read(names) == [f"{WORD} {number}" for number in range(20)]
        assert await database.run(count) == 21
        assert (await database.read(lambda c: c.execute("PRAGMA auto_vacuum").fetchone()))[0] == 2
        assert WORD.encode() not in self.everything()
        await database.close()
        again = await self.open()
        assert len(await again.read(names)) == 20
        assert self.path.stat().st_mode & 0o777 == 0o600

    async def test_cut_off_before_it_takes_the_place(self) -> None:
        """Catches a power cut that costs the database: the plain one is whole until the other is."""
        await self.plain()

        class Cut(Disk):
            def rename(self, old: Path, new: Path) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            keyed.give_key(self.path, KEY, Cut())
        assert (self.top / "some.db.keyed").exists()
        assert len(await (await self.open()).read(names)) == 20
        assert sorted(path.name for path in self.top.glob("*.keyed*")) == []

    async def test_damage_is_told(self) -> None:
        """Catches a plain file that is damaged and ends the start in a driver's error, instead of being known as damaged and made anew by its owner."""
        await self.plain()
        data = bytearray(self.path.read_bytes() or Path(f"{self.path}-wal").read_bytes())
        Path(f"{self.path}-wal").unlink()
        self.path.write_bytes(b"SQLite format 3\0" + bytes(data[16:24]) + b"x" * 9000)
        with pytest.raises(DatabaseBroken) as caught:
            await self.open()
        assert caught.value.corrupt


def test_a_keyed_file_is_not_plain(tmp_path: Path) -> None:
    """Catches a start that copies the whole database each time."""
    connection: Any = sqlite.connect(str(tmp_path / "x.db"))
    connection.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    assert not keyed.is_plain(tmp_path / "x.db")
    assert not keyed.is_plain(tmp_path / "none.db")
    (tmp_path / "empty.db").touch()
    assert not keyed.is_plain(tmp_path / "empty.db")
