"""One database: a writer with group commit and readers, each an adbapi pool on the reactor that was handed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import msgspec
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from hornetmail.db.commit import GroupCommit
from hornetmail.db.engines import Cursor, DatabaseBroken, DatabaseLocked, Engine, engine_for
from hornetmail.db.migrate import Migration, migrate
from hornetmail.disk.threads import thread_pool

T = TypeVar("T")
P = ParamSpec("P")

Broken = Callable[[str, DatabaseBroken], None]
"""What is called, once, in the reactor thread, when a database breaks: its place for people, and why."""


Held = Callable[[str, bool], None]
"""What is called, in the reactor thread, when another program keeps a database from being written, with its place for people, and when it does not any more."""

HELD_SECONDS = 5.0
"""Between two tries to write, once it is held."""


def _nobody(where: str, held: bool) -> None:
    """Nobody hears of a database that is held."""


class Watch(msgspec.Struct, frozen=True):
    """Who hears of a database that breaks, or is held by another program, whoever met it and whatever became of that: callers may well pass it on as a
    refusal, and nobody else would know. One that nobody uses is glanced at every ``seconds``, or never for 0."""

    broken: Broken
    seconds: float = 600.0
    held: Held = _nobody


SLOW_READ = 2.0
"""Seconds: a reader held open longer lets the WAL grow, and is logged."""


class OpenDatabase(Protocol):
    """How a database is opened: ``Database.open``, which says what it means; tests hand in one that fails on purpose."""

    async def __call__(
        self,
        reactor: Any,
        url: str,
        migrations: Sequence[Migration],
        *,
        key: bytes | None = None,
        readers: int = 1,
        synchronous: str = "FULL",
        alone: bool = False,
        watch: Watch | None = None,
    ) -> Database: ...


class _Pool(adbapi.ConnectionPool):
    """Transactions are ended by ``commit.py`` alone, so nothing is committed or rolled back here."""

    _ours = False

    def __init__(self, *args: Any, **kw: Any) -> None:
        """See ConnectionPool, which may start already."""
        super().__init__(*args, **kw)  # type: ignore[no-untyped-call]
        self._take_threads()

    def _take_threads(self) -> None:
        """Threads of ``disk.threads`` instead of Twisted's, before anything can wait for these."""
        if not self._ours:
            self._ours = True
            self.threadpool = thread_pool(self._reactor, self.min, self.max, self.name or "")

    def start(self) -> None:
        """See ConnectionPool."""
        if not self.running:
            self._take_threads()
            super().start()  # type: ignore[no-untyped-call]

    def _runWithConnection(self, func: Callable[..., T], *args: Any, **kw: Any) -> T:
        connection: Any = adbapi.Connection(self)
        return func(connection, *args, **kw)

    def hop(self, func: Callable[..., T], *args: Any) -> Deferred[T]:
        """``func(connection, *args)`` in one of the pool's threads."""
        deferred: Deferred[T] = self.runWithConnection(func, *args)  # type: ignore[no-untyped-call]
        return deferred


class Database:
    """A database that is open. Everything async; functions that are handed in run in threads and touch only their cursor."""

    log = Logger()
    engine: Engine

    def __init__(self, reactor: Any, engine: Engine, readers: int, alone: bool = False) -> None:
        self.engine = engine
        self._alone = alone
        self._reactor = reactor
        self._watch: Watch | None = None
        self._timer: Any = None
        self._told = False
        self._closed = False
        self._writer = self._pool(1, writer=True)
        self._readers = self._pool(readers, writer=False)
        self._trying: Any = None
        self._commits = GroupCommit(engine, self._writer.hop, self._broke, self._held)

    @classmethod
    async def open(
        cls,
        reactor: Any,
        url: str,
        migrations: Sequence[Migration],
        *,
        key: bytes | None = None,
        readers: int = 1,
        synchronous: str = "FULL",
        alone: bool = False,
        watch: Watch | None = None,
    ) -> Database:
        """Create what is missing, migrate, and serve. ``alone``: the database is this one's until ``close``; on PostgreSQL DatabaseHeld after some
        seconds if another process has it (SQLite files are held by the data directory's lock).

        ``url``: ``sqlite:///absolute/path`` or ``postgresql://…``. Raises SchemaError (newer schema), DatabaseError (DatabaseLocked: nothing is wrong
        with it), the driver's errors, ValueError. ``synchronous``: NORMAL only for what can be rebuilt. ``watch`` hears of the first DatabaseBroken once it is open.
        """
        engine = engine_for(url, key, synchronous)
        self = cls(reactor, engine, readers, alone)
        try:
            await deferToThreadPool(reactor, self._writer.threadpool, engine.settle)
            await self._writer.hop(migrate, engine, migrations, reactor.seconds())
        except BaseException as error:
            await self.close()
            if engine.locked(error):
                raise DatabaseLocked(f"{engine.where} is locked by another program") from error
            told = engine.verdict(error)
            if told is error:
                raise
            raise told from error
        self._watch = watch
        if watch is not None and watch.seconds:
            self._timer = reactor.callLater(watch.seconds, self._ring)
        return self

    def _broke(self, error: BaseException) -> None:
        """In any thread: tell of the first one."""
        if isinstance(error, DatabaseBroken) and not self._told:
            self._told = True
            self._reactor.callFromThread(self._say, error)

    def _say(self, error: DatabaseBroken) -> None:
        if self._watch is not None:
            self._watch.broken(self.engine.where, error)

    def _held(self, held: bool) -> None:
        """In the writer's thread."""
        self._reactor.callFromThread(self._say_held, held)

    def _say_held(self, held: bool) -> None:
        if self._trying is not None:
            self._trying.cancel()
            self._trying = None
        if self._watch is not None:
            self._watch.held(self.engine.where, held)
        if held:
            self._try_soon()

    def _try_soon(self) -> None:
        if not self._closed:
            self._trying = self._reactor.callLater(HELD_SECONDS, self._try)

    def _try(self) -> None:
        """Whether it can be written again: nobody else may want to for a long time."""
        self._trying = None
        Deferred.fromCoroutine(self.run(_nothing)).addCallbacks(lambda _: None, lambda _: self._try_soon())

    def _ring(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self.glance())

    async def glance(self) -> None:
        """Look whether the file still is a database, past what memory holds of it. Never raises; what is broken is told."""
        try:
            await deferToThreadPool(self._reactor, self._readers.threadpool, self._glance)
        except Exception as error:  # noqa: BLE001 - a look that fails otherwise says nothing of the database
            self.log.debug("no look at {where}: {error}", where=self.engine.where, error=error)
        if self._watch is not None and self._watch.seconds and self._timer is None and not self._closed:
            self._timer = self._reactor.callLater(self._watch.seconds, self._ring)

    def _glance(self) -> None:
        connection: Any = self._readers.dbapi.connect(**self.engine.arguments())
        try:
            self.engine.prepare(connection, writer=False)
            self.engine.glance(connection)
        except Exception as error:  # noqa: BLE001 - only what says that it is broken counts
            self._broke(self.engine.verdict(error))
        finally:
            connection.close()

    def _pool(self, size: int, *, writer: bool) -> _Pool:
        pool = _Pool(
            self.engine.module,
            cp_reactor=self._reactor,
            cp_min=1 if writer else 0,
            cp_max=size,
            cp_noisy=False,
            cp_name=f"{self.engine.name} {'writer' if writer else 'reader'}",
            cp_openfun=lambda connection: self._prepare(connection, writer),
            **self.engine.arguments(),
        )
        return pool

    def _prepare(self, connection: Any, writer: bool) -> None:
        try:
            self.engine.prepare(connection, writer=writer)
            if writer and self._alone:
                self.engine.hold(self.engine.cursor(connection))
        except Exception as error:
            connection.close()
            told = self.engine.verdict(error)
            self._broke(told)
            if told is error:
                raise
            raise told from error

    @property
    def broken(self) -> bool:
        """Reading or writing failed in a way that only a restart may mend (see DatabaseBroken)."""
        return self._told or self._commits.broken

    async def run(self, fn: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(cursor, *args)`` in the writer thread, in a transaction that is committed on return.

        ``fn`` shares its transaction with others, may run twice, touches only its cursor and ends no transaction. Raises
        what it raises (then nothing of it is kept), DatabaseFull, DatabaseBroken, CommitUncertain. Calls run in the order of coming.
        """
        if kwargs:
            raise TypeError("arguments go by position")
        result: T = await self._commits.submit(fn, args)
        return result

    async def read(self, fn: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(cursor, *args)`` in a reader thread, in a read-only transaction: one state of the database throughout. Keep it under 2 s."""
        if kwargs:
            raise TypeError("arguments go by position")
        result: T = await self._readers.hop(self._read, fn, args)
        return result

    async def read_within(self, seconds: float, fn: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for questions that somebody else thought up: one that takes longer than so many seconds is given up with DatabaseSlow (``tests/db/test_database.py``)."""
        if kwargs:
            raise TypeError("arguments go by position")
        result: T = await self._readers.hop(self._read, fn, args, seconds)
        return result

    def _read(self, connection: Any, fn: Callable[..., T], args: tuple[Any, ...], seconds: float = 0.0) -> T:
        engine = self.engine
        if engine.lost(connection):
            connection.reconnect()
        began = self._reactor.seconds()
        try:
            cursor = engine.cursor(connection)
            engine.begin(cursor, writer=False)
            try:
                if seconds:
                    # Time that really passes, whatever the clock is set to.
                    until = time.monotonic() + seconds
                    engine.limit(connection, cursor, seconds, lambda: time.monotonic() > until)
                return fn(cursor, *args)
            finally:
                if seconds:
                    engine.limit(connection, cursor, seconds, None)
                engine.rollback(connection)
        except Exception as error:
            told = engine.verdict(error)
            self._broke(told)
            if told is error:
                raise
            raise told from error
        finally:
            took = self._reactor.seconds() - began
            if took > SLOW_READ:
                self.log.warn("a read held the database for {took:.1f} s: {fn}", took=took, fn=getattr(fn, "__qualname__", fn))

    async def alone(self, fn: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(cursor, *args)`` in the writer thread outside of any transaction: VACUUM, backups, checkpoints, ATTACH."""
        if kwargs:
            raise TypeError("arguments go by position")

        def call(connection: Any) -> T:
            try:
                return fn(self.engine.cursor(connection), *args, **kwargs)
            except Exception as error:
                told = self.engine.verdict(error)
                self._broke(told)
                if told is error:
                    raise
                raise told from error

        result: T = await self._writer.hop(call)
        return result

    async def close(self) -> None:
        """Finish what runs, then close. The writer goes last, so that it is the one that checkpoints."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._trying is not None:
            self._trying.cancel()
            self._trying = None
        await self._commits.idle()
        for pool in (self._readers, self._writer):
            if pool.running or pool.startID:
                drained: Deferred[None] = deferToThreadPool(self._reactor, pool.threadpool, lambda: None)
                await drained
                pool.close()  # type: ignore[no-untyped-call]


def _nothing(cursor: Cursor) -> None:
    """A transaction without a word."""
