"""COPY out of the archive (rule 27): into INBOX the mail is redelivered, to whichever server is active (C10); into another folder of one's own it is copied there."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.archive.index.finding.folders import Row
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

    def redelivers(self, target: str) -> bool:
        """Whether a COPY there is a redelivery."""
        return target[:1] == "/" and target[1:].upper() == INBOX

    async def to(self, rows: Sequence[Row], target: str) -> Copied:
        """All of them or none. Raises FolderError."""
        if not target.startswith("/"):
            raise FolderError("CANNOT", "Nothing can be put into the archive in a mail program")
        if len(rows) > MOST:
            raise FolderError("LIMIT", f"Copy at most {MOST} archived messages at once")
        await self._readable(rows)
        if self.redelivers(target):
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
        identifiers = [row.identifier for row in rows]
        audit = self._site.around.audit
        subject = ",".join(map(str, identifiers))[:1000]
        number = await audit.begin(person.address, "archive.redeliver", subject, "in a mail program", person.tenant)
        try:
            await self._site.around.redelivery.redeliver(person, identifiers, person.address)
        except BaseException as error:
            await audit.outcome(number, f"{type(error).__name__}: {error}"[:1000])
            raise _refusal(error) from error
        await audit.outcome(number, "done")
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
            raise _refusal(error) from error
        copied: Copied = await folder.commit(deposits)
        return Copied(copied.uidvalidity, tuple(row.uid for row in rows), copied.targets)


def _refusal(error: BaseException) -> BaseException:
    """As a folder tells it."""
    if isinstance(error, (Refused, ArchiveError)):
        return reason(error)
    if isinstance(error, KeyError):
        return FolderError("EXPUNGEISSUED", "Some of the messages have gone")
    if isinstance(error, (DiskFull, OSError)):
        return FolderError("UNAVAILABLE", f"The mail cannot be queued now: {error}")
    if isinstance(error, ValueError):
        return FolderError("CANNOT", f"This mail cannot be redelivered: {error}")
    return error
