"""Where deliveries end, in memory, for tests of delivery: a portal, and what the archive stages. They keep the rules of the real ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from hornetmail.core.archive.archived import ArchiveItem
from hornetmail.core.delivery.queued import Message, Portal, Row
from hornetmail.core.folder import Entry, FolderError
from hornetmail.core.mail.envelope import Envelope, Recipient
from hornetmail.interfaces.portal import IPortal
from hornetmail.testing.memory_queue import MemoryBody

replace = msgspec.structs.replace


class Copy(msgspec.Struct):
    """A message in INBOX. ``moved``: it is in another folder now."""

    portal: Portal
    envelope: Envelope
    data: bytes
    claimed: bool = False
    moved: bool = False
    keywords: tuple[str, ...] = ()
    reason: str = ""


@implementer(IPortal)
class MemoryPortal:
    """``fail`` makes deliveries raise. ``free``: bytes that mail may have at most. ``locks`` are POP sessions. ``stall``: begin_drain waits for it."""

    def __init__(self) -> None:
        self.copies: dict[str, Copy] = {}
        self.locks: dict[int, str] = {}
        self.quotas_told: list[tuple[int, float]] = []
        self.fail: Exception | None = None
        self.free = 1 << 40
        self.stall: Deferred[None] | None = None

    def tree(self, mailbox: int) -> Any:
        """Not here."""
        raise NotImplementedError

    def shared(self, mailbox: int, prefix: str) -> Any:
        """Not here."""
        raise NotImplementedError

    async def room(self, mailbox: int, size: int) -> bool:
        """See IPortal."""
        if self.fail is not None:
            raise self.fail
        return size <= self.free

    async def deliver(self, mailbox: int, message: Message, row: Row, body: Any, *, uncertain: bool = False) -> Portal:
        """See IPortal."""
        if self.fail is not None:
            raise self.fail
        name = f"row-{row.id}"
        portal = Portal(mailbox, name, uncertain)
        if name not in self.copies:
            data = message.trace + await body.read()
            self.copies[name] = Copy(portal, replace(message.envelope, recipients=(Recipient(row.address),)), data)
        return portal

    async def quota_told(self, mailbox: int, since: float) -> None:
        """See IPortal."""
        self.quotas_told.append((mailbox, since))

    async def lock(self, mailbox: int, owner: str) -> bool:
        """See IPortal."""
        return self.locks.setdefault(mailbox, owner) == owner

    async def unlock(self, mailbox: int, owner: str) -> None:
        """See IPortal."""
        if self.locks.get(mailbox) == owner:
            del self.locks[mailbox]

    async def begin_drain(self, copy: Portal) -> tuple[Envelope, MemoryBody] | None:
        """See IPortal."""
        if copy.mailbox in self.locks:
            raise FolderError("INUSE", "a POP session has the mailbox")
        await (self.stall or succeed(None))
        found = self.copies.get(copy.name)
        if found is None or found.moved:
            return None
        found.claimed = True
        return found.envelope, MemoryBody(found.data)

    async def standing(self, copy: Portal) -> Entry | None:
        """See IPortal. Nobody reads here."""
        found = self.copies.get(copy.name)
        return None if found is None or found.moved else Entry(1, 1, frozenset(found.keywords), len(found.data), 0.0, copy.name)

    async def end_drain(self, copy: Portal, *, delivered: bool, keyword: str = "", reason: str = "") -> None:
        """See IPortal."""
        found = self.copies[copy.name]
        found.claimed = False
        if delivered:
            del self.copies[copy.name]
        elif keyword:
            found.keywords = (*found.keywords, keyword)
            found.reason = reason

    async def received(self, mailbox: int, row: Row) -> Portal | None:
        """See IPortal."""
        if self.fail is not None:
            raise self.fail
        found = self.copies.get(f"row-{row.id}")
        return found.portal if found is not None else None

    async def returned(self, mailbox: int, names: Collection[str]) -> dict[str, tuple[Envelope, int]]:
        """See IPortal."""
        there = {each.portal.name: each for each in self.inbox(mailbox)}
        return {name: (there[name].envelope, len(there[name].data)) for name in names if name in there}

    async def unaddressed(self, mailbox: int, *, copies: bool = False) -> Sequence[Entry]:
        """See IPortal. All that is here was delivered."""
        return ()

    async def holding(self, mailboxes: Iterable[int], spoken_for: Collection[int] | None = None) -> Sequence[int]:
        """See IPortal."""
        return ()

    async def left_over(
        self, mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """See IPortal. Nothing ages here."""
        return {}

    async def expire(
        self, mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """See IPortal."""
        return {}

    async def figures(self) -> dict[str, int]:
        """See IPortal."""
        return {"messages": len(self.copies)}

    def inbox(self, mailbox: int) -> list[Copy]:
        """What a person sees."""
        return [each for each in self.copies.values() if each.portal.mailbox == mailbox and not each.moved]


class StagedArchive:
    """The part of IArchive that couriers use: keeps items once for a token; ``fail`` makes it raise."""

    def __init__(self) -> None:
        self.items: dict[int, ArchiveItem] = {}
        self.bodies: dict[int, bytes] = {}
        self.fail: Exception | None = None

    async def stage(self, item: ArchiveItem, body: Any) -> None:
        """See IArchive."""
        if self.fail is not None:
            raise self.fail
        if item.row not in self.items:
            self.items[item.row] = item
            self.bodies[item.row] = await body.read()
