"""COPY out of the archive (rule 27): into INBOX the mail is redelivered, to whichever server is active (C10); into another folder of one's own it is copied there."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.archive.index.folders import Row
from hornetmail.archive.tree.site import TreeSite, reason
from hornetmail.core.archive.archived import ArchiveError, Refused
from hornetmail.core.folder import Copied, FolderError
from hornetmail.core.served import Scope
from hornetmail.disk.files import DiskFull
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.interfaces.folders import IFolder, IFolderTree

MOST = 500
"""Mails of one COPY, as of one redelivery."""

INBOX = "INBOX"


class Copying:
    """For a mailbox's person, within a scope. ``root``: the own folders."""

    def __init__(self, site: TreeSite, mailbox: int, scope: Scope, root: IFolderTree) -> None:
        self._site = site
        self._mailbox = mailbox
        self._scope = scope
        self._root = root

    async def to(self, rows: Sequence[Row], target: str) -> Copied:
        """All of them or none. Raises FolderError."""
        if not target.startswith("/"):
            raise FolderError("CANNOT", "Nothing can be put into the archive in a mail program")
        if len(rows) > MOST:
            raise FolderError("LIMIT", f"Copy at most {MOST} archived messages at once")
        await self._readable(rows)
        if target[1:].upper() == INBOX:
            return await self._redelivered(rows)
        return await self._kept(rows, await self._root.open(target[1:]))

    async def _readable(self, rows: Sequence[Row]) -> None:
        """A medium that is away is noticed before the first goes, so that trying again sends nothing twice."""
        wrong: list[ArchiveError] = []
        try:
            sights = await self._site.texts.sights(self._scope, rows, wrong.append)
        except (ArchiveError, Refused) as error:
            raise reason(error) from error
        if wrong:
            raise reason(wrong[0])
        if any(row.identifier not in sights for row in rows):
            raise FolderError("EXPUNGEISSUED", "Some of the messages have gone")

    async def _redelivered(self, rows: Sequence[Row]) -> Copied:
        """No COPYUID: it comes when the active server has it."""
        person = self._site.around.person(self._mailbox)
        if person is None:
            raise FolderError("NOPERM", "This mailbox is no longer registered")
        try:
            await self._site.around.redelivery.redeliver(person, [row.identifier for row in rows], person.address)
        except (Refused, ArchiveError) as error:
            raise reason(error) from error
        except KeyError:
            raise FolderError("EXPUNGEISSUED", "Some of the messages have gone") from None
        except (DiskFull, OSError) as error:
            raise FolderError("UNAVAILABLE", f"The mail cannot be queued now: {error}") from error
        except ValueError as error:
            raise FolderError("CANNOT", f"This mail cannot be redelivered: {error}") from error
        return Copied(0, (), ())

    async def _kept(self, rows: Sequence[Row], folder: IFolder) -> Copied:
        deposits: list[IDeposit] = []
        try:
            for row in rows:
                deposits.append(folder.append(("\\Seen",), row.received))
                body: IBody = await self._site.texts.body(self._scope, row)
                async for piece in body.chunks():
                    await deposits[-1].write(piece)
        except BaseException as error:
            for deposit in deposits:
                await deposit.abort()
            if isinstance(error, (ArchiveError, Refused)):
                raise reason(error) from error
            if isinstance(error, KeyError):
                raise FolderError("EXPUNGEISSUED", "Some of the messages have gone") from None
            raise
        copied: Copied = await folder.commit(deposits)
        return Copied(copied.uidvalidity, tuple(row.uid for row in rows), copied.targets)
