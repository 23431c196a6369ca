"""What an archive that has grown old costs: objects on its medium, a start, a short verification, a rebuild.

    .venv/bin/python bench/archive_age.py [--mails 1000000] [--years 10] [--keep DIR] [--no-rebuild]

The archive is made by the product's own code: small made-up mails are staged, indexed, sealed and merged with a clock that walks through the years, five days a step
(so nights are merged once in five days, and segments are five days' mail: one node that seals every quarter of an hour ends with the same merged packs). Six mails in ten
are kept ten years, three one year, one 90 days, but for expiry nothing is purged: all that was ever taken is there at the end. ``--keep`` leaves the archive in a directory, and uses
it again. Each figure is taken by a process of its own, so that its memory is its own. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from twisted.internet.defer import Deferred, gatherResults

from bench.search import vocabulary
from hornetmail.archive.archive import Archive, ArchiveSettings
from hornetmail.archive.index.writing.mails import store_batch
from hornetmail.compose.setting_up import offline
from hornetmail.db.pool import Database
from hornetmail.testing.archives import NOW, BytesBody, Clock, item, mail, make_archive

DAY = 86400.0
STEP = 5
KEPT = (3650,) * 6 + (365,) * 3 + (90,)
PEOPLE = 200
MARK = 50_000
"""Mails between two looks at a rebuild."""


def settings() -> ArchiveSettings:
    """Nothing happens by itself: the clock that goes by is the tale's."""
    return ArchiveSettings(tick_seconds=1e6, seal_bytes=64 << 20)


def memory() -> int:
    """Megabytes of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


async def fill(reactor: Any, top: Path, mails: int, years: int) -> None:
    """Make it."""
    clock = Clock(reactor, NOW - years * 365 * DAY)
    archive = make_archive(clock, top, settings=settings())
    archive.create()
    await archive.start()
    chance = random.Random(1)
    draw = vocabulary(chance)
    steps = years * 365 // STEP
    began = time.perf_counter()
    done = 0
    for step in range(steps):
        wanted = mails * (step + 1) // steps - done
        for at in range(0, wanted, 256):
            batch = []
            for n in range(done + at, done + min(at + 256, wanted)):
                sender, reader = (f"person{chance.randrange(PEOPLE)}@example.test" for _ in "ab")
                raw = mail(f"Mail{n} {draw(3)}", draw(40), sender=sender, to=reader, extra=f"Message-ID: <{n}@x>")
                received = clock.now + STEP * DAY * (n - done) / max(1, wanted)
                row = (int(received * 1000) << 20) + n % 1_000_000 + 1
                one = item(row, sender=sender, recipients=(reader,), received=received, retention_days=chance.choice(KEPT))
                batch.append(Deferred.fromCoroutine(archive.stage(one, BytesBody(raw))))
            await gatherResults(batch)
        done += wanted
        clock.now += STEP * DAY
        await archive.flush(seal=True)
        await archive.merge(clock.now)
        if step % 73 == 72:
            print(f"  {done} mails, {time.perf_counter() - began:.0f} s, {memory()} MB", file=sys.stderr)
    clock.now += 40 * DAY
    await archive.merge(clock.now)
    await archive.stop()


async def begun(reactor: Any, top: Path) -> tuple[Archive, float]:
    """Started, and in how many seconds."""
    archive = make_archive(Clock(reactor, NOW + 41 * DAY), top, settings=settings())
    began = time.perf_counter()
    await archive.start()
    return archive, time.perf_counter() - began


async def start(reactor: Any, top: Path) -> dict[str, Any]:
    """A start."""
    archive, seconds = await begun(reactor, top)
    figures = await archive.figures()
    await archive.stop()
    return {"start_seconds": seconds, "mails": figures.mails, "packs": figures.packs, "stored": figures.bytes_stored}


async def verify(reactor: Any, top: Path) -> dict[str, Any]:
    """Two short verifications: the first after a rebuild or a year without one looks at more."""
    archive, _ = await begun(reactor, top)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        found = await archive.verify()
        times.append(time.perf_counter() - began)
        assert not found, found[:3]
    await archive.stop()
    return {"verify_seconds": times}


async def rebuild(reactor: Any, top: Path) -> dict[str, Any]:
    """A rebuild, and how fast it was on the way."""
    marks: list[tuple[int, float, int]] = []
    done = 0
    began = time.perf_counter()

    async def watched(*args: Any, **more: Any) -> Database:
        database = await Database.open(*args, **more)
        run = database.run

        async def counted(fn: Any, *rest: Any) -> Any:
            nonlocal done
            result = await run(fn, *rest)
            if fn is store_batch:
                done += len(rest[0])
                if done // MARK > len(marks):
                    marks.append((done, time.perf_counter() - began, memory()))
                    print(f"  rebuild: {done} mails, {marks[-1][1]:.0f} s, {marks[-1][2]} MB", file=sys.stderr, flush=True)
            return result

        database.run = counted  # type: ignore[method-assign]
        return database

    archive = make_archive(Clock(reactor, NOW + 41 * DAY), top, settings=settings(), open_database=watched)
    await archive.start()
    began = time.perf_counter()
    found = await archive.rebuild()
    seconds = time.perf_counter() - began
    assert not found, found[:3]
    await archive.stop()
    return {"rebuild_seconds": seconds, "marks": marks}


PHASES = {"start": start, "verify": verify, "rebuild": rebuild}


def phase(name: str, top: Path) -> dict[str, Any]:
    """In a process of its own."""
    found = subprocess.run([sys.executable, __file__, "--phase", name, "--keep", str(top)], check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def report(top: Path, rebuilt: bool) -> None:
    """Measure and print."""
    objects = [path for path in (top / "medium").rglob("*") if path.is_file()]
    by = {}
    for path in objects:
        kind = path.relative_to(top / "medium").parts[0]
        by[kind] = by.get(kind, 0) + 1
    print(f"{len(objects)} objects on the medium, {sum(p.stat().st_size for p in objects) / 1e6:.0f} MB: {by}")
    print(f"index: {(top / 'archive' / 'archive.db').stat().st_size / 1e6:.0f} MB")
    one = phase("start", top)
    print(f"start: {one['start_seconds']:.2f} s, {one['mails']} mails in {one['packs']} packs; peak {one['peak']} MB")
    one = phase("verify", top)
    first, *more = one["verify_seconds"]
    print(
        f"verify, short: the first {first:.1f} s, then {', '.join(f'{seconds:.1f} s' for seconds in more)}; peak {one['peak']} MB"
    )
    if not rebuilt:
        return
    one = phase("rebuild", top)
    before = (0, 0.0, 0)
    for mark in one["marks"]:
        print(f"  rebuild at {mark[0]:9}: {(mark[0] - before[0]) / (mark[1] - before[1]):7.0f} mails/s, {mark[2]} MB")
        before = mark
    print(f"rebuild: {one['rebuild_seconds']:.0f} s; peak {one['peak']} MB")


def main() -> None:
    """Make it if it is not there, measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mails", type=int, default=1_000_000)
    options.add_argument("--years", type=int, default=10)
    options.add_argument("--keep", type=Path)
    options.add_argument("--no-rebuild", action="store_true")
    options.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.phase:
        result = offline.run(lambda reactor: PHASES[chosen.phase](reactor, chosen.keep))
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(json.dumps({**result, "peak": int(status["VmHWM"].split()[0]) >> 10}))
        return
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="hornetmail-age-"))
    made = directory / "made"
    try:
        if not made.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            began = time.perf_counter()
            offline.run(lambda reactor: fill(reactor, directory, chosen.mails, chosen.years))
            made.write_text(f"{chosen.mails} mails of {chosen.years} years")
            print(f"{chosen.mails} mails of {chosen.years} years made in {time.perf_counter() - began:.0f} s")
        print(made.read_text())
        report(directory, not chosen.no_rebuild)
    finally:
        if chosen.keep is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
