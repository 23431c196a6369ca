"""Mailboxes, people and their roles, seen by an administrator."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.access.rights import Right, suspended_text
from hornetmail.access.second import APPROVERS
from hornetmail.core.served import Cause, Mailbox, Role
from hornetmail.directory.checks import mailbox_address
from hornetmail.directory.requests import Addresses, Enable, Roles, Wanted
from hornetmail.web.api.operations import ApiError, Caller, Done, MayWait, Operation, Secret, missing
from hornetmail.web.api.people.approvals import asker, in_archive, required, waiting, waits_for
from hornetmail.web.api.rooms import Rooms

ON_MAILBOX = ("roles", "addresses", "enable", "archive_access")
"""Kinds of requests that a mailbox shows."""


class MailboxView(MayWait, frozen=True, kw_only=True):
    """A mailbox. ``served``: its domain is; without that it is only a log-in. ``picked``: covered where the domain's scope is picked (C12).
    ``folders_expire``: the announced date on which what an emergency left in its portal folders goes, in Unix seconds, or 0 (rule 24).
    ``second``: an address outside where its person is told of alarms and emergencies. ``quota_bytes`` and ``quota_messages``: what it may hold in the portal,
    0 without limit, null: as its domain has it. ``archive_closed``: why its person may not use the archive for now, or ``""``; ``waits``: changes that wait for a second person (rule 15)."""

    id: str
    address: str
    domain: str
    tenant: int
    name: str
    aliases: list[str]
    roles: list[Role]
    enabled: bool
    picked: bool
    archive: bool
    second: str
    quota_bytes: int | None
    quota_messages: int | None
    served: bool
    password_set: bool
    must_change: bool
    folders_expire: float = 0.0
    archive_closed: str = ""


class MailboxList(msgspec.Struct, frozen=True):
    """Mailboxes by address."""

    mailboxes: list[MailboxView]


class MailboxFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which mailboxes: of a domain, or all."""

    domain: str = ""


class MailboxName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a mailbox by its address."""

    address: str


class MailboxAdd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new mailbox; without a password it gets a one-time password. ``archive`` false exempts it from archiving, on the record (rule 24)."""

    address: str
    password: Secret = ""
    name: str = ""
    roles: list[Role] = []
    aliases: list[str] = []
    picked: bool = True
    archive: bool = True
    second: str = ""
    quota_bytes: int | None = None
    quota_messages: int | None = None


class MailboxAdded(MayWait, frozen=True):
    """The new mailbox, with its one-time password if the request named none."""

    mailbox: MailboxView
    password: str = ""


class MailboxChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a mailbox to change; fields left out stay."""

    address: str
    name: str | msgspec.UnsetType = msgspec.UNSET
    roles: list[Role] | msgspec.UnsetType = msgspec.UNSET
    aliases: list[str] | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET
    picked: bool | msgspec.UnsetType = msgspec.UNSET
    archive: bool | msgspec.UnsetType = msgspec.UNSET
    second: str | msgspec.UnsetType = msgspec.UNSET
    quota_bytes: int | msgspec.UnsetType | None = msgspec.UNSET
    quota_messages: int | msgspec.UnsetType | None = msgspec.UNSET


class MailboxPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new password for somebody; empty: a one-time password is made (C23)."""

    address: str
    password: Secret = ""


class NewPassword(MayWait, frozen=True):
    """The one-time password, or ``""`` if the request named one."""

    address: str
    password: str = ""


def view(rooms: Rooms, mailbox: Mailbox) -> MailboxView:
    """A mailbox for people and programs."""
    credential = rooms.directory.credential(mailbox.id)
    return MailboxView(
        id=str(mailbox.id),
        address=mailbox.address,
        domain=mailbox.domain,
        tenant=mailbox.tenant,
        name=mailbox.name,
        aliases=list(mailbox.aliases),
        roles=list(mailbox.roles),
        enabled=mailbox.enabled,
        picked=mailbox.picked,
        archive=mailbox.archive,
        second=mailbox.second,
        quota_bytes=mailbox.quota_bytes,
        quota_messages=mailbox.quota_messages,
        served=rooms.directory.domain(mailbox.domain) is not None,
        password_set=credential is not None,
        must_change=credential is not None and credential.must_change,
        folders_expire=rooms.expiry.due(mailbox.id) if rooms.expiry is not None else 0.0,
        archive_closed=suspended_text(mailbox.address, mailbox.suspended) if mailbox.suspended is not None else "",
        waits=waits_for(rooms, ON_MAILBOX, mailbox.tenant, mailbox.address),
    )


def find(rooms: Rooms, caller: Caller, address: str) -> Mailbox:
    """The caller's mailbox with that address. Raises ApiError 404."""
    mailbox = rooms.directory.mailbox(address.strip())
    if mailbox is None or not caller.reaches(mailbox.tenant):
        raise missing(f'mailbox "{address}" is not registered')
    return mailbox


async def list_all(rooms: Rooms, caller: Caller, request: MailboxFilter) -> MailboxList:
    """All, or those of a domain."""
    name = ""
    if request.domain:
        domain = rooms.directory.domain(request.domain.strip().rstrip(".").lower())
        if domain is None or not caller.reaches(domain.tenant):
            raise missing(f'domain "{request.domain}" is not served here')
        name = domain.name
    return MailboxList([view(rooms, mailbox) for mailbox in rooms.directory.mailboxes(name) if caller.reaches(mailbox.tenant)])


async def show(rooms: Rooms, caller: Caller, request: MailboxName) -> MailboxView:
    """One of them."""
    return view(rooms, find(rooms, caller, request.address))


async def add(rooms: Rooms, caller: Caller, request: MailboxAdd) -> MailboxAdded:
    """Log-in and delivery work when this answers. Where a second person is required, its roles wait, and so does its archive if that has mail
    for one of its addresses already (rule 15)."""
    secret = await rooms.access.new_secret(request.password)
    roles = tuple(dict.fromkeys(request.roles))
    address = mailbox_address(request.address, "mailbox")
    domain = rooms.directory.domain(address.domain)
    tenant = domain.tenant if domain is not None else caller.tenant or 1
    second, suspended = required(rooms, tenant), None
    aliases = tuple(request.aliases)
    if second is not None and await in_archive(rooms, Mailbox(0, str(address), address.domain, tenant, aliases)):
        suspended = second.suspension(asker(caller), None, Cause.ADDRESS)
    mailbox = await rooms.directory.add_mailbox(
        request.address,
        credential=secret.credential,
        tenant=caller.tenant,
        name=request.name,
        roles=roles if second is None else (),
        aliases=aliases,
        picked=request.picked,
        archive=request.archive,
        second=request.second,
        quota_bytes=request.quota_bytes,
        quota_messages=request.quota_messages,
        suspended=suspended,
        role_waits=second is not None and bool(roles),
    )
    if second is not None and roles:
        wanted = Roles(mailbox=mailbox.id, address=mailbox.address, add=roles, before=())
        await second.ask(asker(caller), caller.label, mailbox.tenant, wanted, caller.entry)
    if second is not None and suspended is not None:
        await second.ask_archive(asker(caller), caller.label, mailbox, caller.entry)
    shown = view(rooms, mailbox)
    return MailboxAdded(shown, secret.shown, waits=shown.waits)


def _hold(rooms: Rooms, mailbox: Mailbox, fields: dict[str, Any]) -> list[Wanted]:
    """Takes out of the changes what must wait for a second person, and answers it as it will be once the rest is done. Raises DirectoryError
    if the changes could not be made anyway."""
    rooms.directory.mailbox_change(mailbox.id, **fields)
    held: list[Wanted] = []
    base: dict[str, Any] = {"mailbox": mailbox.id, "address": mailbox.address}
    roles: tuple[Role, ...] = tuple(dict.fromkeys(fields.get("roles", mailbox.roles)))
    kept = tuple(role for role in roles if role in mailbox.roles)
    if new := tuple(role for role in roles if role not in mailbox.roles):
        held.append(Roles(add=new, before=kept, **base))
    if "roles" in fields:
        fields["roles"] = kept
    if "aliases" in fields:
        whole = rooms.directory.mailbox_change(mailbox.id, aliases=fields["aliases"]).answer
        known = rooms.directory.snapshot.keys_of(mailbox)
        own = tuple(text for text in whole.aliases if rooms.directory.snapshot.key(text) in known)
        if own != whole.aliases:
            held.append(Addresses(add=tuple(text for text in whole.aliases if text not in own), before=own, **base))
        fields["aliases"] = own
    if fields.get("enabled") and not mailbox.enabled and kept:
        held.append(Enable(before=kept, **base))
        del fields["enabled"]
    return held


async def change(rooms: Rooms, caller: Caller, request: MailboxChange) -> MailboxView:
    """Settings named in the request; the others stay. Where a second person is required, what opens archived mail to somebody waits, and the
    rest is done (rule 15)."""
    mailbox = find(rooms, caller, request.address)
    fields: dict[str, Any] = {
        name: value
        for name in request.__struct_fields__
        if name != "address" and (value := getattr(request, name)) is not msgspec.UNSET
    }
    for name in ("roles", "aliases"):
        if name in fields:
            fields[name] = tuple(fields[name])
    roles, own = fields.get("roles"), caller.person is not None and caller.person.mailbox == mailbox.id
    if own and (fields.get("enabled") is False or (roles is not None and Role.ADMIN not in roles)):
        raise ApiError(409, "conflict", "you would lock yourself out: let another administrator do it")
    second = required(rooms, mailbox.tenant)
    held = _hold(rooms, mailbox, fields) if second is not None else []
    if second is not None and (fields.get("enabled") is False or not APPROVERS & set(fields.get("roles", mailbox.roles))):
        second.must_stay(mailbox, "this")
    changed = await rooms.directory.change_mailbox(mailbox.id, **fields)
    if second is not None:
        for wanted in held:
            await second.ask(asker(caller), caller.label, mailbox.tenant, wanted, caller.entry)
    if not changed.enabled:
        await rooms.sessions.revoke_all(changed.id)
    return view(rooms, changed)


async def remove(rooms: Rooms, caller: Caller, request: MailboxName) -> Done:
    """Its log-in, addresses and roles; mail in portal and archive stays until it expires."""
    mailbox = find(rooms, caller, request.address)
    if caller.person is not None and caller.person.mailbox == mailbox.id:
        raise ApiError(409, "conflict", "you would lock yourself out: let another administrator do it")
    if rooms.second is not None:
        rooms.second.must_stay(mailbox, "removing it")
    await rooms.sessions.revoke_all(mailbox.id)
    await rooms.directory.remove_mailbox(mailbox.id)
    return Done()


async def password(rooms: Rooms, caller: Caller, request: MailboxPassword) -> NewPassword:
    """Set by an administrator (C23); web sessions of that person end. Where a second person is required, the archive is closed to that person
    until one approves (rule 15)."""
    mailbox = find(rooms, caller, request.address)
    second = required(rooms, mailbox.tenant)
    if second is None:
        return NewPassword(mailbox.address, await rooms.access.set_password(mailbox.id, request.password))
    second.must_stay(mailbox, "a password that somebody else knows")
    suspended = second.suspension(asker(caller), mailbox, Cause.PASSWORD)
    shown = await rooms.access.set_password(mailbox.id, request.password, suspended=suspended)
    waits = await second.ask_archive(asker(caller), caller.label, find(rooms, caller, mailbox.address), caller.entry)
    return NewPassword(mailbox.address, shown, waits=waiting([waits] if waits is not None else []))


OPERATIONS = (
    Operation("mailbox.list", "GET", "/mailboxes", MailboxFilter, MailboxList, Right.ADMINISTER, "List mailboxes", list_all),
    Operation("mailbox.show", "GET", "/mailboxes/{address}", MailboxName, MailboxView, Right.ADMINISTER, "Show a mailbox", show),
    Operation("mailbox.add", "POST", "/mailboxes", MailboxAdd, MailboxAdded, Right.ADMINISTER, "Add a mailbox", add),
    Operation(
        "mailbox.change",
        "PATCH",
        "/mailboxes/{address}",
        MailboxChange,
        MailboxView,
        Right.ADMINISTER,
        "Change a mailbox",
        change,
    ),
    Operation(
        "mailbox.remove", "DELETE", "/mailboxes/{address}", MailboxName, Done, Right.ADMINISTER, "Remove a mailbox", remove
    ),
    Operation(
        "mailbox.password",
        "PUT",
        "/mailboxes/{address}/password",
        MailboxPassword,
        NewPassword,
        Right.ADMINISTER,
        "Set a password",
        password,
    ),
)
