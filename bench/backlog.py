"""A queue that grows: messages deferred in 10,000 domains, what they take of memory, and how long the reactor stands still. Prints; asserts nothing.

python bench/backlog.py [MESSAGES [DIRECTORY]]    (a million: about ten minutes)

Two processes: one fills the queue, a second one opens it and works, so that each has its own memory figure.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from hornetmail.core.delivery.queued import RowKind, RowState, Settled
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import Seal
from hornetmail.runtime.collector import calm
from hornetmail.spool.queue import Queue
from hornetmail.spool.start import open_queue

DOMAINS = 10_000
TOGETHER = 200
BODY = b"x" * 200
ORIGIN = Origin(Door.MX, "192.0.2.1", "client.example")
LATER = Verdict(
    Outcome.DEFERRED, Reply(451, "4.3.0", "The mailbox server is being restarted, try again"), "primary", Stage.RCPT, "mx.example"
)


class Turns:
    """The longest time between two turns of the reactor since it was last asked, and the most CPU of its thread between two: what other programs and
    threads take is in the first only."""

    def __init__(self) -> None:
        self._last = self._clocks()
        self._longest = (0.0, 0.0)
        reactor.callLater(0, self._turn)

    def _clocks(self) -> tuple[float, float]:
        return time.perf_counter(), time.thread_time()

    def _turn(self) -> None:
        self._look()
        reactor.callLater(0, self._turn)

    def _look(self) -> None:
        now = self._clocks()
        self._longest = max(self._longest[0], now[0] - self._last[0]), max(self._longest[1], now[1] - self._last[1])
        self._last = now

    def take(self) -> str:
        """In words."""
        self._look()
        (wall, cpu), self._longest = self._longest, (0.0, 0.0)
        return f"longest turn {wall * 1000:.0f} ms, {cpu * 1000:.0f} ms CPU"


async def opened(directory: Path) -> Queue:
    return await open_queue(
        reactor, directory, f"sqlite://{directory}/queue.db", disk=Disk(), seal=Seal(bytes(32)), least_free=0.0, longest=1e6
    )


async def told(what: str, turns: Turns, work: Awaitable[Any]) -> Any:
    """Print how long it took, and the longest turn meanwhile."""
    turns.take()
    began, cpu = time.perf_counter(), time.process_time()
    result = await work
    print(f"{what}: {time.perf_counter() - began:.2f} s, {time.process_time() - cpu:.2f} s CPU, {turns.take()}", flush=True)
    return result


def memory() -> str:
    with Path("/proc/self/statm").open() as figures:
        now = int(figures.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    return f"memory {now} MB, at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB"


async def accept(queue: Queue, number: int) -> None:
    domain = f"customer{number % DOMAINS}.example"
    deposit = queue.begin(1)
    await deposit.write(BODY)
    envelope = Envelope(f"sender{number}@example.org", (Recipient(f"user{number}@{domain}"),))
    await deposit.commit(envelope, ORIGIN, Direction.IN, b"Received: from client.example\r\n", domain=domain, archive=True)


async def fill(queue: Queue, messages: int, turns: Turns) -> None:
    for start in range(0, messages, TOGETHER):
        await gatherResults(
            [Deferred.fromCoroutine(accept(queue, number)) for number in range(start, min(start + TOGETHER, messages))]
        )
        claims = await queue.claim(reactor.seconds(), TOGETHER, lambda row: reactor.seconds() + 300)
        rows = [row for claim in claims for row in claim.rows]
        due = reactor.seconds() + 86400
        await queue.settle([Settled(row.id, RowState.QUEUED, LATER, due) for row in rows])


async def work(queue: Queue, turns: Turns) -> None:
    await told("adopt a domain", turns, queue.adopt("customer7.example", reactor.seconds()))
    await told("a page of a domain", turns, queue.rows(domain="customer8.example"))
    await told("a page in the middle", turns, queue.rows(after=queue.live.index.all.newest // 2))
    await told("held rows (none)", turns, queue.rows(states={RowState.HELD}))
    claims = await told("claim 200", turns, queue.claim(reactor.seconds() + 10**6, 200, lambda row: reactor.seconds() + 300))
    rows = [row.id for claim in claims for row in claim.rows]
    await told("settle 200", turns, queue.settle([Settled(row, RowState.QUEUED, LATER, reactor.seconds() + 300) for row in rows]))
    await told("tidy", turns, queue.tidy())
    every = [row.id for _, row in await queue.rows(kinds={RowKind.DELIVER}, limit=20_000)]
    await told("hold 20,000 rows", turns, queue.change(every, RowState.HELD))
    await told("close", turns, queue.close())


async def run(what: str, messages: int, directory: Path) -> None:
    turns = Turns()
    calm()
    if what == "fill":
        queue = await opened(directory)
        await told(f"accept and defer {messages:,} messages", turns, fill(queue, messages, turns))
        print(memory())
        await told("close", turns, queue.close())
        return
    empty = memory()
    queue = await told("open", turns, opened(directory))
    print(f"{memory()} (before: {empty}); {queue.backlog()}")
    await work(queue, turns)


def main(_reactor: object, what: str, messages: str, directory: str) -> Deferred[None]:
    return Deferred.fromCoroutine(run(what, int(messages), Path(directory)))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("fill", "work"):
        react(main, sys.argv[1:])
    size = sys.argv[1] if len(sys.argv) > 1 else "1000000"
    place = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="hm-bench-")
    try:
        for step in ("fill", "work"):
            subprocess.run([sys.executable, __file__, step, size, place], check=True)
    finally:
        shutil.rmtree(place)
