"""Disks that fail on purpose."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hornetmail.disk.files import Disk, SyncFailed, full_told


class Trouble(NamedTuple):
    """An operation fails with ``error``; a write has written ``partial`` bytes by then."""

    error: OSError
    partial: int = 0


class TroubledDisk(Disk):
    """Asks ``trouble`` before each operation that is durable or may fail: open, create, write, read, truncate, sync_file, sync_data, rename,
    unlink, link, make_directory, remove_directory. All that ``Disk`` offers is made of these."""

    def trouble(self, operation: str, path: Path | str | int) -> Trouble | None:
        """How the operation shall fail; ``path`` is a descriptor where it has one."""
        raise NotImplementedError

    def _check(self, operation: str, path: Path | str | int) -> None:
        trouble = self.trouble(operation, path)
        if trouble is not None:
            with full_told():
                raise trouble.error

    def open(self, path: Path | str, flags: int, mode: int = 0o600) -> int:
        self._check("create" if flags & os.O_CREAT else "open", path)
        return super().open(path, flags, mode)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        trouble = self.trouble("write", fd)
        if trouble is not None:
            super().write(fd, memoryview(data)[: trouble.partial], offset)
            with full_told():
                raise trouble.error
        super().write(fd, data, offset)

    def write_synced(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """As a write and a sync, each of which may be made to fail."""
        self.write(fd, b"".join(parts), offset)
        try:
            self.sync_data(fd)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror) from error

    def read(self, fd: int, length: int, offset: int) -> bytes:
        self._check("read", fd)
        return super().read(fd, length, offset)

    def truncate(self, fd: int, length: int) -> None:
        self._check("truncate", fd)
        super().truncate(fd, length)

    def sync_file(self, fd: int) -> None:
        self._check("sync_file", fd)
        super().sync_file(fd)

    def sync_data(self, fd: int) -> None:
        self._check("sync_data", fd)
        super().sync_data(fd)

    def rename_unsynced(self, old: Path, new: Path) -> None:
        self._check("rename", new)
        super().rename_unsynced(old, new)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self._check("unlink", path)
        super().unlink(path, missing_ok)

    def link(self, old: Path, new: Path) -> None:
        self._check("link", new)
        super().link(old, new)

    def make_directory_unsynced(self, path: Path, mode: int = 0o700) -> None:
        self._check("make_directory", path)
        super().make_directory_unsynced(path, mode)

    def remove_directory(self, path: Path) -> None:
        self._check("remove_directory", path)
        super().remove_directory(path)


class FaultyDisk(TroubledDisk):
    """Fails the operations that it was told to.

    ``fail("sync_data", errno.EIO)`` fails all of them from now on, ``after=2`` only from the third on, ``times=1`` just once. A write that
    fails first writes ``partial`` bytes. Operations are TroubledDisk's, with "open" for both ways of opening. ``calls`` lists what was asked,
    in order; a failed one too.
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

    def trouble(self, operation: str, path: Path | str | int) -> Trouble | None:
        """As planned."""
        if operation == "create":
            operation = "open"
        self.calls.append(operation)
        plan = self._plans.get(operation)
        if plan is None:
            return None
        if plan[1] > 0:
            plan[1] -= 1
            return None
        if plan[2] == 0:
            return None
        plan[2] -= 1
        return Trouble(OSError(plan[0], os.strerror(plan[0])), plan[3])

    def free_fraction(self, path: Path) -> float:
        return self.free
