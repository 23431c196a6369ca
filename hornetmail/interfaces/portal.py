"""What the portal promises to delivery and to those who come home from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from zope.interface import Interface

from hornetmail.core.delivery.queued import Message, Portal, Row
from hornetmail.core.folder import Entry
from hornetmail.core.mail.envelope import Envelope
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.folders import IFolderTree, IOthersTree


class IPortal(Interface):
    """The Maildir store."""

    def tree(mailbox: int) -> IFolderTree:
        """The folders of a mailbox; INBOX is made on first use."""

    def shared(mailbox: int, prefix: str) -> IOthersTree:
        """What others share with a mailbox's person (RFC 4314), as it is mounted at ``prefix``."""

    async def quota_told(mailbox: int, since: float) -> None:
        """Its owner knows of ``QuotaNear``; nothing is said again until it has held less."""

    async def room(mailbox: int, size: int) -> bool:
        """Whether ``deliver`` would take so many bytes now. Always where a primary is the domain's mail server. Raises FolderError, OSError, DatabaseError."""

    async def deliver(mailbox: int, message: Message, row: Row, body: IBody, *, uncertain: bool = False) -> Portal:
        """Into INBOX; FolderError OVERQUOTA if the mailbox is full and the portal is its domain's mail server, with the envelope in its first lines (rule 9); the file's name holds the row's ID, so twice is once."""

    async def lock(mailbox: int, owner: str) -> bool:
        """The POP lock (RFC 1939 section 4); drain waits for it."""

    async def unlock(mailbox: int, owner: str) -> None:
        """Release it."""

    async def begin_drain(copy: Portal) -> tuple[Envelope, IBody] | None:
        """Claim a copy for hand-over: its original envelope, and its bytes without the envelope lines. None if it was deleted,
        marked \\Deleted or moved out of INBOX: then it does not drain (C6). While claimed, clients get INUSE."""

    async def standing(copy: Portal) -> Entry | None:
        """A copy in INBOX as it stands there, with flags and date; None if it does not. While it is claimed nobody changes that."""

    async def end_drain(copy: Portal, *, delivered: bool, keyword: str = "", reason: str = "") -> None:
        """Remove it after the primary's 250 (open sessions see EXPUNGE), or let it go again, marked with ``keyword``."""

    async def received(mailbox: int, row: Row) -> Portal | None:
        """The copy that ``deliver`` made for this row, wherever it was moved since; None if there never was one. Asked after a crash."""

    async def returned(mailbox: int, names: Collection[str]) -> dict[str, tuple[Envelope, int]]:
        """Which of the copies of these names lie in INBOX now, unmarked: their original envelope, and their size without its lines. Copies
        keep their identity wherever they were moved (rule 10)."""

    async def unaddressed(mailbox: int, *, copies: bool = False) -> Sequence[Entry]:
        """Messages in INBOX without an envelope (APPENDed, foreign: rule 10), or all of INBOX with ``copies``. ``begin_drain`` takes their names as
        it takes copies'; the envelope of those without one is ``<>`` to the mailbox's main address."""

    async def holding(mailboxes: Iterable[int], spoken_for: Collection[int] | None = None) -> Sequence[int]:
        """Which of these mailboxes hold such messages, or, if it is given, copies of rows that are not ``spoken_for``; in the same order, from
        the files' names alone."""

    async def left_over(
        mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """What is in the portal since ``before`` or longer, names by folder: all folders but INBOX, and of INBOX the copies ``refused`` by
        the primary (rule 24). Copies ``spared`` count nowhere, wherever they were moved. Both are names of ``Portal`` values."""

    async def expire(
        mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """Remove just that; what went, names by folder. Open sessions see EXPUNGE; of INBOX nothing goes during a POP session."""

    async def figures() -> dict[str, int]:
        """Mailboxes, messages, bytes, and how much lies in INBOXes."""
