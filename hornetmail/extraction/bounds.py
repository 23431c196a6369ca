"""How much is taken of one mail's files, and what is said where that is not all. Pure."""

from __future__ import annotations

from collections.abc import Callable

CHARACTERS = 2_000_000
"""Of one file, with what is packed in it."""

UNPACKED = 256 << 20
"""Bytes that come out of what is packed, of one mail's files together."""

MEMBERS = 2_000
"""Files in what is packed, of one mail's files together."""

DEPTH = 4
"""Files in files in files."""


class Unreadable(Exception):
    """Why there are no words of a file; for people."""


class Enough(Exception):
    """A bound was reached; what was gathered until then counts. The reason is for people."""


class Bounds:
    """What is left for the files of one mail. ``late``: whether the file under way has had its time."""

    def __init__(self, late: Callable[[], bool]) -> None:
        self._late = late
        self._unpacked = UNPACKED
        self._members = MEMBERS

    def unpack(self, size: int) -> None:
        """So many bytes came out of something packed. Raises Enough."""
        self._unpacked -= size
        if self._unpacked < 0:
            raise Enough(f"only the first {UNPACKED >> 20} MB of what is packed")
        self.on_time()

    def member(self) -> None:
        """One more file in a file. Raises Enough."""
        self._members -= 1
        if self._members < 0:
            raise Enough(f"only the first {MEMBERS:,} files in it")

    def on_time(self) -> None:
        """Raises Enough."""
        if self._late():
            raise Enough("only its beginning: it takes too long")


class Gathered:
    """The words of one file. ``add`` raises Enough once there are too many, or when it takes too long."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._pieces: list[str] = []
        self._room = CHARACTERS

    def add(self, text: str) -> None:
        """Words that come next; nothing is put between."""
        if not text:
            return
        self._pieces.append(text[: self._room])
        self._room -= len(text)
        if self._room < 0:
            raise Enough(f"only the first {CHARACTERS:,} characters")
        self.bounds.on_time()

    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)
