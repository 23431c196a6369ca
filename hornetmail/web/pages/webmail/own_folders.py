"""The visitor's own folders for the webmail: sorted for people, opened by name, with the special ones made when first needed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from hornetmail.core.folder import Entry, FolderError, FolderInfo
from hornetmail.web.api.operations import ApiError, need
from hornetmail.web.api.rooms import Rooms
from hornetmail.web.mailview import Head, Shown, has_attachments, head_of, show
from hornetmail.web.site_tools import Offload
from hornetmail.web.visit import Visit

PAGE = 50
SEARCHED = 2000
"""The newest so many messages of a folder are searched by their header."""

SEARCHED_TEXT = 200
"""The newest so many of them by their text too."""

SEARCHED_BYTES = 512 * 1024
HOP = 64

_ORDER = {"INBOX": 0, "\\Drafts": 1, "\\Sent": 2, "\\Archive": 3, "\\Junk": 4, "\\Trash": 5}
_ICONS = {"INBOX": "inbox", "\\Drafts": "draft", "\\Sent": "sent", "\\Archive": "archive", "\\Junk": "junk", "\\Trash": "trash"}
_USUAL = {"\\Drafts": "Drafts", "\\Sent": "Sent", "\\Trash": "Trash", "\\Junk": "Junk", "\\Archive": "Archive"}
_OTHER_NAMES = {
    "sent": "\\Sent",
    "sent items": "\\Sent",
    "sent messages": "\\Sent",
    "drafts": "\\Drafts",
    "trash": "\\Trash",
    "deleted items": "\\Trash",
    "junk": "\\Junk",
    "spam": "\\Junk",
}


class FolderLine(msgspec.Struct, frozen=True):
    """A folder as it is listed. ``depth``: how many levels above it; ``use``: INBOX, a SPECIAL-USE attribute, or ``""``."""

    name: str
    label: str
    icon: str
    use: str
    depth: int
    unseen: int
    total: int
    readonly: bool
    selectable: bool


class MessageLine(msgspec.Struct, frozen=True):
    """A message as it is listed."""

    uid: int
    head: Head
    date: float
    size: int
    seen: bool
    flagged: bool
    answered: bool
    clip: bool


class Listing(msgspec.Struct, frozen=True):
    """A page of a folder, newest first. ``bounded``: a search looked at the newest messages only."""

    lines: tuple[MessageLine, ...]
    total: int
    page: int
    pages: int
    bounded: bool = False


class OwnFolders:
    """Folders of the mailbox of whoever is logged in."""

    def __init__(self, rooms: Rooms, offload: Offload) -> None:
        self._rooms = rooms
        self._offload = offload

    def tree(self, visit: Visit) -> Any:
        """The visitor's ``IFolderTree``. Raises ApiError 503 where the portal does not run."""
        return need(self._rooms.portal, "the portal").tree(visit.person.mailbox)

    async def lines(self, visit: Visit) -> list[FolderLine]:
        """All folders with their figures: INBOX, special ones, the others by name."""
        tree = self.tree(visit)
        made = []
        for info in await tree.folders():
            unseen = total = 0
            if info.selectable:
                try:
                    status = await (await tree.open(info.name)).status()
                    unseen, total = status.unseen, status.messages
                except FolderError:
                    continue
            use = use_of(info)
            made.append(
                FolderLine(
                    name=info.name,
                    label="Inbox" if use == "INBOX" else info.name.rpartition("/")[2],
                    icon=_ICONS.get(use, "folder"),
                    use=use,
                    depth=min(info.name.count("/"), 4),
                    unseen=unseen,
                    total=total,
                    readonly=info.readonly,
                    selectable=info.selectable,
                )
            )
        return sorted(made, key=lambda line: (_ORDER.get(line.use, 9), [part.casefold() for part in line.name.split("/")]))

    async def folder(self, visit: Visit, name: str) -> Any:
        """A folder. Raises ApiError 404."""
        try:
            return await self.tree(visit).open(name or "INBOX")
        except FolderError as error:
            raise ApiError(404, "not_found", f"There is no folder “{name[:80]}”: {error.text}") from None

    async def special(self, visit: Visit, use: str) -> str:
        """The name of the folder for drafts, sent mail, …; made if there is none."""
        tree = self.tree(visit)
        infos: Sequence[FolderInfo] = await tree.folders()
        for info in sorted(infos, key=lambda info: info.use != use):
            if use_of(info) == use and not info.readonly and info.selectable:
                return info.name
        await tree.create(_USUAL[use], use)
        await tree.subscribe(_USUAL[use], True)
        return _USUAL[use]

    async def listing(self, folder: Any, page: int, query: str) -> Listing:
        """A page of it, or of what a search finds."""
        entries: list[Entry] = sorted(await folder.entries(), key=lambda entry: -entry.uid)
        if query:
            return await self._found(folder, entries, query)
        pages = max(-(-len(entries) // PAGE), 1)
        page = min(max(page, 1), pages)
        shown = entries[(page - 1) * PAGE : page * PAGE]
        return Listing(tuple(await self._lines(folder, shown)), len(entries), page, pages)

    async def _lines(self, folder: Any, entries: Sequence[Entry]) -> list[MessageLine]:
        made = []
        for start in range(0, len(entries), HOP):
            hop = entries[start : start + HOP]
            trees = await folder.structures([entry.uid for entry in hop])
            for entry in hop:
                tree = trees.get(entry.uid)
                if tree is not None:
                    made.append(_line(entry, tree))
        return made

    async def _found(self, folder: Any, entries: Sequence[Entry], query: str) -> Listing:
        words = query.casefold().split()[:10]
        found: list[MessageLine] = []
        for number, line in enumerate(await self._lines(folder, entries[:SEARCHED])):
            head = line.head
            text = " ".join([head.subject, *(str(one) for one in (*head.sender, *head.to, *head.cc))]).casefold()
            missing = [word for word in words if word not in text]
            if missing and number < SEARCHED_TEXT and line.size <= SEARCHED_BYTES:
                shown = await self.opened(folder, line.uid)
                body = shown[1].text.casefold()
                missing = [word for word in missing if word not in body]
            if not missing:
                found.append(line)
        return Listing(tuple(found[:500]), len(found), 1, 1, len(entries) > SEARCHED_TEXT)

    async def opened(self, folder: Any, uid: int) -> tuple[bytes, Shown]:
        """A message's bytes and how it is shown. Raises ApiError 404 if it has gone."""
        data = await self.data(folder, uid)
        if len(data) <= 128 * 1024:
            return data, show(data)
        return data, await self._offload(show, data)

    async def data(self, folder: Any, uid: int) -> bytes:
        """A message's bytes. Raises ApiError 404 if it has gone."""
        try:
            return bytes(await (await folder.body(uid)).read())
        except (FolderError, KeyError):
            raise ApiError(
                404, "not_found", "This message is no longer here. It was moved, deleted, or delivered to your mail server."
            ) from None

    async def move(self, visit: Visit, folder: Any, uids: Collection[int], target: str) -> None:
        """To another folder. Raises FolderError."""
        await folder.move(uids, target)

    async def keep(self, visit: Visit, use: str, data: bytes, flags: Collection[str], date: float) -> int:
        """A copy into a special folder; its UID there. Raises FolderError."""
        folder = await self.folder(visit, await self.special(visit, use))
        deposit = folder.append(flags, date)
        try:
            for start in range(0, len(data), 65536):
                await deposit.write(data[start : start + 65536])
            copied = await deposit.commit()
        except BaseException:
            await deposit.abort()
            raise
        return int(copied.targets[0]) if copied.targets else 0


def use_of(info: FolderInfo) -> str:
    """What a folder is for, by its attribute or its usual name."""
    if info.name.upper() == "INBOX":
        return "INBOX"
    return info.use or _OTHER_NAMES.get(info.name.casefold(), "")


def _line(entry: Entry, tree: Any) -> MessageLine:
    return MessageLine(
        uid=entry.uid,
        head=head_of(tree.summary),
        date=entry.date,
        size=entry.size,
        seen="\\Seen" in entry.flags,
        flagged="\\Flagged" in entry.flags,
        answered="\\Answered" in entry.flags,
        clip=has_attachments(tree),
    )


def uids_of(texts: Sequence[str]) -> list[int]:
    """UIDs of a form; what is none is left out."""
    return [int(text) for text in texts if re.fullmatch(r"[1-9][0-9]{0,9}", text)]
