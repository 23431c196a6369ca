"""Planned jobs: due times, results, no overlap, and what was missed (A50-A60)."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.schedule import ScheduleError
from hornetmail.runtime.jobs import CutShort, JobRuns, Jobs, PlannedJob, Result, UnknownJob

HOUR, DAY = 3600.0, 86400.0
BEGIN = 1_790_000_000.0 // DAY * DAY
"""A midnight."""


class Kept:
    """The directory's settings, which outlive a process; ``broken`` makes writing fail."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.broken = False

    def setting(self, name: str, default: str, tenant: int = 0) -> str:
        return self.values.get(name, default)

    async def set_setting(self, name: str, value: str, tenant: int = 0) -> None:
        if self.broken:
            raise OSError("disk full")
        self.values[name] = value


class Bus:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def publish(self, event: Any) -> None:
        self.events.append(event)


class Work:
    """A job that says when it ran, and waits if it has a gate."""

    def __init__(self, clock: Clock, fail: str = "") -> None:
        self.clock, self.fail = clock, fail
        self.runs: list[float] = []
        self.gates: list[Deferred[None]] = []
        self.slow = False

    async def __call__(self, now: float) -> str:
        self.runs.append(now - BEGIN)
        if self.slow:
            self.gates.append(Deferred())
            await self.gates[-1]
        if self.fail:
            raise OSError(self.fail)
        return f"run {len(self.runs)}"


class JobsCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.kept = Kept()
        self.bus: Any = Bus()

    def jobs(self, *jobs: PlannedJob) -> Jobs:
        return Jobs(self.clock, self.kept, self.bus, UTC, jobs)

    def daily(self, work: Any, name: str = "purge", when: str = "40 3 * * *", lane: str = "") -> PlannedJob:
        return PlannedJob(name, name.title(), when, work, lane)

    def pass_time(self, seconds: float, step: float = 30.0) -> None:
        self.clock.pump([step] * int(seconds / step))

    async def test_at_its_minute_once_a_day(self) -> None:
        """A58: catches 03:40 running at another minute, or twice in it."""
        work = Work(self.clock)
        jobs = self.jobs(self.daily(work))
        await jobs.start()
        self.pass_time(2 * DAY)
        assert work.runs == [220 * 60.0, DAY + 220 * 60.0]
        (view,) = jobs.views()
        assert (view.result, view.detail, view.next - BEGIN) == (Result.OK, "run 2", 2 * DAY + 220 * 60)
        await jobs.stop()
        assert self.clock.getDelayedCalls() == []

    async def test_nothing_begins_before_the_start_or_after_the_stop(self) -> None:
        """Catches a job that somebody asks for while the service ends, and that works on what is being closed; and names that no address can say."""
        work = Work(self.clock)
        jobs = self.jobs(self.daily(work))
        with pytest.raises(JobRuns, match="starts or stops"):
            jobs.run("purge")
        await jobs.start()
        await jobs.stop()
        with pytest.raises(JobRuns, match="starts or stops"):
            jobs.run("purge")
        self.pass_time(2 * DAY)
        assert work.runs == []
        for name in ("time stamp", "", "Purge", "a/b"):
            with pytest.raises(ValueError, match="not names of jobs"):
                self.jobs(self.daily(work, name))

    async def test_missed_while_the_machine_was_off_is_made_up_for_once(self) -> None:
        """Catches a night without purge because the machine was off at 03:40, and three purges after three nights off."""
        work = Work(self.clock)
        jobs = self.jobs(self.daily(work))
        await jobs.start()
        self.pass_time(HOUR)
        await jobs.stop()
        self.clock.advance(3 * DAY)
        again = self.jobs(self.daily(work))
        await again.start()
        self.clock.advance(0)
        assert work.runs == [3 * DAY + HOUR]
        self.pass_time(2 * HOUR)
        assert len(work.runs) == 1
        self.pass_time(HOUR)
        assert len(work.runs) == 2
        await again.stop()

    async def test_nothing_was_missed_before_the_first_start(self) -> None:
        """Catches a new installation that begins with every job at once."""
        work = Work(self.clock)
        jobs = self.jobs(self.daily(work))
        self.clock.advance(12 * HOUR)
        await jobs.start()
        self.pass_time(HOUR)
        assert work.runs == []
        await jobs.stop()

    async def test_missed_ones_come_in_their_order(self) -> None:
        """A57 before A58: catches a purge made up for before the marking that it follows."""
        order: list[str] = []

        def work(name: str) -> Any:
            async def run(now: float) -> None:
                order.append(name)

            return run

        planned = (self.daily(work("a-purge"), "a-purge", lane="r"), self.daily(work("mark"), "mark", "30 2 * * *", "r"))
        jobs = self.jobs(*planned)
        await jobs.start()
        await jobs.stop()
        self.clock.advance(DAY / 2)
        again = self.jobs(*planned)
        await again.start()
        self.pass_time(60)
        assert order == ["mark", "a-purge"]
        await again.stop()

    async def test_never_twice_at_once_nor_beside_its_lane(self) -> None:
        """Catches a full and an incremental backup that write at the same time, and a slow run started again on top of itself."""
        full, increment, other = Work(self.clock), Work(self.clock), Work(self.clock)
        full.slow = True
        jobs = self.jobs(
            self.daily(full, "full", "12 1 * * *", "backup"),
            self.daily(increment, "increment", "12 * * * *", "backup"),
            self.daily(other, "other", "12 * * * *"),
        )
        await jobs.start()
        self.pass_time(1.5 * HOUR)
        assert len(full.runs) == 1
        with pytest.raises(JobRuns):
            jobs.run("full")
        self.pass_time(HOUR)
        assert len(full.runs) == 1
        assert len(increment.runs) == 1
        assert len(other.runs) == 3
        full.gates[0].callback(None)
        self.clock.advance(0)
        assert len(increment.runs) == 2, "what waited for the lane follows at once"
        await jobs.stop()

    async def test_a_failure_is_told_and_ends(self) -> None:
        """Rule 8f: catches a job that fails every night and tells nobody, and an alarm that outlives it."""
        work = Work(self.clock, fail="no space")
        jobs = self.jobs(self.daily(work))
        await jobs.start()
        self.pass_time(4 * HOUR)
        assert jobs.view("purge").result is Result.FAILED
        assert jobs.view("purge").detail == "no space"
        (told,) = (event for event in self.bus.events if isinstance(event, Alarm))
        assert (told.code, told.subject) == ("job-failed", "purge")
        assert len(self.flushLoggedErrors(OSError)) == 1
        await jobs.stop()
        again = self.jobs(self.daily(work))
        await again.start()
        assert len([event for event in self.bus.events if isinstance(event, Alarm)]) == 2, "and again after a restart"
        work.fail = ""
        again.run("purge")
        assert isinstance(self.bus.events[-1], AlarmEnded)
        again.run("purge")
        assert len([event for event in self.bus.events if isinstance(event, AlarmEnded)]) == 1, (
            "an end to no alarm is not told of"
        )
        await again.stop()

    async def test_cut_short_is_begun_again_and_not_for_ever(self) -> None:
        """Catches a backup that a power cut ended and nobody repeats, and a job that ends the process at each start."""
        work = Work(self.clock)
        work.slow = True
        await self.jobs(self.daily(work)).start()
        self.pass_time(4 * HOUR)
        assert len(work.runs) == 1
        second = self.jobs(self.daily(work))
        await second.start()
        assert second.view("purge").result is Result.CUT_SHORT
        self.clock.advance(0)
        assert len(work.runs) >= 2
        runs = len(work.runs)
        third = self.jobs(self.daily(work))
        await third.start()
        self.clock.advance(0)
        assert third.view("purge").result is Result.CUT_SHORT
        assert len(work.runs) == runs, "the second time it waits for its next time"

    async def test_a_clock_that_was_set_back_does_not_stop_a_job(self) -> None:
        """Catches a job that waits a year because the clock was a year ahead when it last ran."""
        work = Work(self.clock)
        jobs = self.jobs(self.daily(work))
        await jobs.start()
        await jobs.stop()
        record = msgspec.json.decode(self.kept.values["job purge"])
        record["due"] = BEGIN + 365 * DAY
        self.kept.values["job purge"] = msgspec.json.encode(record).decode()
        again = self.jobs(self.daily(work))
        await again.start()
        self.pass_time(4 * HOUR)
        assert len(work.runs) == 1
        await again.stop()

    async def test_other_times_and_none_are_kept(self) -> None:
        """Catches a changed time that a restart forgets, one that cannot be read and is taken all the same, and a job that cannot be stopped."""
        work = Work(self.clock)
        jobs = self.jobs(self.daily(work))
        await jobs.start()
        await jobs.change("purge", when="0 5 * * *")
        with pytest.raises(ScheduleError):
            await jobs.change("purge", when="often")
        with pytest.raises(UnknownJob):
            await jobs.change("urge", on=False)
        await jobs.stop()
        again = self.jobs(self.daily(work))
        await again.start()
        assert again.view("purge").when == "0 5 * * *"
        self.pass_time(6 * HOUR)
        assert work.runs == [5 * HOUR]
        await again.change("purge", on=False)
        self.pass_time(DAY)
        assert len(work.runs) == 1
        assert again.view("purge").next == 0.0
        await again.change("purge", when="", on=True)
        assert again.view("purge").when == "40 3 * * *"
        await again.stop()

    async def test_a_record_that_cannot_be_written_or_read_stops_nothing(self) -> None:
        """Catches a service that does not start, or a job that never runs again, because of one bad row."""
        self.kept.values["job purge"] = "{not json"
        work = Work(self.clock)
        jobs = self.jobs(self.daily(work))
        await jobs.start()
        self.kept.broken = True
        self.pass_time(4 * HOUR)
        assert jobs.view("purge").result is Result.FAILED
        self.kept.broken = False
        self.pass_time(DAY)
        assert len(work.runs) == 1
        assert jobs.view("purge").result is Result.OK
        self.flushLoggedErrors(OSError)
        await jobs.stop()

    async def test_stopping_asks_what_lasts_to_end(self) -> None:
        """Catches a service that cannot stop for hours because a mirror runs."""
        work = Work(self.clock)
        work.slow = True
        job = msgspec.structs.replace(self.daily(work), halt=lambda: work.gates[0].callback(None))
        jobs = self.jobs(job)
        await jobs.start()
        jobs.run("purge")
        await jobs.stop()
        assert jobs.view("purge").result is Result.OK

    async def test_what_was_asked_to_end_goes_on_with_the_next_start(self) -> None:
        """Catches a mirror that a restart ended and that then waits for the next day, and an alarm for each restart."""
        runs: list[float] = []

        async def run(now: float) -> None:
            runs.append(now)
            if len(runs) == 1:
                await gate
                raise CutShort

        gate: Deferred[None] = Deferred()
        job = PlannedJob("mirror", "Mirror", "12 1 * * *", run, halt=lambda: gate.callback(None))
        jobs = self.jobs(job)
        await jobs.start()
        self.pass_time(2 * HOUR)
        await jobs.stop()
        assert jobs.view("mirror").result is Result.CUT_SHORT
        assert not [event for event in self.bus.events if isinstance(event, Alarm)]
        again = self.jobs(job)
        await again.start()
        self.clock.advance(0)
        assert len(runs) == 2
        await again.stop()
