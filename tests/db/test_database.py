"""Databases on both engines: group commit keeps each caller's work whole and its errors its own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlcipher3.dbapi2 as sqlite
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.db import engines
from hornetmail.db.engines import Cursor, DatabaseBroken, DatabaseError, DatabaseFull, DatabaseSlow, engine_for, translated
from hornetmail.db.migrate import Migration, SchemaError
from hornetmail.db.pool import Database
from hornetmail.testing.databases import fresh_url

FIRST = Migration(
    1,
    "first",
    (
        "CREATE TABLE things (id INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, name TEXT NOT NULL UNIQUE, data BLOB, weight REAL)",
        "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL, n INTEGER NOT NULL) STRICT",
    ),
)
SECOND = Migration(2, "second", ("ALTER TABLE things ADD COLUMN extra TEXT NOT NULL DEFAULT ''",))


def put(cursor: Cursor, number: int, name: str) -> int:
    cursor.execute(
        "INSERT INTO things (id, tenant, name, data, weight) VALUES (?, 1, ?, ?, ?)", (number, name, name.encode(), 0.5)
    )
    return number


def names(cursor: Cursor) -> list[str]:
    cursor.execute("SELECT name FROM things ORDER BY id")
    return [name for (name,) in cursor.fetchall()]


def endless(cursor: Cursor) -> None:
    cursor.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n WHERE i < 0")
    cursor.fetchall()


class OnSQLite(TestCase):
    """The same tests on each engine."""

    engine = "sqlite"

    def setUp(self) -> None:
        self.url = self.enterContext(fresh_url(self.engine))

    async def open(self, *migrations: Migration, **keywords: Any) -> Database:
        database = await Database.open(reactor, self.url, migrations or (FIRST,), **keywords)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.close()))
        return database

    async def test_a_question_without_end(self) -> None:
        """It is given up, and the reader, its connection included, serves on without a limit."""
        database = await self.open()
        for _ in range(2):
            with pytest.raises(DatabaseSlow):
                await database.read_within(0.1, endless)
        await database.run(put, 1, "one")
        assert await database.read(names) == ["one"]
        assert await database.read_within(60.0, names) == ["one"]

    async def test_rows_of_every_type(self) -> None:
        """Would catch a type that is not translated, a placeholder inside quotes, a % that psycopg takes for its own."""
        database = await self.open()
        await database.run(put, 1 << 62, "ä")
        row = await database.read(
            lambda c: c.execute(
                "SELECT id, name, data, weight, '?%' FROM things WHERE name LIKE 'ä%' AND id = ?", (1 << 62,)
            ).fetchone()
        )
        assert row == (1 << 62, "ä", "ä".encode(), 0.5, "?%")
        assert isinstance(row[2], bytes)
        ids = [
            await database.run(lambda c: c.execute("INSERT INTO counted (tenant, n) VALUES (1, 5) RETURNING id").fetchone()[0])
            for _ in range(2)
        ]
        assert ids == [1, 2]

    async def test_a_caller_gets_its_own_error_and_the_rest_is_committed(self) -> None:
        """Would catch a batch in which one caller's conflict takes others' work along, or is half kept."""
        database = await self.open()
        await database.run(put, 100, "taken")

        def two(cursor: Cursor) -> None:
            put(cursor, 101, "half")
            put(cursor, 102, "taken")

        waits: list[Deferred[Any]] = [Deferred.fromCoroutine(database.run(put, n, f"name {n}")) for n in range(8)]
        bad = Deferred.fromCoroutine(database.run(two))
        odd = Deferred.fromCoroutine(database.run(lambda _cursor: 1 // 0))
        waits += [Deferred.fromCoroutine(database.run(put, n, f"name {n}")) for n in range(8, 40)]
        with pytest.raises(Exception, match=r"UNIQUE|unique"):
            await bad
        with pytest.raises(ZeroDivisionError):
            await odd
        assert await gatherResults(waits) == list(range(40))
        assert await database.read(names) == [f"name {n}" for n in range(40)] + ["taken"]

    async def test_a_batch_shares_one_transaction(self) -> None:
        """Would catch group commit that commits once a caller, and batches beyond 32 calls."""
        database = await self.open()
        begun: list[int] = []
        begin = database.engine.begin
        database.engine.begin = lambda cursor, **k: (begun.append(1), begin(cursor, **k))[1]  # type: ignore[method-assign]
        await gatherResults([Deferred.fromCoroutine(database.run(put, n, f"{n}")) for n in range(65)])
        assert len(begun) == 3

    async def test_readers_cannot_write(self) -> None:
        """Would catch a reader that takes the writer's place."""
        database = await self.open()
        with pytest.raises(Exception, match=r"readonly|read-only"):
            await database.read(put, 1, "x")
        assert await database.read(names) == []

    async def test_migrations_go_on_from_where_they_were(self) -> None:
        """Would catch a delta that is applied twice or skipped, and a newer or different schema that is not refused."""
        database = await self.open(FIRST)
        await database.run(put, 1, "old")
        await database.close()
        database = await self.open(FIRST, SECOND)
        assert await database.read(lambda c: c.execute("SELECT name, extra FROM things").fetchall()) == [("old", "")]
        await database.close()
        with pytest.raises(SchemaError, match="newer"):
            await self.open(FIRST)
        with pytest.raises(SchemaError, match="another"):
            await self.open(FIRST, Migration(2, "another", ()))

    async def test_a_failing_migration_leaves_nothing(self) -> None:
        """Would catch half a delta that stays."""
        with pytest.raises(Exception, match="nonsense"):
            await self.open(FIRST, Migration(2, "bad", ("CREATE TABLE half (id INTEGER)", "nonsense")))
        database = await self.open(FIRST, Migration(2, "good", ("CREATE TABLE half (id INTEGER)",)))
        assert await database.read(lambda c: c.execute("SELECT count(*) FROM half").fetchone()[0]) == 0

    async def test_close_waits_for_what_runs(self) -> None:
        """Would catch work that was asked for before the close and is lost."""
        database = await self.open()
        waits = [Deferred.fromCoroutine(database.run(put, n, f"{n}")) for n in range(100)]
        await database.close()
        assert await gatherResults(waits) == list(range(100))
        await database.close()

    async def test_alone_is_outside_of_transactions(self) -> None:
        """Would catch VACUUM inside a transaction."""
        database = await self.open()
        await database.run(put, 1, "kept")
        with pytest.raises(Exception, match=r"VACUUM.*transaction"):
            await database.run(lambda c: c.execute("VACUUM") and None)
        await database.alone(lambda c: c.execute("VACUUM") and None)
        await database.run(put, 2, "and after it")
        assert await database.read(names) == ["kept", "and after it"]


class OnPostgreSQL(OnSQLite):
    """The same on PostgreSQL, and what only a server can do."""

    engine = "postgresql"

    async def test_a_lost_connection_is_opened_again(self) -> None:
        """Would catch a pool that keeps a dead connection after a restart of the server."""
        database = await self.open()
        await database.read(names)
        ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        await database.run(lambda c: c.execute(ours) and None)
        with pytest.raises(Exception, match=r"terminat|closed|lost"):
            await database.read(names)
        assert await database.read(names) == []

        def die_once(cursor: Cursor, died: list[int]) -> int:
            put(cursor, 7, "seven")
            if not died:
                died.append(1)
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return 7

        assert await database.run(die_once, []) == 7
        assert await database.read(names) == ["seven"]

    async def test_a_database_is_one_process_s(self) -> None:
        """Would catch two processes on one PostgreSQL database, which destroy each other's index, and a lock that outlives its process."""
        self.patch(engines, "_HELD_SECONDS", 0.2)
        first = await self.open(alone=True)
        with pytest.raises(engines.DatabaseHeld, match=r"database test_.* is in use by another HornetMail"):
            await Database.open(reactor, self.url, (FIRST,), alone=True)
        await first.close()
        with contextlib.closing(psycopg.connect(self.url, autocommit=True)) as other:
            engine = engines.PostgreSQL(self.url, "FULL")
            engine.hold(engine.cursor(other))
            with pytest.raises(engines.DatabaseHeld):
                await Database.open(reactor, self.url, (FIRST,), alone=True)
        again = await self.open(alone=True)
        await again.run(lambda cursor: None)

    async def test_serialization_failures_run_again(self) -> None:
        """Would catch 40001 that reaches a caller (design: group commit)."""
        database = await self.open()
        ran: list[int] = []

        def fails_once(cursor: Cursor) -> str:
            ran.append(1)
            if len(ran) == 1:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$")
            put(cursor, 1, "one")
            return "done"

        assert await database.run(fails_once) == "done"
        assert len(ran) == 2


class KeyedTests(TestCase):
    """What only SQLite has."""

    def setUp(self) -> None:
        self.url = self.enterContext(fresh_url("sqlite"))
        self.path = Path(self.url.removeprefix("sqlite://"))

    async def open(self, key: bytes | None = None) -> Database:
        database = await Database.open(reactor, self.url, (FIRST,), key=key)
        self.addCleanup(lambda: Deferred.fromCoroutine(database.close()))
        return database

    async def test_the_key_encrypts_and_is_needed(self) -> None:
        """Would catch plain text in a keyed file (A2), and another key that is accepted."""
        database = await self.open(b"k" * 48)
        await database.run(put, 1, "secret name")
        await database.close()
        assert b"secret" not in self.path.read_bytes()
        assert not self.path.read_bytes().startswith(b"SQLite format")
        for key in (b"x" * 48, None):
            with pytest.raises(DatabaseError):
                await self.open(key)
        again = await self.open(b"k" * 48)
        assert await again.read(names) == ["secret name"]

    async def test_pragmas_are_in_force(self) -> None:
        """Would catch a pragma that came too late and was silently ignored (auto_vacuum above all)."""
        for key in (None, b"k" * 48):
            self.path.unlink(missing_ok=True)
            database = await self.open(key)
            wanted = {"auto_vacuum": 2, "journal_mode": "wal", "synchronous": 2, "page_size": 4096, "secure_delete": 1, "foreign_keys": 1,
                      "temp_store": 2, "busy_timeout": 5000, "wal_autocheckpoint": 1000, "cache_size": -16384}  # fmt: skip

            def asked(cursor: Cursor, wanted: dict[str, Any] = wanted) -> dict[str, Any]:
                return {name: cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}

            wanted["page_size"] = 4096 if key is None else "4096"  # SQLCipher answers in text
            assert await database.alone(asked) == wanted
            await database.close()

    async def test_a_full_disk_fails_the_batch_and_nothing_else(self) -> None:
        """Would catch a commit that is claimed although SQLite rolled everything back by itself, savepoints included."""
        database = await self.open()
        await database.run(put, 1, "small")
        await database.alone(lambda c: c.execute("PRAGMA max_page_count = 40").fetchall() and None)
        waits = [Deferred.fromCoroutine(database.run(put, 10 + n, f"{n}" * 20000)) for n in range(12)]
        outcomes = []
        for wait in waits:
            try:
                outcomes.append(await wait)
            except DatabaseFull:
                outcomes.append(0)
        assert 0 in outcomes
        await database.alone(lambda c: c.execute("PRAGMA max_page_count = 4000").fetchall() and None)
        await database.run(put, 2, "room again")
        kept = await database.read(lambda c: {number for (number,) in c.execute("SELECT id FROM things").fetchall()})
        assert kept == {1, 2} | set(outcomes) - {0}

    async def test_a_broken_database_takes_no_more(self) -> None:
        """Would catch a second try after an I/O error (design: IOERR, CORRUPT: stop)."""
        database = await self.open()

        def broken(_cursor: Cursor) -> None:
            raise sqlite.OperationalError("disk I/O error")

        with pytest.raises(DatabaseBroken):
            await database.run(broken)
        with pytest.raises(DatabaseBroken):
            await database.run(put, 1, "x")
        assert database.broken


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a start on the SQLite with the WAL-reset bug (design: refuses < 3.51.3)."""
    monkeypatch.setattr(engines, "OLDEST_SQLITE", (99, 0, 0))
    with pytest.raises(DatabaseError, match="too old"):
        engine_for("sqlite:///tmp/x.db", None, "FULL")


@given(st.text("ab?%'\" ", max_size=20))
def test_placeholders_are_translated_outside_quotes_only(sql: str) -> None:
    """Would catch a ? inside a literal that becomes a parameter, or a lone % that breaks psycopg."""
    out = translated(sql)
    assert out.replace("%%", "").count("%s") == out.replace("%%", "").count("%")
    if "'" not in sql and '"' not in sql:
        assert out == sql.replace("%", "%%").replace("?", "%s")
