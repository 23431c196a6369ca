"""The second person (rule 15): requests on both engines, who may approve, exactly once, and what becomes of them otherwise."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Suspended
from hornetmail.core.archive.archived import Refused
from hornetmail.core.served import Cause, Domain, Mailbox, Person, Role
from hornetmail.directory.requests import EndState, Request, Roles, SwitchOff
from hornetmail.directory.store import DirectoryConflict, DirectoryError, DirectoryMissing
from hornetmail.testing.control import Control

DAY = 86_400.0


class OnSQLite(TestCase):
    """Everything on SQLite; ``OnPostgreSQL`` runs the same."""

    engine = "sqlite"

    async def open(self) -> Control:
        self.control = control = await Control.open(self, self.engine)
        await control.directory.add_tenant("second")
        await control.directory.add_domain(Domain("example.test"))
        await control.directory.add_domain(Domain("other.test", tenant=2))
        self.boxes: dict[str, Mailbox] = {}
        for name, address, roles in (
            ("ada", "ada@example.test", (Role.ADMIN,)),
            ("otto", "otto@example.test", (Role.AUDITOR,)),
            ("dora", "dora@example.test", (Role.DATAOFFICER,)),
            ("rita", "rita@example.test", (Role.REVISOR,)),
            ("bob", "bob@example.test", ()),
            ("stranger", "admin@other.test", (Role.ADMIN,)),
        ):
            self.boxes[name] = await control.person(address, roles=roles)
        await control.second.turn_on(1)
        return control

    def who(self, name: str) -> Person:
        """As of now: roles as the directory has them."""
        mailbox = self.control.directory.mailbox_by_id(self.boxes[name].id)
        assert mailbox is not None
        return self.control.access.person_of(mailbox)

    async def ask_roles(self, whom: str = "bob", *roles: Role, asker: str = "ada") -> Request:
        box = self.boxes[whom]
        wanted = Roles(mailbox=box.id, address=box.address, add=roles or (Role.AUDITOR,), before=box.roles)
        by = self.who(asker) if asker else LOCAL_ADMINISTRATOR
        entry = await self.control.audit.begin(by.address or "local administrator", "mailbox.change", box.address, tenant=1)
        await self.control.audit.outcome(entry, "waits for a second person: request")
        return await self.control.second.ask(by, by.address or "local administrator", 1, wanted, entry)

    def roles(self, name: str = "bob") -> tuple[Role, ...]:
        return self.who(name).roles

    async def refused(self, kind: type[Exception], call: Any, *words: str) -> None:
        with pytest.raises(kind) as caught:
            await call
        for word in words:
            assert word in str(caught.value)

    async def test_who_may_approve(self) -> None:
        """Asker, gainer, other tenants, people without a role for it and the local administrator must not approve; a data officer may."""
        control = await self.open()
        approve = control.second.approve
        request = await self.ask_roles()
        for name, words in (
            ("ada", "you asked for it yourself"),
            ("bob", "needs an enabled administrator"),
            ("rita", "needs an enabled administrator"),
        ):
            await self.refused(Refused, approve(self.who(name), request.number), words)
        await self.refused(Refused, approve(LOCAL_ADMINISTRATOR, request.number), "needs a person")
        await self.refused(DirectoryMissing, approve(self.who("stranger"), request.number), "there is no request")
        await self.refused(DirectoryMissing, approve(self.who("dora"), 99), "there is no request 99")
        own = await self.ask_roles("otto", Role.ADMIN)
        await self.refused(Refused, approve(self.who("otto"), own.number), "you gain by it yourself")
        assert self.roles() == ()
        assert self.roles("otto") == (Role.AUDITOR,)
        await approve(self.who("dora"), request.number)
        assert self.roles() == (Role.AUDITOR,)
        assert [one.number for one in control.second.open_requests(1)] == [own.number]
        assert control.second.open_requests(2) == []

    async def test_a_password_that_others_know_approves_nothing(self) -> None:
        """Were it otherwise, an administrator would set an auditor's password, log in as the auditor and approve."""
        control = await self.open()
        request = await self.ask_roles()
        suspended = control.second.suspension(self.who("ada"), self.boxes["otto"], Cause.PASSWORD)
        await control.access.set_password(self.boxes["otto"].id, "known to ada", suspended=suspended)
        await self.refused(Refused, control.second.approve(self.who("otto"), request.number), "your own archive access waits")
        await control.access.set_password(self.boxes["dora"].id)
        await self.refused(Refused, control.second.approve(self.who("dora"), request.number), "password of your own")
        await control.directory.change_mailbox(self.boxes["dora"].id, enabled=False)
        await self.refused(Refused, control.second.approve(self.who("dora"), request.number), "needs an enabled")
        assert self.roles() == ()

    async def test_exactly_once(self) -> None:
        """Two who approve at the same moment, and the same one twice: one carries it out, the other is told; after a restart too."""
        control = await self.open()
        request = await self.ask_roles()

        async def attempt(name: str) -> str:
            try:
                await control.second.approve(self.who(name), request.number)
            except DirectoryConflict as error:
                return str(error)
            return "done"

        answers = await gatherResults([Deferred.fromCoroutine(attempt(name)) for name in ("otto", "dora")])
        assert sorted(answers) == ["done", f"request {request.number} is decided already"]
        await self.refused(
            DirectoryConflict, control.second.approve(self.who("dora"), request.number), "decided already: approved"
        )
        await control.reopen(self)
        await self.refused(
            DirectoryConflict, control.second.approve(self.who("dora"), request.number), "decided already: approved"
        )
        assert self.roles() == (Role.AUDITOR,)

    async def test_the_table_takes_one_end(self) -> None:
        """A second process on the same database, which has not heard of the end, must not carry the request out again."""
        control = await self.open()
        request = await self.ask_roles()
        late = control.second
        late_directory = control.directory
        await control.reopen(self)
        await control.second.approve(self.who("otto"), request.number)
        assert request.number in late_directory.snapshot.requests
        dora = self.who("dora")
        with pytest.raises(Exception, match=r"(?i)unique"):
            await late.approve(dora, request.number)
        assert [end.state for _, end in await control.second.history(1) if end is not None] == [EndState.APPROVED]

    async def test_requests_wait_over_a_restart_and_expire(self) -> None:
        """What waits must survive; after seven days nobody can approve it any more, and the sweep says so in the audit log."""
        control = await self.open()
        request = await self.ask_roles()
        await control.reopen(self)
        assert control.second.open_requests(1) == [request]
        assert request.expires - request.asked == 7 * DAY
        control.clock.advance(7 * DAY)
        assert control.second.open_requests(1) == []
        await self.refused(DirectoryConflict, control.second.approve(self.who("otto"), request.number), "expired")
        assert await control.second.expire() == 1
        assert await control.second.expire() == 0
        ((_, end),) = await control.second.history(1)
        assert end is not None
        assert end.state is EndState.EXPIRED
        entries = await control.audit.entries()
        assert entries[0].result == f"refused: request {request.number} expired"
        assert self.roles() == ()
        await control.second.set_days(1, 2)
        second = await self.ask_roles()
        assert second.number == request.number + 1
        assert second.expires - second.asked == 2 * DAY
        await self.refused(DirectoryError, control.second.set_days(1, 0), "from 1 to")

    async def test_checked_against_the_state_then(self) -> None:
        """A mailbox that is gone or changed, or an asker who is no administrator any more: refused with the reason, and ended."""
        control = await self.open()
        otto = self.who("otto")
        changed = await self.ask_roles()
        await control.directory.change_mailbox(self.boxes["bob"].id, roles=(Role.REVISOR,))
        await self.refused(DirectoryConflict, control.second.approve(otto, changed.number), "were changed meanwhile")
        assert self.roles() == (Role.REVISOR,)
        await self.refused(DirectoryConflict, control.second.approve(otto, changed.number), "decided already: void")
        await control.directory.change_mailbox(self.boxes["bob"].id, roles=())
        fallen = await self.ask_roles()
        await control.directory.change_mailbox(self.boxes["ada"].id, roles=(Role.AUDITOR,))
        await self.refused(DirectoryConflict, control.second.approve(otto, fallen.number), "no administrator any more")
        await control.directory.change_mailbox(self.boxes["ada"].id, roles=(Role.ADMIN,))
        gone = await self.ask_roles()
        await control.directory.remove_mailbox(self.boxes["bob"].id)
        await control.person("bob@example.test")
        await self.refused(DirectoryConflict, control.second.approve(otto, gone.number), '"bob@example.test" is gone')
        assert control.directory.mailbox("bob@example.test").roles == ()
        assert [end.state for _, end in await control.second.history(1) if end is not None] == [EndState.VOID] * 3

    async def test_refuse_and_withdraw(self) -> None:
        """Whoever may approve may refuse, whoever asked may withdraw, nobody else may do either; neither leaves anything to approve."""
        control = await self.open()
        request = await self.ask_roles()
        await self.refused(Refused, control.second.refuse(self.who("rita"), "rita@example.test", request.number))
        await self.refused(DirectoryMissing, control.second.refuse(self.who("stranger"), "admin@other.test", request.number))
        await control.second.refuse(self.who("otto"), "otto@example.test", request.number, "never")
        await self.refused(
            DirectoryConflict, control.second.approve(self.who("dora"), request.number), "decided already: refused by otto"
        )
        second = await self.ask_roles()
        await control.second.refuse(self.who("ada"), "ada@example.test", second.number)
        root = await self.ask_roles(asker="")
        await control.second.refuse(LOCAL_ADMINISTRATOR, "local administrator", root.number)
        states = [end.state for _, end in await control.second.history(1) if end is not None]
        assert states == [EndState.WITHDRAWN, EndState.WITHDRAWN, EndState.REFUSED]
        assert self.roles() == ()

    async def test_asked_anew(self) -> None:
        """The same asked anew takes the old request's place: an approver never decides on what is out of date."""
        control = await self.open()
        first = await self.ask_roles()
        second = await self.ask_roles("bob", Role.ADMIN)
        await self.refused(DirectoryConflict, control.second.approve(self.who("otto"), first.number), "decided already: replaced")
        await control.second.approve(self.who("otto"), second.number)
        assert self.roles() == (Role.ADMIN,)

    async def test_archive_access(self) -> None:
        """Closed with the password, in one transaction; opened by a second person, never by who set it, and not if it was set once more."""
        control = await self.open()
        second, bob = control.second, self.boxes["bob"]
        await control.access.set_password(bob.id, "given one", suspended=second.suspension(self.who("ada"), bob, Cause.PASSWORD))
        await control.reopen(self)
        second = control.second
        for scope in (control.access.scope, control.access.own_scope):
            with pytest.raises(Suspended, match="an administrator set its password"):
                scope(self.who("bob"))
        await control.access.change_password(self.who("bob"), "given one", "of my own choice", door="web", peer="")
        with pytest.raises(Suspended):
            control.access.own_scope(self.who("bob"))
        closed = control.directory.mailbox_by_id(bob.id)
        assert closed is not None
        first = await second.ask_archive(LOCAL_ADMINISTRATOR, "local administrator", closed)
        assert first is not None
        await self.refused(Refused, second.approve(self.who("ada"), first.number), "you set the password")
        control.clock.advance(60)
        again = second.suspension(LOCAL_ADMINISTRATOR, closed, Cause.PASSWORD)
        assert again.by == (self.boxes["ada"].id, 0)
        await control.access.set_password(bob.id, "once more", suspended=again)
        await self.refused(DirectoryConflict, second.approve(self.who("otto"), first.number), "closed anew")
        with pytest.raises(Suspended):
            control.access.own_scope(self.who("bob"))
        request = await second.ask_archive(self.who("ada"), "ada@example.test", control.directory.mailbox_by_id(bob.id))
        assert request is not None
        await second.approve(self.who("otto"), request.number)
        assert control.access.own_scope(self.who("bob")).addresses == {"bob@example.test"}
        assert [(one.entry, end.entry if end else None) for one, end in await second.history(1)] == [(0, 0), (0, 0)], (
            "no audit entry"
        )

    async def test_turning_on_and_off(self) -> None:
        """On needs two who could approve; off needs one of them, and not who asked. Each tenant for itself."""
        control = await self.open()
        second = control.second
        assert second.required(1)
        assert not second.required(2)
        await self.refused(DirectoryConflict, second.turn_on(2), "only admin@other.test")
        request = await second.ask(LOCAL_ADMINISTRATOR, "local administrator", 1, SwitchOff(tenant=1))
        assert second.required(1)
        await second.approve(self.who("ada"), request.number)
        assert not second.required(1)
        again = await second.ask(self.who("ada"), "ada@example.test", 1, SwitchOff(tenant=1))
        await self.refused(DirectoryConflict, second.approve(self.who("otto"), again.number), "required already")

    async def test_the_last_approver_stays(self) -> None:
        """Were the last one removed, nothing could be approved and it could never be turned off."""
        control = await self.open()
        for name in ("otto", "dora"):
            box = control.directory.mailbox_by_id(self.boxes[name].id)
            assert box is not None
            control.second.must_stay(box, "this")
            await control.directory.change_mailbox(box.id, roles=())
        with pytest.raises(DirectoryConflict, match=r"ada@example\.test is the last"):
            control.second.must_stay(self.boxes["ada"], "this")
        control.second.must_stay(self.boxes["bob"], "this")
        control.second.must_stay(self.boxes["stranger"], "this")

    async def test_numbers_at_their_bounds(self) -> None:
        """Two who could approve are enough, one is not; a request waits from one day to ninety; the local administrator sees every tenant's."""
        control = await self.open()
        second = control.second
        await control.person("deputy@other.test", roles=(Role.AUDITOR,))
        await second.turn_on(2)
        assert second.required(2)
        for days in (1, 90):
            await second.set_days(2, days)
            assert second.days(2) == days
        for days in (0, 91):
            await self.refused(DirectoryError, second.set_days(2, days), "from 1 to 90")
        assert second.days(1) == 7
        own = await self.ask_roles()
        other = await second.ask(self.who("stranger"), "admin@other.test", 2, SwitchOff(tenant=2))
        assert [one.number for one in second.open_requests(0)] == [own.number, other.number]
        assert second.open_requests(1) == [own]
        assert second.open_requests(2) == [other]
        control.clock.advance(7 * DAY - 1)
        assert second.open_requests(1) == [own]
        control.clock.advance(1)
        assert second.open_requests(0) == [other]
        assert await second.expire() == 1
        await self.refused(DirectoryMissing, second.approve(self.who("otto"), 99), "no request 99")
        await second.refuse(self.who("stranger"), "admin@other.test", other.number)
        ((_, end),) = await second.history(2)
        assert end is not None
        assert (end.state, end.entry, end.at, end.reason) == (EndState.WITHDRAWN, 0, control.clock.seconds(), "")
        further = await second.ask(self.who("stranger"), "admin@other.test", 2, SwitchOff(tenant=2))
        await second.refuse(self.who("stranger"), "admin@other.test", further.number, reason="no" * 300)
        assert [end.reason for _, end in await second.history(2, 1) if end is not None] == ["no" * 250]

    async def test_the_audit_log_tells_the_story(self) -> None:
        """From the asking one must find approval and action, and back, by numbers; the chain holds."""
        control = await self.open()
        request = await self.ask_roles()
        approval = await control.audit.begin("otto@example.test", "approval.approve", str(request.number), tenant=1)
        await control.second.approve(self.who("otto"), request.number, approval)
        await control.audit.outcome(approval, "done")
        action, approving, asking = (await control.audit.entries(tenant=1))[:3]
        assert (asking.number, approving.number) == (request.entry, approval)
        assert asking.result == (
            f"done: request {request.number} approved by otto@example.test (entry {approval}), carried out (entry {action.number})"
        )
        assert (action.actor, action.action, action.subject, action.result) == (
            "ada@example.test", "approved.roles", "bob@example.test", "done",
        )  # fmt: skip
        assert f'"request":{request.number},"asked":{asking.number},"approved":{approval}' in action.detail
        assert await control.audit.verify() == ""


class OnPostgreSQL(OnSQLite):
    """The same on PostgreSQL (L15)."""

    engine = "postgresql"
