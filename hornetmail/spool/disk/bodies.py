"""Bodies at rest: short ones in the journal, long ones in files of their own, sealed in chunks (``docs/formats/spool.rst``)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from hornetmail.disk.anchor import DiskAway, nothing
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import OVERHEAD, BrokenSeal, Seal
from hornetmail.disk.threads import lock
from hornetmail.interfaces.body import IBody
from hornetmail.spool.disk.errors import BodyLost, SpoolError

CHUNK = 64 << 10
"""Plain bytes in each chunk but the last."""

MAGIC = b"HMBODY\r\n\x1a\x01"
_HEADER = len(MAGIC) + 8
GONE = frozenset({errno.EIO, errno.ENOENT})
"""Errors of the disk with which trying again is of no use; all others (no descriptors, no memory, no right) may pass."""
T = TypeVar("T")


def context(file: int, chunk: int) -> bytes:
    """The additional data of a chunk: chunks cannot change places, nor files."""
    return MAGIC + file.to_bytes(8, "big") + chunk.to_bytes(8, "big")


@implementer(IBody)
class BytesBody:
    """A body that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """A part, or all of it."""
        return self._data[start:] if length < 0 else self._data[start : start + length]

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it in pieces of at most 64 KiB."""
        for start in range(0, self.size, CHUNK):
            yield self._data[start : start + CHUNK]


class BodyFiles:
    """The directory of long bodies. Blocking methods are for threads; ``thread`` gets there."""

    def __init__(
        self, directory: Path, disk: Disk, seal: Seal, reactor: Any, pool: ThreadPool, look: Callable[[], None] = nothing
    ) -> None:
        self.directory = directory
        self._look = look
        self._disk = disk
        self._seal = seal
        self._reactor = reactor
        self._pool = pool
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._syncing = False

    def thread(self, call: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run a blocking call in the pool; at once if the pool has ended (an abort after the queue's close)."""
        if self._pool.joined:
            return execute(call, *args)
        return deferToThreadPool(self._reactor, self._pool, call, *args)

    def lock(self) -> AbstractContextManager[object]:
        """For what two threads must not do to one file at the same time."""
        return lock(self._reactor)

    def path(self, file: int) -> Path:
        """Where a body's file is."""
        return self.directory / f"{file:016x}.body"

    def key(self, file: int) -> Seal:
        """The file's own key."""
        return self._seal.derive(b"body " + file.to_bytes(8, "big"))

    def create(self, file: int) -> int:
        """Blocking: a new file; its descriptor."""
        self._look()
        fd = self._disk.open(self.path(file), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            self._disk.write(fd, MAGIC + file.to_bytes(8, "big"), 0)
        except OSError:
            self._disk.close(fd)
            raise
        return fd

    def put(self, fd: int, key: Seal, file: int, first: int, data: bytes) -> None:
        """Blocking: seal ``data`` as the chunks from ``first`` on. Only the last chunk of a file may be short."""
        parts = [
            key.close(data[start : start + CHUNK], context(file, first + number))
            for number, start in enumerate(range(0, len(data), CHUNK))
        ]
        self._disk.write(fd, b"".join(parts), _HEADER + first * (CHUNK + OVERHEAD))

    def get(self, file: int, start: int, length: int) -> bytes:
        """Blocking: a part of a body. Raises BodyLost if it is missing, damaged or on a bad sector, SpoolError if it cannot be read now."""
        if length <= 0:
            return b""
        key = self.key(file)
        first, last = start // CHUNK, (start + length - 1) // CHUNK
        try:
            fd = self._disk.open(self.path(file), os.O_RDONLY)
            try:
                plain = []
                for number in range(first, last + 1):
                    sealed = self._disk.read(fd, CHUNK + OVERHEAD, _HEADER + number * (CHUNK + OVERHEAD))
                    plain.append(key.open(sealed, context(file, number)))
            finally:
                self._disk.close(fd)
        except OSError as error:
            kind = BodyLost if error.errno in GONE and not self._away() else SpoolError
            raise kind(f"the body {self.path(file).name} cannot be read: {error}") from error
        except BrokenSeal as error:
            raise BodyLost(f"the body {self.path(file).name} is damaged: {error}") from error
        data = b"".join(plain)
        return data[start - first * CHUNK : start - first * CHUNK + length]

    def _away(self) -> bool:
        try:
            self._look()
        except DiskAway:
            return True
        return False

    def sync(self, fd: int) -> Deferred[None]:
        """Make a file and its name durable; those who wait share one trip and one sync of the directory. The descriptor is closed."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append((fd, waiter))
        if not self._syncing:
            self._next()
        return waiter

    def _next(self) -> None:
        self._syncing = True
        batch, self._waiting = self._waiting, []

        def done(outcomes: list[BaseException | None]) -> None:
            if self._waiting:
                self._next()
            else:
                self._syncing = False
            for (_, waiter), outcome in zip(batch, outcomes, strict=True):
                if outcome is None:
                    waiter.callback(None)
                else:
                    waiter.errback(outcome)

        self.thread(self._sync_all, [fd for fd, _ in batch]).addCallback(done)

    def _sync_all(self, fds: list[int]) -> list[BaseException | None]:
        outcomes: list[BaseException | None] = []
        for fd in fds:
            try:
                try:
                    self._disk.sync_file(fd)
                finally:
                    self._disk.close(fd)
                outcomes.append(None)
            except OSError as error:
                outcomes.append(error)
        try:
            self._disk.sync_directory(self.directory)
        except OSError as error:
            return [outcome or error for outcome in outcomes]
        return outcomes

    def close(self, fd: int) -> None:
        """Blocking: close a descriptor that is not to be synced."""
        self._disk.close(fd)

    def remove(self, file: int) -> None:
        """Blocking: a body that nobody needs. What cannot be removed is swept at the next start."""
        with contextlib.suppress(OSError):
            self._disk.unlink(self.path(file), missing_ok=True)

    def sweep(self, needed: Collection[int]) -> set[int]:
        """Blocking, at start: remove files without a record (a crash came between); those of ``needed`` that are not there."""
        missing = set(needed)
        for path in self.directory.glob("*.body"):
            try:
                file = int(path.stem, 16)
            except ValueError:
                continue
            if file in needed:
                missing.discard(file)
            else:
                self._disk.unlink(path, missing_ok=True)
        return missing


@implementer(IBody)
class FileBody:
    """A long body. ``here()``: its message has not left. ``lost(error)`` is told when it turns out to be gone for good."""

    def __init__(
        self, files: BodyFiles, file: int, size: int, here: Callable[[], bool], lost: Callable[[Exception], Awaitable[None]]
    ) -> None:
        self.size = size
        self._files = files
        self._file = file
        self._here = here
        self._lost = lost

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """A part, or all of it. Raises KeyError (the message has left), BodyLost, SpoolError."""
        start = min(start, self.size)
        length = self.size - start if length < 0 else min(length, self.size - start)
        try:
            return await self._files.thread(self._files.get, self._file, start, length)
        except BodyLost as error:
            if not self._here():
                raise KeyError(self._file) from None
            await self._lost(error)
            raise

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it in pieces of 64 KiB. Reads ahead 4 of them a trip."""
        for start in range(0, self.size, 4 * CHUNK):
            data = await self.read(start, 4 * CHUNK)
            for place in range(0, len(data), CHUNK):
                yield data[place : place + CHUNK]


_AROUND = 200
"""Bytes of memory that a short body takes besides itself."""

_GO_TOGETHER = 256


class Recent:
    """Short bodies of young messages, so that the first attempt needs no disk; the oldest go when it is full. ``limit``: bytes, with what Python adds."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._bodies: dict[int, bytes] = {}

    def put(self, message: int, body: bytes) -> None:
        """Keep it for a while."""
        self._bodies[message] = body
        self._size += len(body) + _AROUND
        while self._size > self._limit:
            # Some at a time: to find the first one in a dictionary that lost many is work. (An OrderedDict takes five times as long to grow.)
            for number in list(islice(self._bodies, _GO_TOGETHER)):
                self.drop(number)
                if self._size <= self._limit:
                    break

    def get(self, message: int) -> bytes | None:
        """The body, if it is still here."""
        return self._bodies.get(message)

    def drop(self, message: int) -> None:
        """Nobody asks any more."""
        body = self._bodies.pop(message, None)
        if body is not None:
            self._size -= len(body) + _AROUND
