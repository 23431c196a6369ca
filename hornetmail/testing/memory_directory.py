"""A directory in memory."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from hornetmail.core.mail.address import domain_of, key_of
from hornetmail.core.served import Coverage, Domain, Mailbox
from hornetmail.interfaces.directory import IDirectory


@implementer(IDirectory)
class MemoryDirectory:
    """Domains and mailboxes in lists that tests change."""

    version = 1

    def __init__(self, domains: Sequence[Domain], mailboxes: Sequence[Mailbox]) -> None:
        self.served = list(domains)
        self.registered = list(mailboxes)

    def domain(self, name: str) -> Domain | None:
        """See IDirectory."""
        return next((each for each in self.served if each.name == name or name in each.aliases), None)

    def domains(self) -> Sequence[Domain]:
        """See IDirectory."""
        return tuple(self.served)

    def mailbox(self, address: str) -> Mailbox | None:
        """See IDirectory."""
        key = key_of(address)
        for each in self.registered:
            if key in (key_of(each.address), *map(key_of, each.aliases)):
                return each
        return None

    def mailbox_by_id(self, identifier: int) -> Mailbox | None:
        """See IDirectory."""
        return next((each for each in self.registered if each.id == identifier), None)

    def addresses_of(self, mailbox: Mailbox) -> tuple[str, ...]:
        """See IDirectory."""
        found = []
        for key in map(key_of, (mailbox.address, *mailbox.aliases)):
            local, _, name = key.rpartition("@")
            domain = self.domain(name)
            found += [f"{local}@{known}" for known in ((domain.name, *domain.aliases) if domain is not None else (name,))]
        return tuple(found)

    def mailboxes(self, domain: str = "") -> Sequence[Mailbox]:
        """See IDirectory."""
        return tuple(each for each in self.registered if not domain or each.domain == domain)

    def with_roles(self, tenant: int) -> Sequence[Mailbox]:
        """See IDirectory."""
        return tuple(each for each in self.registered if each.roles and each.tenant == tenant)

    def covered(self, address: str) -> Mailbox | None:
        """See IDirectory."""
        mailbox = self.mailbox(address)
        domain = self.domain(domain_of(address))
        if mailbox is None or domain is None or not domain.active:
            return None
        return mailbox if domain.coverage is Coverage.ALL or mailbox.picked else None
