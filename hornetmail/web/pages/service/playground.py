"""The playground's panel: stop and start the small primary, send varied mail, see what became of it. Mounted only where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from hornetmail.access.rights import Right
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

MOST_SAMPLES = 200


class IPlayground(Interface):
    """What the page steers."""

    running = Attribute("whether the small primary accepts connections")

    async def stop_primary() -> None:
        """It refuses connections from now on."""

    async def start_primary() -> None:
        """It answers again."""

    async def send_samples(count: int) -> None:
        """Send varied messages from outside, some of them to recipients that fail on purpose."""

    def last_results() -> Sequence[Mapping[str, str]]:
        """What was sent last: ``to``, ``subject``, ``reply`` (the reply of the MX door), newest first."""


class PlaygroundPages:
    """``playground`` provides ``IPlayground``."""

    def __init__(self, playground: Any, renderer: Renderer) -> None:
        self._playground = playground
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """The page and its buttons."""
        return (
            Route("GET", "/playground", Right.ADMINISTER, self.show),
            Route("POST", "/playground", Right.ADMINISTER, self.act),
        )

    async def show(self, visit: Visit) -> Answer:
        """The primary's state and the last results."""
        return self._renderer.page(
            visit,
            "playground.html",
            section="/playground",
            running=self._playground.running,
            results=list(self._playground.last_results())[:MOST_SAMPLES],
            most=MOST_SAMPLES,
        )

    async def act(self, visit: Visit) -> Answer:
        """Stop, start, or send."""
        action = visit.form.get("action")
        if action == "stop":
            await self._playground.stop_primary()
            return redirect(
                visit, "/playground", tone="warn", say="The primary refuses connections now. Send mail and watch where it goes."
            )
        if action == "start":
            await self._playground.start_primary()
            return redirect(visit, "/playground", say="The primary answers again. What waits in the inboxes goes home to it.")
        count = min(max(visit.form.number("count", 10), 1), MOST_SAMPLES)
        await self._playground.send_samples(count)
        return redirect(visit, "/playground", say=f"{count} messages were sent.")
