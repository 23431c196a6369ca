"""Sets of row IDs and mappings from them in order, and the live rows by what is asked of them. No I/O."""

from __future__ import annotations

import bisect
import heapq
from array import array
from collections.abc import Callable, Collection, Iterator, MutableSequence, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar, overload

from hornetmail.core.delivery.queued import DONE, RowKind, RowState
from hornetmail.core.mail.address import domain_of
from hornetmail.spool.disk.journal import LiveRow

_PIECE = 1024
T = TypeVar("T")


class Ordered:
    """A set of IDs, ascending, at 8 to 16 bytes each. Adding and removing cost the same at a hundred and at a million (``tests/cost``)."""

    __slots__ = ("_last", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[array[int]] = []
        self._last: list[int] = []
        self.size = 0

    def add(self, number: int) -> None:
        """One more; one that is there already is there once."""
        at = bisect.bisect_left(self._last, number)
        if at == len(self._last):
            if not at or len(self._pieces[-1]) >= _PIECE:
                self._pieces.append(array("q", (number,)))
                self._last.append(number)
            else:
                self._pieces[-1].append(number)
                self._last[-1] = number
            self.size += 1
            return
        piece = self._pieces[at]
        place = bisect.bisect_left(piece, number)
        if piece[place] == number:
            return
        piece.insert(place, number)
        self.size += 1
        if len(piece) > 2 * _PIECE:
            self._pieces[at : at + 1] = [piece[:_PIECE], piece[_PIECE:]]
            self._last.insert(at, piece[_PIECE - 1])

    def remove(self, number: int) -> None:
        """One less, if it is there."""
        at = bisect.bisect_left(self._last, number)
        if at == len(self._last):
            return
        piece = self._pieces[at]
        place = bisect.bisect_left(piece, number)
        if piece[place] != number:
            return
        del piece[place]
        self.size -= 1
        if not piece:
            del self._pieces[at], self._last[at]
        elif place == len(piece):
            self._last[at] = piece[-1]

    def after(self, number: int) -> Iterator[int]:
        """Those greater, ascending. The set must not change meanwhile."""
        at = bisect.bisect_right(self._last, number)
        for piece in islice(self._pieces, at, None):
            yield from islice(piece, bisect.bisect_right(piece, number), None)

    @property
    def first(self) -> int:
        """The smallest, 0 if there is none."""
        return self._pieces[0][0] if self._pieces else 0

    @property
    def newest(self) -> int:
        """The greatest, 0 if there is none."""
        return self._last[-1] if self._last else 0


class Strings(MutableSequence[bytes]):
    """A few hundred strings one behind the other, at 4 bytes each besides their own. Python's collector has nothing to look at: it would visit each
    of a million strings in a list, which takes it a tenth of a second."""

    __slots__ = ("_data", "_lengths")

    def __init__(self) -> None:
        self._data = bytearray()
        self._lengths = array("I")

    def _start(self, place: int) -> int:
        return len(self._data) if place == len(self._lengths) else sum(self._lengths[:place])

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for length in self._lengths:
            yield bytes(self._data[start : start + length])
            start += length

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        """Places from the front, and slices."""
        if isinstance(place, slice):
            return list(self)[place]
        start = self._start(place)
        return bytes(self._data[start : start + self._lengths[place]])

    def __setitem__(self, place: Any, value: Any) -> None:
        """One place."""
        start = self._start(place)
        self._data[start : start + self._lengths[place]] = value
        self._lengths[place] = len(value)

    def __delitem__(self, place: int | slice) -> None:
        """One place, or a slice from one on."""
        first = place.start if isinstance(place, slice) else place
        start = self._start(first)
        del self._data[start : None if isinstance(place, slice) else start + self._lengths[first]]
        del self._lengths[place]

    def insert(self, place: int, value: bytes) -> None:
        """Before what is there."""
        start = self._start(place)
        self._data[start:start] = value
        self._lengths.insert(place, len(value))

    def append(self, value: bytes) -> None:
        """At the end."""
        self._data += value
        self._lengths.append(len(value))


class Keyed(Ordered, Generic[T]):
    """A mapping from IDs, ascending, that grows and shrinks in pieces as its keys do. ``fresh()``: an empty sequence for values, of which a piece has ``most``
    to begin with."""

    __slots__ = ("_fresh", "_most", "_values")

    def __init__(self, fresh: Callable[[], MutableSequence[T]], most: int = 0) -> None:
        super().__init__()
        self._most = most or _PIECE
        self._fresh = fresh
        self._values: list[MutableSequence[T]] = []

    def put(self, number: int, value: T) -> None:
        """The value of an ID from now on."""
        at = bisect.bisect_left(self._last, number)
        if at == len(self._last):
            if not at or len(self._pieces[-1]) >= self._most:
                self._pieces.append(array("q"))
                self._values.append(self._fresh())
                self._last.append(number)
            self._pieces[-1].append(number)
            self._values[-1].append(value)
            self._last[-1] = number
            self.size += 1
            return
        piece, values = self._pieces[at], self._values[at]
        place = bisect.bisect_left(piece, number)
        if piece[place] == number:
            values[place] = value
            return
        piece.insert(place, number)
        values.insert(place, value)
        self.size += 1
        if len(piece) > 2 * self._most:
            rest = self._fresh()
            rest.extend(values[self._most :])
            del values[self._most :]
            self._values.insert(at + 1, rest)
            self._pieces[at : at + 1] = [piece[: self._most], piece[self._most :]]
            self._last.insert(at, piece[self._most - 1])

    def get(self, number: int) -> T | None:
        """Its value, None if there is none."""
        at = bisect.bisect_left(self._last, number)
        if at == len(self._last):
            return None
        place = bisect.bisect_left(self._pieces[at], number)
        return self._values[at][place] if self._pieces[at][place] == number else None

    def pop(self, number: int) -> T | None:
        """Its value, which goes; None if there is none."""
        at = bisect.bisect_left(self._last, number)
        if at == len(self._last):
            return None
        piece, values = self._pieces[at], self._values[at]
        place = bisect.bisect_left(piece, number)
        if piece[place] != number:
            return None
        value = values[place]
        del piece[place], values[place]
        self.size -= 1
        if not piece:
            del self._pieces[at], self._values[at], self._last[at]
        elif place == len(piece):
            self._last[at] = piece[-1]
        return value

    def items(self) -> Iterator[tuple[int, T]]:
        """All, ascending. It must not change meanwhile."""
        for piece, values in zip(self._pieces, self._values, strict=True):
            yield from zip(piece, values, strict=True)


class RowIndex:
    """The live rows by ID, domain, mailbox, and kind with state. ``domain`` is the message's; a recipient's own counts too."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing is live."""
        self.all: Keyed[int] = Keyed(lambda: array("q"))
        """By ID: the message of a row."""
        self._domains: dict[str, Ordered] = {}
        self._mailboxes: dict[int, Ordered] = {}
        self._states = {(kind, state): Ordered() for kind in RowKind for state in RowState}

    def add(self, row: LiveRow, domain: str) -> None:
        """A row is live."""
        self.all.put(row.id, row.message)
        for name in _names(row, domain):
            if name not in self._domains:
                self._domains[name] = Ordered()
            self._domains[name].add(row.id)
        if row.portal is not None:
            self._mailboxes.setdefault(row.portal.mailbox, Ordered()).add(row.id)
        self._states[row.kind, row.state].add(row.id)

    def remove(self, row: LiveRow, domain: str) -> None:
        """It has left."""
        self.all.pop(row.id)
        for name in _names(row, domain):
            rows = self._domains.get(name)
            if rows is not None:
                rows.remove(row.id)
                if not rows.size:
                    del self._domains[name]
        if row.portal is not None and row.portal.mailbox in self._mailboxes:
            rows = self._mailboxes[row.portal.mailbox]
            rows.remove(row.id)
            if not rows.size:
                del self._mailboxes[row.portal.mailbox]
        self._states[row.kind, row.state].remove(row.id)

    def set(self, row: LiveRow, state: RowState) -> None:
        """A row changes its state; ``row.state`` is the new one on return."""
        if state is not row.state:
            self._states[row.kind, row.state].remove(row.id)
            self._states[row.kind, state].add(row.id)
            row.state = state

    def of(self, kind: RowKind, state: RowState) -> Ordered:
        """Those of a kind in a state."""
        return self._states[kind, state]

    def opened(self, kind: RowKind) -> int:
        """How many of a kind are not done."""
        return sum(self._states[kind, state].size for state in RowState if state not in DONE)

    def among(
        self, domain: str = "", states: Collection[RowState] = (), kinds: Collection[RowKind] = (), mailbox: int = 0
    ) -> Sequence[Ordered]:
        """The sets of which each row that is asked for is in one; the fewest rows that one index can say."""
        found: list[Sequence[Ordered]] = [(self.all,)]
        if domain:
            found.append((self._domains[domain],) if domain in self._domains else ())
        if mailbox:
            found.append((self._mailboxes[mailbox],) if mailbox in self._mailboxes else ())
        if states or kinds:
            found.append([self._states[kind, state] for kind in (set(kinds) or RowKind) for state in (set(states) or RowState)])
        return min(found, key=lambda sets: sum(one.size for one in sets))


def after(sets: Sequence[Ordered], number: int) -> Iterator[int]:
    """What is greater in sets that have nothing in common, ascending."""
    return sets[0].after(number) if len(sets) == 1 else heapq.merge(*(one.after(number) for one in sets if one.size))


def _names(row: LiveRow, domain: str) -> tuple[str, ...]:
    if not row.address or row.address.endswith("@" + domain):
        return (domain,)
    own = domain_of(row.address)
    return (domain,) if own == domain else (domain, own)
