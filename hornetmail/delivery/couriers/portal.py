"""The courier into the portal's mailboxes (C4, C20)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.delivery import full
from hornetmail.core.delivery.queued import Message, Portal, Row
from hornetmail.core.delivery.route import PORTAL
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Mailbox
from hornetmail.delivery.tasks import together
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.courier import ICourier
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.portal import IPortal


class Placed(Verdict, frozen=True, gc=False):
    """A portal verdict that says where the copy lies, for the drain row that is born with it (rule 3)."""

    copy: Portal | None = None

    def plain(self) -> Verdict:
        """Without the copy, as the queue keeps it."""
        return Verdict(self.outcome, self.reply, self.courier, self.stage, self.host, self.unavailable)


@implementer(ICourier)
class PortalCourier:
    """Puts mail into INBOX. A row whose last verdict is uncertain gets a marked copy (rule 1)."""

    name = PORTAL
    log = Logger()

    def __init__(self, portal: IPortal, directory: IDirectory) -> None:
        self._portal = portal
        self._directory = directory

    async def deliver(self, message: Message, rows: Sequence[Row], body: IBody, verdicts: dict[int, Verdict]) -> None:
        """See ICourier; the verdicts are ``Placed`` where a copy was made."""

        async def place(row: Row) -> None:
            verdicts[row.id] = await self._place(message, row, body)

        await together(place(row) for row in rows)

    async def _place(self, message: Message, row: Row, body: IBody) -> Verdict:
        mailbox = self._directory.mailbox(row.address)
        if mailbox is None:
            return Verdict(Outcome.DEFERRED, Reply(451, "4.2.1", "no portal mailbox"), PORTAL)
        uncertain = row.last is not None and row.last.outcome is Outcome.UNCERTAIN
        try:
            copy = await self._portal.deliver(mailbox.id, message, row, body, uncertain=uncertain)
        except CancelledError:
            raise
        except FolderError as error:
            return self._full(mailbox) if error.code == "OVERQUOTA" else await self._failed(mailbox.id, row, uncertain)
        except Exception:  # noqa: BLE001 - whatever is wrong with our store, the message stays in the queue
            return await self._failed(mailbox.id, row, uncertain)
        return self._placed(copy)

    def _full(self, mailbox: Mailbox) -> Verdict:
        """As the domain wants it. Only where the portal is its mail server (``portal/box/usage.py``): nothing is lost for a quota in an emergency."""
        domain = self._directory.domain(mailbox.domain)
        reply = full.LATER if domain is None else full.reply(domain.over_quota)
        return Verdict(Outcome.FAILED if reply.permanent else Outcome.DEFERRED, reply, PORTAL)

    async def _failed(self, mailbox: int, row: Row, uncertain: bool) -> Verdict:
        self.log.failure("portal delivery of row {row} failed", row=row.id)
        found = await self._placed_all_the_same(mailbox, row)
        if found is not None:
            return self._placed(msgspec.structs.replace(found, uncertain=uncertain))
        return Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "our portal store failed"), PORTAL)

    def _placed(self, copy: Portal) -> Placed:
        return Placed(Outcome.DELIVERED, Reply(250, "2.0.0", "in the portal"), PORTAL, Stage.LOCAL, copy=copy)

    async def _placed_all_the_same(self, mailbox: int, row: Row) -> Portal | None:
        """The copy, if what failed came after it was in its place: delivered to the primary later, it would lie in INBOX for ever besides."""
        try:
            return await self._portal.received(mailbox, row)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the next attempt finds it
            self.log.failure("whether row {row} is in the portal cannot be found out", row=row.id)
            return None
