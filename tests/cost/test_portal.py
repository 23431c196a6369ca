"""What a folder in memory is asked at each command costs what there is to tell, however large it is (rule 8d)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from hornetmail.core.folder import Entry, Sieve
from hornetmail.portal.maildir.snapshot import Gone, Place, Snapshot
from hornetmail.portal.maildir.stacks import Stacks, stacked
from hornetmail.portal.rows import index
from hornetmail.portal.rows.index import Change, Stored
from tests.cost.turns import MOST

MESSAGES = 3_000


class Walked(dict[int, Any]):
    """A folder's messages, which nobody may walk through."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("all messages of the folder are walked through")

    keys = values = items = __iter__  # type: ignore[assignment]


class Touched(list[Any]):
    """Counts what is looked at."""

    looked = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.looked += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("all changes are walked through")


def full(messages: int = MESSAGES) -> Snapshot:
    """A folder where each message came, and each tenth went."""
    snapshot = Snapshot(1, "INBOX", "", 7, messages + 1, 0)
    for uid in range(1, messages + 1):
        seen = frozenset({"\\Seen"}) if uid % 3 else frozenset()
        snapshot.put(Entry(uid, uid, seen, 100 + uid, 0.0, f"n{uid}"), Place(f"n{uid}", "cur", "", 0, False))
    for uid in range(10, messages + 1, 10):
        snapshot.remove(uid, snapshot.modseq + 1)
    return snapshot


def test_figures_are_not_counted_anew() -> None:
    """Would catch a STATUS, or a SELECT, that goes through the folder after each change; and totals that drift from what is there."""
    snapshot = full()
    snapshot.put(Entry(1, snapshot.modseq + 1, frozenset({"\\Seen"}), 101, 0.0, "n1"), snapshot.places[1])
    snapshot.put(Entry(3, snapshot.modseq + 1, frozenset({"\\Seen"}), 103, 0.0, "n3"), snapshot.places[3])
    entries = list(snapshot.entries.values())
    snapshot.entries = Walked(snapshot.entries)
    figures = snapshot.status()
    assert figures.messages == len(entries)
    assert figures.unseen == sum("\\Seen" not in entry.flags for entry in entries)
    assert figures.size == sum(entry.size for entry in entries)


def test_changes_cost_what_is_new() -> None:
    """Would catch the newest thousands of changes, and all that has gone, being walked through at each command that tells of one (issue: 18 % of a mixed
    load)."""
    snapshot = full()
    before = snapshot.modseq
    snapshot.put(Entry(5, before + 1, frozenset({"\\Flagged"}), 105, 0.0, "n5"), snapshot.places[5])
    snapshot.remove(7, before + 2)
    recent, gone = Touched(snapshot._recent), Touched(snapshot.gone)
    snapshot._recent, snapshot.gone, snapshot.entries = recent, gone, Walked(snapshot.entries)
    assert [(entry.uid, entry.gone) for entry in snapshot.changes(before)] == [(5, False), (7, True)]
    assert recent.looked < 20, recent.looked
    assert gone.looked < 20, gone.looked


class Statements:
    """A cursor that counts what it is told: each statement gives up the interpreter's lock and asks for it again, while the reactor waits."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        self.told.append(statement)

    def executemany(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        self.told += [statement] * len(values)

    def fetchone(self) -> None:
        return None


def statements(change: Change) -> int:
    cursor = Statements()
    index.store(cursor, 1, 1, [change])  # type: ignore[arg-type]
    return len(cursor.told)


def test_statements_of_a_change() -> None:
    """What one message that comes, is marked, and goes costs the thread that commits, for which all mailboxes wait. Would catch a table more that is written
    at once, and removals of what was never written."""
    entry = Entry(7, 3, frozenset(), 10, 0.0, "b")
    came = Stored(entry, Place("b", "new", "", 0, False))
    gone = [Gone(7, 3, "b")]
    assert statements(Change(1, 8, 3, 1, added=[came])) == 2
    assert statements(Change(1, 8, 3, 1, changed=[entry])) == 2
    assert statements(Change(1, 8, 3, 1, gone=gone, unwritten=True)) == 4
    assert statements(Change(1, 8, 3, 1, gone=gone)) <= 8


def test_texts_that_were_searched() -> None:
    """A text in memory costs a search 0.4 us of the processor where nothing is found. Would catch a look at each message alone (3 us), or a copy of each."""
    stacks = Stacks()
    text = b"the quick brown fox jumps over the lazy dog " * 40
    for first in range(1, 10_001, 500):
        stacks.put(1, stacked([(uid, b"subject: %d" % uid, text) for uid in range(first, first + 500)]))

    def judge(uid: int, headers: bytes, body: bytes) -> bool:
        raise AssertionError("a message is looked at alone")

    sieve = Sieve(judge, lambda headers, bodies: b"reklamation zylinder" in headers or b"reklamation zylinder" in bodies)

    def seconds() -> float:
        began = time.thread_time()
        assert sum(len(stack.sifted(sieve)) for stack in stacks.of(1)) == 10_000
        return time.thread_time() - began

    assert min(seconds() for _ in range(5)) / 10_000 < 2e-6 * (MOST / 0.050)
