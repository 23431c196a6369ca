"""The second person (rule 15): what waits, who approves it, and whether it is asked for at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hornetmail.access.rights import Right
from hornetmail.access.second import SecondPerson
from hornetmail.core.archive.archived import ArchiveError, Refused
from hornetmail.core.served import Domain, Mailbox, Person, Scope
from hornetmail.directory.checks import checked_domain
from hornetmail.directory.requests import DomainAliases, End, EndState, Request, SwitchOff
from hornetmail.web.api.operations import ApiError, Caller, MayWait, Operation, Waiting, missing, need
from hornetmail.web.api.rooms import Rooms


class RequestView(msgspec.Struct, frozen=True, kw_only=True):
    """A request. ``state``: ``waiting``, or how it ended: ``approved``, ``refused``, ``withdrawn``, ``expired``, ``void``, ``replaced``.
    ``by``: who asked. ``entry``: the audit log's number of the asking. ``obstacle``: why the caller may not approve it, ``""`` if that is
    possible. ``own``: the caller asked, and may withdraw it. Times in Unix seconds, 0 for none."""

    number: int
    tenant: int
    kind: str
    text: str
    subject: str
    by: str
    asked: float
    expires: float
    entry: int
    state: str = "waiting"
    ended: float = 0.0
    ended_by: str = ""
    reason: str = ""
    obstacle: str = ""
    own: bool = False


class RequestList(msgspec.Struct, frozen=True):
    """Requests of the caller's tenant."""

    requests: list[RequestView]


class RequestFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Those that wait, oldest first; with ``all`` the newest hundred with their ends, newest first."""

    all: bool = False


class RequestName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a request."""

    number: int


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a request, and says why not."""

    number: int
    reason: str = ""


class ArchiveAccessFor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose archive access is to be asked for."""

    address: str


class Asked(MayWait, frozen=True):
    """``waits`` is empty if it was done at once, because no second person is required."""


class SecondPersonView(MayWait, frozen=True, kw_only=True):
    """``on``: required in that tenant. ``days``: how long a request waits. ``approvers``: who could approve."""

    tenant: int
    on: bool
    days: int
    approvers: list[str]


class TenantName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a tenant; 0: the caller's own, the first one for the local administrator."""

    tenant: int = 0


class SecondPersonChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; fields left out stay. Turning it off waits for a second person itself."""

    on: bool | msgspec.UnsetType = msgspec.UNSET
    days: int | msgspec.UnsetType = msgspec.UNSET
    tenant: int = 0


# --- for the operations that may have to wait


def asker(caller: Caller) -> Person:
    """Who asks. Raises ApiError 401."""
    if caller.acting is None:
        raise ApiError(401, "login_needed", "log in first")
    return caller.acting


def required(rooms: Rooms, tenant: int) -> SecondPerson | None:
    """The second person's room if that tenant requires one."""
    return rooms.second if rooms.second is not None and rooms.second.required(tenant) else None


def waiting(requests: Sequence[Request]) -> list[Waiting]:
    """Requests as operations answer them."""
    return [Waiting(one.number, one.kind, one.wanted.text(), one.entry) for one in requests]


def waits_for(rooms: Rooms, kinds: Sequence[str], tenant: int, subject: str) -> list[Waiting]:
    """What waits of these kinds for that subject."""
    if rooms.second is None:
        return []
    found = rooms.second.open_requests(tenant)
    return waiting([one for one in found if one.kind in kinds and one.wanted.subject == subject])


async def in_archive(rooms: Rooms, mailbox: Mailbox) -> bool:
    """Whether the archive has mail that a mailbox with these addresses would open; yes if that cannot be found out."""
    addresses = frozenset(rooms.directory.addresses_of(mailbox))
    if rooms.archive is None or (await rooms.archive.figures()).locked:
        return True
    try:
        await rooms.archive.flush()
        page = await rooms.archive.search(Scope(mailbox.tenant, addresses, content=False), "", limit=1)
    except ArchiveError:
        return True
    return bool(page.total)


def held_names(rooms: Rooms, domain: Domain, fields: dict[str, Any]) -> tuple[str, ...]:
    """Takes the aliases out of a domain's changes that must wait, since its people would get archived mail by them. Raises DirectoryError."""
    if "aliases" not in fields or required(rooms, domain.tenant) is None or not rooms.directory.mailboxes(domain.name):
        return ()
    whole = checked_domain(msgspec.structs.replace(domain, **fields)).aliases
    fields["aliases"] = tuple(name for name in whole if name in domain.aliases)
    return tuple(name for name in whole if name not in domain.aliases)


async def ask_names(rooms: Rooms, caller: Caller, domain: Domain, add: tuple[str, ...]) -> None:
    """Ask for what ``held_names`` took out. Raises DirectoryError if it could not be."""
    if add:
        rooms.directory.domain_change(domain.name, aliases=(*domain.aliases, *add))
        wanted = DomainAliases(domain=domain.name, add=add, before=domain.aliases)
        await need(rooms.second, "web").ask(asker(caller), caller.label, domain.tenant, wanted, caller.entry)


# --- operations


def view(rooms: Rooms, caller: Caller, request: Request, end: End | None = None) -> RequestView:
    """A request for people and programs."""
    over = end is None and rooms.clock.seconds() >= request.expires
    return RequestView(
        number=request.number,
        tenant=request.tenant,
        kind=request.kind,
        text=request.wanted.text(),
        subject=request.wanted.subject,
        by=request.by,
        asked=request.asked,
        expires=request.expires,
        entry=request.entry,
        state=end.state.value if end is not None else EndState.EXPIRED.value if over else "waiting",
        ended=end.at if end is not None else 0.0,
        ended_by=end.by if end is not None else "",
        reason=end.reason if end is not None else "",
        obstacle=need(rooms.second, "web").obstacle(caller.person, request) if end is None else "",
        own=caller.acting is not None and caller.acting.mailbox == request.asker,
    )


async def list_all(rooms: Rooms, caller: Caller, request: RequestFilter) -> RequestList:
    """What waits in the caller's tenant, or what became of the newest."""
    second = need(rooms.second, "web")
    if request.all:
        return RequestList([view(rooms, caller, one, end) for one, end in await second.history(caller.tenant)])
    return RequestList([view(rooms, caller, one) for one in second.open_requests(caller.tenant)])


async def approve(rooms: Rooms, caller: Caller, request: RequestName) -> RequestView:
    """By somebody else than who asked and who gains; it is done when this answers, in one transaction with the request's end."""
    if caller.person is None:
        raise Refused("approving needs a person: name one with --as ADDRESS")
    done = await need(rooms.second, "web").approve(caller.person, request.number, caller.entry)
    end = End(state=EndState.APPROVED, at=rooms.clock.seconds(), by=caller.person.address, entry=caller.entry)
    return view(rooms, caller, done, end)


async def refuse(rooms: Rooms, caller: Caller, request: Refusal) -> RequestView:
    """It will not be done; whoever asked withdraws it so."""
    second, person = need(rooms.second, "web"), asker(caller)
    done = await second.refuse(person, caller.label, request.number, request.reason, caller.entry)
    state = EndState.WITHDRAWN if person.mailbox == done.asker else EndState.REFUSED
    end = End(state=state, at=rooms.clock.seconds(), by=caller.label, reason=request.reason, entry=caller.entry)
    return view(rooms, caller, done, end)


async def ask_archive(rooms: Rooms, caller: Caller, request: ArchiveAccessFor) -> Asked:
    """Ask once more that the archive be opened to somebody: the request expired, or was refused."""
    mailbox = rooms.directory.mailbox(request.address.strip())
    if mailbox is None or not caller.reaches(mailbox.tenant):
        raise missing(f'mailbox "{request.address}" is not registered')
    made = await need(rooms.second, "web").ask_archive(asker(caller), caller.label, mailbox, caller.entry)
    return Asked(waits=waiting([made] if made is not None else []))


def _tenant(rooms: Rooms, caller: Caller, wanted: int) -> int:
    tenant = wanted or caller.tenant or 1
    if tenant not in rooms.directory.tenants() or not caller.reaches(tenant):
        raise missing(f"$.tenant: there is no tenant {tenant}")
    return tenant


def _shown(rooms: Rooms, tenant: int) -> SecondPersonView:
    second = need(rooms.second, "web")
    return SecondPersonView(
        tenant=tenant,
        on=second.required(tenant),
        days=second.days(tenant),
        approvers=[one.address for one in second.approvers(tenant)],
        waits=waits_for(rooms, ("second_person_off",), tenant, ""),
    )


async def show(rooms: Rooms, caller: Caller, request: TenantName) -> SecondPersonView:
    """Whether the tenant requires a second person, and who that could be."""
    return _shown(rooms, _tenant(rooms, caller, request.tenant))


async def change(rooms: Rooms, caller: Caller, request: SecondPersonChange) -> SecondPersonView:
    """Turned on at once, if two people could approve; turned off only by a second person."""
    tenant, second = _tenant(rooms, caller, request.tenant), need(rooms.second, "web")
    if request.days is not msgspec.UNSET:
        await second.set_days(tenant, request.days)
    if request.on is True and not second.required(tenant):
        await second.turn_on(tenant)
    elif request.on is False and second.required(tenant):
        await second.ask(asker(caller), caller.label, tenant, SwitchOff(tenant=tenant), caller.entry)
    return _shown(rooms, tenant)


_APPROVE, _ADMINISTER = Right.APPROVE, Right.ADMINISTER

OPERATIONS = (
    Operation(
        "approval.list", "GET", "/approvals", RequestFilter, RequestList, _APPROVE, "List what waits for approval", list_all
    ),
    Operation(
        "approval.approve",
        "POST",
        "/approvals/{number}/approve",
        RequestName,
        RequestView,
        _APPROVE,
        "Approve a request",
        approve,
    ),
    Operation(
        "approval.refuse", "POST", "/approvals/{number}/refuse", Refusal, RequestView, _APPROVE, "Refuse a request", refuse
    ),
    Operation(
        "approval.archive",
        "POST",
        "/approvals/archive",
        ArchiveAccessFor,
        Asked,
        _ADMINISTER,
        "Ask to open the archive to somebody again",
        ask_archive,
    ),
    Operation(
        "second_person.show",
        "GET",
        "/second-person",
        TenantName,
        SecondPersonView,
        _APPROVE,
        "Show whether a second person is required",
        show,
    ),
    Operation(
        "second_person.change",
        "PATCH",
        "/second-person",
        SecondPersonChange,
        SecondPersonView,
        _ADMINISTER,
        "Require a second person, or not",
        change,
    ),
)
