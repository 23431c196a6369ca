"""Searches in an archive of 100,000 mails: first page and count, rights included, in milliseconds.

    .venv/bin/python bench/search.py [--mails 100000] [--rounds 20] [--keep DIR]

The mails are made up and go into the index as the archive puts them there; packs are not needed for this. Subjects hold a number each, so that
``mail*`` meets as many different words as there are mails; bodies are drawn from 20,000 made-up words, the n-th as often as 1/n says. Nothing else may run
meanwhile. ``--keep`` leaves the index in a directory, and uses it again.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import itertools
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from hornetmail.archive.index.finding.search import search_page
from hornetmail.archive.index.query.language import parse_query
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.index.writing.mails import Prepared, store_batch
from hornetmail.archive.store.packs import month_of
from hornetmail.archive.store.records import MailMeta
from hornetmail.compose.setting_up import offline
from hornetmail.core.served import Scope
from hornetmail.db.pool import Database
from hornetmail.mime.reading.mail import MailText, Named

KEY = bytes(48)
NOW = 1_780_000_000.0
PEOPLE = 50
WORDS = 20_000
SCOPES = {
    "auditor": Scope(0, None, all_recipients=True),
    "tenant": Scope(1, None, content=False),
    "user": Scope(1, frozenset({"person7@example.test"})),
}
SYLLABLES = tuple(
    a + b
    for a in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "st", "tr")
    for b in ("a", "e", "i", "o", "u", "en", "an", "er")
)
QUERIES = (
    "", "W1", "W50", "W900", "W19000", "mail777", "mail*", "mail7*", "ma*", "m*", "st*", "sta*", "stan*", "stane*", "stanera*", "from:person3",
    "W3 W5", "W20 W300", '"W1 W2"', '"W20 W30"', "-W1",
)  # fmt: skip
"""``W`` and a number: the word of that rank."""


def words() -> list[str]:
    """The vocabulary, the most frequent first, and short ones rather there."""
    chance = random.Random(2)
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(chance.choices(SYLLABLES, k=1 + len(found) % 4 if len(found) < 100 else chance.randint(2, 4)))] = None
    return list(found)


def vocabulary(chance: random.Random) -> Any:
    """Draws words; the n-th comes as often as 1/n says."""
    known = words()
    limits = list(itertools.accumulate(1 / n for n in range(1, WORDS + 1)))

    def draw(count: int) -> str:
        return " ".join(known[bisect.bisect(limits, chance.random() * limits[-1])] for _ in range(count))

    return draw


def mails(count: int, days: float = 90) -> Any:
    """Of the last days."""
    chance = random.Random(1)
    draw = vocabulary(chance)
    for n in range(count):
        sender, reader = (f"person{chance.randrange(PEOPLE)}@example.test" for _ in "ab")
        received = NOW - days * 86400 + n * days * 86400 / count
        expires = received + 90 * 86400
        digest = hashlib.sha256(str(n).encode()).digest()
        meta = MailMeta(
            identifier=n + 1, row=n + 1, node=0, leaf=n, salt=bytes(32), sha256=digest, size=5000, received=received, expires=expires,
            month=month_of(expires), feed="inline", direction="in", sender=sender, recipients=(reader,), login="",
        )  # fmt: skip
        named = Named("", sender), (Named("", reader),)
        text = MailText(
            subject=f"Mail{n} {draw(4)}", sender=named[0], to=named[1], text=draw(80), message_id=f"<{n}@x>", date=received
        )
        yield Prepared(1, digest[:16], meta, text, 1, n, 100)


async def fill(reactor: Any, path: Path, count: int, days: float = 90) -> None:
    """An index with that many mails, of so many days."""
    database = await Database.open(reactor, f"sqlite://{path}", MIGRATIONS, key=KEY, synchronous="NORMAL")
    try:
        rows = mails(count, days)
        while batch := list(itertools.islice(rows, 64)):
            await database.run(store_batch, batch)
    finally:
        await database.close()


async def measure(reactor: Any, path: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each query in each scope."""
    database = await Database.open(reactor, f"sqlite://{path}", MIGRATIONS, key=KEY)
    times: dict[str, list[float]] = {}
    known = words()
    try:
        for _, (name, scope), text in itertools.product(range(rounds), SCOPES.items(), QUERIES):
            query = parse_query(re.sub(r"W(\d+)", lambda rank: known[int(rank[1]) - 1], text))
            began = time.perf_counter()
            page = await database.read(search_page, scope, query, 50, "")
            times.setdefault(f"{name:8} {text or '(all)':16} {page.total:7}", []).append(time.perf_counter() - began)
    finally:
        await database.close()
    return times


def main() -> None:
    """Fill, measure, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mails", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--keep", type=Path)
    chosen = options.parse_args()
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="hornetmail-search-"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "archive.db"
    try:
        if not path.exists():
            began = time.perf_counter()
            offline.run(lambda reactor: fill(reactor, path, chosen.mails))
            print(f"{chosen.mails} mails in {time.perf_counter() - began:.1f} s, {path.stat().st_size / 1e6:.0f} MB")
        times = offline.run(lambda reactor: measure(reactor, path, chosen.rounds))
        for name, found in times.items():
            print(f"{name}  median {statistics.median(found) * 1000:7.1f} ms, slowest {max(found) * 1000:7.1f} ms")
        every = sorted(one for found in times.values() for one in found)
        print(f"all: p50 {every[len(every) // 2] * 1000:.1f} ms, p95 {every[int(len(every) * 0.95)] * 1000:.1f} ms")
    finally:
        if chosen.keep is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
