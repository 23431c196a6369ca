"""The change of the root key (rule 22): a new one is made and printed, waits until its paper is confirmed, and only then comes into force.

The one that waits lies in ``keys/archive-root.pending``, sealed under the server key; its paper alone opens nothing yet. The change happens
with the rename of the local keyring (``keystore``). A crash before it leaves the key pending; after it, ``settle`` ends the change at the next
start with the key from that file.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.archive.keys import paper, printed
from hornetmail.archive.keys.keyring import ROOT_BYTES, Keyring, KeyTrouble, new_root, root_id
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.keys.rootstore import IRoots
from hornetmail.archive.media.roster import Media
from hornetmail.core.archive.archived import KeyRefused, RootKeyState
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import BrokenSeal, Seal
from hornetmail.interfaces.root_keys import IRootKeys

T = TypeVar("T")

_CONTEXT = b"hornetmail pending root key 1"
_MADE = struct.Struct(">d")


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A root key that waits for its paper; ``made`` in Unix seconds."""

    root: bytes
    made: float


class PendingFile:
    """Where it waits: the time (8 bytes) and the key (32), sealed."""

    log = Logger()

    def __init__(self, path: Path, disk: Disk, seal: Seal) -> None:
        self._path = path
        self._disk = disk
        self._seal = seal

    def write(self, pending: Pending) -> None:
        """Durable on return."""
        self._disk.make_directory(self._path.parent)
        self._disk.write_durably(self._path, self._seal.close(_MADE.pack(pending.made) + pending.root, _CONTEXT))

    def read(self) -> Pending | None:
        """None if none waits. A file that cannot be opened is none: its key is not in force, or its paper opens the archive."""
        try:
            plain = self._seal.open(self._path.read_bytes(), _CONTEXT)
        except FileNotFoundError:
            return None
        except BrokenSeal as error:
            self.log.error("{path} cannot be opened and is passed over: {error}", path=str(self._path), error=error)
            return None
        if len(plain) != _MADE.size + ROOT_BYTES:
            return None
        return Pending(plain[_MADE.size :], _MADE.unpack_from(plain)[0])

    def remove(self) -> None:
        """Durable on return."""
        self._disk.unlink(self._path, missing_ok=True)
        self._disk.sync_directory(self._path.parent)


def settle(roots: IRoots, pendings: PendingFile, keyring: Path) -> bytes | None:
    """The root key to start with, None for locked: what a crash in the middle of a change left is brought to an end. Blocking. ``keyring``: the
    local file. Raises KeyTrouble (the root's file is damaged, or its source fails), OSError."""
    pending = pendings.read()
    if pending is None:
        return roots.read()
    try:
        wrapped = Keyring.from_bytes(keyring.read_bytes(), None).root
    except (FileNotFoundError, KeyTrouble):
        wrapped = b""
    if wrapped != root_id(pending.root):
        root = roots.read()
        if root is not None and hmac.compare_digest(root, pending.root):
            pendings.remove()
        return root
    try:
        roots.write(pending.root)
    except KeyTrouble:
        # What it shall lie under is not there yet. It opens the archive from where it waits.
        return pending.root
    pendings.remove()
    return pending.root


@implementer(IRootKeys)
class RootKeys:
    """For a running archive. ``offload`` runs what blocks in a thread; ``now`` gives Unix seconds."""

    log = Logger()

    def __init__(
        self,
        roots: IRoots,
        pendings: PendingFile,
        keys: KeyStore,
        media: Media,
        offload: Callable[..., Awaitable[Any]],
        now: Callable[[], float],
    ) -> None:
        self._roots = roots
        self._pendings = pendings
        self._keys = keys
        self._media = media
        self._offload = offload
        self._now = now
        self.lock = DeferredLock()
        self._pending: Pending | None = None

    async def open(self) -> None:
        """See whether one waits since before the start."""
        self._pending = await self._offload(self._pendings.read)

    @property
    def state(self) -> RootKeyState:
        """Now; nothing blocks. Empty as long as the archive waits for a medium that has its keyring."""
        if not self._keys.is_open:
            return RootKeyState()
        key = self._keys.current().root
        pending = self._pending
        if pending is None:
            return RootKeyState(key.hex(), waiting=tuple(sorted(self._keys.waiting)))
        return RootKeyState(key.hex(), root_id(pending.root).hex(), pending.made, tuple(sorted(self._keys.waiting)))

    async def backup(self, password: str, parts: int = 1, need: int = 1) -> str:
        """See ``IRootKeys``."""
        if not self._keys.is_open or self._keys.current().locked:
            raise KeyRefused("the archive's key is not here: it is locked")
        root = self._keys.current().root_key
        text: str = await self._offload(self._write_paper, root, password, self._now(), parts, need)
        return text

    async def page(self, text: str) -> str:
        """See ``IRootKeys``."""
        try:
            made: str = await self._offload(printed.document, text)
        except KeyTrouble as error:
            raise KeyRefused(str(error)) from None
        return made

    async def begin(self, password: str, parts: int = 1, need: int = 1) -> str:
        """See ``IRootKeys``."""
        return await self._alone(self._begin, password, parts, need)

    async def confirm(self, text: str, password: str) -> RootKeyState:
        """See ``IRootKeys``."""
        return await self._alone(self._confirm, text, password)

    async def cancel(self) -> None:
        """See ``IRootKeys``."""
        await self._alone(self._cancel)

    async def _alone(self, step: Callable[..., Awaitable[T]], *args: Any) -> T:
        await self.lock.acquire()
        try:
            return await step(*args)
        except OSError as error:
            # Where it stopped is settled by the next try, or the next start.
            raise KeyTrouble(f"{error.filename or 'the disk'}: {error.strerror or error}; nothing is lost, try again") from error
        finally:
            self.lock.release()

    async def _begin(self, password: str, parts: int, need: int) -> str:
        if self._pending is not None:
            raise KeyRefused(f"root key {root_id(self._pending.root).hex()} is pending already: confirm it, or cancel it")
        if self._keys.current().locked:
            raise KeyRefused("the archive is locked: its present key is needed to change it")
        pending = Pending(new_root(), self._now())
        text: str = await self._offload(self._write_paper, pending.root, password, pending.made, parts, need)
        await self._offload(self._pendings.write, pending)
        self._pending = pending
        return text

    def _write_paper(self, root: bytes, password: str, now: float, parts: int, need: int) -> str:
        return paper.backup(root, password, now, parts=parts, need=need)

    def _needed(self) -> Pending:
        if self._pending is None:
            raise KeyRefused("no root key is pending: make one first")
        return self._pending

    async def _confirm(self, text: str, password: str) -> RootKeyState:
        pending = self._needed()
        if self._keys.current().locked:
            raise KeyRefused("the archive is locked: its present key is needed to change it")
        try:
            root = await self._offload(paper.restore, text, password)
        except KeyTrouble as error:
            raise KeyRefused(str(error)) from None
        if not hmac.compare_digest(root, pending.root):
            raise KeyRefused(
                f"this is the paper of root key {root_id(root).hex()}, not of {root_id(pending.root).hex()}, which is pending"
            )
        if not self._in_force(pending):
            await self._offload(self._keys.rewrap, root, self._media.numbers)
        await self._offload(self._roots.write, root)
        await self._offload(self._pendings.remove)
        self._pending = None
        self.log.info("root key {key} is in force", key=root_id(root).hex())
        for problem in await self._offload(self._keys.publish_all, self._media.all()):
            self.log.error("the keyring: {problem}", problem=problem)
        return self.state

    async def _cancel(self) -> None:
        pending = self._needed()
        if self._in_force(pending):
            raise KeyRefused("it is in force already, only its end could not be written: confirm it once more")
        if not self._keys.current().locked:
            await self._offload(self._keys.keep)
        await self._offload(self._pendings.remove)
        self._pending = None

    def _in_force(self, pending: Pending) -> bool:
        return self._keys.current().root == root_id(pending.root)
