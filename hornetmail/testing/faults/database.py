"""A database whose transactions are steps: that they begin, and that they are committed. What is between, the database takes back as one."""

from __future__ import annotations

from typing import Any

import sqlcipher3.dbapi2 as sqlite

from hornetmail.db.engines import Cursor, Engine, SQLite
from hornetmail.db.pool import Database
from hornetmail.testing.faults.reactor import SteppedReactor
from hornetmail.testing.faults.steps import Ending, Kind

_TEXTS = {
    Ending.LOCKED: "database is locked",
    Ending.LOCKED_WHILE: "database is locked",
    Ending.ENOSPC: "database or disk is full",
    Ending.ENOSPC_WHILE: "database or disk is full",
    Ending.EIO: "disk I/O error",
    Ending.EIO_WHILE: "disk I/O error",
}


class _SteppedEngine(SQLite):
    """SQLite's, with steps."""

    def __init__(self, inner: SQLite, reactor: SteppedReactor) -> None:
        vars(self).update(vars(inner))
        self.connections: list[Any] = []
        self._reactor = reactor
        self._what = inner.path.name

    def _step(self, kind: Kind) -> None:
        ending = self._reactor.step(kind, self._what)
        if ending is not None:
            raise sqlite.OperationalError(_TEXTS[ending])

    def prepare(self, connection: Any, *, writer: bool) -> None:
        self.connections.append(connection)
        super().prepare(connection, writer=writer)

    def begin(self, cursor: Cursor, *, writer: bool = True) -> None:
        self._step(Kind.BEGIN if writer else Kind.SELECT)
        super().begin(cursor, writer=writer)

    def commit(self, cursor: Cursor) -> None:
        self._step(Kind.COMMIT)
        super().commit(cursor)


class SteppedDatabase(Database):
    """``SteppedDatabase.open`` stands for ``Database.open``. One reader: a connection belongs to a thread, and here is but one."""

    def __init__(self, reactor: Any, engine: Engine, readers: int, alone: bool = False) -> None:
        if not isinstance(engine, SQLite):
            raise TypeError("steps are counted on SQLite")
        self.path = engine.path
        self.durable = engine.synchronous == "FULL"
        super().__init__(reactor, _SteppedEngine(engine, reactor), 1, alone)
        reactor.databases.append(self)

    def abandon(self) -> None:
        """The end of the process: connections are closed, open transactions are gone."""
        engine: Any = self.engine
        for connection in engine.connections:
            connection.close()
