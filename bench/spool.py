"""Durable accepts a second of the queue alone: 20 writers in one process, 10 KB messages. Prints; asserts nothing.

python bench/spool.py [MESSAGES [DIRECTORY]]
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from hornetmail.core.delivery.queued import RowState, Settled
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import Seal
from hornetmail.spool.queue import Queue
from hornetmail.spool.start import open_queue

WRITERS = 20
BODY = os.urandom(5 << 10).hex().encode()
ENVELOPE = Envelope("sender@example.test", (Recipient("alice@example.test"),))
ORIGIN = Origin(Door.MX, "192.0.2.1", "client.example")


async def writer(queue: Queue, number: int) -> None:
    """Accept that many messages, one after the other."""
    for _ in range(number):
        deposit = queue.begin(1)
        await deposit.write(BODY)
        await deposit.commit(ENVELOPE, ORIGIN, Direction.IN, b"Received: x\r\n", domain="example.test", archive=True)


async def drained(queue: Queue) -> int:
    """Claim and settle all that is due; the number of rows."""
    total = 0
    while claims := await queue.claim(reactor.seconds(), 200, lambda row: reactor.seconds() + 300):
        rows = [row for claim in claims for row in claim.rows]
        await queue.settle([Settled(row.id, RowState.DELIVERED) for row in rows])
        total += len(rows)
    return total


def timed(what: str, number: int, began: tuple[float, float]) -> None:
    """Print a rate, and the CPU each took."""
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    print(f"{what}: {number / wall:,.0f}/s, {cpu / number * 1e6:.0f} µs CPU each")


async def run(messages: int, directory: Path) -> None:
    queue = await open_queue(
        reactor, directory, f"sqlite://{directory}/queue.db", disk=Disk(), seal=Seal(bytes(32)), least_free=0.0
    )
    began = time.perf_counter(), time.process_time()
    await gatherResults([Deferred.fromCoroutine(writer(queue, messages // WRITERS)) for _ in range(WRITERS)])
    timed("accept", messages, began)
    began = time.perf_counter(), time.process_time()
    await queue.close()
    queue = await open_queue(
        reactor, directory, f"sqlite://{directory}/queue.db", disk=Disk(), seal=Seal(bytes(32)), least_free=0.0
    )
    timed("close and open again", messages, began)
    print(f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")
    began = time.perf_counter(), time.process_time()
    timed("claim and settle, rows", await drained(queue), began)
    began = time.perf_counter(), time.process_time()
    timed("tidy, segments", await queue.tidy() or 1, began)
    await queue.close()


def main(_reactor: object, messages: str = "20000", directory: str = "") -> Deferred[None]:
    place = Path(directory or tempfile.mkdtemp(prefix="hm-bench-"))

    def cleared(result: object) -> object:
        shutil.rmtree(place)
        return result

    return Deferred.fromCoroutine(run(int(messages), place)).addBoth(cleared)


if __name__ == "__main__":
    react(main, sys.argv[1:])
