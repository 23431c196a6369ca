"""The timetable: jobs that rooms want done again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

LOOK = 600.0
"""Seconds after which it looks again how long it is until a daily job's minute: the clock may have been put to another time."""


class Job(msgspec.Struct, frozen=True):
    """``run`` every ``seconds``, the first time after ``first`` seconds; never twice at the same time."""

    name: str
    seconds: float
    run: Callable[[], Awaitable[object]]
    first: float = 0.0


class DailyJob(msgspec.Struct, frozen=True):
    """``run`` once a day at ``minute`` of the day, local time (A56-A60). ``run`` gets the time in Unix seconds."""

    name: str
    minute: int
    run: Callable[[float], Awaitable[object]]


class Timetable(Service):
    """Runs jobs. One that fails is logged and comes again at its next time; a slow one delays only itself.

    ``local_minutes`` turns Unix seconds into minutes since local midnight.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        now: Callable[[], float],
        local_minutes: Callable[[float], float],
        jobs: Sequence[Job | DailyJob],
    ) -> None:
        self._reactor = reactor
        self._now = now
        self._local_minutes = local_minutes
        self._jobs = tuple(jobs)
        self._calls: dict[str, Any] = {}
        self._running: dict[str, Deferred[None]] = {}

    def startService(self) -> None:
        """Plan the first run of every job."""
        Service.startService(self)
        for job in self._jobs:
            self._plan(job, job.first if isinstance(job, Job) else self._until(job, least=0.0))

    def stopService(self) -> Deferred[None]:
        """Plan nothing more and wait for what runs."""
        Service.stopService(self)
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls.clear()
        return Deferred.fromCoroutine(self._finish())

    async def _finish(self) -> None:
        for running in tuple(self._running.values()):
            await running

    def _plan(self, job: Job | DailyJob, delay: float) -> None:
        if isinstance(job, DailyJob) and delay > 2 * LOOK:
            self._calls[job.name] = self._reactor.callLater(LOOK, self._look_again, job)
        else:
            self._calls[job.name] = self._reactor.callLater(delay, self._start, job)

    def _look_again(self, job: DailyJob) -> None:
        self._plan(job, self._until(job, least=0.0))

    def _until(self, job: DailyJob, least: float) -> float:
        """Seconds to the job's minute, more than ``least``."""
        seconds = ((job.minute - self._local_minutes(self._now())) % 1440) * 60
        return seconds if seconds > least else seconds + 86_400

    def _start(self, job: Job | DailyJob) -> None:
        self._running[job.name] = Deferred.fromCoroutine(self._once(job))

    async def _once(self, job: Job | DailyJob) -> None:
        try:
            await (job.run() if isinstance(job, Job) else job.run(self._now()))
        except Exception:  # noqa: BLE001 - a job's mistake must not end its timetable
            self.log.failure("the job {job} failed", job=job.name)
        self._running.pop(job.name, None)
        if self.running:
            # A run that ended within its own minute is not repeated in it.
            self._plan(job, job.seconds if isinstance(job, Job) else self._until(job, least=60.0))
