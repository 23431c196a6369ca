"""The meter of the reactor's turns."""

from __future__ import annotations

import time

from twisted.internet import reactor as running
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hornetmail.runtime.meters import Meters
from hornetmail.runtime.turns import LATE_SECONDS, Turns


def hold_up() -> None:
    """A turn of a fifth of a second, in the processor's time so that a busy machine only makes it longer."""
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass


class TurnsTests(TestCase):
    async def test_what_ran(self) -> None:
        """A reactor that stands still for a while, and nobody can say why: the metric names the function."""
        meters = Meters()
        turns = Turns(running, meters, "tests")  # type: ignore[arg-type]
        turns.start()
        self.addCleanup(turns.stop)
        over: Deferred[None] = Deferred()

        def held() -> None:
            hold_up()
            running.callLater(0.15, over.callback, None)  # type: ignore[attr-defined]

        running.callLater(0, held)  # type: ignore[attr-defined]
        await over
        told = turns.longest()
        assert list(told) == ["tests.runtime.test_turns.hold_up"]
        assert next(iter(told.values())) >= LATE_SECONDS
        text = meters.render().decode()
        assert 'hornetmail_reactor_longest_turn_seconds{what="tests.runtime.test_turns.hold_up"}' in text
        assert "hornetmail_reactor_late_seconds_count" in text
