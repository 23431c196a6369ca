"""A SQLite file that was written without a key gets one, in its place: files of versions that kept some databases plain (rule 24).

The copy is whole and synced before it takes the file's place; cut off before that, the plain file is as it was and the next start begins anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlcipher3.dbapi2 as sqlite

from hornetmail.disk.files import Disk

_PLAIN = b"SQLite format 3\0"


def is_plain(path: Path) -> bool:
    """Whether it is a database that anybody can read; a file that has not been checkpointed yet says so in its log."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        if file.read(len(_PLAIN)) == _PLAIN:
            return True
    log = path.with_name(f"{path.name}-wal")
    if path.stat().st_size or not log.exists():
        return False
    with log.open("rb") as file:
        return _PLAIN in file.read(1 << 16)


def give_key(path: Path, key: bytes, disk: Disk) -> None:
    """Encrypt it under 48 bytes, raw key and salt, as ``SQLite`` opens it. Blocking; nobody else has it open. Raises the driver's errors, OSError."""
    fresh = path.with_name(f"{path.name}.keyed")
    _away(fresh, disk)
    connection: Any = sqlite.connect(str(path), isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        connection.execute("PRAGMA temp_store=MEMORY").fetchall()
        fresh.touch(mode=0o600)
        connection.execute(f"ATTACH DATABASE ? AS fresh KEY \"x'{key.hex()}'\"", (str(fresh),))
        connection.execute("PRAGMA fresh.auto_vacuum=INCREMENTAL").fetchall()
        connection.execute("SELECT sqlcipher_export('fresh')").fetchall()
        connection.execute("DETACH DATABASE fresh")
    finally:
        connection.close()
    fd = disk.open(fresh, os.O_RDONLY)
    try:
        disk.sync_file(fd)
    finally:
        disk.close(fd)
    disk.rename(fresh, path)


def _away(path: Path, disk: Disk) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
