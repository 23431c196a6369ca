"""What everybody may do with the own account."""

from __future__ import annotations

import msgspec

from hornetmail.access.login import AccessRefused
from hornetmail.access.rights import Right
from hornetmail.core.served import MailServer, Role
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Secret, missing
from hornetmail.web.api.rooms import Rooms


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asking. ``must_change``: the password was given by an administrator and should be replaced. ``archive_closed``: why the
    archive is closed to that person for now, or ``""`` (rule 15). ``folders_expire``: the announced date on which what an emergency left in
    the person's portal folders goes, in Unix seconds, or 0 (rule 24). ``servers``: what a mail program has to be told, the best first (C25)."""

    mailbox: str
    address: str
    name: str
    tenant: int
    roles: list[Role]
    addresses: list[str]
    must_change: bool
    rights: list[Right]
    archive_closed: str = ""
    folders_expire: float = 0.0
    servers: list[MailServer] = []


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The present password and the one to come."""

    old: Secret
    new: Secret


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A web session of the caller; times in Unix seconds."""

    id: str
    created: float
    seen: float
    expires: float
    peer: str
    agent: str
    current: bool


class SessionList(msgspec.Struct, frozen=True):
    """The caller's web sessions, newest first."""

    sessions: list[SessionView]


class SessionName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a session."""

    id: str


async def me(rooms: Rooms, caller: Caller, _: Nothing) -> AccountView:
    """The caller."""
    person = caller.acting
    if person is None:
        raise ApiError(401, "login_needed", "log in first")
    return AccountView(
        mailbox=str(person.mailbox),
        address=person.address,
        name=person.name,
        tenant=person.tenant,
        roles=list(person.roles),
        addresses=list(person.addresses),
        must_change=rooms.access.must_change(person),
        rights=[right for right in Right if caller.may(right)],
        archive_closed=rooms.access.suspension(person),
        folders_expire=rooms.expiry.due(person.mailbox) if rooms.expiry is not None else 0.0,
        servers=list(rooms.mail_servers),
    )


async def password(rooms: Rooms, caller: Caller, request: PasswordChange) -> Done:
    """Change the own password (C23); other web sessions end."""
    if caller.person is None:
        raise ApiError(400, "invalid", "the local administrator has no password: name somebody with --as ADDRESS")
    try:
        await rooms.access.change_password(
            caller.person, request.old, request.new, door=caller.door, peer=caller.peer, keep=caller.session
        )
    except AccessRefused as refused:
        if refused.reason == "credentials":
            raise ApiError(403, "credentials", "$.old: not the present password") from None
        raise
    return Done()


async def sessions(rooms: Rooms, caller: Caller, _: Nothing) -> SessionList:
    """Where the caller is logged in on the web."""
    if caller.person is None:
        return SessionList([])
    found = await rooms.sessions.of(caller.person.mailbox)
    return SessionList(
        [
            SessionView(
                id=one.id,
                created=one.created,
                seen=one.seen,
                expires=one.expires,
                peer=one.peer,
                agent=one.agent,
                current=one.id == caller.session,
            )
            for one in found
        ]
    )


async def revoke(rooms: Rooms, caller: Caller, request: SessionName) -> Done:
    """End one of them."""
    if caller.person is None or not await rooms.sessions.revoke(request.id, caller.person.mailbox):
        raise missing(f"no session {request.id[:40]!r} of yours")
    return Done()


OPERATIONS = (
    Operation("account.me", "GET", "/account", Nothing, AccountView, Right.PERSON, "Show who is logged in", me),
    Operation(
        "account.password", "PUT", "/account/password", PasswordChange, Done, Right.PERSON, "Change the own password", password
    ),
    Operation(
        "account.sessions", "GET", "/account/sessions", Nothing, SessionList, Right.PERSON, "List the own sessions", sessions
    ),
    Operation(
        "account.revoke", "DELETE", "/account/sessions/{id}", SessionName, Done, Right.PERSON, "End an own session", revoke
    ),
)
