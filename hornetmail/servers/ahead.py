"""Messages that are asked for one after the other, read ahead: the next ones while the peer takes this one (``bench/pop.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

from hornetmail.core.folder import Entry, FolderError
from hornetmail.interfaces.folders import IFolder

T = TypeVar("T")

AHEAD_BYTES = 262_144
"""Held at a time, unless one message is larger."""

AHEAD = 32
"""Messages read in one hop."""


class Ahead(Generic[T]):
    """What ``made`` makes of the texts of a folder's messages, by their places in ``entries``; it is made as soon as the text is here. Nothing is read ahead
    before two were taken in a row. ``wanted``: whether a message may still be asked for. ``soon(work)`` has ``work`` called once what was asked for is on its
    way: reading on must keep nobody waiting."""

    def __init__(
        self,
        folder: IFolder,
        entries: Sequence[Entry],
        made: Callable[[bytes], T],
        wanted: Callable[[int], bool],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._folder = folder
        self._entries = entries
        self._made = made
        self._wanted = wanted
        self._soon = soon
        self._found: dict[int, T | None] = {}
        self._coming: dict[int, Deferred[None]] = {}
        self._held = 0
        self._last = -2
        self._asked = False

    def at_once(self, place: int) -> T | None:
        """It, if it is here; the next ones are on their way then."""
        if place != self._last + 1:
            self._found.clear()
            self._held = 0
        found = self._taken(place)
        if found is not None:
            self._last = place
            if not self._coming and not self._asked and self._held < AHEAD_BYTES // 2 and len(self._found) < AHEAD // 2:
                self._asked = True
                self._soon(self._on)
        return found

    def _taken(self, place: int) -> T | None:
        if place not in self._found:
            return None
        self._held -= self._entries[place].size
        return self._found.pop(place)

    async def text(self, place: int) -> T:
        """It. Raises FolderError EXPUNGEISSUED if the message has gone."""
        following = place == self._last + 1
        self._last = place
        if (coming := self._coming.get(place)) is not None:
            waiting: Deferred[None] = Deferred()
            coming.addBoth(lambda _: waiting.callback(None))
            await waiting
        if (found := self._taken(place)) is not None:
            return found
        if following and not self._coming:
            self._read(place + 1)
        [text] = await self._folder.pieces([(self._entries[place].uid, 0, self._entries[place].size)])
        if text is None:
            raise FolderError("EXPUNGEISSUED", "the message has been removed")
        return self._made(text)

    def _on(self) -> None:
        self._asked = False
        if not self._coming:
            self._read(max(self._found, default=self._last) + 1)

    def _read(self, place: int) -> None:
        """Begin to read what follows. What goes wrong shows when it is asked for."""
        places: list[int] = []
        held = self._held
        while place < len(self._entries) and len(places) < AHEAD:
            held += self._entries[place].size
            if held > AHEAD_BYTES:
                break
            if self._wanted(place):
                places.append(place)
            place += 1
        if places:
            reading = Deferred.fromCoroutine(self._gather(places))
            if not reading.called:
                self._coming = dict.fromkeys(places, reading)
            reading.addBoth(self._came)

    async def _gather(self, places: Sequence[int]) -> None:
        wanted = [(self._entries[place].uid, 0, self._entries[place].size) for place in places]
        for place, text in zip(places, await self._folder.pieces(wanted), strict=True):
            self._found[place] = None if text is None else self._made(text)
            self._held += self._entries[place].size

    def _came(self, result: object) -> None:
        self._coming = {}
