"""Mail in an INBOX that has no envelope: it stays, is listed, and goes home with ``<>`` if somebody chooses so (rule 10). A copy whose row an
administrator deleted is listed too; chosen, it goes home with its own envelope.

A choice is a drain row in the queue's journal, durable before it is answered; from then on the message is a portal copy like all others, and
``drain.py`` knows no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.delivery.queued import DONE, Portal, Row, RowKind, RowState
from hornetmail.core.delivery.stray import Choice, Stray
from hornetmail.core.failover.mode import Mode
from hornetmail.core.folder import Entry
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.envelope import Envelope, Recipient
from hornetmail.core.served import Domain, Mailbox
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.pages import pages
from hornetmail.delivery.tasks import together
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.portal import IPortal
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.strays import IStrays
from hornetmail.portal.maildir.naming import row_of

DELETED = "\\Deleted"
LIVE = tuple(state for state in RowState if state not in DONE)

LOOKED = 100
"""Mailboxes whose files are looked through in one hop."""

SIDE_BY_SIDE = 200
"""Rows made at once: they share the journal's syncs."""


@implementer(IStrays)
class Strays:
    """See the module."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, queue: IQueue, portal: IPortal, directory: IDirectory, modes: IModes, returned: Returned
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._portal = portal
        self._directory = directory
        self._modes = modes
        self._returned = returned

    def goal(self, mailbox: int) -> str:
        """See IStrays."""
        known = self._directory.mailbox_by_id(mailbox)
        return known.address if known is not None and self._domain(known) is not None else ""

    def _domain(self, mailbox: Mailbox) -> Domain | None:
        """The mailbox's domain, if there is a primary to take its mail home to."""
        domain = self._directory.domain(domain_of(mailbox.address))
        return domain if domain is not None and domain.primaries else None

    async def of(self, mailbox: int, uids: Collection[int] | None = None) -> Sequence[Stray]:
        """See IStrays."""
        found = await self._of(mailbox)
        return [stray for stray in found if uids is None or stray.entry.uid in uids]

    async def _of(self, mailbox: int) -> list[Stray]:
        """INBOX first and the queue after it: a copy that is being delivered has its row by then, or its delivery is under way still."""
        entries = await self._entries(mailbox)
        if not entries:
            return []
        rows = await self._rows(mailbox)
        spoken_for = self._numbers(mailbox, rows)
        found = []
        for entry in entries:
            number = row_of(entry.name)
            if not number or not (number in spoken_for or await self._is_under_way(number)):
                found.append(self._stray(mailbox, entry, rows.get((mailbox, entry.name))))
        return found

    def _numbers(self, mailbox: int, rows: Mapping[tuple[int, str], Row]) -> frozenset[int]:
        """The rows whose copies drain by themselves, now or when they come back."""
        own = {row_of(name) for _, name in rows}
        return frozenset(own | {row_of(name) for name in self._returned.watched(mailbox)}) - {0}

    async def _is_under_way(self, number: int) -> bool:
        page = await self._queue.rows(after=number - 1, limit=1, envelopes=False)
        return bool(page) and page[0][1].id == number and page[0][1].state not in DONE

    async def page(self, mailboxes: Sequence[int], limit: int, after: int = 0) -> tuple[Sequence[Stray], bool]:
        """See IStrays."""
        found: list[Stray] = []
        first = mailboxes[0] if mailboxes else 0
        one = first if len(mailboxes) == 1 else 0
        spoken_for = self._numbers(one, await self._rows(one)) if mailboxes else frozenset()
        for start in range(0, len(mailboxes), LOOKED):
            for mailbox in await self._portal.holding(mailboxes[start : start + LOOKED], spoken_for):
                behind = after if mailbox == first else 0
                found += [stray for stray in await self._of(mailbox) if stray.entry.uid > behind]
                if len(found) > limit:
                    return found[:limit], True
        return found, False

    async def _entries(self, mailbox: int) -> list[Entry]:
        r"""Oldest UID first, without what is marked ``\Deleted``, which counts as removed; copies too, where there is a primary to take them home."""
        entries = await self._portal.unaddressed(mailbox, copies=bool(self.goal(mailbox)))
        return sorted((entry for entry in entries if DELETED not in entry.flags), key=lambda entry: entry.uid)

    def _stray(self, mailbox: int, entry: Entry, row: Row | None) -> Stray:
        head = entry.name.partition(".")[0]
        brought = float(head) if head.isascii() and head.isdigit() and 9 <= len(head) <= 10 else entry.date
        return Stray(mailbox, entry, min(brought, self._clock.seconds()), row, bool(row_of(entry.name)))

    async def _rows(self, mailbox: int) -> dict[tuple[int, str], Row]:
        """Drain rows that are not done by mailbox and name; of one mailbox, or with 0 of all."""
        found: dict[tuple[int, str], Row] = {}
        async for page in pages(self._clock, self._queue, (RowKind.DRAIN,), LIVE, mailbox=mailbox):
            found.update(((row.portal.mailbox, row.portal.name), row) for _, row in page if row.portal is not None)
        return found

    async def choose(self, mailbox: int, uids: Collection[int] | None = None) -> Choice:
        """See IStrays."""
        known = self._directory.mailbox_by_id(mailbox)
        if known is None:
            raise KeyError(mailbox)
        domain = self._domain(known)
        if domain is None:
            raise ValueError(
                f"{domain_of(known.address)} has no primary: the portal is its mail server, and there is nowhere to deliver this mail to"
            )
        async with self._returned.alone(mailbox):
            return await self._choose(known, domain, await self.of(mailbox, uids))

    async def _choose(self, mailbox: Mailbox, domain: Domain, strays: Sequence[Stray]) -> Choice:
        waits = self._modes.mode(domain.name) is Mode.EMERGENCY
        fresh = [stray for stray in strays if stray.row is None]
        for start in range(0, len(fresh), SIDE_BY_SIDE):
            await together(self._take(mailbox, domain, stray, waits) for stray in fresh[start : start + SIDE_BY_SIDE])
        refused = [stray.row.id for stray in strays if stray.row is not None and stray.row.state is RowState.STUCK]
        again = 0
        if refused:
            state = RowState.PARKED if waits else RowState.QUEUED
            again = await self._queue.change(refused, state, due=0.0 if waits else self._clock.seconds())
        if fresh:
            self.log.info(
                "{address}: {count} messages without an envelope were chosen and drain", address=mailbox.address, count=len(fresh)
            )
        return Choice(len(fresh), len(strays) - len(fresh) - again, again, waits)

    async def _take(self, mailbox: Mailbox, domain: Domain, stray: Stray, waits: bool) -> None:
        """The row; ``arrived`` is now, since a date that a client gave would make it first or last of all that drain."""
        envelope = Envelope("", (Recipient(mailbox.address),), eight_bit=True, smtputf8=not mailbox.address.isascii())
        now = self._clock.seconds()
        await self._queue.queue_copy(
            Portal(mailbox.id, stray.entry.name),
            envelope,
            mailbox.address,
            tenant=mailbox.tenant,
            domain=domain.name,
            arrived=now,
            size=stray.entry.size,
            due=0.0 if waits else now,
        )
