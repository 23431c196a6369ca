"""Who works when: one turn of the reactor shared by all connections, so that nobody waits for a hundred others (rule 8d).

A connection works for ``SLICE_SECONDS`` at a time and all of them together for ``TURN_SECONDS`` a turn; who comes later in the turn, or has more to do,
works in the next ones. There are two queues. Whoever has hardly worked when the turn is used up is *light* and comes first, for a slice that is the shorter the
more of them there are; whoever used up a slice is *heavy*, and the heavy ones take turns in half of what a turn has. So somebody with one command waits about as long with
a hundred busy connections as with one (``tests/cost/test_fairness.py``), and the busy ones are never left out: one of them works in each turn.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.net.serving.outbox import Outbox

SLICE_SECONDS = 0.005
"""So long a connection works before others have their turn."""

TURN_SECONDS = 0.010
"""So long all connections together work in one turn of the reactor."""

LEAST_SECONDS = 0.000_25
"""A slice is no shorter."""


class Place:
    """Somebody's place in a queue; ``work`` is called once, when its turn has come."""

    __slots__ = ("work",)

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work


class Rota:
    """One a process, for the connections of all doors. ``clock`` is the reactor. ``outbox``: where answers wait for the end of the turn; without one each
    connection writes its own."""

    log = Logger()

    def __init__(self, clock: IReactorTime, outbox: Outbox | None = None) -> None:
        self.outbox = outbox
        self._clock = clock
        self._light: dict[Place, None] = {}
        self._heavy: dict[Place, None] = {}
        self._slice = SLICE_SECONDS
        self._until: float | None = None  # when this turn's share is used up; None: nobody has worked in it

    def begin(self, now: float) -> float:
        """Somebody begins to work now, until the clock says so at the latest. 0: this turn is used up."""
        if self._until is None:
            self._until = now + TURN_SECONDS
            self._clock.callLater(0, self._next_turn)
        elif now >= self._until:
            return 0.0
        return min(now + self._slice, self._until)

    def enter(self, work: Callable[[], None], *, heavy: bool) -> Place:
        """Have ``work`` called in a later turn."""
        place = Place(work)
        (self._heavy if heavy else self._light)[place] = None
        if self._until is None:
            self._until = 0.0
            self._clock.callLater(0, self._next_turn)
        return place

    def leave(self, place: Place) -> None:
        """It need not be called any more."""
        self._light.pop(place, None)
        self._heavy.pop(place, None)

    def _next_turn(self) -> None:
        """A new turn: first those that wait; what the network brings in the rest of it comes behind."""
        if not self._light and not self._heavy:
            self._until = None
            return
        now = self._clock.seconds()
        self._until = now + TURN_SECONDS
        self._clock.callLater(0, self._next_turn)
        self._slice = min(SLICE_SECONDS, max(LEAST_SECONDS, TURN_SECONDS / (len(self._light) + 1)))
        self._work(self._light, self._until)
        self._slice = SLICE_SECONDS
        self._work(self._heavy, min(self._until, now + TURN_SECONDS / 2))

    def _work(self, queue: dict[Place, None], until: float) -> None:
        """Who is in the queue, one at least."""
        while queue:
            place = next(iter(queue))
            del queue[place]
            try:
                place.work()
            except Exception:  # noqa: BLE001
                self.log.failure("a connection's turn failed")
            if self._clock.seconds() >= until:
                break


class Shift:
    """The work of one connection: how long it may go on now, and where it stands in line if it may not."""

    __slots__ = ("_began", "_rota", "_seconds", "_until")

    def __init__(self, rota: Rota, clock: IReactorTime) -> None:
        self._rota = rota
        self._seconds = clock.seconds
        self._began = 0.0
        self._until = 0.0

    def begin(self) -> bool:
        """It works now. False: it should not, this turn is used up."""
        self._began = now = self._seconds()
        self._until = self._rota.begin(now)
        return self._until > 0

    def over(self) -> bool:
        """Whether others should have their turn."""
        return self._seconds() >= self._until

    def later(self, work: Callable[[], None]) -> Place:
        """Have ``work`` called when its turn comes; it begins there."""
        return self._rota.enter(work, heavy=self._seconds() - self._began >= LEAST_SECONDS)

    def leave(self, place: Place) -> None:
        """It need not be called any more."""
        self._rota.leave(place)
