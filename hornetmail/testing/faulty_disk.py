"""A disk that fails on purpose."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from hornetmail.disk.files import Disk, SyncFailed, full_told


class FaultyDisk(Disk):
    """Fails the operations that it was told to.

    ``fail("sync_data", errno.EIO)`` fails all of them from now on, ``after=2`` only from the third on, ``times=1`` just once. A write that
    fails first writes ``partial`` bytes. Operations: open, write, read, truncate, sync_file, sync_data, rename, unlink, link,
    make_directory, remove_directory.
    ``calls`` lists what was asked, in order; a failed one too.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._plans: dict[str, list[int]] = {}
        self.free = 1.0

    def fail(self, operation: str, code: int = errno.EIO, *, after: int = 0, times: int = -1, partial: int = 0) -> None:
        """Plan a failure; one plan an operation."""
        self._plans[operation] = [code, after, times, partial]

    def heal(self) -> None:
        """Nothing fails any more."""
        self._plans.clear()

    def _step(self, operation: str) -> int:
        """-1 if it may go on, else how many bytes to write before failing; the error is in ``_error``."""
        self.calls.append(operation)
        plan = self._plans.get(operation)
        if plan is None:
            return -1
        if plan[1] > 0:
            plan[1] -= 1
            return -1
        if plan[2] == 0:
            return -1
        plan[2] -= 1
        return plan[3]

    def _error(self, operation: str) -> OSError:
        code = self._plans[operation][0]
        return OSError(code, os.strerror(code))

    def _check(self, operation: str) -> None:
        with full_told():
            if self._step(operation) >= 0:
                raise self._error(operation)

    def open(self, path: Path | str, flags: int, mode: int = 0o600) -> int:
        self._check("open")
        return super().open(path, flags, mode)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        partial = self._step("write")
        if partial >= 0:
            super().write(fd, memoryview(data)[:partial], offset)
            with full_told():
                raise self._error("write")
        super().write(fd, data, offset)

    def write_synced(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """As a write and a sync, each of which may be made to fail."""
        self.write(fd, b"".join(parts), offset)
        try:
            self.sync_data(fd)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror) from error

    def read(self, fd: int, length: int, offset: int) -> bytes:
        self._check("read")
        return super().read(fd, length, offset)

    def truncate(self, fd: int, length: int) -> None:
        self._check("truncate")
        super().truncate(fd, length)

    def sync_file(self, fd: int) -> None:
        self._check("sync_file")
        super().sync_file(fd)

    def sync_data(self, fd: int) -> None:
        self._check("sync_data")
        super().sync_data(fd)

    def rename_unsynced(self, old: Path, new: Path) -> None:
        self._check("rename")
        super().rename_unsynced(old, new)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self._check("unlink")
        super().unlink(path, missing_ok)

    def make_directory_unsynced(self, path: Path, mode: int = 0o700) -> None:
        self._check("make_directory")
        super().make_directory_unsynced(path, mode)

    def remove_directory(self, path: Path) -> None:
        self._check("remove_directory")
        super().remove_directory(path)

    def link(self, old: Path, new: Path) -> None:
        self._check("link")
        super().link(old, new)

    def free_fraction(self, path: Path) -> float:
        return self.free
