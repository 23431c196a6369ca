"""Statistics for the administrator (A59), of the caller's tenant."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.archive.statistics import DayOf, Sender, Statistics
from hornetmail.web.api.operations import Caller, Nothing, Operation, need
from hornetmail.web.api.rooms import Rooms

YEAR = 365


class StatisticsView(msgspec.Struct, frozen=True):
    """``made`` 0: not yet counted (the job ``statistics``). ``day``: days since 1970, UTC. ``ratio``: bytes on the media for each received; ``in_a_year``:
    bytes on the media then, if it goes on like this and nothing expires."""

    made: float = 0.0
    days: list[DayOf] = []
    senders: list[Sender] = []
    raw: int = 0
    stored: int = 0
    ratio: float = 0.0
    in_a_year: int = 0


def view_of(found: Statistics) -> StatisticsView:
    """As it is shown."""
    return StatisticsView(
        found.made,
        list(found.days),
        list(found.senders),
        found.raw,
        found.stored,
        round(found.ratio, 4),
        found.forecast(YEAR),
    )


async def show(rooms: Rooms, caller: Caller, _: Nothing) -> StatisticsView:
    """As they were counted last."""
    found = need(rooms.safety, "archive").statistics(caller.tenant or 1)
    return view_of(found) if found is not None else StatisticsView()


OPERATIONS = (
    Operation("statistics.show", "GET", "/statistics", Nothing, StatisticsView, Right.ADMINISTER, "Show statistics", show),
)
