"""The directory at one version, in memory: what every door asks, thousands of times a second, without SQL.

A snapshot in force never changes; a change derives the next one, which shares all but what changed: O(log n), whatever the number of domains
and mailboxes (``tests/cost/test_directory.py``). Registered addresses are unique whatever their case, so a log-in in any case is
unambiguous (C25), and two people can never share an archive key (rule 14).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import msgspec

from hornetmail.core.mail.address import AddressError, domain_of, fold_domain, parse
from hornetmail.core.served import Coverage, Domain, Mailbox
from hornetmail.directory.persistent import PersistentMap
from hornetmail.directory.requests import Request


class Credential(msgspec.Struct, frozen=True, gc=False):
    """A password as argon2id hash. ``must_change``: somebody else chose it. ``changed``: Unix seconds. ``scram``: its sealed SCRAM keys, or ``""``."""

    hash: str
    must_change: bool = False
    changed: float = 0.0
    scram: str = ""

    def __repr__(self) -> str:
        return "Credential()"


class Members(Sequence[Mailbox]):
    """The mailboxes registered in one domain, by address. How many there are is known at once; they are sorted when first looked at after a
    change in the domain."""

    def __init__(self, by_id: PersistentMap[int, Mailbox]) -> None:
        self.by_id = by_id

    @cached_property
    def _sorted(self) -> tuple[Mailbox, ...]:
        return tuple(sorted(self.by_id.values(), key=_by_local_part))

    def __len__(self) -> int:
        return len(self.by_id)

    @overload
    def __getitem__(self, place: int) -> Mailbox: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Mailbox]: ...
    def __getitem__(self, place: Any) -> Any:
        return self._sorted[place]

    def __iter__(self) -> Iterator[Mailbox]:
        return iter(self._sorted)


class Snapshot:
    """Domains, mailboxes, credentials, settings and open requests at ``version``; ``last_request`` is the highest number ever given.

    ``domains_changed`` and ``people_changed``: the domains that this one has otherwise, and those with other mailboxes or passwords in them,
    than the snapshot in force has from which it was derived. ``without_scram``: how many credentials have no SCRAM keys."""

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
        self.last_request = last_request
        self.domains_changed: frozenset[str] = frozenset()
        self.people_changed: frozenset[str] = frozenset()
        self.tenants = PersistentMap.of(tenants or {})
        self.settings = PersistentMap.of(settings or {})
        self.requests = PersistentMap.of(requests or {})
        self._domains = PersistentMap.of(domains or {})
        self._mailboxes = PersistentMap.of(mailboxes or {})
        self._credentials = PersistentMap.of(credentials or {})
        self.without_scram = sum(not one.scram for one in self._credentials.values())
        self._names = PersistentMap.of(
            {name: domain.name for domain in self._domains.values() for name in (domain.name, *domain.aliases)}
        )
        keys: dict[str, int] = {}
        members: dict[str, dict[int, Mailbox]] = {}
        aliased: dict[str, dict[int, None]] = {}
        for mailbox in self._mailboxes.values():
            keys.update(dict.fromkeys(self.keys_of(mailbox), mailbox.id))
            members.setdefault(mailbox.domain, {})[mailbox.id] = mailbox
            for name in _alias_domains(mailbox):
                aliased.setdefault(name, {})[mailbox.id] = None
        self._keys = PersistentMap.of(keys)
        self._members = PersistentMap.of({name: Members(PersistentMap.of(found)) for name, found in members.items()})
        self._aliased = PersistentMap.of({name: PersistentMap.of(found) for name, found in aliased.items()})
        self._with_roles = PersistentMap.of({one.id: one for one in self._mailboxes.values() if one.roles})

    def _copy(self) -> Snapshot:
        twin = Snapshot.__new__(Snapshot)
        twin.__dict__.update(self.__dict__)
        return twin

    def with_tenant(self, tenant: int, name: str) -> Snapshot:
        """The next version, with a tenant more."""
        twin = self._copy()
        twin.tenants = twin.tenants.including(tenant, name)
        return twin

    def with_domain(self, domain: Domain) -> Snapshot:
        """The next version, with a domain added or replaced. Mailboxes that have addresses in names it gained or lost are found under them anew."""
        old = self._domains.get(domain.name)
        before, names = _names_of(old), _names_of(domain)
        twin = self._renamed(before, names, domain.name)
        twin._domains = twin._domains.including(domain.name, domain)
        return twin

    def without_domain(self, name: str) -> Snapshot:
        """The next version, without a domain."""
        old = self._domains.get(name)
        if old is None:
            return self
        twin = self._renamed(_names_of(old), frozenset(), name)
        twin._domains = twin._domains.without(name)
        return twin

    def _renamed(self, before: frozenset[str], names: frozenset[str], domain: str) -> Snapshot:
        """With other names of a domain, and the addresses in these found under their new keys."""
        twin = self._copy()
        twin.__dict__.pop("domains", None)
        twin.domains_changed |= {domain}
        moving = [self._mailboxes[one] for name in before ^ names for one in self._aliased.get(name, PersistentMap())]
        for mailbox in moving:
            twin._forget_keys(mailbox)
        for name in before - names:
            twin._names = twin._names.without(name)
        for name in names - before:
            twin._names = twin._names.including(name, domain)
        for mailbox in moving:
            twin._keep_keys(mailbox)
        return twin

    def with_mailbox(self, mailbox: Mailbox) -> Snapshot:
        """The next version, with a mailbox added or replaced."""
        old = self._mailboxes.get(mailbox.id)
        twin = self._copy() if old is None else self._parted(old)
        twin._other_people(mailbox)
        twin._mailboxes = twin._mailboxes.including(mailbox.id, mailbox)
        twin._keep_keys(mailbox)
        members = twin._members.get(mailbox.domain)
        by_id = members.by_id if members is not None else PersistentMap[int, Mailbox]()
        twin._members = twin._members.including(mailbox.domain, Members(by_id.including(mailbox.id, mailbox)))
        for name in _alias_domains(mailbox):
            there = twin._aliased.get(name, PersistentMap[int, None]())
            twin._aliased = twin._aliased.including(name, there.including(mailbox.id, None))
        if mailbox.roles:
            twin._with_roles = twin._with_roles.including(mailbox.id, mailbox)
        return twin

    def without_mailbox(self, identifier: int) -> Snapshot:
        """The next version, without a mailbox and its credential."""
        old = self._mailboxes.get(identifier)
        if old is None:
            return self
        twin = self._parted(old)
        gone = self._credentials.get(identifier)
        twin._credentials = twin._credentials.without(identifier)
        twin.without_scram -= gone is not None and not gone.scram
        return twin

    def _parted(self, mailbox: Mailbox) -> Snapshot:
        """Without a mailbox, wherever it is found."""
        twin = self._copy()
        twin._other_people(mailbox)
        twin._mailboxes = twin._mailboxes.without(mailbox.id)
        twin._with_roles = twin._with_roles.without(mailbox.id)
        twin._forget_keys(mailbox)
        left = twin._members[mailbox.domain].by_id.without(mailbox.id)
        twin._members = twin._members.including(mailbox.domain, Members(left)) if left else twin._members.without(mailbox.domain)
        for name in _alias_domains(mailbox):
            there = twin._aliased[name].without(mailbox.id)
            twin._aliased = twin._aliased.including(name, there) if there else twin._aliased.without(name)
        return twin

    def _other_people(self, mailbox: Mailbox) -> None:
        self.people_changed |= {key.rpartition("@")[2] for key in self.keys_of(mailbox)}
        self.__dict__.pop("_all_mailboxes", None)

    def _forget_keys(self, mailbox: Mailbox) -> None:
        for key in self.keys_of(mailbox):
            if self._keys.get(key) == mailbox.id:
                self._keys = self._keys.without(key)

    def _keep_keys(self, mailbox: Mailbox) -> None:
        for key in self.keys_of(mailbox):
            self._keys = self._keys.including(key, mailbox.id)

    def with_credential(self, identifier: int, credential: Credential) -> Snapshot:
        """The next version, with a password set."""
        twin = self._copy()
        mailbox = twin._mailboxes.get(identifier)
        twin.people_changed |= {mailbox.domain} if mailbox is not None else set()
        former = self._credentials.get(identifier)
        twin.without_scram += (not credential.scram) - (former is not None and not former.scram)
        twin._credentials = twin._credentials.including(identifier, credential)
        return twin

    def with_setting(self, tenant: int, name: str, value: str) -> Snapshot:
        """The next version, with a setting made."""
        twin = self._copy()
        twin.settings = twin.settings.including((tenant, name), value)
        return twin

    def with_request(self, request: Request) -> Snapshot:
        """The next version, with a request that waits."""
        twin = self._copy()
        twin.requests = twin.requests.including(request.number, request)
        twin.last_request = max(twin.last_request, request.number)
        return twin

    def without_request(self, number: int) -> Snapshot:
        """The next version, with a request ended."""
        twin = self._copy()
        twin.requests = twin.requests.without(number)
        return twin

    def in_force(self, version: int) -> Snapshot:
        """The same as a version of its own, from which the next is derived."""
        twin = self._copy()
        twin.version, twin.domains_changed, twin.people_changed = version, frozenset(), frozenset()
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
        """All, by name; sorted at the first asking after a domain changed."""
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
    def _all_mailboxes(self) -> tuple[Mailbox, ...]:
        return tuple(mailbox for _, members in sorted(self._members.items()) for mailbox in members)

    def mailboxes(self, domain: str = "") -> Sequence[Mailbox]:
        """All, or those of a domain (by any of its names), by address."""
        if not domain:
            return self._all_mailboxes
        return self._members.get(self._names.get(domain, domain), ())

    def registered_at(self, name: str) -> Sequence[Mailbox]:
        """Mailboxes whose main address is written with just this name, served or not."""
        return self._members.get(name, ())

    def aliased_in(self, name: str) -> Sequence[Mailbox]:
        """Mailboxes with an alias written with just this name of a domain."""
        return tuple(self._mailboxes[one] for one in self._aliased.get(name, PersistentMap()))

    def with_roles(self, tenant: int) -> Sequence[Mailbox]:
        """Those of a tenant that have a role, by address."""
        return sorted((one for one in self._with_roles.values() if one.tenant == tenant), key=_by_address)

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

    def setting(self, name: str, default: str, tenant: int = 0) -> str:
        """A setting of a tenant, else of the installation (tenant 0), else the default."""
        return self.settings.get((tenant, name), self.settings.get((0, name), default))

    def credential(self, identifier: int) -> Credential | None:
        """The password of a mailbox, if one is set."""
        return self._credentials.get(identifier)


def _names_of(domain: Domain | None) -> frozenset[str]:
    return frozenset((domain.name, *domain.aliases)) if domain is not None else frozenset()


def _alias_domains(mailbox: Mailbox) -> frozenset[str]:
    return frozenset(domain_of(text) for text in mailbox.aliases)


def _by_local_part(mailbox: Mailbox) -> str:
    return mailbox.address.casefold().rpartition("@")[0]


def _by_address(mailbox: Mailbox) -> Any:
    return mailbox.domain, _by_local_part(mailbox)


def taken(snapshot: Snapshot, names: Iterable[str], except_for: str = "") -> str:
    """The first of the domain names that is a served domain or alias, of another domain than ``except_for``; ``""`` if none is."""
    for name in names:
        domain = snapshot.domain(name)
        if domain is not None and domain.name != except_for:
            return name
    return ""
