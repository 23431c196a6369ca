"""Rules of retention and legal holds on the API and on their page (A57, A58, rule 15)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.archive.retention import RetentionState, Rule
from hornetmail.core.served import Domain, Role
from hornetmail.testing.control import Control
from hornetmail.testing.site import ApiOnControl
from hornetmail.web.api.operations import ApiError, Caller
from tests.web.people import House

ROOT = Caller(door="socket", root=True)


class TestOperations(TestCase):
    async def open(self) -> None:
        control = await Control.open(self)
        self.site = ApiOnControl(control)
        await control.directory.add_tenant("second")
        await control.directory.add_domain(Domain("example.test"))
        await control.directory.add_domain(Domain("other.test", tenant=2))
        self.callers: dict[str, Caller] = {"root": ROOT}
        for address, roles in (
            ("admin@example.test", (Role.ADMIN,)),
            ("auditor@example.test", (Role.AUDITOR,)),
            ("bob@example.test", ()),
            ("admin@other.test", (Role.ADMIN,)),
        ):
            box = await control.person(address, roles=roles)
            self.callers[address] = Caller(control.access.person_of(box))

    async def call(self, who: str, operation: str, /, **request: Any) -> Any:
        return await self.site.api.call(self.callers[who], operation, request)

    async def refused(self, who: str, operation: str, /, **request: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.call(who, operation, **request)
        return caught.value

    async def test_rules(self) -> None:
        """Catches rules of one tenant in another's hands, and rules for a domain that is not served, which would keep nothing and say nothing."""
        await self.open()
        rules = [{"days": 10, "domain": "example.test", "direction": "in", "spam": True}, {"days": 400}]
        changed = await self.call("admin@example.test", "archive.change_retention", rules=rules)
        assert [one.days for one in changed.rules] == [400, 10]
        assert changed.by == "admin@example.test"
        assert (await self.call("root", "archive.retention")).rules == changed.rules
        assert (await self.call("admin@other.test", "archive.retention")).rules == []
        foreign = await self.refused("admin@other.test", "archive.change_retention", rules=rules)
        assert (foreign.status, foreign.text) == (400, "$.rules[0].domain: no domain example.test is served here")
        for wrong in ([{"days": 0}], [{"days": 5, "direction": "up"}], [{"days": 5}, {"days": 6}]):
            error = await self.refused("admin@example.test", "archive.preview_retention", rules=wrong)
            assert (error.status, error.text[:8]) == (400, "$.rules:"), error.text
        assert (await self.refused("bob@example.test", "archive.retention")).status == 403
        assert (await self.refused("auditor@example.test", "archive.change_retention", rules=[])).status == 403
        seen = await self.call("admin@example.test", "archive.preview_retention", rules=rules)
        assert (seen.going, seen.sample) == (12, ["7", "8"])

    async def test_holds(self) -> None:
        """Catches a hold by words for who may not read (rule 15), holds of another tenant, and a hold that ends under a wrong name."""
        await self.open()
        begun = await self.call("auditor@example.test", "archive.hold", name="case 7", query="fraud", reason="court", ids=["12"])
        assert begun.mails == 4
        assert begun.content
        blind = await self.call("admin@example.test", "archive.hold", name="people", query="from:eve")
        assert not blind.content, "a hold that takes nothing by its words, and does not say so"
        assert self.site.retention.asked == [("fraud", True, (12,)), ("from:eve", False, ())]
        found = {one.name: one for one in (await self.call("auditor@example.test", "archive.holds")).holds}
        assert (found["case 7"].by, found["case 7"].reason, found["case 7"].content) == ("auditor@example.test", "court", True)
        assert (await self.call("admin@other.test", "archive.holds")).holds == []
        assert (await self.refused("admin@other.test", "archive.release", name="case 7")).status == 404
        assert (await self.refused("bob@example.test", "archive.holds")).status == 403
        assert (await self.refused("auditor@example.test", "archive.hold", name="empty")).status == 400
        await self.call("auditor@example.test", "archive.release", name="case 7")
        found = {one.name: one for one in (await self.call("auditor@example.test", "archive.holds")).holds}
        assert found["case 7"].released

    async def test_keeping_for_longer(self) -> None:
        """Catches mail that anybody keeps, a wrong ID or day that is taken, and nobody who answers for it."""
        await self.open()
        until = self.site.control.clock.seconds() + 86_400.0
        kept = await self.call("auditor@example.test", "archive.keep", ids=["12", "13"], until=until, reason="a case")
        assert kept.changed == 2
        assert self.site.retention.kept == [((12, 13), until, "auditor@example.test", "a case")]
        for who, more, status in (
            ("bob@example.test", {}, 403),
            ("auditor@example.test", {"ids": ["x"]}, 400),
            ("auditor@example.test", {"ids": ["404"]}, 404),
            ("auditor@example.test", {"until": 5.0}, 400),
        ):
            assert (await self.refused(who, "archive.keep", **{"ids": ["12"], "until": until, **more})).status == status
        (row, *_) = [one for one in await self.site.control.audit.entries(limit=9) if "a case" in one.detail]
        assert (row.actor, row.action, row.subject) == ("auditor@example.test", "archive.keep", "12 13")

    async def test_in_the_audit_log(self) -> None:
        """Catches a rule, a hold or a release that nobody answers for."""
        await self.open()
        await self.call("admin@example.test", "archive.change_retention", rules=[{"days": 400}])
        await self.call("admin@example.test", "archive.hold", name="case 7", query="from:eve")
        await self.call("admin@example.test", "archive.release", name="case 7")
        rows = await self.site.control.audit.entries(limit=3)
        assert [(row.actor, row.action) for row in rows] == [
            ("admin@example.test", "archive.release"),
            ("admin@example.test", "archive.hold"),
            ("admin@example.test", "archive.change_retention"),
        ]
        assert '"days":400' in rows[2].detail


class TestPage:
    def test_preview_then_in_force(self) -> None:
        """Catches a preview that changes something, or forgets what was typed."""
        house = House()
        browser = browser_of(house)
        page = browser.get("/retention")
        assert "What no rule speaks of" in page.text
        typed = {
            "days": ["30", "400", ""],
            "domain": ["example.test", "", ""],
            "direction": ["in", "", ""],
            "spam": ["spam", "", ""],
        }
        seen = browser.post("/retention/preview", typed)
        assert "12 of 1\u202f000 mails would be marked tonight" in seen.text
        assert 'value="30"' in seen.text
        assert house.retention.states == {}
        assert browser.post("/retention", typed).status == 303
        assert house.retention.states[1].rules == (Rule(400), Rule(30, "example.test", "in", True))
        assert "admin@example.test" in browser.get("/retention").text
        browser.post("/retention", {**typed, "days": ["", "400", ""]})
        assert house.retention.states[1].rules == (Rule(400),)

    def test_slips_are_told_and_kept(self) -> None:
        """Catches a typed form that is lost over one wrong number."""
        browser = browser_of(House())
        for days, words in (("abc", "Row 1: the days are a number."), ("0", "rule 1: kept 0 days")):
            page = browser.post("/retention", {"days": [days], "domain": ["example.test"], "direction": [""], "spam": [""]})
            assert page.status == 400
            assert words in page.text
            assert f'value="{days}"' in page.text

    def test_holds(self) -> None:
        """Catches a hold that the page cannot make, show without harm, or release."""
        house = House()
        browser = browser_of(house)
        name = "<b>case</b>"
        answer = browser.post("/retention/hold", {"name": name, "query": "from:eve", "ids": "12, 13", "reason": "court"})
        assert answer.status == 303
        assert "for that an auditor holds" in browser.get("/retention").text, "its words are not looked for in texts"
        assert house.retention.asked == [("from:eve", False, (12, 13))]
        page = browser.get("/retention")
        assert "&lt;b&gt;case&lt;/b&gt;" in page.text
        assert name not in page.text
        browser.post("/retention/release", {"name": name})
        assert "released" in browser.get("/retention").text
        assert browser.post("/retention/hold", {"name": "x", "query": "", "ids": "", "reason": ""}).status == 303

    def test_who_sees_what(self) -> None:
        """Catches rules that an auditor could change, and a page that a user can open."""
        house = House()
        page = house.browser("auditor@example.test").get("/retention")
        assert page.status == 200
        assert "Put in force" not in page.text
        assert house.browser("bob@example.test").get("/retention").status == 403

    def test_dates_are_shown(self) -> None:
        """Catches a page that does not say by when what went is fully gone (rule 23)."""
        house = House()
        house.retention.states[1] = RetentionState(marked=5, waiting=2, gone_by=1.9e9)
        text = browser_of(house).get("/retention").text
        assert "Fully gone" in text
        assert "2030" in text


def browser_of(house: House) -> Any:
    return house.browser("admin@example.test")
