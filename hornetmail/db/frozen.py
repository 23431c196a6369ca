"""A database file that stands still, so that its bytes can be copied while everybody goes on writing.

SQLite in WAL mode writes into the log only; the file itself changes when the log is copied into it. A reader that begins right after the whole log
was copied (``PRAGMA wal_checkpoint(TRUNCATE)``) reads from the file alone, and as long as it does nobody may copy into it (the lock "read
mark 0", https://sqlite.org/walformat.html#read_locks). Both are done in the writer's thread, between which nobody else can write. Until ``thaw`` the log
grows by what is written.

Whoever opens the file besides SQLite lets go of this process's locks on it when they close it; nothing else may have it open: the data
directory's lock sees to that.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from hornetmail.db.engines import Cursor, DatabaseError, SQLite


class Busy(DatabaseError):
    """Readers keep the log from being copied; try again in a moment."""


class Frozen:
    """``path``: a file that does not change before ``thaw``."""

    def __init__(self, path: Path, reader: Any) -> None:
        self.path = path
        self._reader = reader

    def thaw(self) -> None:
        """Let it change again. In any thread, once or more often."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def freeze(cursor: Cursor, engine: SQLite) -> Frozen:
    """For ``Database.alone``: the file holds all that was committed. Raises Busy, and what the driver raises."""
    busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise Busy(f"{engine.path}: readers are in the way of a checkpoint")
    reader = importlib.import_module(engine.module).connect(**engine.arguments())
    try:
        engine.prepare(reader, writer=False)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        log = engine.path.with_name(engine.path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise Busy(f"{engine.path}: it was written to meanwhile")
    except BaseException:
        reader.close()
        raise
    return Frozen(engine.path, reader)
