"""The dashboard: each domain's mode and why, the primary's health, queue, rates, news, and the switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hornetmail.access.rights import Right
from hornetmail.core.failover.mode import Mode
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.mail.domains import DomainMode, DomainName
from hornetmail.web.api.operations import ApiError
from hornetmail.web.pulse import Pulse, points
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

WIDTH, HEIGHT = 600, 92


class DashboardPages:
    """``now`` gives Unix seconds."""

    def __init__(self, api: Api, renderer: Renderer, pulse: Pulse, now: Callable[[], float]) -> None:
        self._api = api
        self._renderer = renderer
        self._pulse = pulse
        self._now = now

    def routes(self) -> Sequence[Route]:
        """The page (its live parts are fetched again from it), and the switch."""
        return (
            Route("GET", "/dashboard", Right.ADMINISTER, self.show),
            Route("GET", "/domains/<name>/mode", Right.ADMINISTER, self.confirm),
            Route("POST", "/domains/<name>/mode", Right.ADMINISTER, self.switch),
        )

    async def show(self, visit: Visit) -> Answer:
        """Everything at a glance."""
        status = await self._api.call(visit.caller, "status")
        domains = await self._api.call(visit.caller, "domain.list")
        now = self._now()
        accepted, delivered = self._pulse.accepted.hour(now), self._pulse.delivered.hour(now)
        top = max(10, *accepted, *delivered)
        line = points(accepted, WIDTH, HEIGHT, top)
        return self._renderer.page(
            visit,
            "dashboard.html",
            section="/dashboard",
            status_=status,
            domains=sorted(domains.domains, key=lambda domain: (domain.mode is Mode.NORMAL, domain.name)),
            problems={name: role.reason for name, role in status.roles.items() if not role.up},
            accepted=self._pulse.accepted.per_minute(now),
            delivered=self._pulse.delivered.per_minute(now),
            deferred=self._pulse.deferred.per_minute(now),
            chart={
                "width": WIDTH,
                "height": HEIGHT,
                "top": top,
                "in": line,
                "area": f"0,{HEIGHT} {line} {WIDTH},{HEIGHT}",
                "out": points(delivered, WIDTH, HEIGHT, top),
            },
            news=self._pulse.news()[:8],
        )

    async def confirm(self, visit: Visit, name: str) -> Answer:
        """The question before the switch, for browsers without scripts."""
        domain = await self._api.call(visit.caller, "domain.show", DomainName(name))
        return self._renderer.page(visit, "mode.html", section="/dashboard", domain=domain)

    async def switch(self, visit: Visit, name: str) -> Answer:
        """By hand; says what happens next."""
        wanted = Mode.EMERGENCY if visit.form.get("mode") == "emergency" else Mode.NORMAL
        try:
            domain = await self._api.call(visit.caller, "domain.mode", DomainMode(name, wanted, visit.form.text("reason")[:200]))
        except ApiError as error:
            return redirect(visit, "/dashboard", tone="bad", say=error.text)
        said = {
            Mode.EMERGENCY: f"{domain.name} is in emergency mode. New mail goes to the portal now.",
            Mode.DRAINING: f"{domain.name} is on its way back: what is left in the inboxes goes to the primary.",
            Mode.NORMAL: f"{domain.name} is back to normal.",
        }[domain.mode]
        return redirect(visit, "/dashboard", tone="warn" if domain.mode is Mode.EMERGENCY else "ok", say=said)
