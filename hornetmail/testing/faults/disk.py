"""A disk whose every operation is a step, and which knows what of it would survive a loss of power."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hornetmail.testing.faults.reactor import SteppedReactor
from hornetmail.testing.faults.steps import ERRNO, Kind
from hornetmail.testing.faulty_disk import Trouble, TroubledDisk


class Image:
    """What is durable below ``top``: of each file what it held when it was last synced, of each directory the names it had then.

    Files and directories are told apart by their inodes. What is there when this is made counts as durable.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._files: dict[int, bytes] = {}
        self._directories: dict[int, dict[str, tuple[int, bool]]] = {}
        self._keep: list[int] = []
        for root, _, names in os.walk(top):
            self.directory(Path(root))
            for name in names:
                fd = os.open(os.path.join(root, name), os.O_RDONLY)
                try:
                    self.synced(fd)
                finally:
                    os.close(fd)

    def synced(self, fd: int) -> None:
        """A file, or a directory, is durable as it is now."""
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self._directories[status.st_ino] = _names(fd)
        else:
            # Anew, because whoever writes a file need not be allowed to read it.
            self._files[status.st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()
            if status.st_nlink == 1:
                # Its inode's number must not come again while this is of use.
                self._keep.append(os.dup(fd))

    def directory(self, path: Path) -> None:
        """A directory is durable as it is now."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.synced(fd)
        finally:
            os.close(fd)

    def write(self, target: Path) -> None:
        """Make what is durable, in a new directory. A name whose file was never synced is an empty file."""
        self._write(os.stat(self._top).st_ino, target)

    def _write(self, number: int, target: Path) -> None:
        target.mkdir()
        for name, (inode, directory) in self._directories.get(number, {}).items():
            if directory:
                self._write(inode, target / name)
            else:
                (target / name).write_bytes(self._files.get(inode, b""))

    def close(self) -> None:
        """Let go of the files."""
        for fd in self._keep:
            os.close(fd)
        self._keep.clear()


def _names(fd: int) -> dict[str, tuple[int, bool]]:
    with os.scandir(fd) as entries:
        return {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries}


class SteppedDisk(TroubledDisk):
    """The disk of one life of a process. With an ``image``, what was not synced can be lost. Nothing is really synced."""

    def __init__(self, reactor: SteppedReactor, image: Image | None = None) -> None:
        self.image = image
        self._reactor = reactor
        self._open: dict[int, str] = {}

    def trouble(self, operation: str, path: Path | str | int) -> Trouble | None:
        """A step. Opening a directory to sync it is none of its own."""
        if operation == "open" and not isinstance(path, int) and os.path.isdir(path):
            return None
        what = self._open.get(path, "") if isinstance(path, int) else _short(path)
        ending = self._reactor.step(Kind(operation), what)
        if ending is None:
            return None
        code = ERRNO[ending]
        return Trouble(OSError(code, os.strerror(code), what), HALF)

    def open(self, path: Path | str, flags: int, mode: int = 0o600) -> int:
        fd = super().open(path, flags, mode)
        self._open[fd] = _short(path)
        return fd

    def close(self, fd: int) -> None:
        if self._open.pop(fd, None) is not None:
            super().close(fd)

    def close_all(self) -> None:
        """What the end of the process does."""
        for fd in list(self._open):
            self.close(fd)

    def sync_file(self, fd: int) -> None:
        self._check("sync_file", fd)
        self._synced(fd)

    def sync_data(self, fd: int) -> None:
        self._check("sync_data", fd)
        self._synced(fd)

    def _synced(self, fd: int) -> None:
        if self.image is not None:
            self.image.synced(fd)

    def free_fraction(self, path: Path) -> float:
        return 1.0


HALF = 20
"""Bytes that a failing write has written: a part of any record, and of any message."""


def _short(path: Path | str) -> str:
    return "/".join(str(path).rsplit("/", 3)[1:])


__all__ = ["Image", "SteppedDisk"]
