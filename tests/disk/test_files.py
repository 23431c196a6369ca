"""Durable files: old or new, never half; and what "no room" looks like."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hornetmail.disk.files import Disk, DiskFull, SyncFailed
from hornetmail.disk.lock import AlreadyRunning, DirectoryLock
from hornetmail.disk.mounts import NetworkFileSystem, file_system_of, refuse_network
from hornetmail.disk.seal import BrokenSeal, Seal
from hornetmail.testing.faulty_disk import FaultyDisk


def test_write_durably_replaces_whole(tmp_path: Path) -> None:
    """Would catch a replacement that leaves temporary files or the wrong mode behind."""
    path = tmp_path / "key"
    Disk().write_durably(path, b"old")
    Disk().write_durably(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("operation", ["write", "sync_file"])
def test_write_durably_failing_keeps_the_old(tmp_path: Path, operation: str) -> None:
    """Would catch an old file that is lost, or litter, when the new one cannot be written."""
    path, disk = tmp_path / "key", FaultyDisk()
    disk.write_durably(path, b"old")
    disk.fail(operation, errno.ENOSPC, partial=1)
    with pytest.raises(DiskFull):
        disk.write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["key"]


class Mounted(Disk):
    """A share: it knows no sync of a directory, or its disk is broken."""

    why = errno.EINVAL

    def sync_file(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(self.why, os.strerror(self.why))
        super().sync_file(fd)


def test_a_share_without_sync_of_directories(tmp_path: Path) -> None:
    """Would catch a mounted CIFS share or sshfs on which nothing can be written (EINVAL, EOPNOTSUPP), and a disk error that passes for one."""
    disk = Mounted()
    for why in (errno.EINVAL, errno.EOPNOTSUPP):
        disk.why = why
        disk.write_durably(tmp_path / "pack", b"whole")
        disk.rename(tmp_path / "pack", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"whole"
    disk.why = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        disk.write_durably(tmp_path / "pack", b"whole")


def test_rename_syncs_both_directories(tmp_path: Path) -> None:
    """Would catch a move between directories of which one is not synced."""
    disk = FaultyDisk()
    disk.make_directory(tmp_path / "a/b/c")
    disk.make_directory(tmp_path / "d")
    disk.write_durably(tmp_path / "a/b/c/x", b"1")
    disk.calls.clear()
    disk.rename(tmp_path / "a/b/c/x", tmp_path / "d/x")
    assert disk.calls.count("sync_file") == 2
    assert (tmp_path / "d/x").read_bytes() == b"1"
    assert 0 <= Disk().free_fraction(tmp_path) <= 1


def test_a_seal_is_bound_to_key_context_and_bytes() -> None:
    """Would catch a seal that opens under another key or context, or after a change."""
    seal = Seal(bytes(32))
    sealed = seal.close(b"mail", b"here")
    assert seal.open(sealed, b"here") == b"mail"
    assert len(sealed) == 4 + 28
    assert seal.close(b"mail", b"here") != sealed
    for other, data, context in [
        (Seal(b"\1" * 32), sealed, b"here"),
        (seal, sealed, b"there"),
        (seal, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"here"),
        (seal, sealed[:20], b"here"),
        (seal.derive(b"x"), sealed, b"here"),
    ]:
        with pytest.raises(BrokenSeal):
            other.open(data, context)


def test_a_second_process_is_named_the_first(tmp_path: Path) -> None:
    """Would catch a lock that a second process gets too, or that survives its holder (design: one process per data directory)."""
    code = "import sys, pathlib; from hornetmail.disk.lock import DirectoryLock as L; l = L(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning) as refused:
            DirectoryLock(tmp_path)
        assert refused.value.pid == child.pid
        child.kill()
    for _ in range(2):  # who told nobody leaves it to the next
        lock = DirectoryLock(tmp_path)
        assert lock.died is not None, "nobody learns that the service was killed"
        assert lock.died.pid == child.pid
        assert abs(lock.died.began - time.time()) < 300
        lock.release()
        lock.release()
    lock = DirectoryLock(tmp_path)
    lock.died = None  # told
    lock.release()
    lock = DirectoryLock(tmp_path)
    assert lock.died is None, "an orderly end is taken for a death"
    lock.release()


def test_network_file_systems_are_refused(tmp_path: Path) -> None:
    """Would catch a queue on NFS or SMB (rule 8), a mount point with a space in it, and a local mount below a remote one."""
    mounts = (
        "/dev/vda / ext4 rw 0 0\nfiler:/x /srv nfs4 rw 0 0\n/dev/b /srv/local xfs rw 0 0\n"
        "//nas/a /mnt/my\\040share cifs rw 0 0\nuser@h: /mnt/ssh fuse.sshfs rw 0 0\n"
    )
    assert file_system_of(Path("/srvx"), mounts) == "ext4"
    assert file_system_of(Path("/srv/mail"), mounts) == "nfs4"
    assert file_system_of(Path("/srv/local/mail"), mounts) == "xfs"
    assert file_system_of(Path("/mnt/my share/q"), mounts) == "cifs"
    for bad in ("/srv/mail", "/mnt/my share/q", "/mnt/ssh/q"):
        with pytest.raises(NetworkFileSystem):
            refuse_network(Path(bad), mounts)
    refuse_network(Path("/var/spool"), mounts)


def test_write_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a batch of which the kernel took a part only, or more pieces than one call takes, that is not whole on disk."""
    disk = Disk()
    fd = disk.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    parts = [b"%d," % number for number in range(3000)]
    disk.write_synced(fd, parts, 0)
    assert (tmp_path / "log").read_bytes() == b"".join(parts)
    synced: list[int] = []
    real, plain = os.pwritev, os.fdatasync
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, offset, flags: real(fd, [b"".join(parts)[:4]], offset, flags))
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), plain(fd)))
    end = os.fstat(fd).st_size
    disk.write_synced(fd, [b"abc", b"defg"], end)
    assert disk.read(fd, 100, end) == b"abcdefg"
    assert synced == [fd]
    disk.close(fd)


@pytest.mark.parametrize(
    ("code", "grown", "expected"),
    [(errno.ENOSPC, 0, DiskFull), (errno.ENOSPC, 1, SyncFailed), (errno.EIO, 0, SyncFailed), (errno.EDQUOT, 0, DiskFull)],
)
def test_write_synced_tells_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, grown: int, expected: type[OSError]
) -> None:
    """Would catch a failed sync that is taken for a full disk, and tried again."""
    disk = Disk()
    fd = disk.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)

    def fail(fd: int, parts: object, offset: int, flags: int) -> int:
        os.ftruncate(fd, grown)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwritev", fail)
    with pytest.raises(expected):
        disk.write_synced(fd, [b"abc"], 0)
    disk.close(fd)


def test_write_synced_without_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a file system that knows no RWF_DSYNC, on which nothing could be accepted."""
    disk = Disk()
    fd = disk.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)

    def fail(*arguments: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "pwritev", fail)
    disk.write_synced(fd, [b"abc", b"d"], 0)
    assert (tmp_path / "log").read_bytes() == b"abcd"
    disk.close(fd)
