"""A message on its way in: short bodies gather in memory, long ones stream to a file, and ``commit`` makes it the queue's."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from hornetmail.core.delivery.queued import Message
from hornetmail.core.mail.envelope import Direction, Envelope, Origin
from hornetmail.disk.files import DiskFull
from hornetmail.disk.seal import Seal
from hornetmail.interfaces.body import IDeposit
from hornetmail.spool.disk.bodies import CHUNK, BodyFiles
from hornetmail.spool.disk.errors import SpoolError
from hornetmail.spool.disk.journal import Where

__all__ = ["SHORT", "Arrived", "Deposit"]

SHORT = 128 << 10
"""Bodies from this size on get a file of their own."""


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """A body that has arrived, and where it is; ``body`` is empty if it is in a file, which is durable then."""

    tenant: int
    size: int
    sha256: bytes
    where: Where
    file: int
    body: bytes


@implementer(IDeposit)
class Deposit:
    """One message that is arriving. Not for several tasks at once."""

    def __init__(
        self,
        take: Callable[..., Awaitable[Message]],
        room: Callable[[], None],
        new_file: Callable[[], int],
        files: BodyFiles,
        tenant: int,
    ) -> None:
        self.size = 0
        self._take = take
        self._room = room
        self._new_file = new_file
        self._files = files
        self._tenant = tenant
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._held = 0
        self._file = 0
        self._fd = -1
        self._key: Seal | None = None
        self._chunks = 0
        self._over = False
        self._lock = files.lock()
        """Whoever writes was perhaps cancelled, and still writes in its thread when the abort comes."""

    async def write(self, data: bytes) -> None:
        """Take a piece. Raises DiskFull, SpoolError; then it is aborted already."""
        if self._over:
            raise SpoolError("the deposit is over")
        self._hash.update(data)
        self._parts.append(data)
        self.size += len(data)
        self._held += len(data)
        if self._held >= SHORT or (self._file and self._held >= CHUNK):
            try:
                await self._spill(last=False)
            except BaseException:
                await self.abort()
                raise

    async def commit(
        self,
        envelope: Envelope,
        origin: Origin,
        direction: Direction,
        trace: bytes,
        *,
        domain: str,
        archive: bool,
        hold: str = "",
        request: str = "",
    ) -> Message:
        """The message, durable: see IQueue. Raises DiskFull, SpoolError: answer 4xx; nothing of it stays."""
        if self._over:
            raise SpoolError("the deposit is over")
        try:
            self._room()
            if self._file:
                await self._finish_file()
        except BaseException:
            await self.abort()
            raise
        self._over = True
        body = b"" if self._file else b"".join(self._parts)
        self._parts = []
        arrived = Arrived(
            self._tenant, self.size, self._hash.digest(), Where.FILE if self._file else Where.RECORD, self._file, body
        )
        return await self._take(arrived, envelope, origin, direction, trace, domain, archive, hold, request)

    async def abort(self) -> None:
        """Forget it. Safe at any time; after a commit it does nothing."""
        if self._over:
            return
        self._over = True
        self._parts = []
        if self._file:
            await self._files.thread(self._discard)

    def _discard(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                self._files.close(fd)
            self._files.remove(self._file)

    async def _spill(self, last: bool) -> None:
        """Write whole chunks, and at the end what is left, to the file."""
        self._room()
        data = b"".join(self._parts)
        whole = len(data) if last else len(data) - len(data) % CHUNK
        self._parts = [data[whole:]] if whole < len(data) else []
        self._held = len(data) - whole
        if not self._file:
            self._file = self._new_file()
            self._key = self._files.key(self._file)
        waiting: Deferred[int] = self._files.thread(self._put, data[:whole])
        try:
            self._chunks += await waiting
        except DiskFull:
            raise
        except OSError as error:
            raise SpoolError(f"the body cannot be written: {error}") from error

    def _put(self, data: bytes) -> int:
        with self._lock:
            if self._over:
                raise SpoolError("the deposit is over")
            if self._fd < 0:
                self._fd = self._files.create(self._file)
            assert self._key is not None
            self._files.put(self._fd, self._key, self._file, self._chunks, data)
            return -(-len(data) // CHUNK)

    async def _finish_file(self) -> None:
        if self._held:
            await self._spill(last=True)
        fd, self._fd = self._fd, -1
        try:
            await self._files.sync(fd)
        except OSError as error:
            raise SpoolError(f"the body cannot be made durable: {error}") from error
