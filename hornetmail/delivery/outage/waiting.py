"""Mail that waits in the queue for its primary though the portal could have it: domains whose single mails are judged by the finer
rule (``PortalOn.OUTAGE``, L6). It must not be forgotten there: after 4 h administrator and user are told, as of undrained copies
(rule 3); the sender's delay notice and the give-up clock are those of any deferred mail.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from hornetmail.core.delivery.queued import Row, RowKind, RowState, WaitsFor
from hornetmail.core.mail.address import domain_of
from hornetmail.core.served import Domain, Mailbox, PortalOn
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.pages import pages
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.queue import IQueue

SHOWN, REPLIES = 50, 10
"""Messages that a notice names, and different answers that it tells a user."""


class _Own:
    """What waits for one mailbox: how many, and what the primary said."""

    def __init__(self) -> None:
        self.count = 0
        self.replies: set[str] = set()


class _Late:
    """What waits too long for one domain. Of a message no more is kept than that it is one (``tests/delivery/test_slices.py``)."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[Row] = []
        self.mailboxes: dict[int, _Own] = {}

    def add(self, row: Row, mailbox: Mailbox | None) -> None:
        """One more, for that mailbox."""
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(row)
        if mailbox is not None:
            own = self.mailboxes.setdefault(mailbox.id, _Own())
            own.count += 1
            if row.last is not None and len(own.replies) < REPLIES:
                own.replies.add(str(row.last.reply))


class Waiting:
    """``late``: seconds in the queue after which it is told."""

    def __init__(self, clock: IReactorTime, queue: IQueue, directory: IDirectory, notices: Notices, late: float) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._notices = notices
        self._late = late
        self._patient: frozenset[str] = frozenset()

    async def sweep(self) -> None:
        """Every few minutes: tell what waits too long, and let go what waits for a domain whose rule was changed back to C20."""
        before = self._patient
        self._patient = frozenset(each.name for each in self._directory.domains() if each.portal_on is PortalOn.OUTAGE)
        if not (before or self._patient) or not self._queue.backlog().deliver:
            return
        now = self._clock.seconds()
        late: dict[str, _Late] = {}
        async for page in pages(self._clock, self._queue, (RowKind.DELIVER,), (RowState.QUEUED, RowState.CLAIMED)):
            free: list[int] = []
            for _, row in page:
                if row.waits_for is not WaitsFor.PRIMARY:
                    continue
                domain = self._directory.domain(domain_of(row.address))
                if domain is None or domain.name not in self._patient:
                    # One that is being tried just now is left alone by the queue, and judged by the new rule.
                    free.append(row.id)
                elif now - row.queued >= self._late:
                    late.setdefault(domain.name, _Late()).add(row, self._directory.mailbox(row.address))
            if free:
                await self._queue.change(free, RowState.QUEUED, due=now)
        for name, rows in late.items():
            served = self._directory.domain(name)
            if served is not None:
                await self._tell(served, rows)

    async def _tell(self, domain: Domain, late: _Late) -> None:
        hours = self._late / 3600
        lines = [
            f"{late.count} messages for {domain.name} have been waiting for more than {hours:g} hours, because the mail server answers but"
            " defers them.",
            "They are in the queue, not in the portal, and delivery goes on being tried.",
            "",
        ]
        shown = [f"  <{row.address}>: {row.last.reply if row.last else 'not tried yet'}" for row in late.shown]
        subject = f"Deferred mail for {domain.name}"
        await self._notices.tell_administrators(domain.name, subject, [*lines, *shown], f"kept:{domain.name}")
        for identifier, own in late.mailboxes.items():
            mailbox = self._directory.mailbox_by_id(identifier)
            if mailbox is None:
                continue
            text = [
                f"{own.count} messages for you are waiting, because your mail server does not take them at the moment. It said:",
                "",
                *sorted(f"  {reply}" for reply in own.replies),
                "",
                "If your mailbox is full, make room in it; delivery goes on being tried.",
            ]
            await self._notices.tell_person(mailbox, "Mail for you is waiting", text, "kept", domain)
