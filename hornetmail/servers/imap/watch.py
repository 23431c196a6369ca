"""From the bus's hints to the views of folders: one subscription for the whole door."""

from __future__ import annotations

from collections.abc import Callable

from hornetmail.core.events import Annotated, FolderChanged
from hornetmail.interfaces.bus import IBus

Place = tuple[int, str]
"""A mailbox's ID and a folder's name in its own tree."""


class Watch:
    """Who looks at which folder. A listener must do next to nothing and not raise."""

    def __init__(self, bus: IBus) -> None:
        self._listeners: dict[Place, set[Callable[[], None]]] = {}
        self.annotations: set[Callable[[Annotated], None]] = set()
        """Who is told of each annotation that changed, under the same rules."""
        self._stops = (bus.subscribe(FolderChanged, self._changed), bus.subscribe(Annotated, self._annotated))

    def close(self) -> None:
        """Listen no longer."""
        for stop in self._stops:
            stop()

    def add(self, place: Place, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever something changed there."""
        self._listeners.setdefault(place, set()).add(listener)

    def remove(self, place: Place, listener: Callable[[], None]) -> None:
        """No longer. Safe to call twice."""
        listeners = self._listeners.get(place)
        if listeners is not None:
            listeners.discard(listener)
            if not listeners:
                del self._listeners[place]

    def _annotated(self, event: Annotated) -> None:
        for listener in tuple(self.annotations):
            listener(event)

    def _changed(self, event: FolderChanged) -> None:
        for listener in tuple(self._listeners.get((event.mailbox, event.folder), ())):
            listener()
