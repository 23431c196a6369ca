"""One process per data directory: a ``flock`` that lasts as long as the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple


class Died(NamedTuple):
    """A process that ended without letting go: its number, and when it began (Unix seconds)."""

    pid: int
    began: float


class AlreadyRunning(Exception):
    """Another process holds the data directory; ``pid`` is its number, 0 if it could not be read."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path} is held by process {pid or '(unknown)'}")
        self.pid = pid


class DirectoryLock:
    """Holds ``DIR/lock`` from construction to ``release``, or to the process's end however that comes. Raises AlreadyRunning.

    The kernel drops the lock with the last descriptor, so a stale file holds nobody up; it is never removed (removing it
    would let two processes hold two files of one name). ``died``: the process that held it before did not release it: it was killed, crashed, or
    the machine went down; None after an orderly end (``tests/disk/test_files.py``). Whoever has told of it sets it to None; what nobody told of is
    left for the next to find.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lock"
        self.died: Died | None = None
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = 0
            with contextlib.suppress(ValueError, OSError):
                pid = int(os.pread(self._fd, 32, 0))
            os.close(self._fd)
            raise AlreadyRunning(self.path, pid) from None
        self.died = self._left()
        os.ftruncate(self._fd, 0)
        self.write_pid()

    def _left(self) -> Died | None:
        """What a process that did not get to ``release`` left."""
        try:
            return Died(int(os.pread(self._fd, 32, 0)), os.fstat(self._fd).st_mtime)
        except ValueError:
            return None

    def write_pid(self) -> None:
        """Name the process that holds it; again after a fork into the background."""
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go, in order. Safe to call twice."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # a disk that is gone: the next start says that this end was none
                os.ftruncate(self._fd, 0)
                if self.died is not None:
                    os.pwrite(self._fd, f"{self.died.pid}\n".encode(), 0)
                    os.utime(self._fd, (self.died.began, self.died.began))
            os.close(self._fd)
            self._fd = -1
