"""Folders of mail, whoever keeps them: portal or archive."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from hornetmail.core.folder import Copied, Entry, FolderInfo, FolderStatus, Sieve, Usage
from hornetmail.interfaces.body import IBody, IDeposit


class IFolderTree(Interface):
    """Folders of one mailbox, implemented by portal and archive, mounted side by side by IMAP and webmail (L1)."""

    async def folders() -> Sequence[FolderInfo]:
        """All of them, INBOX first."""

    async def open(name: str) -> IFolder:
        """Raises FolderError NONEXISTENT."""

    async def create(name: str, use: str = "") -> None:
        """Missing levels too. Raises FolderError."""

    async def delete(name: str) -> None:
        """Raises FolderError."""

    async def rename(old: str, new: str) -> None:
        """Lower levels move too; INBOX moves its messages (RFC 3501 section 6.3.5). Raises FolderError."""

    async def subscribe(name: str, wanted: bool) -> None:
        """Subscriptions outlive their folders."""

    async def subscriptions() -> Sequence[str]:
        """Names, folders that are gone included."""

    async def usage() -> Usage | None:
        """What the mailbox holds and may hold; None where there is no such thing."""


class IFolder(Interface):
    """One folder. UIDs only grow; every change has a modseq."""

    info = Attribute("FolderInfo")
    there = Attribute("false once the folder was removed; renamed it is there still")

    async def status() -> FolderStatus:
        """Figures."""

    async def entries(uids: Collection[int] | None = None) -> Sequence[Entry]:
        """Messages by UID."""

    async def changes(modseq: int) -> Sequence[Entry]:
        """Entries changed, new or gone since then, by modseq. Of what has gone at least the last 1,000 are remembered, and all of the same
        modseq or none: an answer with fewer has all of it."""

    async def structures(uids: Sequence[int]) -> dict[int, Any]:
        """``hornetmail.mime.structure.Part`` trees with offsets; the portal keeps them, 64 messages a hop."""

    async def headers(uids: Sequence[int]) -> dict[int, bytes]:
        """Headers as served, the blank line that ends them included; messages that are gone are left out. The portal keeps those of usual length, and
        opens no file for them."""

    async def summaries(uids: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """ENVELOPE and BODYSTRUCTURE as they go over the wire (``wire.imap.ready``), by UID, in one hop. Of messages that are missing in the answer, and of
        those that have an empty envelope, they are to be made from ``structures``; some may be there that were not asked for. ``uids`` are sorted."""

    async def fields(uids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """In the same way the fields of the header that mail programs ask for (``wire.imap.ready.FIELDS``): which there are, below 0 where they are to be taken
        from ``headers``, and their text."""

    async def sifted(uids: Sequence[int], sieve: Sieve) -> dict[int, bool]:
        """What the sieve says of the texts that ``keep_texts`` left here, by UID, some that were not asked for included; of others nothing. It is asked in a
        thread. ``uids`` are sorted."""

    async def keep_texts(found: Sequence[tuple[int, bytes, bytes]]) -> None:
        """UIDs, headers and bodies as a search compares them, so that the next one need not read and decode the messages; a folder need not keep them."""

    async def pieces(wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
        """UID, first byte and length of each: pieces of texts as served, in one go, None where the message has gone. Whoever asks holds them: about
        a MiB at a time."""

    def email_id(entry: Entry) -> str:
        """The EMAILID of RFC 8474: the same wherever the message is moved or copied to, and no other message's."""

    async def body(uid: int) -> IBody:
        """The message as served. Raises FolderError EXPUNGEISSUED if it has gone."""

    async def recent(take: bool) -> int:
        r"""The UID from which on nobody was told of messages (RFC 3501 section 2.3.2, ``\\Recent``). With ``take`` the caller tells of them: for
        the next one they are not recent."""

    async def store(
        uids: Collection[int],
        add: Collection[str] = (),
        remove: Collection[str] = (),
        replace: Collection[str] | None = None,
        since: int | None = None,
    ) -> Sequence[Entry]:
        """Change flags and keywords; the entries as they are then. ``since``: those whose modseq is higher are left alone and out of the answer
        (RFC 7162 section 3.1.3), judged where nothing can come between. A claimed drain copy: FolderError INUSE."""

    async def expunge(uids: Collection[int] | None = None) -> Sequence[int]:
        r"""Remove messages marked \Deleted (all, or those among ``uids``); the UIDs that went. They count as removed (C6)."""

    async def copy(uids: Collection[int], target: str) -> Copied:
        """To another folder of the same tree, keeping flags and date. All or nothing. A target that begins with ``/`` lies in the tree
        mounted at the root: only trees that are mounted elsewhere are asked that (rule 27)."""

    async def move(uids: Collection[int], target: str) -> Copied:
        """The same, and away from here (RFC 6851)."""

    def append(flags: Collection[str], date: float | None, frees: int = 0) -> IDeposit:
        """A new message; ``commit()`` answers ``Copied``. ``frees``: bytes of a message that goes with ``instead``."""

    async def commit(deposits: Sequence[IDeposit], instead: tuple[IFolder, int] | None = None) -> Copied:
        """The messages of deposits of ``append``, all of them or none, whatever fails meanwhile (RFC 3502); in the same step the message with that UID
        of a folder of the same tree goes (RFC 8508), if it is still there. The deposits are aborted if it fails. A claimed drain copy: FolderError INUSE."""


class IMountedTree(IFolderTree):
    """A tree beside the own folders, which may be out of reach while they are not."""

    def word() -> str:
        """Why nothing is shown, to be told once; ``""`` for nothing new."""


class ISharingTree(IFolderTree):
    """A tree whose folders people share (RFC 4314). Errors: FolderError NONEXISTENT for whoever must not know that a folder is there, NOPERM for others."""

    async def rights(name: str) -> str:
        """Those of the person whose tree it is."""

    async def grants(name: str) -> Sequence[tuple[str, str]]:
        """Identifiers (an address, or ``anyone``) and their rights, the owner's first. Needs the right ``a``."""

    async def grantable(name: str, identifier: str) -> tuple[str, str]:
        """Which rights somebody has always, and which can be given. Needs the right ``a``."""

    async def give(name: str, identifier: str, mode: str, given: frozenset[str]) -> None:
        """More rights (``+``), fewer (``-``), or these (``""``); durable on return. Needs the right ``a``."""

    async def annotations(name: str) -> dict[str, bytes]:
        """Entries of RFC 5464 with their values: shared ones, and the private ones of the person whose tree it is. Needs ``l`` and any of ``rswip``
        (section 3.3). ``name`` empty in the tree at the root: those of the server."""

    async def annotate(name: str, changes: Mapping[str, bytes | None]) -> None:
        """Set values, remove those that are None: all or none, durable on return. Needs the same. Raises FolderError ``METADATA TOOMANY``,
        ``METADATA MAXSIZE …``; NOPERM for shared ones of the server."""

    async def take(name: str, source: IFolder, uids: Collection[int], away: bool) -> Copied:
        """Messages of a folder of another such tree, copied or moved here; all or none."""


class IOthersTree(ISharingTree):
    """What others share with a person."""

    async def name_of(mailbox: int, folder: str) -> str:
        """How somebody's folder is called here, ``""`` if its annotations are not for this person."""


class ISharedFolder(IFolder):
    """A folder of somebody else."""

    place = Attribute("the owner's mailbox and the folder's name there, as the bus tells of it")
    rights = Attribute("a frozenset of what the person who looks at it may do, as it is now")


class IIndexedFolder(IFolder):
    """A folder of any size that an index answers for, and that nobody can change: all its messages are read, and bear no other flags."""

    async def uids() -> Sequence[int]:
        """Of all messages, in order, without their entries."""

    async def compared(uids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Those of these UIDs that are no message's, and those of messages that are not among them, both in order; compared in a thread."""

    def first_after(modseq: int) -> int:
        """The lowest UID that a message with a higher modseq can have; all from there on do."""

    async def narrowed(key: Any, now: float) -> Any:
        """A ``hornetmail.wire.imap.requests.search.Key`` with the UIDs in place of all that the index answers, which is all that ``Entry`` tells. ``now``: Unix seconds."""

    def trouble() -> str:
        """What could not be read since this was asked last, and why; ``""`` for nothing."""
