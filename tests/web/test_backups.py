"""The page and operations of backups, the mirror, repair and statistics (A29, A32, A59)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import pytest
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from hornetmail.core.archive.archived import ArchiveError, BackupState, Finding, MirrorState
from hornetmail.core.archive.statistics import DAY, DayOf, Sender, Statistics, Sum
from hornetmail.core.served import Person, Role
from hornetmail.disk.files import DiskFull
from hornetmail.interfaces.safety import ISafety
from hornetmail.runtime.jobs import Jobs, PlannedJob
from hornetmail.web.api.archive.backups import MirrorPlace
from hornetmail.web.api.archive.mails import VerifyRequest
from hornetmail.web.api.operations import ApiError, Caller
from tests.web.people import NOW, House

ROOT = Caller(door="socket", root=True)


@implementer(ISafety)
class MemorySafety:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.set: list[tuple[str, str, dict[str, object], str]] = []
        self.trouble = ""
        self.repaired: list[bool] = []

    async def backups(self) -> Sequence[BackupState]:
        return [BackupState("20260921t011200z", True, NOW, 2, 12_000_000)]

    def gone_by(self, now: float) -> float:
        return now + 35 * DAY

    async def mirror(self) -> MirrorState | None:
        return MirrorState(self.set[-1][0], self.set[-1][1], 0.0, "", self.trouble) if self.set else None

    async def set_mirror(self, kind: str, place: str, options: Mapping[str, object], secret: str) -> None:
        if place == "/full":
            raise ArchiveError("it is medium 2 of this archive")
        if place == "/no-room":
            raise DiskFull(28, "the mirror is full (/no-room)")
        if place == "relative":
            raise ValueError("an absolute path is needed")
        self.set.append((kind, place, dict(options), secret))

    async def unset_mirror(self) -> None:
        self.set.clear()

    def statistics(self, tenant: int) -> Statistics | None:
        day = int(NOW // DAY)
        days = (DayOf(day - 1, {"in": Sum(3, 3000)}), DayOf(day, {"out": Sum(1, 100)}))
        return Statistics(NOW, days, (Sender("<b>@big.test", 3, 3000),), 3100, 1000) if tenant == 1 else None

    async def repair(self, full: bool) -> Sequence[Finding]:
        self.repaired.append(full)
        return (Finding("medium 1: packs/x", "missing; repaired from the mirror", mended=True),)


class BackupsTest(TestCase):
    async def setUp(self) -> None:
        self.house = house = House()
        self.safety = MemorySafety()
        verifyObject(ISafety, self.safety)

        async def run(now: float) -> str:
            return "done so"

        jobs = Jobs(house.clock, house.directory, house.bus, UTC, [PlannedJob("mirror", "The mirror", "12 * * * *", run)])
        await jobs.start()
        self.addCleanup(jobs.stop)
        house.rooms_with(jobs=jobs, safety=self.safety)

    def test_page(self) -> None:
        """Catches a mirror that cannot be set up from the panel, one that is not followed and nobody sees why, a secret that is shown, and a page for everybody."""
        browser = self.house.browser("admin@example.test")
        page = browser.get("/archive/backups")
        assert "No mirror is set up" in page.text
        given = {"csrf": page.token, "action": "mirror-set", "place": "//nas/mirror", "user": "u", "secret": "pass-word-7"}
        browser.post("/archive/backups", given)
        assert self.safety.set == [("smb", "//nas/mirror", {"user": "u"}, "pass-word-7")]
        page = browser.get("/archive/backups")
        assert "//nas/mirror" in page.text
        assert "pass-word-7" not in page.text
        assert "does not follow" not in page.text
        self.safety.trouble = "another installation follows into //nas/mirror"
        assert "another installation follows into //nas/mirror" in browser.get("/archive/backups").text
        browser.post("/archive/backups", {"csrf": page.token, "action": "mirror"})
        assert "done so" in browser.get("/archive/backups").text
        browser.post("/archive/backups", {"csrf": page.token, "action": "mirror-unset"})
        assert self.safety.set == []
        assert self.house.browser("alice@example.test").get("/archive/backups").status == 403

    def test_statistics(self) -> None:
        """A59: catches a page without charts, and senders' addresses that become markup."""
        page = self.house.browser("admin@example.test").get("/statistics")
        assert page.text.count('<rect class="bar-') == 4
        assert "&lt;b&gt;@big.test" in page.text
        assert "<b>@big" not in page.text
        assert re.search(r"<td>\w{3}, \d{1,2} \w{3} \d{4}</td>", page.text), "a day is a date, today's too"
        assert "not known before a whole day" not in page.text
        assert self.house.browser("alice@example.test").get("/statistics").status == 403

    async def test_operations(self) -> None:
        """Catches refusals, and a medium without room, that become a 500 or a number of the system's in place of which one it is, and another tenant that sees or moves everybody's backups (rule 25)."""
        for wrong, place in ((400, "relative"), (409, "/full"), (503, "/no-room")):
            with pytest.raises(ApiError) as caught:
                await self.house.api.call(ROOT, "mirror.set", MirrorPlace(place=place, kind="directory"))
            assert caught.value.status == wrong
            assert place != "/no-room" or caught.value.text == "the mirror is full (/no-room)"
        other = Caller(Person(9, "zoe@other.test", 2, (Role.ADMIN,), ("zoe@other.test",), "Zoe"))
        for name, request in (("backup.list", None), ("mirror.unset", None)):
            with pytest.raises(ApiError) as caught:
                await self.house.api.call(other, name, request)
            assert caught.value.status == 403
        seen: Any = await self.house.api.call(other, "statistics.show")
        assert seen.made == 0
        done = await self.house.api.call(ROOT, "archive.verify", VerifyRequest(full=True, repair=True))
        assert self.safety.repaired == [True]
        assert done.repaired[0].what.endswith("repaired from the mirror")
