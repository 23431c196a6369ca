"""What all trees share: who may see what now, how each folder stands, and the texts that were read last."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakSet

import msgspec
from twisted.internet.defer import DeferredLock

from hornetmail.archive.index.finding import folders
from hornetmail.archive.index.finding.folders import Month, Standing
from hornetmail.archive.tree.texts import Texts
from hornetmail.core.archive.archived import ArchiveError, Refused
from hornetmail.core.events import ArchiveGrew, FolderChanged
from hornetmail.core.folder import FolderError
from hornetmail.core.served import Person, Scope
from hornetmail.db.engines import Cursor, DatabaseError
from hornetmail.db.pool import Database
from hornetmail.interfaces.archive import IArchivedTexts
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.redelivery import IRedelivery

T = TypeVar("T")
P = ParamSpec("P")

HELD_UIDS = 8 << 20
"""UIDs that are kept of folders: 32 MiB."""

EVERYBODY = "Everybody/"
"""What is in front of the folders of those who may read everybody's mail."""


class Around(msgspec.Struct, frozen=True):
    """What the trees stand on. ``index`` and ``writing``: ``archive.db``, to read and to write (ArchiveError: why not). ``node``: whose leaves the UIDs are. ``scopes``: what
    a mailbox's person may open now, by what is in front of the folders; Refused: the archive is closed to that person. ``person``: None: there is none any more.
    ``in_thread`` runs what blocks, ``seconds`` is the time."""

    index: Callable[[], Database]
    writing: Callable[[], Database]
    node: int
    texts: IArchivedTexts
    scopes: Callable[[int], Mapping[str, Scope]]
    person: Callable[[int], Person | None]
    redelivery: IRedelivery
    audit: IAudit
    bus: IBus
    in_thread: Callable[..., Awaitable[Any]]
    seconds: Callable[[], float]


class Snapshot:
    """A folder at a moment: its UIDs, and the UID that comes next at the earliest. ``size``: bytes in all, None: not yet counted."""

    __slots__ = ("next", "size", "standing", "uids")

    def __init__(self, standing: Standing, uids: array[int], following: int, size: int | None) -> None:
        self.standing = standing
        self.uids = uids
        self.next = following
        self.size = size

    def has(self, uid: int) -> bool:
        """Whether it is there."""
        at = bisect_left(self.uids, uid)
        return at < len(self.uids) and self.uids[at] == uid


NOTHING = Standing(0, 0, 0, 1, 0, 1)


def reason(error: Exception) -> FolderError:
    """As a folder tells it."""
    if isinstance(error, Refused):
        return FolderError("NOPERM", str(error))
    if isinstance(error, DatabaseError):
        return FolderError("UNAVAILABLE", "The archive cannot be asked now")
    return FolderError("UNAVAILABLE", f"The archive: {error}")


class TreeSite:
    """One for all sessions. Long questions to the index go one at a time, so that one of its readers is always there for others."""

    def __init__(self, around: Around) -> None:
        self.around = around
        self.texts = Texts(around.texts, around.in_thread)
        self._index: Database | None = None
        self._snapshots: OrderedDict[tuple[Scope, Month], Snapshot] = OrderedDict()
        self._months: OrderedDict[Scope, tuple[int, list[Month]]] = OrderedDict()
        self._held = 0
        self._turn = DeferredLock()
        self._since: dict[tuple[int, str, bytes], int] = {}
        self._open: WeakSet[Any] = WeakSet()
        self._stop = around.bus.subscribe(ArchiveGrew, self._grew)

    async def close(self) -> None:
        """Tell nobody any more."""
        self._stop()

    def watch(self, folder: Any) -> None:
        """Tell whoever looks at it, as long as it is there, that something may have changed."""
        self._open.add(folder)

    def _grew(self, event: ArchiveGrew) -> None:
        for mailbox, name in {(folder.mailbox, folder.info.name) for folder in self._open}:
            self.around.bus.publish(FolderChanged(mailbox, name))

    async def ask(self, fn: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A short question to the index. Raises FolderError UNAVAILABLE."""
        try:
            index = self.around.index()
            if index is not self._index:
                self._begin(index)
            return await index.read(fn, *args, **kwargs)
        except (ArchiveError, DatabaseError) as error:
            raise reason(error) from error

    def _begin(self, index: Database) -> None:
        """Another index may give another ID to a mail: nothing that was read before counts."""
        self._index = index
        self.texts = Texts(self.around.texts, self.around.in_thread)
        self._snapshots.clear()
        self._months.clear()
        self._since.clear()
        self._held = 0

    async def ask_long(self, fn: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One that may take a while."""
        async with self._turn:
            return await self.ask(fn, *args, **kwargs)

    def scopes(self, mailbox: int) -> Mapping[str, Scope]:
        """What that person may open now. Raises FolderError."""
        try:
            return self.around.scopes(mailbox)
        except Refused as error:
            raise reason(error) from error

    async def months(self, scope: Scope) -> list[Month]:
        """Those with mail."""
        scope = _view(scope)
        mark = await self.ask(folders.changed, scope.tenant)
        known = self._months.get(scope)
        if known is None or known[0] != mark:
            known = self._months[scope] = (mark, await self.ask_long(folders.months, scope))
            while len(self._months) > 1000:
                self._months.popitem(last=False)
        return known[1]

    async def standing(self, scope: Scope, month: Month) -> Standing:
        """How a month stands for whoever looks, without its UIDs."""
        return await self.ask(folders.standing, scope.tenant, month) or NOTHING

    async def snapshot(self, scope: Scope, month: Month) -> Snapshot:
        """How a folder stands now."""
        scope = _view(scope)
        key = (scope, month)
        known = self._snapshots.get(key)
        standing = await self.standing(scope, month)
        if known is not None and known.standing == standing:
            self._snapshots.move_to_end(key)
            return known
        if standing == NOTHING:
            return Snapshot(NOTHING, array("I"), 1, 0)
        found = await self.ask_long(_looked, scope, self.around.node, month, known)
        self._forget(key)
        self._snapshots[key] = found
        self._held += len(found.uids)
        while self._held > HELD_UIDS and len(self._snapshots) > 1:
            self._forget(next(iter(self._snapshots)))
        return found

    def _forget(self, key: tuple[Scope, Month]) -> None:
        old = self._snapshots.pop(key, None)
        self._held -= len(old.uids) if old is not None else 0

    async def since(self, mailbox: int, tree: str, scope: Scope) -> int:
        """Since when that person has these rights: what UIDVALIDITY is at least."""
        rights = rights_of(scope)
        key = (mailbox, tree, rights)
        if key not in self._since:
            known = await self.ask(folders.seen_since, mailbox, tree)
            if known is None or known[0] != rights:
                try:
                    since = await self.around.writing().run(
                        folders.see, mailbox, tree, scope.tenant, rights, self.around.seconds()
                    )
                except (ArchiveError, DatabaseError) as error:
                    raise reason(error) from error
                known = (rights, since)
            for other in [other for other in self._since if other[:2] == key[:2]]:
                del self._since[other]
            self._since[key] = known[1]
        return self._since[key]

    async def validity(self, mailbox: int, tree: str, scope: Scope, standing: Standing) -> int:
        """The UIDVALIDITY of one of the person's folders."""
        return min(max(standing.base, await self.since(mailbox, tree, scope)) + standing.anew, folders.VALIDITY_MOST)


def _view(scope: Scope) -> Scope:
    """What decides which folders and mails there are, and nothing else: who sees everybody's shares them with others who do."""
    return Scope(scope.tenant, scope.addresses)


def rights_of(scope: Scope) -> bytes:
    """What decides which mail is seen."""
    who = "\n".join(sorted(scope.addresses)) if scope.addresses is not None else "everybody"
    return hashlib.sha256(f"{scope.tenant}\n{who}".encode("utf-8", "surrogateescape")).digest()


def _looked(cursor: Cursor, scope: Scope, node: int, month: Month, known: Snapshot | None) -> Snapshot:
    """The same moment for all of it. Of everybody's mail only what came is read, if nothing went."""
    standing = folders.standing(cursor, scope.tenant, month) or NOTHING
    if scope.addresses is None:
        uids = _grown(cursor, scope, node, month, standing, known)
        return Snapshot(standing, uids, standing.top + 1, standing.size)
    uids = folders.numbers(cursor, scope, node, month)
    return Snapshot(standing, uids, max(uids[-1] + 1 if uids else 1, known.next if known is not None else 1), None)


def _grown(cursor: Cursor, scope: Scope, node: int, month: Month, standing: Standing, known: Snapshot | None) -> array[int]:
    if known is not None and (known.standing.anew, known.standing.base) == (standing.anew, standing.base):
        new = folders.grown(cursor, scope.tenant, node, month, known.standing.top)
        if len(known.uids) + len(new) == standing.mails:
            return known.uids + new
    return folders.numbers(cursor, scope, node, month)


def above(uids: array[int], uid: int) -> array[int]:
    """Those that are higher."""
    return uids[bisect_right(uids, uid) :]
