"""The mark of this installation as a follower: which of two that have the same archive, one restored from the other's mirror say, may write into the mirror.

It lies in the data directory and in the identity of the mirror, and in no backup: so what is restored from one has not the mark of the installation that made it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk

NAME = "mirror-follower"

_MARK = re.compile(r"[0-9a-f]{32}")


def follower_at(directory: Path, disk: Disk) -> str:
    """The mark, 32 hex digits, made at first need. In a thread, one at a time. Raises ArchiveError: it is damaged; OSError."""
    path = directory / NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        mark = os.urandom(16).hex()
        disk.write_durably(path, f"{mark}\n".encode())
        return mark
    mark = text.decode("ascii", "replace").strip()
    if not _MARK.fullmatch(mark):
        raise ArchiveError(f"{path} is damaged: remove it, and set the mirror again (archive mirror set)")
    return mark
