"""What a person writes in webmail, queued as the submission door would: a Received line, rights to the sender address, the archive."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from hornetmail.core.events import MessageAccepted
from hornetmail.core.mail.address import domain_of, key_of, parse
from hornetmail.core.mail.envelope import Direction, Door, Origin, Recipient
from hornetmail.core.mail.received import Hop, received
from hornetmail.core.served import Person
from hornetmail.servers.smtp import Services
from hornetmail.servers.smtp_transaction import Target, Transaction
from hornetmail.wire.smtp.events import Mail


class SubmitRefused(OSError):
    """Nothing was queued; the message is one line for the writer."""


class Submission:
    """Takes whole messages from people who are logged in."""

    def __init__(self, services: Services, hostname: str) -> None:
        self._services = services
        self._hostname = hostname

    async def __call__(self, person: Person, data: bytes, recipients: Sequence[str]) -> int:
        """Queue ``data`` (CRLF) from the person's own address; the ID of the first message, durable on return.

        Raises AddressError (a recipient that is none), SubmitRefused (unknown recipient, domain off), or what the queue raises.
        """
        services = self._services
        own = services.directory.domain(domain_of(person.address))
        if own is None or not own.active:
            raise SubmitRefused(f"the domain of {person.address} is not active")
        transaction = Transaction(
            Mail(person.address, eight_bit=not data.isascii(), smtputf8=not all(each.isascii() for each in recipients)),
            services.queue,
            submission=True,
        )
        for text in recipients:
            transaction.add(key_of(text), Recipient(str(parse(text))), await self._target(person, text, own.name))
        identifier = secrets.token_hex(8)
        transaction.begin()
        await transaction.write(data)
        await transaction.end()
        if transaction.refusal is not None:
            raise SubmitRefused(transaction.refusal.text)
        hop = Hop(
            helo="webmail", peer="", by=self._hostname, id=identifier, at=services.clock.seconds(), esmtp=True, authenticated=True
        )
        traces = {target: received(hop, ()) for target in transaction.targets}
        messages = await transaction.commit(Origin(Door.WEB, login=person.address), traces, {})
        for message in messages:
            services.bus.publish(MessageAccepted(message.id, message.domain))
        services.meters.count("smtp_accepted", door=Door.WEB.value)
        return messages[0].id

    async def _target(self, person: Person, text: str, own: str) -> Target:
        directory = self._services.directory
        domain = directory.domain(domain_of(text))
        sender = directory.domain(own)
        if domain is None and sender is not None:
            return Target(sender.tenant, sender.name, Direction.OUT, sender.archive)
        if domain is None or not (domain.active or domain.primaries):
            raise SubmitRefused(f"{text}: that domain is not active here")
        reply = await self._services.recipients.verify(text, person.address)
        if reply.permanent:
            raise SubmitRefused(f"{text}: {reply.text}")
        direction = Direction.INTERNAL if domain.tenant == person.tenant else Direction.IN
        return Target(domain.tenant, domain.name, direction, domain.archive)
