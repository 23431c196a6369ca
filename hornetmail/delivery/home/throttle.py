"""Who may hand over to a primary that was away, and when: one pace for all domains there, in turn (rule 10)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from hornetmail.core.delivery.pace import Answer, Limits, Pace
from hornetmail.core.served import Host

IDLE_SECONDS = 60.0
"""A primary that was given nothing for that long is met anew: slowly."""

LATE_SECONDS = 0.02
"""So much that the reactor came too late is made up for."""


class Throttle:
    """One primary's. Each ``begin`` has its ``end``."""

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._pace = Pace(limits, clock.seconds())
        self._busy = 0
        self._next = 0.0
        self._used = clock.seconds()
        self._waiting: deque[Deferred[None]] = deque()
        self._call: IDelayedCall | None = None

    @property
    def idle(self) -> bool:
        """Nothing is under way or waits, and has not for a while."""
        return not self._busy and not self._waiting and not 0 <= self._clock.seconds() - self._used < IDLE_SECONDS

    async def begin(self) -> None:
        """Returns when one more may be offered, in the order of asking."""
        if self.idle:
            self._pace = Pace(self._limits, self._clock.seconds())
        turn: Deferred[None] = Deferred(self._leave)
        self._waiting.append(turn)
        self._serve()
        await turn

    def _leave(self, turn: Deferred[None]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        if not self._waiting and self._call is not None and self._call.active():
            self._call.cancel()

    def end(self, seconds: float, answer: Answer | None) -> None:
        """It was answered after so many seconds; None: the primary was not asked, or had no say."""
        now = self._clock.seconds()
        self._busy -= 1
        self._used = now
        if answer is not None:
            self._pace.answered(now, seconds, answer)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._busy < self._pace.width:
            now = self._clock.seconds()
            rest = self._next - now
            # Longer than one turn at any pace: the clock was put back.
            if 0 < rest <= 1.0:
                if self._call is None or not self._call.active():
                    self._call = self._clock.callLater(rest, self._serve)
                return
            self._next = max(self._next if rest <= 0 else 0.0, now - LATE_SECONDS) + 1.0 / self._pace.rate
            self._busy += 1
            self._used = now
            self._waiting.popleft().callback(None)


class Throttles:
    """Of all primaries; one that is idle is forgotten."""

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._known: dict[tuple[Host, ...], Throttle] = {}

    def of(self, hosts: Sequence[Host]) -> Throttle:
        """The one of these hosts, whoever's they are."""
        self._known = {key: each for key, each in self._known.items() if not each.idle}
        return self._known.setdefault(tuple(hosts), Throttle(self._clock, self._limits))
