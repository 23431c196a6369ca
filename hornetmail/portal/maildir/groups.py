"""Files that appear in a folder all together or not at all, whatever happens in between.

While they are named, ``tmp/TOKEN.group`` of the folder has their base names, a line each. It is durable before the first one is, and gone, durably, before
anybody is told of them. What a crash leaves of it is settled when the mailbox is read the next time: where one is missing, the others go.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from hornetmail.disk.files import Disk
from hornetmail.portal.maildir import naming

GROUP = ".group"


def begin(disk: Disk, folder: Path, token: str, bases: Sequence[str]) -> Path:
    """Files of these names are about to appear; durable on return. Raises DiskFull, OSError."""
    path = folder / "tmp" / f"{token}{GROUP}"
    try:
        disk.write_durably(path, "".join(f"{base}\n" for base in bases).encode())
    except BaseException:
        with contextlib.suppress(OSError):
            disk.unlink(path, missing_ok=True)
        raise
    return path


def end(disk: Disk, path: Path) -> None:
    """All of them are there, or none; durable on return."""
    disk.unlink(path, missing_ok=True)
    disk.sync_directory(path.parent)


def unborn(name: str) -> bool:
    """Whether a file of ``tmp`` would have become a group's, had it not been cut off."""
    return f"{GROUP}." in name and name.startswith(".") and name.endswith(".tmp")


def settle(disk: Disk, folder: Path, name: str) -> None:
    """What was under way when the process before ended: file ``name`` of the folder's ``tmp``."""
    path = folder / "tmp" / name
    bases = set(path.read_text("utf-8", "replace").split("\n")) - {""}
    found = [
        (folder / sub / file, naming.split_name(file)[0])
        for sub in ("new", "cur")
        for file in os.listdir(folder / sub)
        if naming.split_name(file)[0] in bases
    ]
    if {base for _, base in found} != bases:
        for file, _ in found:
            disk.unlink(file, missing_ok=True)
        for sub in ("new", "cur"):
            disk.sync_directory(folder / sub)
    end(disk, path)
