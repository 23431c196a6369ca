"""A medium in a directory of this machine (A9), a mounted share included.

A visit holds the directory by a descriptor and reaches everything through it, so that an unmount in the middle cannot lead a put or a delete
onto what lies below. Between visits nothing is held: the share can be unmounted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from zope.interface import implementer

from hornetmail.archive.media.medium import (
    IDENTITY,
    IPlace,
    IVisit,
    PlaceAway,
    PlaceMissing,
    PlaceTrouble,
    Space,
    valid_name,
)
from hornetmail.disk.files import UNFINISHED, Disk, DiskFull

_AWAY = frozenset(
    {
        errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNRESET,
        errno.ECONNREFUSED, errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.EIO,
    }
)  # fmt: skip
"""What a share or disk says that went away."""

_BAD = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})
"""What a disk says of a file with a bad sector, or one that its file system finds damaged; others may be sound."""


_CLOSED = {
    errno.EACCES: " (to the service's user)",
    errno.EROFS: " (for the service: under systemd, ReadWritePaths= opens it)",
}
"""What somebody who may write there himself could not guess."""


def _trouble(error: OSError) -> PlaceTrouble:
    kind = PlaceAway if error.errno in _AWAY else PlaceTrouble
    return kind((error.strerror or errno.errorcode.get(error.errno or 0, "error")) + _CLOSED.get(error.errno or 0, ""))


@implementer(IPlace)
class DirectoryPlace:
    """``path`` is absolute."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.where = str(path)
        self._path = path
        self._disk = disk

    @contextlib.contextmanager
    def visit(self) -> Iterator[IVisit]:
        """See IPlace."""
        try:
            root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            raise PlaceAway("it is no directory") from None
        except OSError as error:
            raise PlaceAway(error.strerror or "it cannot be opened") from error
        try:
            yield _Visit(root, self._disk)
        except DiskFull:
            raise
        except OSError as error:
            raise _trouble(error) from error
        finally:
            os.close(root)

    def make(self) -> None:
        """See IPlace."""
        try:
            self._disk.make_directory(self._path)
        except DiskFull:
            raise
        except OSError as error:
            raise _trouble(error) from error

    def close(self) -> None:
        """See IPlace; nothing is held."""


@implementer(IVisit)
class _Visit:
    def __init__(self, root: int, disk: Disk) -> None:
        self._root = root
        self._path = Path(f"/proc/self/fd/{root}")
        self._disk = disk

    def mark(self) -> object:
        """The directory and its identity file, as the file system knows them: another mount has others, and one whose identity was written
        anew too."""
        top = os.fstat(self._root)
        try:
            file = os.stat(IDENTITY, dir_fd=self._root, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return top.st_dev, top.st_ino, file.st_ino, file.st_mtime_ns, file.st_ctime_ns, file.st_size

    def number(self) -> int:
        """See IVisit."""
        return os.fstat(self._root).st_ino

    def put(self, name: str, data: bytes | memoryview) -> None:
        """See IVisit."""
        path = self._path / name
        self._disk.make_directory(path.parent)
        self._disk.write_durably(path, data)

    def get(self, name: str, start: int, length: int) -> bytes:
        """See IVisit."""
        try:
            with open(self._path / name, "rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            raise PlaceMissing(name) from None
        except OSError as error:
            if error.errno not in _BAD:
                raise
            raise PlaceTrouble(error.strerror or "it does not read") from error

    def names(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, int]]:
        """See IVisit."""
        found: list[tuple[str, int]] = []
        top = self._path / prefix if prefix else self._path
        for folder, _, files in os.walk(top, onerror=_raise):
            inner = Path(folder).relative_to(self._path)
            for file in files:
                name = (inner / file).as_posix()
                if name > after and valid_name(name) and not name.endswith(".tmp"):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((name, os.stat(os.path.join(folder, file)).st_size))
        found.sort()
        return found[:limit] if limit else found

    def delete(self, name: str) -> None:
        """See IVisit."""
        path = self._path / name
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            return
        # Gone means gone (rule 23), after a loss of power too.
        self._disk.sync_directory(path.parent)

    def sweep(self, before: float) -> int:
        """See IVisit."""
        removed = 0
        for folder, _, files in os.walk(self._path, onerror=_raise):
            for file in files:
                path = Path(folder) / file
                with contextlib.suppress(FileNotFoundError):
                    if UNFINISHED.fullmatch(file) and path.stat().st_mtime < before:
                        self._disk.unlink(path)
                        removed += 1
        return removed

    def lock(self, name: str, until: float) -> None:
        """See IVisit; there are no locks here."""

    def space(self) -> Space:
        """See IVisit."""
        figures = os.fstatvfs(self._root)
        return Space(figures.f_blocks * figures.f_frsize, figures.f_bavail * figures.f_frsize)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
