"""Files that are there after a crash: the only place that syncs, renames and unlinks.

Everything here blocks; call it in threads. One ``Disk`` is handed around; tests hand in one that fails on purpose.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_SYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
_VECTORS = 1024
"""As many pieces as one system call takes (Linux: UIO_MAXIOV)."""


UNFINISHED = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")
"""Names of files that ``write_durably`` has not yet put in place, or never will."""


class DiskFull(OSError):
    """No room (or quota) left. Answer 452 and try again later; nothing was damaged."""

    def __str__(self) -> str:
        """For people: why, and where as far as that is known."""
        why = self.strerror or super().__str__()
        return f"{self.filename}: {why}" if self.filename is not None else why


class SyncFailed(OSError):
    """Data was handed to the kernel and may not have reached the disk. Final: a second sync may say yes without having written it."""


@contextlib.contextmanager
def full_told() -> Iterator[None]:
    """Turn the errors that mean "no room" into DiskFull; all others pass unchanged."""
    try:
        yield
    except DiskFull:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(error.errno, error.strerror, error.filename) from error
        raise


class Disk:
    """The file system, as far as durability is concerned. Raises OSError, and DiskFull when there is no room."""

    def open(self, path: Path | str, flags: int, mode: int = 0o600) -> int:
        """A file descriptor that children do not inherit."""
        try:  # not by ``full_told``, which costs as much as opening a file for reading
            return os.open(path, flags | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno in _FULL and not isinstance(error, DiskFull):
                raise DiskFull(error.errno, error.strerror, error.filename) from error
            raise

    def close(self, fd: int) -> None:
        """Close a file descriptor."""
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """All of ``data`` at ``offset``; not durable before a sync. An error may leave a part of it behind."""
        view = memoryview(data)
        with full_told():
            while view:
                written = os.pwrite(fd, view, offset)
                view = view[written:]
                offset += written

    def write_synced(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """Append ``parts`` at the file's end, which is ``offset``; durable on return. Raises DiskFull (a part may be there), SyncFailed.

        One system call does both (RWF_DSYNC), where the file system knows it: in a thread each return from a call means asking for the GIL.
        """
        try:
            written = os.pwritev(fd, parts[:_VECTORS], offset, os.RWF_DSYNC)
        except OSError as error:
            if error.errno in _FULL and os.fstat(fd).st_size <= offset:
                raise DiskFull(error.errno, error.strerror) from error
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise SyncFailed(error.errno, error.strerror) from error
            written = 0
        if written == sum(map(len, parts)):
            return
        self.write(fd, memoryview(b"".join(parts))[written:], offset + written)
        try:
            self.sync_data(fd)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror) from error

    def read(self, fd: int, length: int, offset: int) -> bytes:
        """``length`` bytes, fewer only at the end of the file."""
        data = os.pread(fd, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        got = len(data)
        while got < length:
            data = os.pread(fd, length - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def truncate(self, fd: int, length: int) -> None:
        """Cut a file to ``length`` bytes; not durable before a sync."""
        os.ftruncate(fd, length)

    def sync_file(self, fd: int) -> None:
        """Data and metadata. A failure is final: the kernel may have dropped the pages, so never try again."""
        with full_told():
            os.fsync(fd)

    def sync_data(self, fd: int) -> None:
        """Data, and of the metadata what reading it back needs. A failure is final."""
        with full_told():
            os.fdatasync(fd)

    def sync_directory(self, path: Path) -> None:
        """Make creations, renames and removals in a directory durable. Mounted shares (CIFS, sshfs) know no sync of a directory, and their server keeps it: that is no failure."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync_file(fd)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            self.close(fd)

    def write_durably(self, path: Path, data: bytes | memoryview, mode: int = 0o600) -> None:
        """Replace a file: readers, and whoever comes after a crash, see the old content or the new, whole."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        fd = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            try:
                self.write(fd, data, 0)
                self.sync_file(fd)
            finally:
                self.close(fd)
            self.rename_unsynced(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.unlink(temporary)
            raise
        self.sync_directory(path.parent)

    def rename(self, old: Path, new: Path) -> None:
        """Durable on return: the new directory is synced before the old one, so that a crash leaves two names rather than none."""
        self.rename_unsynced(old, new)
        self.sync_directory(new.parent)
        if old.parent != new.parent:
            self.sync_directory(old.parent)

    def rename_unsynced(self, old: Path, new: Path) -> None:
        """Rename, for who renames many and syncs their directories once afterwards with ``sync_directory``."""
        with full_told():
            os.rename(old, new)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        """Remove a file. Not synced: what may come back after a crash is litter, and its owner sweeps it at start."""
        path.unlink(missing_ok=missing_ok)

    def make_directory(self, path: Path, mode: int = 0o700) -> None:
        """Make a directory and what is missing above it, durable on return; one that exists is left as it is."""
        missing = []
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for one in reversed(missing):
            with contextlib.suppress(FileExistsError):
                self.make_directory_unsynced(one, mode)
            self.sync_directory(one.parent)

    def make_directory_unsynced(self, path: Path, mode: int = 0o700) -> None:
        """One directory, for who makes many and syncs what they are in afterwards. Raises FileExistsError."""
        with full_told():
            os.mkdir(path, mode)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory. Not synced, as ``unlink``."""
        path.rmdir()

    def link(self, old: Path, new: Path) -> None:
        """A second name for a file. Not synced."""
        with full_told():
            os.link(old, new)

    def free_fraction(self, path: Path) -> float:
        """The share of the file system that is free for us, 0 to 1."""
        figures = os.statvfs(path)
        return figures.f_bavail / figures.f_blocks if figures.f_blocks else 0.0
