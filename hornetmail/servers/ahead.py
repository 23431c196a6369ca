"""Messages that are asked for one after the other, read ahead: the next ones while the peer takes this one (``bench/pop.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from hornetmail.core.folder import Entry, FolderError
from hornetmail.interfaces.folders import IFolder

AHEAD_BYTES = 131_072
"""Held at a time, unless one message is larger."""

AHEAD = 32
"""Messages read in one hop."""


class Ahead:
    """The texts of a folder's messages by their places in ``entries``. Nothing is read ahead before two were taken in a row. ``wanted``: whether a message may
    still be asked for."""

    def __init__(self, folder: IFolder, entries: Sequence[Entry], wanted: Callable[[int], bool]) -> None:
        self._folder = folder
        self._entries = entries
        self._wanted = wanted
        self._texts: dict[int, bytes | None] = {}
        self._coming: dict[int, Deferred[None]] = {}
        self._last = -2

    def at_once(self, place: int) -> bytes | None:
        """The text, if it is here; the next ones are on their way then."""
        if place != self._last + 1:
            self._texts.clear()
        text = self._texts.pop(place, None)
        if text is not None:
            self._last = place
            if len(self._texts) < AHEAD // 4 and not self._coming:
                self._read(max(self._texts, default=place) + 1)
        return text

    async def text(self, place: int) -> bytes:
        """The text. Raises FolderError EXPUNGEISSUED if it has gone."""
        following = place == self._last + 1
        self._last = place
        if (coming := self._coming.get(place)) is not None:
            waiting: Deferred[None] = Deferred()
            coming.addBoth(lambda _: waiting.callback(None))
            await waiting
        if (text := self._texts.pop(place, None)) is not None:
            return text
        if following and not self._coming:
            self._read(place + 1)
        [found] = await self._folder.pieces([(self._entries[place].uid, 0, self._entries[place].size)])
        if found is None:
            raise FolderError("EXPUNGEISSUED", "the message has been removed")
        return found

    def _read(self, place: int) -> None:
        """Begin to read what follows. What goes wrong shows when it is asked for."""
        places: list[int] = []
        held = sum(len(text) for text in self._texts.values() if text is not None)
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
        self._texts.update(zip(places, await self._folder.pieces(wanted), strict=True))

    def _came(self, result: object) -> None:
        self._coming = {}
