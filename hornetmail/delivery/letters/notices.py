"""All mail that we write ourselves: bounces, delay notices, and notices to administrators and users.

Each goes into the queue under a request ID made of what it is about, so that saying it twice says it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Message, Row
from hornetmail.core.events import Alarm
from hornetmail.core.failover.verdict import Verdict
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.bounce import Bounce, answerable, by_spf, wants
from hornetmail.core.mail.dates import rfc5322_date
from hornetmail.core.mail.dsn import HEAD_BYTES, Action, Fate, Notification, compose, header_of, plain_notice
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import Domain, Mailbox, Role
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.queue import IQueue
from hornetmail.interfaces.senders import ISenderCheck
from hornetmail.spool.disk.errors import BodyLost

DAY = 86400.0


class Notices:
    """Writes them. ``unique`` makes a token that occurs in no message."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        directory: IDirectory,
        bus: IBus,
        senders: ISenderCheck,
        hostname: str,
        unique: Callable[[], str],
        backoff: Backoff,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._bus = bus
        self._senders = senders
        self._hostname = hostname
        self._unique = unique
        self._backoff = backoff

    async def failed(self, message: Message, failures: Sequence[tuple[Row, Verdict]], *, wait: bool = True) -> tuple[Bounce, str]:
        """A bounce for these recipients, durable on return, if rule 6 allows it; what was done, and why. ``LATER``, when DNS does not
        answer: nothing was done. Without ``wait``, and once that has gone on for longer than a delivery may, it is ``HOLD``."""
        bounce, why = await self._answerable(message)
        if bounce is Bounce.LATER and not (wait and self._may_wait(failures)):
            bounce = Bounce.HOLD
        if bounce is Bounce.HOLD:
            text = f"message {message.id} from <{message.envelope.sender}> cannot be delivered and is held: {why}"
            self._bus.publish(Alarm("bounce-held", text, message.domain))
        if bounce is not Bounce.SEND:
            return bounce, why
        asked = self._asked(message, failures, "FAILURE")
        if asked:
            fates = tuple(self._fate(message, row, verdict) for row, verdict in asked)
            await self._notify(Action.FAILED, message, fates, f"dsn-failed:{message.id}:{asked[0][0].id}:{len(asked)}")
        return bounce, why

    async def delayed(self, message: Message, late: Sequence[tuple[Row, Verdict]]) -> bool:
        """A delay notice (4 h), under the same rule as bounces; whoever may not be told is not. False: that is not decided yet."""
        asked = self._asked(message, late, "DELAY")
        if not asked:
            return True
        bounce, _ = await self._answerable(message)
        if bounce is Bounce.SEND:
            fates = tuple(self._fate(message, row, verdict, delayed=True) for row, verdict in asked)
            await self._notify(Action.DELAYED, message, fates, f"dsn-delayed:{message.id}:{asked[0][0].id}")
        return bounce is not Bounce.LATER

    async def _answerable(self, message: Message) -> tuple[Bounce, str]:
        """Rule 6; DNS is asked only now that something has to be said, and only if nothing else decides."""
        origin, sender = message.origin, message.envelope.sender
        bounce, why = answerable(message.envelope, origin, self._directory.domain(domain_of(sender)) is not None)
        if bounce is not Bounce.ASK:
            return bounce, why
        return by_spf(await self._senders.spf(origin.peer, origin.helo, sender))

    def _may_wait(self, failures: Sequence[tuple[Row, Verdict]]) -> bool:
        longest = max((row.worked for row, _ in failures), default=0.0)
        return not self._backoff.over(longest - self._backoff.late)

    def _asked(self, message: Message, rows: Sequence[tuple[Row, Verdict]], condition: str) -> list[tuple[Row, Verdict]]:
        wishes = {each.address: each for each in message.envelope.recipients}
        return [(row, verdict) for row, verdict in rows if wants(wishes.get(row.address), condition)]

    def _fate(self, message: Message, row: Row, verdict: Verdict, *, delayed: bool = False) -> Fate:
        orcpt = next((each.orcpt for each in message.envelope.recipients if each.address == row.address), "")
        until = ""
        if delayed:
            until = rfc5322_date(self._clock.seconds() + max(0.0, self._backoff.give_up - row.worked))
        return Fate(row.address, verdict.reply, verdict.host, orcpt, until)

    async def _notify(self, action: Action, message: Message, fates: tuple[Fate, ...], request: str) -> None:
        note = Notification(
            action=action,
            hostname=self._hostname,
            to=message.envelope.sender,
            date=rfc5322_date(self._clock.seconds()),
            unique=self._unique(),
            arrived=rfc5322_date(message.arrived),
            fates=fates,
            head=await self._head(message),
            envid=message.envelope.envid,
        )
        await self._post(message.tenant, message.envelope.sender, compose(note), request, message.domain)

    async def _head(self, message: Message) -> bytes:
        """Its header; nothing if the message is lost, for its sender is told all the same. Raises the queue's other errors."""
        try:
            body = await self._queue.body(message.id)
            return header_of(await body.read(0, HEAD_BYTES))
        except BodyLost as error:
            self.log.error("the header of message {message} cannot be read any more: {error}", message=message.id, error=error)
            return b""

    async def _post(self, tenant: int, to: str, data: bytes, request: str, domain: str) -> None:
        served = self._directory.domain(domain_of(to))
        deposit = self._queue.begin(tenant, own=True)
        try:
            await deposit.write(data)
            await deposit.commit(
                Envelope("", (Recipient(to),), eight_bit=not data.isascii(), smtputf8=not to.isascii()),
                Origin(Door.NOTICE),
                Direction.IN if served else Direction.OUT,
                b"",
                domain=served.name if served else domain,
                archive=False,
                request=request,
            )
        except BaseException:
            await deposit.abort()
            raise

    async def tell_administrators(self, domain: str, subject: str, lines: Sequence[str], about: str) -> None:
        """A notice to all administrators of a domain's tenant, once a day for the same ``about``; at second addresses on file too, for it is about a
        mail server that does not do its work, and may be their own."""
        served = self._directory.domain(domain)
        tenant = served.tenant if served else 1
        for mailbox in self._directory.with_roles(tenant):
            if Role.ADMIN in mailbox.roles and mailbox.enabled:
                await self.tell(tenant, mailbox.address, subject, lines, about, domain)
                if mailbox.second:
                    await self.tell(tenant, mailbox.second, subject, lines, about, self.way_out(mailbox.domain))

    async def tell_person(self, mailbox: Mailbox, subject: str, lines: Sequence[str], about: str, domain: Domain) -> None:
        """The same to somebody whose mail does not get home; at a second address on file if the domain wants its people to be told there."""
        await self.tell(domain.tenant, mailbox.address, subject, lines, about, domain.name)
        if mailbox.second and domain.tell_people:
            await self.tell(domain.tenant, mailbox.second, subject, lines, about, self.way_out(mailbox.domain))

    async def tell_of_deferring(self, domain: str, text: str) -> None:
        """Tell a domain's own administrators, or its postmaster, over its primary, which defers the mail of others; at most once an hour."""
        served = self._directory.domain(domain)
        if served is None:
            return
        people = [each.address for each in self._directory.mailboxes(domain) if Role.ADMIN in each.roles and each.enabled][:3]
        lines = [f"About the mail server of {domain}:", "", text, "", "This message takes the same way as the mail of others."]
        about = f"defers:{domain}:{int(self._clock.seconds() // 3600)}"
        for address in people or [f"postmaster@{domain}"]:
            await self.tell(served.tenant, address, f"{domain}: the mail server defers mail", lines, about, domain)

    async def tell(self, tenant: int, address: str, subject: str, lines: Sequence[str], about: str, domain: str) -> None:
        """A notice to one address, once a day for the same ``about``."""
        day = int(self._clock.seconds() // DAY)
        await self.letter(tenant, address, subject, lines, f"notice:{about}:{address}:{day}", domain)

    async def letter(self, tenant: int, address: str, subject: str, lines: Sequence[str], request: str, domain: str) -> None:
        """A notice to one address, once for the same ``request``; durable on return. ``domain``: on whose behalf, which decides on the smarthost
        for an address outside."""
        now = self._clock.seconds()
        data = plain_notice(
            hostname=self._hostname, to=address, subject=subject, date=rfc5322_date(now), unique=self._unique(), lines=lines
        )
        await self._post(tenant, address, data, request, domain)

    def way_out(self, domain: str) -> str:
        """What ``letter`` is to be told for an address outside, when the domain's own server may be down: the domain, if its smarthost is
        another host than its primaries, else ``""``: straight to the address's own mail exchanger."""
        served = self._directory.domain(domain)
        if served is None or served.smarthost is None or served.smarthost.name in {host.name for host in served.primaries}:
            return ""
        return served.name
