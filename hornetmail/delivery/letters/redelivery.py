"""Archived mail back to whoever may have it, over the normal route: to the primary or the portal, whichever is active (C10, C16, C17, rule 16)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from hornetmail.core.archive.archived import ArchivedMail, Handed, Refused
from hornetmail.core.delivery.queued import Message
from hornetmail.core.mail.address import AddressError, parse
from hornetmail.core.mail.dates import rfc5322_date
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import Mailbox, Person, Role, Scope
from hornetmail.delivery.letters.enclosed import Cover, Fitness, Unfit, around
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.archive import IArchive
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.redelivery import IRedelivery

MOST = 500
"""Mails in one request."""

PIECE = 65_536


@implementer(IRedelivery)
class Redelivery:
    """``unique`` makes a request ID where the caller has none; the caller's own makes a repeated request one delivery."""

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        archive: IArchive,
        directory: IDirectory,
        access: IAccess,
        unique: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._archive = archive
        self._directory = directory
        self._access = access
        self._unique = unique

    async def redeliver(
        self, person: Person, identifiers: Sequence[int], to: str = "", request: str = "", *, attached: bool = False
    ) -> Handed:
        """See IRedelivery. Raises KeyError (no such mail within the person's scope), Refused, ArchiveError or ValueError."""
        if len(identifiers) > MOST:
            raise ValueError(f"at most {MOST} mails at once")
        target = self._target(person, to)
        token = request or self._unique()
        scope = self._access.scope(person)
        queued: list[int] = []
        unfit: list[tuple[int, str]] = []
        for identifier in identifiers:
            mail = await self._archive.mail(scope, identifier)
            data = await self._archive.read(self._reading(person, scope, mail, target), identifier)
            head, tail, way = b"", b"", ""
            if attached:
                head, tail = around(self._cover(mail, target), data)
                way = ":attached"
            try:
                message = await self._queued(
                    person, target, head, data, tail, f"redelivery:{token}:{identifier}:{target.id}{way}"
                )
            except Unfit as error:
                unfit.append((identifier, str(error)))
            else:
                queued.append(message.id)
        return Handed(tuple(queued), tuple(unfit))

    def _cover(self, mail: ArchivedMail, target: Mailbox) -> Cover:
        return Cover(
            mail.hit.id,
            target.address,
            target.domain,
            rfc5322_date(self._clock.seconds()),
            self._unique(),
            rfc5322_date(mail.hit.received or mail.hit.date),
            mail.sha256,
        )

    def _target(self, person: Person, to: str) -> Mailbox:
        address = to or person.address
        try:
            parse(address)
        except AddressError as error:
            raise ValueError(str(error)) from None
        mailbox = self._directory.mailbox(address)
        if mailbox is None:
            raise Refused(f"<{address}> has no mailbox here")
        if mailbox.id == person.mailbox:
            return mailbox
        if not person.has(Role.ADMIN):
            raise Refused("redelivery goes to your own mailbox only")
        if person.tenant and mailbox.tenant != person.tenant:
            raise Refused("that mailbox belongs to somebody else's organisation")
        return mailbox

    def _reading(self, person: Person, scope: Scope, mail: ArchivedMail, target: Mailbox) -> Scope:
        """The scope under which the bytes are read. To oneself: one's own. An administrator's redelivery reads with the right of the
        person it goes to, and shows him nothing (rule 15)."""
        if target.id == person.mailbox and scope.content:
            return scope
        owner = Person(target.id, target.address, target.tenant, addresses=self._directory.addresses_of(target))
        derived = self._access.scope(owner)
        return msgspec.structs.replace(derived, tenant=mail.tenant, content=True)

    async def _queued(self, person: Person, target: Mailbox, head: bytes, data: bytes, tail: bytes, request: str) -> Message:
        """The mail between ``head`` and ``tail``, written in pieces. Between them it is an attachment; raises Unfit if it cannot be one."""
        deposit = self._queue.begin(target.tenant)
        fitness = Fitness() if head else None
        try:
            if head:
                await deposit.write(head)
            for piece in _pieces(data):
                if fitness is not None:
                    fitness.feed(piece)
                await deposit.write(piece)
            if fitness is not None:
                fitness.end()
                await deposit.write(tail)
            message: Message = await deposit.commit(
                Envelope("", (Recipient(target.address),), eight_bit=not data.isascii(), smtputf8=not target.address.isascii()),
                Origin(Door.REDELIVERY, login=person.address),
                Direction.IN,
                b"",
                domain=target.domain,
                archive=False,
                request=request,
            )
        except BaseException:
            await deposit.abort()
            raise
        return message


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]
