"""Who writes to a medium: one installation, whatever was copied, cloned, put back or taken over (``archive/media/writer.py``)."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import IVisit, Medium, MediumTaken
from hornetmail.archive.media.writer import KEPT, NAME, Writer
from hornetmail.disk.files import Disk

ARCHIVE = bytes(range(16))


def started(data: Path, place: Path, node: int = 0) -> Medium:
    """Medium 1 as a start on a data directory sees it."""
    data.mkdir(exist_ok=True)
    medium = Medium(1, DirectoryPlace(place, Disk()), writer=Writer(data, Disk(), node, f"{data.name}:/data", lambda: 1.8e9))
    medium.expect(ARCHIVE)
    return medium


@pytest.fixture
def place(tmp_path: Path) -> Path:
    Medium(1, DirectoryPlace(tmp_path / "medium", Disk())).claim(ARCHIVE)
    return tmp_path / "medium"


def test_a_start_after_a_crash(tmp_path: Path, place: Path) -> None:
    """Would catch an installation that is kept out by the mark of its own last life, or of one from long before."""
    first = started(tmp_path / "one", place)
    first.look()
    for _ in range(3):
        again = started(tmp_path / "one", place)
        again.look()
        again.put("keyring", b"k")
    started(tmp_path / "one", tmp_path / "nowhere").claim(ARCHIVE)
    assert started(tmp_path / "one", place).writer() is None


def test_a_clone_of_the_machine(tmp_path: Path, place: Path) -> None:
    """Would catch two clones that both go on to write: whoever starts later has the medium, and the other one is told by its next look, and writes nothing more."""
    one = started(tmp_path / "one", place)
    one.put("keyring", b"one")
    clone = started(tmp_path / "one", place)
    clone.look()
    with pytest.raises(MediumTaken):
        one.put("keyring", b"late")
    with pytest.raises(MediumTaken):
        one.look()
    clone.put("keyring", b"clone")
    assert one.get("keyring") == b"clone"


def test_a_copy_of_the_data_directory(tmp_path: Path, place: Path) -> None:
    """Would catch a copy that takes the medium away from the one that runs, and one that stays out once that ended in order."""
    one = started(tmp_path / "one", place)
    one.look()
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    with pytest.raises(MediumTaken, match="one:/data"):
        started(tmp_path / "copy", place).look()
    one.put("keyring", b"one")
    one.release()
    started(tmp_path / "copy", place).look()


def test_a_copy_of_data_and_medium(tmp_path: Path) -> None:
    """Would catch a copy of an installation whose medium lies in its data directory, and was copied with it, that archives nothing."""
    started(tmp_path / "one", tmp_path / "one" / "medium").claim(ARCHIVE)
    one = started(tmp_path / "one", tmp_path / "one" / "medium")
    one.look()
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    copy = started(tmp_path / "copy", tmp_path / "copy" / "medium")
    assert copy.writer() is None
    copy.put("keyring", b"copy")
    one.put("keyring", b"one")


def test_an_older_directory_put_back(tmp_path: Path, place: Path) -> None:
    """Would catch an older copy that does not know of the last start, and writes where the newer one may still run."""
    started(tmp_path / "one", place).look()
    older = (tmp_path / "one" / NAME).read_bytes()
    newer = started(tmp_path / "one", place)
    newer.look()
    (tmp_path / "one" / NAME).write_bytes(older)
    back = started(tmp_path / "one", place)
    with pytest.raises(MediumTaken):
        back.look()
    newer.put("keyring", b"newer")
    back.take_over()
    back.put("keyring", b"back")
    with pytest.raises(MediumTaken):
        newer.put("keyring", b"newer")


def test_who_lost_it_does_not_go_on_by_itself(tmp_path: Path, place: Path) -> None:
    """Rule 17: would catch one that was shut out and begins to write once the other one has ended: what that did it does not know before it starts again, and it would give its leaf numbers once more."""
    one, other = started(tmp_path / "one", place), started(tmp_path / "other", place)
    one.look()
    other.take_over()
    with pytest.raises(MediumTaken):
        one.look()
    other.release()
    for call in (one.look, lambda: one.put("keyring", b"one")):
        with pytest.raises(MediumTaken, match="restart this one"):
            call()
    started(tmp_path / "one", place).look()


class Crossing(DirectoryPlace):
    """Another one puts its mark there between ours and our look at it."""

    def __init__(self, path: Path, other: Medium) -> None:
        super().__init__(path, Disk())
        self.other = other

    @contextlib.contextmanager
    def visit(self) -> Iterator[IVisit]:
        with super().visit() as there:
            put = there.put

            def crossed(name: str, data: bytes | memoryview) -> None:
                put(name, data)
                self.other.take_over()

            there.put = crossed  # type: ignore[method-assign]
            yield there


def test_two_in_the_same_moment(tmp_path: Path, place: Path) -> None:
    """Would catch two that both believe to have it."""
    other = started(tmp_path / "other", place)
    (tmp_path / "one").mkdir()
    writer = Writer(tmp_path / "one", Disk(), 0, "one", lambda: 0.0)
    one = Medium(1, Crossing(place, other), writer=writer)
    one.expect(ARCHIVE)
    with pytest.raises(MediumTaken, match="other:/data"):
        one.look()
    other.look()


def test_nodes_beside_each_other(tmp_path: Path, place: Path) -> None:
    """Would catch a node that shuts another one out (keys, leaves and marks are a node's own), and one that takes the other's mark along at its end."""
    one, two = started(tmp_path / "one", place, 0), started(tmp_path / "two", place, 1)
    one.look()
    two.look()
    one.put("keyring", b"one")
    two.put("keyring", b"two")
    assert sorted(json.loads((place / "medium").read_bytes())["writers"]) == ["0", "1"]
    one.release()
    assert sorted(json.loads((place / "medium").read_bytes())["writers"]) == ["1"]
    two.look()
    two.release()
    assert json.loads((place / "medium").read_bytes()) == {"archive": ARCHIVE.hex(), "medium": 1, "format": 1}


def test_what_is_remembered(tmp_path: Path, place: Path) -> None:
    """Would catch a file that grows with every start, and lines that are no marks taken for some."""
    data = tmp_path / "one"
    started(data, place).look()
    inode = (data / NAME).read_text().splitlines()[0]
    (data / NAME).write_text("\n".join([inode, "nonsense", *(f"{n:032x}" for n in range(KEPT + 50))]) + "\n")
    writer = Writer(data, Disk(), 0, "one", lambda: 0.0)
    assert not writer.is_own("nonsense")
    assert writer.is_own(f"{KEPT + 49:032x}")
    assert len((data / NAME).read_text().splitlines()) == KEPT + 1
