"""What makes one leaf cheap to prove: it comes to the same as the whole tree, at any size, and a kept index that is not of this log counts for nothing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from hornetmail.archive.proof import leaflog
from hornetmail.archive.proof.leafindex import BLOCK, LeafIndex
from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.proof.leaves import audit_path, encode_run, tree_root
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk
from hornetmail.disk.records import Position, RecordLog

LEAVES = [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(6 * BLOCK)]


@pytest.mark.parametrize("run", [1, 700, BLOCK, 5 * BLOCK])
@pytest.mark.parametrize("size", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 7])
def test_the_same_as_the_whole_tree(size: int, run: int) -> None:
    """Catches a root or path from the kept roots of blocks that differs from the one over all leaves, for the present size and earlier ones; and more read than
    is promised."""
    leaves = LEAVES[:size]
    index = LeafIndex(lambda first, _: leaves[first : first + run])
    for first in range(0, size, run):
        index.add(leaves[first : first + run], Position(1, first))
    for copy in (index, LeafIndex(lambda first, _: leaves[first : first + run])):
        assert copy is index or copy.load(index.to_bytes())
        assert copy.size == size
        for earlier in {0, 1, 2, BLOCK // 2, BLOCK, BLOCK + 1, 3 * BLOCK + 5, size - 1, size} & set(range(size + 1)):
            assert copy.root_at(earlier) == tree_root(leaves[:earlier])
            for number in {0, 1, earlier // 2, earlier - 1, BLOCK - 1, BLOCK} & set(range(earlier)):
                assert copy.path(number, earlier) == audit_path(number, leaves[:earlier])
    for number, earlier in ((size, size), (0, size + 1), (0, 0), (-1, size)):
        with pytest.raises(IndexError):
            index.path(number, earlier)


def opened(top: Path) -> LeafLog:
    log = LeafLog(RecordLog(top / "leaves", Disk(), writer="n0", seal=None), 0, Disk())
    log.replay()
    return log


def filled(top: Path, size: int) -> LeafLog:
    log = opened(top)
    for first in range(log.size, size, 100):
        log.append(encode_run(first, LEAVES[first : first + 100]))
    return log


def good(log: LeafLog, size: int) -> bool:
    return log.path(3, size) == audit_path(3, LEAVES[:size]) and log.leaf(7) == LEAVES[7]


def test_kept_and_gone_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an index that is read again and lacks what came since, or that grows beside the log and not with it."""
    monkeypatch.setattr(leaflog, "KEEP", 5)
    log = filled(tmp_path, 1000)
    assert good(log, 1000)
    log.append(encode_run(1000, LEAVES[1000:1100]))
    assert good(log, 1100)
    kept = (tmp_path / "leaves-index").read_bytes()
    again = filled(tmp_path, 1300)
    assert good(again, 1300)
    assert (tmp_path / "leaves-index").read_bytes() == kept
    assert good(filled(tmp_path, 1600), 1600)
    assert (tmp_path / "leaves-index").read_bytes() != kept


@pytest.mark.parametrize("case", ["damaged", "another", "ahead", "nonsense"])
def test_one_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Catches a kept index that is believed although it is damaged, of another log, or of a later state of this one: its paths would prove nothing."""
    monkeypatch.setattr(leaflog, "KEEP", 1)
    assert good(filled(tmp_path / "one", 3000), 3000)
    file = tmp_path / "one" / "leaves-index"
    if case == "damaged":
        file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    elif case == "nonsense":
        file.write_bytes(b"nothing")
    elif case == "another":
        log = opened(tmp_path / "other")
        for first in range(0, 3000, 100):
            log.append(encode_run(first, LEAVES[first + 1 : first + 101]))
        assert log.leaf(7) == LEAVES[8]
        shutil.copy(tmp_path / "other" / "leaves-index", file)
    else:
        assert good(filled(tmp_path / "longer", 3500), 3500)
        shutil.copy(tmp_path / "longer" / "leaves-index", file)
    assert good(opened(tmp_path / "one"), 3000)


def test_a_log_that_lost_its_files(tmp_path: Path) -> None:
    """Catches a path from an index whose log is gone."""
    log = filled(tmp_path, 500)
    shutil.rmtree(tmp_path / "leaves")
    (tmp_path / "leaves").mkdir()
    with pytest.raises(ArchiveError, match="does not hold its 500 leaves"):
        log.path(3, 500)
