"""What differs between SQLite and PostgreSQL, in one class each; nobody else asks which it is.

SQL is written once: ``?`` placeholders, ``RETURNING`` and ``ON CONFLICT`` yes; rowids, ``lastrowid`` and blob I/O no.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import sqlcipher3.dbapi2 as sqlite

from hornetmail.db.keyed import give_key, is_plain
from hornetmail.disk.files import Disk

OLDEST_SQLITE = (3, 51, 3)
"""Older ones can lose a WAL that is reset while another connection checkpoints."""


class DatabaseError(Exception):
    """The database refused or failed; the cause is the driver's error."""


class DatabaseFull(DatabaseError):
    """No room; the whole batch was rolled back. Answer 4xx and try again later."""


class DatabaseBroken(DatabaseError):
    """Corruption, an I/O error or a failed sync: this process writes no more. Answer 4xx, stop, restart. ``corrupt``: what is in the file is
    wrong; otherwise the disk below failed, and the file may be well."""

    def __init__(self, text: str, *, corrupt: bool = False) -> None:
        super().__init__(text)
        self.corrupt = corrupt


class CommitUncertain(DatabaseError):
    """The connection was lost while COMMIT was under way: it may have happened. Ask before doing it again."""


class DatabaseHeld(DatabaseError):
    """Another process has this database open, and the two would destroy each other's work. Nothing was changed."""


class DatabaseLocked(DatabaseError):
    """Another program holds a lock on this database: a shell, a backup. It may let go at any time; nothing is wrong with the database."""


class DatabaseSlow(DatabaseError):
    """A question took longer than it may, and was given up."""


class Cursor(Protocol):
    """A DB-API cursor, as far as both drivers go. ``lastrowid`` must not be used."""

    @property
    def rowcount(self) -> int: ...
    @property
    def description(self) -> Any: ...
    def execute(self, sql: str, params: Sequence[Any] = ..., /) -> Any: ...
    def executemany(self, sql: str, params: Iterable[Sequence[Any]], /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def fetchmany(self, size: int = ..., /) -> list[Any]: ...


class Engine:
    """One kind of database at one address."""

    name = ""
    where = ""
    """For people: the file, or the server and database, without password."""
    module = ""
    """The DB-API module that adbapi imports."""

    def arguments(self) -> dict[str, Any]:
        """Keywords for the driver's ``connect``."""
        raise NotImplementedError

    def settle(self) -> None:
        """Before the first connection. Blocking."""

    def prepare(self, connection: Any, *, writer: bool) -> None:
        """Settings of a fresh connection."""
        raise NotImplementedError

    def cursor(self, connection: Any) -> Cursor:
        """A cursor that takes ``?`` placeholders."""
        raise NotImplementedError

    def schema(self, sql: str) -> str:
        """A statement of a migration in this engine's words."""
        raise NotImplementedError

    def begin(self, cursor: Cursor, *, writer: bool = True) -> None:
        """Open a transaction; a writer's holds the write lock from the start."""
        raise NotImplementedError

    def commit(self, cursor: Cursor) -> None:
        """End it."""
        cursor.execute("COMMIT")

    def rollback(self, connection: Any) -> None:
        """Take it back, if one is open. Raises what the driver raises if the connection is lost."""
        if self.in_transaction(connection):
            connection.cursor().execute("ROLLBACK")

    def in_transaction(self, connection: Any) -> bool:
        """Whether a transaction is open: after an error the engine may have ended it."""
        raise NotImplementedError

    def hold(self, cursor: Cursor) -> None:
        """Make the database this process's alone for as long as the writer's connection lasts, or raise DatabaseHeld. SQLite files are held by
        the lock of the data directory."""

    def lock_schema(self, cursor: Cursor) -> None:
        """Keep other processes from migrating until this transaction ends."""

    def limit(self, connection: Any, cursor: Cursor, seconds: float, over: Callable[[], bool] | None) -> None:
        """Give up what runs on the connection once ``over``, which is some ``seconds`` from now (then ``verdict`` says DatabaseSlow); for None what is to come may
        take its time again."""
        raise NotImplementedError

    def lost(self, connection: Any) -> bool:
        """The connection is of no use any more."""
        return False

    def retriable(self, error: BaseException) -> bool:
        """The same transaction may succeed when it runs again."""
        return False

    def locked(self, error: BaseException) -> bool:
        """It failed because somebody else holds a lock, for longer than the 5 s that are waited for it."""
        return False

    def glance(self, connection: Any) -> None:
        """Look, on a fresh connection, whether what is there still is a database. Raises the driver's errors."""

    def verdict(self, error: BaseException) -> BaseException:
        """The error that callers get: one of ours for full or broken, else itself."""
        return error


class SQLite(Engine):
    """SQLCipher's SQLite, keyed if a key is given (48 bytes: raw key and salt, so that no connection pays for a key derivation)."""

    name = "sqlite"
    module = "sqlcipher3.dbapi2"

    def __init__(self, url: str, key: bytes | None, synchronous: str) -> None:
        if sqlite.sqlite_version_info < OLDEST_SQLITE:
            raise DatabaseError(
                f"SQLite {sqlite.sqlite_version} is too old: {'.'.join(map(str, OLDEST_SQLITE))} or newer is needed"
            )
        if key is not None and len(key) != 48:
            raise ValueError(f"a database key has 48 bytes, not {len(key)}")
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous is FULL or NORMAL, not {synchronous}")
        self.path = Path(unquote(urlsplit(url).path))
        if not self.path.is_absolute():
            raise ValueError(f"not an absolute path in {url}")
        self.where = str(self.path)
        self._key = key
        self.synchronous = synchronous

    def arguments(self) -> dict[str, Any]:
        return {"database": str(self.path), "check_same_thread": False, "isolation_level": None, "timeout": 5.0}

    def settle(self) -> None:
        """See Engine: the file exists, for its owner only, and a plain one of an earlier version gets its key."""
        self.path.touch(mode=0o600)
        if self._key is not None and is_plain(self.path):
            give_key(self.path, self._key, Disk())

    def prepare(self, connection: Any, *, writer: bool) -> None:
        """The pragmas of the design, in its order: ``auto_vacuum`` after ``journal_mode`` would be silently ignored."""
        cursor = connection.cursor()
        cursor.execute("PRAGMA cipher_log_level=NONE")
        if self._key is not None:
            cursor.execute(f"PRAGMA key = \"x'{self._key.hex()}'\"")
        pragmas = [
            "page_size=4096",
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            f"synchronous={self.synchronous}",
            f"wal_autocheckpoint={1000 if writer else 0}",
            "journal_size_limit=67108864",
            "cache_size=-16384",
            "mmap_size=0",
            "secure_delete=ON",
            "temp_store=MEMORY",
            "foreign_keys=ON",
            "busy_timeout=5000",
        ]
        if not writer:
            pragmas = [pragma for pragma in pragmas if not pragma.startswith(("auto_vacuum", "journal_mode"))] + ["query_only=ON"]
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}").fetchall()
        cursor.execute("SELECT count(*) FROM sqlite_schema").fetchall()

    def cursor(self, connection: Any) -> Cursor:
        cursor: Cursor = connection.cursor()
        return cursor

    def schema(self, sql: str) -> str:
        """As it is written."""
        return sql

    def begin(self, cursor: Cursor, *, writer: bool = True) -> None:
        cursor.execute("BEGIN IMMEDIATE" if writer else "BEGIN")

    def limit(self, connection: Any, cursor: Cursor, seconds: float, over: Callable[[], bool] | None) -> None:
        connection.set_progress_handler(over, _STEPS)

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.in_transaction)

    def locked(self, error: BaseException) -> bool:
        driver: type[BaseException] = sqlite.Error
        name = str(getattr(error, "sqlite_errorname", "") or "")
        return isinstance(error, driver) and (name.startswith("SQLITE_BUSY") or "database is locked" in str(error))

    def glance(self, connection: Any) -> None:
        """The first pages of every table: cheap at any size, and enough for a file that was overwritten, replaced, or lost its disk."""
        cursor = connection.cursor()
        cursor.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")
        for (name,) in cursor.fetchall():
            cursor.execute('SELECT 1 FROM "' + name.replace('"', '""') + '" LIMIT 1').fetchall()

    def verdict(self, error: BaseException) -> BaseException:
        driver: type[BaseException] = sqlite.Error
        if not isinstance(error, driver):
            return error
        name = str(getattr(error, "sqlite_errorname", "") or "")
        text = str(error)
        if name == "SQLITE_INTERRUPT" or text == "interrupted":
            return _with_cause(DatabaseSlow(text), error)
        if name.startswith("SQLITE_FULL") or "database or disk is full" in text:
            return _with_cause(DatabaseFull(text), error)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in text or "not a database" in text:
            return _with_cause(DatabaseBroken(text, corrupt=True), error)
        if name.startswith("SQLITE_IOERR") or "disk I/O error" in text:
            return _with_cause(DatabaseBroken(text), error)
        return error


class PostgreSQL(Engine):
    """PostgreSQL through psycopg 3 in autocommit, so that BEGIN and COMMIT are ours alone."""

    name = "postgresql"
    module = "psycopg"

    def __init__(self, url: str, synchronous: str) -> None:
        import psycopg  # an extra: installations on SQLite live without it

        self._url = url
        parts = urlsplit(url)
        self.where = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        self._synchronous = synchronous
        self._errors = psycopg.errors
        self._idle = psycopg.pq.TransactionStatus.IDLE

    def arguments(self) -> dict[str, Any]:
        return {"conninfo": self._url, "autocommit": True, "connect_timeout": 10}

    def prepare(self, connection: Any, *, writer: bool) -> None:
        cursor = connection.cursor()
        cursor.execute("SET client_encoding TO 'UTF8'")
        cursor.execute("SET default_transaction_isolation TO 'repeatable read'" if not writer else "SET lock_timeout TO '5s'")
        if not writer:
            cursor.execute("SET default_transaction_read_only TO on")
        elif self._synchronous == "NORMAL":
            cursor.execute("SET synchronous_commit TO off")

    def cursor(self, connection: Any) -> Cursor:
        return _Translating(connection.cursor())

    def schema(self, sql: str) -> str:
        """INTEGER is BIGINT, BLOB is BYTEA, REAL is DOUBLE PRECISION; AUTOINCREMENT is an identity column; STRICT and WITHOUT ROWID go."""
        for pattern, words in _SCHEMA:
            sql = pattern.sub(words, sql)
        return sql

    def begin(self, cursor: Cursor, *, writer: bool = True) -> None:
        cursor.execute("BEGIN")

    def limit(self, connection: Any, cursor: Cursor, seconds: float, over: Callable[[], bool] | None) -> None:
        if over is not None:  # it ends with the transaction
            cursor.execute(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}")

    def in_transaction(self, connection: Any) -> bool:
        return not connection.closed and connection.info.transaction_status != self._idle

    def hold(self, cursor: Cursor) -> None:
        """An advisory lock of the session. One that was just left by a process that died may take the server some seconds to notice."""
        end = time.monotonic() + _HELD_SECONDS
        while True:
            cursor.execute(f"SELECT pg_try_advisory_lock({_HELD})")
            if cursor.fetchone()[0]:
                return
            if time.monotonic() >= end:
                cursor.execute(
                    "SELECT current_database(), activity.pid, coalesce(host(activity.client_addr), 'this host') FROM pg_locks AS held"
                    " JOIN pg_stat_activity AS activity ON activity.pid = held.pid JOIN pg_database AS base ON base.oid = held.database"
                    f" WHERE held.locktype = 'advisory' AND held.objid = {_HELD} AND held.granted AND base.datname = current_database()"
                )
                name, pid, host = cursor.fetchone() or (urlsplit(self._url).path.lstrip("/"), 0, "an unknown host")
                raise DatabaseHeld(
                    f"the PostgreSQL database {name} is in use by another HornetMail (connection {pid} from {host}): give each process"
                    " databases of its own, or stop the other one"
                )
            time.sleep(_HELD_SECONDS / 20)

    def lock_schema(self, cursor: Cursor) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(7237470112)")

    def lost(self, connection: Any) -> bool:
        return bool(connection.closed)

    def retriable(self, error: BaseException) -> bool:
        return isinstance(error, (self._errors.SerializationFailure, self._errors.DeadlockDetected))

    def locked(self, error: BaseException) -> bool:
        return isinstance(error, self._errors.LockNotAvailable)

    def verdict(self, error: BaseException) -> BaseException:
        if isinstance(error, self._errors.QueryCanceled):
            return _with_cause(DatabaseSlow(str(error)), error)
        if isinstance(error, self._errors.DiskFull):
            return _with_cause(DatabaseFull(str(error)), error)
        if isinstance(error, (self._errors.DataCorrupted, self._errors.IndexCorrupted)):
            return _with_cause(DatabaseBroken(str(error), corrupt=True), error)
        if isinstance(error, self._errors.IoError):
            return _with_cause(DatabaseBroken(str(error)), error)
        return error


_STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock: about a millisecond."""

_HELD = 1_212_370_244
"""The advisory lock that says that a process has a database open."""

_HELD_SECONDS = 5.0

_SCHEMA = (
    (re.compile(r"\bINTEGER PRIMARY KEY AUTOINCREMENT\b", re.I), "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
    (re.compile(r"\bINTEGER\b", re.I), "BIGINT"),
    (re.compile(r"\bBLOB\b", re.I), "BYTEA"),
    (re.compile(r"\bREAL\b", re.I), "DOUBLE PRECISION"),
    (re.compile(r"\)\s*(?:STRICT|WITHOUT\s+ROWID)(?:\s*,\s*(?:STRICT|WITHOUT\s+ROWID))?\s*;?\s*$", re.I), ")"),
)
_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\?|%")


@lru_cache(maxsize=2000)
def translated(sql: str) -> str:
    """``?`` outside of quotes becomes ``%s``; every ``%`` is doubled, as psycopg wants it."""

    def swap(found: re.Match[str]) -> str:
        return "%s" if found[0] == "?" else found[0].replace("%", "%%")

    return _TOKENS.sub(swap, sql)


class _Translating:
    """A psycopg cursor that takes ``?``."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.fetchone = cursor.fetchone
        self.fetchall = cursor.fetchall
        self.fetchmany = cursor.fetchmany

    @property
    def rowcount(self) -> int:
        return int(self._cursor.rowcount)

    @property
    def description(self) -> Any:
        return self._cursor.description

    def execute(self, sql: str, params: Sequence[Any] = (), /) -> _Translating:
        self._cursor.execute(translated(sql), tuple(params))
        return self

    def executemany(self, sql: str, params: Iterable[Sequence[Any]], /) -> _Translating:
        self._cursor.executemany(translated(sql), [tuple(one) for one in params])
        return self

    def __iter__(self) -> Any:
        return iter(self._cursor)


def engine_for(url: str, key: bytes | None, synchronous: str) -> Engine:
    """The engine of a URL. Raises ValueError, DatabaseError (SQLite too old), ImportError (psycopg is not installed)."""
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        return SQLite(url, key, synchronous)
    if scheme in ("postgresql", "postgres"):
        if key is not None:
            raise ValueError("a key is for SQLite files; PostgreSQL encrypts below or not at all")
        return PostgreSQL(url, synchronous)
    raise ValueError(f"no engine for {scheme}: sqlite:///path or postgresql://…")


def _with_cause(error: DatabaseError, cause: BaseException) -> DatabaseError:
    error.__cause__ = cause
    return error
