"""What the queue costs as it grows: at n, 2n and 4n rows never more than linearly, and no turn of the reactor over 50 ms (rule 8d).

Costs are CPU time of the reactor's thread, the best of several, so that other programs' load does not count.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor

from hornetmail.core.delivery.queued import Message, RowKind, RowState, Settled
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.delivery.pages import pages
from hornetmail.disk.records import Position
from hornetmail.spool.disk.journal import Kind, LiveRow, Snapshot, Where
from hornetmail.spool.rows.ordered import Ordered
from hornetmail.spool.start import OpenedQueue
from hornetmail.testing.databases import fresh_url
from tests.spool.test_queue import LATER, Base, never

MOST = 0.050 * (2 if sys.flags.dev_mode else 1)
"""Seconds of a turn; Python's development mode, in which ``make test`` runs, checks each piece of memory. ``make unit`` does without."""

LARGE = 100_000
BIG = "big.test"


class Turns:
    """The longest turn, in CPU seconds of this thread."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._on = True
        self._last = time.thread_time()
        reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest, self._last = max(self.longest, now - self._last), now
        if self._on:
            reactor.callLater(0, self._turn)

    def stop(self) -> float:
        """The figure."""
        self._on = False
        return self.longest


class CostTests(Base):
    """A queue with that many deferred messages: one in ten in domains of their own, the others in one. Nearly all of them are packed."""

    unpacked = 1_000

    async def grown(self, messages: int) -> OpenedQueue:
        """Filled past the journal, which is not what is measured."""
        queue = await self.open()
        number, now = queue.ids.next(), reactor.seconds()
        for count in range(messages):
            number += 10
            domain = f"small{count}.test" if count % 10 == 0 else BIG
            envelope = Envelope("s@example.org", (Recipient(f"u{count}@{domain}"),))
            message = Message(number, 1, envelope, Origin(Door.MX), Direction.IN, now, 3, b"h", b"t", domain)
            rows = [
                LiveRow(
                    number + 1, number, RowKind.DELIVER, RowState.QUEUED, f"u{count}@{domain}", 0, now + 5000 + count, queued=now
                ),
                LiveRow(number + 2, number, RowKind.ARCHIVE, RowState.WAITING, queued=now),
            ]
            queue.live.apply(Kind.ACCEPTED, Snapshot(message, rows, Where.RECORD), Position(1, 100 + count), 100)
            queue.live.messages.cool()
        queue.live.dirty.clear()
        queue.floor = now + 1e6
        return queue

    async def cost(self, sizes: tuple[int, ...], work: Callable[[OpenedQueue], Awaitable[Any]], times: int) -> list[float]:
        """The least CPU of ``work`` at each size."""
        costs = []
        for size in sizes:
            queue = await self.grown(size)
            least = 1e9
            gc.disable()
            try:
                for _ in range(times):
                    began = time.thread_time()
                    await work(queue)
                    least = min(least, time.thread_time() - began)
            finally:
                gc.enable()
            costs.append(least)
            await queue.close()
            self._afresh()
        return costs

    def _afresh(self) -> None:
        """The next queue is another one."""
        self.directory = self.directory / "next"
        self.directory.mkdir()
        self.url = self.enterContext(fresh_url(self.engine))

    async def test_small_things_cost_the_same_in_a_large_queue(self) -> None:
        """Would catch a scan of all rows: to adopt a small domain, to list it, a page anywhere, what is held, figures, the next time, a claim."""

        async def small(queue: OpenedQueue) -> None:
            assert await queue.adopt("small10.test", reactor.seconds()) == 1
            assert len(await queue.rows(domain="small20.test")) == 2
            assert len(await queue.rows(after=queue.live.index.all.newest // 2, limit=20)) == 20
            assert await queue.rows(states={RowState.HELD}) == []
            assert await queue.rows(mailbox=5) == []
            assert queue.backlog().deliver > 0
            assert queue.claimed_for(0.0) == []
            claims = await queue.claim(reactor.seconds(), 5, never)
            await queue.settle([Settled(row.id, RowState.QUEUED, due=LATER) for claim in claims for row in claim.rows])
            assert queue.next_due() is not None

        least, _, most = await self.cost((5_000, 10_000, 20_000), small, 12)
        assert most < 2 * least + 0.002

    async def test_large_things_cost_in_proportion(self) -> None:
        """Would catch an adoption, a change or a listing whose cost grows faster than what it is about."""

        async def large(queue: OpenedQueue) -> None:
            adopted = await queue.adopt(BIG, reactor.seconds())
            after, listed = 0, []
            while page := await queue.rows(domain=BIG, kinds={RowKind.DELIVER}, after=after):
                listed += [row.id for _, row in page]
                after = listed[-1]
            assert len(listed) == adopted
            assert await queue.change(listed, RowState.QUEUED, due=LATER) == adopted

        least, _, most = await self.cost((3_000, 6_000, 12_000), large, 3)
        assert most < 4 * 1.7 * least

    async def test_no_turn_is_long(self) -> None:
        """Would catch the reactor standing still while 90,000 rows are adopted, changed, listed, claimed or tidied; and
        messages that stay unpacked because more are unpacked in a turn than are packed again."""
        longest = []
        for _ in range(3):
            longest.append(await self._longest())
            if longest[-1] < MOST:
                break
            self._afresh()
        assert min(longest) < MOST, longest

    async def _longest(self) -> float:
        """Of three measurements the least counts: a neighbour on the same core takes from this one's cache."""
        queue = await self.grown(LARGE)
        gc.collect()
        gc.freeze()
        try:
            turns = Turns()
            assert await queue.adopt(BIG, reactor.seconds()) == LARGE - LARGE // 10
            assert len(await queue.rows(domain=BIG, kinds={RowKind.ARCHIVE}, limit=500)) == 500
            claims = await queue.claim(reactor.seconds(), 200, never)
            rows = [row.id for claim in claims for row in claim.rows]
            await queue.settle([Settled(row, RowState.DELIVERED) for row in rows])
            held: list[int] = []
            async for page in pages(reactor, queue, {RowKind.DELIVER}, {RowState.QUEUED}):
                held += [row.id for _, row in page]
            assert await queue.change(held[:20_000], RowState.HELD) == 20_000
            await queue.tidy()
            longest = turns.stop()
        finally:
            gc.unfreeze()
        assert len(queue.live.messages) - queue.live.messages.packed < 3 * self.unpacked
        return longest


def test_sets_of_rows_cost_the_same_at_any_size() -> None:
    """Would catch a set in which adding, removing or finding the next one is a matter of its size, and one that is wrong."""
    costs = []
    for size in (50_000, 200_000):
        rows = Ordered()
        for number in range(0, 3 * size, 3):
            rows.add(number)
        least = 1e9
        for _ in range(5):
            began = time.thread_time()
            for number in range(size, size + 3000):
                rows.add(number)
            for number in range(size, size + 3000):
                rows.remove(number)
                next(rows.after(number))
            least = min(least, time.thread_time() - began)
            for number in range(size, size + 3000):
                if number % 3 == 0:
                    rows.add(number)
        assert rows.size == size
        assert list(rows.after(-1)) == list(range(0, 3 * size, 3))
        costs.append(least)
    assert costs[1] < 3 * costs[0]
