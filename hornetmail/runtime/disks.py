"""The 90 % rule (rule 20) for everything that we write to: queue, portal, archive staging, databases, media. Each file system is looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.disk.anchor import Anchor, DiskAway
from hornetmail.disk.space import Away, Space, measure
from hornetmail.interfaces.bus import IBus

BACK = 0.02
"""So much less must be in use for the alarm to end."""


class Disks:
    """``places``: what lies where, by its name for people; ``anchors``: those of them that must be the very ones that were opened. ``most``: the share in
    use from which on there is an alarm. ``offload`` runs a function in a thread."""

    def __init__(
        self,
        bus: IBus,
        offload: Callable[..., Awaitable[Any]],
        places: Callable[[], Mapping[str, Path]],
        most: float,
        anchors: Mapping[str, Anchor] = MappingProxyType({}),
    ) -> None:
        self._anchors = anchors
        self._bus = bus
        self._offload = offload
        self._places = places
        self._most = most
        self._full: dict[str, Space] = {}
        self._away: dict[str, Away] = {}
        self._looked = False
        self._looking = False

    async def look(self) -> None:
        """Measure, and say what began and what is over. A look that hangs, as a dead network disk makes it, is not joined by another."""
        if self._looking:
            return
        self._looking = True
        try:
            spaces, away = await self._offload(_looked_at, self._places(), self._anchors)
        finally:
            self._looking = False
        self._looked = True
        full: dict[str, Space] = {}
        for space in spaces:
            if space.used >= self._most - (BACK if space.mount in self._full else 0.0):
                full[space.mount] = space
        for space in full.values():
            if space.mount not in self._full:
                self._bus.publish(Alarm("disk-full", self._text(space), subject=space.mount))
        for gone in away:
            if gone.place not in self._away:
                self._bus.publish(
                    Alarm("disk-away", f"{gone.place} ({gone.path}) cannot be reached: {gone.why}", subject=gone.place)
                )
        before = (self._full, self._away)
        self._full, self._away = full, {one.place: one for one in away}
        for mount in before[0].keys() - full.keys():
            self._bus.publish(AlarmEnded("disk-full", mount, self.over("disk-full", mount)))
        for place in before[1].keys() - self._away.keys():
            self._bus.publish(AlarmEnded("disk-away", place, self.over("disk-away", place)))

    def _text(self, space: Space) -> str:
        return f"{space.used:.0%} of the file system at {space.mount} are in use, {self._most:.0%} is the limit; on it: {', '.join(space.places)}"

    def over(self, code: str, subject: str) -> str:
        """Why an alarm of an earlier process is over, or ``""``: it lasts, or nobody has looked yet."""
        if not self._looked or subject in (self._full if code == "disk-full" else self._away):
            return ""
        return "there is room again" if code == "disk-full" else "it can be reached again"

    def unfit(self, places: Collection[str]) -> str:
        """Why nothing more may be taken that has to go to one of these places, or ``""``."""
        for place in self._away.keys() & set(places):
            return f"the disk of {place} is away"
        for space in self._full.values():
            for place in space.places:
                if place in places:
                    return f"the disk of {place} is {space.used:.0%} full"
        return ""


def _looked_at(places: Mapping[str, Path], anchors: Mapping[str, Anchor]) -> tuple[list[Space], list[Away]]:
    spaces, away = measure(places)
    for place, anchor in anchors.items():
        try:
            anchor.look()
        except DiskAway as error:
            away = [one for one in away if one.place != place] + [Away(place, str(anchor.directory), str(error))]
    return spaces, away
