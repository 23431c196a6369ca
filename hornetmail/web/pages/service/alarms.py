"""What is wrong and what was, with the button that says that somebody has seen it, and how administrators are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hornetmail.access.rights import Right
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError
from hornetmail.web.api.service.alarms import AlarmChoice, AlarmFilter, AlarmSettingsChange
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

SHOWN = 200
OVER = 20


class AlarmPages:
    """Forms over the alarm operations."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/alarms``."""
        right = Right.ADMINISTER
        return (
            Route("GET", "/alarms", right, self.show),
            Route("POST", "/alarms/acknowledge", right, self.acknowledge),
            Route("POST", "/alarms/settings", right, self.settings),
            Route("POST", "/alarms/test", right, self.test),
        )

    async def show(self, visit: Visit) -> Answer:
        """Open ones, ended ones, and who is told."""
        return await self._page(visit)

    async def _page(self, visit: Visit, *, problem: str = "", status: int = 200) -> Answer:
        found = await self._api.call(visit.caller, "alarm.list", AlarmFilter(limit=SHOWN))
        over = await self._api.call(visit.caller, "alarm.list", AlarmFilter(over=True, limit=OVER))
        return self._renderer.page(
            visit,
            "alarms.html",
            status=status,
            section="/alarms",
            open=found.alarms,
            total=found.total,
            fresh=sum(not one.acknowledged for one in found.alarms),
            over=over.alarms,
            setting=await self._api.call(visit.caller, "alarm.settings"),
            problem=problem.removeprefix("$.webhook: "),
            typed=visit.form if problem else None,
        )

    async def acknowledge(self, visit: Visit) -> Answer:
        """One, or all that are open."""
        ids = visit.form.all("alarm")[:500]
        try:
            done = await self._api.call(visit.caller, "alarm.acknowledge", AlarmChoice(ids=ids, all=not ids))
        except ApiError as error:
            return redirect(visit, "/alarms", tone="bad", say=error.text)
        many = "The alarm is acknowledged." if done.changed == 1 else f"{done.changed} alarms are acknowledged."
        return redirect(visit, "/alarms", say=f"{many} There are no more reminders of it." if done.changed == 1 else many)

    async def settings(self, visit: Visit) -> Answer:
        """Webhook, secret, hours. An empty secret field leaves the secret as it is; a tick takes it away."""
        form = visit.form
        fields: dict[str, Any] = {"webhook": form.text("webhook")}
        if form.get("secret") or form.ticked("no_secret"):
            fields["secret"] = "" if form.ticked("no_secret") else form.get("secret")
        try:
            fields["repeat_hours"] = float(form.text("repeat_hours") or "4")
            await self._api.call(visit.caller, "alarm.change", AlarmSettingsChange(**fields))
        except ValueError:
            return await self._page(visit, problem="Hours between reminders: a number, please.", status=400)
        except ApiError as error:
            return await self._page(visit, problem=error.text, status=400)
        return redirect(visit, "/alarms", say="Saved.")

    async def test(self, visit: Visit) -> Answer:
        """An alarm that says it is a test."""
        try:
            await self._api.call(visit.caller, "alarm.test")
        except ApiError as error:
            return redirect(visit, "/alarms", tone="bad", say=error.text)
        return redirect(visit, "/alarms", tone="info", say="A test alarm is on its way. Acknowledge it to end it.")
