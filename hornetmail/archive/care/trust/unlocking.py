"""The archive locked and unlocked (rule 22): what a start could not open is opened by a person, or by its source once that answers.

While it is locked, mail is sealed to the keyring's public half and stays staged; nothing else waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.archive.keys import paper
from hornetmail.archive.keys.keyring import KeyTrouble
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.keys.rootstore import RootStore
from hornetmail.core.archive.archived import ArchiveError, KeyRefused, KeySourceState
from hornetmail.interfaces.unlocking import IUnlocking


@implementer(IUnlocking)
class Unlocking:
    """``opened``: gives an archive its root key. ``alarm``, ``over``: begin and end of a trouble. ``lock``: held by whoever writes the root key.
    ``why``: what the start said."""

    log = Logger()

    def __init__(
        self,
        roots: RootStore,
        keys: KeyStore,
        opened: Callable[[bytes], Awaitable[None]],
        offload: Callable[..., Awaitable[Any]],
        alarm: Callable[[str, str], None],
        over: Callable[[str, str], None],
        lock: DeferredLock,
        why: str = "",
    ) -> None:
        self._roots = roots
        self._keys = keys
        self._opened = opened
        self._offload = offload
        self._alarm = alarm
        self._over = over
        self._why = why
        self._lock = lock

    @property
    def state(self) -> KeySourceState:
        """Now; nothing blocks."""
        return KeySourceState(self._roots.source, self._roots.typed, self._trouble())

    @property
    def locked(self) -> bool:
        """Whether the archive has no root key."""
        return not self._keys.is_open or self._keys.current().locked

    def _trouble(self) -> str:
        if self.locked:
            return self._why or ("nobody has typed the passphrase" if self._roots.typed else "the archive's key is not here")
        if self._roots.elsewhere:
            return f"the archive's key does not lie under {self._roots.source} yet{self._why and f': {self._why}'}"
        return ""

    async def look(self) -> None:
        """Now and then: ask a source that failed once more, and put the key where it shall lie; say what is wrong."""
        await self._lock.acquire()
        try:
            if self.locked and not self._roots.typed:
                await self._again()
            elif not self.locked and self._roots.elsewhere:
                await self._settle()
        finally:
            self._lock.release()
        self._tell()

    def _tell(self) -> None:
        trouble = self._trouble()
        if self.locked:
            self._alarm("archive-locked", f"mail is archived and cannot be searched: {trouble}")
            return
        self._over("archive-locked", "the archive is unlocked")
        if trouble:
            self._alarm("archive-key-source", trouble)
        else:
            self._over("archive-key-source", "the archive's key lies where it shall")

    async def _again(self) -> None:
        try:
            root = await self._offload(self._roots.read)
            if root is not None:
                await self._opened(root)
                self._why = ""
        except (ArchiveError, OSError) as error:
            self._why = str(error)

    async def _settle(self) -> None:
        """The key in its chosen form; what prevents it is told and tried again."""
        try:
            await self._offload(self._roots.write, self._keys.current().root_key)
            self._why = ""
        except (ArchiveError, OSError) as error:
            self._why = str(error)

    # -- by a person

    async def unlock(self, passphrase: str) -> None:
        """See IUnlocking."""
        await self._unlock(False, self._roots.open_typed, passphrase)

    async def unlock_by_paper(self, text: str, password: str) -> None:
        """See IUnlocking."""
        await self._unlock(True, paper.restore, text, password)

    async def _unlock(self, by_paper: bool, find: Callable[..., bytes], *given: str) -> None:
        await self._lock.acquire()
        try:
            if not self.locked:
                raise KeyRefused("the archive is not locked")
            try:
                root = await self._offload(find, *given)
                await self._opened(root)
            except KeyTrouble as error:
                raise KeyRefused(str(error)) from None
            self._why = ""
            if by_paper:
                await self._offload(self._roots.check)
            if not self._roots.typed:
                await self._settle()
            self.log.info("the archive is unlocked")
        finally:
            self._lock.release()
        self._tell()

    async def choose(self, passphrase: str) -> None:
        """See IUnlocking."""
        await self._lock.acquire()
        try:
            if self.locked:
                raise KeyRefused("the archive is locked: unlock it first")
            try:
                await self._offload(self._roots.write_under, self._keys.current().root_key, passphrase)
            except KeyTrouble as error:
                raise KeyRefused(str(error)) from None
            except OSError as error:
                raise ArchiveError(f"{error.filename or 'the disk'}: {error.strerror or error}; try again") from error
            self._why = ""
        finally:
            self._lock.release()
        self._tell()
