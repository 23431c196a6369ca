"""Whose a directory is and which file system it lies on (rule 8: none that lies across a network may hold the queue)."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
        "pvfs2", "smb", "smb2", "smb3", "smbfs", "vboxsf", "vmhgfs",
        "fuse.ceph", "fuse.cifs", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "davfs",
    }
)  # fmt: skip
"""Types whose fsync, locks or renames promise less than a local disk's."""


class NetworkFileSystem(Exception):
    """The directory lies on a network file system; the message names both."""


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the mount that holds ``path`` (absolute, links resolved), by longest prefix in the text of ``/proc/mounts``.

    Of two mounts on one point the later covers the earlier. ``""`` if nothing matches.
    """
    best, found = -1, ""
    parts = path.parts
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])).parts
        if len(point) >= best and parts[: len(point)] == point:
            best, found = len(point), fields[2]
    return found


def refuse_network(path: Path, mounts: str | None = None) -> None:
    """Raises NetworkFileSystem if ``path`` must not hold a queue. Systems without ``/proc/mounts`` are believed."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
    kind = file_system_of(path.resolve(), mounts)
    if kind in NETWORK:
        raise NetworkFileSystem(f"{path} is on {kind}, a network file system; the queue needs a local disk")


def refuse_foreign(path: Path) -> None:
    """Raises PermissionError if root is about to write into somebody else's directory: the service could not read there afterwards what root made. Others may
    own less than they write to (groups, containers)."""
    owner = path.stat().st_uid
    if owner == 0 or os.geteuid() != 0:
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    raise PermissionError(
        f"{path} belongs to {name}, who could not read what root writes there; run it as that user: runuser -u {name} -- …"
    )
