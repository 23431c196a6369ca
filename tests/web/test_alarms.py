"""Alarms on the API and on their page: who sees what, who says that they were seen, and how administrators are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.archive.care.watch import MediaWatch
from hornetmail.archive.media.medium import MediumTaken, Space
from hornetmail.archive.media.roster import Media
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.ids import IdSource
from hornetmail.core.served import Domain, Role
from hornetmail.runtime.alarms import AlarmBook
from hornetmail.runtime.meters import Meters
from hornetmail.testing.archives import directory_medium
from hornetmail.testing.control import Control
from hornetmail.testing.site import ApiOnControl
from hornetmail.web.api.operations import ApiError, Caller
from hornetmail.web.api.people.mailboxes import MailboxAdd, MailboxChange
from hornetmail.web.api.service.alarms import AlarmChoice, AlarmFilter, AlarmSettingsChange
from tests.web.people import House

ROOT = Caller(door="socket", root=True)


class TestOperations(TestCase):
    """Administrators of two tenants, and somebody without a role."""

    async def setUp(self) -> None:
        self.control = control = await Control.open(self)
        self.site = ApiOnControl(control)
        self.book = AlarmBook(control.clock, control.bus, IdSource(control.clock.seconds))
        directory = control.directory
        await directory.add_tenant("second")
        await directory.add_domain(Domain("example.test"))
        await directory.add_domain(Domain("other.test", tenant=2))

        def tenant_of(name: str) -> int:
            served = directory.domain(name)
            return served.tenant if served is not None else 1

        await self.book.open(control.database, tenant_of)
        self.site.api.rooms = msgspec.structs.replace(
            self.site.rooms, alarms=self.book, bus=control.bus, alarm_addresses=lambda tenant: [f"admin of {tenant}"]
        )
        self.callers: dict[str, Caller] = {}
        for address, roles in (("ada@example.test", (Role.ADMIN,)), ("zoe@other.test", (Role.ADMIN,)), ("bob@example.test", ())):
            box = await control.person(address, roles=roles)
            self.callers[address.partition("@")[0]] = Caller(control.access.person_of(box))
        control.bus.publish(Alarm("disk-full", "91 %", subject="/var"))
        control.bus.publish(Alarm("emergency", "down", "example.test"))
        control.bus.publish(Alarm("emergency", "down", "other.test"))

    async def call(self, who: str, name: str, request: Any = None) -> Any:
        return await self.site.api.call(self.callers.get(who, ROOT), name, request)

    async def refused(self, who: str, name: str, request: Any = None) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.call(who, name, request)
        return caught.value

    async def test_who_sees_what(self) -> None:
        """Would catch one tenant's troubles told to another, and to people who administer nothing."""
        assert [one.subject for one in (await self.call("ada", "alarm.list")).alarms] == ["example.test", "/var"]
        assert [one.subject for one in (await self.call("zoe", "alarm.list")).alarms] == ["other.test"]
        assert (await self.call("root", "alarm.list")).total == 3
        assert (await self.refused("bob", "alarm.list")).status == 403
        assert (await self.call("zoe", "status")).alarms.open == 1

    async def test_acknowledging(self) -> None:
        """Would catch acknowledging of what is not one's own, and an alarm that goes though its cause is there."""
        [theirs] = (await self.call("zoe", "alarm.list")).alarms
        assert (await self.refused("ada", "alarm.acknowledge", AlarmChoice(ids=[theirs.id]))).status == 404
        assert (await self.refused("ada", "alarm.acknowledge", AlarmChoice())).status == 400
        assert (await self.refused("ada", "alarm.acknowledge", AlarmChoice(ids=["x"]))).status == 400
        assert (await self.call("ada", "alarm.acknowledge", AlarmChoice(all=True))).changed == 2
        assert (await self.call("ada", "alarm.acknowledge", AlarmChoice(all=True))).changed == 0
        for one in (await self.call("ada", "alarm.list")).alarms:
            assert one.acknowledged
            assert one.acknowledged_by == "ada@example.test"
        assert not (await self.call("zoe", "alarm.list")).alarms[0].acknowledged
        self.control.bus.publish(AlarmEnded("emergency", "example.test", "it is back"))
        [over] = (await self.call("ada", "alarm.list", AlarmFilter(over=True))).alarms
        assert (over.why, over.subject) == ("it is back", "example.test")
        assert (await self.call("zoe", "alarm.list", AlarmFilter(over=True))).alarms == []

    async def test_settings(self) -> None:
        """Would catch a secret that is shown or logged, a webhook in the clear, and one tenant's settings in force for another."""
        shown = await self.call("ada", "alarm.change", AlarmSettingsChange(webhook="https://hook.test/x", secret="s3cret"))
        assert (shown.webhook, shown.secret_set, shown.repeat_hours) == ("https://hook.test/x", True, 4.0)
        assert (await self.call("root", "alarm.settings")).webhook == "https://hook.test/x", (
            "the operator's, who is the first tenant"
        )
        assert (await self.call("zoe", "alarm.settings")).webhook == ""
        for entry in await self.control.audit.entries():
            assert "s3cret" not in entry.detail
        await self.call("ada", "alarm.change", AlarmSettingsChange(repeat_hours=0.5))
        assert (await self.call("ada", "alarm.settings")).secret_set, "what is not named stays"
        for who, change in (
            ("ada", AlarmSettingsChange(webhook="http://hook.test/")),
            ("zoe", AlarmSettingsChange(webhook="http://127.0.0.1/")),
            ("ada", AlarmSettingsChange(repeat_hours=0)),
            ("ada", AlarmSettingsChange(secret="x" * 501)),
        ):
            assert (await self.refused(who, "alarm.change", change)).status == 400
        await self.call("ada", "alarm.change", AlarmSettingsChange(webhook="", secret=""))
        assert not (await self.call("ada", "alarm.settings")).secret_set

    async def test_second_addresses(self) -> None:
        """Would catch a second address inside, which is away whenever the first is, and one of which nothing is said if it is missing."""
        assert (await self.call("ada", "alarm.settings")).second == []
        change = MailboxChange(address="ada@example.test", second="ada@Elsewhere.test")
        assert (await self.call("ada", "mailbox.change", change)).second == "ada@elsewhere.test"
        assert (await self.call("ada", "alarm.settings")).second == ["ada@elsewhere.test"]
        for inside in ("ada@other.test", "no address", "x@example.test"):
            refused = await self.refused("ada", "mailbox.change", MailboxChange(address="ada@example.test", second=inside))
            assert refused.status in (400, 409)
            assert "second address" in refused.text
        added = await self.call("ada", "mailbox.add", MailboxAdd(address="eve@example.test", second="eve@far.test"))
        assert added.mailbox.second == "eve@far.test"
        assert (await self.call("ada", "mailbox.change", MailboxChange(address="ada@example.test", second=""))).second == ""

    async def test_a_test(self) -> None:
        """It must be the asking tenant's own."""
        await self.call("zoe", "alarm.test")
        assert [one.code for one in (await self.call("zoe", "alarm.list")).alarms] == ["test", "emergency"]
        assert len((await self.call("ada", "alarm.list")).alarms) == 2

    def test_figures(self) -> None:
        """A gauge by code, with the codes that are quiet, or an alert on it never resolves."""
        meters = Meters()
        meters.gauges("alarms", "code", self.book.counts)
        text = meters.render().decode()
        assert 'hornetmail_alarms{code="emergency"} 2.0' in text
        assert 'hornetmail_alarms{code="loop"} 0.0' in text


class TestPage(TestCase):
    def house(self) -> House:
        house = House()
        self.book = AlarmBook(house.clock, house.bus, IdSource(house.clock.seconds))
        house.rooms_with(alarms=self.book)
        return house

    def test_seen_and_acknowledged(self) -> None:
        """Would catch a page that shows nothing, a button that does nothing, and markup in what a peer said."""
        house = self.house()
        self.book.raise_(Alarm("drain-refused", "<script>alert(1)</script> said 550", "example.test"))
        browser = house.browser("admin@example.test")
        page = browser.get("/alarms")
        assert "&lt;script&gt;" in page.text
        assert "<script>alert" not in page.text
        assert "The primary refuses mail from the portal" in page.text
        assert "1 alarm" in browser.get("/dashboard").text
        [record] = self.book.standing()
        answer = browser.post("/alarms/acknowledge", {"alarm": str(record.number), "csrf": browser.token})
        assert answer.status == 303
        assert "seen by admin@example.test" in browser.get("/alarms").text
        assert house.browser("alice@example.test").get("/alarms").status == 403

    def test_a_medium_that_another_installation_has(self) -> None:
        """ADR 38, rule 8f: catches a service that archives into its staging area alone, and whoever looks at the panel is not told of it, nor what to do; and one that is told when it is over."""
        house = self.house()
        medium = directory_medium(1, Path(self.mktemp()))
        watch = MediaWatch(
            Media([medium], 1),
            lambda code, text, subject: self.book.raise_(Alarm(code, text, subject)),
            lambda code, why, subject: self.book.end(AlarmEnded(code, subject, why)),
            house.clock.seconds,
        )
        with patch.object(medium, "look", side_effect=MediumTaken("medium 1: mx.old.test:/var/lib/hornetmail writes there")):
            watch.look()
        browser = house.browser("admin@example.test")
        page = browser.get("/alarms").text
        assert "Another installation writes to a medium of the archive" in page
        assert "mx.old.test:/var/lib/hornetmail" in page
        assert "archive medium take 1" in page
        assert "1 alarm" in browser.get("/dashboard").text
        with patch.object(medium, "look", return_value=Space(1000, 500)):
            watch.look()
        assert self.book.standing() == []
        assert "1 alarm" not in browser.get("/dashboard").text

    def test_settings(self) -> None:
        """What cannot be taken is said, with what was typed still there; a secret is never shown."""
        house = self.house()
        browser = house.browser("admin@example.test")
        page = browser.post(
            "/alarms/settings", {"webhook": "http://far.test/x", "repeat_hours": "4", "secret": "s3cret", "csrf": browser.token}
        )
        assert page.status == 400
        assert "https only" in page.text
        assert "http://far.test/x" in page.text
        form = {"webhook": "https://far.test/x", "repeat_hours": "2", "secret": "s3cret", "csrf": browser.token}
        assert browser.post("/alarms/settings", form).status == 303
        page = browser.get("/alarms")
        assert "https://far.test/x" in page.text
        assert "s3cret" not in page.text
