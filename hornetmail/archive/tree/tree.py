"""The folders of the archive as one person sees them, by year and month of receipt: ``Received/2026/05``, ``Sent/2026/05``; for who may read everybody's mail
the same below ``Everybody/``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from zope.interface import implementer

from hornetmail.archive.index.finding.folders import Month
from hornetmail.archive.tree.folder import ArchiveFolder
from hornetmail.archive.tree.site import TreeSite
from hornetmail.core.folder import FolderError, FolderInfo, Usage
from hornetmail.core.served import Scope
from hornetmail.interfaces.folders import IFolderTree, IMountedTree

_NAME = re.compile(r"(.*?)(Received|Sent)/([0-9]{4})/(0[1-9]|1[0-2])", re.ASCII)
MADE = "The archive's folders are made by the mail in them: none can be made, removed or renamed"


def name_of(branch: str, month: Month) -> str:
    """Of a folder."""
    return f"{branch}{'Sent' if month.sent else 'Received'}/{month.month // 100:04}/{month.month % 100:02}"


@implementer(IMountedTree)
class ArchiveTree:
    """``root``: the person's own folders, which remember subscriptions, of these too; ``prefix``: where this tree is mounted."""

    def __init__(self, site: TreeSite, mailbox: int, root: IFolderTree, prefix: str) -> None:
        self._site = site
        self._mailbox = mailbox
        self._root = root
        self._prefix = prefix
        self._told = ""
        self._word = ""

    def word(self) -> str:
        """Why nothing is shown, to be told once; ``""``: all is well, or it was told."""
        if self._word == self._told:
            return ""
        self._told = self._word
        return self._told

    def _scopes(self) -> Mapping[str, Scope]:
        return {branch: scope for branch, scope in self._site.scopes(self._mailbox).items() if scope.content}

    async def folders(self) -> Sequence[FolderInfo]:
        """See IFolderTree. None at all while the archive is locked, closed to the person, or out of order."""
        found = []
        try:
            for branch, scope in self._scopes().items():
                found += [name_of(branch, month) for month in await self._site.months(scope)]
        except FolderError as error:
            self._word = error.text
            return ()
        self._word = self._told = ""
        wanted = frozenset(await self._root.subscriptions()) if found else frozenset()
        return [FolderInfo(name, 0, subscribed=self._prefix + name in wanted, readonly=True) for name in found]

    async def open(self, name: str) -> ArchiveFolder:
        """See IFolderTree."""
        match = _NAME.fullmatch(name)
        scope = self._scopes().get(match[1]) if match is not None else None
        if match is None or scope is None:
            raise FolderError("NONEXISTENT", "There is no such mailbox in the archive")
        month = Month(int(match[3]) * 100 + int(match[4]), match[2] == "Sent")
        standing = await self._site.standing(scope, month)
        own = None if scope.addresses is None else await self._site.snapshot(scope, month)
        if not standing.top or (own is not None and own.next == 1):
            raise FolderError("NONEXISTENT", "There is no archived mail of this month")
        validity = await self._site.validity(self._mailbox, match[1], scope, standing)
        info = FolderInfo(
            name,
            validity,
            subscribed=False,
            readonly=True,
            object=f"A{self._mailbox:x}-{validity:x}-{name_code(match[1], month)}",
        )
        return ArchiveFolder(self._site, self._mailbox, match[1], month, info, standing, self._root)

    async def create(self, name: str, use: str = "") -> None:
        """See IFolderTree. Raises FolderError NOPERM."""
        raise FolderError("NOPERM", MADE)

    async def delete(self, name: str) -> None:
        """See IFolderTree. Raises FolderError NOPERM."""
        raise FolderError("NOPERM", MADE)

    async def rename(self, old: str, new: str) -> None:
        """See IFolderTree. Raises FolderError NOPERM."""
        raise FolderError("NOPERM", MADE)

    async def subscribe(self, name: str, wanted: bool) -> None:
        """See IFolderTree."""
        await self._root.subscribe(self._prefix + name, wanted)

    async def subscriptions(self) -> Sequence[str]:
        """See IFolderTree: they are among those of the own folders."""
        return ()

    async def usage(self) -> Usage | None:
        """See IFolderTree: nothing of it counts for a mailbox."""
        return None


def name_code(branch: str, month: Month) -> str:
    """For a MAILBOXID, which has letters, digits, ``-`` and ``_`` (RFC 8474 section 7)."""
    return f"{'e' if branch else 'o'}{'s' if month.sent else 'r'}{month.month}"
