"""What every room stands on: the lock, the disk, keys, threads, the bus, meters, and databases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from hornetmail.compose.ground.keys import ServerKey
from hornetmail.config import Config
from hornetmail.core.events import StoreBroken, StoreHeld
from hornetmail.core.ids import IdSource
from hornetmail.db.engines import DatabaseBroken, DatabaseError
from hornetmail.db.migrate import Migration
from hornetmail.db.pool import Database, OpenDatabase, Watch
from hornetmail.disk.files import Disk
from hornetmail.disk.lock import DirectoryLock
from hornetmail.disk.mounts import refuse_foreign, refuse_network
from hornetmail.disk.threads import thread_pool
from hornetmail.net.serving.outbox import Outbox
from hornetmail.net.serving.rota import Rota
from hornetmail.runtime.alarms import AlarmBook
from hornetmail.runtime.bus import Bus
from hornetmail.runtime.jobs import PlannedJob
from hornetmail.runtime.meters import Meters
from hornetmail.runtime.timetable import Job

DISK_THREADS = 8
"""Threads that wait for the disk; they hold no GIL while they do."""


SERVER_KEY = "keys/server.key"
"""Below the data directory."""

FULL = 0.001
"""The share of a disk with less than which free a database may not even open."""

RESTORING = "restoring"
"""The file that says that a restore was begun and not ended."""


class Foundations:
    """Taken before anything else starts. Raises AlreadyRunning, NetworkFileSystem, OSError or ValueError, each in one line.

    ``closing`` collects what has to be closed, in reverse order of opening. ``jobs`` collects what the timetable shall run, ``planned`` what is due at times
    of the day. ``open_database`` opens every database. ``rota``: the one of all doors.
    """

    open_database: OpenDatabase = Database.open

    def __init__(self, reactor: Any, config: Config, restoring: bool = False) -> None:
        self.reactor = reactor
        self.config = config
        refuse_foreign(config.root)
        self.lock = DirectoryLock(config.root)
        try:
            refuse_network(config.root)
            if not restoring and (config.root / RESTORING).exists():
                raise ValueError("a restore was begun and not ended: run 'hornetmail archive restore' again")
            self.key = ServerKey.load(config.root / SERVER_KEY)
        except BaseException:
            self.lock.release()
            raise
        self.disk = Disk()
        self.rota = Rota(reactor, Outbox(reactor))
        self.bus = Bus(reactor)
        self.meters = Meters()
        self.ids = IdSource(reactor.seconds, config.node)
        self.alarms = AlarmBook(reactor, self.bus, self.ids, config.alarms.confirm)
        self.threads = self.pool("disk", DISK_THREADS)
        self.jobs: list[Job] = []
        self.planned: list[PlannedJob] = []
        self.closing = AsyncExitStack()

    def pool(self, name: str, most: int) -> ThreadPool:
        """Threads of their own for one purpose, started and stopped with the rest."""
        return thread_pool(self.reactor, 0, most, name)

    def start_pool(self, pool: ThreadPool) -> None:
        """Start it now and stop it when everything above it is closed."""
        pool.start()
        self.closing.callback(pool.stop)

    async def offload(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run a function in a disk thread."""
        deferred: Deferred[Any] = deferToThreadPool(self.reactor, self.threads, fn, *args)
        return await deferred

    def database_key(self, name: str) -> bytes | None:
        """Of a database that is a file of ours (rule 24); one in PostgreSQL has none."""
        return self.key.derive(f"{name}.db", 48) if self.config.database_url(name).startswith("sqlite:") else None

    async def database(self, name: str, migrations: Sequence[Migration], **options: Any) -> Database:
        """``control`` or ``portal``: opened now, closed with the rest; should it break, the bus says so. Raises DatabaseError that names it."""

        url = self.config.database_url(name)
        try:
            key = self.database_key(name)
            watch = self.watch(name)
            database = await self.open_database(self.reactor, url, migrations, key=key, alone=True, watch=watch, **options)
        except Exception as error:
            # Drivers say "file is not a database", and not which one; and "disk I/O error" where no file can be made.
            full = url.startswith("sqlite:") and self.disk.free_fraction(self.config.root) < FULL
            why = f"; its disk is full ({self.config.root})" if full else ""
            raise DatabaseError(f"the {name} database cannot be opened: {error}{why}") from error
        self.closing.push_async_callback(database.close)
        return database

    def watch(self, store: str) -> Watch:
        """The bus hears when a database breaks, or is locked by somebody else."""

        def broken(file: str, error: DatabaseBroken) -> None:
            self.bus.publish(StoreBroken(store, file, str(error), error.corrupt))

        def held(file: str, whether: bool) -> None:
            self.bus.publish(StoreHeld(store, file, whether))

        return Watch(broken, 20 * self.config.alarms.look, held)

    def at_close(self, close: Callable[[], Awaitable[object]]) -> None:
        """Call it when the service stops, before whatever was opened earlier."""

        async def closing() -> None:
            await close()

        self.closing.push_async_callback(closing)

    def directory(self, name: str) -> Path:
        """A directory of the data directory."""
        return self.config.root / name

    async def close(self) -> None:
        """Close all, then let go of the data directory."""
        try:
            await self.closing.aclose()
        finally:
            self.lock.release()
