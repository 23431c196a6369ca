"""Domains: add, show, change, remove, and their mode."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Coverage, Domain, Failover, OverQuota, PortalOn, TLSPolicy
from hornetmail.directory.checks import domain_name, parse_host, parse_network
from hornetmail.web.api.operations import ApiError, Caller, Done, MayWait, Nothing, Operation, missing, need
from hornetmail.web.api.people.approvals import ask_names, held_names, waits_for
from hornetmail.web.api.rooms import Rooms


class PrimaryView(msgspec.Struct, frozen=True):
    """The primary's health. ``up``: some host answers; null when there is no primary or nobody asked yet. ``hosts``: one by one."""

    up: bool | None = None
    hosts: list[dict[str, Any]] = msgspec.field(default_factory=list)


class DomainView(MayWait, frozen=True, kw_only=True):
    """A domain with its mode. ``primaries`` are ``HOST:PORT``; ``scope``: all users or picked mailboxes (C12). ``portal_on``: whether
    any trouble sends a single mail to the portal (C20), or an outage only; greylisting and a full mailbox are none (L6). ``portal_days``: what
    an emergency left in the portal's folders goes that many days after it, 0 never (rule 24). ``tell_people``: whether people with a second address
    on file are told there when an emergency begins and ends. ``quota_bytes`` and ``quota_messages``: what each mailbox may hold in the portal, 0 without
    limit; ``over_quota``: whether mail for a full one waits or is refused, where the portal is the mail server. ``waits``: changes that wait for a second
    person (rule 15)."""

    name: str
    tenant: int
    mode: Mode
    primary: PrimaryView
    primaries: list[str]
    failover: Failover
    portal_on: PortalOn
    scope: Coverage
    tls: TLSPolicy
    active: bool
    archive: bool
    retention_days: int
    portal_days: float
    tell_people: bool
    quota_bytes: int
    quota_messages: int
    over_quota: OverQuota
    relay_from: list[str]
    smarthost: str
    aliases: list[str]
    mailboxes: int
    explanation: dict[str, Any] = msgspec.field(default_factory=dict)


class DomainList(msgspec.Struct, frozen=True):
    """All domains that the caller administers."""

    domains: list[DomainView]


class DomainName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a domain, or an alias of one."""

    name: str


class DomainAdd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new domain; without primaries the portal is its mail server for good. ``tenant`` 0: the caller's own, or 1."""

    name: str
    primaries: list[str] = []
    failover: Failover = Failover.AUTO
    portal_on: PortalOn = PortalOn.ANY
    scope: Coverage = Coverage.ALL
    tls: TLSPolicy = TLSPolicy.MAY
    active: bool = True
    archive: bool = True
    retention_days: int = 90
    portal_days: float = 90.0
    tell_people: bool = False
    quota_bytes: int = 0
    quota_messages: int = 0
    over_quota: OverQuota = OverQuota.DEFER
    relay_from: list[str] = []
    smarthost: str = ""
    aliases: list[str] = []
    tenant: int = 0


class DomainChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a domain to change; fields left out stay."""

    name: str
    primaries: list[str] | msgspec.UnsetType = msgspec.UNSET
    failover: Failover | msgspec.UnsetType = msgspec.UNSET
    portal_on: PortalOn | msgspec.UnsetType = msgspec.UNSET
    scope: Coverage | msgspec.UnsetType = msgspec.UNSET
    tls: TLSPolicy | msgspec.UnsetType = msgspec.UNSET
    active: bool | msgspec.UnsetType = msgspec.UNSET
    archive: bool | msgspec.UnsetType = msgspec.UNSET
    retention_days: int | msgspec.UnsetType = msgspec.UNSET
    portal_days: float | msgspec.UnsetType = msgspec.UNSET
    tell_people: bool | msgspec.UnsetType = msgspec.UNSET
    quota_bytes: int | msgspec.UnsetType = msgspec.UNSET
    quota_messages: int | msgspec.UnsetType = msgspec.UNSET
    over_quota: OverQuota | msgspec.UnsetType = msgspec.UNSET
    relay_from: list[str] | msgspec.UnsetType = msgspec.UNSET
    smarthost: str | msgspec.UnsetType = msgspec.UNSET
    aliases: list[str] | msgspec.UnsetType = msgspec.UNSET


class DomainMode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A switch of the mode by hand. ``mode`` is ``normal`` or ``emergency``; draining follows by itself."""

    name: str
    mode: Mode
    reason: str = ""


def find(rooms: Rooms, caller: Caller, name: str) -> Domain:
    """The caller's domain of that name. Raises ApiError 404."""
    domain = rooms.directory.domain(name.strip().rstrip(".").lower())
    if domain is None or not caller.reaches(domain.tenant):
        raise missing(f'domain "{name}" is not served here')
    return domain


def health(explanation: dict[str, Any]) -> PrimaryView:
    """The primary's health out of what the modes say about a domain."""
    return PrimaryView(up=explanation.get("up"), hosts=list(explanation.get("primaries", ())))


def view(rooms: Rooms, domain: Domain, **more: Any) -> DomainView:
    """A domain for people and programs; ``more`` belongs to the explanation."""
    explanation = {**rooms.modes.explain(domain.name), **more} if rooms.modes is not None else {}
    return DomainView(
        name=domain.name,
        tenant=domain.tenant,
        mode=rooms.modes.mode(domain.name) if rooms.modes is not None else Mode.NORMAL,
        primary=health(explanation),
        primaries=[str(host) for host in domain.primaries],
        failover=domain.failover,
        portal_on=domain.portal_on,
        scope=domain.coverage,
        tls=domain.tls,
        active=domain.active,
        archive=domain.archive,
        retention_days=domain.retention_days,
        portal_days=domain.portal_days,
        tell_people=domain.tell_people,
        quota_bytes=domain.quota_bytes,
        quota_messages=domain.quota_messages,
        over_quota=domain.over_quota,
        relay_from=list(domain.relay_from),
        smarthost=str(domain.smarthost) if domain.smarthost else "",
        aliases=list(domain.aliases),
        mailboxes=len(rooms.directory.mailboxes(domain.name)),
        explanation=explanation,
        waits=waits_for(rooms, ("domain_aliases",), domain.tenant, domain.name),
    )


async def list_all(rooms: Rooms, caller: Caller, _: Nothing) -> DomainList:
    """Every domain of the caller's tenant."""
    return DomainList([view(rooms, domain) for domain in rooms.directory.domains() if caller.reaches(domain.tenant)])


async def show(rooms: Rooms, caller: Caller, request: DomainName) -> DomainView:
    """One of them, with what is known of its recipients."""
    domain = find(rooms, caller, request.name)
    recipients = await rooms.modes.recipients(domain.name) if rooms.modes is not None else {}
    return view(rooms, domain, recipients=recipients)


async def add(rooms: Rooms, caller: Caller, request: DomainAdd) -> DomainView:
    """It is in force when this answers (C11, C12)."""
    tenant = request.tenant or caller.tenant or 1
    if not caller.reaches(tenant):
        raise ApiError(403, "refused", f"$.tenant: {tenant} is not yours")
    names: dict[str, Any] = {"aliases": tuple(request.aliases)}
    held = held_names(rooms, Domain(domain_name(request.name, "domain"), tenant), names)
    added = await rooms.directory.add_domain(
        Domain(
            name=request.name,
            tenant=tenant,
            primaries=tuple(parse_host(text, f"$.primaries[{place}]") for place, text in enumerate(request.primaries)),
            failover=request.failover,
            portal_on=request.portal_on,
            coverage=request.scope,
            tls=request.tls,
            active=request.active,
            archive=request.archive,
            retention_days=request.retention_days,
            portal_days=request.portal_days,
            tell_people=request.tell_people,
            quota_bytes=request.quota_bytes,
            quota_messages=request.quota_messages,
            over_quota=request.over_quota,
            relay_from=tuple(parse_network(text, f"$.relay_from[{place}]") for place, text in enumerate(request.relay_from)),
            smarthost=parse_host(request.smarthost, "$.smarthost") if request.smarthost else None,
            aliases=names["aliases"],
        )
    )
    await ask_names(rooms, caller, added, held)
    return view(rooms, added)


async def change(rooms: Rooms, caller: Caller, request: DomainChange) -> DomainView:
    """Settings named in the request; the others stay."""
    fields: dict[str, Any] = {
        name: value
        for name in request.__struct_fields__
        if name != "name" and (value := getattr(request, name)) is not msgspec.UNSET
    }
    if "scope" in fields:
        fields["coverage"] = fields.pop("scope")
    if "primaries" in fields:
        fields["primaries"] = tuple(parse_host(text, f"$.primaries[{place}]") for place, text in enumerate(fields["primaries"]))
    if "relay_from" in fields:
        fields["relay_from"] = tuple(
            parse_network(text, f"$.relay_from[{place}]") for place, text in enumerate(fields["relay_from"])
        )
    if "smarthost" in fields:
        fields["smarthost"] = parse_host(fields["smarthost"], "$.smarthost") if fields["smarthost"] else None
    if "aliases" in fields:
        fields["aliases"] = tuple(fields["aliases"])
    domain = find(rooms, caller, request.name)
    rooms.directory.domain_change(domain.name, **fields)
    held = held_names(rooms, domain, fields)
    changed = await rooms.directory.change_domain(domain.name, **fields)
    await ask_names(rooms, caller, changed, held)
    return view(rooms, changed)


async def remove(rooms: Rooms, caller: Caller, request: DomainName) -> Done:
    """Refused while mailboxes are registered in it."""
    await rooms.directory.remove_domain(find(rooms, caller, request.name).name)
    return Done()


async def switch(rooms: Rooms, caller: Caller, request: DomainMode) -> DomainView:
    """By hand (C7); an emergency set by hand ends only by hand (rule 5)."""
    domain = find(rooms, caller, request.name)
    modes = need(rooms.modes, "delivery")
    if request.mode is Mode.DRAINING:
        raise ApiError(400, "invalid", "$.mode: normal or emergency; draining follows by itself")
    try:
        await modes.switch(domain.name, request.mode, caller.label, request.reason)
    except KeyError:
        raise missing(f'domain "{request.name}" is not served here') from None
    except ValueError as error:
        raise ApiError(409, "conflict", str(error)) from None
    return view(rooms, domain)


OPERATIONS = (
    Operation("domain.list", "GET", "/domains", Nothing, DomainList, Right.ADMINISTER, "List domains", list_all),
    Operation("domain.show", "GET", "/domains/{name}", DomainName, DomainView, Right.ADMINISTER, "Show a domain", show),
    Operation("domain.add", "POST", "/domains", DomainAdd, DomainView, Right.ADMINISTER, "Add a domain", add),
    Operation("domain.change", "PATCH", "/domains/{name}", DomainChange, DomainView, Right.ADMINISTER, "Change a domain", change),
    Operation("domain.remove", "DELETE", "/domains/{name}", DomainName, Done, Right.ADMINISTER, "Remove a domain", remove),
    Operation(
        "domain.mode", "PUT", "/domains/{name}/mode", DomainMode, DomainView, Right.ADMINISTER, "Switch a domain's mode", switch
    ),
)
