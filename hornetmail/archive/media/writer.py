"""The mark of this installation as the one that writes to the archive's media: of two that have the same archive (one restored from a medium while the old one still runs, a copy of a data
directory, a clone of a machine), one may.

Each start makes a new mark, and remembers those from before, in the file ``writer`` of the data directory, which is in no backup. The medium's identity bears the mark of whoever writes
there (``Medium``). One of its own from an earlier start is replaced by the new one; after that a copy of the directory, which has the earlier ones too, finds a mark that it does not know, and so
does whoever was running: it writes nothing more there. A file that lies in another directory than it was written in (``st_ino``) was copied, and what it remembers is of no use. The mark goes at
an orderly end, so that a moved installation needs nobody's word.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from hornetmail.disk.files import Disk

NAME = "writer"
KEPT = 1000
"""Marks of earlier starts that are remembered: a medium may have been away for so many."""

_MARK = re.compile(r"[0-9a-f]{32}")


class Held(msgspec.Struct, frozen=True):
    """What a medium's identity says of who writes there: ``mark``; ``where`` it runs, for people; ``since``: Unix seconds of its start; ``place``: the inode of the medium's directory, which a copy of
    the medium has not, 0 if it is none."""

    mark: str
    where: str = ""
    since: float = 0.0
    place: int = 0


class Writer:
    """``directory``: the data directory; ``where``: for people, what host and directory that is. May be used from any thread; the first use blocks."""

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        node: int,
        where: str,
        now: Callable[[], float],
        lock: Callable[[], AbstractContextManager[object]] = threading.Lock,
    ) -> None:
        self.node = str(node)
        self._path = directory / NAME
        self._disk = disk
        self._where = where
        self._now = now
        self._lock = lock()
        self._held: Held | None = None
        self._known: frozenset[str] = frozenset()

    @property
    def held(self) -> Held:
        """Of this start, durable here before it is on any medium. Raises OSError."""
        with self._lock:
            if self._held is None:
                self._held = self._begin()
            return self._held

    def is_own(self, mark: str) -> bool:
        """Whether it is this start's, or that of an earlier one. Raises OSError."""
        return mark == self.held.mark or mark in self._known

    def _begin(self) -> Held:
        inode = f"directory {os.stat(self._path.parent).st_ino}"
        try:
            first, *more = self._path.read_bytes().decode("ascii", "replace").splitlines() or [""]
        except FileNotFoundError:
            first, more = inode, []
        marks = [line for line in more if _MARK.fullmatch(line)] if first == inode else []
        self._known = frozenset(marks)
        held = Held(os.urandom(16).hex(), self._where, round(self._now(), 3))
        lines = [inode, *marks[-(KEPT - 1) :], held.mark]
        self._disk.write_durably(self._path, "".join(f"{line}\n" for line in lines).encode())
        return held
