"""Health: whom the probes ask, how often, and what they tell (C2, L6, rule 5). No sockets: the clock and the hosts are the test's."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core import machine
from hornetmail.core.events import HealthChanged, PrimarySeen
from hornetmail.core.reply import Reply
from hornetmail.core.served import Domain, Host
from hornetmail.core.verdict import Stage
from hornetmail.delivery.outage.health import Health, Pace
from hornetmail.net.smtp import Broken
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory


class Hosts:
    """Greets for hosts that are up, refuses for those in ``down``, never answers for those in ``silent``."""

    def __init__(self) -> None:
        self.down: set[Host] = set()
        self.silent: set[Host] = set()
        self.dialled: list[Host] = []
        self.open = 0
        self.most = 0

    async def connect(self, dialer: Any, host: Host, **options: Any) -> Any:
        self.dialled.append(host)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if host in self.silent:
                await Deferred()
            if host in self.down:
                raise Broken(Stage.CONNECT, Reply(451, "4.4.1", "refused"))
        finally:
            self.open -= 1
        return self

    async def quit(self) -> None:
        """All is said."""

    def abort(self) -> None:
        """Nothing is open."""


class HealthCase(TestCase):
    """``self.told``: what the machine would hear; ``self.seen``: primaries seen up; ``self.changed``: those that went up or down."""

    def build(self, domains: list[Domain], alert: set[str] | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.hosts = Hosts()
        self.told: list[tuple[str, machine.Event]] = []
        self.seen: list[PrimarySeen] = []
        self.changed: list[HealthChanged] = []
        self.directory = MemoryDirectory(domains, [])
        bus = Bus(self.clock)
        bus.subscribe(PrimarySeen, self.seen.append)
        bus.subscribe(HealthChanged, self.changed.append)
        worried = alert if alert is not None else set()
        self.health = Health(
            self.clock,
            self.directory,
            bus,
            None,
            "mx.hornet.test",
            lambda domain, event: self.told.append((domain, event)),
            lambda domain: domain in worried,
            connect=self.hosts.connect,
            pace=Pace(calm=60, alert=5, patience=8),
        )
        self.addCleanup(self.health.stop)

    def run_for(self, seconds: float) -> None:
        """In small steps."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


ONE = Host("one.test")


class Seen(HealthCase):
    async def test_published_once_a_probe(self) -> None:
        """Mail that waits for a primary is told of late: a primary that comes back is published within one alert pace, with the domains it
        serves, and again at each answered probe (a portal copy made meanwhile by a passing 4xx must not wait for its back-off)."""
        self.build(
            [
                Domain("a.test", primaries=(ONE,)),
                Domain("b.test", primaries=(ONE,)),
                Domain("c.test", primaries=(Host("two.test"),)),
            ]
        )
        self.hosts.down.add(ONE)
        self.health.start()
        self.run_for(10)
        assert not [event for event in self.seen if event.host == str(ONE)]
        self.hosts.down.clear()
        self.run_for(6)
        back = [event for event in self.seen if event.host == str(ONE)]
        assert back
        assert back[0].domains == ("a.test", "b.test")

    async def test_not_published_for_each_connection(self) -> None:
        """An event for each delivery's connection would cost a look at what waits each time."""
        self.build([Domain("a.test", primaries=(ONE,))])
        for _ in range(50):
            self.health.saw(ONE, True, "connected")
        self.clock.advance(0.1)
        assert len(self.seen) == 1
        self.health.saw(ONE, False, "refused")
        self.health.saw(ONE, True, "connected")
        self.clock.advance(0.1)
        assert len(self.seen) == 2
