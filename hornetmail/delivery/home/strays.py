"""Mail in an INBOX that has no envelope: it stays, is listed, and goes home with ``<>`` if somebody chooses so (rule 10).

A choice is a drain row in the queue's journal, durable before it is answered; from then on the message is a portal copy like all others, and
``drain.py`` knows no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.address import domain_of
from hornetmail.core.envelope import Envelope, Recipient
from hornetmail.core.folder import Entry
from hornetmail.core.mode import Mode
from hornetmail.core.queued import DONE, Portal, Row, RowKind, RowState
from hornetmail.core.served import Domain, Mailbox
from hornetmail.core.stray import Choice, Stray
from hornetmail.delivery.home.returned import Returned
from hornetmail.delivery.tasks import together
from hornetmail.interfaces import IDirectory, IModes, IPortal, IQueue, IStrays

DELETED = "\\Deleted"
LIVE = tuple(state for state in RowState if state not in DONE)

LOOKED = 100
"""Mailboxes whose files are looked through in one hop."""

SIDE_BY_SIDE = 200
"""Rows made at once: they share the journal's syncs."""

PAGE = 500


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
        entries = [entry for entry in await self._entries(mailbox) if uids is None or entry.uid in uids]
        rows = await self._rows(mailbox) if entries else {}
        return [self._stray(mailbox, entry, rows.get((mailbox, entry.name))) for entry in entries]

    async def page(self, mailboxes: Sequence[int], limit: int, after: int = 0) -> tuple[Sequence[Stray], bool]:
        """See IStrays."""
        found: list[tuple[int, Entry]] = []
        first = mailboxes[0] if mailboxes else 0
        for start in range(0, len(mailboxes), LOOKED):
            for mailbox in await self._portal.holding(mailboxes[start : start + LOOKED]):
                behind = after if mailbox == first else 0
                found += [(mailbox, entry) for entry in await self._entries(mailbox) if entry.uid > behind]
                if len(found) > limit:
                    break
            if len(found) > limit:
                break
        shown = found[:limit]
        several = len({mailbox for mailbox, _ in shown}) > 1
        rows = await self._rows(0 if several else shown[0][0]) if shown else {}
        return [self._stray(mailbox, entry, rows.get((mailbox, entry.name))) for mailbox, entry in shown], len(found) > limit

    async def _entries(self, mailbox: int) -> list[Entry]:
        r"""Oldest UID first, without what is marked ``\Deleted``, which counts as removed."""
        found = [entry for entry in await self._portal.unaddressed(mailbox) if DELETED not in entry.flags]
        return sorted(found, key=lambda entry: entry.uid)

    def _stray(self, mailbox: int, entry: Entry, row: Row | None) -> Stray:
        head = entry.name.partition(".")[0]
        brought = float(head) if head.isascii() and head.isdigit() and 9 <= len(head) <= 10 else entry.date
        return Stray(mailbox, entry, min(brought, self._clock.seconds()), row)

    async def _rows(self, mailbox: int) -> dict[tuple[int, str], Row]:
        """Drain rows that are not done by mailbox and name; of one mailbox, or with 0 of all."""
        found: dict[tuple[int, str], Row] = {}
        after = 0
        while page := await self._queue.rows(kinds=(RowKind.DRAIN,), states=LIVE, mailbox=mailbox, limit=PAGE, after=after):
            after = page[-1][1].id
            found.update(((row.portal.mailbox, row.portal.name), row) for _, row in page if row.portal is not None)
            if len(page) < PAGE:
                break
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
        await self._queue.take_back(
            Portal(mailbox.id, stray.entry.name),
            envelope,
            mailbox.address,
            tenant=mailbox.tenant,
            domain=domain.name,
            arrived=now,
            size=stray.entry.size,
            due=0.0 if waits else now,
        )
