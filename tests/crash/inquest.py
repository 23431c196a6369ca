"""Reads a copy of a dead service's queue and says what was being handed over when it died.

A process of its own: ``python -m tests.crash.inquest KEYFILE`` answers each line of its input, the path of a queue directory that it may
change, with one line of JSON: the SHA-256 of every message with a claimed DELIVER or DRAIN row.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from hornetmail.compose.ground.keys import ServerKey
from hornetmail.core.delivery.queued import RowKind
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import Seal
from hornetmail.spool.start import open_queue


async def claimed(reactor: Any, directory: Path, key: ServerKey) -> list[str]:
    """From the journal alone; an index that is not there is made anew."""
    queue = await open_queue(
        reactor, directory, f"sqlite://{directory}/inquest.db", disk=Disk(), seal=Seal(key.derive("queue")), least_free=0.0
    )
    try:
        found = queue.claimed_at_start()
        return [message.sha256.hex() for message, row in found if row.kind in (RowKind.DELIVER, RowKind.DRAIN)]
    finally:
        await queue.close()


async def main(reactor: Any, key_file: str) -> None:
    """Until the input ends."""
    key = ServerKey.load(Path(key_file))
    while line := await deferToThread(sys.stdin.readline):
        print(json.dumps(await claimed(reactor, Path(line.strip()), key)), flush=True)


if __name__ == "__main__":
    react(lambda reactor, key_file: Deferred.fromCoroutine(main(reactor, key_file)), sys.argv[1:])
