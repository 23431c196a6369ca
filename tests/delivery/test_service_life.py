"""The delivery room starts, sweeps and stops (rules 8b and 8d): what is under way gets its time at a stop, and nothing is begun after it. On a clock of the test's."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import RowKind
from hornetmail.core.events import DirectoryChanged
from tests.delivery.steps import DOMAIN, Stepper, Steps


class LifeCase(TestCase):
    def setUp(self) -> None:
        self.steps = Steps(Stepper())
        self.steps.start()
        self.steps.pass_by(5)
        self.stopped = False

    def tearDown(self) -> None:
        if not self.stopped:
            self.steps.stop()

    def stop(self, grace: float) -> Deferred[None]:
        self.stopped = True
        return Deferred.fromCoroutine(self.steps.delivery.stop(grace))

    def hang(self, target: Any, name: str) -> list[Deferred[None]]:
        """Its calls wait until they are let go."""
        waiting: list[Deferred[None]] = []
        real = getattr(target, name)

        async def hanging(*args: Any, **keywords: Any) -> Any:
            waiting.append(Deferred())
            await waiting[-1]
            return await real(*args, **keywords)

        setattr(target, name, hanging)
        return waiting

    def hang_sends(self) -> list[Deferred[None]]:
        waiting: list[Deferred[None]] = []
        step = self.steps.stepper.step

        async def hanging(name: str, call: Any) -> Any:
            if name == "line.send":
                waiting.append(Deferred())
                await waiting[-1]
            return await step(name, call)

        self.steps.stepper.step = hanging  # type: ignore[method-assign]
        return waiting


class Stops(LifeCase):
    def test_an_attempt_under_way(self) -> None:
        """Would catch one that is cut off although it would end within its time, and is at the primary twice."""
        sends = self.hang_sends()
        self.steps.send("alice", archive=False)
        assert len(sends) == 1
        stopping = self.stop(10.0)
        self.steps.pass_by(8)
        self.assertNoResult(stopping)
        sends[0].callback(None)
        self.steps.pass_by(5)
        self.successResultOf(stopping)
        assert len(self.steps.server.got[f"alice@{DOMAIN}"]) == 1
        assert not self.steps.queue.all(RowKind.DELIVER)

    def test_one_grace_for_all(self) -> None:
        """Would catch a stop that gives each lane the whole time, one after the other, and that whoever started us ends by force."""
        held = self.hang_sends()
        self.steps.send("alice", archive=False)
        for lane in self.steps.delivery._lanes[1:]:
            lane._tasks.start(self.never(held), "an attempt that hangs")
        self.steps.delivery.drain._tasks.start(self.never(held), "a hand-over that hangs")
        began = self.steps.clock.seconds()
        stopping = self.stop(10.0)
        while not stopping.called:
            self.steps.clock.advance(0.5)
            assert self.steps.clock.seconds() - began < 14.0
        assert self.steps.clock.seconds() - began >= 10.0
        self.successResultOf(stopping)

    async def never(self, held: list[Deferred[None]]) -> None:
        held.append(Deferred())
        await held[-1]

    def test_what_must_be_recorded(self) -> None:
        """Rule 8b: would catch a verdict that is known and is not recorded, since nobody waits for the disk at a stop; one second at least, whatever the grace."""
        for grace, after, recorded in ((10.0, 8.0, True), (0.0, 0.9, True)):
            self.setUp()
            settles = self.hang(self.steps.queue, "settle")
            self.steps.send("alice", archive=False)
            self.steps.clock.advance(0)
            assert len(settles) == 1
            stopping = self.stop(grace)
            self.steps.clock.advance(after)
            self.assertNoResult(stopping)
            settles[0].callback(None)
            self.steps.pass_by(5)
            self.successResultOf(stopping)
            assert bool(self.steps.queue.settled) is recorded

    def test_a_disk_that_hangs(self) -> None:
        """Would catch a stop that never ends."""
        settles = self.hang(self.steps.queue, "settle")
        self.steps.send("alice", archive=False)
        stopping = self.stop(5.0)
        self.steps.pass_by(10)
        self.successResultOf(stopping)
        assert settles


class Sweeps(LifeCase):
    def setUp(self) -> None:
        super().setUp()
        self.swept: list[float] = []
        self.released: list[str] = []
        sweep, release = self.steps.delivery.modes.sweep, self.steps.delivery.modes.release

        async def counted() -> None:
            self.swept.append(self.steps.clock.seconds())
            await sweep()

        async def let_go(domain: str = "") -> int:
            self.released.append(domain)
            return await release(domain)

        self.steps.delivery.modes.sweep = counted  # type: ignore[method-assign]
        self.steps.delivery.modes.release = let_go  # type: ignore[method-assign]

    def changed(self, *domains: str, people: tuple[str, ...] = ()) -> None:
        self.steps.bus.publish(DirectoryChanged(2, frozenset(domains), frozenset(people)))
        self.steps.clock.advance(0)

    def test_every_minute(self) -> None:
        """Would catch a sweep that comes never again, or all the time."""
        self.steps.pass_by(600)
        assert 9 <= len(self.swept) <= 11

    def test_a_domain_that_changed(self) -> None:
        """Would catch mail that waits for a minute though what it waited for is there, and a change in the middle of a sweep that is overlooked."""
        self.changed(DOMAIN)
        assert len(self.swept) == 1
        self.changed(DOMAIN)
        assert len(self.swept) == 2
        rows = self.hang(self.steps.queue, "rows")
        self.steps.pass_by(61)
        count = len(self.swept)
        self.changed(DOMAIN)
        assert len(self.swept) == count, "one is under way"
        self.steps.queue.rows = type(self.steps.queue).rows.__get__(self.steps.queue)  # type: ignore[method-assign]
        while rows:
            rows.pop(0).callback(None)
        self.steps.clock.advance(0)
        self.steps.clock.advance(0)
        assert len(self.swept) == count + 2, "and then once more, at once"
        self.steps.pass_by(30)
        assert len(self.swept) == count + 2

    def test_people_who_came(self) -> None:
        """Would catch an import of ten thousand that sweeps everything ten thousand times, or mail that waits for a mailbox that is there."""
        self.changed(people=("a.test", "b.test"))
        assert sorted(self.released) == ["a.test", "b.test"]
        assert not self.swept
        self.released.clear()
        rows = self.hang(self.steps.queue, "rows")
        self.changed(people=("a.test",))
        self.changed(people=("a.test",))
        self.changed(people=("c.test",))
        assert self.released == ["a.test"]
        self.steps.queue.rows = type(self.steps.queue).rows.__get__(self.steps.queue)  # type: ignore[method-assign]
        rows.pop(0).callback(None)
        self.steps.clock.advance(0)
        assert self.released == ["a.test", "a.test", "c.test"]
        self.changed(people=("d.test",))
        assert self.released[3:] == ["d.test"]

    def test_after_the_stop(self) -> None:
        """Would catch work that is begun after it, and that nobody ends."""
        stopping = self.stop(0.0)
        self.steps.pass_by(5)
        self.successResultOf(stopping)
        self.released.clear()
        self.changed(DOMAIN, people=("a.test",))
        self.steps.delivery._directory_changed(DirectoryChanged(3, frozenset({DOMAIN}), frozenset()))
        self.steps.delivery._directory_changed(DirectoryChanged(3, frozenset(), frozenset({"a.test"})))
        self.steps.pass_by(120)
        assert not self.swept
        assert not self.released
        self.steps.send("alice", archive=False)
        self.steps.pass_by(120)
        assert not self.steps.server.got

    def test_one_part_that_fails(self) -> None:
        """Would catch a fault in one of them that keeps the others, and the next sweep."""

        async def broken() -> None:
            raise OSError("disk")

        self.steps.delivery._recovery.sweep = broken  # type: ignore[method-assign, assignment]
        self.steps.pass_by(130)
        assert len(self.swept) == 2
        assert len(self.flushLoggedErrors(OSError)) == 2
