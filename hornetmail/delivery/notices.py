"""All mail that we write ourselves: bounces, delay notices, and notices to administrators and users.

Each goes into the queue under a request ID made of what it is about, so that saying it twice says it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.address import domain_of
from hornetmail.core.backoff import Backoff
from hornetmail.core.bounce import Bounce, answerable, wants
from hornetmail.core.dsn import HEAD_BYTES, Action, Fate, Notification, compose, header_of, plain_notice
from hornetmail.core.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.events import Alarm
from hornetmail.core.queued import Message, Row
from hornetmail.core.served import Role
from hornetmail.core.verdict import Verdict
from hornetmail.interfaces import IBus, IDirectory, IQueue

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
        hostname: str,
        unique: Callable[[], str],
        backoff: Backoff,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._bus = bus
        self._hostname = hostname
        self._unique = unique
        self._backoff = backoff

    async def failed(self, message: Message, failures: Sequence[tuple[Row, Verdict]]) -> tuple[Bounce, str]:
        """A bounce for these recipients, durable on return, if rule 6 allows it; what was done, and why."""
        own = self._directory.domain(domain_of(message.envelope.sender)) is not None
        bounce, why = answerable(message.envelope, message.origin, own)
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

    async def delayed(self, message: Message, late: Sequence[tuple[Row, Verdict]]) -> None:
        """A delay notice (4 h), under the same rule as bounces; whoever may not be told is not."""
        own = self._directory.domain(domain_of(message.envelope.sender)) is not None
        bounce, _ = answerable(message.envelope, message.origin, own)
        asked = self._asked(message, late, "DELAY")
        if bounce is not Bounce.SEND or not asked:
            return
        fates = tuple(self._fate(message, row, verdict, delayed=True) for row, verdict in asked)
        await self._notify(Action.DELAYED, message, fates, f"dsn-delayed:{message.id}:{asked[0][0].id}")

    def _asked(self, message: Message, rows: Sequence[tuple[Row, Verdict]], condition: str) -> list[tuple[Row, Verdict]]:
        wishes = {each.address: each for each in message.envelope.recipients}
        return [(row, verdict) for row, verdict in rows if wants(wishes.get(row.address), condition)]

    def _fate(self, message: Message, row: Row, verdict: Verdict, *, delayed: bool = False) -> Fate:
        orcpt = next((each.orcpt for each in message.envelope.recipients if each.address == row.address), "")
        until = ""
        if delayed:
            until = formatdate(self._clock.seconds() + max(0.0, self._backoff.give_up - row.worked))
        return Fate(row.address, verdict.reply, verdict.host, orcpt, until)

    async def _notify(self, action: Action, message: Message, fates: tuple[Fate, ...], request: str) -> None:
        body = await self._queue.body(message.id)
        head = header_of(await body.read(0, HEAD_BYTES))
        note = Notification(
            action=action,
            hostname=self._hostname,
            to=message.envelope.sender,
            date=formatdate(self._clock.seconds()),
            unique=self._unique(),
            arrived=formatdate(message.arrived),
            fates=fates,
            head=head,
            envid=message.envelope.envid,
        )
        await self._post(message.tenant, message.envelope.sender, compose(note), request, message.domain)

    async def _post(self, tenant: int, to: str, data: bytes, request: str, domain: str) -> None:
        served = self._directory.domain(domain_of(to))
        deposit = self._queue.begin(tenant)
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
        """A notice to all administrators of a domain's tenant, once a day for the same ``about``."""
        served = self._directory.domain(domain)
        tenant = served.tenant if served else 1
        for mailbox in self._directory.mailboxes():
            if mailbox.tenant == tenant and Role.ADMIN in mailbox.roles and mailbox.enabled:
                await self.tell(tenant, mailbox.address, subject, lines, about, domain)

    async def tell(self, tenant: int, address: str, subject: str, lines: Sequence[str], about: str, domain: str) -> None:
        """A notice to one address, once a day for the same ``about``."""
        now = self._clock.seconds()
        data = plain_notice(
            hostname=self._hostname, to=address, subject=subject, date=formatdate(now), unique=self._unique(), lines=lines
        )
        await self._post(tenant, address, data, f"notice:{about}:{address}:{int(now // DAY)}", domain)
