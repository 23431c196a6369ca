"""Statistics as tables and charts (A59): SVG in the page, no script."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.archive.statistics import DAY, DayOf
from hornetmail.web.api.door.api import Api
from hornetmail.web.render import Renderer
from hornetmail.web.visit import Answer, Route, Visit

DIRECTIONS = ("in", "out", "internal")
SHOWN = 60
WIDTH, HEIGHT = 720, 160


class Bar(msgspec.Struct, frozen=True):
    """A piece of a column: pixels from the upper left corner; ``at`` the day's Unix seconds."""

    x: float
    y: float
    width: float
    height: float
    direction: str
    at: float
    value: int


class Chart(msgspec.Struct, frozen=True):
    """Stacked columns, one a day. ``most``: the value of the full height."""

    bars: list[Bar]
    most: int


def chart(days: Sequence[DayOf], today: int, field: str) -> Chart:
    """Of the last ``SHOWN`` days, by ``mails`` or ``bytes``."""
    by_day = {one.day: one for one in days}
    shown = range(today - SHOWN + 1, today + 1)
    most = max((getattr(by_day[day].total, field) for day in shown if day in by_day), default=0)
    step = WIDTH / SHOWN
    bars = []
    for number, day in enumerate(shown):
        top = float(HEIGHT)
        for direction in DIRECTIONS:
            sums = by_day[day].by.get(direction) if day in by_day else None
            if sums is not None and getattr(sums, field):
                value: int = getattr(sums, field)
                height = HEIGHT * value / most
                top -= height
                bars.append(
                    Bar(
                        round(number * step, 2),
                        round(top, 2),
                        round(step * 0.8, 2),
                        round(height, 2),
                        direction,
                        day * DAY,
                        value,
                    )
                )
    return Chart(bars, most)


class StatisticsPages:
    """One page."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/statistics``."""
        return (Route("GET", "/statistics", Right.ADMINISTER, self.show),)

    async def show(self, visit: Visit) -> Answer:
        """As counted last."""
        found = await self._api.call(visit.caller, "statistics.show")
        today = int(found.made // DAY)
        return self._renderer.page(
            visit,
            "statistics.html",
            section="/statistics",
            found=found,
            known=any(one.day < today for one in found.days),
            mails=chart(found.days, today, "mails"),
            room=chart(found.days, today, "bytes"),
            newest=[(one, one.day * DAY) for one in reversed(found.days)][:SHOWN],
            directions=DIRECTIONS,
            width=WIDTH,
            height=HEIGHT,
        )
