"""Proof stays cheap as the archive grows."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.proof.leaves import encode_run, root_from_path
from hornetmail.disk.files import Disk
from hornetmail.disk.records import Position, RecordLog

MILLION = 1_000_000
RUN = 4_000


class CountingLog(RecordLog):
    """Counts how often it is read."""

    reads = 0

    def read(self, position: Position) -> bytes:
        self.reads += 1
        return super().read(position)


def test_a_path_among_a_million_leaves(tmp_path: Path) -> None:
    """Catches an audit path, or the root of an earlier size, that is computed over all leaves (12 s a million, 32 MB read): a few runs of the log are
    read, and the time is far below a second. What is proved must still be true."""
    records = CountingLog(tmp_path / "leaves", Disk(), writer="n0", seal=None)
    log = LeafLog(records, 0, Disk())
    log.replay()
    leaves = [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(MILLION)]
    for first in range(0, MILLION, RUN):
        log.append(encode_run(first, leaves[first : first + RUN]))
    sizes = (MILLION, MILLION - 1, 777_777, 524_288, 3)
    roots = {size: log.root_at(size) for size in sizes}
    assert roots[MILLION] == log.root()
    records.reads = 0
    began = time.thread_time()
    paths = {(n, size): log.path(n, size) for size in sizes for n in {0, size // 3, size - 1}}
    took = (time.thread_time() - began) / len(paths)
    assert took < 0.5, took
    assert records.reads <= len(paths) * 6, records.reads
    again = CountingLog(tmp_path / "leaves", Disk(), writer="n0", seal=None)
    log = LeafLog(again, 0, Disk())
    log.replay()
    began = time.thread_time()
    assert log.path(5, MILLION) == log.path(5, MILLION)
    assert time.thread_time() - began < 0.5, "after a restart, from what was kept"
    again.close()
    assert all(root_from_path(n, size, leaves[n], path) == roots[size] for (n, size), path in paths.items())
    assert max(map(len, paths.values())) == 20
    records.close()
