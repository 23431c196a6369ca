"""The live messages: so many of them as they are worked with, the others packed. No I/O."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import islice

from hornetmail.core.delivery.queued import RowState
from hornetmail.spool.disk.journal import LiveRow
from hornetmail.spool.rows.entry import Entry
from hornetmail.spool.rows.ordered import Keyed, RowIndex, Strings
from hornetmail.spool.rows.packed import Shared, in_file, pack, unpack

_LEAST = 128
"""Messages that are too many before any is packed, or an eighth of those that may be left."""

_AT_A_TIME, _ROWS = 1_000, 2_000
"""Messages that are packed in one go, and their rows: 15 ms at most. A turn of the reactor unpacks half as many."""


class Entries(Mapping[int, Entry]):
    """By ID. Whoever asks for a packed message unpacks it: there is one object of a message at a time, and it stays the same until ``cool``, which leaves
    those alone that take part in a transition (``busy``) or are claimed. ``most``: messages that are left unpacked."""

    def __init__(self, most: int, busy: Container[int]) -> None:
        self.most = most
        self.bare = True
        """While it replays, which makes a million messages live that the index may not have: see ``pack``."""
        self._busy = busy
        self.clear()

    def clear(self) -> None:
        """There are none."""
        self._warm: dict[int, Entry] = {}
        self.rows: dict[int, LiveRow] = {}
        """Those of messages that are not packed."""
        self._packed: Keyed[bytes] = Keyed(Strings, 256)
        self._shared = Shared()

    def __getitem__(self, number: int) -> Entry:
        entry = self._warm.get(number)
        if entry is None:
            packed = self._packed.pop(number)
            if packed is None:
                raise KeyError(number)
            self._keep(entry := unpack(number, packed, self._shared))
        return entry

    def get(self, number: int, default: object = None) -> Entry | None:  # type: ignore[override]
        """It, None if it is not live."""
        try:
            return self._warm.get(number) or self[number]
        except KeyError:
            return None

    def __contains__(self, number: object) -> bool:
        return number in self._warm or (isinstance(number, int) and self._packed.get(number) is not None)

    def __len__(self) -> int:
        return len(self._warm) + self._packed.size

    def __iter__(self) -> Iterator[int]:
        """All, ascending, as they are now: for tests and small queues."""
        return iter(sorted([*self._warm, *self._packed.after(-1)]))

    @property
    def newest(self) -> int:
        """The greatest ID, 0 if there is none."""
        return max(max(self._warm, default=0), self._packed.newest)

    @property
    def packed(self) -> int:
        """How many are packed."""
        return self._packed.size

    def add(self, entry: Entry) -> None:
        """A message is live."""
        self._keep(entry)

    def remove(self, entry: Entry) -> None:
        """It has left."""
        del self._warm[entry.id]
        for row in entry.rows:
            self.rows.pop(row.id, None)

    def cool(self) -> None:
        """Pack some of those that were longest left as they are, if they are too many. Nobody who holds one may go on with it."""
        warm = self._warm
        excess = len(warm) - self.most
        if excess <= 0 or (excess < _LEAST and excess * 8 < self.most):
            return
        rows = 0
        for entry in list(islice(warm.values(), min(excess, _AT_A_TIME))):
            rows += len(entry.rows)
            if rows > _ROWS and rows > len(entry.rows):
                return
            del warm[entry.id]
            if any(row.state is RowState.CLAIMED or row.id in self._busy for row in entry.rows):
                warm[entry.id] = entry
                continue
            self._packed.put(entry.id, pack(entry, self._shared, self.bare))
            for row in entry.rows:
                del self.rows[row.id]

    def in_files(self) -> list[int]:
        """Messages whose bodies have files of their own. Looks at all of them: for a thread, while nothing changes."""
        found = [number for number, packed in self._packed.items() if in_file(packed)]
        return found + [entry.id for entry in self._warm.values() if entry.file]

    def _keep(self, entry: Entry) -> None:
        self._warm[entry.id] = entry
        for row in entry.rows:
            self.rows[row.id] = row


class Rows(Mapping[int, LiveRow]):
    """The live rows by ID."""

    def __init__(self, entries: Entries, index: RowIndex) -> None:
        self._entries = entries
        self._index = index

    def __getitem__(self, number: int) -> LiveRow:
        row = self._entries.rows.get(number)
        if row is None:
            owner = self._index.all.get(number)
            if owner is None:
                raise KeyError(number)
            self._entries[owner]
            row = self._entries.rows[number]
        return row

    def get(self, number: int, default: object = None) -> LiveRow | None:  # type: ignore[override]
        """It, None if it is not live."""
        try:
            return self._entries.rows.get(number) or self[number]
        except KeyError:
            return None

    def __len__(self) -> int:
        return self._index.all.size

    def __iter__(self) -> Iterator[int]:
        """All, ascending, as they are now: for tests and small queues."""
        return iter(list(self._index.all.after(-1)))
