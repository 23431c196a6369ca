"""A reactor without waiting that measures its turns in CPU seconds of this thread, so that other programs' load does not count."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.testing import StringTransport

MOST = 0.050 * (2 if sys.flags.dev_mode else 1)
"""Seconds of a turn (rule 8d); Python's development mode, in which ``make test`` runs, checks each piece of memory. ``make unit`` does without."""

QUICK = 0.020
"""Costs below are not compared: caches and allocations are most of them."""


class MeasuredReactor:
    """Its time is the CPU that was used. Calls that are due run one a turn; those of later wait for ever."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.turns = 0
        self._calls: list[DelayedCall] = []

    def seconds(self) -> float:
        return time.thread_time()

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any, **keywords: Any) -> DelayedCall:
        call = DelayedCall(self.seconds() + delay, function, args, keywords, self._calls.remove, lambda _: None, self.seconds)
        self._calls.append(call)
        return call

    def turn(self, function: Callable[..., Any], *args: Any) -> None:
        """One turn."""
        began = self.seconds()
        function(*args)
        self.longest = max(self.longest, self.seconds() - began)
        self.turns += 1

    def iterate(self, *arrivals: Callable[[], Any]) -> None:
        """One turn as a reactor makes it: all that was due when it began, then what the network brings."""
        due = sorted((call for call in self._calls if call.getTime() <= self.seconds()), key=lambda one: one.getTime())
        began = self.seconds()
        for call in due:
            if call in self._calls:
                self._calls.remove(call)
                call.called = 1
                call.func(*(call.args or ()))
        for arrival in arrivals:
            arrival()
        self.longest = max(self.longest, self.seconds() - began)
        self.turns += 1

    def run(self) -> None:
        """Turns until nothing is due."""
        while due := [call for call in self._calls if call.getTime() <= self.seconds()]:
            call = min(due, key=lambda one: one.getTime())
            self._calls.remove(call)
            call.called = 1
            self.turn(call.func, *(call.args or ()))


class Line:
    """A client's end of a connection to a pump."""

    def __init__(self, reactor: MeasuredReactor, pump: Any) -> None:
        self.reactor = reactor
        self.pump = pump
        self.transport = StringTransport()
        self.transport.setTcpNoDelay = lambda enabled: None  # type: ignore[attr-defined]
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        pump.makeConnection(self.transport)

    def say(self, data: bytes) -> bytes:
        """As a socket gives it: 64 KiB a turn; what came back when all is quiet."""
        for at in range(0, len(data), 65_536):
            self.reactor.turn(self.pump.dataReceived, data[at : at + 65_536])
            self.reactor.run()
        said = self.transport.value()
        self.transport.clear()
        return said


def calm(measured: Callable[[], float], tries: int = 3) -> float:
    """The least of some measurements: the garbage collector and the machine's moods are not what is meant."""
    least = float("inf")
    for _ in range(tries):
        gc.collect()
        least = min(least, measured())
        if least < MOST / 2:
            break
    return least


def grows(cost: Callable[[int], Any], size: int, most: float = 3.0) -> None:
    """Cost at n, 2n and 4n: never more than ``most`` times as much for twice the size (linear is 2)."""

    def seconds(n: int) -> float:
        least = float("inf")
        for _ in range(3):
            began = time.thread_time()
            cost(n)
            least = min(least, time.thread_time() - began)
        return max(least, 1e-4)

    costs = [seconds(size), seconds(2 * size), seconds(4 * size)]
    assert costs[1] < most * costs[0] or costs[1] < QUICK, costs
    assert costs[2] < most * costs[1] or costs[2] < QUICK, costs
