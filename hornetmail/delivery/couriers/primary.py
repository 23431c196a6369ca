"""The courier to the recipients' own server (C3)."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from hornetmail.core.delivery.queued import Message, Row
from hornetmail.core.delivery.route import PRIMARY
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.delivery.connections.pool import Pool
from hornetmail.delivery.couriers.exchange import Load, hand_over, prefixed
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.courier import ICourier
from hornetmail.interfaces.directory import IDirectory


@implementer(ICourier)
class PrimaryCourier:
    """Hands mail to the primaries of the domain that all given rows belong to: trace headers, then the exact bytes received."""

    name = PRIMARY

    def __init__(self, pool: Pool, directory: IDirectory) -> None:
        self._pool = pool
        self._directory = directory

    async def deliver(self, message: Message, rows: Sequence[Row], body: IBody, verdicts: dict[int, Verdict]) -> None:
        """See ICourier. Rows of one domain."""
        known = {r.address: r for r in message.envelope.recipients}
        wanted = tuple(known.get(row.address) or Recipient(row.address) for row in rows)
        envelope = message.envelope
        load = Load(
            envelope.sender,
            wanted,
            tuple(row.id for row in rows),
            lambda: prefixed(message.trace, body.chunks()),
            message.size + len(message.trace),
            envelope.smtputf8,
            envelope.ret,
            envelope.envid,
        )
        await self.hand_over(domain_of(rows[0].address), load, verdicts)

    async def hand_over(self, domain_name: str, load: Load, verdicts: dict[int, Verdict]) -> None:
        """Any load to that domain's primaries: what drain uses, whose bytes bear their trace headers already. ``verdicts`` as in ICourier."""
        domain = self._directory.domain(domain_name)
        if domain is None or not domain.primaries:
            reply = Reply(451, "4.3.5", f"{domain_name} has no primary any more")
            verdicts.update(dict.fromkeys(load.rows, Verdict(Outcome.DEFERRED, reply, PRIMARY, Stage.LOCAL)))
            return
        await hand_over(self._pool.destination(domain.primaries, domain.tls), load, PRIMARY, verdicts)
