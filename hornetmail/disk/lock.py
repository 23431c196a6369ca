"""One process per data directory: a ``flock`` that lasts as long as the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class AlreadyRunning(Exception):
    """Another process holds the data directory; ``pid`` is its number, 0 if it could not be read."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path} is held by process {pid or '(unknown)'}")
        self.pid = pid


class DirectoryLock:
    """Holds ``DIR/lock`` from construction to ``release``, or to the process's end however that comes. Raises AlreadyRunning.

    The kernel drops the lock with the last descriptor, so a stale file means nothing; it is never removed (removing it
    would let two processes hold two files of one name).
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lock"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = 0
            with contextlib.suppress(ValueError, OSError):
                pid = int(os.pread(self._fd, 32, 0))
            os.close(self._fd)
            raise AlreadyRunning(self.path, pid) from None
        os.ftruncate(self._fd, 0)
        self.write_pid()

    def write_pid(self) -> None:
        """Name the process that holds it; again after a fork into the background."""
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
