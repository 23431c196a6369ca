"""A message that is arriving by APPEND."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.core.folder import Copied, FolderError
from hornetmail.interfaces.body import IDeposit


class Appending:
    """Takes pieces; the first error is kept until the end, because nothing can be answered before it."""

    log = Logger()
    __slots__ = ("_deposit", "_error", "mailbox")

    def __init__(self, deposit: IDeposit, mailbox: str) -> None:
        self._deposit = deposit
        self._error: FolderError | None = None
        self.mailbox = mailbox

    async def take(self, data: bytes) -> None:
        """A piece. Never raises; after an error pieces are dropped."""
        if self._error is not None:
            return
        if b"\0" in data:
            self._error = FolderError("CANNOT", "The message has a NUL byte, which a literal cannot carry (RFC 3501 section 9)")
            return
        try:
            await self._deposit.write(data)
        except FolderError as error:
            self._error = error
        except OSError as error:
            self._error = FolderError("UNAVAILABLE", "The message cannot be stored now")
            self.log.error("APPEND failed: {error}", error=error)

    async def commit(self) -> Copied:
        """Where it lies. Raises FolderError."""
        if self._error is not None:
            await self._deposit.abort()
            raise self._error
        copied: Copied = await self._deposit.commit()
        return copied

    def forget(self) -> None:
        """It will not be completed."""
        Deferred.fromCoroutine(self._abort())

    async def _abort(self) -> None:
        try:
            await self._deposit.abort()
        except Exception:  # noqa: BLE001
            self.log.failure("an unfinished message could not be removed")
