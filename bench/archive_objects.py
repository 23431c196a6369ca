"""What an archive of ten years at a million mails a year costs by its objects: a start and a short verification.

    .venv/bin/python bench/archive_objects.py [--packs 4600] [--mails 1000000] [--leaves 10000000] [--keep DIR]

As many packs and runs of leaves as such an archive has at most, by the rule of merging, and all its leaves; of its mails one in ten, small, so that a pack has fewer of them than it would have.
The other leaves are those of mail that went. Packs, leaves and rows are written by the product's own functions, past staging and merging, which ``archive_age.py`` goes through; each figure is
taken by a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.archive_age import DAY, report, settings
from hornetmail.archive.archive import Archive
from hornetmail.archive.index.writing.mails import Prepared, store_batch
from hornetmail.archive.proof.leaves import encode_run
from hornetmail.archive.store.packs import Group, PackHead, build_pack, month_of, name_of_records
from hornetmail.archive.store.records import MailMeta, new_record_id, new_salt
from hornetmail.archive.store.shelf import enter_pack
from hornetmail.compose.setting_up import offline
from hornetmail.core.ids import IdSource
from hornetmail.db.engines import Cursor
from hornetmail.mime.reading.mail import MailText
from hornetmail.testing.archives import NOW, Clock, make_archive

RUN = 65_536
"""Leaves of a merged run."""

MONTHS = 120


class Layer:
    """Lays packs, one after the other, and the leaves of their mails."""

    def __init__(self, archive: Archive, mails: int) -> None:
        holdings = archive.holdings
        self._codec, self._medium, self._log = holdings.codec, archive.media.active, holdings.leaves
        self._keyring = archive.keys.current()
        key = self._keyring.data_number(1, 2026)
        assert key is not None
        self._key = key
        self._ids = IdSource(lambda: NOW)
        self._leaves: list[bytes] = []
        self._each = mails

    def pack(self, number: int) -> tuple[Any, list[Prepared]]:
        """A pack on the medium, and its mails for the index."""
        expires = NOW + DAY * (60 + 30.4 * (number % MONTHS))
        records, prepared = [], []
        for _ in range(self._each):
            leaf = self._log.size + len(self._leaves)
            text = f"Mail {leaf} of pack {number}"
            raw = f"Subject: {text}\r\nFrom: a{leaf % 200}@example.test\r\n\r\n{text}\r\n".encode()
            received = NOW - DAY * 3650 + leaf * 30.0
            envelope = (f"a{leaf % 200}@example.test", (f"b{leaf % 190}@example.test",))
            meta = MailMeta(
                self._ids.next(), 0, 0, leaf, new_salt(), hashlib.sha256(raw).digest(), len(raw), received, expires,
                month_of(expires), "inline", "in", *envelope,
            )  # fmt: skip
            record = new_record_id()
            records.append(self._codec.close_mail(1, record, meta, raw, 2026))
            self._leaves.append(meta.leaf_hash())
            prepared.append((record, meta, MailText(subject=text, text=text)))
        name = name_of_records(record for record, _, _ in prepared)
        whole = build_pack(PackHead(1, Group(1, month_of(expires)), name, NOW), records, self._keyring, self._key)
        self._medium.put(whole.head.name, whole.data)
        while len(self._leaves) >= RUN:
            self.run(self._leaves[:RUN])
            del self._leaves[:RUN]
        places = {member.record: (member.offset, member.length) for member in whole.members}
        return whole, [Prepared(1, record, meta, text, 0, *places[record]) for record, meta, text in prepared]

    def run(self, hashes: list[bytes]) -> None:
        """Onto the medium and into the log."""
        run = encode_run(self._log.size, hashes)
        self._medium.put(self._log.name_of(run), run)
        self._log.append(run)

    def end(self, leaves: int) -> tuple[int, int]:
        """The leaves of what went, up to so many: the first and the last."""
        first = self._log.size + len(self._leaves)
        while self._log.size < leaves:
            more = min(RUN, leaves - self._log.size) - len(self._leaves)
            self.run([*self._leaves, *(os.urandom(32) for _ in range(more))])
            self._leaves.clear()
        return first, self._log.size - 1


def _enter(cursor: Cursor, laid: list[tuple[Any, list[Prepared]]]) -> None:
    for whole, mails in laid:
        number = enter_pack(cursor, whole, NOW)
        store_batch(cursor, [Prepared(m.tenant, m.record, m.meta, m.text, number, m.start, m.length) for m in mails])


def _gone(cursor: Cursor, first: int, last: int) -> None:
    cursor.execute("INSERT INTO leaf_gone (node, first, last) VALUES (0, ?, ?)", (first, last))


async def lay(reactor: Any, top: Path, packs: int, mails: int, leaves: int) -> None:
    """Make it."""
    archive = make_archive(Clock(reactor, NOW), top, settings=settings())
    archive.create()
    await archive.start()
    archive.keys.ensure([(1, 2026)])
    archive.keys.publish(archive.media.active)
    layer = Layer(archive, max(1, mails // packs))
    began = time.perf_counter()
    for at in range(0, packs, 20):
        await archive.index().run(_enter, [layer.pack(number) for number in range(at, min(at + 20, packs))])
        if at % 500 == 0:
            print(f"  {at} packs, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    await archive.index().run(_gone, *layer.end(leaves))
    await archive.stop()


def main() -> None:
    """Make it if it is not there, measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--packs", type=int, default=4600)
    options.add_argument("--mails", type=int, default=1_000_000)
    options.add_argument("--leaves", type=int, default=10_000_000)
    options.add_argument("--keep", type=Path)
    chosen = options.parse_args()
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="hornetmail-objects-"))
    made = directory / "made"
    try:
        if not made.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            began = time.perf_counter()
            offline.run(lambda reactor: lay(reactor, directory, chosen.packs, chosen.mails, chosen.leaves))
            made.write_text(f"{chosen.mails} mails in {chosen.packs} packs, {chosen.leaves} leaves")
            print(f"made in {time.perf_counter() - began:.0f} s")
        print(made.read_text())
        report(directory, False)
    finally:
        if chosen.keep is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
