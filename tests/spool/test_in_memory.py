"""What the queue keeps in memory, each by itself against the plainest thing that does the same: sets in order, rows by due time, turns."""

from __future__ import annotations

from array import array
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hornetmail.core.delivery.queued import Portal, RowKind, RowState
from hornetmail.spool.disk.journal import LiveRow
from hornetmail.spool.rows import bytime, ordered
from hornetmail.spool.rows.bytime import ByTime as TimedSet
from hornetmail.spool.rows.dues import Dues
from hornetmail.spool.rows.ordered import Keyed, Ordered, RowIndex, Strings, after
from hornetmail.spool.rows.turns import Turns

D, A, R = RowKind.DELIVER, RowKind.ARCHIVE, RowKind.DRAIN


def row(number: int, due: float = 0.0, kind: RowKind = D, state: RowState = RowState.QUEUED, **fields: Any) -> LiveRow:
    made = LiveRow(number, fields.pop("message", number), kind, state, fields.pop("address", "a@x.test"), 0, due)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Sets(SynchronousTestCase):
    """With pieces of four, so that few numbers make many."""

    def setUp(self) -> None:
        self.patch(ordered, "_PIECE", 4)
        self.patch(bytime, "_PIECE", 4)

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=150))
    def test_like_a_set(self, changes: list[tuple[bool, int]]) -> None:
        """Would catch a row that is not found any more, found twice, or counted wrongly, wherever pieces are split and emptied."""
        numbers, plain = Ordered(), set[int]()
        for added, number in changes:
            if added:
                numbers.add(number)
                plain.add(number)
            else:
                numbers.remove(number)
                plain.discard(number)
            assert numbers.size == len(plain)
            assert (numbers.first, numbers.newest) == (min(plain, default=0), max(plain, default=0))
            for start in (0, number - 1, number):
                assert list(numbers.after(start)) == sorted(each for each in plain if each > start)
            assert all(0 < len(piece) <= 8 for piece in numbers._pieces)
            assert numbers._last == [piece[-1] for piece in numbers._pieces]

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60), st.integers(0, 9)), max_size=150))
    def test_like_a_mapping(self, changes: list[tuple[int, int, int]]) -> None:
        """Would catch a value that is lost, or found under another key, wherever pieces are split and emptied."""
        self.mapped(Keyed(lambda: array("q")), changes)
        self.mapped(Keyed(Strings), [(removed, number, b"x" * value) for removed, number, value in changes])

    def mapped(self, keyed: Keyed[Any], changes: list[tuple[int, int, Any]]) -> None:
        plain: dict[int, Any] = {}
        for removed, number, value in changes:
            if removed:
                keyed.put(number, value)
                plain[number] = value
            else:
                assert keyed.pop(number) == plain.pop(number, None)
            assert keyed.size == len(plain)
            assert list(keyed.items()) == sorted(plain.items())
            assert list(keyed.after(number)) == sorted(each for each in plain if each > number)
            assert all(keyed.get(each) == plain.get(each) for each in range(62))

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 20)), max_size=150))
    def test_like_a_set_by_time(self, changes: list[tuple[int, int, int]]) -> None:
        """Would catch a row that is lost or stays among others of the same second, and a first one that is not told of."""
        times, plain = TimedSet(), set[tuple[float, int]]()
        for removed, second, number in changes:
            key = (float(second), number)
            if removed:
                first = key not in plain and key < min(plain, default=(99.0, 0))
                assert times.add(*key) is first
                plain.add(key)
            elif number % 5 == 0 and plain:
                assert times.pop() == min(plain)
                plain.remove(min(plain))
            else:
                times.discard(*key)
                plain.discard(key)
            assert times.size == len(plain)
            assert times.first == min(plain, default=None)
            for start in (-1.0, float(second)):
                assert list(times.after(start)) == [each for when, each in sorted(plain) if when > start]

    def test_ascending_numbers_fill_their_pieces(self) -> None:
        """IDs come in order: half-empty pieces would cost twice the memory."""
        numbers = Ordered()
        for number in range(1, 18):
            numbers.add(number)
        assert [len(piece) for piece in numbers._pieces] == [4, 4, 4, 4, 1]

    def test_rows_by_what_is_asked(self) -> None:
        """Would catch a recipient of another domain that is not found under it, a row that is found after it left, and a slow way chosen."""
        index = RowIndex()
        rows = [
            row(1),
            row(2, address="b@y.test"),
            row(3, kind=R, portal=Portal(7, "n")),
            row(4, address="", kind=A, state=RowState.WAITING),
            row(5, address="a@notx.test"),
            row(6, state=RowState.DELIVERED),
        ]
        for each in rows:
            index.add(each, "x.test")
        assert [list(one.after(0)) for one in index.among(domain="x.test")] == [[1, 2, 3, 4, 5, 6]]
        assert [list(one.after(0)) for one in index.among(domain="y.test")] == [[2]]
        assert [list(one.after(0)) for one in index.among(domain="notx.test")] == [[5]]
        assert [list(one.after(0)) for one in index.among(mailbox=7)] == [[3]]
        assert list(index.among(mailbox=8)) == list(index.among(domain="z.test")) == []
        assert list(after(index.among(states=(RowState.QUEUED,), kinds=(D, R)), 1)) == [2, 3, 5]
        assert list(after(index.among(states=(RowState.WAITING,)), 0)) == [4], "no others are looked at"
        assert list(after(index.among(kinds=(R,)), 0)) == [3]
        assert list(after(index.among(), 0)) == [1, 2, 3, 4, 5, 6]
        assert [index.opened(kind) for kind in (D, A, R)] == [3, 1, 1]
        index.set(rows[0], RowState.HELD)
        assert rows[0].state is RowState.HELD
        assert list(index.of(D, RowState.HELD).after(0)) == [1]
        assert list(index.of(D, RowState.QUEUED).after(0)) == [2, 5]
        for each in rows:
            index.remove(each, "x.test")
        assert index.all.size == 0
        assert not index._domains
        assert not index._mailboxes
        assert [index.opened(kind) for kind in RowKind] == [0, 0, 0]


class _Share:
    """So many messages a domain have room; a destination is the domain of the address."""

    def __init__(self, rooms: dict[str, int]) -> None:
        self.rooms = rooms
        self.waits = False

    def kept_waiting(self) -> None:
        self.waits = True

    def destination(self, domain: str, address: str) -> str:
        return address.partition("@")[2]

    def room(self, goal: str, used: dict[str, int] | None = None) -> int:
        return self.rooms.get(goal, 99) - (used or {}).get(goal, 0)


class ByTime(SynchronousTestCase):
    def setUp(self) -> None:
        self.rows: dict[int, LiveRow] = {}
        self.busy: set[int] = set()
        self.dues = Dues(self.rows, self.busy, lambda message: "x.test")

    def queue(self, *rows: LiveRow) -> None:
        for each in rows:
            self.rows[each.id] = each
            self.dues.push(each)

    def pop(self, now: float, limit: int = 99, *kinds: RowKind, share: Any = None, passes: int = 2000) -> tuple[list[int], bool]:
        def together(one: LiveRow) -> list[LiveRow]:
            return [each for each in self.rows.values() if (each.message, each.kind) == (one.message, one.kind)]

        found, more = self.dues.pop(now, limit, kinds, together, share, passes)
        for each in found:
            each.state = RowState.CLAIMED
        return [each.id for each in found], more

    def test_due_at_the_second(self) -> None:
        """Would catch a row taken before its time or left after it, the newer one first, and kinds that were not asked for."""
        self.queue(row(1, 20.0), row(2, 10.0), row(3, 5.0, R))
        assert self.dues.sooner
        assert (self.dues.next(), self.dues.next((D,)), self.dues.next((A,))) == (5.0, 10.0, None)
        assert self.pop(9.9, 99, D) == ([], False)
        assert self.pop(10.0, 99, D) == ([2], False)
        assert self.pop(99.0) == ([3, 1], False)
        assert self.dues.next() is None

    def test_who_is_told_of_a_sooner_one(self) -> None:
        """Would catch a scheduler that sleeps past the newest row, and one that is woken by each, or by none."""
        assert not self.dues.sooner
        self.queue(row(1, 20.0))
        self.dues.sooner = False
        self.queue(row(2, 30.0))
        assert not self.dues.sooner
        self.queue(row(3, 10.0))
        assert self.dues.sooner

    def test_recipients_of_a_message_go_together(self) -> None:
        """Would catch a message with a hundred recipients handed over a hundred times, or one of them that was not due yet."""
        self.queue(row(1, 1.0, message=7), row(2, 2.0, message=7), row(3, 9.0, message=7), row(4, 1.5), row(5, 1.0, A, message=7))
        assert self.pop(5.0, 1, D) == ([1, 2], False)
        assert self.pop(5.0, 1, D) == ([4], False)
        assert self.pop(9.0, 9, D) == ([3], False)

    def test_what_changed_meanwhile(self) -> None:
        """Would catch an attempt for a row that is held, gone, put off or in a transition; the last is given back at its end."""
        self.queue(row(1, 1.0), row(2, 1.0), row(3, 1.0), row(4, 1.0))
        self.rows[1].state = RowState.HELD
        del self.rows[2]
        self.rows[3].due = 50.0
        self.busy.add(4)
        assert self.pop(10.0) == ([], False)
        assert self.dues.missed == {4}
        self.dues.push(self.rows[4])
        assert self.dues.next() is None
        assert self.dues.missed == {4}

    def test_no_more_than_so_many_are_looked_at(self) -> None:
        """One look must not hold the reactor up: it says that there may be more."""
        self.queue(*(row(number, 1.0) for number in range(1, 5)))
        for number in (1, 2, 3):
            self.rows[number].state = RowState.HELD
        assert self.pop(10.0, passes=3) == ([], True)
        assert self.pop(10.0, passes=1) == ([4], False)

    def test_destinations_with_room(self) -> None:
        """Would catch a slow destination that takes all turns, and rows set aside that never come back."""
        share = _Share({"slow.test": 1})
        self.queue(*(row(number, number, address="a@slow.test") for number in (1, 2, 3)), row(4, 9.0))
        assert self.pop(10.0, share=share) == ([1, 4], False)
        share.rooms["slow.test"] = 0
        assert self.pop(10.0, share=share) == ([], False)
        share.rooms["slow.test"] = 2
        assert self.pop(10.0, 1, share=share) == ([2], False)
        assert self.pop(10.0, share=share) == ([3], False)
        assert self.dues._aside == {}

    def test_who_waits_for_room_is_told_of(self) -> None:
        """Would catch rows that nobody comes back for: what came back found exactly the room there was, so nothing was refused in that claim, others
        still waited, and the attempts that ended before it was recorded were the last. A burst to one primary came to rest with a part of it queued."""
        share = _Share({"slow.test": 0})
        self.queue(*(row(number, number, address="a@slow.test") for number in range(1, 6)))
        assert self.pop(10.0, share=share) == ([], False)
        share.rooms["slow.test"] = 2
        for left in (True, True, False):
            share.waits = False
            assert self.pop(10.0, share=share)[0]
            assert share.waits is left

    def test_nothing_is_left_of_what_was_put_off(self) -> None:
        """Would catch a set that grows with each back-off, and a row that is told of at a time that it had before."""
        self.queue(row(1, 1.0))
        for due in (3.0, 2.0, 5000.0):
            self.dues.drop(self.rows[1])
            self.rows[1].due = due
            self.dues.push(self.rows[1])
        assert self.dues._sets[D].size == 1
        assert self.dues.next() == 5000.0
        assert list(self.dues.later_than(4999.0, D)) == [1]
        assert list(self.dues.later_than(5000.0, D)) == []

    def test_rows_that_were_set_aside_and_are_not_what_they_were(self) -> None:
        """Would catch a look through thousands of them in one turn, and the ones behind them that then stay away."""
        share = _Share({"slow.test": 0})
        self.queue(*(row(number, 1.0, address="a@slow.test") for number in range(1, 1503)))
        while self.pop(10.0, share=share)[1]:
            pass
        for number in range(1, 1502):
            self.rows[number].state = RowState.HELD
        share.rooms["slow.test"] = 5
        assert self.pop(10.0, share=share) == ([], True)
        assert self.pop(10.0, share=share) == ([1502], False)


class InTurn(SynchronousTestCase):
    def test_one_after_the_other(self) -> None:
        """Would catch two transitions of a row at a time, two that wait for each other, and one that waits for good."""
        turns = Turns()
        first = turns.begin([1, 2, 1])
        assert first.rows == (1, 2)
        assert (1 in turns, 3 in turns, len(turns)) == (True, False, 2)
        second = Deferred.fromCoroutine(turns.take([2, 3]))
        third = Deferred.fromCoroutine(turns.take([3, 1]))
        self.assertNoResult(second)
        turns.end(first)
        got = self.successResultOf(second)
        self.assertNoResult(third)
        turns.end(got)
        last = self.successResultOf(third)
        assert last.ahead == 0
        turns.end(last)
        turns.end(last)
        assert len(turns) == 0
        assert not turns._after

    def test_who_leaves_the_line(self) -> None:
        """Would catch a cancelled wait that keeps its place, or takes another's."""
        turns = Turns()
        first = turns.begin([1])
        gone = Deferred.fromCoroutine(turns.take([1]))
        waits = Deferred.fromCoroutine(turns.take([1]))
        gone.addErrback(lambda failure: None)
        gone.cancel()
        turns.end(first)
        turns.end(self.successResultOf(waits))
        assert len(turns) == 0


class InPieces(SynchronousTestCase):
    def test_numbers_that_come_backwards(self) -> None:
        """Would catch a row that cannot be found, or told of, any more because it stands where its piece was split."""
        self.patch(bytime, "_PIECE", 4)
        keys = [(float(second), number) for second in range(9) for number in range(1, 9)]
        for first in range(len(keys)):
            times = TimedSet()
            for key in [*keys[first:], *reversed(keys[:first])]:
                times.add(*key)
            assert not any(times.add(*key) for key in keys)
            assert times.size == len(keys)
            assert times._last == [(seconds[-1], ids[-1]) for seconds, ids in zip(times._times, times._ids, strict=True)]
            assert [times.pop() for _ in keys] == keys
