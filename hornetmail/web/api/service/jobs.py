"""The planned jobs (A50-A60): listed, run now, their times changed."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.schedule import ScheduleError
from hornetmail.runtime.jobs import JobRuns, JobView, UnknownJob
from hornetmail.web.api.operations import ApiError, Caller, Nothing, Operation, missing, need
from hornetmail.web.api.rooms import Rooms


class JobList(msgspec.Struct, frozen=True):
    """All planned jobs, by name."""

    jobs: list[JobView]


class JobName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a job."""

    name: str


class JobChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a job; fields left out stay. ``when``: a cron expression in local time, ``""`` for the job's own."""

    name: str
    when: str | msgspec.UnsetType = msgspec.UNSET
    on: bool | msgspec.UnsetType = msgspec.UNSET


async def list_all(rooms: Rooms, caller: Caller, _: Nothing) -> JobList:
    """With their last result and next time."""
    return JobList(list(need(rooms.jobs, "archive").views()))


async def run(rooms: Rooms, caller: Caller, request: JobName) -> JobView:
    """Begin it now, or as soon as one that it must not overlap has ended; the answer does not wait for the end."""
    jobs = need(rooms.jobs, "archive")
    try:
        jobs.run(request.name)
    except UnknownJob as error:
        raise missing(str(error)) from None
    except JobRuns as error:
        raise ApiError(409, "conflict", str(error)) from None
    return jobs.view(request.name)


async def change(rooms: Rooms, caller: Caller, request: JobChange) -> JobView:
    """Another time, or none."""
    jobs = need(rooms.jobs, "archive")
    when = None if request.when is msgspec.UNSET else request.when
    on = None if request.on is msgspec.UNSET else request.on
    try:
        await jobs.change(request.name, when=when, on=on)
    except UnknownJob as error:
        raise missing(str(error)) from None
    except ScheduleError as error:
        raise ApiError(400, "invalid", f"$.when: {error}") from None
    return jobs.view(request.name)


OPERATIONS = (
    Operation("job.list", "GET", "/jobs", Nothing, JobList, Right.OPERATE, "List planned jobs", list_all),
    Operation("job.run", "POST", "/jobs/{name}/run", JobName, JobView, Right.OPERATE, "Run a planned job now", run),
    Operation("job.change", "PATCH", "/jobs/{name}", JobChange, JobView, Right.OPERATE, "Change when a job is due", change),
)
