"""Test to production (A11): mirror everything, keep the key's paper, install anew, restore there from the mirror, and go on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.peers.installation import Failed, Installation
from tests.scenarios.test_root_key import archive_some, installed, key_command
from tests.scenarios.world import AUDITOR, digest

PAPER = "paper-secret-9\n"


@pytest.fixture
def houses() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def fresh(houses: ExitStack) -> Installation:
    hornet = Installation()
    houses.callback(hornet.close)
    hornet.set(seal_seconds=1)
    return hornet


def found(hornet: Installation, word: str) -> list[str]:
    """SHA-256 of all mails that are found by a word, as they are opened."""
    results = hornet.json("--as", AUDITOR[0], "archive", "search", word, password=AUDITOR[1])["results"]
    return sorted(
        digest(hornet.command("--as", AUDITOR[0], "archive", "export", one["id"], password=AUDITOR[1]).encode())
        for one in results
    )


def jobs(hornet: Installation) -> dict[str, Any]:
    return {one["name"]: one for one in hornet.json("jobs", "list")}


def restore(hornet: Installation, source: str, paper: str, *more: str) -> Any:
    words = ("archive", "restore", source, "--key", paper, "--password-stdin", "--json", *more)
    return json.loads(hornet.command(*words, stdin=PAPER))


def test_from_the_mirror(houses: ExitStack) -> None:
    """A11, A29, A32, L3, rules 18 and 26: catches whatever of mail, people, settings and rights does not come back, a restore over something that is there, and one
    with another key."""
    hornet = installed()
    houses.callback(hornet.close)
    paper, mirror = str(hornet.root / "paper.txt"), str(hornet.root / "mirror")
    key_command(hornet, "backup", paper)
    archive_some(hornet, "early")
    hornet.command("archive", "medium", "add", "directory", str(hornet.root / "second"))
    hornet.command("archive", "medium", "activate", "2")
    archive_some(hornet, "late")
    hornet.command("jobs", "set", "purge", "--when", "0 4 * * *")
    assert "full backup on medium 2" in hornet.command("archive", "backup", "now", "--full")
    hornet.command("archive", "mirror", "set", mirror)
    # The setting of the mirror comes along with the restore.
    hornet.command("archive", "backup", "now")
    assert "objects copied" in hornet.command("archive", "mirror", "now")
    unmounted(hornet, mirror)
    before = found(hornet, "early"), found(hornet, "late")
    assert [len(one) for one in before] == [6, 6]
    assert "mails opened" in hornet.json("jobs", "run", "restore-drill")["detail"]
    refused_here(hornet, mirror, paper)
    hornet.stop()
    refused_here(hornet, mirror, paper)

    there = fresh(houses)
    with pytest.raises(Failed, match="key"):
        there.command("archive", "restore", mirror)
    done = restore(there, mirror, paper)
    assert (done["mails"], done["rebuilt"]) == (12, False), done
    assert not done["findings"]
    there.start()
    assert (found(there, "early"), found(there, "late")) == before
    assert jobs(there)["purge"]["when"] == "0 4 * * *"
    assert there.json("archive", "verify", "--full")["ok"]
    archive_some(there, "after")
    assert len(found(there, "after")) == 6
    one_follower(hornet, there, mirror)


def unmounted(hornet: Installation, mirror: str) -> None:
    """The share of the mirror is not mounted: nothing is written to its mount point, and it goes on when it is back."""
    Path(mirror).rename(mirror + "-aside")
    Path(mirror).mkdir()
    with pytest.raises(Failed, match="is it mounted"):
        hornet.command("archive", "mirror", "now")
    assert not list(Path(mirror).iterdir())
    Path(mirror).rmdir()
    Path(mirror + "-aside").rename(mirror)
    hornet.command("archive", "mirror", "now")
    assert hornet.json("archive", "mirror", "show")["trouble"] == ""


def one_follower(old: Installation, there: Installation, mirror: str) -> None:
    """Both run: the restored one writes nothing into the old one's mirror before it is told to, and then the old one stops, and only that."""
    names = sorted(Path(mirror).rglob("*"))
    with pytest.raises(Failed, match=r"another installation follows .* archive mirror set"):
        there.command("archive", "mirror", "now")
    assert sorted(Path(mirror).rglob("*")) == names
    assert "another installation" in there.json("archive", "mirror", "show")["trouble"]
    assert [one["subject"] for one in there.json("alarms", "list") if one["code"] == "job-failed"] == ["mirror"]
    old.start()
    old.command("archive", "mirror", "now")
    there.command("archive", "mirror", "set", mirror)
    assert "objects copied" in there.command("archive", "mirror", "now")
    assert not [one for one in there.json("alarms", "list") if one["code"] == "job-failed"]
    after = {path: path.stat().st_mtime_ns for path in Path(mirror).rglob("*") if path.is_file()}
    with pytest.raises(Failed, match="another installation follows"):
        old.command("archive", "mirror", "now")
    old.command("archive", "backup", "now")
    assert {path: path.stat().st_mtime_ns for path in Path(mirror).rglob("*") if path.is_file()} == after


def refused_here(hornet: Installation, mirror: str, paper: str) -> None:
    """Where there is an archive already, running or not, nothing is restored over it."""
    with pytest.raises(Failed) as failed:
        restore(hornet, mirror, paper)
    assert len(failed.value.error.splitlines()) == 1, failed.value.error


def test_from_a_medium_after_the_last_backup(houses: ExitStack) -> None:
    """L3: catches mail that came after the last backup and is not in the restored index, and a medium that must be copied to be used."""
    hornet = installed()
    houses.callback(hornet.close)
    paper = str(hornet.root / "paper.txt")
    key_command(hornet, "backup", paper)
    archive_some(hornet, "early")
    hornet.command("archive", "backup", "now")
    archive_some(hornet, "late")
    before = found(hornet, "early"), found(hornet, "late")
    time_of_last = time.time()
    hornet.stop(kill=True)
    there = fresh(houses)
    medium = hornet.root / "disk"
    (hornet.dir / "archive" / "medium").rename(medium)
    with pytest.raises(Failed, match="has not said that it ended"):
        restore(there, str(medium), paper)
    done = restore(there, str(medium), paper, "--take-over")
    assert (done["mails"], done["rebuilt"]) == (12, True), done
    there.start()
    assert (found(there, "early"), found(there, "late")) == before
    archive_some(there, "after")
    assert max(path.stat().st_mtime for path in (medium / "packs").rglob("*.pack")) > time_of_last, "it is the same disk"
