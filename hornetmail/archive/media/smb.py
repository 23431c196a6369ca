"""A medium on an SMB share (A8): a NAS or a Windows server, without a mount. SMB 2 and 3 by smbprotocol, which blocks.

An object is written under a name of its own, flushed, and renamed, so that half of one is never seen. A server that stops answering is
given up after ``ANSWER`` seconds, and dialled anew with the next call.
"""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from time import sleep
from typing import Any

import smbclient
from smbprotocol.exceptions import SMBException, SMBOSError
from spnego.exceptions import SpnegoError
from zope.interface import implementer

from hornetmail.archive.media.medium import IPlace, IVisit, PlaceAway, PlaceMissing, PlaceTrouble, Space, valid_name
from hornetmail.archive.media.settings import ShareSettings
from hornetmail.disk.files import DiskFull

CONNECT = 10
ANSWER = 60
"""Seconds."""

FRESH = 5.0
"""Seconds for which an identity that was read is believed."""

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Names under which ``put`` writes."""

_HELD = frozenset({0xC0000022, 0xC0000043, 0xC0000054, 0xC0000056})
"""What a server says of a file that somebody else has open: access denied, sharing violation, lock conflict, delete pending."""

HELD = (0.05, 0.2, 0.5, 1.0)
"""Seconds between two tries on such a file."""

_STATUS_DISK_FULL = 0xC000007F
_STATUS_QUOTA_EXCEEDED = 0xC0000044


@implementer(IPlace)
class SharePlace:
    """``now`` gives seconds."""

    def __init__(self, settings: ShareSettings, password: str, now: Callable[[], float]) -> None:
        self.where = settings.where
        self._settings = settings
        self._password = password
        self._now = now
        self._lock = threading.Lock()
        self._connections: dict[str, Any] = {}
        self._dialled = 0

    @contextlib.contextmanager
    def visit(self) -> Iterator[IVisit]:
        """See IPlace."""
        with self._lock:
            connections, dialled = self._connect()
        try:
            yield _Visit(self._settings, connections, (dialled, self._now() // FRESH))
        except SMBOSError as error:
            self._raise(error)
        except (SMBException, SpnegoError, ConnectionError, TimeoutError, ValueError) as error:
            if getattr(error, "status", 0) in (_STATUS_DISK_FULL, _STATUS_QUOTA_EXCEEDED):
                raise DiskFull(errno.ENOSPC, "no room on the share") from error
            self.close()
            raise PlaceAway(_line(error)) from error
        except OSError as error:
            self.close()
            raise PlaceAway(error.strerror or _line(error)) from error

    def _raise(self, error: SMBOSError) -> None:
        if error.errno in _FULL or error.ntstatus in (_STATUS_DISK_FULL, _STATUS_QUOTA_EXCEEDED):
            raise DiskFull(errno.ENOSPC, "no room on the share") from error
        if error.errno in _MISSING:
            raise PlaceAway(f"there is no {error.filename}") from error
        raise PlaceTrouble(_line(error)) from error

    def _connect(self) -> tuple[dict[str, Any], int]:
        live = [one for one in self._connections.values() if one.transport is not None and one.transport.connected]
        if live:
            return self._connections, self._dialled
        chosen = self._settings
        fresh: dict[str, Any] = {}
        try:
            smbclient.register_session(
                chosen.host,
                username=f"{chosen.domain}\\{chosen.user}" if chosen.domain else chosen.user or None,
                password=self._password or None,
                port=chosen.port,
                encrypt=True if chosen.encrypted else None,
                connection_timeout=CONNECT,
                connection_cache=fresh,
                auth_protocol="ntlm" if chosen.user else "negotiate",
            )
        except (SMBException, SpnegoError, OSError, ValueError) as error:
            _drop(fresh)
            raise PlaceAway(f"cannot log in to the server: {_line(error)}") from error
        for connection in fresh.values():
            _impatient(connection)
        self._connections = fresh
        self._dialled += 1
        return fresh, self._dialled

    def make(self) -> None:
        """See IPlace."""
        if self._settings.path:
            with self.visit() as there:
                assert isinstance(there, _Visit)
                there.make_folders("")

    def close(self) -> None:
        """See IPlace."""
        with self._lock:
            connections, self._connections = self._connections, {}
        _drop(connections)


def _drop(connections: dict[str, Any]) -> None:
    with contextlib.suppress(Exception):
        smbclient.reset_connection_cache(fail_on_error=False, connection_cache=connections)


def _impatient(connection: Any) -> None:
    """smbprotocol waits for an answer for ever unless it is told otherwise, and its file calls tell it nothing."""
    receive = connection.receive

    def limited(request: Any, wait: bool = True, timeout: Any = None, resolve_symlinks: bool = True) -> Any:
        return receive(request, wait, timeout if timeout is not None else ANSWER, resolve_symlinks)

    connection.receive = limited


def _patiently(call: Callable[[], object]) -> None:
    """A file that was just closed may be in the hands of a virus scanner, an indexer or a snapshot for a moment, and cannot be renamed or removed then."""
    for pause in (*HELD, None):
        try:
            call()
            return
        except SMBOSError as error:
            if error.ntstatus not in _HELD or pause is None:
                raise
        sleep(pause)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


@implementer(IVisit)
class _Visit:
    def __init__(self, settings: ShareSettings, connections: dict[str, Any], mark: object) -> None:
        self._top = f"\\\\{settings.host}\\{settings.share}" + "".join(f"\\{one}" for one in settings.path.split("/") if one)
        self._options: dict[str, Any] = {"connection_cache": connections, "port": settings.port}
        self._mark = mark

    def mark(self) -> object:
        """See IVisit: the connection, and a few seconds."""
        return self._mark

    def _path(self, name: str) -> str:
        return self._top + "".join(f"\\{one}" for one in name.split("/") if one)

    def make_folders(self, folder: str) -> None:
        """Folders of the medium, and those that it lies in."""
        smbclient.makedirs(self._path(folder), exist_ok=True, **self._options)

    def number(self) -> int:
        """See IVisit: nobody can tell a share from its copy."""
        return 0

    def put(self, name: str, data: bytes | memoryview) -> None:
        """See IVisit."""
        folder, _, base = name.rpartition("/")
        temporary = self._path(f"{folder}/.{base}.{secrets.token_hex(4)}.tmp")
        try:
            file = smbclient.open_file(temporary, mode="xb", **self._options)
        except SMBOSError as error:
            if error.errno not in _MISSING or not folder:
                raise
            self.make_folders(folder)
            file = smbclient.open_file(temporary, mode="xb", **self._options)
        try:
            with file:
                file.write(data)
                file.flush()
                file.raw.flush()
            _patiently(lambda: smbclient.replace(temporary, self._path(name), **self._options))
        except BaseException:
            with contextlib.suppress(Exception):
                _patiently(lambda: smbclient.remove(temporary, **self._options))
            raise

    def get(self, name: str, start: int, length: int) -> bytes:
        """See IVisit."""
        try:
            with smbclient.open_file(self._path(name), mode="rb", share_access="rwd", **self._options) as file:
                file.seek(start)
                data: bytes = file.read(length)
                return data
        except SMBOSError as error:
            if error.errno in _MISSING:
                raise PlaceMissing(name) from None
            raise

    def names(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, int]]:
        """See IVisit."""
        found: list[tuple[str, int]] = []
        folders = [prefix.rstrip("/")]
        while folders:
            folder = folders.pop()
            try:
                entries = list(smbclient.scandir(self._path(folder), **self._options))
            except SMBOSError as error:
                if error.errno in _MISSING and folder:
                    continue
                raise
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir():
                    folders.append(name)
                elif name > after and valid_name(name) and not name.endswith(".tmp"):
                    found.append((name, entry.smb_info.end_of_file))
        found.sort()
        return found[:limit] if limit else found

    def delete(self, name: str) -> None:
        """See IVisit."""
        try:
            _patiently(lambda: smbclient.remove(self._path(name), **self._options))
        except SMBOSError as error:
            if error.errno not in _MISSING:
                raise

    def sweep(self, before: float) -> int:
        """See IVisit."""
        removed = 0
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in list(smbclient.scandir(self._path(folder), **self._options)):
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir():
                    folders.append(name)
                elif _UNFINISHED.fullmatch(entry.name) and entry.smb_info.last_write_time.timestamp() < before:
                    smbclient.remove(self._path(name), **self._options)
                    removed += 1
        return removed

    def lock(self, name: str, until: float) -> None:
        """See IVisit; there are no locks here."""

    def space(self) -> Space:
        """See IVisit."""
        volume = smbclient.stat_volume(self._path(""), **self._options)
        return Space(volume.total_size, volume.caller_available_size)
