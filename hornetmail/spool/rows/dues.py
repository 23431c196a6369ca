"""The queued rows of the live messages by the time they are due, one set a kind. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.interfaces.queue import IShare
from hornetmail.spool.disk.journal import LiveRow
from hornetmail.spool.rows.bytime import ByTime

_LOOKED_AT = 1000


class Dues:
    """A row is here exactly while it is queued, but for those that a claim took or set aside, and those in ``missed``. ``rows``: the live ones;
    ``busy``: those that take part in a transition. ``domain_of`` answers the domain of a message."""

    def __init__(self, rows: Mapping[int, LiveRow], busy: Container[int], domain_of: Callable[[int], str]) -> None:
        self._rows = rows
        self._busy = busy
        self._domain_of = domain_of
        self.clear()

    def clear(self) -> None:
        """Nothing is queued."""
        self.sooner = False
        """A row became the next of its kind to be due, since somebody last took this back."""
        self.missed: set[int] = set()
        """Rows whose time was passed over because of their transition; its end puts those back that are still queued."""
        self._sets = {kind: ByTime() for kind in RowKind}
        self._aside: dict[str, ByTime] = {}

    def push(self, row: LiveRow) -> None:
        """A row is queued for ``row.due``."""
        if self._sets[row.kind].add(row.due, row.id):
            self.sooner = True

    def drop(self, row: LiveRow) -> None:
        """It is not any more."""
        self._sets[row.kind].discard(row.due, row.id)

    def later_than(self, time: float, kind: RowKind) -> Iterator[int]:
        """Rows of a kind that are due after that. Nothing may change meanwhile."""
        return self._sets[kind].after(time)

    def next(self, kinds: Collection[RowKind] = ()) -> float | None:
        """When the next row of these kinds is due. Passes over some only that are about to change: it may then be too early, and whoever asks
        again comes nearer."""
        earliest: float | None = None
        for kind in kinds or RowKind:
            queued = self._sets[kind]
            for _ in range(_LOOKED_AT):
                if queued.first is None or queued.first[1] not in self._busy:
                    break
                self.missed.add(queued.pop()[1])
            if queued.first is not None and (earliest is None or queued.first[0] < earliest):
                earliest = queued.first[0]
        return earliest

    def _queued(self, due: float, number: int) -> LiveRow | None:
        """The row, if it is still queued for that time, and not about to change."""
        row = self._rows.get(number)
        if row is None or row.state is not RowState.QUEUED or row.due != due:
            return None
        if number in self._busy:
            self.missed.add(number)
            return None
        return row

    def pop(
        self,
        now: float,
        limit: int,
        kinds: Collection[RowKind],
        together: Callable[[LiveRow], Iterable[LiveRow]],
        share: IShare | None = None,
        passes: int = 1000,
    ) -> tuple[list[LiveRow], bool]:
        """Take up to ``limit`` due rows, oldest due first, with all that is due of the same message and kind (``together``), and of
        destinations that have room. The caller begins their transition before it asks again. True: there may be more behind ``passes`` rows
        that were passed over."""
        sets = [self._sets[kind] for kind in (kinds or RowKind)]
        taken: dict[int, LiveRow] = {}
        used: dict[str, int] = {}
        cut = share is not None and self._back(share, limit)
        while len(taken) < limit and passes > 0:
            first, queued = min(
                ((one.first, one) for one in sets if one.first is not None), key=lambda one: one[0], default=(None, None)
            )
            if first is None or queued is None or first[0] > now:
                break
            queued.pop()
            row = self._queued(*first)
            if row is None:
                passes -= 1
                continue
            goals: dict[str, bool] = {}
            if share is not None and not self._fits(share, row, used, goals):
                goal = share.destination(self._domain_of(row.message), row.address)
                if goal not in self._aside:
                    self._aside[goal] = ByTime()
                self._aside[goal].add(*first)
                passes -= 1
                continue
            for other in together(row):
                ripe = other.state is RowState.QUEUED and other.due <= now and other.id not in taken
                if ripe and (share is None or self._fits(share, other, used, goals)):
                    taken[other.id] = other
                    if other is not row:
                        self.drop(other)
            for goal in [goal for goal, fits in goals.items() if fits]:
                used[goal] = used.get(goal, 0) + 1
        if share is not None and self._aside:
            # Also when all that came back found room: attempts that end before these begin would be the last that anybody hears of.
            share.kept_waiting()
        return list(taken.values()), cut or passes <= 0

    def _fits(self, share: IShare, row: LiveRow, used: dict[str, int], goals: dict[str, bool]) -> bool:
        """Whether a row's destination has room for its message; asked once a message, whose recipients there stay together."""
        goal = share.destination(self._domain_of(row.message), row.address)
        if goal not in goals:
            goals[goal] = share.room(goal, used) > 0
        return goals[goal]

    def _back(self, share: IShare, limit: int) -> bool:
        """Rows that were set aside, as many as their destinations have room for again. Whether there may be more, behind many that are not what
        they were."""
        cut = False
        for goal in list(self._aside):
            aside = self._aside[goal]
            room = min(limit, share.room(goal))
            messages: set[int] = set()
            for _ in range(_LOOKED_AT):
                if not aside.size or len(messages) >= room:
                    break
                row = self._queued(*aside.pop())
                if row is not None:
                    self._sets[row.kind].add(row.due, row.id)
                    messages.add(row.message)
            else:
                cut = True
            if not aside.size:
                del self._aside[goal]
        return cut
