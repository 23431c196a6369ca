"""A broken database: whoever meets it, somebody hears of it, once, with the file's name."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.db.engines import Cursor, DatabaseBroken, DatabaseFull
from hornetmail.db.migrate import Migration
from hornetmail.db.pool import Database, Watch

reactor: Any = _reactor

SCHEMA = (Migration(1, "first", ("CREATE TABLE things (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, name TEXT NOT NULL)",)),)


def fill(cursor: Cursor) -> None:
    for number in range(2000):
        cursor.execute("INSERT INTO things (tenant, name) VALUES (1, ?)", (f"{number}" * 50,))


def everything(cursor: Cursor) -> int:
    cursor.execute("SELECT name FROM things")
    return len(cursor.fetchall())


def one_more(cursor: Cursor) -> None:
    cursor.execute("INSERT INTO things (tenant, name) VALUES (1, 'x')")


def checkpoint(cursor: Cursor) -> None:
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class BrokenTest(TestCase):
    """Plain and encrypted, read and written."""

    key: bytes | None = None

    async def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="hm-broken-"))
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "some.db"
        self.told: list[tuple[str, DatabaseBroken]] = []
        database = await self.open(0)
        await database.run(fill)
        await database.alone(checkpoint)
        await database.close()
        self.sound = self.path.read_bytes()

    async def open(self, seconds: float) -> Database:
        watch = Watch(lambda file, error: self.told.append((file, error)), seconds)
        return await Database.open(reactor, f"sqlite://{self.path}", SCHEMA, key=self.key, watch=watch)

    def damage(self) -> None:
        """All but the first page is garbage."""
        self.path.write_bytes(self.sound[:4096] + os.urandom(len(self.sound) - 4096))

    async def heard(self) -> DatabaseBroken:
        for _ in range(500):
            if self.told:
                [(file, error)] = self.told
                assert file == str(self.path)
                return error
            waited: Deferred[None] = Deferred()
            reactor.callLater(0.01, waited.callback, None)
            await waited
        raise AssertionError("nobody was told")

    async def test_read(self) -> None:
        """Would catch a reader's error that is passed on as a refusal, and that nobody else ever hears of."""
        database = await self.open(0)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.close()))
        self.damage()
        for _ in range(3):
            with pytest.raises(DatabaseBroken):
                await database.read(everything)
        assert (await self.heard()).corrupt
        assert database.broken

    async def test_written(self) -> None:
        """Would catch a writer that keeps it to itself; the second call is refused without trying."""
        database = await self.open(0)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.close()))
        self.damage()
        for _ in range(2):
            with pytest.raises(DatabaseBroken):
                await database.run(everything)
        await self.heard()
        with pytest.raises(DatabaseBroken):
            await database.run(one_more)
        assert len(self.told) == 1

    async def test_nobody_uses_it(self) -> None:
        """Would catch a damaged store that is noticed when it is needed, at night, in an emergency: not before."""
        database = await self.open(0.05)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.close()))
        for _ in range(3):
            await database.glance()
        assert not self.told, "a sound one is none"
        self.damage()
        assert (await self.heard()).corrupt

    async def test_full_is_not_broken(self) -> None:
        """Would catch a process that ends because a disk is full."""
        database = await self.open(0)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.close()))

        def full(cursor: Cursor) -> None:
            cursor.execute("PRAGMA max_page_count=10")
            fill(cursor)

        with pytest.raises(DatabaseFull):
            await database.run(full)
        await database.glance()
        assert not self.told
        assert not database.broken


class BrokenEncryptedTest(BrokenTest):
    """The same under a key, as ``control.db`` is."""

    key = bytes(range(48))
