"""The courier to everybody else: mail exchangers by DNS (RFC 5321 section 5.1), or the sender's smarthost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from zope.interface import implementer

from hornetmail.core.delivery.queued import Message, Row
from hornetmail.core.delivery.route import MX
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.address import domain_of
from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.delivery.connections.pool import Pool
from hornetmail.delivery.couriers.exchange import Load, hand_over, prefixed
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.courier import ICourier
from hornetmail.interfaces.directory import IDirectory
from hornetmail.net.resolver import ResolveError

MOST_LEARNT = 10_000
"""So many domains' exchangers are remembered."""


class MailHosts(Protocol):
    """The part of the resolver that is needed here."""

    async def mail_hosts(self, domain: str) -> Sequence[Host]:
        """By preference. Raises ResolveError, a permanent one for a domain that does not exist or takes no mail (RFC 7505)."""
        ...


@implementer(ICourier)
class MXCourier:
    """Outgoing mail. All given rows have one domain."""

    name = MX

    def __init__(self, pool: Pool, directory: IDirectory, resolver: MailHosts, hostname: str) -> None:
        self._pool = pool
        self._directory = directory
        self._resolver = resolver
        self._hostname = hostname.casefold()
        self._found: OrderedDict[str, str] = OrderedDict()

    def exchanger(self, domain: str) -> str:
        """Who took that domain's mail when it was last asked for: one name for all domains that have the same exchangers; the domain
        itself while nobody knows."""
        return self._found.get(domain, domain)

    def _learn(self, domain: str, hosts: Sequence[Host]) -> None:
        self._found[domain] = min(str(host) for host in hosts)
        self._found.move_to_end(domain)
        if len(self._found) > MOST_LEARNT:
            self._found.popitem(last=False)

    async def deliver(self, message: Message, rows: Sequence[Row], body: IBody, verdicts: dict[int, Verdict]) -> None:
        """See ICourier."""
        found = await self._hosts(message, domain_of(rows[0].address))
        if isinstance(found, Verdict):
            verdicts.update({row.id: found for row in rows})
            return
        known = {r.address: r for r in message.envelope.recipients}
        envelope = message.envelope
        load = Load(
            envelope.sender,
            tuple(known.get(row.address) or Recipient(row.address) for row in rows),
            tuple(row.id for row in rows),
            lambda: prefixed(message.trace, body.chunks()),
            message.size + len(message.trace),
            envelope.smtputf8,
            envelope.ret,
            envelope.envid,
        )
        await hand_over(self._pool.destination(found, TLSPolicy.MAY), load, MX, verdicts)

    async def _hosts(self, message: Message, domain: str) -> Sequence[Host] | Verdict:
        """Where to dial, or the verdict if there is nowhere."""
        sender = self._directory.domain(message.domain) if message.domain else None
        if sender is not None and sender.smarthost is not None:
            return (sender.smarthost,)
        if not domain:
            return Verdict(Outcome.FAILED, Reply(550, "5.1.2", "no usable domain in the address"), MX, Stage.RESOLVE)
        try:
            hosts = await self._resolver.mail_hosts(domain)
        except ResolveError as error:
            if error.permanent:
                return Verdict(
                    Outcome.FAILED, Reply(550, "5.1.2", f"mail for {domain} has nowhere to go: {error.text}"), MX, Stage.RESOLVE
                )
            reply = Reply(451, "4.4.3", f"DNS does not help for {domain}: {error.text}")
            return Verdict(Outcome.DEFERRED, reply, MX, Stage.RESOLVE, unavailable=True)
        # RFC 5321 section 5.1: exchangers from our own on are no way forward.
        names = [host.name.rstrip(".").casefold() for host in hosts]
        if self._hostname in names:
            hosts = hosts[: names.index(self._hostname)]
            if not hosts:
                return Verdict(
                    Outcome.FAILED, Reply(554, "5.4.6", f"mail for {domain} loops back to this server"), MX, Stage.RESOLVE
                )
        self._learn(domain, hosts)
        return tuple(hosts)
