"""What ``portal.db`` is told and asked, one table at a time; and how much of a mailbox is full."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from hornetmail.core.events import QuotaNear
from hornetmail.core.folder import Entry, FolderError
from hornetmail.core.served import Quota
from hornetmail.db.engines import Cursor
from hornetmail.portal.box.usage import Counted
from hornetmail.portal.maildir import envelope
from hornetmail.portal.maildir.snapshot import GONE_KEPT, Gone, Place
from hornetmail.portal.rows import figures, index
from hornetmail.portal.rows.index import Change, Kept, Stored
from hornetmail.portal.rows.schema import MIGRATIONS
from hornetmail.wire.imap.answers.ready import Ready
from tests.portal.ground import message, row


@pytest.fixture
def cursor() -> Iterator[Cursor]:
    """Of an empty index."""
    with closing(sqlite3.connect(":memory:")) as database:
        for migration in MIGRATIONS:
            for statement in migration.sql:
                database.execute(statement)
        yield cast("Cursor", database.cursor())


def made(cursor: Cursor, mailbox: int = 1, *names: str) -> list[int]:
    """Folders' IDs."""
    _, rows = index.make_folders(cursor, 1, mailbox, [(name, "") for name in names or ("INBOX",)], 100, 0)
    return [one.id for one in rows]


def stored(uid: int, size: int = 10, *, base: str = "", landed: float = 0.0, **more: object) -> Stored:
    entry = Entry(uid, 5, frozenset({"\\Seen", "$x"}), size, 1.5, base or f"b{uid}", saved=2.5)
    return Stored(entry, Place(base or f"b{uid}", "cur", "", 0, uid % 2 == 0), landed=landed, **more)  # type: ignore[arg-type]


def kept(tree: bytes, head: bytes | None) -> Kept:
    return Kept(tree, head, Ready(b"envelope", b"structure", 1, b"fields"))


def add(cursor: Cursor, folder: int, *added: Stored, mailbox: int = 1, **more: object) -> None:
    index.store(cursor, 1, mailbox, [Change(folder, 50, 5, 1, added, **more)])  # type: ignore[arg-type]


def test_migrations_are_counted() -> None:
    """Would catch a step that no database would take after the one before it."""
    assert [migration.number for migration in MIGRATIONS] == [*range(1, len(MIGRATIONS) + 1)]


# -- mailboxes and folders


def test_a_uidvalidity_is_never_given_twice(cursor: Cursor) -> None:
    """RFC 9051, 2.3.1.1: would catch a folder made anew under the numbers of the one before, which mail programs would take for the same, whatever the clock says."""
    last, rows = index.make_folders(cursor, 1, 1, [("INBOX", ""), ("Sent", "\\Sent")], 100, 0)
    assert (last, [one.uidvalidity for one in rows]) == (101, [100, 101])
    last, rows = index.make_folders(cursor, 1, 1, [("A", "")], 100, 0)
    assert (last, rows[0].uidvalidity) == (102, 102)
    last, rows = index.make_folders(cursor, 1, 1, [("B", "")], 50, 500)
    assert (last, rows[0].uidvalidity) == (500, 500)
    assert index.make_folders(cursor, 1, 2, [], 70, 0) == (70, [])
    assert index.make_folders(cursor, 1, 3, [("INBOX", "")], 5, 0)[0] == 5
    found = index.box(cursor, 1)
    assert found is not None
    assert (found[0], sorted(((one.name, one.special, one.uidvalidity) for one in found[1]), key=lambda one: one[2])) == (
        500,
        [("INBOX", "", 100), ("Sent", "\\Sent", 101), ("A", "", 102), ("B", "", 500)],
    )
    assert index.box(cursor, 9) is None
    assert index.mailboxes(cursor) == {1, 2, 3}
    assert (index.tenant(cursor, 1), index.tenant(cursor, 9)) == (1, None)


def test_uids_after_a_crash_of_the_machine(cursor: Cursor) -> None:
    """Would catch a UID given twice after a loss of power, and a hundred thousand left out at each orderly start; claims end with the process."""
    [folder] = made(cursor)
    add(cursor, folder, stored(1))
    index.claim(cursor, folder, [1], True, "")
    assert not index.start(cursor, "one")
    assert figures.figures(cursor)["claimed"] == 0
    numbers = "SELECT uidnext, modseq FROM portal_folders"
    assert not index.start(cursor, "one"), "only the process died"
    assert cursor.execute(numbers).fetchone() == (50, 5)
    assert index.start(cursor, "two")
    assert cursor.execute(numbers).fetchone() == (100_050, 100_005)
    index.stop(cursor)
    assert not index.start(cursor, "three")
    assert cursor.execute(numbers).fetchone() == (100_050, 100_005)


def test_a_folder_that_goes(cursor: Cursor) -> None:
    """Would catch what a removed folder held counted on against the quota, found by a folder that gets its place, or taken from another one."""
    one, two, three = made(cursor, 1, "INBOX", "A", "B")
    add(cursor, one, stored(1, 7))
    add(cursor, two, stored(1, 10), stored(2, 20))
    index.keep(cursor, 1, two, [(1, kept(b"t", b"h"))])
    add(cursor, three, stored(3, 40))
    assert figures.usage(cursor, 1) == (4, 77)
    assert index.drop_folders(cursor, [two, three]) == (3, 70)
    assert figures.usage(cursor, 1) == (1, 7)
    assert figures.usage(cursor, 2) == (0, 0)
    assert (index.trees(cursor, two, [1]), index.heads(cursor, two, [1])) == ([], [])
    assert index.drop_folders(cursor, []) == (0, 0)


# -- messages


def test_what_is_loaded_is_what_was_stored(cursor: Cursor) -> None:
    """Would catch a folder that is another one after a restart: its numbers, flags, dates, what is claimed, what nobody was told of."""
    [folder] = made(cursor)
    add(cursor, folder, stored(2, 20), stored(1, 10))
    index.claim(cursor, folder, [2], True, "refused")
    index.store(cursor, 1, 1, [Change(folder, 51, 6, 2, changed=[Entry(1, 6, frozenset({"\\Flagged"}), 10, 1.5, "b1")])])
    found = index.box(cursor, 1)
    assert found is not None
    snapshot = index.load(cursor, found[1][0])
    assert (snapshot.uidnext, snapshot.modseq, snapshot.recent_from, snapshot.recent) == (51, 6, 2, 1)
    assert list(snapshot.entries) == [1, 2]
    assert (snapshot.entries[1].flags, snapshot.entries[1].modseq) == (frozenset({"\\Flagged"}), 6)
    two = snapshot.entries[2]
    assert (two.flags, two.size, two.date, two.name, two.saved) == (frozenset({"\\Seen", "$x"}), 20, 1.5, "b2", 2.5)
    assert [snapshot.places[uid].bare for uid in (1, 2)] == [False, True]
    assert snapshot.claimed == {2}
    assert snapshot.size == 30
    assert snapshot.changes(6) == []
    assert index.notes(cursor, folder) == {2: "refused"}
    index.claim(cursor, folder, [2], False, "")
    assert index.notes(cursor, folder) == {}
    assert index.anything(cursor)


def test_a_folder_that_nobody_was_ever_told_of(cursor: Cursor) -> None:
    """Would catch a first UID of 0, which no message has, taken for the one that nobody was told of."""
    made(cursor)
    found = index.box(cursor, 1)
    assert found is not None
    snapshot = index.load(cursor, found[1][0])
    assert (snapshot.recent_from, snapshot.uidnext, snapshot.modseq) == (1, 1, 1)
    assert not index.anything(cursor)


def test_a_copy_has_what_its_source_has(cursor: Cursor) -> None:
    """Rule 24: would catch a copy that stays ninety days more for being moved, and structures and headers made anew for it; one of nothing keeps its own time."""
    one, two = made(cursor, 1, "INBOX", "A")
    add(cursor, one, stored(4, landed=7.0))
    index.keep_all(cursor, [(1, one, [(4, kept(b"tree", b"head"))])])
    add(cursor, two, stored(9, landed=99.0, source=(one, 4)), stored(10, landed=98.0), stored(11, landed=97.0, source=(one, 77)))
    landed = cursor.execute("SELECT landed FROM portal_messages WHERE folder = ? ORDER BY uid", (two,)).fetchall()
    assert landed == [(7.0,), (98.0,), (97.0,)]
    assert index.trees(cursor, two, [9, 10, 11]) == [(9, b"tree")]
    assert index.heads(cursor, two, [9, 10, 11]) == [(9, b"head")]


def test_what_is_kept_of_a_message(cursor: Cursor) -> None:
    """Would catch a header that is too long kept as an empty one, and what goes leaving its structure behind for the next of its number."""
    [folder] = made(cursor)
    add(cursor, folder, stored(1), stored(2))
    index.keep(cursor, 1, folder, [(1, kept(b"one", None))])
    index.keep(cursor, 1, folder, [(2, kept(b"two", b"head"))])
    index.keep(cursor, 1, folder, [(2, kept(b"other", b"other"))])
    index.keep(cursor, 1, folder, [])
    assert sorted(index.trees(cursor, folder, [1, 2, 3])) == [(1, b"one"), (2, b"two")]
    assert index.heads(cursor, folder, [1, 2, 3]) == [(2, b"head")]
    add(cursor, folder, gone=[Gone(2, 6, "b2")])
    assert index.trees(cursor, folder, [2]) == index.heads(cursor, folder, [2]) == []
    assert [uid for (uid,) in cursor.execute("SELECT uid FROM portal_messages").fetchall()] == [1]


def test_what_has_gone_is_remembered_within_bounds(cursor: Cursor) -> None:
    """RFC 7162: would catch a table of what went that grows for ever, one removal of which half is forgotten, and the newest forgotten instead of the oldest."""
    [folder] = made(cursor)
    for modseq in range(1, 32):
        add(cursor, folder, gone=[Gone(100 * modseq + number, modseq, "b") for number in range(100)])
    per = "SELECT modseq, count(*) FROM portal_gone GROUP BY modseq ORDER BY modseq"
    rows = cursor.execute(per).fetchall()
    assert rows == [(modseq, 100) for modseq in range(12, 32)]
    assert sum(count for _, count in rows) == GONE_KEPT
    add(cursor, folder, gone=[Gone(1, 33, "b")])
    assert cursor.execute(per).fetchall()[0] == (12, 100), "looked at now and then only"
    add(cursor, folder, gone=[Gone(2, 64, "b")])
    assert cursor.execute(per).fetchall() == [*rows, (33, 1), (64, 1)], (
        "of the one in the middle of which the bound lies all is kept"
    )
    found = index.box(cursor, 1)
    assert found is not None
    snapshot = index.load(cursor, found[1][0])
    assert (len(snapshot.gone), snapshot.gone[-1]) == (GONE_KEPT, Gone(2, 64, "b"))


# -- what was received


def test_what_was_received_is_known_for_a_time(cursor: Cursor) -> None:
    """Rule 11: would catch a row delivered twice after a crash, a mailbox of another that counts, and a table that grows for ever or is emptied in one turn."""
    cursor.executemany(
        "INSERT INTO portal_received (entry, mailbox, tenant, base, at) VALUES (?, 1, 1, ?, ?)",
        [(number, f"b{number}", float(number)) for number in range(1, 251)],
    )
    assert index.received(cursor, 7, 1) == "b7"
    assert index.received(cursor, 7, 2) == index.received(cursor, 999, 1) == ""
    assert index.forget_received(cursor, 241.0) == 200
    assert index.forget_received(cursor, 241.0) == 40
    assert index.forget_received(cursor, 241.0) == 0
    assert index.received(cursor, 241, 1) == "b241"


def test_who_is_nearly_full_is_remembered(cursor: Cursor) -> None:
    """Would catch a warning with each restart, and one that is never given again."""
    assert figures.near(cursor, 1) == (0.0, False)
    for since, told in ((5.25, False), (5.25, True), (0.0, False), (7.0, False)):
        figures.set_near(cursor, 1, since, told)
        assert figures.near(cursor, 1) == (since, told)
    assert figures.near(cursor, 2) == (0.0, False)
    assert index.token(cursor) == ""
    index.set_token(cursor, "abc")
    assert index.token(cursor) == "abc"


def test_what_is_there_for_long(cursor: Cursor) -> None:
    """Rule 24: would catch mail that goes a moment early, while it is handed over, or out of another mailbox; and figures that are not the sums."""
    one, two = made(cursor, 1, "INBOX", "A")
    [other] = made(cursor, 2)
    add(cursor, one, stored(1, 10, landed=5.0), stored(2, 20, landed=6.0), stored(3, 30, landed=4.0))
    add(cursor, two, stored(1, 40, landed=5.0, base="deep"))
    add(cursor, other, stored(1, 80, landed=1.0), mailbox=2)
    index.claim(cursor, one, [3], True, "")
    assert figures.aged(cursor, 1, 5.0) == [("A", "deep"), ("INBOX", "b1")]
    assert figures.figures(cursor) == {
        "mailboxes": 2, "messages": 5, "bytes": 180, "inbox_messages": 4, "inbox_bytes": 140, "claimed": 1,
    }  # fmt: skip


# -- how full it is


def test_how_full() -> None:
    """RFC 9208: would catch a message refused that just fits, one taken that does not, and a warning at another share than nine tenths, or twice."""
    counted = Counted(7, lambda: Quota(1000, 10))
    counted.grew(8, 890)
    counted.admit(2, 110)
    for messages, size in ((3, 0), (0, 111)):
        with pytest.raises(FolderError) as caught:
            counted.admit(messages, size)
        assert caught.value.code == "OVERQUOTA"
    counted.grew(1, 10)
    assert not counted.turned(50.0)
    assert counted.news is None
    counted.grew(0, 1)
    assert counted.turned(51.0)
    assert counted.news == QuotaNear(7, 901, 9, 51.0)
    assert not counted.turned(52.0)
    counted.told = True
    assert counted.news is None
    counted.grew(-1, -1)
    assert counted.turned(53.0)
    assert (counted.since, counted.told, counted.news) == (0.0, False, None)
    counted.grew(2, 0)
    assert counted.turned(54.0), "by messages"
    assert (counted.since, counted.news is not None) == (54.0, True)


def test_the_envelope_of_a_row_beyond_its_message() -> None:
    """Rule 9: would catch a recipient who was given later, whose copy is never written for an error of ours; or one that gets another's notices."""
    mail = message(b"x", 1, "a@example.test", "b@example.test")
    for number, wanted in ((0, "a@example.test"), (1, "b@example.test"), (2, "c@example.test"), (-1, "c@example.test")):
        one = row(1, "" if wanted != "c@example.test" else "c@example.test", number)
        kept = envelope.read(envelope.write(mail, one, "box@example.test", uncertain=False))
        assert kept is not None
        assert [recipient.address for recipient in kept.envelope.recipients] == [wanted]
