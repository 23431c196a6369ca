"""What a start reads, and what a crash between two steps leaves: the leaf log's checkpoint, the index that takes another's place, large mail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hornetmail.archive.index.schema.files import IndexFiles
from hornetmail.archive.keys.keyring import KEYRING_NAME, KeyTrouble
from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.proof.leaves import leaf_hash, tree_root
from hornetmail.core.archive.archived import MAX_MAIL, ArchiveError
from hornetmail.disk.files import Disk
from hornetmail.disk.records import RecordLog
from hornetmail.testing.archives import AUDITOR, ROOT, mail
from tests.archive.cases import ArchiveCase


def leaf_log(top: Path) -> tuple[RecordLog, LeafLog]:
    records = RecordLog(top / "leaves", Disk(), writer="n0", seal=None, segment_bytes=4096)
    return records, LeafLog(records, 0, Disk())


def fill(top: Path, runs: int, each: int = 10) -> list[bytes]:
    """Leaves in many small segments."""
    records, log = leaf_log(top)
    log.replay()
    hashes = [leaf_hash(b"%d" % n) for n in range(runs * each)]
    for run in range(runs):
        data = log.run_for({n: hashes[n] for n in range(run * each, (run + 1) * each)})
        assert data is not None
        log.append(data)
    records.close()
    return hashes


def test_start_reads_one_segment(tmp_path: Path) -> None:
    """Catches a start that replays all leaves there ever were (2.4 s a million), or goes on with another tree than before."""
    hashes = fill(tmp_path, 100)
    records, log = leaf_log(tmp_path)
    replayed = log.replay()
    assert len(list((tmp_path / "leaves").glob("*.log"))) > 5
    assert replayed.records == 1
    assert (log.size, log.root(), log.known) == (1000, tree_root(hashes), True)
    assert log.hashes() == hashes
    run = log.run_for({1000: hashes[0]})
    assert run is not None
    log.append(run)
    assert log.root() == tree_root([*hashes, hashes[0]])
    records.close()


@pytest.mark.parametrize("damage", ["missing", "flipped", "older"])
def test_checkpoint_that_is_not_there(tmp_path: Path, damage: str) -> None:
    """Catches a tree that depends on its checkpoint: without it, or with an older one, the log says it all."""
    checkpoint = tmp_path / "leaves-checkpoint"
    fill(tmp_path, 3)
    older = checkpoint.read_bytes()
    (tmp_path / "more").mkdir()
    records, log = leaf_log(tmp_path)
    log.replay()
    run = log.run_for({n: leaf_hash(b"%d" % n) for n in range(30, 35)})
    assert run is not None
    log.append(run)
    records.close()
    match damage:
        case "missing":
            checkpoint.unlink()
        case "flipped":
            data = bytearray(checkpoint.read_bytes())
            data[20] ^= 1
            checkpoint.write_bytes(data)
        case "older":
            checkpoint.write_bytes(older)
    records, log = leaf_log(tmp_path)
    log.replay()
    assert log.root() == tree_root([leaf_hash(b"%d" % n) for n in range(35)])
    records.close()


def test_lost_log_is_missed(tmp_path: Path) -> None:
    """Catches a leaf log that is gone, or that lost its last run, taken for a new one: its numbers would be given twice (rule 17)."""
    fill(tmp_path, 3)
    for path in (tmp_path / "leaves").glob("*.log"):
        path.rename(path.with_suffix(".aside"))
    with pytest.raises(ArchiveError, match="it had 30 leaves"):
        leaf_log(tmp_path)[1].replay()
    for path in (tmp_path / "leaves").glob("*.aside"):
        back = path.with_suffix(".log")
        path.rename(back)
    last = max((tmp_path / "leaves").glob("*.log"))
    os.truncate(last, last.stat().st_size - 20)
    with pytest.raises(ArchiveError, match="gap"):
        leaf_log(tmp_path)[1].replay()


@pytest.mark.parametrize("died_after", ["ready", "logs", "renamed"])
def test_index_swapped_whole(tmp_path: Path, died_after: str) -> None:
    """Catches a moment without an index: the old one used to be removed before the new one was in its place, and its log could be applied to
    the new one."""
    files = IndexFiles(tmp_path, Disk())
    for name in ("archive.db", "archive.db-wal", "archive.db-shm"):
        (tmp_path / name).write_bytes(b"old")
    files.begin().write_bytes(b"new")

    class Dying(Disk):
        steps = {"ready": 1, "logs": 3, "renamed": 9}[died_after]

        def _step(self) -> None:
            self.steps -= 1
            if self.steps < 0:
                raise OSError("died")

        def rename(self, old: Path, new: Path) -> None:
            self._step()
            super().rename(old, new)

        def unlink(self, path: Path, missing_ok: bool = False) -> None:
            self._step()
            super().unlink(path, missing_ok)

    try:
        IndexFiles(tmp_path, Dying()).take()
    except OSError:
        assert files.database.read_bytes() == b"old"
        assert (tmp_path / "archive-ready.db").read_bytes() == b"new"
    files.settle()
    assert files.database.read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive.db"]


class Large(ArchiveCase):
    async def test_a_damaged_keyring(self) -> None:
        """Would catch a bit of the keyring's file that ends the whole service at its next start, mail of all included, though each medium has a copy; and a damaged file that is thrown away."""
        archive = await self.fresh()
        await self.put(archive, mail("One"))
        await archive.flush(seal=True)
        await archive.stop()
        path = self.top / "archive" / KEYRING_NAME
        content = path.read_bytes()
        for damaged in (
            b"",
            content[:-5],
            content[:20] + bytes([content[20] ^ 1]) + content[21:],
            content[:-1] + bytes([content[-1] ^ 1]),
        ):
            path.write_bytes(damaged)
            again = await self.reopened()
            assert await self.total(again, "subject:one") == 1
            assert path.read_bytes() == content
            [aside] = path.parent.glob(f"{KEYRING_NAME}-damaged-*")
            assert aside.read_bytes() == damaged
            await again.stop()
            aside.unlink()

    async def test_a_damaged_keyring_that_has_to_wait(self) -> None:
        """The same, where the medium is away, or the archive locked: it waits, and the service goes on without it."""
        archive = await self.fresh()
        await self.put(archive, mail("One"))
        await archive.flush(seal=True)
        await archive.stop()
        path = self.top / "archive" / KEYRING_NAME
        content = path.read_bytes()
        path.write_bytes(content[:-5])
        self.medium.rename(self.top / "unmounted")
        again = await self.reopened()
        assert "the keyring is damaged (checksum), and cannot be taken from a medium" in again.trouble
        assert path.read_bytes() == content[:-5]
        await again.stop()
        (self.top / "unmounted").rename(self.medium)
        locked = await self.reopened(root=None)
        assert "only once the archive is unlocked" in locked.trouble
        with pytest.raises(KeyTrouble):
            await locked.unlock(bytes(32))
        assert path.read_bytes() == content[:-5]
        await locked.unlock(ROOT)
        assert await self.total(locked, "subject:one") == 1
        assert path.read_bytes() == content

    async def test_the_largest_mail(self) -> None:
        """Catches mail within the limit that cannot be archived and stays in the queue for ever: the largest one, that cannot be compressed, with a
        thousand long recipients."""
        archive = await self.fresh()
        head = mail("Largest", "x")
        raw = head + os.urandom(MAX_MAIL - len(head))
        recipients = tuple(f"{'r' * 60}{n}@{'d' * 60}.example.test" for n in range(1000))
        await self.put(archive, raw, recipients=recipients, trace=b"X-Trace: " + b"t" * 60_000 + b"\r\n")
        await archive.flush(seal=True)
        hit = await self.only(archive, "largest")
        assert await archive.read(AUDITOR, hit.id) == raw
