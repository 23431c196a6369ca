"""The process that ``test_crash`` kills: accepts and settles as fast as it can, and says what was acknowledged."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from hornetmail.core.delivery.queued import RowState, Settled
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import Seal
from hornetmail.spool.queue import Queue
from hornetmail.spool.start import open_queue


def say(*words: object) -> None:
    """One line, out at once: what is said is acknowledged."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


async def writer(queue: Queue, run: str, number: int, seconds: Any) -> None:
    """Accept for ever; every third message is delivered, every tenth is long."""
    for count in range(1_000_000):
        body = f"{run}/{number}/{count} ".encode() * (9_000 if count % 10 == 9 else 30)
        deposit = queue.begin(1)
        for start in range(0, len(body), 60_000):
            await deposit.write(body[start : start + 60_000])
        envelope = Envelope("s@example.org", (Recipient("a@example.test"),))
        message = await deposit.commit(envelope, Origin(Door.MX), Direction.IN, b"", domain="example.test", archive=False)
        say("accepted", message.id, message.sha256.hex())
        if count % 3 == 0:
            rows = [row.id for _, row in await queue.rows(message=message.id)]
            await queue.claim_rows(rows, seconds(), lambda _row: 4e9)
            say("leaving", message.id)
            await queue.settle([Settled(row, RowState.DELIVERED) for row in rows])
            say("left", message.id)
        if count % 40 == 39:
            await queue.tidy()


async def main(reactor: Any, directory: str, run: str, unpacked: str) -> None:
    """Until killed."""
    place = Path(directory)
    queue = await open_queue(
        reactor,
        place,
        f"sqlite://{place}/queue.db",
        disk=Disk(),
        seal=Seal(b"s" * 32),
        segment_bytes=100_000,
        least_free=0.0,
        unpacked=int(unpacked),
    )
    await gatherResults([Deferred.fromCoroutine(writer(queue, run, number, reactor.seconds)) for number in range(8)])


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(main(reactor, *words)), sys.argv[1:])
