"""Each change of the directory, checked against a snapshot: what to write, and the snapshot after it. Nothing here waits or writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from hornetmail.core.served import Domain, Mailbox, Role, Suspension
from hornetmail.directory.checks import (
    DirectoryConflict,
    DirectoryError,
    DirectoryMissing,
    check_quota,
    checked_domain,
    display_name,
    mailbox_address,
)
from hornetmail.directory.schema import Statement
from hornetmail.directory.snapshot import Credential, Snapshot, taken

T = TypeVar("T")


class Change(NamedTuple, Generic[T]):
    """What to write in one transaction, what is in force after it, and what whoever asked gets."""

    statements: Sequence[Statement]
    snapshot: Snapshot
    answer: T


class NewMailbox(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox to register. In a domain that is not served it needs a role, and is a log-in only. ``tenant`` 0: the domain's, or 1.
    ``role_waits``: it will get one once a second person approves. Without a ``credential`` nobody logs in until a password is set."""

    address: str
    credential: Credential | None = None
    tenant: int = 0
    name: str = ""
    roles: Sequence[Role] = ()
    aliases: Sequence[str] = ()
    enabled: bool = True
    picked: bool = True
    archive: bool = True
    suspended: Suspension | None = None
    role_waits: bool = False
    second: str = ""
    quota_bytes: int | None = None
    quota_messages: int | None = None


# --- tenants and settings


def added_tenant(snapshot: Snapshot, name: str) -> Change[int]:
    """A customer that owns domains; its number. Raises DirectoryConflict."""
    name = display_name(name, "tenant")
    if not name or name in snapshot.tenants.values():
        raise DirectoryConflict(f'tenant "{name}": there is one already, or it has no name')
    number = max(snapshot.tenants, default=0) + 1
    sql = "INSERT INTO tenants (tenant, name) VALUES (?, ?)"
    return Change([(sql, (number, name))], snapshot.with_tenant(number, name), number)


def made_setting(snapshot: Snapshot, name: str, value: str, tenant: int) -> Change[None]:
    """A setting of a tenant, or of the installation (0)."""
    sql = "INSERT INTO settings (tenant, name, value) VALUES (?, ?, ?) ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value"
    return Change([(sql, (tenant, name, value))], snapshot.with_setting(tenant, name, value), None)


# --- domains


def added_domain(snapshot: Snapshot, domain: Domain) -> Change[Domain]:
    """Raises DirectoryError."""
    domain = checked_domain(domain)
    if snapshot.domain(domain.name) is not None:
        raise DirectoryConflict(f'domain "{domain.name}": served already')
    _check_domain(snapshot, domain)
    sql = "INSERT INTO domains (name, tenant, value) VALUES (?, ?, ?)"
    statements = [(sql, (domain.name, domain.tenant, _json(domain))), *_names(domain)]
    return Change(statements, snapshot.with_domain(domain), domain)


def changed_domain(snapshot: Snapshot, name: str, **changes: Any) -> Change[Domain]:
    """With fields of ``Domain`` replaced; its name and tenant stay. Raises DirectoryError, also if mailboxes have addresses in an alias that
    would go: they would no longer be the same mailbox's, and could become somebody else's."""
    old = _domain(snapshot, name)
    if {"name", "tenant"} & changes.keys():
        raise DirectoryError(f'domain "{old.name}": name and tenant stay')
    domain = checked_domain(msgspec.structs.replace(old, **changes))
    _check_domain(snapshot, domain)
    _check_unused(snapshot, domain.name, [alias for alias in old.aliases if alias not in domain.aliases])
    statements: list[Statement] = [
        ("UPDATE domains SET value = ? WHERE name = ?", (_json(domain), domain.name)),
        ("DELETE FROM domain_names WHERE domain = ?", (domain.name,)),
        *_names(domain),
    ]
    return Change(statements, snapshot.with_domain(domain), domain)


def removed_domain(snapshot: Snapshot, name: str) -> Change[None]:
    """Refused while mailboxes are registered in it. Raises DirectoryError."""
    domain = _domain(snapshot, name)
    if left := len(snapshot.mailboxes(domain.name)):
        raise DirectoryConflict(f'domain "{domain.name}": {left} mailbox{"es are" if left > 1 else " is"} still registered')
    _check_unused(snapshot, domain.name, (domain.name, *domain.aliases))
    statements: list[Statement] = [
        ("DELETE FROM domain_names WHERE domain = ?", (domain.name,)),
        ("DELETE FROM domains WHERE name = ?", (domain.name,)),
    ]
    return Change(statements, snapshot.without_domain(domain.name), None)


def _check_domain(snapshot: Snapshot, domain: Domain) -> None:
    if domain.tenant not in snapshot.tenants:
        raise DirectoryMissing(f'domain "{domain.name}": there is no tenant {domain.tenant}')
    if name := taken(snapshot, (domain.name, *domain.aliases), domain.name):
        raise DirectoryConflict(f'domain "{domain.name}": "{name}" belongs to another domain')
    for alias in domain.aliases:
        if snapshot.registered_at(alias):
            first = snapshot.registered_at(alias)[0]
            raise DirectoryConflict(f'domain "{domain.name}": mailbox "{first.address}" is registered at its alias "{alias}"')
    if snapshot.domain(domain.name) is None:
        for mailbox in snapshot.registered_at(domain.name):
            if mailbox.tenant != domain.tenant:
                raise DirectoryConflict(f'domain "{domain.name}": mailbox "{mailbox.address}" in it belongs to another tenant')


def _check_unused(snapshot: Snapshot, domain: str, names: Sequence[str]) -> None:
    for name in names:
        if aliased := snapshot.aliased_in(name):
            where = "in it" if name == domain else f'in "{name}"'
            raise DirectoryConflict(f'domain "{domain}": mailbox "{aliased[0].address}" still has an alias {where}')


def _domain(snapshot: Snapshot, name: str) -> Domain:
    domain = snapshot.domain(name)
    if domain is None:
        raise DirectoryMissing(f'domain "{name}" is not served here')
    return domain


def _names(domain: Domain) -> list[Statement]:
    sql = "INSERT INTO domain_names (name, tenant, domain) VALUES (?, ?, ?)"
    return [(sql, (name, domain.tenant, domain.name)) for name in (domain.name, *domain.aliases)]


# --- mailboxes


def added_mailbox(snapshot: Snapshot, identifier: int, new: NewMailbox) -> Change[Mailbox]:
    """Registered under ``identifier``. Raises DirectoryError."""
    wanted = mailbox_address(new.address, "mailbox")
    domain = snapshot.domain(wanted.domain)
    if domain is None and not new.roles and not new.role_waits:
        raise DirectoryMissing(f'mailbox "{wanted}": domain "{wanted.domain}" is not served here')
    if domain is not None and new.tenant not in (0, domain.tenant):
        raise DirectoryMissing(f'mailbox "{wanted}": domain "{wanted.domain}" is not served here')
    mailbox = Mailbox(
        id=identifier,
        address=str(wanted),
        domain=wanted.domain,
        tenant=domain.tenant if domain is not None else new.tenant or 1,
        aliases=tuple(new.aliases),
        roles=tuple(dict.fromkeys(new.roles)),
        name=display_name(new.name, f'mailbox "{wanted}": name'),
        enabled=new.enabled,
        picked=new.picked,
        archive=new.archive,
        suspended=new.suspended,
        second=new.second,
        quota_bytes=new.quota_bytes,
        quota_messages=new.quota_messages,
    )
    mailbox = _checked_mailbox(snapshot, mailbox)
    sql = "INSERT INTO mailboxes (id, tenant, domain, value) VALUES (?, ?, ?, ?)"
    statements = [(sql, (mailbox.id, mailbox.tenant, mailbox.domain, _json(mailbox))), *_addresses(snapshot, mailbox)]
    after = snapshot.with_mailbox(mailbox)
    if new.credential is not None:
        statements.append(_credential(mailbox, new.credential))
        after = after.with_credential(mailbox.id, new.credential)
    return Change(statements, after, mailbox)


def changed_mailbox(snapshot: Snapshot, identifier: int, **changes: Any) -> Change[Mailbox]:
    """With fields of ``Mailbox`` replaced; its ID, address, domain and tenant stay. Raises DirectoryError."""
    old = _mailbox(snapshot, identifier)
    if {"id", "address", "domain", "tenant"} & changes.keys():
        raise DirectoryError(f'mailbox "{old.address}": ID, address and tenant stay')
    if "name" in changes:
        changes["name"] = display_name(changes["name"], f'mailbox "{old.address}": name')
    mailbox = _checked_mailbox(snapshot, msgspec.structs.replace(old, **changes))
    if old.roles and not mailbox.roles and snapshot.domain(mailbox.domain) is None:
        raise DirectoryConflict(f'mailbox "{mailbox.address}": its domain is not served here, so it needs a role')
    statements: list[Statement] = [
        ("UPDATE mailboxes SET value = ? WHERE id = ?", (_json(mailbox), mailbox.id)),
        ("DELETE FROM addresses WHERE mailbox = ?", (mailbox.id,)),
        *_addresses(snapshot, mailbox),
    ]
    return Change(statements, snapshot.with_mailbox(mailbox), mailbox)


def removed_mailbox(snapshot: Snapshot, identifier: int) -> Change[None]:
    """Without its log-in, addresses and roles. Raises DirectoryMissing."""
    mailbox = _mailbox(snapshot, identifier)
    tables = (("credentials", "mailbox"), ("addresses", "mailbox"), ("mailboxes", "id"))
    statements = [(f"DELETE FROM {table} WHERE {column} = ?", (mailbox.id,)) for table, column in tables]
    return Change(statements, snapshot.without_mailbox(mailbox.id), None)


def set_credential(snapshot: Snapshot, identifier: int, credential: Credential, suspended: Suspension | None) -> Change[None]:
    """A password hash, and with ``suspended`` the archive closed to that person. Raises DirectoryError."""
    mailbox = _mailbox(snapshot, identifier)
    statements = [_credential(mailbox, credential)]
    snapshot = snapshot.with_credential(identifier, credential)
    if suspended is not None:
        closed = changed_mailbox(snapshot, identifier, suspended=suspended)
        statements, snapshot = [*statements, *closed.statements], closed.snapshot
    return Change(statements, snapshot, None)


def _mailbox(snapshot: Snapshot, identifier: int) -> Mailbox:
    mailbox = snapshot.mailbox_by_id(identifier)
    if mailbox is None:
        raise DirectoryMissing(f"mailbox {identifier} is not registered")
    return mailbox


def _checked_mailbox(snapshot: Snapshot, mailbox: Mailbox) -> Mailbox:
    """With aliases folded, and none of its addresses another mailbox's."""
    domain = snapshot.domain(mailbox.domain)
    if domain is not None and domain.name != mailbox.domain:
        raise DirectoryConflict(f'mailbox "{mailbox.address}": "{mailbox.domain}" is an alias, register it in "{domain.name}"')
    aliases: list[str] = []
    for text in mailbox.aliases:
        alias = mailbox_address(text, f'mailbox "{mailbox.address}": alias')
        served = snapshot.domain(alias.domain)
        if served is None or served.tenant != mailbox.tenant:
            raise DirectoryMissing(f'mailbox "{mailbox.address}": alias "{alias}": domain "{alias.domain}" is not served here')
        aliases.append(str(alias))
    check_quota(mailbox)
    own = snapshot.key(mailbox.address)
    aliases = [alias for key, alias in {snapshot.key(alias): alias for alias in aliases}.items() if key != own]
    for text in (mailbox.address, *aliases):
        other = snapshot.mailbox(text)
        if other is not None and other.id != mailbox.id:
            same = other.address.casefold() == text.casefold()
            whose = "registered already" if same else f'an address of "{other.address}"'
            raise DirectoryConflict(f'mailbox "{text}": {whose}')
    second = _checked_second(snapshot, mailbox)
    return msgspec.structs.replace(mailbox, aliases=tuple(aliases), roles=tuple(dict.fromkeys(mailbox.roles)), second=second)


def _checked_second(snapshot: Snapshot, mailbox: Mailbox) -> str:
    """The second address: outside, for it is there for the time when nothing here can be read."""
    if not mailbox.second.strip():
        return ""
    second = mailbox_address(mailbox.second, f'mailbox "{mailbox.address}": second address')
    if snapshot.domain(second.domain) is not None:
        raise DirectoryConflict(
            f'mailbox "{mailbox.address}": second address "{second}": "{second.domain}" is served here; it must be one outside'
        )
    return str(second)


def _addresses(snapshot: Snapshot, mailbox: Mailbox) -> list[Statement]:
    sql = "INSERT INTO addresses (key, tenant, mailbox) VALUES (?, ?, ?)"
    return [(sql, (key, mailbox.tenant, mailbox.id)) for key in snapshot.keys_of(mailbox)]


def _credential(mailbox: Mailbox, credential: Credential) -> Statement:
    sql = (
        "INSERT INTO credentials (mailbox, tenant, hash, must_change, changed, scram) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (mailbox)"
        " DO UPDATE SET hash = excluded.hash, must_change = excluded.must_change, changed = excluded.changed, scram = excluded.scram"
    )
    return sql, (mailbox.id, mailbox.tenant, credential.hash, int(credential.must_change), credential.changed, credential.scram)


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
