"""What every attempt stands on, as values: so that who makes one is handed a few things, not a dozen."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.interfaces import IReactorTime

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Row
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.address import domain_of
from hornetmail.delivery.outage.modes import Modes
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.meters import IMeters
from hornetmail.interfaces.queue import IQueue


class Ground(msgspec.Struct, frozen=True):
    """The clock, the queue, who is served, in which mode, and who hears of it."""

    clock: IReactorTime
    queue: IQueue
    directory: IDirectory
    modes: Modes
    bus: IBus
    meters: IMeters

    def name(self, domain: str) -> str:
        """The served domain of that name or alias; as it is, if it is none of ours."""
        served = self.directory.domain(domain)
        return served.name if served is not None else domain

    def domain(self, row: Row) -> str:
        """The served domain of a row's recipient."""
        return self.name(domain_of(row.address))

    def in_emergency(self, domain: str) -> bool:
        """Whether the portal is that domain's mail server now."""
        return self.modes.mode(domain) is Mode.EMERGENCY


class Retry(msgspec.Struct, frozen=True):
    """When to try again: the back-off, the clock, and ``jitter``, which draws from [0, 1). ``silences``: so often a recipient's message goes to a server
    that takes its final dot and never answers; each further time would be one more copy in somebody's mailbox (rule 11)."""

    clock: IReactorTime
    backoff: Backoff
    jitter: Callable[[], float]
    silences: int = 5

    def is_hopeless(self, row: Row) -> bool:
        """Nobody hands this row's message over any more unless somebody says so."""
        return row.unheard >= self.silences

    def next_due(self, row: Row) -> float:
        """When the attempt after the one about to start is due, which ``row`` counts already; durable before anybody is dialled."""
        return self.clock.seconds() + self.backoff.delay(row.attempts, self.jitter())

    def again(self, row: Row) -> float:
        """When a row is due that was tried just now."""
        return self.clock.seconds() + self.backoff.delay(max(row.attempts, 1), self.jitter())
