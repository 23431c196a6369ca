"""The planned jobs (A50-A60): when, what came of the last run, now."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.access.rights import Right
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError
from hornetmail.web.api.service.jobs import JobChange, JobName
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit


class JobPages:
    """A table with a form a row."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/jobs``."""
        return (
            Route("GET", "/jobs", Right.OPERATE, self.show),
            Route("POST", "/jobs/<name>/run", Right.OPERATE, self.run),
            Route("POST", "/jobs/<name>", Right.OPERATE, self.change),
        )

    async def show(self, visit: Visit) -> Answer:
        """All of them."""
        jobs = (await self._api.call(visit.caller, "job.list")).jobs
        return self._renderer.page(visit, "jobs.html", section="/jobs", jobs=jobs)

    async def run(self, visit: Visit, name: str) -> Answer:
        """Begin one; the page does not wait for its end."""
        try:
            view = await self._api.call(visit.caller, "job.run", JobName(name))
        except ApiError as error:
            return redirect(visit, "/jobs", tone="bad", say=error.text)
        return redirect(visit, "/jobs", tone="info", say=f"Begun: {view.title}.")

    async def change(self, visit: Visit, name: str) -> Answer:
        """Another time, or none."""
        wanted = JobChange(name=name, when=visit.form.text("when"), on=visit.form.get("on") == "1")
        try:
            view = await self._api.call(visit.caller, "job.change", wanted)
        except ApiError as error:
            return redirect(visit, "/jobs", tone="bad", say=error.text)
        return redirect(visit, "/jobs", say=f"{view.title}: {view.words if view.on else 'off'}.")
