"""Several folder trees side by side under one root: the portal's, the archive's below ``Mail archive/`` (L1)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.core.folder import FolderError, FolderInfo
from hornetmail.interfaces.folders import IFolder, IFolderTree, IMountedTree, IOthersTree, ISharingTree
from hornetmail.wire.imap.tokens.names import DELIMITER


class Listed(msgspec.Struct, frozen=True, gc=False):
    """A folder by its full name. ``exists`` false: a level that is only there for what lies below it, or a subscription to what has gone."""

    name: str
    use: str = ""
    subscribed: bool = False
    selectable: bool = True
    exists: bool = True


class Mounts:
    """``trees``: (prefix, tree); a prefix is ``""`` or ends with ``/``. The longest prefix that fits a name owns it."""

    __slots__ = ("_trees",)

    def __init__(self, trees: Sequence[tuple[str, IFolderTree]]) -> None:
        self._trees = tuple(sorted(trees, key=lambda mount: -len(mount[0])))

    @property
    def namespaces(self) -> tuple[tuple[str, ...], ...]:
        """Prefixes of one's own folders, of other people's, and of those that are nobody's (RFC 2342 section 5)."""
        mounted = sorted((prefix, IOthersTree.providedBy(tree)) for prefix, tree in self._trees)
        return (
            tuple(prefix for prefix, _ in mounted if not prefix),
            tuple(prefix for prefix, others in mounted if prefix and others),
            tuple(prefix for prefix, others in mounted if prefix and not others),
        )

    def words(self) -> list[str]:
        """What trees have to say that could not be shown: each says it once."""
        return [word for _, tree in self._trees if IMountedTree.providedBy(tree) and (word := tree.word())]

    def locate_new(self, name: str) -> tuple[IFolderTree, str]:
        """The same for a folder that is to be made: none gets the name under which another tree is mounted. Raises FolderError."""
        if any(prefix == name + DELIMITER for prefix, _ in self._trees):
            raise FolderError("CANNOT", "This name stands for folders that are not your own")
        return self.locate(name)

    def locate(self, name: str) -> tuple[IFolderTree, str]:
        """The tree that a full name belongs to, and the name within it. Raises FolderError NONEXISTENT."""
        for prefix, tree in self._trees:
            if name.startswith(prefix) and len(name) > len(prefix):
                return tree, name[len(prefix) :]
        raise FolderError("NONEXISTENT", "No such mailbox")

    async def open(self, name: str) -> IFolder:
        """Raises FolderError."""
        tree, inner = self.locate(name)
        return await tree.open(inner)

    async def folders(self) -> list[Listed]:
        """All folders of all trees and the levels above them, by name, INBOX first."""
        found: dict[str, Listed] = {}
        for prefix, tree in self._trees:
            for info in await tree.folders():
                found[prefix + info.name] = _listed(prefix, info)
        return _with_levels(found)

    async def subscriptions(self) -> list[str]:
        """Full names, folders that have gone included."""
        return sorted([prefix + name for prefix, tree in self._trees for name in await tree.subscriptions()], key=_order)

    async def name_of(self, mailbox: int, folder: str) -> str:
        """The full name of somebody else's folder, ``""`` if its annotations are not for the person whose mounts these are."""
        for prefix, tree in self._trees:
            if IOthersTree.providedBy(tree) and (name := await tree.name_of(mailbox, folder)):
                return prefix + name
        return ""

    def target(self, source: IFolderTree, name: str) -> str:
        """How a folder of ``source`` is told to copy to the full name: the name within its own tree, or from another tree into the root's
        ``/`` and the full name (rule 27: what that means is for the source to say). Raises FolderError CANNOT for other ways."""
        tree, inner = self.locate(name)
        if tree is source:
            return inner
        if inner != name and not (ISharingTree.providedBy(tree) and ISharingTree.providedBy(source)):
            raise FolderError("CANNOT", "Messages cannot be copied there")
        return DELIMITER + name


def _listed(prefix: str, info: FolderInfo) -> Listed:
    return Listed(prefix + info.name, info.use, info.subscribed, info.selectable)


def _with_levels(found: dict[str, Listed]) -> list[Listed]:
    for name in list(found):
        level = name.rpartition(DELIMITER)[0]
        while level and level not in found:
            found[level] = Listed(level, selectable=False, exists=False)
            level = level.rpartition(DELIMITER)[0]
    return [found[name] for name in sorted(found, key=_order)]


def _order(name: str) -> tuple[bool, str]:
    return name != "INBOX", name
