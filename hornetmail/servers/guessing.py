"""The brake on guessing recipients: who asks for many that do not exist is answered more and more slowly, then told to go.

Counted are recipients refused for good. A message that is accepted pays for as many as it has recipients, so that lists with a few dead addresses
pass; and over the limit nothing is closed to mail, only to further guesses.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from twisted.internet.interfaces import IReactorTime

from hornetmail.net.serving.limits import network_of


class GuessLimits(msgspec.Struct, frozen=True, gc=False):
    """Refused recipients of one ``session`` (Postfix's hard limit is 20) and of one ``network`` (IPv4 address, IPv6 /64; rule 8), which are
    forgotten evenly within ``forget`` s. The first ``free`` of a session are answered at once, each further one ``step`` s later than the one
    before, at most ``slowest`` s. ``networks``: so many are remembered, those heard of least recently go first."""

    session: int = 20
    network: int = 100
    forget: float = 3600.0
    free: int = 5
    step: float = 0.25
    slowest: float = 5.0
    networks: int = 10_000


class Guesses:
    """Refused recipients by network, for all sessions of all doors."""

    def __init__(self, clock: IReactorTime, limits: GuessLimits = GuessLimits()) -> None:
        self.limits = limits
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def _level(self, network: str) -> float:
        level, at = self._levels.get(network, (0.0, 0.0))
        return max(0.0, level - (self._clock.seconds() - at) * self.limits.network / self.limits.forget)

    def _change(self, peer: str, by: float) -> None:
        network = network_of(peer)
        level = self._level(network) + by
        if level <= 0:
            self._levels.pop(network, None)
            return
        self._levels[network] = (level, self._clock.seconds())
        self._levels.move_to_end(network)
        while len(self._levels) > self.limits.networks:
            self._levels.popitem(last=False)

    def refused(self, peer: str) -> None:
        """One more from there."""
        self._change(peer, 1.0)

    def accepted(self, peer: str, recipients: int) -> None:
        """A message was accepted."""
        if self._levels:
            self._change(peer, -float(recipients))

    def over(self, peer: str, session: int) -> bool:
        """Whether a session with so many refused recipients is to end: it, or its network, has too many."""
        return session >= self.limits.session or (session > 0 and self._level(network_of(peer)) > self.limits.network)

    def delay(self, peer: str, session: int) -> float:
        """Seconds that the answer to a session's refused recipient of that number is kept back."""
        if self._level(network_of(peer)) > self.limits.network:
            return self.limits.slowest
        return min(self.limits.slowest, max(0, session - self.limits.free) * self.limits.step)
