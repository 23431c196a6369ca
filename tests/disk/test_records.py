"""The record log: nothing intact is ever lost, nothing broken is ever believed."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as sized
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from hornetmail.disk.files import Disk, DiskFull
from hornetmail.disk.groupsync import PACE, GroupSync
from hornetmail.disk.records import BadRecord, LogBroken, Position, RecordLog, Replayed, WrongKey
from hornetmail.disk.seal import Seal
from hornetmail.disk.segment import HEADER_BYTES, RECORD_MAGIC
from hornetmail.disk.writer_thread import WriterThread
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.strategies import any_bytes

KEY = Seal(b"k" * 32)
Seen = list[tuple[Position, int, bytes]]


def opened(
    directory: Path, disk: Disk | None = None, seal: Seal | None = KEY, segment_bytes: int = 64 << 20
) -> tuple[RecordLog, Seen, Replayed]:
    """A log after its replay, what it replayed, and the report."""
    log = RecordLog(directory, disk or Disk(), writer="n0", seal=seal, segment_bytes=segment_bytes)
    seen: Seen = []
    report = log.replay(lambda position, kind, payload: seen.append((position, kind, payload)))
    return log, seen, report


def written(directory: Path, payloads: list[bytes], seal: Seal | None = KEY, segment_bytes: int = 64 << 20) -> list[Position]:
    """A log with these records in it, one sync each."""
    log, _, _ = opened(directory, seal=seal, segment_bytes=segment_bytes)
    positions = []
    for number, payload in enumerate(payloads):
        positions.append(log.append(number % 256, payload))
        log.sync()
    log.close()
    return positions


def files(directory: Path) -> list[Path]:
    """Segments in order."""
    return sorted(directory.glob("*.log"))


@pytest.mark.parametrize("seal", [KEY, None])
def test_what_was_synced_is_replayed_in_order(tmp_path: Path, seal: Seal | None) -> None:
    """Would catch loss, reordering, or positions that do not lead back to the record, over several segments and restarts."""
    payloads = [bytes([n]) * (n * 40) for n in range(30)]
    positions = written(tmp_path, payloads[:20], seal, 2000)
    log, seen, _ = opened(tmp_path, seal=seal, segment_bytes=2000)
    positions += [log.append(n, payloads[n]) for n in range(20, 30)]
    log.sync()
    log.close()
    log, seen, report = opened(tmp_path, seal=seal, segment_bytes=2000)
    assert seen == [(positions[n], n, payloads[n]) for n in range(30)]
    assert positions == sorted(positions)
    assert (report.records, report.cut, report.damage) == (30, 0, ())
    assert len(log.segments()) > 3
    assert [log.read(position) for position in positions] == payloads
    log.close()


def test_big_records_and_plaintext_stays_out(tmp_path: Path) -> None:
    """Would catch a record beyond one read, and mail that lies readable in a sealed segment (rule 24)."""
    payload = b"secret words " * 40000
    (position,) = written(tmp_path, [payload])
    log, _, _ = opened(tmp_path)
    assert log.read(position) == payload
    assert b"secret" not in files(tmp_path)[0].read_bytes()
    with pytest.raises(BadRecord):
        log.read(Position(position.segment, position.offset + 1))
    with pytest.raises(KeyError):
        log.read(Position(99, 0))
    log.close()


def test_another_key_is_refused_and_nothing_is_cut(tmp_path: Path) -> None:
    """Would catch a start with the wrong server key that takes every record for damage."""
    written(tmp_path, [b"a", b"b"])
    before = files(tmp_path)[0].read_bytes()
    for seal in (Seal(b"x" * 32), None):
        with pytest.raises(WrongKey):
            opened(tmp_path, seal=seal)
    assert files(tmp_path)[0].read_bytes() == before


@sized(max_examples=60, deadline=None)
@given(st.lists(any_bytes(200, 0), min_size=1, max_size=6), st.data(), st.booleans())
def test_truncated_anywhere(payloads: list[bytes], data: st.DataObject, sealed: bool) -> None:
    """Would catch a torn tail that takes an intact record along, or that is not cut so that later appends are lost."""
    seal = KEY if sealed else None
    with tempfile.TemporaryDirectory() as name:
        positions = written(Path(name), payloads, seal)
        path = files(Path(name))[0]
        size = path.stat().st_size
        cut = data.draw(st.integers(0, size))
        os.truncate(path, cut)
        ends = [position.offset for position in positions[1:]] + [size]
        whole = sum(end <= cut for end in ends)
        log, seen, report = opened(Path(name), seal=seal)
        assert [payload for _, _, payload in seen] == payloads[:whole]
        assert not report.damage
        log.append(7, b"later")
        log.sync()
        log.close()
        log, seen, report = opened(Path(name), seal=seal)
        assert [payload for _, _, payload in seen] == [*payloads[:whole], b"later"]
        assert (report.cut, report.damage) == (0, ())
        log.close()


@sized(max_examples=100, deadline=None)
@given(
    st.lists(any_bytes(100, 0) | st.sampled_from([RECORD_MAGIC * 9]), min_size=1, max_size=6),
    st.data(),
    st.booleans(),
    st.booleans(),
)
def test_any_bit_flipped(payloads: list[bytes], data: st.DataObject, sealed: bool, more: bool) -> None:
    """Would catch damage that hides an intact record or is believed, is silent, or is appended to. Flips hit headers, lengths and bodies."""
    seal = KEY if sealed else None
    with tempfile.TemporaryDirectory() as name:
        positions = written(Path(name), payloads, seal)
        if more:
            log, _, _ = opened(Path(name), seal=seal)
            log.roll()
            log.append(1, b"in a later segment")
            log.sync()
            log.close()
        path = files(Path(name))[0]
        raw = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        hit = max((n for n, position in enumerate(positions) if position.offset <= bit // 8), default=-1)
        log, seen, report = opened(Path(name), seal=seal)
        expected = [payload for n, payload in enumerate(payloads) if n != hit] + ([b"in a later segment"] if more else [])
        assert [payload for _, _, payload in seen] == expected
        assert report.damage or report.cut
        assert (hit < 0) == (bit // 8 < HEADER_BYTES)
        log.append(7, b"later")
        log.sync()
        log.close()
        log, seen, _ = opened(Path(name), seal=seal)
        assert [payload for _, _, payload in seen] == [*expected, b"later"]
        log.close()


@sized(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), any_bytes(60, 1)), max_size=5))
def test_any_garbage_is_survived(patches: list[tuple[int, bytes]]) -> None:
    """Would catch a replay that raises, or yields a record that was never written."""
    payloads = [bytes([n]) * 90 for n in range(12)]
    with tempfile.TemporaryDirectory() as name:
        written(Path(name), payloads)
        path = files(Path(name))[0]
        raw = bytearray(path.read_bytes())
        for offset, patch in patches:
            raw[offset : offset + len(patch)] = patch
        path.write_bytes(raw)
        log, seen, _ = opened(Path(name))
        got = [payload for _, _, payload in seen]
        assert [payload for payload in payloads if payload in got] == got
        log.close()


def test_records_cannot_be_swapped(tmp_path: Path) -> None:
    """Would catch additional data that is not bound to the position: two sealed records of one length change places."""
    first, second = written(tmp_path, [b"pay 1", b"pay 9"])
    path = files(tmp_path)[0]
    raw = path.read_bytes()
    size = second.offset - first.offset
    path.write_bytes(raw[: first.offset] + raw[second.offset :] + raw[first.offset : first.offset + size])
    log, seen, report = opened(tmp_path)
    assert seen == []
    assert report.damage or report.cut
    log.close()


def test_a_failed_sync_is_final(tmp_path: Path) -> None:
    """Would catch a second fsync that believes a kernel which dropped the pages (design: an fsync is never retried)."""
    disk = FaultyDisk()
    log, _, _ = opened(tmp_path, disk)
    log.append(1, b"kept")
    log.sync()
    disk.fail("sync_data", errno.EIO, times=1)
    log.append(1, b"doubtful")
    with pytest.raises(LogBroken):
        log.sync()
    disk.heal()
    for call in (log.sync, lambda: log.append(1, b"more")):
        with pytest.raises(LogBroken):
            call()
    assert log.broken
    log.close()
    _, seen, _ = opened(tmp_path)
    assert seen[0][2] == b"kept"


@pytest.mark.parametrize(("operation", "partial"), [("write", 0), ("write", 31), ("open", 0)])
@pytest.mark.parametrize("first", [True, False])
def test_no_room_takes_nothing_and_breaks_nothing(tmp_path: Path, operation: str, partial: int, first: bool) -> None:
    """Would catch half a batch that stays behind a 452, and a log that is of no use once there is room again."""
    disk = FaultyDisk()
    log, _, _ = opened(tmp_path, disk, segment_bytes=400)
    expected = []
    if not first:
        log.append(1, b"kept")
        log.sync()
        expected.append(b"kept")
    disk.fail(operation, errno.ENOSPC, times=1, partial=partial)
    for n in range(6):
        log.append(2, bytes([n]) * 100)
    with pytest.raises(DiskFull):
        log.sync()
    log.append(3, b"after")
    log.sync()
    log.close()
    _, seen, report = opened(tmp_path)
    assert [payload for _, _, payload in seen] == [*expected, b"after"]
    assert (report.cut, report.damage) == (0, ())


def test_unreadable_pieces_are_isolated(tmp_path: Path) -> None:
    """Would catch one bad sector that costs the whole segment."""
    payloads = [bytes([n]) * 50_000 for n in range(10)]
    written(tmp_path, payloads, None)
    disk = FaultyDisk()
    log = RecordLog(tmp_path, disk, writer="n0", seal=None)
    real, bad = disk.read, 3 * 65536

    def read(fd: int, length: int, offset: int) -> bytes:
        if offset <= bad < offset + length:
            raise OSError(errno.EIO, "bad sector")
        return real(fd, length, offset)

    disk.read = read  # type: ignore[method-assign]
    seen: list[bytes] = []
    report = log.replay(lambda _position, _kind, payload: seen.append(payload))
    assert len(seen) >= 7
    assert set(seen) <= set(payloads)
    assert report.damage
    assert report.cut == 0
    log.close()


@pytest.mark.parametrize("first", [0, 7, 15, 29])
def test_a_replay_from_a_position(tmp_path: Path, first: int) -> None:
    """Would catch records before the position that are handed out again, or later ones that are skipped; and appends that go astray."""
    payloads = [bytes([n]) * 300 for n in range(30)]
    positions = written(tmp_path, payloads, segment_bytes=2000)
    log = RecordLog(tmp_path, Disk(), writer="n0", seal=KEY, segment_bytes=2000)
    assert log.locate(positions[first].segment) in os.listdir(tmp_path)
    assert log.locate(999) == ""
    seen: list[bytes] = []
    log.replay(lambda _position, _kind, payload: seen.append(payload), positions[first])
    assert seen == payloads[first:]
    assert [log.read(position) for position in positions] == payloads
    assert log.append(1, b"more") > positions[-1]
    log.sync()
    log.close()
    _, everything, _ = opened(tmp_path)
    assert len(everything) == 31


def test_drop_and_roll(tmp_path: Path) -> None:
    """Would catch a dropped segment that comes back, a number that is used twice, and a drop of what is not yet synced."""
    log, _, _ = opened(tmp_path)
    first = log.append(1, b"one")
    with pytest.raises(ValueError):
        log.drop(first.segment)
    log.sync()
    log.roll()
    log.roll()
    second = log.append(1, b"two")
    log.sync()
    assert log.segments() == [first.segment, second.segment]
    log.drop(first.segment)
    log.drop(second.segment)
    third = log.append(1, b"three")
    log.sync()
    assert log.segments() == [third.segment]
    assert third.segment > second.segment
    with pytest.raises(KeyError):
        log.read(first)
    log.close()
    _, seen, _ = opened(tmp_path)
    assert [payload for _, _, payload in seen] == [b"three"]


@pytest.mark.parametrize("after", [0, 1])
def test_what_went_and_could_not_be_synced_goes_again(tmp_path: Path, after: int) -> None:
    """Would catch a segment that is gone, whose removal failed behind that: nobody could remove it again, or read it."""
    disk = FaultyDisk()
    log, _, _ = opened(tmp_path / "log", disk)
    dropped = log.append(1, b"one").segment
    log.sync()
    log.roll()
    aside = log.append(1, b"two").segment
    log.sync()
    name = log.name(aside)
    log.roll()
    disk.fail("sync_file", errno.EIO, times=1)
    with pytest.raises(OSError):
        log.drop(dropped)
    log.drop(dropped)
    # making the directory syncs first, then a rename syncs where it leads to and where it comes from
    disk.fail("sync_file", errno.EIO, after=1 + after, times=1)
    with pytest.raises(OSError):
        log.set_aside(aside, tmp_path / "aside")
    assert log.set_aside(aside, tmp_path / "aside") == tmp_path / "aside" / name
    assert log.segments() == []
    assert (tmp_path / "aside" / name).stat().st_size > HEADER_BYTES
    log.close()
    assert opened(tmp_path / "log")[1] == []


class GroupSyncTests(TestCase):
    """Many callers, one sync."""

    def setUp(self) -> None:
        self.thread = WriterThread(reactor, "log")
        self.addCleanup(self.thread.stop)
        self.disk = FaultyDisk()
        self.log, _, _ = opened(Path(self.enterContext(tempfile.TemporaryDirectory())), self.disk)
        self.addCleanup(self.log.close)
        self.sync = GroupSync(self.log, reactor, self.thread)

    async def test_waiters_share_syncs(self) -> None:
        """Would catch one sync a caller, a first caller who does not wait for the others of its turn, or an answer before the sync."""
        waits = [Deferred.fromCoroutine(self.sync.append(n, b"x" * n)) for n in range(50)]
        assert self.disk.calls.count("sync_data") == 0
        await deferLater(reactor, 0)
        waits += [Deferred.fromCoroutine(self.sync.append(n, b"x" * n)) for n in range(50, 60)]
        positions = await gatherResults(waits)
        assert [self.log.read(position) for position in positions] == [b"x" * n for n in range(60)]
        assert self.disk.calls.count("sync_data") == 2
        assert await self.sync.alone(self.log.segments) == [1]

    async def test_pace(self) -> None:
        """Would catch a lone writer who waits for others that never come, a crowd that is synced in crumbs, and a clock that was set back."""
        clock = Clock()

        class Inline:
            """A thread that is done at once."""

            def run(self, call: Any, *args: Any) -> Deferred[Any]:
                return execute(call, *args)

        sync = GroupSync(self.log, clock, Inline())  # type: ignore[arg-type]

        def written(records: int, seconds: float) -> int:
            """How many records are durable after that time, when so many more were handed in."""
            for _ in range(records):
                sync.submit(1, b"x", lambda position, error: done.append(position))
            clock.advance(seconds)
            return len(done)

        done: list[Position | None] = []
        assert written(1, 0) == 1
        assert written(3, 0) == 4
        assert written(1, 0) == 5, "two or three are no crowd"
        assert written(5, 0) == 10, "nobody to wait for yet"
        assert written(1, 0) == 10, "a crowd was there: it may come back"
        assert written(4, 0) == 15, "and here it is"
        assert written(1, PACE / 2) == 15
        assert written(0, PACE / 2) == 16, "it did not"
        assert written(1, 0) == 17, "alone"
        assert written(6, 0) == 23
        clock.advance(-3600)
        assert written(1, PACE) == 24
        assert None not in done
        assert not clock.getDelayedCalls()

    async def test_calls_do_not_starve_records(self) -> None:
        """Would catch a stop that never ends: whoever waits until the log is idle makes calls, and a record that came meanwhile waited behind each."""
        first = Deferred.fromCoroutine(self.sync.append(1, b"first"))
        await deferLater(reactor, 0)
        idle = Deferred.fromCoroutine(self.sync.idle())
        late = Deferred.fromCoroutine(self.sync.append(1, b"late"))
        await idle.addTimeout(10, reactor)
        assert [self.log.read(await each) for each in (first, late)] == [b"first", b"late"]

    async def test_no_room_fails_only_its_batch(self) -> None:
        """Would catch callers of a later batch that are told of an earlier one's failure, or the other way round."""
        self.disk.fail("write", errno.ENOSPC, times=1)
        first = Deferred.fromCoroutine(self.sync.append(1, b"first"))
        await deferLater(reactor, 0)
        rest = [Deferred.fromCoroutine(self.sync.append(1, b"later")) for _ in range(3)]
        with pytest.raises(DiskFull):
            await first
        assert [self.log.read(position) for position in await gatherResults(rest)] == [b"later"] * 3

    async def test_a_batch_too_big_for_the_reactor(self) -> None:
        """Would catch a batch that is sealed in the thread and lost, or stored twice."""
        bodies = [bytes([n]) * (100 << 10) for n in range(10)]
        positions = await gatherResults([Deferred.fromCoroutine(self.sync.append(1, body)) for body in bodies])
        assert [self.log.read(position) for position in positions] == bodies

    async def test_one_bad_record_stores_nothing_of_its_batch(self) -> None:
        """Would catch a caller who waits for ever because another of the batch handed in what cannot be stored, or half a batch stored."""
        waits = [Deferred.fromCoroutine(self.sync.append(kind, b"x")) for kind in (1, 999)]
        for wait in waits:
            with pytest.raises(ValueError):
                await wait
        assert self.log.read(await self.sync.append(1, b"next")) == b"next"
        assert self.log.segments() == [1]

    async def test_broken_for_all(self) -> None:
        """Would catch a caller who waits for ever, or is told yes, after a failed sync."""
        self.disk.fail("sync_data", errno.EIO)
        waits = [Deferred.fromCoroutine(self.sync.append(1, b"x")) for _ in range(3)]
        for wait in waits:
            with pytest.raises(LogBroken):
                await wait
        with pytest.raises(ValueError):
            await self.sync.alone(lambda: int("x"))
