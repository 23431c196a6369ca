"""Outbound silence: a primary that sends nothing through our relay for longer than it ever did is a warning (``core.silence``).

Pauses are measured in uptime, so that our own standing still, or a clock that jumps, is nobody's silence.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.events import Alarm, AlarmEnded, MessageAccepted
from hornetmail.core.failover import silence
from hornetmail.core.failover.silence import Relay
from hornetmail.delivery.tasks import Tasks
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.queue import IQueue

SPACE = "relayed"

CODE = "outbound-silence"


class Silence:
    """``uptime`` gives monotonic seconds."""

    log = Logger()

    def __init__(self, clock: IReactorTime, queue: IQueue, directory: IDirectory, bus: IBus, uptime: Callable[[], float]) -> None:
        self._clock = clock
        self._queue = queue
        self._directory = directory
        self._bus = bus
        self._uptime = uptime
        self._relays: dict[str, Relay] = {}
        self._heard: dict[str, float] = {}
        self._told: set[str] = set()
        self._tasks = Tasks(clock)
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Take up what was learned. A pause begins anew, one that was told of lasts."""
        for domain, value in self._queue.remembered(SPACE).items():
            try:
                self._relays[domain] = msgspec.msgpack.decode(value, type=Relay)
            except msgspec.DecodeError:
                self.log.error("how {domain} uses the relay cannot be read and is learned anew", domain=domain)
        self._heard = dict.fromkeys(self._relays, self._uptime())
        self._unsubscribe = self._bus.subscribe(MessageAccepted, self._accepted)

    async def stop(self) -> None:
        """Listen no more."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        await self._tasks.stop(1.0)

    def over(self, domain: str) -> str:
        """Why the domain is not silent, or ``""``."""
        relay = self._relays.get(domain)
        return (
            ""
            if relay is not None and relay.silent
            else "its mail goes through the relay again, or nothing more is expected of it"
        )

    def _accepted(self, event: MessageAccepted) -> None:
        if not event.relayed or not event.domain:
            return
        now, up = self._clock.seconds(), self._uptime()
        before = self._relays.get(event.domain)
        relay = silence.heard(before, now, up - self._heard.get(event.domain, up))
        self._heard[event.domain] = up
        self._relays[event.domain] = relay
        if before is not None and before.silent:
            self._told.discard(event.domain)
            self._bus.publish(AlarmEnded(CODE, event.domain, f"{event.domain} sends through the relay again"))
        if before is None or before.silent or before.pauses != relay.pauses:
            self._remember(event.domain, relay)

    def _remember(self, domain: str, relay: Relay | None) -> None:
        value = msgspec.msgpack.encode(relay) if relay is not None else None
        self._tasks.start(self._queue.remember(SPACE, domain, value), f"remembering how {domain} uses the relay")

    async def look(self) -> None:
        """Every few minutes: who is too quiet, and who is not expected any more."""
        now, up = self._clock.seconds(), self._uptime()
        for domain, relay in list(self._relays.items()):
            if self._directory.domain(domain) is None or now - relay.heard > silence.DAYS * silence.DAY:
                self._forget(domain)
                continue
            quiet = up - self._heard[domain]
            usual = silence.limit(relay, now)
            if not relay.silent and quiet >= usual:
                relay = self._relays[domain] = msgspec.structs.replace(relay, silent=now)
                self._remember(domain, relay)
            if relay.silent and domain not in self._told:
                self._told.add(domain)
                self._bus.publish(Alarm(CODE, _text(domain, now - relay.heard, max(relay.pauses.values(), default=0.0)), domain))

    def _forget(self, domain: str) -> None:
        del self._relays[domain], self._heard[domain]
        self._told.discard(domain)
        self._remember(domain, None)
        why = f"{domain} has not used the relay for {silence.DAYS} days, or is not served any more: nothing is expected of it"
        self._bus.publish(AlarmEnded(CODE, domain, why))


def _text(domain: str, quiet: float, longest: float) -> str:
    return (
        f"no mail of {domain} has come through the relay for {quiet / 3600:.0f} hours; its longest pause in the {silence.DAYS} days before was"
        f" {longest / 3600:.1f} hours. Its server may have lost its way out: does mail wait there?"
    )
