"""What a request does once a second person has approved it (rule 15): the directory is looked at then, and it is refused if what it is about
is no longer as it was when somebody asked."""

from __future__ import annotations

from typing import Any, assert_never

from hornetmail.core.served import Mailbox
from hornetmail.directory.changes import Change, changed_domain, changed_mailbox, made_setting
from hornetmail.directory.checks import DirectoryConflict, DirectoryMissing
from hornetmail.directory.requests import (
    SECOND_PERSON,
    Addresses,
    ArchiveAccess,
    DomainAliases,
    Enable,
    OnMailbox,
    Roles,
    SwitchOff,
    Wanted,
)
from hornetmail.directory.snapshot import Snapshot


def carry_out(snapshot: Snapshot, wanted: Wanted) -> Change[Any]:
    """The change that was asked for. Raises DirectoryError: it can no longer be made, or not as it was meant."""
    match wanted:
        case Roles():
            _unchanged(_found(snapshot, wanted).roles, wanted.before, "roles", wanted.address)
            return changed_mailbox(snapshot, wanted.mailbox, roles=(*wanted.before, *wanted.add))
        case Addresses():
            _unchanged(_found(snapshot, wanted).aliases, wanted.before, "addresses", wanted.address)
            return changed_mailbox(snapshot, wanted.mailbox, aliases=(*wanted.before, *wanted.add))
        case Enable():
            _unchanged(_found(snapshot, wanted).roles, wanted.before, "roles", wanted.address)
            return changed_mailbox(snapshot, wanted.mailbox, enabled=True)
        case ArchiveAccess():
            suspended = _found(snapshot, wanted).suspended
            if suspended is None or suspended.since != wanted.since:
                raise DirectoryConflict(f'the archive was opened to "{wanted.address}", or closed anew, meanwhile')
            return changed_mailbox(snapshot, wanted.mailbox, suspended=None)
        case DomainAliases():
            domain = snapshot.domain(wanted.domain)
            _unchanged(domain.aliases if domain is not None else None, wanted.before, "names", wanted.domain)
            return changed_domain(snapshot, wanted.domain, aliases=(*wanted.before, *wanted.add))
        case SwitchOff():
            if snapshot.setting(SECOND_PERSON, "no", wanted.tenant) != "yes":
                raise DirectoryConflict("no second person is required already")
            return made_setting(snapshot, SECOND_PERSON, "no", wanted.tenant)
        case _:
            assert_never(wanted)


def _found(snapshot: Snapshot, wanted: OnMailbox) -> Mailbox:
    mailbox = snapshot.mailbox_by_id(wanted.mailbox)
    if mailbox is None:
        raise DirectoryMissing(f'mailbox "{wanted.address}" is gone')
    return mailbox


def _unchanged(now: object, before: object, what: str, whose: str) -> None:
    if now != before:
        raise DirectoryConflict(f'the {what} of "{whose}" were changed meanwhile')
