"""The page and the operations of planned jobs (A50-A60)."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.served import Person, Role
from hornetmail.runtime.jobs import Jobs, PlannedJob
from hornetmail.web.api.operations import ApiError, Caller
from hornetmail.web.api.service.jobs import JobChange, JobName
from tests.web.people import House


class JobsTest(TestCase):
    async def setUp(self) -> None:
        self.house = house = House()
        self.runs: list[float] = []

        async def run(now: float) -> str:
            self.runs.append(now)
            return "7 files"

        planned = PlannedJob("mirror", "The mirror follows", "12 * * * *", run)
        self.jobs = Jobs(house.clock, house.directory, house.bus, UTC, [planned])
        await self.jobs.start()
        house.rooms_with(jobs=self.jobs)
        self.addCleanup(self.jobs.stop)

    async def call(self, name: str, request: Any = None, caller: Caller = Caller(door="socket", root=True)) -> Any:
        return await self.house.api.call(caller, name, request)

    async def test_operations(self) -> None:
        """Catches a job that cannot be run now, a wrong name or time that is taken, and a tenant that runs the installation's jobs (rule 25)."""
        assert (await self.call("job.run", JobName("mirror"))).detail == "7 files"
        for wrong, name, request in (
            (404, "job.run", JobName("mirrow")),
            (404, "job.change", JobChange(name="mirrow")),
            (400, "job.change", JobChange(name="mirror", when="soon")),
        ):
            with pytest.raises(ApiError) as caught:
                await self.call(name, request)
            assert caught.value.status == wrong
        other = Caller(Person(9, "zoe@other.test", 2, (Role.ADMIN,), ("zoe@other.test",), "Zoe"))
        with pytest.raises(ApiError) as caught:
            await self.call("job.run", JobName("mirror"), other)
        assert caught.value.status == 403
        assert len(self.runs) == 1

    def test_page(self) -> None:
        """Catches buttons that do nothing, and a page that others than administrators see."""
        browser = self.house.browser("admin@example.test")
        page = browser.get("/jobs")
        assert "The mirror follows" in page.text
        assert "never ran" in page.text
        browser.post("/jobs/mirror/run", {"csrf": page.token})
        assert len(self.runs) == 1
        page = browser.get("/jobs")
        assert "7 files" in page.text
        browser.post("/jobs/mirror", {"csrf": page.token, "when": "12 1 * * *"})
        assert (self.jobs.view("mirror").when, self.jobs.view("mirror").on) == ("12 1 * * *", False)
        assert self.house.browser("alice@example.test").get("/jobs").status == 403
