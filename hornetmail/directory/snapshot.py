"""The directory at one version, in memory: what every door asks, thousands of times a second, without SQL.

A snapshot in force never changes; a change derives the next one. Registered addresses are unique whatever their case, so a log-in in any case is
unambiguous (C25), and two people can never share an archive key (rule 14).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from hornetmail.core.address import AddressError, fold_domain, parse
from hornetmail.core.served import Coverage, Domain, Mailbox
from hornetmail.directory.requests import Request


class Credential(msgspec.Struct, frozen=True, gc=False):
    """A password as argon2id hash. ``must_change``: somebody else chose it. ``changed``: Unix seconds."""

    hash: str
    must_change: bool = False
    changed: float = 0.0


class Snapshot:
    """Domains, mailboxes, credentials, settings and open requests at ``version``; ``last_request`` is the highest number ever given."""

    def __init__(
        self,
        version: int = 0,
        tenants: Mapping[int, str] | None = None,
        domains: Mapping[str, Domain] | None = None,
        mailboxes: Mapping[int, Mailbox] | None = None,
        credentials: Mapping[int, Credential] | None = None,
        settings: Mapping[tuple[int, str], str] | None = None,
        requests: Mapping[int, Request] | None = None,
        last_request: int = 0,
    ) -> None:
        self.version = version
        self.tenants: dict[int, str] = dict(tenants or {})
        self._domains: dict[str, Domain] = dict(domains or {})
        self._mailboxes: dict[int, Mailbox] = dict(mailboxes or {})
        self._credentials: dict[int, Credential] = dict(credentials or {})
        self.settings: dict[tuple[int, str], str] = dict(settings or {})
        self.requests: dict[int, Request] = dict(requests or {})
        self.last_request = last_request
        self._names = {name: domain.name for domain in self._domains.values() for name in (domain.name, *domain.aliases)}
        self._keys: dict[str, int] = {}
        for mailbox in self._mailboxes.values():
            self._keys.update(dict.fromkeys(self.keys_of(mailbox), mailbox.id))

    def _copy(self) -> Snapshot:
        twin = Snapshot.__new__(Snapshot)
        twin.version = self.version
        twin.tenants, twin.settings = dict(self.tenants), dict(self.settings)
        twin.requests, twin.last_request = dict(self.requests), self.last_request
        twin._domains, twin._names = dict(self._domains), dict(self._names)
        twin._mailboxes, twin._keys, twin._credentials = dict(self._mailboxes), dict(self._keys), dict(self._credentials)
        return twin

    def with_tenant(self, tenant: int, name: str) -> Snapshot:
        """The next version, with a tenant more."""
        twin = self._copy()
        twin.tenants[tenant] = name
        return twin

    def with_domain(self, domain: Domain) -> Snapshot:
        """The next version, with a domain added or replaced."""
        twin = self.without_domain(domain.name)
        twin._domains[domain.name] = domain
        twin._names.update(dict.fromkeys((domain.name, *domain.aliases), domain.name))
        return twin

    def without_domain(self, name: str) -> Snapshot:
        """The next version, without a domain."""
        twin = self._copy()
        gone = twin._domains.pop(name, None)
        for known in (gone.name, *gone.aliases) if gone is not None else ():
            del twin._names[known]
        return twin

    def with_mailbox(self, mailbox: Mailbox) -> Snapshot:
        """The next version, with a mailbox added or replaced."""
        twin = self._copy()
        old = twin._mailboxes.get(mailbox.id)
        for key in twin.keys_of(old) if old is not None else ():
            del twin._keys[key]
        twin._mailboxes[mailbox.id] = mailbox
        twin._keys.update(dict.fromkeys(twin.keys_of(mailbox), mailbox.id))
        return twin

    def without_mailbox(self, identifier: int) -> Snapshot:
        """The next version, without a mailbox and its credential."""
        twin = self._copy()
        old = twin._mailboxes.pop(identifier, None)
        for key in twin.keys_of(old) if old is not None else ():
            del twin._keys[key]
        twin._credentials.pop(identifier, None)
        return twin

    def with_credential(self, identifier: int, credential: Credential) -> Snapshot:
        """The next version, with a password set."""
        twin = self._copy()
        twin._credentials[identifier] = credential
        return twin

    def with_setting(self, tenant: int, name: str, value: str) -> Snapshot:
        """The next version, with a setting made."""
        twin = self._copy()
        twin.settings[tenant, name] = value
        return twin

    def with_request(self, request: Request) -> Snapshot:
        """The next version, with a request that waits."""
        twin = self._copy()
        twin.requests[request.number] = request
        twin.last_request = max(twin.last_request, request.number)
        return twin

    def without_request(self, number: int) -> Snapshot:
        """The next version, with a request ended."""
        twin = self._copy()
        twin.requests.pop(number, None)
        return twin

    def domain(self, name: str) -> Domain | None:
        """By name or alias, folded or not."""
        found = self._names.get(name)
        if found is None:
            try:
                found = self._names.get(fold_domain(name))
            except AddressError:
                return None
        return self._domains[found] if found is not None else None

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """All, by name."""
        return tuple(sorted(self._domains.values(), key=lambda domain: domain.name))

    def key(self, text: str) -> str:
        """What an address is registered under: lower case, the domain's main name in place of an alias. ``""`` if it is no address."""
        try:
            address = parse(text)
        except AddressError:
            return ""
        return f"{address.local.casefold()}@{self._names.get(address.domain, address.domain)}"

    def keys_of(self, mailbox: Mailbox) -> tuple[str, ...]:
        """What a mailbox is registered under."""
        return tuple(dict.fromkeys(self.key(text) for text in (mailbox.address, *mailbox.aliases)))

    def mailbox(self, text: str) -> Mailbox | None:
        """By address or alias, any case, at the domain's name or an alias of it."""
        found = self._keys.get(text) or self._keys.get(self.key(text))
        return self._mailboxes[found] if found is not None else None

    def mailbox_by_id(self, identifier: int) -> Mailbox | None:
        """By its stable ID."""
        return self._mailboxes.get(identifier)

    @cached_property
    def _by_domain(self) -> dict[str, list[Mailbox]]:
        sorted_all = sorted(self._mailboxes.values(), key=_by_address)
        found: dict[str, list[Mailbox]] = {"": sorted_all}
        for mailbox in sorted_all:
            found.setdefault(mailbox.domain, []).append(mailbox)
        return found

    def mailboxes(self, domain: str = "") -> Sequence[Mailbox]:
        """All, or those of a domain (by any of its names), by address."""
        return tuple(self._by_domain.get(self._names.get(domain, domain), ()))

    def covered(self, text: str) -> Mailbox | None:
        """The mailbox, if the service covers it: its domain is served and active, and it is picked where that is asked for (C11, C12)."""
        mailbox = self.mailbox(text)
        domain = self._domains.get(mailbox.domain) if mailbox is not None else None
        if mailbox is None or domain is None or not domain.active:
            return None
        return mailbox if mailbox.picked or domain.coverage is Coverage.ALL else None

    def addresses_of(self, mailbox: Mailbox) -> tuple[str, ...]:
        """Keys of every address that is this mailbox's: registered ones, and the same at its domain's aliases (A43, A46)."""
        found: dict[str, None] = {}
        for key in self.keys_of(mailbox):
            local, _, name = key.rpartition("@")
            domain = self._domains.get(name)
            for known in (name, *domain.aliases) if domain is not None else (name,):
                found[f"{local}@{known}"] = None
        return tuple(found)

    def credential(self, identifier: int) -> Credential | None:
        """The password of a mailbox, if one is set."""
        return self._credentials.get(identifier)


def _by_address(mailbox: Mailbox) -> Any:
    local, _, domain = mailbox.address.casefold().rpartition("@")
    return domain, local


def taken(snapshot: Snapshot, names: Iterable[str], except_for: str = "") -> str:
    """The first of the domain names that is a served domain or alias, of another domain than ``except_for``; ``""`` if none is."""
    for name in names:
        domain = snapshot.domain(name)
        if domain is not None and domain.name != except_for:
            return name
    return ""
