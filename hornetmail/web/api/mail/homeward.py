"""Home with flags and folders (L13): a domain's IMAP server and service account, and people's own passwords for it. Passwords are never told."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.delivery.filing import Closed, Form, HomeServer, WayRefused
from hornetmail.core.served import Mailbox, TLSPolicy
from hornetmail.directory.checks import parse_host
from hornetmail.web.api.mail.domains import DomainName, find
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Secret, missing, need
from hornetmail.web.api.rooms import Rooms

SHOWN = 100
"""No more refused messages of one mailbox are listed."""


class HomeView(msgspec.Struct, frozen=True, kw_only=True):
    """A domain's server; ``host`` ``""``: there is none, and all mail goes home by SMTP. ``service``: the account that may open all mailboxes, or ``""``; ``form``: how it says whose it wants.
    ``own``: people may use passwords of their own."""

    domain: str
    host: str = ""
    tls: TLSPolicy = TLSPolicy.VERIFY
    service: str = ""
    form: Form = Form.AUTHZID
    own: bool = True


class HomeSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``host`` is ``HOST[:PORT]``, port 993 (TLS from the start) or another one (STARTTLS). ``password``: of the service account; empty: as before."""

    name: str
    host: str
    tls: TLSPolicy = TLSPolicy.VERIFY
    service: str = ""
    password: Secret = ""
    form: Form = Form.AUTHZID
    own: bool = True


class HomeTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose mailbox to look into."""

    address: str


class HomeFolders(msgspec.Struct, frozen=True):
    """The folders found, as the server writes their names."""

    folders: list[str]


class Stuck(msgspec.Struct, frozen=True):
    """A message that the primary refuses, by the name of its file, and why."""

    name: str
    reason: str


class HomeProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What of a mailbox went home by IMAP. ``possible``: there is a way; ``login``: its owner's own, or ``""``; ``trouble``: what is in the way now; ``offered``: the host for which people may give
    a password of their own, or ``""``."""

    address: str
    possible: bool
    offered: str
    login: str
    home: int
    going: int
    trouble: str
    stuck: list[Stuck]
    stuck_count: int


class OwnLogin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The own account at the primary."""

    user: str
    password: Secret


class OwnLoginSet(msgspec.Struct, frozen=True):
    """It is kept. ``note``: why it could not be tried just now, or ``""``."""

    note: str = ""


def view(rooms: Rooms, domain: str) -> HomeView:
    """A domain's."""
    server = need(rooms.filing, "delivery").ways.server(domain)
    if server is None:
        return HomeView(domain=domain)
    return HomeView(
        domain=domain, host=str(server.host), tls=server.tls, service=server.service, form=server.form, own=server.own
    )


async def show(rooms: Rooms, caller: Caller, request: DomainName) -> HomeView:
    """How mail of a domain goes home."""
    return view(rooms, find(rooms, caller, request.name).name)


async def put(rooms: Rooms, caller: Caller, request: HomeSet) -> HomeView:
    """In force at once."""
    domain = find(rooms, caller, request.name)
    filing = need(rooms.filing, "delivery")
    if not domain.primaries:
        raise ApiError(
            409,
            "conflict",
            f"{domain.name} has no primary: the portal is its mail server, and all mail in it is where it belongs",
        )
    host = parse_host(request.host, "$.host", port=993)
    server = HomeServer(host, request.tls, request.service.strip(), request.form, request.own)
    try:
        await filing.ways.set_server(domain.name, domain.tenant, server, request.password or None)
    except WayRefused as refused:
        raise ApiError(400, "invalid", f"$.service: {refused}") from None
    filing.kick(domain.name)
    return view(rooms, domain.name)


async def remove(rooms: Rooms, caller: Caller, request: DomainName) -> Done:
    """The drain is as without it; people's own passwords stay unused until they remove them, or the server is back."""
    await need(rooms.filing, "delivery").ways.remove_server(find(rooms, caller, request.name).name)
    return Done()


def _mailbox(rooms: Rooms, caller: Caller, address: str) -> Mailbox:
    mailbox = rooms.directory.mailbox(address.strip())
    if mailbox is None or not caller.reaches(mailbox.tenant):
        raise missing(f'mailbox "{address}" is not registered')
    return mailbox


async def test(rooms: Rooms, caller: Caller, request: HomeTest) -> HomeFolders:
    """Log in and look, now."""
    return await _tested(rooms, _mailbox(rooms, caller, request.address))


async def _tested(rooms: Rooms, mailbox: Mailbox) -> HomeFolders:
    try:
        return HomeFolders(list(await need(rooms.filing, "delivery").test(mailbox)))
    except Closed as closed:
        raise ApiError(409, "conflict", closed.text) from None


async def _progress(rooms: Rooms, mailbox: Mailbox) -> HomeProgress:
    filing = need(rooms.filing, "delivery")
    found = await filing.progress(mailbox.id)
    server = filing.ways.server(mailbox.domain)
    return HomeProgress(
        address=mailbox.address,
        possible=filing.ways.way(mailbox) is not None,
        offered=str(server.host) if server is not None and server.own else "",
        login=filing.ways.login(mailbox.id),
        home=found.home,
        going=found.going,
        trouble=found.trouble,
        stuck=[Stuck(name, reason) for name, reason in found.stuck[:SHOWN]],
        stuck_count=len(found.stuck),
    )


async def progress(rooms: Rooms, caller: Caller, request: HomeTest) -> HomeProgress:
    """Of anybody in the caller's tenant."""
    return await _progress(rooms, _mailbox(rooms, caller, request.address))


async def retry(rooms: Rooms, caller: Caller, request: HomeTest) -> Done:
    """What the primary refused is tried anew."""
    mailbox = _mailbox(rooms, caller, request.address)
    return Done(await need(rooms.filing, "delivery").retry(mailbox))


# --- the own account


def _own(rooms: Rooms, caller: Caller) -> Mailbox:
    mailbox = rooms.directory.mailbox_by_id(caller.person.mailbox) if caller.person is not None else None
    if mailbox is None:
        raise ApiError(400, "invalid", "the local administrator has no mailbox: name somebody with --as ADDRESS")
    return mailbox


async def own(rooms: Rooms, caller: Caller, _: Nothing) -> HomeProgress:
    """The caller's."""
    return await _progress(rooms, _own(rooms, caller))


async def set_own(rooms: Rooms, caller: Caller, request: OwnLogin) -> OwnLoginSet:
    """Tried at once: what the server refuses is not kept. One that cannot be reached now is no reason."""
    mailbox = _own(rooms, caller)
    filing = need(rooms.filing, "delivery")
    note = ""
    try:
        try:
            await filing.test(mailbox, request.user.strip(), request.password)
        except Closed as closed:
            if closed.lasting:
                raise ApiError(400, "credentials", f"$.password: {closed.text}") from None
            note = closed.text
        await filing.ways.set_login(mailbox, request.user.strip(), request.password)
    except WayRefused as refused:
        raise ApiError(400, "invalid", f"$.user: {refused}") from None
    filing.kick(mailbox.domain)
    return OwnLoginSet(note)


async def remove_own(rooms: Rooms, caller: Caller, _: Nothing) -> Done:
    """Deleted."""
    await need(rooms.filing, "delivery").ways.remove_login(_own(rooms, caller).id)
    return Done()


OPERATIONS = (
    Operation(
        "home.show",
        "GET",
        "/domains/{name}/home",
        DomainName,
        HomeView,
        Right.ADMINISTER,
        "Show how mail goes home by IMAP",
        show,
    ),
    Operation("home.set", "PUT", "/domains/{name}/home", HomeSet, HomeView, Right.ADMINISTER, "Have mail go home by IMAP", put),
    Operation(
        "home.remove",
        "DELETE",
        "/domains/{name}/home",
        DomainName,
        Done,
        Right.ADMINISTER,
        "Have all mail go home by SMTP",
        remove,
    ),
    Operation(
        "home.mailbox",
        "GET",
        "/mailboxes/{address}/home",
        HomeTest,
        HomeProgress,
        Right.ADMINISTER,
        "Show what went home by IMAP",
        progress,
    ),
    Operation(
        "home.test",
        "POST",
        "/mailboxes/{address}/home/test",
        HomeTest,
        HomeFolders,
        Right.ADMINISTER,
        "Try the way home by IMAP",
        test,
    ),
    Operation(
        "home.retry",
        "POST",
        "/mailboxes/{address}/home/retry",
        HomeTest,
        Done,
        Right.ADMINISTER,
        "Try again what the primary refused",
        retry,
    ),
    Operation(
        "account.home",
        "GET",
        "/account/home",
        Nothing,
        HomeProgress,
        Right.PERSON,
        "Show what of the own mail went home by IMAP",
        own,
    ),
    Operation(
        "account.home_login",
        "PUT",
        "/account/home",
        OwnLogin,
        OwnLoginSet,
        Right.PERSON,
        "Give the own password for the primary",
        set_own,
    ),
    Operation(
        "account.home_forget",
        "DELETE",
        "/account/home",
        Nothing,
        Done,
        Right.PERSON,
        "Delete the own password for the primary",
        remove_own,
    ),
)
