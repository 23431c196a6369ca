"""The second person over the API (rule 15): what waits, what does not, and that no door to the archive stands open meanwhile."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hornetmail.access.rights import Suspended
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.served import Person, Role
from hornetmail.delivery.letters.redelivery import Redelivery
from hornetmail.testing.control import NOW
from hornetmail.web.api.operations import Caller
from tests.web.test_api import ROOT, ApiCase

DAY = 86_400.0


class SecondPersonCase(ApiCase):
    """With a second person required in the first tenant; asking are ``admin`` and root, approving is ``auditor``."""

    async def begin(self) -> None:
        await self.open()
        shown = await self.call("admin", "second_person.change", on=True)
        assert (shown.on, shown.approvers) == (True, ["admin@example.test", "auditor@example.test"])

    def now(self, name: str) -> Caller:
        """The caller with the roles of this moment, as every request has them."""
        person = self.callers[name].person
        assert person is not None
        found = self.site.rooms.access.person(person.mailbox)
        assert found is not None
        return Caller(found)


class TestWhatWaits(SecondPersonCase):
    """Operations that must not do what they are asked."""

    async def test_off_nothing_waits(self) -> None:
        """Installations that never asked for it, the playground among them, must work as before."""
        await self.open()
        added = await self.call("admin", "mailbox.add", address="carol@example.test", roles=["auditor"])
        assert (added.mailbox.roles, added.waits) == ([Role.AUDITOR], [])
        changed = await self.call(
            "admin", "mailbox.change", address="bob@example.test", roles=["admin"], aliases=["b@example.test"]
        )
        assert (changed.roles, changed.aliases, changed.waits) == ([Role.ADMIN], ["b@example.test"], [])
        assert (await self.call("admin", "mailbox.password", address="alice@example.test")).waits == []
        assert (await self.call("alice", "archive.search")).total == 0
        assert not (await self.call("admin", "second_person.show")).on

    async def test_roles_wait_and_the_rest_is_done(self) -> None:
        """A role must not come into force; name and the loss of roles must at once."""
        await self.begin()
        changed = await self.call(
            "admin", "mailbox.change", address="alice@example.test", name="Alice", roles=["auditor", "revisor"]
        )
        assert (changed.name, changed.roles) == ("Alice", [])
        (waits,) = changed.waits
        assert waits.text == "give alice@example.test the roles auditor, revisor"
        assert not self.now("alice").may("audit")
        error = await self.refused("admin", "approval.approve", number=waits.number)
        assert (error.status, "somebody else" in error.text) == (403, True)
        assert "--as" in (await self.refused(ROOT, "approval.approve", number=waits.number)).text
        assert (await self.refused("alice", "approval.approve", number=waits.number)).status == 403
        assert (await self.refused("stranger", "approval.approve", number=waits.number)).status == 404
        assert (await self.call("stranger", "approval.list")).requests == []
        (listed,) = (await self.call("auditor", "approval.list")).requests
        assert (listed.state, listed.by, listed.obstacle, listed.subject) == (
            "waiting",
            "admin@example.test",
            "",
            "alice@example.test",
        )
        done = await self.call("auditor", "approval.approve", number=waits.number)
        assert done.state == "approved"
        assert self.now("alice").person.roles == (Role.AUDITOR, Role.REVISOR)
        assert (await self.refused("auditor", "approval.approve", number=waits.number)).status == 409
        taken = await self.call("admin", "mailbox.change", address="alice@example.test", roles=["revisor"])
        assert (taken.roles, taken.waits) == ([Role.REVISOR], [])
        entries = [one for one in await self.site.rooms.audit.entries() if one.result.startswith("done")]
        action, approved, asked = (one for one in entries if "approv" in one.action + one.result)
        assert (asked.action, approved.action, action.action) == ("mailbox.change", "approval.approve", "approved.roles")
        assert f"entry {approved.number}" in asked.result
        assert f"entry {action.number}" in asked.result
        assert (approved.result, action.result) == ("done", "done")

    async def test_a_new_mailbox_gets_its_role_later(self) -> None:
        """Adding with a role, in a served domain and as a mere log-in: the person can log in and has no right yet."""
        await self.begin()
        for address in ("carol@example.test", "tax@office.test"):
            added = await self.call("admin", "mailbox.add", address=address, password="given", roles=["auditor"])
            assert (added.mailbox.roles, len(added.waits)) == ([], 1)
            person = await self.site.rooms.access.login(address, "given", "web", "")
            assert not Caller(person).may("audit")
            await self.call("auditor", "approval.approve", number=added.waits[0].number)
            person = await self.site.rooms.access.login(address, "given", "web", "")
            assert person.roles == (Role.AUDITOR,)
        assert (await self.refused("admin", "mailbox.add", address="x@nowhere.test")).status == 404

    async def test_addresses_wait(self) -> None:
        """An address more opens its archived mail to the mailbox (A43): as much as a role does, and as little."""
        await self.begin()
        self.site.archive.add(7, "x@elsewhere.test", "old@example.test")
        await self.call("admin", "mailbox.change", address="bob@example.test", aliases=["BOB@example.test"])
        changed = await self.call("admin", "mailbox.change", address="bob@example.test", aliases=["old@example.test"])
        assert changed.aliases == []
        assert (await self.call(self.now("bob"), "archive.search")).total == 0
        assert (
            await self.refused("admin", "mailbox.change", address="bob@example.test", aliases=["a@nowhere.test"])
        ).status == 404
        assert (
            await self.refused("admin", "mailbox.change", address="bob@example.test", aliases=["alice@example.test"])
        ).status == 409
        await self.call("auditor", "approval.approve", number=changed.waits[0].number)
        assert (await self.call(self.now("bob"), "archive.search")).total == 1
        same = await self.call("admin", "mailbox.change", address="bob@example.test", aliases=["Old@example.test"])
        assert same.waits == []
        await self.call("admin", "mailbox.change", address="bob@example.test", aliases=[])
        assert (await self.call(self.now("bob"), "archive.search")).total == 0
        again = await self.call("admin", "mailbox.change", address="bob@example.test", aliases=["old@example.test"])
        taken = await self.call("admin", "mailbox.add", address="old@example.test")
        error = await self.refused("auditor", "approval.approve", number=again.waits[0].number)
        assert (error.status, "old@example.test" in error.text) == (409, True)
        assert taken.mailbox.address == "old@example.test"

    async def test_a_mailbox_for_an_address_with_archived_mail(self) -> None:
        """Removing somebody and making the mailbox anew must not open the archive to whoever knows the new password; mail must work."""
        await self.begin()
        self.site.archive.add(7, "x@elsewhere.test", "bob@example.test")
        await self.call("admin", "mailbox.remove", address="bob@example.test")
        added = await self.call("admin", "mailbox.add", address="bob@example.test", password="known to admin")
        assert "has archived mail from before" in added.mailbox.archive_closed
        person = await self.site.rooms.access.login("bob@example.test", "known to admin", "imap", "")
        assert (await self.refused(Caller(person), "archive.search")).code == "suspended"
        assert (await self.refused("admin", "approval.approve", number=added.waits[0].number)).status == 403
        await self.call("auditor", "approval.approve", number=added.waits[0].number)
        assert (await self.call(Caller(person), "archive.search")).total == 1
        fresh = await self.call("admin", "mailbox.add", address="new@example.test")
        assert (fresh.mailbox.archive_closed, fresh.waits) == ("", [])
        alias = await self.call("admin", "mailbox.add", address="newer@example.test", aliases=["x@example.test"])
        assert alias.waits == []

    async def test_an_archive_that_cannot_be_asked_counts_as_one_with_mail(self) -> None:
        """Locked, broken or not here: what cannot be found out must not open anything."""
        await self.begin()

        async def broken(*args: object, **keywords: object) -> None:
            raise ArchiveError("the medium is away")

        self.site.archive.flush = broken
        assert (await self.call("admin", "mailbox.add", address="new@example.test")).mailbox.archive_closed

    async def test_names_of_a_domain_wait(self) -> None:
        """A domain's alias opens the mail of the same names there to everybody in it (A46)."""
        await self.begin()
        self.site.archive.add(7, "x@elsewhere.test", "bob@old.test")
        changed = await self.call("admin", "domain.change", name="example.test", retention_days=30, aliases=["Old.test"])
        assert (changed.aliases, changed.retention_days, len(changed.waits)) == ([], 30, 1)
        assert (await self.call(self.now("bob"), "archive.search")).total == 0
        assert (await self.refused("admin", "domain.change", name="example.test", aliases=["other.test"])).status == 409
        await self.call("auditor", "approval.approve", number=changed.waits[0].number)
        assert (await self.call(self.now("bob"), "archive.search")).total == 1
        empty = await self.call("admin", "domain.add", name="empty.test", aliases=["void.test"])
        assert (empty.aliases, empty.waits) == (["void.test"], [])

    async def test_switching_on_again_waits(self) -> None:
        """A switched-off auditor's roles are worth something again once the log-in works."""
        await self.begin()
        await self.call("admin", "mailbox.add", address="rita@example.test", password="x", roles=["revisor"])
        await self.call("auditor", "approval.approve", number=1)
        await self.call("admin", "mailbox.change", address="rita@example.test", enabled=False)
        on = await self.call("admin", "mailbox.change", address="rita@example.test", enabled=True)
        assert not on.enabled
        await self.call("auditor", "approval.approve", number=on.waits[0].number)
        assert (await self.call("admin", "mailbox.show", address="rita@example.test")).enabled
        await self.call("admin", "mailbox.change", address="bob@example.test", enabled=False)
        assert (await self.call("admin", "mailbox.change", address="bob@example.test", enabled=True)).enabled


class TestPassword(SecondPersonCase):
    """A password that an administrator sets."""

    async def test_every_door_to_the_archive_is_closed(self) -> None:
        """Search, own search, view, export, and redelivery by the person or by an administrator: else the new password reads old mail."""
        await self.begin()
        self.site.archive.add(7, "x@elsewhere.test", "bob@example.test")
        before = self.now("bob")
        assert (await self.call(before, "archive.search")).total == 1
        reset = await self.call("admin", "mailbox.password", address="bob@example.test")
        assert reset.waits[0].text == "open the archive to bob@example.test again: an administrator set the password"
        bob = Caller(await self.site.rooms.access.login("bob@example.test", reset.password, "web", ""))
        for name, request in (
            ("archive.search", {}),
            ("archive.search", {"own": True}),
            ("archive.show", {"id": "7"}),
            ("archive.export", {"id": "7"}),
            ("archive.redeliver", {"ids": ["7"]}),
        ):
            error = await self.refused(bob, name, **request)
            assert (error.status, error.code) == (403, "suspended"), name
            assert "until a second person approves, because an administrator set its password" in error.text
        assert "an administrator" in (await self.call(bob, "account.me")).archive_closed
        rooms = self.site.rooms
        nothing: Any = None
        redelivery = Redelivery(nothing, nothing, rooms.archive, rooms.directory, rooms.access, lambda: "once")
        admin = self.callers["admin"].person
        assert isinstance(admin, Person)
        with pytest.raises(Suspended):
            await redelivery.redeliver(admin, [7], "bob@example.test")
        await self.call(bob, "account.password", old=reset.password, new="of my own choice")
        assert (await self.refused(bob, "archive.search")).code == "suspended"
        assert (await self.refused("admin", "approval.approve", number=reset.waits[0].number)).status == 403
        await self.call("auditor", "approval.approve", number=reset.waits[0].number)
        assert (await self.call(bob, "archive.search")).total == 1
        assert (await self.call(bob, "account.me")).archive_closed == ""

    async def test_a_refused_one_can_be_asked_for_again(self) -> None:
        """Refused or expired, the archive stays closed; whoever set the password stays barred, also if root asks."""
        await self.begin()
        await self.call("admin", "second_person.change", days=1)
        reset = await self.call("admin", "mailbox.password", address="bob@example.test", password="given")
        await self.call("auditor", "approval.refuse", number=reset.waits[0].number, reason="who is that")
        assert (await self.refused(self.now("bob"), "archive.search")).code == "suspended"
        (asked,) = (await self.call(ROOT, "approval.archive", address="bob@example.test")).waits
        error = await self.refused("admin", "approval.approve", number=asked.number)
        assert "you set the password" in error.text
        self.site.control.clock.advance(DAY)
        assert (await self.refused("auditor", "approval.approve", number=asked.number)).status == 409
        await self.call(ROOT, "approval.archive", address="bob@example.test")
        (waiting,) = (await self.call("auditor", "approval.list")).requests
        await self.call("auditor", "approval.approve", number=waiting.number)
        assert (await self.call(self.now("bob"), "archive.search")).total == 0
        states = [one.state for one in (await self.call("auditor", "approval.list", all=True)).requests]
        assert states == ["approved", "replaced", "refused"]
        assert (await self.refused("admin", "approval.archive", address="bob@example.test")).status == 409
        assert (await self.refused("stranger", "approval.archive", address="bob@example.test")).status == 404

    async def test_the_last_approver(self) -> None:
        """The only one left who can approve must not be made unable to, by whatever operation."""
        await self.begin()
        await self.call("admin", "mailbox.remove", address="auditor@example.test")
        for name, request in (
            ("mailbox.change", {"roles": []}),
            ("mailbox.change", {"enabled": False}),
            ("mailbox.remove", {}),
            ("mailbox.password", {}),
        ):
            error = await self.refused(ROOT, name, address="admin@example.test", **request)
            assert (error.status, "last who can approve" in error.text) == (409, True), name
        await self.call(ROOT, "mailbox.change", address="admin@example.test", name="Ada", roles=["admin"])


class TestSetting(SecondPersonCase):
    """Turning it on and off."""

    async def test_on_and_off(self) -> None:
        """On at once if two could approve; off only once a second person approved; a suspension outlasts it and is lifted by asking."""
        await self.open()
        error = await self.refused("stranger", "second_person.change", on=True)
        assert (error.status, "at least two people" in error.text) == (409, True)
        assert (await self.refused("auditor", "second_person.change", on=True)).status == 403
        assert (await self.refused("admin", "second_person.change", on=True, tenant=2)).status == 404
        assert (await self.call(ROOT, "second_person.change", on=True, tenant=1)).on
        assert not (await self.call("stranger", "second_person.show")).on
        await self.call("admin", "mailbox.password", address="bob@example.test", password="given")
        off = await self.call("admin", "second_person.change", on=False)
        assert (off.on, off.waits[0].text) == (True, "require a second person no longer")
        assert (await self.refused("admin", "approval.approve", number=off.waits[0].number)).status == 403
        await self.call("auditor", "approval.approve", number=off.waits[0].number)
        assert not (await self.call("admin", "second_person.show")).on
        assert (await self.refused(self.now("bob"), "archive.search")).code == "suspended"
        assert (await self.call("admin", "approval.archive", address="bob@example.test")).waits == []
        assert (await self.call(self.now("bob"), "archive.search")).total == 0
        entries = {one.action: one.result for one in await self.site.rooms.audit.entries()}
        assert entries["approved.second_person_off"] == "done"
        assert await self.site.rooms.audit.verify() == ""

    async def test_one_call_two_requests(self) -> None:
        """A form that asked for two things: its row in the audit log must tell the fate of both, not of the last one alone."""
        await self.begin()
        wanted = {"roles": ["revisor"], "aliases": ["b@example.test"]}
        first, second = (await self.call("admin", "mailbox.change", address="bob@example.test", **wanted)).waits
        await self.call("auditor", "approval.approve", number=first.number)
        row = next(one for one in await self.site.rooms.audit.entries() if one.number == first.entry)
        assert row.result.startswith("waits: request 1 approved by auditor@example.test (entry ")
        assert row.result.endswith("; request 2 waits for a second person")
        await self.call("auditor", "approval.refuse", number=second.number, reason="not that")
        row = next(one for one in await self.site.rooms.audit.entries() if one.number == first.entry)
        assert row.result.startswith("partly done: request 1 approved by ")
        assert row.result.endswith(": not that")

    async def test_requests_hold_no_secret(self) -> None:
        """Requests are shown to others: what waits must never carry a password."""
        await self.begin()
        await self.call("admin", "mailbox.add", address="carol@example.test", password="top secret", roles=["auditor"])
        listed = await self.call("auditor", "approval.list", all=True)
        assert "secret" not in msgspec.json.encode(listed).decode()
        assert listed.requests[0].asked == NOW


class TestManyAtOnce(SecondPersonCase):
    """A list of people is as much as each of them."""

    async def test_archived_mail_stays_closed_to_those_of_a_list(self) -> None:
        """A mailbox made anew by way of a list must not open the archive to whoever knows its password, and a list is its tenant's alone."""
        await self.begin()
        self.site.archive.add(7, "x@elsewhere.test", "bob@example.test")
        await self.call("admin", "mailbox.remove", address="bob@example.test")
        people = [
            {"line": 2, "address": "bob@example.test", "password": "correct horse"},
            {"line": 3, "address": "new@example.test"},
        ]
        done = await self.call("admin", "people.import", source="list", people=people)
        assert (done.registered, done.problems, len(done.waits)) == (2, [], 1)
        shown = await self.call("admin", "mailbox.show", address="bob@example.test")
        assert "has archived mail from before" in shown.archive_closed
        assert (await self.call("admin", "mailbox.show", address="new@example.test")).archive_closed == ""
        refused = await self.call("stranger", "people.import", source="list", people=[{"line": 2, "address": "eve@example.test"}])
        assert [(one.line, refused.registered) for one in refused.problems] == [(2, 0)]
        assert "not served here" in refused.problems[0].text
        known = await self.call("stranger", "people.import", source="list", people=[{"line": 2, "address": "bob@example.test"}])
        assert (known.present, known.registered) == (0, 0)
        assert "not served here" in known.problems[0].text
        error = await self.refused("admin", "people.import", source="list", people=[people[1]] * 501)
        assert "$.people: Expected `array` of length <= 500" in error.text
