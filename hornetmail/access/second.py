"""The second person (rule 15): what would open archived mail to somebody waits until somebody else says yes.

Off unless a tenant turns it on. Then granting roles, adding addresses, switching a mailbox with roles on again and turning it off become
requests, and who got a password from an administrator has no archive until one is approved. Two people with names are needed, or the
local administrator and one: whoever may open the data directory's socket is nobody in particular, so it asks and never approves.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hornetmail.access.rights import Right, may
from hornetmail.core.archive.archived import Refused
from hornetmail.core.served import Cause, Mailbox, Person, Role, Suspension
from hornetmail.directory.carrying_out import carry_out
from hornetmail.directory.changes import Change
from hornetmail.directory.requests import SECOND_PERSON, ArchiveAccess, End, EndState, Request, Wanted, ended, opened
from hornetmail.directory.snapshot import Snapshot
from hornetmail.directory.store import DirectoryConflict, DirectoryError, DirectoryMissing, DirectoryStore
from hornetmail.interfaces.audit import IAudit

APPROVERS = frozenset({Role.ADMIN, Role.AUDITOR, Role.DATAOFFICER})
"""Whoever has one of these may approve."""

DAYS = 7
"""How long a request waits unless the tenant's setting ``second_person_days`` says otherwise."""

MOST_DAYS = 90

_SIBLINGS = 1000
"""How far back the other requests of the same call are looked for."""


class SecondPerson:
    """``clock`` is an ``IReactorTime``. Whoever asks is a ``Person``, the local administrator with the mailbox 0; ``by`` is the same in
    words, ``entry`` the audit log's number of the call."""

    def __init__(self, directory: DirectoryStore, audit: IAudit, clock: Any) -> None:
        self._directory = directory
        self._audit = audit
        self._clock = clock

    # --- the setting

    def required(self, tenant: int) -> bool:
        """Whether the tenant requires a second person."""
        return self._directory.setting(SECOND_PERSON, "no", tenant) == "yes"

    def days(self, tenant: int) -> int:
        """How many days a request of the tenant waits."""
        return int(self._directory.setting("second_person_days", str(DAYS), tenant))

    async def set_days(self, tenant: int, days: int) -> None:
        """For requests to come. Raises DirectoryError."""
        if not 1 <= days <= MOST_DAYS:
            raise DirectoryError(f"a request waits from 1 to {MOST_DAYS} days, not {days}")
        await self._directory.set_setting("second_person_days", str(days), tenant)

    def approvers(self, tenant: int) -> list[Mailbox]:
        """Who could approve: enabled, with a role for it and a password of the own choosing, the archive not suspended."""
        return [box for box in self._directory.with_roles(tenant) if not self._unfit(box)]

    def _unfit(self, mailbox: Mailbox | None) -> str:
        """Why somebody cannot approve anything, or ``""``. A password that an administrator knows would make one person two."""
        if mailbox is None or not mailbox.enabled or not APPROVERS & set(mailbox.roles):
            return "approving needs an enabled administrator, auditor or data officer"
        credential = self._directory.credential(mailbox.id)
        if credential is None or credential.must_change:
            return "choose a password of your own first: who gave you this one knows it"
        if mailbox.suspended is not None:
            return "your own archive access waits for a second person, so you cannot approve anything"
        return ""

    async def turn_on(self, tenant: int) -> None:
        """In force at once. Raises DirectoryConflict if there are not two who could approve."""
        able = self.approvers(tenant)
        if len(able) < 2:
            have = f"there is only {able[0].address}" if able else "there is nobody"
            raise DirectoryConflict(
                "a second person needs at least two people who could approve: enabled administrators, auditors or data officers,"
                f" each with a password of the own choosing; {have}"
            )
        await self._directory.set_setting(SECOND_PERSON, "yes", tenant)

    def must_stay(self, mailbox: Mailbox, without: str) -> None:
        """Raises DirectoryConflict if ``without``, like ``removing it``, nobody could approve any more: it could never be turned off again."""
        if self.required(mailbox.tenant) and [one.id for one in self.approvers(mailbox.tenant)] == [mailbox.id]:
            raise DirectoryConflict(
                f"{mailbox.address} is the last who can approve: {without} would leave nobody (second person)"
            )

    # --- what an administrator's deed does to somebody's archive access

    def suspension(self, asker: Person, mailbox: Mailbox | None, cause: Cause) -> Suspension:
        """What to suspend that mailbox (None: a new one) with. Those who did it before stay barred until it is lifted."""
        before = mailbox.suspended.by if mailbox is not None and mailbox.suspended is not None else ()
        return Suspension(cause, self._clock.seconds(), tuple(dict.fromkeys((*before, asker.mailbox))))

    async def ask_archive(self, asker: Person, by: str, mailbox: Mailbox, entry: int = 0) -> Request | None:
        """Ask that the archive be opened to that person again; where no second person is required any more, it is opened at once. Raises
        DirectoryConflict if it is not suspended."""
        suspended = mailbox.suspended
        if suspended is None:
            raise DirectoryConflict(f"the archive access of {mailbox.address} is not suspended")
        wanted = ArchiveAccess(mailbox=mailbox.id, address=mailbox.address, cause=suspended.cause, since=suspended.since)
        if not self.required(mailbox.tenant):
            await self._directory.transact(lambda snapshot: carry_out(snapshot, wanted))
            return None
        return await self.ask(asker, by, mailbox.tenant, wanted, entry, barred=suspended.by)

    # --- requests

    def open_requests(self, tenant: int) -> list[Request]:
        """Those that wait, oldest first; ``tenant`` 0: everybody's."""
        now = self._clock.seconds()
        return [
            one for _, one in sorted(self._directory.snapshot.requests.items()) if tenant in (0, one.tenant) and now < one.expires
        ]

    async def history(self, tenant: int, limit: int = 100) -> Sequence[tuple[Request, End | None]]:
        """The newest requests with their ends, newest first."""
        return await self._directory.requests(tenant, limit)

    def obstacle(self, person: Person | None, request: Request) -> str:
        """Why that person may not approve that request, or ``""``."""
        if person is None or person.mailbox == 0:
            return "approving needs a person: name one with --as ADDRESS"
        if person.tenant != request.tenant or not may(person, Right.APPROVE):
            return "approving needs an enabled administrator, auditor or data officer"
        if person.mailbox == request.asker:
            return "you asked for it yourself: somebody else must approve it"
        if person.mailbox == request.wanted.gainer:
            return "you gain by it yourself: somebody else must approve it"
        if person.mailbox in request.barred:
            return "you set the password, or made the mailbox: somebody else must approve it"
        return self._unfit(self._directory.mailbox_by_id(person.mailbox))

    async def ask(
        self, asker: Person, by: str, tenant: int, wanted: Wanted, entry: int = 0, *, barred: Iterable[int] = ()
    ) -> Request:
        """Durable on return. It takes the place of an open request of the same kind for the same thing."""
        now = self._clock.seconds()

        def work(snapshot: Snapshot) -> Change[tuple[Request, list[Request]]]:
            request = Request(
                number=snapshot.last_request + 1,
                tenant=tenant,
                asker=asker.mailbox,
                by=by,
                asked=now,
                expires=now + 86_400.0 * self.days(tenant),
                barred=tuple(dict.fromkeys(barred)),
                wanted=wanted,
                entry=entry,
            )
            same = [
                one
                for one in snapshot.requests.values()
                if (one.kind, one.tenant, one.wanted.subject) == (request.kind, tenant, wanted.subject)
            ]
            end = End(state=EndState.REPLACED, at=now, by=by, reason=f"request {request.number} takes its place", entry=entry)
            for one in same:
                snapshot = snapshot.without_request(one.number)
            return Change([opened(request), *(ended(one, end) for one in same)], snapshot.with_request(request), (request, same))

        request, replaced = await self._directory.transact(work)
        for one in replaced:
            await self._tell(one)
        return request

    async def approve(self, person: Person, number: int, entry: int = 0) -> Request:
        """Carry it out, once, in one transaction with its end. Raises DirectoryMissing (no such request of the tenant), Refused (not by that
        person), DirectoryConflict (decided or expired already, or it can no longer be carried out: then it ends too)."""
        request = await self._waiting(person, number)
        self._permit(person, request)
        at = self._clock.seconds()
        detail = {"request": number, "asked": request.entry, "approved": entry, "approver": person.address}
        row = await self._audit.begin(
            request.by, f"approved.{request.kind}", request.wanted.subject, msgspec.json.encode(detail).decode(), request.tenant
        )

        def work(snapshot: Snapshot) -> Change[End]:
            if number not in snapshot.requests:
                raise DirectoryConflict(f"request {number} is decided already")
            self._permit(person, request)
            try:
                self._still_asked(request)
                deed = carry_out(snapshot, request.wanted)
                statements, after = list(deed.statements), deed.snapshot
                end = End(state=EndState.APPROVED, at=at, by=person.address, entry=entry, carried=row)
            except DirectoryError as error:
                statements, after = [], snapshot
                end = End(state=EndState.VOID, at=at, by=person.address, reason=str(error), entry=entry)
            return Change([*statements, ended(request, end)], after.without_request(number), end)

        try:
            end = await self._directory.transact(work)
        except Exception as error:
            await self._audit.outcome(row, f"{type(error).__name__}: {error}"[:1000])
            raise
        if end.state is EndState.VOID:
            await self._audit.outcome(row, f"DirectoryConflict: {end.reason}")
            await self._tell(request)
            raise DirectoryConflict(f"request {number} can no longer be carried out, and is ended: {end.reason}")
        await self._audit.outcome(row, "done")
        await self._tell(request)
        return request

    async def refuse(self, person: Person, by: str, number: int, reason: str = "", entry: int = 0) -> Request:
        """End it; whoever asked may withdraw it so. Raises as ``approve`` does."""
        request = await self._waiting(person, number)
        own = person.mailbox == request.asker
        unfit = "" if own else self._unfit(self._directory.mailbox_by_id(person.mailbox))
        if unfit:
            raise Refused(unfit)
        state = EndState.WITHDRAWN if own else EndState.REFUSED
        await self._end(request, End(state=state, at=self._clock.seconds(), by=by, reason=reason[:500], entry=entry))
        await self._tell(request)
        return request

    async def expire(self) -> int:
        """End what waited too long; how many. A job for the timetable."""
        now = self._clock.seconds()
        over = [one for one in self._directory.snapshot.requests.values() if now >= one.expires]
        for request in over:
            await self._end(request, End(state=EndState.EXPIRED, at=now))
            await self._tell(request)
        return len(over)

    async def _end(self, request: Request, end: End) -> None:
        def work(snapshot: Snapshot) -> Change[None]:
            if request.number not in snapshot.requests:
                raise DirectoryConflict(f"request {request.number} is decided already")
            return Change([ended(request, end)], snapshot.without_request(request.number), None)

        await self._directory.transact(work)

    async def _waiting(self, person: Person, number: int) -> Request:
        """The request if it waits. Raises DirectoryMissing or DirectoryConflict, which says what became of it."""
        request = self._directory.snapshot.requests.get(number)
        if request is None:
            for one, end in await self._directory.requests(person.tenant, 1000):
                if one.number == number and end is not None:
                    who = f" by {end.by}" if end.by else ""
                    raise DirectoryConflict(f"request {number} is decided already: {end.state}{who}, {_day(end.at)}")
        if request is None or person.tenant not in (0, request.tenant):
            raise DirectoryMissing(f"there is no request {number}")
        if self._clock.seconds() >= request.expires:
            raise DirectoryConflict(f"request {number} expired on {_day(request.expires)}: ask anew")
        return request

    def _permit(self, person: Person, request: Request) -> None:
        if obstacle := self.obstacle(person, request):
            raise Refused(obstacle)

    def _still_asked(self, request: Request) -> None:
        """Whoever asked must still be entitled to. Raises DirectoryConflict."""
        asker = self._directory.mailbox_by_id(request.asker) if request.asker else None
        if request.asker and (asker is None or not asker.enabled or Role.ADMIN not in asker.roles):
            raise DirectoryConflict(f"{request.by}, who asked for it, is no administrator any more")

    async def _tell(self, request: Request) -> None:
        """A further outcome of the row that asked: what became of all its requests, with the numbers of the rows that decided and did it."""
        if not request.entry:
            return
        newest = await self._directory.requests(request.tenant, _SIBLINGS)
        ends = {one.number: end for one, end in newest if one.entry == request.entry}
        done = [end is not None and end.state is EndState.APPROVED for end in ends.values()]
        head = "done" if all(done) else "waits" if None in ends.values() else "partly done" if any(done) else "refused"
        texts = [f"request {number} {_fate(end)}" for number, end in sorted(ends.items())]
        await self._audit.outcome(request.entry, f"{head}: {'; '.join(texts)}"[:1000])


def _fate(end: End | None) -> str:
    if end is None:
        return "waits for a second person"
    if end.state is EndState.APPROVED:
        return f"approved by {end.by} (entry {end.entry}), carried out (entry {end.carried})"
    where = f" (entry {end.entry})" if end.entry else ""
    return f"{end.state}{f' by {end.by}' if end.by else ''}{where}{f': {end.reason}' if end.reason else ''}"


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
