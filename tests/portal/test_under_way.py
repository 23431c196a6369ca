"""What was under way when the process ended, by its files alone: messages that come together, folders that are renamed together."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from hornetmail.disk.files import Disk
from hornetmail.portal.maildir import groups, renaming
from hornetmail.portal.maildir.renaming import Renamed


def folder(top: Path, name: str = "", **files: str) -> Path:
    """A folder of a Maildir; ``files``: file names, and in which directory each is."""
    path = top / name
    for sub in ("cur", "new", "tmp"):
        (path / sub).mkdir(parents=True)
    for file, sub in files.items():
        (path / sub / file).write_bytes(b"mail")
    return path


def names(path: Path) -> list[str]:
    """Files of a folder, with their directory."""
    return sorted(f"{sub}/{one.name}" for sub in ("cur", "new", "tmp") for one in (path / sub).iterdir())


@pytest.mark.parametrize(
    ("there", "left"),
    [
        ({"a": "new", "b": "new", "c": "cur"}, ["cur/c", "new/a", "new/b"]),
        ({"a": "new", "b:2,S": "cur"}, ["cur/b:2,S", "new/a"]),
        ({"a": "new", "b:2,S": "cur", "a:2,F": "cur"}, ["cur/a:2,F", "cur/b:2,S", "new/a"]),
        ({"a": "new", "c": "cur"}, ["cur/c"]),
        ({"b:2,S": "cur", "c:2,": "new"}, ["new/c:2,"]),
        ({"c": "cur"}, ["cur/c"]),
    ],
)
def test_all_of_a_group_or_none(tmp_path: Path, there: dict[str, str], left: list[str]) -> None:
    """RFC 3502 section 6.3.11: would catch a part of an APPEND that is there after a crash, all of it removed, and another message that goes with it."""
    path = folder(tmp_path, **there)
    listed = groups.begin(Disk(), path, "token", ["a", "b"])
    assert listed.parent.name == "tmp"
    groups.settle(Disk(), path, listed.name)
    assert names(path) == left


def test_a_message_that_somebody_else_removes(tmp_path: Path) -> None:
    """Would catch a mailbox that cannot be opened since another program removes a message of half a group at the same moment."""

    class Rival(Disk):
        def unlink(self, path: Path, missing_ok: bool = False) -> None:
            if path.parent.name == "new":
                path.unlink()
            super().unlink(path, missing_ok)

    path = folder(tmp_path, a="new", b="new")
    listed = groups.begin(Disk(), path, "token", ["a", "b", "c"])
    groups.settle(Rival(), path, listed.name)
    assert names(path) == []


def test_the_end_of_a_group_comes_twice(tmp_path: Path) -> None:
    """Would catch an APPEND that fails at its end since a start of another process was quicker to remove the list."""
    path = folder(tmp_path)
    listed = groups.begin(Disk(), path, "token", ["a"])
    groups.end(Disk(), listed)
    groups.end(Disk(), listed)
    assert names(path) == []


def test_a_list_that_cannot_be_written(tmp_path: Path) -> None:
    """Would catch a list that stays although its messages never come: the next start would look for them."""

    class Full(Disk):
        def sync_directory(self, path: Path) -> None:
            raise OSError(errno.ENOSPC, "no space")

    path = folder(tmp_path)
    with pytest.raises(OSError, match="no space"):
        groups.begin(Full(), path, "token", ["a"])
    assert names(path) == []


@pytest.mark.parametrize(
    ("name", "unborn"),
    [(".x.group.abc.tmp", True), ("x.group.abc.tmp", False), (".x.group.abc", False), (".x.abc.tmp", False), ("x.group", False)],
)
def test_a_list_that_was_cut_off(name: str, unborn: bool) -> None:
    """Would catch half a list that is taken for a whole one, or another program's file that is removed as litter."""
    assert groups.unborn(name) is unborn


ROWS = [(1, "Old"), (2, "Old/Sub"), (3, "Other")]
MOVED = [Renamed(1, "Old", "New"), Renamed(2, "Old/Sub", "New/Sub")]


@pytest.mark.parametrize(
    ("there", "rows", "found", "left"),
    [
        ([".Old", ".Old.Sub"], ROWS, MOVED, {".New", ".New.Sub"}),
        ([".New", ".Old.Sub"], ROWS, MOVED, {".New", ".New.Sub"}),
        ([".New", ".New.Sub"], ROWS, MOVED, {".New", ".New.Sub"}),
        ([".Old", ".New", ".Old.Sub"], ROWS, MOVED[1:], {".Old", ".New", ".New.Sub"}),
        ([".Old"], ROWS, MOVED[:1], {".New"}),
        ([], ROWS, [], set()),
        ([".Old", ".Old.Sub"], ROWS[1:], MOVED[1:], {".Old", ".New.Sub"}),
        ([".Old", ".Old.Sub"], [(1, "Old"), (9, "Old/Sub")], MOVED[:1], {".New", ".Old.Sub"}),
        ([".New", ".New.Sub"], [(1, "New"), (2, "New/Sub")], [], {".New", ".New.Sub"}),
    ],
)
def test_folders_that_were_being_renamed(
    tmp_path: Path, there: Sequence[str], rows: list[tuple[int, str]], found: list[Renamed], left: set[str]
) -> None:
    """Would catch a tree of which a crash leaves half under its old name; a folder that the index takes for renamed although there is none, or another
    one has the name; and a renaming of long ago that is done once more."""
    for name in there:
        folder(tmp_path, name)
    renaming.begin(Disk(), tmp_path, MOVED)
    assert renaming.finish(Disk(), tmp_path, rows) == found
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == left
    assert (tmp_path / renaming.NAME).exists(), "the index does not know yet"
    renaming.end(Disk(), tmp_path)
    renaming.end(Disk(), tmp_path)
    assert renaming.finish(Disk(), tmp_path, rows) == []


def test_lines_that_say_nothing(tmp_path: Path) -> None:
    """Would catch a mailbox that cannot be read since the list of renamings was damaged."""
    folder(tmp_path, ".Old")
    (tmp_path / renaming.NAME).write_bytes(b"\n1\n1\t.Old\n1\t.Old\tnone\n1\t.Old\t..gone1\n\xff\t.Old\t.New\nx\t.Old\t.New\n")
    assert renaming.finish(Disk(), tmp_path, ROWS) == []
    assert (tmp_path / ".Old").is_dir()


def test_a_renaming_that_is_taken_back(tmp_path: Path) -> None:
    """Would catch folders that stay renamed although the client was told that they are not, and one that cannot go back told as gone back."""
    for name in (".New", ".Old.Sub"):
        folder(tmp_path, name)
    assert renaming.back(Disk(), tmp_path, MOVED) == []
    assert {path.name for path in tmp_path.iterdir()} == {".Old", ".Old.Sub"}

    class Stuck(Disk):
        def rename_unsynced(self, old: Path, new: Path) -> None:
            raise OSError(errno.EIO, "no")

    (tmp_path / ".Old").rename(tmp_path / ".New")
    assert renaming.back(Stuck(), tmp_path, MOVED) == MOVED[:1]
