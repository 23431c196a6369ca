"""The directory with its changes: into ``control.db`` first, then a new snapshot, then the bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from hornetmail.core.address import domain_of
from hornetmail.core.events import DirectoryChanged
from hornetmail.core.ids import IdSource
from hornetmail.core.served import Domain, Mailbox, Role, Suspension
from hornetmail.db.pool import Database
from hornetmail.directory.checks import (
    DirectoryConflict,
    DirectoryError,
    DirectoryMissing,
    checked_domain,
    mailbox_address,
)
from hornetmail.directory.requests import End, Request, Statement, decode_request, history
from hornetmail.directory.snapshot import Credential, Snapshot, taken
from hornetmail.interfaces import IBus, IDirectory

__all__ = ["Credential", "DirectoryConflict", "DirectoryError", "DirectoryMissing", "DirectoryStore"]

T = TypeVar("T")

_DOMAIN = msgspec.json.Decoder(Domain)
_MAILBOX = msgspec.json.Decoder(Mailbox)


@implementer(IDirectory)
class DirectoryStore:
    """Reads answer at once from the snapshot in force; changes are durable, and in force, when they return.

    Changes raise ``DirectoryError`` (not understood), ``DirectoryMissing`` or ``DirectoryConflict``. They run one after the other.
    """

    def __init__(self, database: Database, bus: IBus, ids: IdSource) -> None:
        self._database = database
        self._bus = bus
        self._ids = ids
        self._lock = DeferredLock()
        self.snapshot = Snapshot()

    @classmethod
    async def open(cls, database: Database, bus: IBus, ids: IdSource) -> DirectoryStore:
        """With the newest snapshot."""
        store = cls(database, bus, ids)
        await store.reload()
        return store

    async def reload(self) -> None:
        """Read everything anew, if ``control.db`` has another version than memory."""
        async with self._changing():
            found = await self._database.read(_read_all, self.snapshot.version)
            if found is not None:
                self.snapshot = found
                self._bus.publish(DirectoryChanged(found.version))

    # --- IDirectory

    @property
    def version(self) -> int:
        """Grows with each change."""
        return self.snapshot.version

    def domain(self, name: str) -> Domain | None:
        """By name or alias."""
        return self.snapshot.domain(name)

    def domains(self) -> Sequence[Domain]:
        """All, by name."""
        return self.snapshot.domains

    def mailbox(self, address: str) -> Mailbox | None:
        """By address or alias, any case (C25)."""
        return self.snapshot.mailbox(address)

    def mailbox_by_id(self, identifier: int) -> Mailbox | None:
        """By its stable ID."""
        return self.snapshot.mailbox_by_id(identifier)

    def mailboxes(self, domain: str = "") -> Sequence[Mailbox]:
        """All, or those of a domain, by address."""
        return self.snapshot.mailboxes(domain)

    def covered(self, address: str) -> Mailbox | None:
        """The mailbox, if the service covers it (C11, C12)."""
        return self.snapshot.covered(address)

    # --- further answers from memory

    def credential(self, identifier: int) -> Credential | None:
        """The password of a mailbox, if one is set."""
        return self.snapshot.credential(identifier)

    def addresses_of(self, mailbox: Mailbox) -> tuple[str, ...]:
        """Keys of every own address (A43)."""
        return self.snapshot.addresses_of(mailbox)

    def tenants(self) -> dict[int, str]:
        """Names by number."""
        return dict(self.snapshot.tenants)

    def setting(self, name: str, default: str, tenant: int = 0) -> str:
        """A setting of a tenant, else of the installation (tenant 0), else the default."""
        settings = self.snapshot.settings
        return settings.get((tenant, name), settings.get((0, name), default))

    # --- changes

    async def add_tenant(self, name: str) -> int:
        """A customer that owns domains; its number."""
        async with self._changing():
            if not name.strip() or name in self.snapshot.tenants.values():
                raise DirectoryConflict(f'tenant "{name}": there is one already, or it has no name')
            number = max(self.snapshot.tenants, default=0) + 1
            await self._database.run(_execute, [("INSERT INTO tenants (tenant, name) VALUES (?, ?)", (number, name))])
            self._publish(self.snapshot.with_tenant(number, name))
            return number

    async def add_domain(self, domain: Domain) -> Domain:
        """Served from now on (C11)."""
        async with self._changing():
            domain = checked_domain(domain)
            if self.snapshot.domain(domain.name) is not None:
                raise DirectoryConflict(f'domain "{domain.name}": served already')
            self._check_domain(domain)
            statements = [
                ("INSERT INTO domains (name, tenant, value) VALUES (?, ?, ?)", (domain.name, domain.tenant, _json(domain))),
                *_names(domain),
            ]
            await self._database.run(_execute, statements)
            self._publish(self.snapshot.with_domain(domain))
            return domain

    async def change_domain(self, name: str, **changes: Any) -> Domain:
        """Replace fields of ``Domain``; its name and tenant stay."""

        def work(snapshot: Snapshot) -> tuple[list[Statement], Snapshot, Domain]:
            domain, statements = self.domain_change(name, **changes)
            return statements, snapshot.with_domain(domain), domain

        return await self.transact(work)

    def domain_change(self, name: str, **changes: Any) -> tuple[Domain, list[Statement]]:
        """What ``change_domain`` would write now, checked; for use within ``transact``."""
        old = self._domain(name)
        if {"name", "tenant"} & changes.keys():
            raise DirectoryError(f'domain "{old.name}": name and tenant stay')
        domain = checked_domain(msgspec.structs.replace(old, **changes))
        self._check_domain(domain)
        return domain, [
            ("UPDATE domains SET value = ? WHERE name = ?", (_json(domain), domain.name)),
            ("DELETE FROM domain_names WHERE domain = ?", (domain.name,)),
            *_names(domain),
        ]

    async def remove_domain(self, name: str) -> None:
        """Refused while mailboxes are registered in it."""
        async with self._changing():
            domain = self._domain(name)
            if left := len(self.snapshot.mailboxes(domain.name)):
                raise DirectoryConflict(
                    f'domain "{domain.name}": {left} mailbox{"es are" if left > 1 else " is"} still registered'
                )
            aliased = [
                one.address
                for one in self.snapshot.mailboxes()
                if any(domain_of(key) == domain.name for key in self.snapshot.keys_of(one))
            ]
            if aliased:
                raise DirectoryConflict(f'domain "{domain.name}": mailbox "{aliased[0]}" still has an alias in it')
            await self._database.run(
                _execute,
                [
                    ("DELETE FROM domain_names WHERE domain = ?", (domain.name,)),
                    ("DELETE FROM domains WHERE name = ?", (domain.name,)),
                ],
            )
            self._publish(self.snapshot.without_domain(domain.name))

    async def add_mailbox(
        self,
        address: str,
        *,
        credential: Credential | None = None,
        tenant: int = 0,
        name: str = "",
        roles: Sequence[Role] = (),
        aliases: Sequence[str] = (),
        enabled: bool = True,
        picked: bool = True,
        archive: bool = True,
        suspended: Suspension | None = None,
        role_waits: bool = False,
        second: str = "",
    ) -> Mailbox:
        """Registered from now on. In a domain that is not served it needs a role, and is a log-in only. ``tenant`` 0: the domain's, or 1.
        ``role_waits``: it will get one once a second person approves."""
        async with self._changing():
            wanted = mailbox_address(address, "mailbox")
            domain = self.snapshot.domain(wanted.domain)
            if domain is None and not roles and not role_waits:
                raise DirectoryMissing(f'mailbox "{wanted}": domain "{wanted.domain}" is not served here')
            if domain is not None and tenant not in (0, domain.tenant):
                raise DirectoryMissing(f'mailbox "{wanted}": domain "{wanted.domain}" is not served here')
            mailbox = Mailbox(
                id=self._ids.next(),
                address=str(wanted),
                domain=wanted.domain,
                tenant=domain.tenant if domain is not None else tenant or 1,
                aliases=tuple(aliases),
                roles=tuple(dict.fromkeys(roles)),
                name=name.strip()[:200],
                enabled=enabled,
                picked=picked,
                archive=archive,
                suspended=suspended,
                second=second,
            )
            mailbox = self._checked_mailbox(mailbox)
            statements = [
                (
                    "INSERT INTO mailboxes (id, tenant, domain, value) VALUES (?, ?, ?, ?)",
                    (mailbox.id, mailbox.tenant, mailbox.domain, _json(mailbox)),
                ),
                *self._addresses(mailbox),
            ]
            if credential is not None:
                statements.append(_credential(mailbox, credential))
            await self._database.run(_execute, statements)
            snapshot = self.snapshot.with_mailbox(mailbox)
            self._publish(snapshot.with_credential(mailbox.id, credential) if credential is not None else snapshot)
            return mailbox

    async def change_mailbox(self, identifier: int, **changes: Any) -> Mailbox:
        """Replace fields of ``Mailbox``; its ID, address, domain and tenant stay."""

        def work(snapshot: Snapshot) -> tuple[list[Statement], Snapshot, Mailbox]:
            mailbox, statements = self.mailbox_change(identifier, **changes)
            return statements, snapshot.with_mailbox(mailbox), mailbox

        return await self.transact(work)

    def mailbox_change(self, identifier: int, **changes: Any) -> tuple[Mailbox, list[Statement]]:
        """What ``change_mailbox`` would write now, checked; for use within ``transact``."""
        old = self._mailbox(identifier)
        if {"id", "address", "domain", "tenant"} & changes.keys():
            raise DirectoryError(f'mailbox "{old.address}": ID, address and tenant stay')
        mailbox = self._checked_mailbox(msgspec.structs.replace(old, **changes))
        if old.roles and not mailbox.roles and self.snapshot.domain(mailbox.domain) is None:
            raise DirectoryConflict(f'mailbox "{mailbox.address}": its domain is not served here, so it needs a role')
        return mailbox, [
            ("UPDATE mailboxes SET value = ? WHERE id = ?", (_json(mailbox), mailbox.id)),
            ("DELETE FROM addresses WHERE mailbox = ?", (mailbox.id,)),
            *self._addresses(mailbox),
        ]

    async def remove_mailbox(self, identifier: int) -> None:
        """Its log-in, addresses and roles."""
        async with self._changing():
            mailbox = self._mailbox(identifier)
            tables = (("credentials", "mailbox"), ("addresses", "mailbox"), ("mailboxes", "id"))
            await self._database.run(
                _execute, [(f"DELETE FROM {table} WHERE {column} = ?", (mailbox.id,)) for table, column in tables]
            )
            self._publish(self.snapshot.without_mailbox(mailbox.id))

    async def set_credential(
        self,
        identifier: int,
        credential: Credential,
        *,
        instead_of: Credential | None = None,
        suspended: Suspension | None = None,
    ) -> bool:
        """Set a password hash. With ``instead_of``, only while that one is in force; whether it was set. With ``suspended``, the archive is
        closed to that person by the same transaction."""
        async with self._changing():
            mailbox = self._mailbox(identifier)
            if instead_of is not None and self.snapshot.credential(identifier) != instead_of:
                return False
            statements, snapshot = [_credential(mailbox, credential)], self.snapshot.with_credential(identifier, credential)
            if suspended is not None:
                mailbox, more = self.mailbox_change(identifier, suspended=suspended)
                statements, snapshot = [*statements, *more], snapshot.with_mailbox(mailbox)
            await self._database.run(_execute, statements)
            self._publish(snapshot)
            return True

    async def set_setting(self, name: str, value: str, tenant: int = 0) -> None:
        """Keep a setting of a tenant, or of the installation (0)."""
        statement = self.setting_change(name, value, tenant)
        await self.transact(lambda snapshot: ([statement], snapshot.with_setting(tenant, name, value), None))

    def setting_change(self, name: str, value: str, tenant: int) -> Statement:
        """What ``set_setting`` would write; for use within ``transact``."""
        sql = "INSERT INTO settings (tenant, name, value) VALUES (?, ?, ?) ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value"
        return sql, (tenant, name, value)

    async def requests(self, tenant: int = 0, limit: int = 100) -> Sequence[tuple[Request, End | None]]:
        """The newest requests of a tenant (0: of all), newest first, with their end if they have one."""
        return await history(self._database, tenant, limit)

    async def transact(self, work: Callable[[Snapshot], tuple[Sequence[Statement], Snapshot, T]]) -> T:
        """One transaction that follows from the state then: ``work`` gets the snapshot in force, which nothing changes meanwhile, and answers
        what to write, the snapshot after that, and what to return. What it raises changes nothing."""
        async with self._changing():
            statements, snapshot, answer = work(self.snapshot)
            await self._database.run(_execute, statements)
            self._publish(snapshot)
            return answer

    # --- inside

    def _changing(self) -> _Held:
        return _Held(self._lock)

    def _publish(self, snapshot: Snapshot) -> None:
        snapshot.version = self.snapshot.version + 1
        self.snapshot = snapshot
        self._bus.publish(DirectoryChanged(snapshot.version))

    def _domain(self, name: str) -> Domain:
        domain = self.snapshot.domain(name)
        if domain is None:
            raise DirectoryMissing(f'domain "{name}" is not served here')
        return domain

    def _mailbox(self, identifier: int) -> Mailbox:
        mailbox = self.snapshot.mailbox_by_id(identifier)
        if mailbox is None:
            raise DirectoryMissing(f"mailbox {identifier} is not registered")
        return mailbox

    def _check_domain(self, domain: Domain) -> None:
        if domain.tenant not in self.snapshot.tenants:
            raise DirectoryMissing(f'domain "{domain.name}": there is no tenant {domain.tenant}')
        if name := taken(self.snapshot, (domain.name, *domain.aliases), domain.name):
            raise DirectoryConflict(f'domain "{domain.name}": "{name}" belongs to another domain')
        for mailbox in self.snapshot.mailboxes():
            if mailbox.domain in domain.aliases:
                raise DirectoryConflict(
                    f'domain "{domain.name}": mailbox "{mailbox.address}" is registered at its alias "{mailbox.domain}"'
                )
            if mailbox.domain == domain.name and mailbox.tenant != domain.tenant:
                raise DirectoryConflict(f'domain "{domain.name}": mailbox "{mailbox.address}" in it belongs to another tenant')

    def _checked_mailbox(self, mailbox: Mailbox) -> Mailbox:
        """With aliases folded, and none of its addresses another mailbox's."""
        domain = self.snapshot.domain(mailbox.domain)
        if domain is not None and domain.name != mailbox.domain:
            raise DirectoryConflict(
                f'mailbox "{mailbox.address}": "{mailbox.domain}" is an alias, register it in "{domain.name}"'
            )
        aliases: list[str] = []
        for text in mailbox.aliases:
            alias = mailbox_address(text, f'mailbox "{mailbox.address}": alias')
            served = self.snapshot.domain(alias.domain)
            if served is None or served.tenant != mailbox.tenant:
                raise DirectoryMissing(
                    f'mailbox "{mailbox.address}": alias "{alias}": domain "{alias.domain}" is not served here'
                )
            aliases.append(str(alias))
        own = self.snapshot.key(mailbox.address)
        aliases = [alias for key, alias in {self.snapshot.key(alias): alias for alias in aliases}.items() if key != own]
        for text in (mailbox.address, *aliases):
            other = self.snapshot.mailbox(text)
            if other is not None and other.id != mailbox.id:
                same = other.address.casefold() == text.casefold()
                whose = "registered already" if same else f'an address of "{other.address}"'
                raise DirectoryConflict(f'mailbox "{text}": {whose}')
        second = self._checked_second(mailbox)
        return msgspec.structs.replace(mailbox, aliases=tuple(aliases), roles=tuple(dict.fromkeys(mailbox.roles)), second=second)

    def _checked_second(self, mailbox: Mailbox) -> str:
        """The second address: outside, for it is there for the time when nothing here can be read."""
        if not mailbox.second.strip():
            return ""
        second = mailbox_address(mailbox.second, f'mailbox "{mailbox.address}": second address')
        if self.snapshot.domain(second.domain) is not None:
            raise DirectoryConflict(
                f'mailbox "{mailbox.address}": second address "{second}": "{second.domain}" is served here; it must be one outside'
            )
        return str(second)

    def _addresses(self, mailbox: Mailbox) -> list[Statement]:
        sql = "INSERT INTO addresses (key, tenant, mailbox) VALUES (?, ?, ?)"
        return [(sql, (key, mailbox.tenant, mailbox.id)) for key in self.snapshot.keys_of(mailbox)]


class _Held:
    """A DeferredLock as an ``async with`` block."""

    def __init__(self, lock: DeferredLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


def _names(domain: Domain) -> list[Statement]:
    sql = "INSERT INTO domain_names (name, tenant, domain) VALUES (?, ?, ?)"
    return [(sql, (name, domain.tenant, domain.name)) for name in (domain.name, *domain.aliases)]


def _credential(mailbox: Mailbox, credential: Credential) -> Statement:
    sql = (
        "INSERT INTO credentials (mailbox, tenant, hash, must_change, changed) VALUES (?, ?, ?, ?, ?) ON CONFLICT (mailbox)"
        " DO UPDATE SET hash = excluded.hash, must_change = excluded.must_change, changed = excluded.changed"
    )
    return sql, (mailbox.id, mailbox.tenant, credential.hash, int(credential.must_change), credential.changed)


def _execute(cursor: Any, statements: Sequence[Statement]) -> None:
    for sql, values in statements:
        cursor.execute(sql, values)
    cursor.execute("UPDATE directory_version SET version = version + 1 WHERE tenant = 0", ())


def _read_all(cursor: Any, known: int) -> Snapshot | None:
    """The whole directory, or None if its version is ``known``."""
    cursor.execute("SELECT version FROM directory_version WHERE tenant = 0", ())
    version = int(cursor.fetchone()[0])
    if version == known:
        return None
    cursor.execute("SELECT tenant, name FROM tenants", ())
    tenants = {int(tenant): str(name) for tenant, name in cursor.fetchall()}
    cursor.execute("SELECT value FROM domains", ())
    domains = [_DOMAIN.decode(value) for (value,) in cursor.fetchall()]
    cursor.execute("SELECT value FROM mailboxes", ())
    mailboxes = [_MAILBOX.decode(value) for (value,) in cursor.fetchall()]
    cursor.execute("SELECT mailbox, hash, must_change, changed FROM credentials", ())
    credentials = {int(row[0]): Credential(row[1], bool(row[2]), float(row[3])) for row in cursor.fetchall()}
    cursor.execute("SELECT tenant, name, value FROM settings", ())
    settings = {(int(tenant), str(name)): str(value) for tenant, name, value in cursor.fetchall()}
    open_ones = "SELECT number, value FROM requests WHERE number NOT IN (SELECT number FROM request_ends) ORDER BY number"
    cursor.execute(open_ones, ())
    requests = {int(number): decode_request(value) for number, value in cursor.fetchall()}
    cursor.execute("SELECT COALESCE(MAX(number), 0) FROM requests", ())
    last_request = int(cursor.fetchone()[0])
    return Snapshot(
        version,
        tenants,
        {domain.name: domain for domain in domains},
        {mailbox.id: mailbox for mailbox in mailboxes},
        credentials,
        settings,
        requests,
        last_request,
    )
