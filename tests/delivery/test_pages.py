"""The queue's rows, a page after the other."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.delivery.pages import PAGE, pages
from hornetmail.testing.memory_queue import MemoryQueue


class Pages(TestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.queue = MemoryQueue(self.clock.seconds)

    def take(self, count: int) -> int:
        people = tuple(Recipient(f"{number}@example.test") for number in range(count))
        envelope, origin = Envelope("sender@outside.test", people), Origin(Door.MX)
        return self.queue.take(1, b"", envelope, origin, Direction.IN, b"", "example.test", True, "", "").id

    def read(self, **asked: Any) -> list[list[int]]:
        """The row IDs of each page; ``turns``: how often others had one."""
        found: list[list[int]] = []

        async def look() -> None:
            async for page in pages(self.clock, self.queue, (RowKind.DELIVER,), **asked):
                found.append([row.id for _, row in page])

        looking = Deferred.fromCoroutine(look())
        self.turns = 0
        while self.clock.calls:
            self.turns += 1
            self.clock.calls.pop(0).func(None)
        self.successResultOf(looking)
        return found

    def test_everything_once(self) -> None:
        """Would catch rows that are overlooked, or come twice, where there are exactly as many as a page has, one more, or several pages; and a look that keeps
        the reactor for all of them (rule 8d)."""
        for count, sizes in ((1, [1]), (PAGE, [PAGE, 0]), (PAGE + 1, [PAGE, 1]), (2 * PAGE + 1, [PAGE, PAGE, 1])):
            self.setUp()
            self.take(count)
            found = self.read()
            assert [len(page) for page in found] == sizes
            assert [row for page in found for row in page] == sorted(row.id for row in self.queue.all(RowKind.DELIVER))
            assert self.turns == len(sizes) - 1

    def test_what_was_asked_for(self) -> None:
        """Would catch a look at other messages, domains, states or kinds than were meant."""
        self.take(2)
        other = self.take(3)
        mine = [row.id for row in self.queue.all(RowKind.DELIVER) if row.message == other]
        assert self.read(message=other) == [mine]
        assert self.read(domain="elsewhere.test") == [[]]
        assert self.read(mailbox=1) == [[]]
        self.successResultOf(Deferred.fromCoroutine(self.queue.change(mine[:1], RowState.PARKED)))
        assert self.read(states=(RowState.PARKED,)) == [mine[:1]]
