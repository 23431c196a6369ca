"""The files of the index, and how a rebuilt one takes the place of the old: at each moment there is one that is whole."""

from __future__ import annotations

from pathlib import Path

from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk

DATABASE = "archive.db"
_FRESH = "archive-new.db"
_READY = "archive-ready.db"


class IndexFiles:
    """Below the archive's directory: ``archive.db`` in use, ``archive-new.db`` while it is filled, ``archive-ready.db`` once that is whole. Blocking."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    @property
    def database(self) -> Path:
        """The one in use."""
        return self._directory / DATABASE

    @property
    def fresh(self) -> Path:
        """The one that is being filled."""
        return self._directory / _FRESH

    def begin(self) -> Path:
        """Room for a new one; what an earlier try left behind goes."""
        self._remove(self.fresh)
        return self.fresh

    def take(self) -> None:
        """The new one is closed, and no other open: from now on it is the index. Raises ArchiveError: it is not whole, the old one stays."""
        log = self.fresh.with_name(self.fresh.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise ArchiveError("the new index was not written out when it was closed; the old one stays")
        self._disk.rename(self.fresh, self._directory / _READY)
        self.settle()

    def settle(self) -> None:
        """End what a crash cut off: a new index that is whole takes the old one's place, whose log must not be applied to it."""
        ready = self._directory / _READY
        if not ready.exists():
            return
        for suffix in ("-wal", "-shm"):
            self._disk.unlink(self.database.with_name(DATABASE + suffix), missing_ok=True)
        self._disk.sync_directory(self._directory)
        self._disk.rename(ready, self.database)

    def _remove(self, path: Path) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
