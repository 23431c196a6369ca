"""The leaf log by itself: where it begins again, what it takes from a medium, and what it refuses to say."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from hornetmail.archive.media.medium import Medium
from hornetmail.archive.proof import leaflog
from hornetmail.archive.proof.leaflog import LeafLog, runs_on, span_of
from hornetmail.archive.proof.leaves import VOID, decode_run, encode_run, tree_root
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk
from hornetmail.disk.records import RecordLog
from hornetmail.testing.archives import directory_medium
from tests.archive.test_leaf_index import LEAVES, filled, opened

ARCHIVE = bytes(16)


def runs_of(log: LeafLog, *spans: tuple[int, int], to: Medium) -> None:
    """Put runs on a medium, each from one leaf to before another."""
    for first, behind in spans:
        to.put(log.name_at(first), encode_run(first, LEAVES[first:behind]))


def holding(top: Path, size: int) -> LeafLog:
    """A log of just so many leaves, in one run."""
    log = opened(top)
    log.append(encode_run(0, LEAVES[:size]))
    return log


@pytest.fixture
def medium(tmp_path: Path) -> Medium:
    made = directory_medium(1, tmp_path / "medium")
    made.claim(ARCHIVE)
    return made


# -- the start


def test_a_checkpoint_that_is_behind_is_made_anew(tmp_path: Path) -> None:
    """A crash between a run and its checkpoint: would catch a log that is read from that old place at each start from then on."""
    filled(tmp_path, 100).close()
    checkpoint = tmp_path / "leaves-checkpoint"
    older = checkpoint.read_bytes()
    filled(tmp_path, 1000).close()
    checkpoint.write_bytes(older)
    records = []
    for _ in range(2):
        log = LeafLog(RecordLog(tmp_path / "leaves", Disk(), writer="n0", seal=None), 0, Disk())
        records.append(log.replay().records)
        assert (log.size, log.root()) == (1000, tree_root(LEAVES[:1000]))
        log.close()
    assert records == [10, 1]


@pytest.mark.parametrize("begun", [True, False])
def test_an_empty_log(tmp_path: Path, begun: bool) -> None:
    """Rule 17: would catch a log that is said to be all that there ever was because it was opened once, or a new one that is said to be lost."""
    log = LeafLog(RecordLog(tmp_path / "leaves", Disk(), writer="n0", seal=None), 0, Disk())
    if begun:
        log.begin()
    for _ in range(3):
        log = opened(tmp_path)
        assert (log.size, log.known) == (0, begun)
        log.close()


def test_a_log_without_its_checkpoint_is_known(tmp_path: Path) -> None:
    """Would catch a log with leaves in it that counts as lost, since its checkpoint is, and one that is read whole at each start from then on."""
    filled(tmp_path, 300).close()
    (tmp_path / "leaves-checkpoint").unlink()
    log = opened(tmp_path)
    assert (log.size, log.known) == (300, True)
    log.close()
    log = LeafLog(RecordLog(tmp_path / "leaves", Disk(), writer="n0", seal=None), 0, Disk())
    assert log.replay().records == 1


def test_a_run_that_is_missing_in_the_middle(tmp_path: Path) -> None:
    """Rule 17: would catch a gap that is passed over, without the checkpoint and with an older one."""
    for size, kept in ((100, True), (0, False)):
        top = tmp_path / str(size)
        filled(top, 100).close()
        older = (top / "leaves-checkpoint").read_bytes()
        records = RecordLog(top / "leaves", Disk(), writer="n0", seal=None)
        records.replay(lambda *_: None)
        records.append(1, encode_run(101, LEAVES[101:110]))
        records.sync()
        records.close()
        if kept:
            (top / "leaves-checkpoint").write_bytes(older)
        else:
            (top / "leaves-checkpoint").unlink()
        with pytest.raises(ArchiveError, match="has a gap: leaf 100 is followed by leaf 101"):
            opened(top)


@pytest.mark.parametrize("field", ["size", "offset", "first"])
def test_a_checkpoint_of_another_state(tmp_path: Path, field: str) -> None:
    """Rule 17: would catch a tree that goes on from a checkpoint which says another thing than the run it names."""
    filled(tmp_path, 300).close()
    checkpoint = tmp_path / "leaves-checkpoint"
    data = checkpoint.read_bytes()
    names = ["size", "peaks", "segment", "number", "offset", "first"]
    values = msgspec.msgpack.decode(data[8:-32])
    values[names.index(field)] += -1 if field == "offset" else 1
    changed = data[:8] + msgspec.msgpack.encode(values)
    checkpoint.write_bytes(changed + hashlib.sha256(changed).digest())
    with pytest.raises(ArchiveError, match="another run than that of leaf"):
        opened(tmp_path)


def test_set_aside(tmp_path: Path) -> None:
    """L3: would catch a log that is put aside and still believed, its index with it; or that is not there any more for whoever wants to look."""
    log = filled(tmp_path, 300)
    assert log.leaf(7) == LEAVES[7]
    log.set_aside("leaves-lost")
    log.replay()
    assert (log.size, log.known, log.root()) == (0, False, tree_root([]))
    assert list((tmp_path / "leaves-lost").glob("*.log"))
    log.append(encode_run(0, LEAVES[50:60]))
    assert log.leaf(7) == LEAVES[57]
    assert log.hashes() == LEAVES[50:60]
    for name in ("leaves-lost-too", "leaves-lost-thrice"):
        log.set_aside(name)
        log.replay()
        assert log.size == 0, "and there is no checkpoint either"


# -- what comes next


def test_the_next_run() -> None:
    """Rule 17: would catch a number that is given twice, a gap that closes up, and a run of what is known already."""
    log = LeafLog(RecordLog(Path("nowhere"), Disk(), writer="n0", seal=None), 0, Disk())
    assert log.run_for({}) is None
    run = log.run_for({2: LEAVES[2], 0: LEAVES[0]})
    assert run is not None
    assert decode_run(run) == (0, [LEAVES[0], VOID, LEAVES[2]])


def test_the_next_run_of_a_log_with_leaves(tmp_path: Path) -> None:
    """As above, where some are known: those are left as they are."""
    log = holding(tmp_path, 3)
    assert log.run_for({0: LEAVES[9], 2: LEAVES[9]}) is None
    run = log.run_for({2: LEAVES[9], 3: LEAVES[3]})
    assert run == encode_run(3, [LEAVES[3]])
    for wrong in (2, 4):
        with pytest.raises(ArchiveError, match=f"begins at {wrong}, the log ends at 3"):
            log.append(encode_run(wrong, [LEAVES[3]]))
    assert log.size == 3
    log.append(run)
    assert log.hashes() == LEAVES[:4]


def test_the_index_that_grows_with_the_log(tmp_path: Path) -> None:
    """Would catch leaves asked for beyond the end that come back as something else, and one at the end that is refused."""
    log = filled(tmp_path, 200)
    log.append(encode_run(200, LEAVES[200:250]))
    assert [log.leaf(n) for n in (0, 99, 100, 249)] == [LEAVES[n] for n in (0, 99, 100, 249)]
    for wrong in (-1, 250):
        with pytest.raises(IndexError, match=f"leaf {wrong} of 250"):
            log.leaf(wrong)
    assert log.stretch(0, 250) == LEAVES[:250]
    assert log.stretch(120, 121) == [LEAVES[120]]
    assert log.stretch(250, 250) == log.stretch(0, 0) == []
    for low, high in ((-1, 3), (3, 2), (200, 251)):
        with pytest.raises(IndexError):
            log.stretch(low, high)
    with pytest.raises(IndexError):
        log.root_at(251)


def test_hashes_of_a_log_that_lost_some(tmp_path: Path) -> None:
    """Would catch a log that gives fewer leaves than it has, and says nothing."""
    log = filled(tmp_path, 300)
    (file,) = (tmp_path / "leaves").glob("*.log")
    whole = file.read_bytes()
    os.truncate(file, len(whole) - 20)
    with pytest.raises(ArchiveError, match="holds 200 leaves instead of 300"):
        log.hashes()
    file.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    with pytest.raises(ArchiveError, match="damaged"):
        log.hashes()
    with pytest.raises(ArchiveError, match="damaged"):
        log.leaf(3)
    file.write_bytes(whole)
    assert log.hashes() == LEAVES[:300]


def test_an_index_of_which_the_log_grew_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch an index kept at another moment than promised: each time so many runs came, not at each question, and with the last run in it."""
    monkeypatch.setattr(leaflog, "KEEP", 3)
    log, kept = filled(tmp_path, 0), tmp_path / "leaves-index"
    states: list[bytes] = []
    for first in range(0, 800, 100):
        log.append(encode_run(first, LEAVES[first : first + 100]))
        assert log.leaf(first) == LEAVES[first]
        state = kept.read_bytes() if kept.exists() else b""
        if state != (states[-1] if states else b""):
            states.append(state)
    assert len(states) == 2
    log.close()
    assert filled(tmp_path, 800).leaf(799) == LEAVES[799]
    assert kept.read_bytes() == states[-1]


# -- what a medium has


def test_a_log_that_is_older_than_its_medium(tmp_path: Path, medium: Medium) -> None:
    """Rule 17: would catch a log that begins behind what its medium has, and so gives numbers twice; one run at a time, the next one each time."""
    log = holding(tmp_path, 20)
    assert not log.catch_up(medium)
    assert not log.goes_on(medium)
    runs_of(log, (0, 20), (20, 30), (30, 31), (40, 50), to=medium)
    assert log.goes_on(medium)
    assert log.catch_up(medium)
    assert log.size == 30
    assert log.catch_up(medium)
    assert log.size == 31
    assert not log.catch_up(medium), "between 31 and 40 there is nothing"
    assert log.goes_on(medium)
    runs_of(log, (31, 40), to=medium)
    assert [log.catch_up(medium) for _ in range(3)] == [True, True, False]
    assert log.hashes() == LEAVES[:50]
    assert not log.goes_on(medium)


def test_a_merged_run_that_begins_before(tmp_path: Path, medium: Medium, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a log that died before its last leaves and does not find them, since their run was put together with those before it; and a listing of all names, however many there are."""
    monkeypatch.setattr(leaflog, "MOST_MERGED", 20)
    log = holding(tmp_path, 30)
    runs_of(log, (0, 10), (10, 30), to=medium)
    assert not log.catch_up(medium), "what ends where the log ends has nothing more"
    runs_of(log, (11, 31), to=medium)
    asked: list[str] = []
    names = medium.names

    def watched(prefix: str, after: str = "", limit: int = 0) -> Sequence[tuple[str, int]]:
        found = names(prefix, after, limit)
        asked.extend(name for name, _ in found)
        return found

    monkeypatch.setattr(medium, "names", watched)
    assert log.catch_up(medium)
    assert log.size == 31
    assert log.hashes() == LEAVES[:31]
    assert log.name_at(0) not in asked


def test_a_merged_run_from_the_first_leaf(tmp_path: Path, medium: Medium) -> None:
    """As above, where the run begins with leaf 0 and the log has fewer leaves than a run may have."""
    log = holding(tmp_path, 30)
    runs_of(log, (0, 45), to=medium)
    assert log.catch_up(medium)
    assert log.hashes() == LEAVES[:45]
    assert not log.catch_up(medium)


def test_a_run_that_is_not_what_its_name_says(tmp_path: Path, medium: Medium) -> None:
    """Would catch leaves believed of a run that is damaged, and one of earlier leaves under a later name taken for news."""
    log = holding(tmp_path, 20)
    medium.put(log.name_at(20), encode_run(0, LEAVES[:20]))
    assert not log.catch_up(medium)
    medium.put(log.name_at(20), b"x" * 200)
    with pytest.raises(ArchiveError, match=r"medium 1: leaves/n0/0{18}20\.run: .*damaged"):
        log.catch_up(medium)
    assert log.size == 20


def test_what_a_name_says() -> None:
    """Would catch a file of another kind, or one that is cut off, that counts as a run; and a run of one leaf that does not."""
    empty, name = len(encode_run(0, ())), f"leaves/n0/{7:020d}.run"
    assert span_of(name, empty + 32) == (7, 1)
    assert span_of(name, empty + 32 * 65_536) == (7, 65_536)
    assert span_of(f"leaves/n0/{0:020d}.run", empty + 32) == (0, 1)
    for size in (0, empty - 32, empty, empty + 31, empty + 33):
        assert span_of(name, size) == (0, 0)
    for wrong in ("leaves/n0/x7.run", "leaves/n0/.run", "leaves/n0/-7.run", "leaves/n0/\u0667.run", "leaves/n0/7.tmp"):
        assert span_of(wrong, empty + 32) == (0, 0)


def test_all_runs_of_a_medium(medium: Medium) -> None:
    """Would catch one damaged run that hides the others or is not named, a run believed under the name of another, and one read that is not asked for."""
    log = LeafLog(RecordLog(Path("nowhere"), Disk(), writer="n0", seal=None), 0, Disk())
    runs_of(log, (0, 10), (10, 20), (20, 30), to=medium)
    medium.put(log.name_at(30), b"x" * len(encode_run(30, LEAVES[:1])))
    medium.put(log.name_at(40), encode_run(41, LEAVES[:1]))
    medium.put(log.name_at(50), b"short")
    medium.put("leaves/n1/00000000000000000000.run", encode_run(0, LEAVES[:1]))
    told: list[tuple[str, str]] = []
    found = runs_on(medium, 0, lambda where, what: told.append((where, what)))
    assert found == [(first, LEAVES[first : first + 10]) for first in (0, 10, 20)]
    assert [where for where, _ in told] == [f"medium 1: {log.name_at(first)}" for first in (30, 40, 50)]
    assert told[1][1] == "another run than its name says"
    assert [run[0] for run in runs_on(medium, 0, lambda *_: None, 10)] == [10, 20]
    assert [run[0] for run in runs_on(medium, 0, lambda *_: None, 11)] == [10, 20]
    assert [run[0] for run in runs_on(medium, 0, lambda *_: None, 20)] == [20]
