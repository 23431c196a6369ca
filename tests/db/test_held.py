"""A database that another program keeps locked (a shell, a backup): somebody hears of it at once, and when it is over; nothing of it is damage."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import sqlcipher3.dbapi2 as sqlite
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.db import pool
from hornetmail.db.engines import Cursor, DatabaseLocked
from hornetmail.db.pool import Database, Watch
from tests.db.test_broken import SCHEMA, one_more

reactor: Any = _reactor


def impatient(cursor: Cursor) -> None:
    """The product waits 5 s for a lock."""
    cursor.execute("PRAGMA busy_timeout=20").fetchall()


class Locker:
    """The other program."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite.connect(str(path), isolation_level=None)

    def lock(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self.connection.execute("ROLLBACK")


class HeldTest(TestCase):
    timeout = 120

    async def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="hm-held-"))
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "some.db"
        self.told: list[bool] = []
        self.hears: Deferred[None] = Deferred()
        self.patch(pool, "HELD_SECONDS", 0.05)
        self.database = await Database.open(reactor, f"sqlite://{self.path}", SCHEMA, watch=Watch(self.broke, 0, self.heard))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.close()))
        await self.database.alone(impatient)
        self.other = Locker(self.path)
        self.addCleanup(self.other.connection.close)

    def broke(self, file: str, error: Exception) -> None:
        raise AssertionError(f"{file} is not broken: {error}")

    def heard(self, file: str, held: bool) -> None:
        assert file == str(self.path)
        self.told.append(held)
        hears, self.hears = self.hears, Deferred()
        hears.callback(None)

    async def test_told_and_over(self) -> None:
        """Would catch a lock that callers pass on as trouble of a moment, again and again, while nobody hears of it; one that is told of with every
        call; and one that is over, and not told as over before somebody happens to write."""
        self.other.lock()
        began = self.hears
        for _ in range(3):
            with pytest.raises(sqlite.OperationalError, match="locked"):
                await self.database.run(one_more)
        await began
        assert self.told == [True]
        over = self.hears
        self.other.let_go()
        await over
        assert self.told == [True, False]
        await self.database.run(one_more)
        self.other.lock()
        began = self.hears
        with pytest.raises(sqlite.OperationalError):
            await self.database.run(one_more)
        await began
        assert self.told == [True, False, True]
        self.other.let_go()
        await self.hears

    async def test_a_batch_waits_once(self) -> None:
        """Would catch a batch that is tried anew, call by call, each of which waits for the lock as long again: half a minute until anybody hears."""
        self.patch(pool, "HELD_SECONDS", 1000.0)
        tries: list[None] = []
        begin = self.database.engine.begin

        def counted(cursor: Cursor, *, writer: bool = True) -> None:
            tries.append(None)
            begin(cursor, writer=writer)

        self.database.engine.begin = counted  # type: ignore[method-assign]
        self.other.lock()
        failed: list[object] = []
        await gatherResults([Deferred.fromCoroutine(self.database.run(one_more)).addErrback(failed.append) for _ in range(6)])
        assert len(failed) == 6
        assert len(tries) == 2, "the first call, and the batch of all that came meanwhile"
        self.other.let_go()

    async def test_a_start(self) -> None:
        """Would catch a start that takes a locked index for a damaged one, or says only that something is locked, and not what."""
        await self.database.close()
        self.other.lock()
        arguments = {"database": str(self.path), "check_same_thread": False, "isolation_level": None, "timeout": 0.02}
        self.patch(pool.Database, "_prepare", lambda database, connection, writer: None)
        self.patch(type(self.database.engine), "arguments", lambda engine: arguments)
        with pytest.raises(DatabaseLocked, match=r"some\.db is locked by another program"):
            await Database.open(reactor, f"sqlite://{self.path}", SCHEMA)
        self.other.let_go()
