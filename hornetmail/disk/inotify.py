"""What happens in directories, as Linux tells it (inotify(7)). Twisted's own (``twisted.internet.inotify``) passes over the kernel's word that events were
lost, and closes itself, for all directories, when one of them is removed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ILoggingContext, IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

APPEARED = 0x080 | 0x100
"""IN_MOVED_TO, IN_CREATE."""

VANISHED = 0x040 | 0x200
"""IN_MOVED_FROM, IN_DELETE."""

_ENDED = 0x400 | 0x800 | 0x2000 | 0x8000
"""IN_DELETE_SELF, IN_MOVE_SELF (it lies elsewhere, as a removed folder does), IN_UNMOUNT, IN_IGNORED."""

_OVERFLOW = 0x4000
_ONLY_DIRECTORIES = 0x01000000
_EVENT = struct.Struct("=iIII")
_READ_BYTES = 1 << 16

Told = Callable[[bytes | None, bool], None]
"""A name in the directory, and whether it appeared or vanished; None: what happened is not known, or nothing more will be told."""


@implementer(IReadDescriptor, ILoggingContext)
class Inotify:
    """One for all directories of a room. Of the reactor's thread, but for ``add``."""

    def __init__(self, reactor: Any) -> None:
        """Raises OSError where there is none, or none more."""
        if not sys.platform.startswith("linux") or not IReactorFDSet.providedBy(reactor):
            raise OSError(errno.ENOSYS, "no inotify here")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise self._error()
        self._told: dict[int, Told] = {}
        self._reactor = reactor
        reactor.addReader(self)

    def _error(self) -> OSError:
        code = ctypes.get_errno()
        return OSError(code, os.strerror(code))

    def add(self, path: str) -> int:
        """Begin to watch a directory: its number. Blocks as the disk does; what happens before ``tell`` is not told. Raises OSError, also
        when the machine's limit of watches is reached."""
        number: int = self._libc.inotify_add_watch(
            self._fd, os.fsencode(path), APPEARED | VANISHED | 0x400 | 0x800 | _ONLY_DIRECTORIES
        )
        if number < 0:
            raise self._error()
        return number

    def tell(self, number: int, told: Told) -> None:
        """Who is told, from now on; a directory has one."""
        self._told[number] = told

    def ignore(self, number: int, told: Told) -> None:
        """Watch it no longer, if it is he who is told. Safe to call twice."""
        if self._fd >= 0 and self._told.get(number) == told:
            del self._told[number]
            self._libc.inotify_rm_watch(self._fd, number)

    def drain(self) -> None:
        """Tell all that has happened up to now. Never blocks."""
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return
            self._take(data)
            if len(data) < _READ_BYTES // 2:
                return

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if mask & _OVERFLOW:
                for told in list(self._told.values()):
                    told(None, False)
            elif number in self._told:
                told = self._told[number]
                if mask & _ENDED:
                    self.ignore(number, told)
                    told(None, False)
                else:
                    told(name, bool(mask & APPEARED))

    def close(self) -> None:
        """Tell nothing more."""
        if self._fd >= 0:
            self._reactor.removeReader(self)
            fd, self._fd = self._fd, -1
            self._told.clear()
            with contextlib.suppress(OSError):
                os.close(fd)

    # IReadDescriptor

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._fd

    def doRead(self) -> None:
        """See IReadDescriptor."""
        self.drain()

    def connectionLost(self, reason: Failure) -> None:
        """See IFileDescriptor."""
        self.close()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "inotify"
