"""Folders that are renamed together, whatever happens in between: ``renaming`` in the Maildir has a line for each, index row, old and new directory. It is durable
before the first one moves, and gone when the index knows all. What a crash leaves is finished when the mailbox is read the next time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hornetmail.disk.files import Disk
from hornetmail.portal.maildir import naming

NAME = "renaming"


class Renamed(msgspec.Struct, frozen=True, gc=False):
    """A folder with another name. ``row``: the index's number for it."""

    row: int
    old: str
    new: str


def begin(disk: Disk, maildir: Path, folders: Sequence[Renamed]) -> None:
    """These are about to be renamed; durable on return. Raises DiskFull, OSError."""
    lines = [f"{one.row}\t{naming.directory_of(one.old)}\t{naming.directory_of(one.new)}\n" for one in folders]
    disk.write_durably(maildir / NAME, "".join(lines).encode())


def end(disk: Disk, maildir: Path) -> None:
    """All of them are, or none. Durable on return."""
    disk.unlink(maildir / NAME, missing_ok=True)
    disk.sync_directory(maildir)


def finish(disk: Disk, maildir: Path, rows: Sequence[tuple[int, str]]) -> list[Renamed]:
    """What was under way when the process before ended: folders that the index still knows by their old names (``rows``: numbers and names) have their new
    ones on return, as far as there is room for them. All that are there by them now."""
    try:
        lines = (maildir / NAME).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    known = {(str(row), naming.directory_of(name)): (row, name) for row, name in rows}
    found: list[Renamed] = []
    for line in lines:
        number, _, names = line.partition("\t")
        old, _, new = names.partition("\t")
        name = naming.folder_of(new)
        if (number, old) not in known or name is None:
            continue
        if (maildir / old).is_dir() and not (maildir / new).exists():
            disk.rename(maildir / old, maildir / new)
        if not (maildir / old).exists() and (maildir / new).is_dir():
            row, former = known[number, old]
            found.append(Renamed(row, former, name))
    return found


def back(disk: Disk, maildir: Path, folders: Sequence[Renamed]) -> list[Renamed]:
    """Take it back; those that stay where they are now. Raises nothing."""
    stay: list[Renamed] = []
    for one in reversed(folders):
        try:
            disk.rename_unsynced(maildir / naming.directory_of(one.new), maildir / naming.directory_of(one.old))
        except FileNotFoundError:
            continue  # it had not been reached
        except OSError:
            if os.path.isdir(maildir / naming.directory_of(one.new)):
                stay.append(one)
    return stay
