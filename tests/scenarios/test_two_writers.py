"""Two services on one medium: restored from it while the old one still runs, and a copy of the data directory (rule 17: no leaf number is given twice, and nothing is lost)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.peers.installation import Failed, Installation
from tests.peers.waiting import until
from tests.scenarios.test_root_key import USER, archive_some, installed, key_command
from tests.scenarios.test_test_to_production import found, fresh, restore


@pytest.fixture
def houses() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def told(hornet: Installation) -> list[str]:
    """Of the medium's alarms that are open; none before the service is up."""
    try:
        return [alarm["code"] for alarm in hornet.json("alarms", "list") if alarm["code"].startswith("medium-")]
    except Failed:
        return []


def test_restored_while_the_old_one_runs(houses: ExitStack) -> None:
    """Would catch two services that write to one medium with nobody told; a medium that nobody can get back; and mail of the one that was shut out that is lost or not found there."""
    old = installed()
    houses.callback(old.close)
    medium = old.dir / "archive" / "medium"
    paper = str(old.root / "paper.txt")
    key_command(old, "backup", paper)
    archive_some(old, "early")
    old.command("archive", "backup", "now")
    new = fresh(houses)
    with pytest.raises(Failed, match="another installation writes to medium 1") as failed:
        restore(new, str(medium), paper)
    assert f"mx.hornet.test:{old.dir}" in failed.value.error
    assert len(failed.value.error.splitlines()) == 1
    archive_some(old, "still")
    assert told(old) == []
    done = restore(new, str(medium), paper, "--take-over")
    assert done["mails"] == 12
    new.start()
    until(lambda: told(old) == ["medium-taken"], "the old one is told")
    late = b"Subject: late\r\n\r\nlate\r\n"
    old.send("a@outside.test", [USER], late)
    until(lambda: len(found(old, "late")) == 1, "it is in the staging area, and found")
    assert len(found(old, "early")) == 6, "what lies there can be read"
    archive_some(new, "after")
    assert told(new) == []
    with pytest.raises(Failed, match="went on with the archive"):
        old.command("archive", "medium", "take", "1")
    old.stop()
    old.start(wait=False)
    until(lambda: told(old) == ["medium-taken"], "a restart does not help it")
    assert len(found(old, "late")) == 1
    archive_some(new, "and")
    assert new.json("archive", "verify", "--full")["ok"]


def test_a_copy_of_the_data_directory(houses: ExitStack) -> None:
    """Would catch a copy that takes the medium away from the service that runs, and one that is not told; and, once the first one has ended, one that cannot go on, or gives its leaf numbers again; and mail that the copy staged meanwhile, under numbers that the first one gave away, with which verify finds fault for ever."""
    first = installed()
    houses.callback(first.close)
    medium = first.root / "disk"
    first.command("archive", "medium", "add", "directory", str(medium))
    first.command("archive", "medium", "activate", "2")
    archive_some(first, "early")
    first.stop(kill=True)
    copy = fresh(houses)
    for name in ("keys", "queue", "portal", "archive"):
        shutil.rmtree(copy.dir / name)
        shutil.copytree(first.dir / name, copy.dir / name)
    for path in (*first.dir.glob("*.db*"), first.dir / "writer"):
        shutil.copy(path, copy.dir / path.name)
    first.start()
    copy.start(wait=False)
    until(lambda: told(copy) == ["medium-taken"], "the copy is told")
    for number in range(2):
        copy.send("a@outside.test", [USER], b"Subject: meanwhile %d\r\n\r\nmeanwhile\r\n" % number)
    until(lambda: len(found(copy, "meanwhile")) == 2, "they are in the copy's staging area, and found")
    archive_some(first, "first")
    assert told(first) == []
    first.stop()
    copy.stop()
    copy.command("archive", "rebuild")
    copy.start()
    assert told(copy) == [], "whoever ended in order lets the next one begin"
    archive_some(copy, "copy")
    assert copy.json("archive", "verify", "--full")["ok"], "it took up what the first one did: no leaf number came twice"
    assert [len(found(copy, word)) for word in ("early", "first", "meanwhile", "copy")] == [6, 6, 2, 6]
    state = json.loads((medium / "medium").read_bytes())
    assert str(copy.dir) in state["writers"]["0"]["where"]
