"""Whether a directory is still the one that was opened: a disk may be taken away under the running service, or not be mounted at the start, and what
lies at its mount point then may look the same, older directories included.

A directory that we keep mail in has a file ``identity``, made by ``init``: a line of random digits for each of its last starts, the newest first. Who
opens the directory remembers that one elsewhere, and finds it again in the file: neither an empty mount point has it nor an older copy below; one who
remembers an older one (a database that lost its last moments) finds that too. While the service runs the very file is looked at, by device and
inode: that costs two microseconds, and is done before a missing file is believed, and before and after each change.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hornetmail.disk.files import Disk

NAME = "identity"

STARTS = 64
"""Lines of it."""


class DiskAway(OSError):
    """The directory is not the one that was opened; nothing that is missing in it is gone."""


def nothing() -> None:
    """For directories that are not watched."""


class Anchor:
    """``directory`` is there, or is made. Everything blocks; ``look`` is cheap enough for anybody."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.directory = directory
        self._disk = disk
        self._file = directory / NAME
        self._text = str(self._file)
        self._seen: tuple[int, int] | None = None

    @property
    def file(self) -> Path:
        """Where the token stands."""
        return self._file

    def tokens(self) -> list[str]:
        """What stands in the file, newest first; nothing if there is none. Raises OSError."""
        try:
            return self._file.read_text("ascii", "replace").split()
        except FileNotFoundError:
            return []

    def renew(self) -> str:
        """A new line in the file, which is made if it is missing; durable and held on to on return. Raises DiskFull, OSError."""
        fresh = secrets.token_hex(16)
        self._disk.make_directory(self.directory)
        lines = [fresh, *self.tokens()][:STARTS]
        self._disk.write_durably(self._file, "".join(f"{line}\n" for line in lines).encode())
        self.hold()
        return fresh

    def hold(self) -> None:
        """From now on ``look`` asks for the file that is there now. Raises FileNotFoundError."""
        status = os.stat(self._text)
        self._seen = (status.st_dev, status.st_ino)

    def look(self) -> None:
        """Raises DiskAway if the file that ``hold`` saw is not there; nothing before that."""
        if self._seen is None:
            return
        try:
            status = os.stat(self._text)
        except OSError as error:
            raise DiskAway(f"{self._text} cannot be found, is the disk mounted? ({error.strerror})") from None
        if (status.st_dev, status.st_ino) != self._seen:
            raise DiskAway(f"{self._text} is another file than before, is another disk mounted?")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """For a change, or a look that believes what it does not find: the disk is there before and after. Raises DiskAway, whatever was found."""
        self.look()
        try:
            yield
        finally:
            self.look()
