"""A large mail laid out for reading, from any place on: proved, and encrypted under a key that only this process has (rule 24: no plain text on the disk)."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

from zope.interface import implementer

from hornetmail.disk.files import Disk
from hornetmail.disk.seal import KEY_BYTES, OVERHEAD, Seal
from hornetmail.interfaces.body import IBody

PAGE_BYTES = 65_536
"""What is sealed at a time."""

InThread = Callable[..., Awaitable[bytes]]


class Spool:
    """An unnamed file; it goes with the last who holds it. Blocking."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk = disk
        self._seal = Seal(os.urandom(KEY_BYTES))
        self._fd = disk.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
        self._close = weakref.finalize(self, disk.close, self._fd)
        self.size = 0

    def fill(self, pieces: Iterable[bytes]) -> None:
        """All of it. What the pieces raise is raised, and then nothing of them can be read."""
        held = bytearray()
        try:
            for piece in pieces:
                held += piece
                while len(held) >= PAGE_BYTES:
                    self._page(bytes(held[:PAGE_BYTES]))
                    del held[:PAGE_BYTES]
            self._page(bytes(held))
        except BaseException:
            self.size = 0
            self._close()
            raise

    def _page(self, plain: bytes) -> None:
        number = self.size // PAGE_BYTES
        self._disk.write(self._fd, self._seal.close(plain, b"%d" % number), number * (PAGE_BYTES + OVERHEAD))
        self.size += len(plain)

    def read(self, start: int, length: int) -> bytes:
        """A stretch, shorter only at the end. Raises BrokenSeal, OSError."""
        end = min(start + length, self.size) if length >= 0 else self.size
        pieces = []
        for number in range(start // PAGE_BYTES, -(-end // PAGE_BYTES)):
            sealed = self._disk.read(self._fd, PAGE_BYTES + OVERHEAD, number * (PAGE_BYTES + OVERHEAD))
            page = self._seal.open(sealed, b"%d" % number)
            pieces.append(page[max(0, start - number * PAGE_BYTES) : end - number * PAGE_BYTES])
        return b"".join(pieces)


@implementer(IBody)
class SpooledBody:
    """``in_thread`` runs what blocks."""

    def __init__(self, spool: Spool, in_thread: InThread) -> None:
        self.size = spool.size
        self._spool = spool
        self._in_thread = in_thread

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """See IBody."""
        return await self._in_thread(self._spool.read, start, length)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See IBody."""
        for at in range(0, self.size, PAGE_BYTES):
            yield await self.read(at, PAGE_BYTES)
