"""The courier into the archive (C8): a row of its own, so that an archive that is down delays archiving and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.archive.archived import ArchiveItem
from hornetmail.core.delivery.queued import DONE, Message, Row, RowKind, RowState
from hornetmail.core.delivery.route import ARCHIVE
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.dsn import HEAD_BYTES, header_of
from hornetmail.core.mail.envelope import Direction, Door
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Coverage
from hornetmail.delivery.pages import pages
from hornetmail.filter.spam import tagged
from hornetmail.interfaces.archive import IArchive
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.courier import ICourier
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.queue import IQueue
from hornetmail.spool.disk.errors import BodyLost

FEEDS = {Door.MX: "inline", Door.LMTP: "inline", Door.RELAY: "relay", Door.SUBMISSION: "submission", Door.WEB: "submission"}


class Standing(msgspec.Struct, frozen=True):
    """How far a message's recipients have come. ``entitled``: delivered rows in the service's scope. ``pending``: not done yet."""

    entitled: tuple[Row, ...]
    pending: tuple[Row, ...]

    @property
    def staged(self) -> tuple[int, ...]:
        """What to keep with the archive row once these are in the archive."""
        return tuple(row.id for row in self.entitled)


@implementer(ICourier)
class ArchiveCourier:
    """Stages a message with the recipients that got it.

    Recipients who get it later, after the first staging, are staged too: equal bytes are one record and recipients are united
    (rule 13). The token that makes a staging happen once stands for the very set of recipients, so that a crash between staging and
    settling can neither store twice nor forget one who came meanwhile.
    """

    name = ARCHIVE
    log = Logger()

    def __init__(self, clock: IReactorTime, archive: IArchive, queue: IQueue, directory: IDirectory) -> None:
        self._clock = clock
        self._archive = archive
        self._queue = queue
        self._directory = directory

    async def standing(self, message: Message) -> Standing:
        """The message's recipients, read from the queue."""
        entitled: list[Row] = []
        pending: list[Row] = []
        async for page in pages(self._clock, self._queue, (RowKind.DELIVER,), message=message.id):
            for _, row in page:
                if row.state not in DONE:
                    pending.append(row)
                elif row.state is RowState.DELIVERED and self._in_scope(message, row):
                    entitled.append(row)
        return Standing(tuple(entitled), tuple(pending))

    def _in_scope(self, message: Message, row: Row) -> bool:
        """C12 for what comes in, and rule 24's exemption; what goes out was judged by its sender when it was accepted."""
        domain = self._directory.domain(domain_of(row.address))
        if domain is None or message.direction is Direction.OUT:
            return True
        covered = self._directory.covered(row.address)
        if covered is not None:
            return covered.archive
        mailbox = self._directory.mailbox(row.address)
        return mailbox is None and domain.coverage is Coverage.ALL

    async def deliver(self, message: Message, rows: Sequence[Row], body: IBody, verdicts: dict[int, Verdict]) -> None:
        """See ICourier; ``rows`` is the archive row."""
        standing = await self.standing(message)
        row = rows[0]
        verdict = await self.stage(message, row, standing, body)
        verdicts.update({each.id: verdict for each in rows})

    async def stage(self, message: Message, row: Row, standing: Standing, body: IBody) -> Verdict:
        """Stage what is not staged yet. ``row.staged`` names the rows that were. Raises BodyLost: the message cannot be read any more."""
        staged = frozenset(row.staged)
        fresh = [each for each in standing.entitled if each.id not in staged]
        try:
            if fresh:
                token = row.id if not staged and not standing.pending else _token(row, fresh)
                spam = tagged(header_of(await body.read(0, HEAD_BYTES)))
                await self._archive.stage(self._item(message, token, fresh, spam=spam), body)
        except (BodyLost, CancelledError):
            raise
        except Exception:  # noqa: BLE001 - an archive that cannot take it now delays archiving only
            self.log.failure("archiving message {message} failed, it is tried again", message=message.id)
            return Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "the archive did not take it"), ARCHIVE)
        return Verdict(Outcome.DELIVERED, Reply(250, "2.0.0", "archived"), ARCHIVE)

    def _item(self, message: Message, token: int, rows: Sequence[Row], *, spam: bool) -> ArchiveItem:
        domain = self._directory.domain(message.domain) if message.domain else None
        sender = message.envelope.sender
        # The primary vouches for the senders of its own domains: they have a right to what they sent (C9, C17, rule 14).
        vouched = sender if message.origin.trusted and self._directory.domain(domain_of(sender)) is not None else ""
        return ArchiveItem(
            row=token,
            tenant=message.tenant,
            feed=FEEDS.get(message.origin.door, str(message.origin.door)),
            direction=message.direction,
            sender=sender,
            recipients=tuple(each.address for each in rows),
            received=message.arrived,
            retention_days=domain.retention_days if domain else 90,
            login=message.origin.login or vouched,
            trace=message.trace,
            spam=spam,
        )


def _token(row: Row, recipients: Sequence[Row]) -> int:
    """63 bits that stand for this archive row with these recipients."""
    text = ",".join(str(each) for each in [row.id, *sorted(r.id for r in recipients)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
