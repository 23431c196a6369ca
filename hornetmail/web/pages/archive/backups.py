"""Backups and the mirror (A29, A32): what there is, made now, set up."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.access.rights import Right
from hornetmail.web.api.archive.backups import MirrorPlace
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError
from hornetmail.web.api.service.jobs import JobName
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

JOBS = ("backup", "backup-full", "mirror", "restore-drill")


class BackupPages:
    """One page, and what can be done on it."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/archive/backups``."""
        return (
            Route("GET", "/archive/backups", Right.OPERATE, self.show),
            Route("POST", "/archive/backups", Right.OPERATE, self.change),
        )

    async def show(self, visit: Visit) -> Answer:
        """Backups, newest first, and the mirror."""
        found = await self._api.call(visit.caller, "backup.list")
        jobs = [one for one in (await self._api.call(visit.caller, "job.list")).jobs if one.name in JOBS]
        return self._renderer.page(visit, "backups.html", section="/archive/backups", found=found, jobs=jobs)

    async def change(self, visit: Visit) -> Answer:
        """Whatever button was pressed."""
        form = visit.form
        action = form.get("action")
        try:
            if action in JOBS:
                say = f"Begun: {(await self._api.call(visit.caller, 'job.run', JobName(action))).title}."
            elif action == "mirror-set":
                say = f"The mirror is {(await self._api.call(visit.caller, 'mirror.set', self._place(visit))).where}."
            elif action == "mirror-unset":
                await self._api.call(visit.caller, "mirror.unset")
                say = "The mirror follows no more. What lies there stays."
            else:
                return redirect(visit, "/archive/backups", tone="info", say="Nothing was chosen.")
        except ApiError as error:
            return redirect(visit, "/archive/backups", tone="bad", say=error.text)
        return redirect(visit, "/archive/backups", say=say)

    def _place(self, visit: Visit) -> MirrorPlace:
        form = visit.form
        place, user, secret = form.text("place"), form.text("user"), form.get("secret")
        if place.startswith("//"):
            return MirrorPlace(place=place, kind="smb", user=user, secret=secret)
        if place.startswith(("http://", "https://")):
            return MirrorPlace(place=place, kind="s3", key_id=user, secret=secret)
        return MirrorPlace(place=place, kind="directory")
