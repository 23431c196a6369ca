"""Folders as IMAP, POP3 and webmail see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, cast

from zope.interface import implementer

from hornetmail.core.folder import Copied, Entry, FolderError, FolderInfo, FolderStatus, Sieve, Usage
from hornetmail.core.metadata import is_shared
from hornetmail.core.sharing import ALL
from hornetmail.interfaces.folders import IFolder, ISharingTree
from hornetmail.mime.structure import Part
from hornetmail.portal.box import noting, reading, reshaping, rights
from hornetmail.portal.box.body import FileBody
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.carrying import Leaving, carry
from hornetmail.portal.box.deposit import Append, commit_together
from hornetmail.portal.box.landing import Instead
from hornetmail.portal.box.moving import Flags, all_of_them, leave, transfer
from hornetmail.portal.box.survey import survey
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.ground import shielded
from hornetmail.portal.maildir.snapshot import Snapshot
from hornetmail.portal.maildir.trouble import told
from hornetmail.portal.rows.index import FolderRow

DELETED = "\\Deleted"
_SYSTEM = {flag.lower(): flag for flag in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft")}
Opener = Callable[[int], Awaitable[Box]]
"""Finds the box of a mailbox, or makes it."""


def clean_flags(flags: Collection[str]) -> frozenset[str]:
    r"""System flags in their usual case; ``\Recent`` and other unknown ``\…`` are dropped, and what is no word. Keywords stay as they are."""
    return frozenset(
        _SYSTEM.get(flag.lower(), flag)
        for flag in flags
        if flag and (not flag.startswith("\\") or flag.lower() in _SYSTEM) and not any(c.isspace() or c < "!" for c in flag)
    )


@implementer(IFolder)
class Folder:
    """One folder, in memory as long as somebody has it."""

    def __init__(self, box: Box, snapshot: Snapshot) -> None:
        self._box = box
        self._snapshot = snapshot

    @property
    def info(self) -> FolderInfo:
        """See IFolder."""
        snapshot = self._snapshot
        row = FolderRow(snapshot.id, snapshot.name, snapshot.special, snapshot.uidvalidity)
        return _info(row, self._box.subscribed)

    @property
    def there(self) -> bool:
        """See IFolder."""
        return not self._snapshot.removed

    def email_id(self, entry: Entry) -> str:
        """See IFolder."""
        return naming.origin_of(entry.name)

    async def status(self) -> FolderStatus:
        """Figures, from memory."""
        return self._snapshot.status()

    async def entries(self, uids: Collection[int] | None = None) -> Sequence[Entry]:
        """In order of UID; UIDs that are gone are left out."""
        entries = self._snapshot.entries
        if uids is None:
            return list(entries.values())
        return [entries[uid] for uid in sorted(uids) if uid in entries]

    async def changes(self, modseq: int) -> Sequence[Entry]:
        """See IFolder. Of expunged messages the last 2,000 are remembered."""
        return self._snapshot.changes(modseq)

    async def structures(self, uids: Sequence[int]) -> dict[int, Part]:
        """See IFolder. Messages that are gone are left out."""
        with told():
            return await reading.structures(self._box, self._snapshot, uids)

    async def headers(self, uids: Sequence[int]) -> dict[int, bytes]:
        """See IFolder. Messages that are gone are left out."""
        with told():
            return await reading.headers(self._box, self._snapshot, uids)

    async def summaries(self, uids: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """See IFolder."""
        with told():
            return await reading.summaries(self._box, self._snapshot, uids)

    async def fields(self, uids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """See IFolder."""
        with told():
            return await reading.fields(self._box, self._snapshot, uids)

    async def sifted(self, uids: Sequence[int], sieve: Sieve) -> dict[int, bool]:
        """See IFolder."""
        with told():
            return await reading.sifted(self._box, self._snapshot, uids, sieve)

    async def keep_texts(self, found: Sequence[tuple[int, bytes, bytes]]) -> None:
        """See IFolder."""
        with told():
            await reading.keep_texts(self._box, self._snapshot, found)

    async def pieces(self, wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
        """See IFolder."""
        with told():
            return await reading.pieces(self._box, self._snapshot, wanted)

    async def body(self, uid: int) -> FileBody:
        """See IFolder."""
        return FileBody(self._box, self._snapshot, uid)

    async def recent(self, take: bool) -> int:
        """See IFolder. It is written down with the folder's next change, so that looking costs nothing; until then a restart makes it recent once more, which
        RFC 3501 section 2.3.2 wants where nobody knows."""
        first = self._snapshot.recent_from
        if take:
            self._snapshot.told_of()
        return first

    async def store(
        self,
        uids: Collection[int],
        add: Collection[str] = (),
        remove: Collection[str] = (),
        replace: Collection[str] | None = None,
        since: int | None = None,
    ) -> Sequence[Entry]:
        """See IFolder."""
        adding, removing = clean_flags(add), clean_flags(remove)
        start = clean_flags(replace) if replace is not None else None

        def change(flags: frozenset[str]) -> frozenset[str]:
            return ((flags if start is None else start) | adding) - removing

        with told():
            return await shielded(self._box.store(self._snapshot, sorted(uids), change, since))

    async def expunge(self, uids: Collection[int] | None = None) -> Sequence[int]:
        """See IFolder. Durable on return."""
        entries = self._snapshot.entries
        candidates = list(entries.values()) if uids is None else [entries[uid] for uid in sorted(set(uids)) if uid in entries]
        marked = [entry.uid for entry in candidates if DELETED in entry.flags]
        if not marked:
            return ()
        with told():
            return await shielded(self._box.expunge(self._snapshot, marked))

    async def copy(self, uids: Collection[int], target: str) -> Copied:
        """See IFolder."""
        return await self.transfer(uids, target, away=False)

    async def move(self, uids: Collection[int], target: str) -> Copied:
        """See IFolder."""
        return await self.transfer(uids, target, away=True)

    async def transfer(self, uids: Collection[int], target: str, *, away: bool, flags: Flags = all_of_them) -> Copied:
        """Both of them, for who may not set all flags."""
        with told():
            return await shielded(transfer(self._box, self._snapshot, uids, naming.fold_inbox(target), away=away, flags=flags))

    def append(self, flags: Collection[str], date: float | None, frees: int = 0) -> Append:
        """See IFolder. Bare LF becomes CRLF."""
        return Append(self._box, self._snapshot, clean_flags(flags), date, frees)

    def twin(self, entry: Entry, known: str) -> Append:
        """See ``carrying``."""
        return Append(self._box, self._snapshot, clean_flags(entry.flags), entry.date, origin=known)

    async def keep(self, deposits: Sequence[Any]) -> Copied:
        """See ``carrying``."""
        return await self.commit(deposits)

    async def take_back(self, uids: Collection[int]) -> None:
        """See ``carrying``."""
        with told():
            await shielded(self._box.expunge(self._snapshot, list(uids)))

    async def leave(self, uids: Sequence[int]) -> tuple[Sequence[int], FolderError | None]:
        """See ``carrying``."""
        with told():
            there, failed = await shielded(leave(self._box, self._snapshot, uids))
        try:
            with told():
                if failed is not None:
                    raise failed
        except FolderError as error:
            return there, error
        except Exception as error:  # noqa: BLE001 - the driver's own, of a database that is locked, say
            unavailable = FolderError("UNAVAILABLE", "the mail store has trouble; try again later")
            unavailable.__cause__ = error
            return there, unavailable
        return there, None

    def rights(self, mailbox: int) -> frozenset[str]:
        """What a mailbox's person may do here, as it is now."""
        return rights.had(self._box, self._snapshot.id, mailbox)

    def grants(self) -> list[tuple[str, str]]:
        """See ISharingTree."""
        return rights.listed(self._box, self._snapshot.id)

    def grantable(self, identifier: str) -> tuple[str, str]:
        """See ISharingTree."""
        return (ALL, "") if rights.whom(self._box, identifier) == str(self._box.mailbox) else ("", ALL)

    async def give(self, identifier: str, mode: str, given: frozenset[str]) -> None:
        """See ISharingTree."""
        with told():
            await shielded(rights.give(self._box, self._snapshot, identifier, mode, given))

    async def commit(self, deposits: Sequence[Any], instead: tuple[Any, int] | None = None) -> Copied:
        """See IFolder: what is given is ours."""
        gone = None if instead is None else Instead(instead[0]._snapshot, instead[1])
        with told():
            return await shielded(commit_together(self._box, self._snapshot, deposits, gone))


@implementer(ISharingTree)
class Tree:
    """The folders of one mailbox."""

    def __init__(self, mailbox: int, opened: Opener) -> None:
        self._mailbox = mailbox
        self._opened = opened

    async def _box(self) -> Box:
        with told():
            return await self._opened(self._mailbox)

    async def folders(self) -> Sequence[FolderInfo]:
        """INBOX first, then by name; levels that exist only as names are not selectable."""
        box = await self._box()
        with told():
            await shielded(survey(box))
        found = {row.name: _info(row, box.subscribed) for row in box.rows.values() if row.name not in box.missing}
        for name in list(found):
            levels = name.split("/")
            for depth in range(1, len(levels)):
                above = "/".join(levels[:depth])
                if above not in found:
                    found[above] = FolderInfo(above, 0, "", above in box.subscribed, selectable=False)
        return sorted(found.values(), key=lambda info: (info.name != naming.INBOX, info.name))

    async def open(self, name: str) -> Folder:
        """See IFolderTree. What other programs did to the folder is seen from now on."""
        box = await self._box()
        name = naming.fold_inbox(name)
        with told():
            if name not in box.rows:
                await shielded(survey(box))
            known = box.open_already(name)
            return Folder(box, await shielded(box.open(name)) if known is None else known)

    async def create(self, name: str, use: str = "") -> None:
        """See IFolderTree. Raises FolderError ALREADYEXISTS, CANNOT."""
        name = naming.fold_inbox(name)
        if not naming.valid_folder(name):
            raise FolderError("CANNOT", f"{name!r} cannot be the name of a folder")
        box = await self._box()
        with told():
            await shielded(reshaping.make(box, name, use))

    async def delete(self, name: str) -> None:
        """See IFolderTree. Its messages count as removed (C6). Raises FolderError NONEXISTENT, CANNOT (INBOX)."""
        name = naming.fold_inbox(name)
        if name == naming.INBOX:
            raise FolderError("CANNOT", "INBOX cannot be deleted")
        box = await self._box()
        with told():
            await shielded(reshaping.drop(box, name))

    async def rename(self, old: str, new: str) -> None:
        """See IFolderTree. Raises FolderError NONEXISTENT, ALREADYEXISTS, CANNOT, INUSE."""
        old, new = naming.fold_inbox(old), naming.fold_inbox(new)
        if not naming.valid_folder(new) or new == naming.INBOX:
            raise FolderError("ALREADYEXISTS" if new == naming.INBOX else "CANNOT", f"{new!r} cannot be the name of a folder")
        box = await self._box()
        with told():
            if old == naming.INBOX:
                await shielded(reshaping.empty_inbox(box, new))
            else:
                await shielded(reshaping.rename(box, old, new))

    async def subscribe(self, name: str, wanted: bool) -> None:
        """See IFolderTree."""
        box = await self._box()
        with told():
            await shielded(reshaping.subscribe(box, naming.fold_inbox(name), wanted))

    async def rights(self, name: str) -> str:
        """See ISharingTree."""
        await self.open(name)
        return ALL

    async def grants(self, name: str) -> Sequence[tuple[str, str]]:
        """See ISharingTree."""
        return (await self.open(name)).grants()

    async def grantable(self, name: str, identifier: str) -> tuple[str, str]:
        """See ISharingTree."""
        return (await self.open(name)).grantable(identifier)

    async def give(self, name: str, identifier: str, mode: str, given: frozenset[str]) -> None:
        """See ISharingTree."""
        await (await self.open(name)).give(identifier, mode, given)

    async def annotations(self, name: str) -> dict[str, bytes]:
        """See ISharingTree."""
        return await self.annotations_for(name, self._mailbox)

    async def annotations_for(self, name: str, person: int) -> dict[str, bytes]:
        """The same for another person."""
        box = await self._box()
        with told():
            await shielded(survey(box))
            return await noting.noted(box, naming.fold_inbox(name), person)

    async def annotate(self, name: str, changes: Mapping[str, bytes | None]) -> None:
        """See ISharingTree."""
        if not name and any(is_shared(entry) for entry in changes):
            raise FolderError("NOPERM", "What everybody sees of the server is not for mail programs to say")
        await self.annotate_for(name, self._mailbox, changes)

    async def annotate_for(self, name: str, person: int, changes: Mapping[str, bytes | None]) -> None:
        """The same for another person."""
        box = await self._box()
        with told():
            await shielded(survey(box))
            await shielded(noting.note(box, naming.fold_inbox(name), person, changes))

    async def take(self, name: str, source: IFolder, uids: Collection[int], away: bool) -> Copied:
        """See ISharingTree."""
        return await carry(cast("Leaving", source), uids, await self.open(name), away=away)

    async def usage(self) -> Usage:
        """See IFolderTree."""
        counted = (await self._box()).usage
        quota = counted.quota()
        return Usage(counted.size, counted.messages, quota.size, quota.messages)

    async def subscriptions(self) -> Sequence[str]:
        """See IFolderTree."""
        return sorted((await self._box()).subscribed)


def _info(row: FolderRow, subscribed: Collection[str]) -> FolderInfo:
    return FolderInfo(row.name, row.uidvalidity, row.special, row.name in subscribed, object=f"F{row.uidvalidity:x}-{row.id:x}")
