"""A real file system that is unmounted under a medium, in a mount namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import subprocess, sys
from pathlib import Path
from hornetmail.archive.media.medium import Medium, MediumAway
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.disk.files import Disk

here = Path(sys.argv[1])
def mount(): subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(here)], check=True)
def unmount(): subprocess.run(["umount", str(here)], check=True)
def refused(call, *args):
    try:
        call(*args)
    except MediumAway as error:
        assert "is it mounted" in str(error), error
    else:
        raise SystemExit(f"{call.__name__}{args} went through")

mount()
medium = Medium(1, DirectoryPlace(here, Disk()))
medium.claim(bytes(16))
medium.put("packs/a.pack", b"x")
assert medium.look().total == 1 << 20
for again in range(2):
    unmount()
    for call, args in ((medium.put, ("packs/b.pack", b"y")), (medium.get, ("packs/a.pack",)), (medium.names, ("packs/",)),
                       (medium.delete, ("packs/a.pack",)), (medium.look, ())):
        refused(call, *args)
    assert list(here.iterdir()) == []
    # Another one in its place may well have the same numbers of device and root.
    mount()
    refused(medium.put, "packs/b.pack", b"y")
    assert list(here.iterdir()) == []
    medium.claim(bytes(16))
    medium.put("packs/c.pack", b"z")
with here.joinpath("big").open("wb") as file:
    try:
        file.write(bytes(2 << 20))
    except OSError:
        pass
try:
    medium.put("packs/d.pack", bytes(1 << 19))
except OSError as error:
    assert type(error).__name__ == "DiskFull", error
    assert str(error) == f"medium 1 is full ({here})", error
else:
    raise SystemExit("a full medium took it")
assert medium.names("packs/") == [("packs/c.pack", 1)]
print("all refused")
"""


def test_unmounted(tmp_path: Path) -> None:
    """Catches a share that is unmounted between two calls, or another one mounted in its place, and is written to all the same; and half a pack
    on a full one."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces need root")
    place = tmp_path / "medium"
    place.mkdir()
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", _PROGRAM, str(place)], capture_output=True, text=True, timeout=60
    )
    if "mount" in done.stderr and "permission denied" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.stdout == "all refused\n", done.stderr
