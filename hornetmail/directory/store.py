"""The directory with its changes: into ``control.db`` first, then a new snapshot, then the bus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from hornetmail.core.events import DirectoryChanged
from hornetmail.core.ids import IdSource
from hornetmail.core.served import Domain, Mailbox, Suspension
from hornetmail.db.pool import Database
from hornetmail.directory.changes import (
    Change,
    NewMailbox,
    added_domain,
    added_mailbox,
    added_tenant,
    changed_domain,
    changed_mailbox,
    made_setting,
    removed_domain,
    removed_mailbox,
    set_credential,
)
from hornetmail.directory.checks import DirectoryConflict, DirectoryError, DirectoryMissing
from hornetmail.directory.requests import End, Request, decode_request, history
from hornetmail.directory.schema import Statement
from hornetmail.directory.snapshot import Credential, Snapshot
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory

__all__ = ["Credential", "DirectoryConflict", "DirectoryError", "DirectoryMissing", "DirectoryStore", "NewMailbox"]

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
                names = {domain.name for snapshot in (self.snapshot, found) for domain in snapshot.domains}
                self.snapshot = found
                self._bus.publish(DirectoryChanged(found.version, frozenset(names), frozenset(names)))

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

    def with_roles(self, tenant: int) -> Sequence[Mailbox]:
        """Mailboxes of a tenant that have a role, by address; found without looking at the others."""
        return self.snapshot.with_roles(tenant)

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
        return self.snapshot.setting(name, default, tenant)

    # --- changes

    async def add_tenant(self, name: str) -> int:
        """A customer that owns domains; its number."""
        return await self.transact(lambda snapshot: added_tenant(snapshot, name))

    async def add_domain(self, domain: Domain) -> Domain:
        """Served from now on (C11)."""
        return await self.transact(lambda snapshot: added_domain(snapshot, domain))

    async def change_domain(self, name: str, **changes: Any) -> Domain:
        """Replace fields of ``Domain``; its name and tenant stay."""
        return await self.transact(lambda snapshot: changed_domain(snapshot, name, **changes))

    def domain_change(self, name: str, **changes: Any) -> Change[Domain]:
        """What ``change_domain`` would do now, checked and not done."""
        return changed_domain(self.snapshot, name, **changes)

    async def remove_domain(self, name: str) -> None:
        """Refused while mailboxes are registered in it."""
        await self.transact(lambda snapshot: removed_domain(snapshot, name))

    async def add_mailbox(self, address: str, **settings: Any) -> Mailbox:
        """Registered from now on; ``settings`` are fields of ``NewMailbox``, which says what they mean."""
        new = NewMailbox(address=address, **settings)
        return await self.transact(lambda snapshot: added_mailbox(snapshot, self._ids.next(), new))

    async def add_mailboxes(self, new: Sequence[NewMailbox]) -> list[Mailbox | DirectoryError]:
        """Many in one transaction: each as it is registered, or why it is not; the others are all the same. A few hundred at a time: all of them
        are checked in one turn of the reactor."""
        return await self.transact(lambda snapshot: self._added(snapshot, new))

    def mailboxes_addition(self, new: Sequence[NewMailbox]) -> list[Mailbox | DirectoryError]:
        """What ``add_mailboxes`` would answer now; nothing is done."""
        return self._added(self.snapshot, new).answer

    def _added(self, snapshot: Snapshot, new: Sequence[NewMailbox]) -> Change[list[Mailbox | DirectoryError]]:
        statements: list[Statement] = []
        answers: list[Mailbox | DirectoryError] = []
        for one in new:
            try:
                change = added_mailbox(snapshot, self._ids.next(), one)
            except DirectoryError as error:
                answers.append(error)
                continue
            statements += change.statements
            snapshot = change.snapshot
            answers.append(change.answer)
        return Change(statements, snapshot, answers)

    async def change_mailbox(self, identifier: int, **changes: Any) -> Mailbox:
        """Replace fields of ``Mailbox``; its ID, address, domain and tenant stay."""
        return await self.transact(lambda snapshot: changed_mailbox(snapshot, identifier, **changes))

    def mailbox_change(self, identifier: int, **changes: Any) -> Change[Mailbox]:
        """What ``change_mailbox`` would do now, checked and not done."""
        return changed_mailbox(self.snapshot, identifier, **changes)

    async def remove_mailbox(self, identifier: int) -> None:
        """Its log-in, addresses and roles."""
        await self.transact(lambda snapshot: removed_mailbox(snapshot, identifier))

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

        def work(snapshot: Snapshot) -> Change[bool]:
            change = set_credential(snapshot, identifier, credential, suspended)
            if instead_of is not None and snapshot.credential(identifier) != instead_of:
                return Change((), snapshot, False)
            return Change(change.statements, change.snapshot, True)

        return await self.transact(work)

    async def set_setting(self, name: str, value: str, tenant: int = 0) -> None:
        """Keep a setting of a tenant, or of the installation (0)."""
        await self.transact(lambda snapshot: made_setting(snapshot, name, value, tenant))

    async def change_setting(self, name: str, change: Callable[[str], str], tenant: int = 0) -> None:
        """Make of a setting's value (``""``: none) another, while nobody else changes it; what ``change`` raises changes nothing."""

        def work(snapshot: Snapshot) -> Change[None]:
            return made_setting(snapshot, name, change(snapshot.settings.get((tenant, name), "")), tenant)

        await self.transact(work)

    async def requests(self, tenant: int = 0, limit: int = 100) -> Sequence[tuple[Request, End | None]]:
        """The newest requests of a tenant (0: of all), newest first, with their end if they have one."""
        return await history(self._database, tenant, limit)

    async def transact(self, work: Callable[[Snapshot], Change[T]]) -> T:
        """One transaction that follows from the state then: ``work`` gets the snapshot in force, which nothing changes meanwhile. What it
        raises changes nothing, and neither does a change that writes nothing."""
        async with self._changing():
            statements, snapshot, answer = work(self.snapshot)
            if statements:
                await self._database.run(_execute, statements)
                self._publish(snapshot)
            return answer

    # --- inside

    def _changing(self) -> _Held:
        return _Held(self._lock)

    def _publish(self, changed: Snapshot) -> None:
        self.snapshot = changed.in_force(self.snapshot.version + 1)
        self._bus.publish(DirectoryChanged(self.snapshot.version, changed.domains_changed, changed.people_changed))


class _Held:
    """A DeferredLock as an ``async with`` block."""

    def __init__(self, lock: DeferredLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


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
    cursor.execute("SELECT mailbox, hash, must_change, changed, scram FROM credentials", ())
    credentials = {int(row[0]): Credential(row[1], bool(row[2]), float(row[3]), row[4]) for row in cursor.fetchall()}
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
