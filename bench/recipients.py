"""Memory and time of what is known of recipients: so many addresses in a hundred domains, learnt and looked up. Prints; asserts nothing.

python bench/recipients.py [ADDRESSES [DIRECTORY]]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from hornetmail.core.served import Domain
from hornetmail.db.pool import Database
from hornetmail.delivery.recipients.accepted import AcceptedRecipients
from hornetmail.delivery.recipients.store import MIGRATIONS, RecipientDatabase
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.memory_queue import MemoryQueue

DOMAINS = 100


def resident() -> float:
    """Megabytes of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def run(reactor: Any, count: int, home: Path) -> None:
    """Learn, look up, tidy."""
    database = await Database.open(reactor, f"sqlite:///{home}/recipients.db", MIGRATIONS, synchronous="NORMAL")
    directory = MemoryDirectory([Domain(f"d{number}.test") for number in range(DOMAINS)], [])
    known = AcceptedRecipients(reactor, RecipientDatabase(database), directory)
    await known.start(MemoryQueue(reactor.seconds))
    before, began = resident(), time.perf_counter()
    for number in range(count):
        known.learn(f"person-{number}@d{number % DOMAINS}.test", delivered=True)
        if number % 500 == 499:
            await deferLater(reactor, 0)
            while len(known._unwritten) > 2000:
                await deferLater(reactor, 0.002)
    while known._unwritten:
        await deferLater(reactor, 0.01)
    took = time.perf_counter() - began
    size = (home / "recipients.db").stat().st_size / 1e6
    print(
        f"{count} addresses learnt in {took:.1f} s; memory {before:.0f} MB before, {resident():.0f} MB after; {size:.0f} MB on disk"
    )
    times = []
    for number in range(0, count, max(1, count // 5000)):
        began = time.perf_counter()
        assert await known.age(f"person-{number}@d{number % DOMAINS}.test") < 86400
        times.append(time.perf_counter() - began)
    times.sort()
    print(f"looked up: median {times[len(times) // 2] * 1e6:.0f} us, p99 {times[len(times) * 99 // 100] * 1e6:.0f} us")
    began = time.perf_counter()
    await known.tidy()
    print(f"looked through for what is to be forgotten: {time.perf_counter() - began:.2f} s; memory {resident():.0f} MB")
    await known.stop()
    await database.close()


def main(reactor: Any) -> Deferred[None]:
    """For ``react``."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    home = Path(tempfile.mkdtemp(dir=sys.argv[2] if len(sys.argv) > 2 else None))
    done = Deferred.fromCoroutine(run(reactor, count, home))
    return done.addBoth(lambda result: (shutil.rmtree(home), result)[1])


if __name__ == "__main__":
    react(main)
