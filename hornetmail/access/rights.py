"""Who may do what, and what of the archive somebody may see (rules 14 and 15, A39-A44, C18).

Roles add up: each role only opens something, so a person with two of them may do what either allows. The one thing that no role but
``auditor`` and ``revisor`` opens is the content of other people's mail.
"""

from __future__ import annotations

import enum

from hornetmail.core.archive.archived import Refused
from hornetmail.core.served import OPERATOR, Cause, Person, Role, Scope, Suspension


class Right(enum.StrEnum):
    """What an operation asks for. ``ANYBODY`` needs no log-in, ``PERSON`` any log-in. ``OPERATE``: what belongs to the whole installation and not to one tenant (media, keys,
    backups, time stamps, jobs) is for administrators of the tenant that operates it."""

    ANYBODY = "anybody"
    PERSON = "person"
    ADMINISTER = "administer"
    OPERATE = "operate"
    SEARCH = "search"
    OPEN = "open"
    REDELIVER = "redeliver"
    AUDIT = "audit"
    APPROVE = "approve"


_ROLES: dict[Right, frozenset[Role]] = {
    Right.ADMINISTER: frozenset({Role.ADMIN}),
    Right.OPERATE: frozenset({Role.ADMIN}),
    Right.AUDIT: frozenset({Role.ADMIN, Role.AUDITOR}),
    Right.APPROVE: frozenset({Role.ADMIN, Role.AUDITOR, Role.DATAOFFICER}),
}
"""Rights that need a role. The others are everybody's, for what ``scope`` lets that person see."""


class Suspended(Refused):
    """The archive is closed to somebody until a second person approves; the message is for that person and for whoever redelivers."""


def suspended_text(address: str, suspension: Suspension) -> str:
    """Why, in one sentence."""
    why = {
        Cause.PASSWORD: "an administrator set its password",
        Cause.ADDRESS: "the mailbox was made for an address that has archived mail from before",
    }[suspension.cause]
    return f"The archive is closed to {address} until a second person approves, because {why}. Mail itself works as always."


LOCAL_ADMINISTRATOR = Person(mailbox=0, address="", tenant=0, roles=(Role.ADMIN,), name="local administrator")
"""Whoever may open the data directory's socket: administers every tenant, opens no mail (rule 15)."""


def may(person: Person | None, right: Right) -> bool:
    """Whether ``person`` (None: nobody logged in) has a right. ``OPEN`` means some content: ``scope`` says which."""
    if right is Right.ANYBODY:
        return True
    if person is None:
        return False
    if right is Right.OPEN and person.mailbox == 0:
        return False
    if right is Right.OPERATE and person.tenant not in (0, OPERATOR):
        return False
    wanted = _ROLES.get(right)
    return wanted is None or any(person.has(role) for role in wanted)


def own_scope(person: Person) -> Scope:
    """A person's own mail, with content: sent from or received at one of the own addresses (A43, A44)."""
    return Scope(tenant=person.tenant, addresses=frozenset(person.addresses))


def scope(person: Person, *, administrators_search: bool = True, administrators_see_subjects: bool = True) -> Scope:
    """The widest view of the archive that a person has.

    Auditors see all mail of their tenant with all recipients (A40, rule 14), revisors all mail without the Bcc of others (A41),
    administrators everybody's envelope, date, size and ID and no content (A39, C16), unless the settings take that away; everybody else the
    own mail. An administrator's view carries no content at all, of the own mail neither: for that there is ``own_scope``.
    """
    if person.has(Role.AUDITOR):
        return Scope(tenant=person.tenant, addresses=None, all_recipients=True)
    own = frozenset(person.addresses)
    if person.has(Role.REVISOR):
        return Scope(tenant=person.tenant, addresses=None, own=own)
    if person.has(Role.ADMIN) and administrators_search:
        return Scope(tenant=person.tenant, addresses=None, content=False, subjects=administrators_see_subjects, own=own)
    return own_scope(person)
