"""A primary is seen up again: which rows are made due, how many a second, and how often (``home/homeward.py``). The drain and the modes are the test's."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.events import HealthChanged, PrimarySeen
from hornetmail.core.failover import machine
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Domain, Host
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.home.homeward import FIRST, LONGEST_CALM_SECONDS, MOST, Homeward
from hornetmail.runtime.bus import Bus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue
from tests.delivery.world import Meters

DOMAIN, OTHER = "example.test", "other.test"
NOW = 1_700_000_000.0
AWAY = Verdict(Outcome.DEFERRED, Reply(451, "4.4.1", "refused"), "primary", Stage.CONNECT, unavailable=True)
FULL = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "full"), "primary", Stage.RCPT, unavailable=True)


class Modes:
    def __init__(self) -> None:
        self.now: dict[str, Mode] = {}
        self.policy = machine.Policy()

    def mode(self, domain: str) -> Mode:
        return self.now.get(domain, Mode.NORMAL)


class Drain:
    """``has``: whether there is anything to take home."""

    def __init__(self) -> None:
        self.has = False
        self.kicked: list[str] = []
        self.turned: list[str] = []

    async def anything(self, domain: str) -> bool:
        return self.has

    def kick(self, domain: str) -> None:
        self.kicked.append(domain)

    def turned_up(self, domain: str) -> None:
        self.turned.append(domain)


class HomewardCase(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.advance(NOW)
        self.queue = MemoryQueue(self.clock.seconds)
        self.bus = Bus(self.clock)
        self.modes, self.drain = Modes(), Drain()
        hosts = (Host("192.0.2.1"),)
        directory = MemoryDirectory(
            [Domain(DOMAIN, primaries=hosts, aliases=("alias.test",)), Domain(OTHER, primaries=hosts)], []
        )
        ground: Any = Ground(self.clock, self.queue, directory, self.modes, self.bus, Meters())  # type: ignore[arg-type]
        self.homeward = Homeward(ground, self.drain)  # type: ignore[arg-type]
        self.homeward.start()

    def row(self, last: Verdict | None = AWAY, wait: float = 3600.0, domain: str = DOMAIN, owner: str = DOMAIN) -> int:
        message = self.queue.take(
            1, b"", Envelope("s@x.test", (Recipient(f"a@{domain}"),)), Origin(Door.MX), Direction.IN, b"", owner, False, "", ""
        )
        [row] = [row for row in self.queue.held.values() if row.message == message.id]
        self.queue.held[row.id] = msgspec.structs.replace(row, last=last, due=self.clock.seconds() + wait)
        return row.id

    def seen(self, *domains: str) -> None:
        self.bus.publish(PrimarySeen("192.0.2.1:25", domains or (DOMAIN,)))
        self.clock.advance(0)

    def due(self, row: int) -> float:
        """Seconds from now."""
        return self.queue.held[row].due - self.clock.seconds()


class Rows(HomewardCase):
    def test_which(self) -> None:
        """Would catch mail whose back-off has another reason than the outage and that is tried at once (greylisting, a full mailbox, an administrator's order),
        a domain's that was not seen, whatever message it belongs to, and mail that the outage kept and that goes on waiting."""
        stalled = [self.row(), self.row(domain="alias.test"), self.row(wait=1.0)]
        others = [self.row(FULL), self.row(None), self.row(domain=OTHER), self.row(AWAY, 0.0)]
        held = self.row()
        self.queue.held[held] = msgspec.structs.replace(self.queue.held[held], state=RowState.HELD)
        before = {number: self.queue.held[number] for number in (*others, held)}
        self.seen()
        assert [self.due(number) for number in stalled] == [0.0] * 3
        assert {number: self.queue.held[number] for number in before} == before

    def test_how_many_a_second(self) -> None:
        """Would catch a primary that is overrun by what waited, or mail that trickles; none is made to wait longer than it would have."""
        rows = [self.row() for _ in range(2000)]
        soon = self.row(wait=2.0)
        self.seen()
        counts: dict[float, int] = {}
        for number in rows:
            counts[self.due(number)] = counts.get(self.due(number), 0) + 1
        assert FIRST == 10
        assert MOST == 320
        assert [counts[float(second)] for second in range(9)] == [10, 20, 40, 80, 160, 320, 320, 320, 320]
        assert sum(counts.values()) == 2000
        assert self.due(soon) == 2.0

    def test_more_than_a_page(self) -> None:
        """Would catch mail behind the first five hundred that goes on waiting, or a look that keeps on looking at exactly as many."""
        for count in (500, 501, 1001):
            self.setUp()
            rows = [self.row() for _ in range(count)]
            self.seen()
            assert max(self.due(number) for number in rows) < 10.0


class When(HomewardCase):
    def hurried(self, after: float) -> bool:
        """Whether mail that waits is made due when its primary is seen after so many seconds; it comes back at once if it is."""
        self.clock.advance(after)
        for number in list(self.queue.held):
            del self.queue.held[number]
        row = self.row()
        self.seen()
        return self.due(row) == 0.0

    def test_a_primary_that_comes_and_goes(self) -> None:
        """Would catch one that fails and answers by turns and is sent everything each time, or one that is back for good and whose mail waits; the time between
        two is doubled from 10 s up to a quarter of an hour, and is short again after a while."""
        assert self.hurried(0.0)
        for calm in (10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 900.0, 900.0):
            assert not self.hurried(calm - 0.5), calm
            assert self.hurried(0.5), calm
        assert self.hurried(2 * LONGEST_CALM_SECONDS + self.modes.policy.window)
        assert not self.hurried(9.5)
        assert self.hurried(0.5)

    def passed(self, after: float) -> bool:
        """Whether a pass of the drain begins when the primary is seen after so many seconds."""
        self.clock.advance(after)
        self.drain.kicked.clear()
        self.seen()
        return bool(self.drain.kicked)

    def test_passes_for_a_primary_that_takes_nothing(self) -> None:
        """Would catch a pass for each answered probe of a primary that answers and breaks each delivery off, one that comes ever later than two minutes, and memory
        of each domain that had trouble once."""
        self.row(FULL)
        self.drain.has = True
        assert self.passed(0.0)
        for calm in (10.0, 20.0, 40.0, 80.0, 120.0, 120.0):
            assert not self.passed(calm - 0.5), calm
            assert self.passed(0.5), calm
        self.drain.has = False
        assert not self.passed(2 * LONGEST_CALM_SECONDS)
        assert self.homeward._passes
        assert not self.passed(1.0)
        assert not self.homeward._passes

    def test_a_clock_that_is_put_back(self) -> None:
        """Would catch mail and passes that wait until a clock, which was a week ahead, is there again."""
        self.row(FULL)
        self.drain.has = True
        assert self.hurried(0.0)
        for calms in (self.homeward._calm, self.homeward._passes):
            calms[DOMAIN] = msgspec.structs.replace(calms[DOMAIN], at=NOW + 7 * 86400.0)
        assert self.hurried(1.0)
        assert self.passed(0.0) is False, "it was a moment ago"
        assert self.drain.kicked == []

    def test_forgotten(self) -> None:
        """Would catch memory that grows with every domain that had trouble once."""
        assert self.hurried(0.0)
        keep = [self.row(FULL)]
        for number in list(self.queue.held):
            if number not in keep:
                del self.queue.held[number]
        self.clock.advance(2 * LONGEST_CALM_SECONDS)
        self.seen()
        assert self.homeward._calm
        self.clock.advance(1.0)
        self.seen()
        assert not self.homeward._calm

    def test_what_is_looked_at(self) -> None:
        """Would catch a look for each answered probe while nothing waits anywhere, in an emergency (the machine decides), or beside one that is under way; and a
        pass for nothing, or none."""
        looked: list[str] = []
        look = self.homeward._look

        def counted(domain: str) -> Any:
            looked.append(domain)
            return look(domain)

        self.homeward._look = counted  # type: ignore[method-assign]
        self.seen()
        assert looked == [], "the queue is empty"
        self.row(FULL)
        self.seen()
        assert (looked, self.drain.kicked) == ([DOMAIN], [])
        self.drain.has = True
        self.seen(DOMAIN, OTHER)
        assert self.drain.kicked == [DOMAIN, OTHER]
        self.modes.now[DOMAIN] = Mode.DRAINING
        self.seen()
        assert self.drain.kicked == [DOMAIN, OTHER], "a pass is under way"
        self.modes.now[DOMAIN] = Mode.EMERGENCY
        looked.clear()
        self.seen(DOMAIN, OTHER)
        assert looked == [OTHER]
        self.homeward._looking.add(OTHER)
        self.seen(OTHER)
        assert looked == [OTHER]
        for number in list(self.queue.held):
            self.queue.held[number] = msgspec.structs.replace(self.queue.held[number], kind=RowKind.ARCHIVE)
        self.homeward._looking.clear()
        self.seen(OTHER)
        assert looked == [OTHER], "what waits for the archive does not wait for a primary"

    def test_a_pass_that_rests(self) -> None:
        """Would catch a pass of the drain that rests although its primary turned up, or that is woken in an emergency, or by trouble."""
        self.bus.publish(HealthChanged(DOMAIN, "192.0.2.1:25", False, "refused"))
        self.modes.now[OTHER] = Mode.EMERGENCY
        self.bus.publish(HealthChanged(OTHER, "192.0.2.1:25", True, "answered"))
        self.clock.advance(0)
        assert self.drain.turned == []
        self.bus.publish(HealthChanged(DOMAIN, "192.0.2.1:25", True, "answered"))
        self.clock.advance(0)
        assert self.drain.turned == [DOMAIN]
