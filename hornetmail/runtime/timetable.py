"""The timetable: house-keeping that rooms want done again and again, every so many seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


class Job(msgspec.Struct, frozen=True):
    """``run`` every ``seconds``, the first time after ``first`` seconds; never twice at the same time."""

    name: str
    seconds: float
    run: Callable[[], Awaitable[object]]
    first: float = 0.0


class Timetable(Service):
    """Runs jobs. One that fails is logged and comes again at its next time; a slow one delays only itself. What is due at a time of the day is
    planned by ``runtime/jobs.py``."""

    log = Logger()

    def __init__(self, reactor: IReactorTime, jobs: Sequence[Job]) -> None:
        self._reactor = reactor
        self._jobs = tuple(jobs)
        self._calls: dict[str, Any] = {}
        self._running: dict[str, Deferred[None]] = {}

    def startService(self) -> None:
        """Plan the first run of every job."""
        Service.startService(self)
        for job in self._jobs:
            self._plan(job, job.first)

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

    def _plan(self, job: Job, delay: float) -> None:
        self._calls[job.name] = self._reactor.callLater(delay, self._start, job)

    def _start(self, job: Job) -> None:
        self._running[job.name] = Deferred.fromCoroutine(self._once(job))

    async def _once(self, job: Job) -> None:
        try:
            await job.run()
        except Exception:  # noqa: BLE001 - a job's mistake must not end its timetable
            self.log.failure("the job {job} failed", job=job.name)
        self._running.pop(job.name, None)
        if self.running:
            self._plan(job, job.seconds)
