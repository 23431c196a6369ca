"""The queued rows of the live messages by the time they are due, one heap a kind. No I/O."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Container, Iterable, Mapping

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.interfaces.queue import IShare
from hornetmail.spool.disk.journal import LiveRow

Due = tuple[float, int]
_PRUNED = 1000


class Dues:
    """``rows``: the live ones; ``busy``: those that take part in a transition. ``domain_of`` answers the domain of a message."""

    def __init__(self, rows: Mapping[int, LiveRow], busy: Container[int], domain_of: Callable[[int], str]) -> None:
        self.sooner = False
        """A row became the next of its kind to be due, since somebody last took this back."""
        self.missed: set[int] = set()
        """Rows whose time was passed over because of their transition; its end puts those back that are still queued."""
        self._rows = rows
        self._busy = busy
        self._domain_of = domain_of
        self._heaps: dict[RowKind, list[Due]] = {kind: [] for kind in RowKind}
        self._aside: dict[str, list[Due]] = {}

    def push(self, row: LiveRow) -> None:
        """A row is queued for ``row.due``."""
        heap = self._heaps[row.kind]
        due = (row.due, row.id)
        heapq.heappush(heap, due)
        if heap[0] is due:
            self.sooner = True

    def next(self, kinds: Collection[RowKind] = ()) -> float | None:
        """When the next row of these kinds is due. Looks at some entries only that mean nothing any more (20,000 rows may just have been held): it
        may then be too early, and whoever asks again comes nearer."""
        earliest: float | None = None
        for kind in kinds or RowKind:
            heap = self._heaps[kind]
            for _ in range(_PRUNED):
                if not heap or not self._stale(heap[0]):
                    break
                heapq.heappop(heap)
            if heap and (earliest is None or heap[0][0] < earliest):
                earliest = heap[0][0]
        return earliest

    def _stale(self, due: Due) -> bool:
        """The row is gone, queued for another time, or about to change."""
        row = self._rows.get(due[1])
        if row is None or row.state is not RowState.QUEUED or row.due != due[0]:
            return True
        if due[1] in self._busy:
            self.missed.add(due[1])
            return True
        return False

    def pop(
        self,
        now: float,
        limit: int,
        kinds: Collection[RowKind],
        together: Callable[[LiveRow], Iterable[LiveRow]],
        share: IShare | None = None,
        passes: int = 2000,
    ) -> tuple[list[LiveRow], bool]:
        """Take up to ``limit`` due rows, oldest due first, with all that is due of the same message and kind (``together``), and of
        destinations that have room. The caller begins their transition before it asks again. True: there may be more behind ``passes`` rows
        that were passed over."""
        heaps = [self._heaps[kind] for kind in (kinds or RowKind)]
        taken: dict[int, LiveRow] = {}
        used: dict[str, int] = {}
        if share is not None:
            self._back(share, limit)
        while len(taken) < limit and passes > 0:
            heap = min((heap for heap in heaps if heap), key=lambda heap: heap[0], default=None)
            if heap is None or heap[0][0] > now:
                break
            due = heapq.heappop(heap)
            if self._stale(due) or due[1] in taken:
                passes -= 1
                continue
            row = self._rows[due[1]]
            goals: dict[str, bool] = {}
            if share is not None and not self._fits(share, row, used, goals):
                goal = share.destination(self._domain_of(row.message), row.address)
                heapq.heappush(self._aside.setdefault(goal, []), due)
                passes -= 1
                continue
            for other in together(row):
                ripe = other.state is RowState.QUEUED and other.due <= now and other.id not in taken
                if ripe and (share is None or self._fits(share, other, used, goals)):
                    taken[other.id] = other
            for goal in [goal for goal, fits in goals.items() if fits]:
                used[goal] = used.get(goal, 0) + 1
        return list(taken.values()), passes <= 0

    def _fits(self, share: IShare, row: LiveRow, used: dict[str, int], goals: dict[str, bool]) -> bool:
        """Whether a row's destination has room for its message; asked once a message, whose recipients there stay together."""
        goal = share.destination(self._domain_of(row.message), row.address)
        if goal not in goals:
            goals[goal] = share.room(goal, used) > 0
        return goals[goal]

    def _back(self, share: IShare, limit: int) -> None:
        """Rows that were set aside, as many as their destinations have room for again."""
        for goal in list(self._aside):
            aside = self._aside[goal]
            room = min(limit, share.room(goal))
            messages: set[int] = set()
            while aside and len(messages) < room:
                due = heapq.heappop(aside)
                if not self._stale(due):
                    row = self._rows[due[1]]
                    heapq.heappush(self._heaps[row.kind], due)
                    messages.add(row.message)
            if not aside:
                del self._aside[goal]

    def overgrown(self, opened: dict[RowKind, int]) -> list[Due]:
        """The entries of kinds of which most mean nothing any more, if ``opened`` rows of each are not done. They are forgotten with the
        answer; ``put`` gives back those that mean something, in as many turns of the reactor as it takes."""
        found: list[Due] = []
        for kind, heap in self._heaps.items():
            if len(heap) > 4 * opened[kind] + 1000:
                found += heap
                self._heaps[kind] = []
        return found

    def put(self, entries: Iterable[Due]) -> None:
        """Take entries back, but for those that mean nothing."""
        for due in entries:
            if not self._stale(due):
                self.push(self._rows[due[1]])
