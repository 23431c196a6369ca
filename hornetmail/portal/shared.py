"""What others share with a person, as a tree of folders below their owners' addresses (RFC 4314). Each step asks what its person may do at that moment: a right that
was taken back is gone in the middle of a conversation, too. Who has no right at all on a folder, and who may not know of it, is told what is told of one that is not there.

How rights and commands go together is RFC 4314 section 4; where it leaves a choice: ``\\Recent`` stays the owner's, deleting a folder needs ``x`` alone, renaming one
needs ``x`` on all that moves and stays within the owner's folders."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, cast

from zope.interface import implementer

from hornetmail.core.folder import Copied, Entry, FolderError, FolderInfo, FolderStatus, Sieve
from hornetmail.core.served import Mailbox
from hornetmail.core.sharing import ANYONE, flags_allowed, letters
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.interfaces.folders import IFolder, IOthersTree, ISharedFolder
from hornetmail.portal.box import rights
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.carrying import Leaving, carry
from hornetmail.portal.box.folder import Folder, Opener, Tree
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.ground import Ground
from hornetmail.portal.maildir.trouble import told
from hornetmail.portal.rows import grants

FLAGS = frozenset("swt")
ANNOTATING = frozenset("rswip")
"""With one of these and ``l`` annotations are read and set (RFC 5464 section 3.3)."""

TOLD = frozenset("lrikxa")
"""Who has one of these may ask for his rights (section 3.5)."""


def level_of(address: str) -> str:
    """The level below which an owner's folders lie: the address, without what separates levels or matches names."""
    return "".join(f"={ord(c):02X}" if c in "/%*=" else c for c in address)


def absent() -> FolderError:
    """What is said of folders that are not there, and of those that one must not know of."""
    return FolderError("NONEXISTENT", "No such mailbox")


def need(had: frozenset[str], *wanted: str) -> None:
    """Raises FolderError if rights are missing."""
    if not frozenset(wanted) <= had:
        if "l" not in had:
            raise absent()
        raise FolderError("NOPERM", "Whose mailbox it is has not given you the right to do that")


@implementer(ISharedFolder)
class SharedFolder:
    """Somebody's folder as ``reader`` may use it."""

    def __init__(self, folder: Folder, owner: int, level: str, reader: int, tree: SharedTree) -> None:
        self._folder = folder
        self._owner = owner
        self._level = level
        self._reader = reader
        self._tree = tree

    @property
    def rights(self) -> frozenset[str]:
        """See ISharedFolder."""
        return self._folder.rights(self._reader)

    @property
    def place(self) -> tuple[int, str]:
        """See ISharedFolder."""
        return self._owner, self._folder.info.name

    @property
    def info(self) -> FolderInfo:
        """See IFolder. What the owner uses it for is the owner's."""
        mine = self._folder.info
        return FolderInfo(f"{self._level}/{mine.name}", mine.uidvalidity, subscribed=False, object=mine.object)

    @property
    def there(self) -> bool:
        """See IFolder: for who may read it."""
        return self._folder.there and "r" in self.rights

    def _readable(self) -> Folder:
        need(self.rights, "r")
        return self._folder

    def email_id(self, entry: Entry) -> str:
        """See IFolder."""
        return self._folder.email_id(entry)

    async def status(self) -> FolderStatus:
        """See IFolder."""
        return await self._readable().status()

    async def entries(self, uids: Collection[int] | None = None) -> Sequence[Entry]:
        """See IFolder."""
        return await self._readable().entries(uids)

    async def changes(self, modseq: int) -> Sequence[Entry]:
        """See IFolder."""
        return await self._readable().changes(modseq)

    async def structures(self, uids: Sequence[int]) -> dict[int, Any]:
        """See IFolder."""
        return await self._readable().structures(uids)

    async def headers(self, uids: Sequence[int]) -> dict[int, bytes]:
        """See IFolder."""
        return await self._readable().headers(uids)

    async def summaries(self, uids: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """See IFolder."""
        return await self._readable().summaries(uids)

    async def fields(self, uids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """See IFolder."""
        return await self._readable().fields(uids)

    async def sifted(self, uids: Sequence[int], sieve: Sieve) -> dict[int, bool]:
        """See IFolder."""
        return await self._readable().sifted(uids, sieve)

    async def keep_texts(self, found: Sequence[tuple[int, bytes, bytes]]) -> None:
        """See IFolder."""
        await self._readable().keep_texts(found)

    async def pieces(self, wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
        """See IFolder."""
        return await self._readable().pieces(wanted)

    async def body(self, uid: int) -> IBody:
        """See IFolder."""
        return await self._readable().body(uid)

    async def recent(self, take: bool) -> int:
        """See IFolder."""
        return await self._readable().recent(take=False)

    async def store(
        self,
        uids: Collection[int],
        add: Collection[str] = (),
        remove: Collection[str] = (),
        replace: Collection[str] | None = None,
        since: int | None = None,
    ) -> Sequence[Entry]:
        """See IFolder. What the rights do not allow stays as it is; NOPERM if that is all (section 4, STORE)."""
        had = self.rights
        need(had, "r")
        if replace is not None:
            there = frozenset[str]().union(*{entry.flags for entry in await self._folder.entries(uids)})
            add, remove = replace, there - frozenset(replace)
        wanted = frozenset(add) | frozenset(remove)
        may = flags_allowed(had, wanted)
        if not may and (wanted or not had & FLAGS):
            raise FolderError("NOPERM", "Whose mailbox it is has not given you the right to change these flags")
        return await self._folder.store(uids, may & frozenset(add), may & frozenset(remove), None, since)

    async def expunge(self, uids: Collection[int] | None = None) -> Sequence[int]:
        """See IFolder."""
        need(self.rights, "r", "e")
        return await self._folder.expunge(uids)

    async def copy(self, uids: Collection[int], target: str) -> Copied:
        """See IFolder."""
        return await self._transfer(uids, target, away=False)

    async def move(self, uids: Collection[int], target: str) -> Copied:
        """See IFolder. It takes marking and expunging here (RFC 6851 section 4.3)."""
        need(self.rights, "r", "t", "e")
        return await self._transfer(uids, target, away=True)

    async def _transfer(self, uids: Collection[int], target: str, *, away: bool) -> Copied:
        source = self._readable()
        goal = await self._tree.open(target)
        had = goal.rights
        need(had, "i")
        if goal._owner != self._owner:
            return goal._told(await carry(self, uids, goal, away=away))
        allowed = partial(flags_allowed, had)
        return goal._told(await source.transfer(uids, goal._folder.info.name, away=away, flags=allowed))

    def _told(self, copied: Copied) -> Copied:
        """Of a folder that may not be read no UIDs are told (RFC 4315 section 3)."""
        return copied if "r" in self.rights else Copied(0, (), ())

    def append(self, flags: Collection[str], date: float | None, frees: int = 0) -> Arriving:
        """See IFolder. Flags that the rights do not allow are not set."""
        had = self.rights
        need(had, "i")
        return Arriving(self, self._folder.append(flags_allowed(had, flags), date, frees))

    def twin(self, entry: Entry, known: str) -> Arriving:
        """See ``carrying``."""
        had = self.rights
        need(had, "i")
        allowed = Entry(entry.uid, entry.modseq, flags_allowed(had, entry.flags), entry.size, entry.date)
        return Arriving(self, self._folder.twin(allowed, known))

    async def keep(self, deposits: Sequence[Any]) -> Copied:
        """See ``carrying``."""
        need(self.rights, "i")
        return await self._folder.commit([deposit.inner for deposit in deposits])

    async def take_back(self, uids: Collection[int]) -> None:
        """See ``carrying``."""
        await self._folder.take_back(uids)

    async def leave(self, uids: Sequence[int]) -> tuple[Sequence[int], FolderError | None]:
        """See ``carrying``. It takes marking and expunging (RFC 6851 section 4.3)."""
        need(self.rights, "r", "t", "e")
        return await self._folder.leave(uids)

    async def commit(self, deposits: Sequence[Any], instead: tuple[Any, int] | None = None) -> Copied:
        """See IFolder. What goes has to be marked and expunged (RFC 8508 section 6)."""
        need(self.rights, "i")
        gone = None
        if instead is not None:
            source, uid = instead
            if source._owner != self._owner:
                raise FolderError("CANNOT", "A message cannot be replaced by one in somebody else's mailbox")
            need(source.rights, "r", "t", "e")
            gone = (source._folder, uid)
        return self._told(await self._folder.commit([deposit.inner for deposit in deposits], gone))


@implementer(IDeposit)
class Arriving:
    """A message for somebody's folder."""

    def __init__(self, folder: SharedFolder, inner: Any) -> None:
        self._folder = folder
        self.inner = inner

    @property
    def size(self) -> int:
        """See IDeposit."""
        return int(self.inner.size)

    async def write(self, data: bytes) -> None:
        """See IDeposit."""
        await self.inner.write(data)

    async def commit(self) -> Copied:
        """See IDeposit."""
        need(self._folder.rights, "i")
        return self._folder._told(await self.inner.commit())

    async def abort(self) -> None:
        """See IDeposit."""
        await self.inner.abort()


@implementer(IOthersTree)
class SharedTree:
    """``root``: the person's own folders, which remember subscriptions, of these too; ``prefix``: where this tree is mounted."""

    def __init__(self, ground: Ground, mailbox: int, opened: Opener, root: Tree, prefix: str) -> None:
        self._ground = ground
        self._mailbox = mailbox
        self._opened = opened
        self._root = root
        self._prefix = prefix

    def _owner(self, name: str) -> tuple[Mailbox, str]:
        """Whose folder a name means, and its name there. Raises FolderError: nobody of another tenant is known."""
        level, _, inner = name.partition("/")
        address = level
        for c in "/%*=":
            address = address.replace(f"={ord(c):02X}", c)
        directory = self._ground.directory
        me, owner = directory.mailbox_by_id(self._mailbox), directory.mailbox(address)
        if (
            me is None
            or owner is None
            or owner.id == me.id
            or owner.tenant != me.tenant
            or level_of(owner.address) != level
            or not inner
        ):
            raise absent()
        return owner, naming.fold_inbox(inner)

    async def _box(self, owner: Mailbox) -> Box:
        with told():
            return await self._opened(owner.id)

    async def folders(self) -> Sequence[FolderInfo]:
        """See IFolderTree."""
        me = self._ground.directory.mailbox_by_id(self._mailbox)
        if me is None:
            return ()
        with told():
            rows = await self._ground.database.read(grants.shared_with, me.tenant, [str(me.id), ANYONE])
        given: dict[int, str] = {}
        for row in rows:
            given[row.folder] = given.get(row.folder, "") + row.rights
        wanted = frozenset(await self._root.subscriptions()) if rows else frozenset()
        found: dict[str, FolderInfo] = {}
        for row in rows:
            owner = self._ground.directory.mailbox_by_id(row.mailbox)
            if owner is not None and owner.id != me.id and owner.tenant == me.tenant and "l" in given[row.folder]:
                name = f"{level_of(owner.address)}/{row.name}"
                readable = "r" in given[row.folder]
                found[name] = FolderInfo(name, row.uidvalidity, "", self._prefix + name in wanted, selectable=readable)
        return [found[name] for name in sorted(found)]

    async def open(self, name: str) -> SharedFolder:
        """See IFolderTree. Raises FolderError NONEXISTENT for folders on which nothing was given."""
        owner, inner = self._owner(name)
        box = await self._box(owner)
        if inner not in box.rows or not self._had(box, inner):
            raise absent()
        folder = await Tree(owner.id, self._opened).open(inner)
        return SharedFolder(folder, owner.id, level_of(owner.address), self._mailbox, self)

    def _had(self, box: Box, inner: str) -> frozenset[str]:
        row = box.rows.get(inner)
        return frozenset() if row is None else rights.had(box, row.id, self._mailbox)

    async def create(self, name: str, use: str = "") -> None:
        """See IFolderTree. Needs ``k`` on the next folder above that is there, and has its rights."""
        owner, inner = self._owner(name)
        if use:
            raise FolderError("USEATTR", "What a mailbox is for is its owner's to say")
        box = await self._box(owner)
        if inner in box.rows and self._had(box, inner):
            raise FolderError("ALREADYEXISTS", "There is such a mailbox")
        self._above(box, inner)
        await Tree(owner.id, self._opened).create(inner)

    def _above(self, box: Box, inner: str) -> None:
        """Raises FolderError if no folder may be made with that name."""
        level = inner.rpartition("/")[0]
        while level and level not in box.rows:
            level = level.rpartition("/")[0]
        need(self._had(box, level), "k")

    async def delete(self, name: str) -> None:
        """See IFolderTree. Needs ``x``."""
        owner, inner = self._owner(name)
        box = await self._box(owner)
        need(self._had(box, inner), "x")
        await Tree(owner.id, self._opened).delete(inner)

    async def rename(self, old: str, new: str) -> None:
        """See IFolderTree. Needs ``x`` on what moves, and ``k`` on the next folder above the new name that is there."""
        owner, source = self._owner(old)
        other, target = self._owner(new)
        box = await self._box(owner)
        need(self._had(box, source), "x")
        if other.id != owner.id or source == naming.INBOX:
            raise FolderError("CANNOT", "A mailbox stays its owner's")
        for below in [one for one in box.rows if one.startswith(source + "/")]:
            if "x" not in self._had(box, below):
                raise FolderError("NOPERM", "Below it are mailboxes that you may not rename")
        self._above(box, target)
        await Tree(owner.id, self._opened).rename(source, target)

    async def subscribe(self, name: str, wanted: bool) -> None:
        """See IFolderTree. Whether there is such a folder is not asked, so that nothing is told of it."""
        await self._root.subscribe(self._prefix + name, wanted)

    async def subscriptions(self) -> Sequence[str]:
        """See IFolderTree: they are among those of the own folders."""
        return ()

    async def usage(self) -> None:
        """See IFolderTree: what lies there counts for its owner."""
        return

    async def rights(self, name: str) -> str:
        """See ISharingTree."""
        had = (await self.open(name)).rights
        if not had & TOLD:
            raise absent()
        return letters(had)

    async def _administered(self, name: str) -> Folder:
        shared = await self.open(name)
        need(shared.rights, "a")
        return shared._folder

    async def grants(self, name: str) -> Sequence[tuple[str, str]]:
        """See ISharingTree."""
        return (await self._administered(name)).grants()

    async def grantable(self, name: str, identifier: str) -> tuple[str, str]:
        """See ISharingTree."""
        return (await self._administered(name)).grantable(identifier)

    async def give(self, name: str, identifier: str, mode: str, given: frozenset[str]) -> None:
        """See ISharingTree."""
        await (await self._administered(name)).give(identifier, mode, given)

    async def _annotatable(self, name: str) -> tuple[Tree, str]:
        shared = await self.open(name)
        need(shared.rights, "l")
        if not shared.rights & ANNOTATING:
            raise FolderError("NOPERM", "Whose mailbox it is has not given you the right to do that")
        return Tree(shared.place[0], self._opened), shared.place[1]

    async def annotations(self, name: str) -> dict[str, bytes]:
        """See ISharingTree."""
        tree, inner = await self._annotatable(name)
        return await tree.annotations_for(inner, self._mailbox)

    async def annotate(self, name: str, changes: Mapping[str, bytes | None]) -> None:
        """See ISharingTree."""
        tree, inner = await self._annotatable(name)
        await tree.annotate_for(inner, self._mailbox, changes)

    async def name_of(self, mailbox: int, folder: str) -> str:
        """See IOthersTree."""
        owner = self._ground.directory.mailbox_by_id(mailbox)
        if owner is None or not folder:
            return ""
        name = f"{level_of(owner.address)}/{folder}"
        try:
            await self._annotatable(name)
        except FolderError:
            return ""
        return name

    async def take(self, name: str, source: IFolder, uids: Collection[int], away: bool) -> Copied:
        """See ISharingTree."""
        goal = await self.open(name)
        need(goal.rights, "i")
        return goal._told(await carry(cast("Leaving", source), uids, goal, away=away))
