"""Requests: changes that wait for a second person (rule 15), kept in ``control.db`` with their tenant.

Each kind of change is a struct that can say in words what it would do; ``carrying_out.py`` does it. A further kind (members of a group, say)
is a further struct in ``Wanted`` and a case there; asking, approving, expiry and the audit log know nothing of kinds.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from hornetmail.core.served import Cause, Role
from hornetmail.db.pool import Database
from hornetmail.directory.schema import Statement

SECOND_PERSON = "second_person"
"""Setting of a tenant: ``yes`` requires a second person."""


class OnMailbox(msgspec.Struct, frozen=True, kw_only=True):
    """What is about one mailbox, whose person gains by it."""

    mailbox: int
    address: str

    @property
    def gainer(self) -> int:
        """The ID of the mailbox whose person gains."""
        return self.mailbox

    @property
    def subject(self) -> str:
        """For whom."""
        return self.address


class Roles(OnMailbox, frozen=True, kw_only=True, tag="roles"):
    """Further roles. ``before``: those it had when somebody asked."""

    add: tuple[Role, ...]
    before: tuple[Role, ...]

    def text(self) -> str:
        """In words."""
        return f"give {self.address} the role{'s' if len(self.add) > 1 else ''} {', '.join(self.add)}"


class Addresses(OnMailbox, frozen=True, kw_only=True, tag="addresses"):
    """Further addresses: they open the archived mail of those addresses (A43)."""

    add: tuple[str, ...]
    before: tuple[str, ...]

    def text(self) -> str:
        """In words."""
        many, whose = ("es", "their") if len(self.add) > 1 else ("", "its")
        return f"give {self.address} the further address{many} {', '.join(self.add)} and {whose} archived mail"


class Enable(OnMailbox, frozen=True, kw_only=True, tag="enable"):
    """Switch a mailbox with roles on again: its roles are worth something again."""

    before: tuple[Role, ...]

    def text(self) -> str:
        """In words."""
        return f"let {self.address} log in again, with the role{'s' if len(self.before) > 1 else ''} {', '.join(self.before)}"


_CAUSES = {
    Cause.PASSWORD: "an administrator set the password",
    Cause.ADDRESS: "the mailbox is new, and the archive has mail of that address from before",
}


class ArchiveAccess(OnMailbox, frozen=True, kw_only=True, tag="archive_access"):
    """Open the archive again to a person for whom it was suspended at ``since``."""

    cause: Cause
    since: float

    def text(self) -> str:
        """In words."""
        return f"open the archive to {self.address} again: {_CAUSES[self.cause]}"


class DomainAliases(msgspec.Struct, frozen=True, kw_only=True, tag="domain_aliases"):
    """Further names of a domain: everybody in it gets the archived mail of the same local part there (A46). All gain alike, so nobody is barred for it."""

    gainer: ClassVar[int] = 0

    domain: str
    add: tuple[str, ...]
    before: tuple[str, ...]

    @property
    def subject(self) -> str:
        """Which domain."""
        return self.domain

    def text(self) -> str:
        """In words."""
        return f"make {', '.join(self.add)} the same as {self.domain}: its people get the archived mail of their names there"


class SwitchOff(msgspec.Struct, frozen=True, kw_only=True, tag="second_person_off"):
    """Require a second person no longer."""

    gainer: ClassVar[int] = 0
    subject: ClassVar[str] = ""

    tenant: int

    def text(self) -> str:
        """In words."""
        return "require a second person no longer"


Wanted = Roles | Addresses | Enable | ArchiveAccess | DomainAliases | SwitchOff


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants something that needs a second person. ``asker``: mailbox ID, 0 for the local administrator; ``by`` the same for
    people. ``barred``: mailbox IDs of those who may not approve it. ``entry``: the audit log's number of the asking. Times in Unix seconds."""

    number: int
    tenant: int
    asker: int
    by: str
    asked: float
    expires: float
    barred: tuple[int, ...]
    wanted: Wanted
    entry: int = 0

    @property
    def kind(self) -> str:
        """The name of its kind, stable for programs."""
        return str(self.wanted.__struct_config__.tag)


class EndState(enum.StrEnum):
    """How a request ended. VOID: it was approved when it could no longer be carried out; REPLACED: the same was asked anew."""

    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    VOID = "void"
    REPLACED = "replaced"


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a request: ``at`` in Unix seconds, ``entry`` the audit log's number of the decision, ``carried`` that of the deed."""

    state: EndState
    at: float
    by: str = ""
    reason: str = ""
    entry: int = 0
    carried: int = 0


_REQUEST = msgspec.json.Decoder(Request)
_END = msgspec.json.Decoder(End)


def decode_request(value: str) -> Request:
    """From ``control.db``."""
    return _REQUEST.decode(value)


def opened(request: Request) -> Statement:
    """Keeps a request that waits."""
    sql = "INSERT INTO requests (number, tenant, value) VALUES (?, ?, ?)"
    return sql, (request.number, request.tenant, msgspec.json.encode(request).decode())


def ended(request: Request, end: End) -> Statement:
    """Ends it; the table's key lets that happen once."""
    sql = "INSERT INTO request_ends (number, tenant, value) VALUES (?, ?, ?)"
    return sql, (request.number, request.tenant, msgspec.json.encode(end).decode())


async def history(database: Database, tenant: int, limit: int) -> Sequence[tuple[Request, End | None]]:
    """The newest requests of a tenant (0: of all), newest first, with their end if they have one."""
    return await database.read(_history, tenant, limit)


def _history(cursor: Any, tenant: int, limit: int) -> list[tuple[Request, End | None]]:
    sql = (
        "SELECT requests.value, request_ends.value FROM requests LEFT JOIN request_ends ON request_ends.number = requests.number"
        " WHERE ? IN (0, requests.tenant) ORDER BY requests.number DESC LIMIT ?"
    )
    cursor.execute(sql, (tenant, limit))
    return [(_REQUEST.decode(value), _END.decode(end) if end is not None else None) for value, end in cursor.fetchall()]
