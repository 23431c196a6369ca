"""Media: where sealed packs lie (A7-A15). A local directory now; shares and object stores fit the same few calls.

All calls block and belong in threads. Names use ``/`` and only what every file system and object store takes.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from zope.interface import Attribute, Interface, implementer

from hornetmail.core.archived import ArchiveError
from hornetmail.disk.files import Disk, DiskFull

IDENTITY = "medium"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


class MediumError(ArchiveError):
    """A medium cannot be reached, or lacks what it should hold."""


class MediumMissing(MediumError):
    """The medium is there, the object is not."""


class MediumSetting(msgspec.Struct, frozen=True, gc=False):
    """A medium as configured. ``number``: its ID for life (A13). ``path``: an absolute directory. Exactly one is ``active`` and takes new
    packs (A12). ``used`` false: out of use for now, its mail says so when opened (A15)."""

    number: int
    path: str
    active: bool = True
    used: bool = True


class IMedium(Interface):
    """One medium."""

    number = Attribute("its numeric ID")

    def put(name: str, data: bytes) -> None:
        """Durable on return, all or nothing. Raises MediumError, DiskFull."""

    def get(name: str, start: int = 0, length: int = -1) -> bytes:
        """A stretch of an object, shorter only at its end. Raises MediumMissing, MediumError."""

    def names(prefix: str) -> Sequence[tuple[str, int]]:
        """Objects below a prefix that ends in ``/`` (or all, for ``""``), with their sizes, by name. Raises MediumError."""

    def delete(name: str) -> None:
        """Also if it is gone already. Raises MediumError."""


class _Identity(msgspec.Struct, frozen=True):
    archive: str
    medium: int
    format: int = 1


@implementer(IMedium)
class DirectoryMedium:
    """A medium in a local directory (A9)."""

    def __init__(self, number: int, path: Path, disk: Disk) -> None:
        self.number = number
        self._path = path
        self._disk = disk

    def put(self, name: str, data: bytes) -> None:
        path = self._file(name)
        try:
            self._disk.make_directory(path.parent)
            self._disk.write_durably(path, data)
        except DiskFull:
            raise
        except OSError as error:
            raise self._trouble(error) from error

    def get(self, name: str, start: int = 0, length: int = -1) -> bytes:
        try:
            with open(self._file(name), "rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            raise MediumMissing(f"medium {self.number} has no {name}") from None
        except OSError as error:
            raise self._trouble(error) from error

    def names(self, prefix: str) -> Sequence[tuple[str, int]]:
        if not self._path.is_dir():
            raise MediumError(f"medium {self.number} is out of reach: {self._path} is no directory")
        top = self._path / prefix if prefix else self._path
        try:
            found = [(p.relative_to(self._path).as_posix(), p.stat().st_size) for p in top.rglob("*") if p.is_file()]
        except OSError as error:
            raise self._trouble(error) from error
        return sorted((name, size) for name, size in found if _NAME.fullmatch(name) and not name.endswith(".tmp"))

    def delete(self, name: str) -> None:
        try:
            self._disk.unlink(self._file(name), missing_ok=True)
        except OSError as error:
            raise self._trouble(error) from error

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise MediumError(f"not a name on a medium: {name!r}")
        return self._path / name

    def _trouble(self, error: OSError) -> MediumError:
        return MediumError(
            f"medium {self.number} ({self._path}): {error.strerror or errno.errorcode.get(error.errno or 0, 'error')}"
        )


def claim(medium: IMedium, archive: bytes, *, create: bool = True) -> None:
    """See that a medium belongs to an archive; a medium without identity is claimed for it. Raises MediumError if it is another's."""
    try:
        raw = medium.get(IDENTITY)
    except MediumMissing:
        if not create:
            raise
        medium.put(IDENTITY, msgspec.json.encode(_Identity(archive.hex(), medium.number)) + b"\n")
        return
    try:
        identity = msgspec.json.decode(raw, type=_Identity)
    except msgspec.DecodeError as error:
        raise MediumError(f"medium {medium.number}: its identity file is damaged ({error})") from None
    if identity.archive != archive.hex():
        raise MediumError(f"medium {medium.number} holds another archive ({identity.archive})")
    if identity.medium != medium.number:
        raise MediumError(f"medium {medium.number} calls itself medium {identity.medium}")
