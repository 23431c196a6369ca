"""Whether media are in reach, how much room they have, and who is told (A15): one alarm when a medium goes away, one before it is full."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hornetmail.archive.media.medium import IMedium, MediumTaken, Space
from hornetmail.archive.media.roster import Media
from hornetmail.core.archive.archived import ArchiveError

LOW = 0.1
"""Free share of a medium below which its administrators are warned."""


_NOT_UP = ("medium-away", "medium-taken")


class Health(msgspec.Struct, frozen=True, gc=False):
    """A medium as it was last seen. ``why``: why it is not ``up``; ``since``: Unix seconds from which it has been so; ``taken``: it can be read, but another installation writes there."""

    up: bool
    since: float
    why: str = ""
    space: Space = Space()
    taken: bool = False


class MediaWatch:
    """``alarm(code, text, medium)`` and ``over(code, why, medium)``, with the medium's number as text, may be called in any thread; ``now`` gives Unix seconds."""

    def __init__(
        self,
        media: Media,
        alarm: Callable[[str, str, str], None],
        over: Callable[[str, str, str], None],
        now: Callable[[], float],
    ) -> None:
        self._media = media
        self._alarm = alarm
        self._over = over
        self._now = now
        self._health: dict[int, Health] = {}
        self._low: set[int] = set()

    def health(self, number: int) -> Health | None:
        """As it was last seen; None if nobody looked yet, or it is out of use."""
        return self._health.get(number)

    def away(self) -> dict[int, str]:
        """Those in use that are out of reach, or cannot be written, and why."""
        return {number: seen.why for number, seen in sorted(self._health.items()) if not seen.up}

    def unread(self) -> frozenset[int]:
        """Those in use that are out of reach."""
        return frozenset(number for number, seen in self._health.items() if not seen.up and not seen.taken)

    def look(self) -> list[int]:
        """Look at all in use; the numbers of those that are back. Blocking."""
        used = self._media.all()
        for number in {*self._health, *self._low} - {medium.number for medium in used}:
            self._low.discard(number)
            for code in (*_NOT_UP, "medium-full"):
                self._over(code, "the medium is out of use", str(number))
        self._health = {m.number: self._health[m.number] for m in used if m.number in self._health}
        return [medium.number for medium in used if self.look_at(medium)]

    def look_at(self, medium: IMedium) -> bool:
        """Look at one; whether it was away and is back. Blocking."""
        before = self._health.get(medium.number)
        now = self._now()
        try:
            space = medium.look()
        except (ArchiveError, OSError) as error:
            since = before.since if before is not None and not before.up else now
            taken = isinstance(error, MediumTaken)
            self._health[medium.number] = Health(False, since, str(error), taken=taken)
            if before is None or before.up or before.taken != taken:
                self._tell(medium.number, str(error), taken)
            return False
        since = before.since if before is not None and before.up else now
        self._health[medium.number] = Health(True, since, "", space)
        if before is None or not before.up:
            # Also at the first look after a restart: it may have been away before.
            for code in _NOT_UP:
                self._over(code, "the medium is there", str(medium.number))
        self._warn(medium, space)
        return before is not None and not before.up

    def _tell(self, number: int, why: str, taken: bool) -> None:
        """It is not up, and why."""
        if taken:
            self._over("medium-away", "the medium is there, but another installation writes to it", str(number))
            text = f"{why}: this one writes nothing there, new mail waits in the staging area. See which of the two shall go on: archive medium take {number}"
            self._alarm("medium-taken", text, str(number))
        else:
            self._over("medium-taken", "the medium is out of reach", str(number))
            self._alarm("medium-away", f"{why}; what is on it cannot be opened until it is back", str(number))

    def _warn(self, medium: IMedium, space: Space) -> None:
        number = medium.number
        if space.share >= LOW:
            self._low.discard(number)
            self._over("medium-full", "the medium has room again", str(number))
        elif number not in self._low:
            self._low.add(number)
            free = space.free // (1 << 20)
            text = f"medium {number} ({medium.where}) is nearly full: {free} MiB are free, {space.share:.0%}"
            self._alarm("medium-full", text, str(number))
