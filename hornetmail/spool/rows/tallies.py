"""What each tenant has in the queue, in figures (rule 25). No I/O."""

from __future__ import annotations

from collections import Counter

from hornetmail.core.delivery.queued import DONE, RowKind, RowState
from hornetmail.spool.disk.journal import LiveRow
from hornetmail.spool.rows.ordered import Ordered


class Tally:
    """Of one tenant. ``opened``: rows that are not done; ``held``: of these, held ones; ``delivering``: the IDs of deliveries among them."""

    __slots__ = ("delivering", "held", "messages", "opened")

    def __init__(self) -> None:
        self.messages = 0
        self.opened: Counter[RowKind] = Counter()
        self.held = 0
        self.delivering = Ordered()


class Tallies:
    """By tenant; a tenant that has nothing takes nothing."""

    def __init__(self) -> None:
        self._tenants: dict[int, Tally] = {}

    def clear(self) -> None:
        """Nothing is live."""
        self._tenants.clear()

    def of(self, tenant: int) -> Tally:
        """One tenant's, to look at."""
        return self._tenants.get(tenant) or Tally()

    def came(self, tenant: int) -> None:
        """A message is live; its rows are added after it."""
        self._tenants.setdefault(tenant, Tally()).messages += 1

    def left(self, tenant: int) -> None:
        """It has left; its rows were removed before it."""
        tally = self._tenants[tenant]
        tally.messages -= 1
        if not tally.messages:
            del self._tenants[tenant]

    def add(self, tenant: int, row: LiveRow) -> None:
        """A row of a live message is live."""
        self._count(self._tenants[tenant], row, row.state, 1)

    def remove(self, tenant: int, row: LiveRow) -> None:
        """It has left."""
        self._count(self._tenants[tenant], row, row.state, -1)

    def change(self, tenant: int, row: LiveRow, state: RowState) -> None:
        """A row gets another state, and has its old one yet."""
        if state is not row.state:
            tally = self._tenants[tenant]
            self._count(tally, row, row.state, -1)
            self._count(tally, row, state, 1)

    def _count(self, tally: Tally, row: LiveRow, state: RowState, one: int) -> None:
        if state in DONE:
            return
        tally.opened[row.kind] += one
        if state is RowState.HELD:
            tally.held += one
        if row.kind is RowKind.DELIVER:
            (tally.delivering.add if one > 0 else tally.delivering.remove)(row.id)
