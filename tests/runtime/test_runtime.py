"""The bus, the timetable and the meters."""

from __future__ import annotations

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.runtime.bus import Bus
from hornetmail.runtime.meters import Meters
from hornetmail.runtime.timetable import Job, Timetable


class Rang(msgspec.Struct, frozen=True):
    number: int


class BusTest(TestCase):
    def test_order_and_next_turn(self) -> None:
        """Catches events that overtake one another, or that run inside the publisher's own call."""
        clock, heard = Clock(), []
        bus = Bus(clock)
        stop = bus.subscribe(Rang, lambda event: heard.append(event.number))
        bus.publish(Rang(1))
        bus.publish(Rang(2))
        assert heard == []
        clock.advance(0)
        assert heard == [1, 2]
        stop()
        stop()
        bus.publish(Rang(3))
        clock.advance(0)
        assert heard == [1, 2]

    def test_failing_listener_disturbs_nobody(self) -> None:
        """Catches one room's mistake reaching another one, for plain and async listeners alike."""
        clock, heard = Clock(), []
        bus = Bus(clock)

        async def later(event: Rang) -> None:
            raise ValueError("later")

        def now(event: Rang) -> None:
            raise ValueError("now")

        bus.subscribe(Rang, now)
        bus.subscribe(Rang, later)
        bus.subscribe(Rang, lambda event: heard.append(event.number))
        bus.publish(Rang(7))
        clock.advance(0)
        assert heard == [7]
        assert len(self.flushLoggedErrors(ValueError)) == 2


class TimetableTest(TestCase):
    async def test_never_twice_at_once(self) -> None:
        """Catches a slow job that is started again on top of itself."""
        clock = Clock()
        gates: list[Deferred[None]] = []

        async def run() -> None:
            gates.append(Deferred())
            await gates[-1]

        table = Timetable(clock, [Job("slow", 10, run, first=1)])
        table.startService()
        clock.advance(1)
        clock.advance(100)
        assert len(gates) == 1
        gates[0].callback(None)
        clock.advance(10)
        assert len(gates) == 2
        gates[1].callback(None)
        await table.stopService()
        assert clock.getDelayedCalls() == []

    async def test_failing_job_comes_again(self) -> None:
        """Catches a job that is never run again after one error."""
        clock = Clock()
        runs: list[float] = []

        async def run() -> None:
            runs.append(clock.seconds())
            raise OSError("no")

        table = Timetable(clock, [Job("broken", 5, run, first=0)])
        table.startService()
        clock.pump([0, 5, 5])
        assert runs == [0, 5, 10]
        assert len(self.flushLoggedErrors(OSError)) == 3
        await table.stopService()


def test_meters() -> None:
    """Catches counters that lose labels, and a page that Prometheus cannot read."""
    meters = Meters()
    meters.count("accepted", door="mx")
    meters.count("accepted", 2, door="relay")
    meters.observe("delivery", 0.2, courier="primary")
    meters.gauge("queue_messages", lambda: 7)
    text = meters.render().decode()
    assert 'hornetmail_accepted_total{door="relay"} 2.0' in text
    assert "hornetmail_queue_messages 7.0" in text
    assert 'hornetmail_delivery_seconds_count{courier="primary"} 1.0' in text
    assert meters.total("accepted") == 3
