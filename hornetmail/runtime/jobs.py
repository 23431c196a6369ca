"""Planned jobs (A50-A60): when each is due, what came of it, no overlap, and none lost because the machine was off.

What is remembered of a job lies in ``control.db`` (setting ``job NAME``), so that a start knows what was missed while nothing ran: each such job
is made up for once, however often it was missed, in the order in which they were due.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.schedule import Schedule, ScheduleError, parse_schedule
from hornetmail.interfaces.bus import IBus

LOOK = 60.0
"""Seconds at most between two looks at the clock: it may be set, and a machine may sleep."""

TRIES = 2
"""Runs that were cut short, one after the other, after which a job waits for its next regular time: it may be what ended the process."""


class Result(enum.StrEnum):
    """What came of the last run. ``CUT_SHORT``: the process ended during it."""

    NEVER = "never"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    CUT_SHORT = "cut-short"


class PlannedJob(msgspec.Struct, frozen=True):
    """``run`` is due as ``when`` says, a cron expression in local time; it gets the time in Unix seconds, and what it returns is shown if it is text.

    ``name``: for people and programs, ``[a-z-]+``. Jobs of one ``lane`` never overlap; those without share none. ``halt`` asks a run that may last
    to end early; the timetable waits for it when the service stops."""

    name: str
    title: str
    when: str
    run: Callable[[float], Awaitable[object]]
    lane: str = ""
    halt: Callable[[], None] | None = None


class JobRecord(msgspec.Struct, frozen=True):
    """What is remembered. ``when``: instead of the job's own, ``""`` for that. ``since``: when it was first known; ``due``: up to when nothing is
    missed; ``began``, ``ended``: of the last run, 0 for none. ``tries``: runs cut short since one ended. ``told``: an alarm says that it failed. Times in Unix seconds."""

    when: str = ""
    on: bool = True
    since: float = 0.0
    due: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    result: Result = Result.NEVER
    detail: str = ""
    tries: int = 0
    told: bool = False


class JobView(msgspec.Struct, frozen=True):
    """A job for people and programs. ``when`` in force, ``default`` its own, ``words`` the former in English. ``last``: when the last run began,
    ``seconds`` how long it took; ``next``: when it is due, in the past if it waits for another one. Unix seconds, 0 for none."""

    name: str
    title: str
    when: str
    words: str
    default: str
    on: bool
    last: float
    seconds: float
    result: Result
    detail: str
    next: float


class Settings(Protocol):
    """What keeps the records: the directory's settings of the installation."""

    def setting(self, name: str, default: str, tenant: int = 0) -> str: ...

    async def set_setting(self, name: str, value: str, tenant: int = 0) -> None: ...


class UnknownJob(LookupError):
    """There is no job of that name."""


class JobRuns(Exception):
    """It runs already, or waits to run."""


class CutShort(Exception):
    """A job raises it when it was asked to end before it was done: no failure, and begun again with the next start."""


_NAME = re.compile("[a-z-]+")
_RECORD = msgspec.json.Decoder(JobRecord)


class Jobs:
    """The planned jobs of a process. ``zone`` is the machine's time zone; ``look``: seconds at most between two looks at the clock. Nothing runs
    before ``start``, and nothing after ``stop``."""

    log = Logger()

    def __init__(
        self, reactor: Any, settings: Settings, bus: IBus, zone: tzinfo, jobs: Iterable[PlannedJob], look: float = LOOK
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._bus = bus
        self._zone = zone
        self._longest = look
        self._jobs = {job.name: job for job in jobs}
        if wrong := [name for name in self._jobs if not _NAME.fullmatch(name)]:
            raise ValueError(f"not names of jobs: {', '.join(wrong)}")
        self._records: dict[str, JobRecord] = {}
        self._runs: dict[str, Deferred[None]] = {}
        self._wanted: dict[str, float] = {}
        self._call: Any = None
        self._open = False

    # -- life

    async def start(self) -> None:
        """Take up the records; what was missed begins in the next turn of the reactor."""
        now = self._reactor.seconds()
        for name in self._jobs:
            record = self._read(name)
            if not record.since:
                record = await self._keep(name, msgspec.structs.replace(record, since=now))
            elif record.result is Result.RUNNING:
                tries = record.tries + 1
                due = record.began if tries >= TRIES else record.due
                cut = msgspec.structs.replace(record, result=Result.CUT_SHORT, ended=record.began, tries=tries, due=due)
                record = await self._keep(name, cut)
            self._records[name] = record
            if record.told:
                why = record.detail or "it failed, and was cut short since"
                self._bus.publish(Alarm("job-failed", f"{self._jobs[name].title}: {why}", subject=name))
        self._open = True
        self._plan(0.0)

    async def stop(self) -> None:
        """Begin nothing more, ask what lasts to end, and wait for it."""
        self._open = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        for name in tuple(self._runs):
            halt = self._jobs[name].halt
            if halt is not None:
                halt()
        while self._runs:
            await next(iter(self._runs.values()))

    def _read(self, name: str) -> JobRecord:
        """A record that cannot be read is one that is not there: its job must run all the same."""
        try:
            record = _RECORD.decode(self._settings.setting(f"job {name}", "{}"))
            if record.when:
                parse_schedule(record.when)
        except (msgspec.DecodeError, ScheduleError) as error:
            self.log.error("what is remembered of the job {name} cannot be read: {error}", name=name, error=error)
            return JobRecord()
        return record

    async def _keep(self, name: str, record: JobRecord) -> JobRecord:
        await self._settings.set_setting(f"job {name}", msgspec.json.encode(record).decode())
        self._records[name] = record
        return record

    # -- when

    def _schedule(self, name: str) -> Schedule:
        return Schedule(self._records[name].when or self._jobs[name].when)

    def _next(self, name: str) -> float:
        """When it is due next; what is at or before ``now`` was missed or waits."""
        record = self._records[name]
        if name in self._wanted:
            return self._wanted[name]
        if not record.on:
            return float("inf")
        return self._schedule(name).after(max(record.since, record.due), self._zone)

    def _plan(self, delay: float) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._open:
            self._call = self._reactor.callLater(delay, self._look)

    def _look(self) -> None:
        """Begin what is due and free, the longest due first."""
        now = self._reactor.seconds()
        for name, record in self._records.items():
            if max(record.since, record.due) > now:  # the clock was set back: count from where it is
                self._records[name] = msgspec.structs.replace(record, since=min(record.since, now), due=min(record.due, now))
        times = sorted((self._next(name), name) for name in self._jobs if name not in self._runs)
        for due, name in times:
            if due <= now and not self._taken(self._jobs[name].lane):
                self._begin(name, now)
        ahead = [due - now for due, _ in times if due > now]
        self._plan(min([self._longest, *ahead]))

    def _taken(self, lane: str) -> bool:
        return bool(lane) and any(self._jobs[name].lane == lane for name in self._runs)

    def _begin(self, name: str, now: float) -> None:
        """Its place in the lane is taken before anything else can look."""
        gate: Deferred[None] = Deferred()
        self._runs[name] = gate
        self._wanted.pop(name, None)
        Deferred.fromCoroutine(self._once(name, now, gate))

    async def _once(self, name: str, now: float, gate: Deferred[None]) -> None:
        job = self._jobs[name]
        result, detail, due = Result.OK, "", now
        try:
            begun = msgspec.structs.replace(self._records[name], began=now, ended=0.0, result=Result.RUNNING, detail="")
            await self._keep(name, begun)
            said = await job.run(now)
            detail = said if isinstance(said, str) else ""
        except CutShort:
            result, due = Result.CUT_SHORT, self._records[name].due
        except Exception as error:  # noqa: BLE001 - a job's mistake must not end the others
            self.log.failure("the job {job} failed", job=name)
            result, detail = Result.FAILED, str(error) or type(error).__name__
            self._bus.publish(Alarm("job-failed", f"{job.title}: {detail}", subject=name))
        told = result is Result.FAILED or (self._records[name].told and result is not Result.OK)
        if self._records[name].told and not told:
            self._bus.publish(AlarmEnded("job-failed", name, "it went through"))
        ended = self._reactor.seconds()
        record = self._records[name]
        done = msgspec.structs.replace(
            record, began=now, due=due, ended=ended, result=result, detail=detail[:1000], tries=0, told=told
        )
        self._records[name] = done
        try:
            await self._keep(name, done)
        except Exception:  # noqa: BLE001 - it was done; at the worst it is done once more after a restart
            self.log.failure("what came of the job {job} was not recorded", job=name)
        del self._runs[name]
        gate.callback(None)
        self._plan(0.0)

    # -- for people

    def views(self) -> Sequence[JobView]:
        """All of them, in the order of their names."""
        return [self._view(name) for name in sorted(self._jobs)]

    def view(self, name: str) -> JobView:
        """Raises UnknownJob."""
        return self._view(self._known(name))

    def _view(self, name: str) -> JobView:
        record, job = self._records.get(name, JobRecord()), self._jobs[name]
        due = self._next(name) if name in self._records else float("inf")
        return JobView(
            name=name,
            title=job.title,
            when=record.when or job.when,
            words=Schedule(record.when or job.when).words(),
            default=job.when,
            on=record.on,
            last=record.began,
            seconds=max(0.0, record.ended - record.began),
            result=record.result,
            detail=record.detail,
            next=due if due != float("inf") else 0.0,
        )

    def _known(self, name: str) -> str:
        if name not in self._jobs:
            raise UnknownJob(f'there is no job "{name}"; there are {", ".join(sorted(self._jobs))}')
        return name

    def run(self, name: str) -> None:
        """Now, or as soon as its lane is free. Raises UnknownJob, JobRuns (also when the service starts or stops just then)."""
        if self._known(name) in self._runs:
            raise JobRuns(f"{name} runs already")
        if not self._open:
            raise JobRuns("no job is begun while the service starts or stops")
        if name in self._wanted:
            raise JobRuns(f"{name} waits for another job already")
        self._wanted[name] = self._reactor.seconds()
        self._look()

    def waits(self, name: str) -> bool:
        """Whether it was asked for and has not begun."""
        return name in self._wanted

    async def change(self, name: str, *, when: str | None = None, on: bool | None = None) -> None:
        """``when``: another cron expression, ``""`` for the job's own. What was missed by the new one before now does not count.
        Raises UnknownJob, ScheduleError."""
        record = self._records[self._known(name)]
        if when is not None:
            text = parse_schedule(when).text if when.strip() else ""
            record = msgspec.structs.replace(record, when="" if text == self._jobs[name].when else text)
        if on is not None:
            record = msgspec.structs.replace(record, on=on)
        await self._keep(name, msgspec.structs.replace(record, due=self._reactor.seconds()))
        self._plan(0.0)
