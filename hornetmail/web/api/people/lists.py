"""Many mailboxes at once: a part of a list of people, checked or registered in one transaction."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hornetmail.access.passwords import WeakPassword, check
from hornetmail.access.rights import Right
from hornetmail.core.served import Cause, Mailbox
from hornetmail.directory.checks import DirectoryError, mailbox_address
from hornetmail.directory.store import Credential, NewMailbox
from hornetmail.web.api.operations import Caller, MayWait, Operation, Secret, Waiting
from hornetmail.web.api.people.approvals import asker, in_archive, required, waiting
from hornetmail.web.api.rooms import Rooms

MOST = 500
"""People of one call: they are checked in one turn of the reactor."""


class PersonRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody to register. ``line``: where this comes from, for the answer. Without a password nobody logs in until one is set."""

    line: int
    address: str
    name: str = ""
    aliases: list[str] = []
    password: Secret = ""
    picked: bool = True
    archive: bool = True


class PeopleImport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``source`` names where they come from, for the audit log. With ``dry_run`` they are checked, and nothing is done."""

    source: str
    people: Annotated[list[PersonRow], msgspec.Meta(max_length=MOST, extra={"secret": True})]
    dry_run: bool = False


class RowProblem(msgspec.Struct, frozen=True):
    """Why somebody was not registered."""

    line: int
    address: str
    text: str


class PeopleImported(MayWait, frozen=True, kw_only=True):
    """How many were registered (or could be: ``dry_run``), how many were there already and are left as they are, and who was refused."""

    registered: int
    present: int
    problems: list[RowProblem]
    dry_run: bool = False

    def outcome(self) -> str:
        """In numbers."""
        done = "could be registered" if self.dry_run else "registered"
        return f"done: {self.registered} {done}, {self.present} there already, {len(self.problems)} refused"


async def register(rooms: Rooms, caller: Caller, request: PeopleImport) -> PeopleImported:
    """One transaction for all who are not refused; nobody's refusal keeps the others out. Where a second person is required, the archive of those
    whose address has mail in it already waits (rule 15). Who is registered already is left as he is, so the same list may come again."""
    rows: list[PersonRow] = []
    new: list[NewMailbox] = []
    problems: list[RowProblem] = []
    present = 0
    for row in request.people:
        known = rooms.directory.mailbox(row.address.strip())
        if known is not None and caller.reaches(known.tenant) and known.address.casefold() == row.address.strip().casefold():
            present += 1
            continue
        try:
            new.append(await _wanted(rooms, caller, row, request.dry_run))
        except (DirectoryError, WeakPassword) as error:
            problems.append(RowProblem(row.line, row.address, str(error)))
        else:
            rows.append(row)
    directory = rooms.directory
    answers = directory.mailboxes_addition(new) if request.dry_run else await directory.add_mailboxes(new)
    made: list[Mailbox] = []
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, Mailbox):
            made.append(answer)
        else:
            problems.append(RowProblem(row.line, row.address, str(answer)))
    waits = [] if request.dry_run else await _asked(rooms, caller, made)
    problems.sort(key=lambda one: one.line)
    return PeopleImported(registered=len(made), present=present, problems=problems, dry_run=request.dry_run, waits=waits)


async def _wanted(rooms: Rooms, caller: Caller, row: PersonRow, dry_run: bool) -> NewMailbox:
    """Raises DirectoryError or WeakPassword."""
    address = mailbox_address(row.address, "mailbox")
    credential: Credential | None = None
    if row.password:
        check(row.password)
        credential = None if dry_run else (await rooms.access.new_secret(row.password)).credential
    domain = rooms.directory.domain(address.domain)
    tenant, suspended = domain.tenant if domain is not None else caller.tenant or 1, None
    second, aliases = required(rooms, tenant), tuple(row.aliases)
    if second is not None and not dry_run and await in_archive(rooms, Mailbox(0, str(address), address.domain, tenant, aliases)):
        suspended = second.suspension(asker(caller), None, Cause.ADDRESS)
    return NewMailbox(
        address=row.address,
        credential=credential,
        tenant=caller.tenant,
        name=row.name,
        aliases=aliases,
        picked=row.picked,
        archive=row.archive,
        suspended=suspended,
    )


async def _asked(rooms: Rooms, caller: Caller, made: list[Mailbox]) -> list[Waiting]:
    """What waits for a second person now: the archives of these."""
    found = []
    for mailbox in made:
        if mailbox.suspended is not None and rooms.second is not None:
            found.append(await rooms.second.ask_archive(asker(caller), caller.label, mailbox, caller.entry))
    return waiting([one for one in found if one is not None])


OPERATIONS = (
    Operation(
        "people.import", "POST", "/people", PeopleImport, PeopleImported, Right.ADMINISTER, "Register many mailboxes", register
    ),
)
