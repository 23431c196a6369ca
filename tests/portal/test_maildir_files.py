"""Files of a mailbox by themselves: copies where nothing can be linked, what a failure leaves, and what stays in memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.logger import globalLogPublisher

from hornetmail.core.folder import Entry
from hornetmail.disk.anchor import Anchor
from hornetmail.disk.files import DiskFull
from hornetmail.portal.maildir import files
from hornetmail.portal.maildir import ground as grounds
from hornetmail.portal.maildir.files import Maildir
from hornetmail.portal.maildir.folders import GRANTS
from hornetmail.portal.maildir.ground import Ground
from hornetmail.portal.maildir.snapshot import Place, Snapshot
from hornetmail.portal.maildir.watching import Watching
from hornetmail.testing.faulty_disk import FaultyDisk

PLACES = [Place(f"old{number}", "cur", "S", 0, False) for number in range(3)]
COPIES = [Place(f"new{number}", "cur", "S", 0, False) for number in range(3)]
PAIRS = list(zip(PLACES, COPIES, strict=True))


class Box:
    """A mailbox of two folders, and three messages in the first."""

    def __init__(self, top: Path) -> None:
        self.disk = FaultyDisk()
        anchor = Anchor(top, self.disk)
        anchor.renew()
        anchor.hold()
        self.path = top / "Maildir"
        self.maildir = Maildir(self.path, self.disk, anchor)
        self.maildir.prepare(["Sent"])
        for number, place in enumerate(PLACES):
            file = self.maildir.write("INBOX", place.base, [b"message %d\r\n" % number] * 3, 1000.0 + number)
            self.maildir.land("INBOX", [(file, place)])

    def names(self, name: str, sub: str) -> list[str]:
        return sorted(path.name for path in (self.maildir.folder(name) / sub).iterdir())


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize("linked", [True, False])
def test_a_copy(box: Box, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    """Would catch a share without hard links on which nothing can be copied, or copies there that are cut off, empty, or of another day."""
    monkeypatch.setattr(files, "PIECE", 7)
    if not linked:
        box.disk.fail("link", errno.EPERM)
    box.maildir.link("INBOX", "Sent", PAIRS)
    assert box.names("Sent", "cur") == [f"new{number}:2,S" for number in range(3)]
    assert box.names("INBOX", "cur") == [f"old{number}:2,S" for number in range(3)]
    for number, copy in enumerate(COPIES):
        assert box.maildir.read("Sent", copy, 0, -1) == b"message %d\r\n" % number * 3
        file = box.maildir.folder("Sent") / copy.file
        assert file.stat().st_mtime == 1000.0 + number
        assert file.samefile(box.maildir.folder("INBOX") / PLACES[number].file) is linked
    assert box.names("Sent", "tmp") == []


@pytest.mark.parametrize("step", ["write", "sync_file", "rename", "read"])
def test_a_copy_that_fails(box: Box, step: str) -> None:
    """Would catch some of several messages copied, and half a copy that takes the room of a full disk until the next start."""
    box.disk.fail("link", errno.EPERM)
    box.disk.fail(step, errno.ENOSPC, after=1, partial=5)
    with pytest.raises(DiskFull):
        box.maildir.link("INBOX", "Sent", PAIRS)
    assert box.names("Sent", "cur") == []
    assert box.names("Sent", "tmp") == []
    box.disk.heal()
    box.maildir.link("INBOX", "Sent", PAIRS)
    assert len(box.names("Sent", "cur")) == 3


def test_a_copy_of_what_has_gone(box: Box) -> None:
    """Would catch a message that another program removed and that comes back as an empty one, or that keeps the others' copies there."""
    (box.maildir.folder("INBOX") / PLACES[1].file).unlink()
    with pytest.raises(FileNotFoundError):
        box.maildir.link("INBOX", "Sent", PAIRS)
    assert box.names("Sent", "cur") == []


def test_a_move_that_fails(box: Box) -> None:
    """C6: would catch a message that is in neither folder, or some that are moved and others not."""
    box.disk.fail("rename", errno.ENOSPC, after=2, times=1)
    with pytest.raises(DiskFull):
        box.maildir.move("INBOX", "Sent", PAIRS)
    assert (len(box.names("INBOX", "cur")), box.names("Sent", "cur")) == (3, [])
    box.maildir.move("INBOX", "Sent", PAIRS)
    assert (box.names("INBOX", "cur"), len(box.names("Sent", "cur"))) == ([], 3)


@pytest.mark.parametrize(("old", "synced"), [("new", {"cur", "new"}), ("cur", {"cur"})])
def test_what_was_renamed_and_then_removed(box: Box, monkeypatch: pytest.MonkeyPatch, old: str, synced: set[str]) -> None:
    """Would catch a message that is back in ``new`` after a loss of power, and goes home once more; and syncs of a directory in which nothing changed."""
    before, after = Place("x", old, "", 0, False), Place("x", "cur", "S", 0, False)
    box.maildir.land("INBOX", [(box.maildir.write("INBOX", "x", [b"mail"], 1.0), before)])
    nowhere = Place("y", old, "", 0, False), Place("y", "cur", "S", 0, False)
    assert box.maildir.relabel("INBOX", [(before, after), nowhere]) == [1], "the second is gone"
    assert box.maildir.relabel("INBOX", [(before, after)]) == [], "a transaction may run twice"
    done: list[str] = []
    monkeypatch.setattr(box.disk, "sync_directory", lambda path: done.append(path.name))
    box.maildir.unlink("INBOX", [after])
    assert set(done) == synced
    done.clear()
    box.maildir.unlink("INBOX", [after])
    assert done == ["cur"], "once is enough"


def test_what_is_found(box: Box) -> None:
    """Would catch a message that is read through each time because it is taken for one of bare line feeds, and one of those that is served as it is."""
    cur = box.maildir.folder("INBOX") / "cur"
    (cur / "crlf:2,S").write_bytes(b"a: b\r\n\r\ntext\r\n")
    (cur / "lf").write_bytes(b"a: b\n\ntext\n")
    (cur / "1600000000.M5Q1Pabc.host,S=15,W=15:2,").write_bytes(b"a: b\r\n\r\nte\nxt\r\n")
    found = box.maildir.look("INBOX", PLACES, (0, 0, 0.0), 1.0)
    assert found is not None
    assert {(one.place.base.partition(".")[0], one.place.bare, one.size, one.place.letters) for one in found.added} == {
        ("crlf", False, 14, "S"),
        ("lf", True, 14, ""),
        ("1600000000", False, 15, ""),
    }
    assert "lf:2," in box.names("INBOX", "cur"), "it has an info part now"


def test_a_file_that_is_written_in_steps(box: Box) -> None:
    """Would catch a large message of which the first step is lost, or one that begins again and still has the end of what was there."""
    first = box.maildir.write("INBOX", "x", [b"one ", b"two "], 0.0, done=False)
    assert box.maildir.write("INBOX", "x", [b"three"], 9.0, append=True) == first
    assert first.read_bytes() == b"one two three"
    assert first.stat().st_mtime == 9.0
    box.maildir.write("INBOX", "x", [b"new"], 9.0)
    assert first.read_bytes() == b"new"
    box.disk.fail("write", errno.ENOSPC, partial=2)
    with pytest.raises(DiskFull):
        box.maildir.write("INBOX", "x", [b"more"], 9.0, append=True)
    assert box.names("INBOX", "tmp") == []


def test_stretches_of_a_message(box: Box) -> None:
    """Would catch envelope lines that are served, a stretch that is off by them, and bare line feeds that are counted once more."""
    lines = b"Return-Path: <>\r\n"
    file = box.maildir.write("INBOX", "h", [lines + b"0123456789"], 0.0)
    hidden = Place("h", "new", "", len(lines), False)
    box.maildir.land("INBOX", [(file, hidden)])
    read = box.maildir.read
    assert read("INBOX", hidden, 0, -1) == b"0123456789"
    assert read("INBOX", hidden, 3, -1) == b"3456789"
    assert read("INBOX", hidden, 3, 4) == b"3456"
    assert read("INBOX", hidden, 8, 40) == b"89"
    assert read("INBOX", hidden, 10, -1) == read("INBOX", hidden, 99, -1) == read("INBOX", hidden, 0, 0) == b""
    assert box.maildir.envelopes("INBOX", [hidden, PLACES[0]]) == [lines, b""]
    file = box.maildir.write("INBOX", "b", [b"a\nb\r\nc\n"], 0.0)
    bare = Place("b", "new", "", 0, True)
    box.maildir.land("INBOX", [(file, bare)])
    assert read("INBOX", bare, 0, -1) == b"a\r\nb\r\nc\r\n"
    assert read("INBOX", bare, 2, 3) == b"\nb\r"
    assert read("INBOX", bare, 4, -1) == b"\r\nc\r\n"
    gone = Place("gone", "new", "", 0, False)
    wanted = [files.Piece(hidden, 2, 2), None, files.Piece(gone, 0, 1)]
    assert box.maildir.pieces("INBOX", wanted) == [b"23", None, None]
    assert box.maildir.each_whole("INBOX", [(1, hidden), (2, gone)], len) == {1: 10}


@pytest.mark.parametrize("cut", range(1, 12))
def test_bare_line_feeds_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """Would catch a size as served that is off by one where a piece ends between CR and LF: mail programs would wait for a byte that never comes."""
    monkeypatch.setattr(files, "PIECE", cut)
    text = b"a\r\nb\n\n\r\rc\r\n\n"
    path = tmp_path / "mail"
    path.write_bytes(text)
    assert files._bare_line_feeds(path) == 3
    assert len(files.with_crlf(text)) == len(text) + 3


def test_a_copy_whose_file_cannot_be_made(box: Box) -> None:
    """As above, where there is no room for as much as a name."""
    box.disk.fail("link", errno.EPERM)
    (box.maildir.folder("Sent") / "tmp").rmdir()
    with pytest.raises(FileNotFoundError):
        box.maildir.link("INBOX", "Sent", PAIRS)
    assert box.names("Sent", "cur") == []


class Limited:
    """In place of inotify: so many directories, and then an error."""

    def __init__(self, code: int) -> None:
        self.code = code

    def add(self, path: str) -> int:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, 1), (errno.ENOENT, 0)])
def test_no_more_directories_can_be_watched(code: int, said: int) -> None:
    """Would catch a limit of the machine of which nobody hears, one told with each folder, and a folder that is gone taken for it."""
    watching, events = Watching(None), list[Any]()
    assert watching.add(("new", "cur")) is None, "without inotify"
    watching._inotify = cast(Any, Limited(code))
    globalLogPublisher.addObserver(events.append)
    try:
        for _ in range(3):
            assert watching.add(("new", "cur")) is None
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert len([one for one in events if "max_user_watches" in str(one.get("log_format"))]) == said


# -- what stays in memory


def folder(number: int, entries: int) -> Snapshot:
    found = Snapshot(number, f"F{number}", "", 1, 1, 1)
    for uid in range(1, entries + 1):
        found.put(Entry(uid, 1, frozenset(), 1, 0.0, f"b{uid}"), Place(f"b{uid}", "new", "", 0, False))
    return found


def test_folders_that_nobody_has_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch memory that grows with each folder that was ever looked at, and the last used ones given up before others; empty ones count, too."""
    monkeypatch.setattr(grounds, "ENTRIES_KEPT", 1200)
    ground = Ground(
        cast(Any, None), cast(Any, None), FaultyDisk(), cast(Any, None), cast(Any, None), cast(Any, None), "mx.example.test"
    )
    folders = [folder(number, 70) for number in range(300)]
    for one in folders[:256]:
        ground.keep(one)
    assert len(ground._kept) == 256, "weighed now and then"
    ground.keep(folders[0])
    assert list(ground._kept.values()) == [*folders[247:256], folders[0]]
    for one in folders[257:300]:
        ground.keep(one)
    ground.forget()
    assert not ground._kept


def test_one_folder_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch the folder that is in use just now given up for being large: it would be read anew with each command."""
    monkeypatch.setattr(grounds, "ENTRIES_KEPT", 100)
    ground = Ground(
        cast(Any, None), cast(Any, None), FaultyDisk(), cast(Any, None), cast(Any, None), cast(Any, None), "mx.example.test"
    )
    large = folder(1, 500)
    for _ in range(257):
        ground.keep(large)
    assert list(ground._kept.values()) == [large]


def test_the_first_message_of_a_new_folder() -> None:
    r"""Would catch a first message that is \Recent to nobody."""
    one = folder(1, 2)
    assert (one.recent, one.unseen, one.size) == (2, 2, 2)
    one.uidnext = 3
    one.told_of()
    assert (one.recent, one.recent_from) == (0, 3)
    one.put(Entry(3, 2, frozenset({"\\Seen"}), 1, 0.0, "c"), Place("c", "new", "", 0, False))
    assert (one.recent, one.unseen) == (1, 2)


def test_a_folder_made_in_the_same_tick_as_the_last_look(box: Box) -> None:
    """Would catch a folder of another program that is not seen for ever, since the directory's time was the same when it was looked at last; and a look at all
    folders each time although nothing can have come."""
    os.utime(box.path, ns=(0, 1_000_000_000_000))
    assert box.maildir.survey((1_000_000_000_000, 1_000.5), []) is not None
    assert box.maildir.survey((1_000_000_000_000, 1_003.0), []) is None
    assert box.maildir.survey((999_000_000_000, 1_003.0), []) is not None


def test_rights_in_their_file(box: Box) -> None:
    """Would catch rights that are not read again, and a line that nobody wrote which gives some (or takes those of the others)."""
    given = {"2": "lrs", "anyone": "lr"}
    box.maildir.grant("Sent", given)
    assert box.maildir.grants(["INBOX", "Sent"]) == {"Sent": given}
    with (box.maildir.folder("Sent") / GRANTS).open("a") as file:
        file.write("3\n4 lr s\n5 l!\n\n\x00\n")
    assert box.maildir.grants(["Sent"]) == {"Sent": given}


def test_a_message_that_a_loss_of_power_left_in_new_as_well(box: Box) -> None:
    """Would catch a message that is there once more after its removal, and goes home twice: in ``new``, where it was before its flags changed."""
    cur, new = (box.maildir.folder("INBOX") / sub for sub in ("cur", "new"))
    file = cur / f"{PLACES[0].base}:2,S"
    (new / PLACES[0].base).write_bytes(file.read_bytes())
    (new / PLACES[1].base).write_bytes(b"another one of the same name")
    found = box.maildir.look("INBOX", [], (0, 0, 0.0), 1e9)
    assert found is not None
    assert {one.place.base: one.place.sub for one in found.added} == {place.base: "cur" for place in PLACES}
    assert box.names("INBOX", "new") == [PLACES[1].base]
    box.maildir.unlink("INBOX", PLACES[:1])
    again = box.maildir.look("INBOX", PLACES[1:], (0, 0, 0.0), 1e9)
    assert again is not None
    assert not again.added


def test_what_cannot_be_removed_from_new_keeps_nobody_from_reading(box: Box) -> None:
    """Would catch a folder that cannot be opened on a disk that lets nothing be removed, and a message left in ``new`` for good."""
    (box.maildir.folder("INBOX") / "new" / PLACES[0].base).write_bytes(
        (box.maildir.folder("INBOX") / "cur" / f"{PLACES[0].base}:2,S").read_bytes()
    )
    box.disk.fail("unlink", errno.EACCES, times=1)
    found = box.maildir.look("INBOX", [], (0, 0, 0.0), 1e9)
    assert found is not None
    assert len(found.added) == 3
    assert box.names("INBOX", "new") == [PLACES[0].base]
    box.maildir.look("INBOX", [], (0, 0, 0.0), 1e9)
    assert box.names("INBOX", "new") == []
