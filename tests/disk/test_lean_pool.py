"""The threads of the rooms."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import TestCase

from hornetmail.disk.lean_pool import LeanPool


class LeanPoolTests(TestCase):
    def setUp(self) -> None:
        self.pool = LeanPool(0, 3, "test")
        self.addCleanup(lambda: self.pool.stop() if self.pool.started else None)

    async def call(self, call: Any, *arguments: Any) -> Any:
        return await deferToThreadPool(reactor, self.pool, call, *arguments)

    async def test_side_by_side(self) -> None:
        """Would catch calls that wait for one another although there is a thread for each, and more threads than were allowed."""
        self.pool.start()
        meeting = threading.Barrier(3)
        calls = [deferToThreadPool(reactor, self.pool, meeting.wait, 20) for _ in range(9)]
        assert sorted(await gatherResults(calls)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert len(self.pool.threads) == 3

    async def test_one_after_the_other_needs_one_thread(self) -> None:
        """Would catch a thread for each call that was ever made."""
        self.pool.start()
        for number in range(20):
            assert await self.call(lambda number=number: number) == number
        assert len(self.pool.threads) <= 2

    async def test_asked_before_it_starts(self) -> None:
        """Services are put together before the reactor runs: would catch a call that is lost, and an answer before the start."""
        early = deferToThreadPool(reactor, self.pool, lambda: "early")
        assert not self.pool.threads
        self.pool.start()
        assert await early == "early"

    async def test_errors_are_the_caller_s(self) -> None:
        """Would catch a thread that ends with the first error."""
        self.pool.start()
        for _ in range(4):
            with pytest.raises(ZeroDivisionError):
                await self.call(lambda: 1 // 0)
        assert await self.call(lambda: 5) == 5

    async def test_the_end(self) -> None:
        """What was asked is done before ``stop`` returns; then nothing is taken, and it can begin anew."""
        self.pool.start()
        done: list[int] = []
        for number in range(50):
            self.pool.callInThread(done.append, number)
        self.pool.stop()
        assert sorted(done) == list(range(50))
        self.pool.callInThread(done.append, 99)
        assert len(done) == 50
        self.pool.start()
        assert await self.call(lambda: "again") == "again"
