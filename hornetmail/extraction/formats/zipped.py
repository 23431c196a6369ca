"""Zip files, in which most kinds of office files come: members as pieces, within bounds."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO

from hornetmail.extraction.bounds import Bounds, Unreadable

PIECE = 64 << 10


class Zip:
    """A zip file in memory. Raises Unreadable."""

    def __init__(self, data: bytes, bounds: Bounds) -> None:
        self._bounds = bounds
        try:
            self._file = zipfile.ZipFile(BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise Unreadable(f"it is damaged: {error}") from None
        self.members = {one.filename: one for one in self._file.infolist() if not one.is_dir()}

    @property
    def names(self) -> list[str]:
        """Of files in it, in their order."""
        return list(self.members)

    def pieces(self, name: str) -> Iterator[bytes]:
        """A member's bytes. Raises Unreadable, Enough."""
        member = self.members[name]
        if member.flag_bits & 1:
            raise Unreadable("it is encrypted")
        try:
            with self._file.open(member) as stream:
                while piece := stream.read(PIECE):
                    self._bounds.unpack(len(piece))
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as error:
            raise Unreadable(f"it is damaged: {error}") from None

    def read(self, name: str) -> bytes:
        """The same, whole."""
        return b"".join(self.pieces(name))
