"""The live messages, in memory: what the journal's records come to, one after the other. No I/O.

All transitions go through ``apply``, at run time and at replay alike. Rules that are the queue's own are here: the archive row that
becomes due with the first delivery (design, step 5) and is removed if there is none (A20), and when a message leaves.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from hornetmail.core.address import domain_of
from hornetmail.core.envelope import Direction
from hornetmail.core.queued import DONE, Backlog, Message, RowKind, RowState, WaitsFor
from hornetmail.disk.records import Position
from hornetmail.interfaces import IShare
from hornetmail.spool.journal import (
    Adopted,
    Changed,
    Claimed,
    Kind,
    LiveRow,
    Record,
    Remembered,
    SettledRows,
    Snapshot,
    Where,
)

REQUESTS = "spool.requests"
"""The space of facts that keeps requests of messages that have left, so that a repeated one is not a second message."""

_messages = msgspec.msgpack.Decoder(Message)
_encode = msgspec.msgpack.Encoder().encode


class Entry(msgspec.Struct, gc=False):
    """A live message. ``meta`` is the Message, encoded once it is older. ``place`` and ``stored``: its newest snapshot in the journal."""

    id: int
    meta: Message | bytes
    rows: tuple[LiveRow, ...]
    place: Position
    stored: int
    where: Where
    file: int
    domain: str
    outgoing: bool
    request: str
    indexed: bool = False

    @property
    def message(self) -> Message:
        meta = self.meta
        return meta if isinstance(meta, Message) else _messages.decode(meta)

    def pack(self) -> bytes:
        """Keep only the encoded form from now on, and answer it."""
        if isinstance(self.meta, Message):
            self.meta = _encode(self.meta)
        return self.meta

    @property
    def needs_body(self) -> bool:
        """A deliver or archive row is not done. Drain rows live on without: the portal has a copy."""
        return any(row.kind is not RowKind.DRAIN and row.state not in DONE for row in self.rows)


class Live:
    """``gone(entry)`` is told, once ``start`` was called, of bodies that nobody needs any more."""

    def __init__(self, gone: Callable[[Entry], None]) -> None:
        self.messages: dict[int, Entry] = {}
        self.rows: dict[int, LiveRow] = {}
        self.busy: set[int] = set()
        self.requests: dict[str, int] = {}
        self.facts: dict[str, dict[str, bytes]] = {}
        self.fact_places: dict[tuple[str, str], Position] = {}
        self.dirty: dict[int, tuple[Position, float]] = {}
        self.dirty_facts: dict[tuple[str, str], Position] = {}
        self.segment_bytes: dict[int, int] = {}
        self.became_due = False
        self._tell_gone = gone
        self._replaying = True
        self._heaps: dict[RowKind, list[tuple[float, int]]] = {kind: [] for kind in RowKind}
        self._aside: dict[str, list[tuple[float, int]]] = {}
        self._order: list[int] = []
        self._open: dict[RowKind, int] = dict.fromkeys(RowKind, 0)
        self._held = 0
        self._undelivered: dict[int, None] = {}
        self._started = 0.0

    # What is asked

    def backlog(self, now: float) -> Backlog:
        """Figures."""
        oldest = 0.0
        first = next(iter(self._undelivered), None)
        if first is not None:
            oldest = max(0.0, now - min(row.queued for row in self.messages[first].rows if row.kind is RowKind.DELIVER))
        opened = self._open
        return Backlog(
            len(self.messages), opened[RowKind.DELIVER], opened[RowKind.DRAIN], opened[RowKind.ARCHIVE], self._held, oldest
        )

    def next_due(self) -> float | None:
        """When the next row is due, from the tops of the heaps."""
        tops = [heap[0][0] for heap in self._heaps.values() if heap]
        return min(tops, default=None)

    def due(
        self, now: float, limit: int, kinds: Collection[RowKind], share: IShare | None = None, passes: int = 2000
    ) -> tuple[list[LiveRow], bool]:
        """Take up to ``limit`` due rows, oldest due first, with all that is due of the same message and kind, and of destinations that have
        room. They are the caller's to claim. True: there may be more behind ``passes`` rows that were passed over."""
        heaps = [self._heaps[kind] for kind in (kinds or RowKind)]
        taken: list[LiveRow] = []
        used: dict[str, int] = {}
        if share is not None:
            self._back(share, limit)
        while len(taken) < limit and passes > 0:
            heap = min((heap for heap in heaps if heap), key=lambda heap: heap[0], default=None)
            if heap is None or heap[0][0] > now:
                break
            due, number = heapq.heappop(heap)
            row = self.rows.get(number)
            if row is None or row.state is not RowState.QUEUED or row.due != due or number in self.busy:
                continue
            entry = self.messages[row.message]
            goals: dict[str, bool] = {}
            if share is not None and not self._fits(share, entry, row, used, goals):
                heapq.heappush(self._aside.setdefault(share.destination(entry.domain, row.address), []), (due, number))
                passes -= 1
                continue
            for other in entry.rows:
                ripe = other.state is RowState.QUEUED and other.due <= now and other.id not in self.busy
                if other.kind is row.kind and ripe and (share is None or self._fits(share, entry, other, used, goals)):
                    taken.append(other)
                    self.busy.add(other.id)
            for goal in [goal for goal, fits in goals.items() if fits]:
                used[goal] = used.get(goal, 0) + 1
        return taken, passes <= 0

    def _fits(self, share: IShare, entry: Entry, row: LiveRow, used: dict[str, int], goals: dict[str, bool]) -> bool:
        """Whether a row's destination has room for its message; asked once a message, whose recipients there stay together."""
        goal = share.destination(entry.domain, row.address)
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
                due, number = heapq.heappop(aside)
                row = self.rows.get(number)
                if row is not None and row.state is RowState.QUEUED and row.due == due:
                    heapq.heappush(self._heaps[row.kind], (due, number))
                    messages.add(row.message)
            if not aside:
                del self._aside[goal]

    def after(self, row: int) -> Iterator[LiveRow]:
        """Rows with a greater ID, in order."""
        if len(self._order) > 2 * len(self.rows) + 1000:
            self._order = sorted(self.rows)
        order = self._order
        for place in range(bisect.bisect_right(order, row), len(order)):
            found = self.rows.get(order[place])
            if found is not None:
                yield found

    def deferred(self, domain: str) -> list[int]:
        """Rows to deliver for a domain's recipients that wait for a later attempt (L4)."""
        found = []
        for entry in self.messages.values():
            if entry.outgoing:
                continue
            for row in entry.rows:
                if row.kind is not RowKind.DELIVER or row.state is not RowState.QUEUED or row.id in self.busy:
                    continue
                if entry.domain == domain or domain_of(row.address) == domain:
                    found.append(row.id)
        return found

    def uptime(self, row: LiveRow, now: float) -> float:
        """``worked`` as it is now: uptime counts while a row waits for its turn or is tried, not while it is parked or held (rule 5)."""
        if row.state in (RowState.PARKED, RowState.HELD, RowState.STUCK):
            return row.worked
        return row.worked + max(0.0, now - max(row.mark, self._started))

    # What happens

    def start(self, now: float) -> list[LiveRow]:
        """Replay is over. Rows that were claimed at death are queued at their recorded time; they are answered as they were, and again
        after a further death until they are settled."""
        self._started = now
        self._replaying = False
        self.became_due = False
        claimed = []
        for row in self.rows.values():
            if row.interrupted and row.state is RowState.QUEUED:
                claimed.append(msgspec.structs.replace(row, state=RowState.CLAIMED))
            elif row.state is RowState.CLAIMED:
                claimed.append(msgspec.structs.replace(row))
                row.interrupted = True
                self._set(row, RowState.QUEUED)
                self.push(row)
        return claimed

    def apply(self, kind: int, record: Record, place: Position, size: int, now: float) -> None:
        """One record of the journal, in order. Records about what is gone or done change nothing."""
        if isinstance(record, Snapshot):
            if kind == Kind.KEPT and record.message.id in self.messages:
                self._moved(record, place, size, now)
            else:
                self._accept(record, place, size, now)
        elif isinstance(record, Claimed):
            for claim in record.rows:
                row = self._touch(claim.row, place, now)
                if row is not None:
                    row.attempts, row.due, row.worked, row.mark = claim.attempts, claim.due, claim.worked, record.at
                    self._set(row, RowState.CLAIMED)
        elif isinstance(record, SettledRows):
            self._settle(record, place, now)
        elif isinstance(record, Changed):
            for number, worked in zip(record.rows, record.worked, strict=True):
                row = self._touch(number, place, now)
                if row is not None:
                    row.worked, row.mark = worked, record.at
                    row.due, row.reason, row.waits_for = record.due, record.reason, WaitsFor.NOTHING
                    self._set(row, record.state)
                    self._after(row, record.at, place)
        elif isinstance(record, Adopted):
            for number in record.rows:
                row = self._touch(number, place, now)
                if row is not None and row.state is RowState.QUEUED:
                    row.due = record.at
                    self.push(row)
        elif isinstance(record, Remembered):
            self.remember(record.space, record.key, record.value, place)

    def remember(self, space: str, key: str, value: bytes | None, place: Position) -> None:
        """A fact."""
        if value is None:
            self.facts.get(space, {}).pop(key, None)
            self.fact_places.pop((space, key), None)
        else:
            self.facts.setdefault(space, {})[key] = value
            self.fact_places[space, key] = place
        self.dirty_facts.setdefault((space, key), place)

    def load(self, entry: Entry) -> None:
        """An entry of the index, before the replay of what came after its checkpoint."""
        self._add(entry)

    def push(self, row: LiveRow) -> None:
        """A row is queued for ``row.due``."""
        heapq.heappush(self._heaps[row.kind], (row.due, row.id))
        self.became_due = True

    def release(self, rows: Iterable[int]) -> None:
        """A transition came to nothing: its rows are as they were."""
        for number in rows:
            self.busy.discard(number)
            row = self.rows.get(number)
            if row is not None and row.state is RowState.QUEUED:
                self.push(row)

    def packed(self) -> None:
        """Forget heap entries that mean nothing any more, when they are the most."""
        for kind, heap in self._heaps.items():
            if len(heap) > 4 * self._open[kind] + 1000:
                fresh = [(row.due, row.id) for row in self.rows.values() if row.kind is kind and row.state is RowState.QUEUED]
                heapq.heapify(fresh)
                self._heaps[kind] = fresh

    def _add(self, entry: Entry) -> None:
        self.messages[entry.id] = entry
        self.segment_bytes[entry.place.segment] = self.segment_bytes.get(entry.place.segment, 0) + entry.stored
        if entry.request:
            self.requests[entry.request] = entry.id
        for row in entry.rows:
            self._add_row(row)

    def _add_row(self, row: LiveRow) -> None:
        self.rows[row.id] = row
        order = self._order
        if not order or row.id > order[-1]:
            order.append(row.id)
        else:
            place = bisect.bisect_left(order, row.id)
            if order[place] != row.id:
                order.insert(place, row.id)
        if row.state not in DONE:
            if row.kind is RowKind.DELIVER:
                self._undelivered[row.message] = None
            self._open[row.kind] += 1
            self._held += row.state is RowState.HELD
            if row.state is RowState.QUEUED:
                self.push(row)

    def _forget(self, entry: Entry) -> None:
        del self.messages[entry.id]
        self._undelivered.pop(entry.id, None)
        self._unplace(entry)
        if entry.request:
            self.requests.pop(entry.request, None)
        for row in entry.rows:
            if row.state not in DONE:
                self._set(row, RowState.REMOVED)
            del self.rows[row.id]
            self.busy.discard(row.id)

    def _unplace(self, entry: Entry) -> None:
        left = self.segment_bytes[entry.place.segment] - entry.stored
        if left:
            self.segment_bytes[entry.place.segment] = left
        else:
            del self.segment_bytes[entry.place.segment]

    def _accept(self, record: Snapshot, place: Position, size: int, now: float) -> None:
        message = record.message
        old = self.messages.get(message.id)
        if old is not None:
            self._forget(old)
        entry = Entry(
            message.id, message, tuple(record.rows), place, size, record.where, record.file, message.domain,
            message.direction is Direction.OUT, message.request, indexed=old is not None and old.indexed,
        )  # fmt: skip
        self._add(entry)
        self.dirty.setdefault(message.id, (place, now))

    def _moved(self, record: Snapshot, place: Position, size: int, now: float) -> None:
        entry = self.messages[record.message.id]
        self._unplace(entry)
        entry.place, entry.stored, entry.where = place, size, record.where
        self.segment_bytes[place.segment] = self.segment_bytes.get(place.segment, 0) + size
        self.dirty.setdefault(entry.id, (place, now))

    def _touch(self, number: int, place: Position, now: float) -> LiveRow | None:
        """A row that is to change, or None if it is done or gone."""
        self.busy.discard(number)
        row = self.rows.get(number)
        if row is None or row.state in DONE:
            return None
        self.dirty.setdefault(row.message, (place, now))
        return row

    def _settle(self, record: SettledRows, place: Position, now: float) -> None:
        for one in record.rows:
            row = self._touch(one.row, place, now)
            if row is None:
                continue
            row.due, row.worked, row.reason, row.mark = one.due, one.worked, one.reason, record.at
            row.delay_told = row.delay_told or one.delay_told
            row.last = one.last or row.last
            row.waits_for, row.staged = one.waits_for, one.staged or row.staged
            row.interrupted = False
            self._set(row, one.state)
            entry = self.messages[row.message]
            if one.born and one.portal is not None and one.born not in self.rows:
                born = LiveRow(
                    one.born, row.message, RowKind.DRAIN, one.drain_state, row.address, row.number, one.drain_due,
                    queued=record.at, portal=one.portal, reason=one.drain_reason, mark=record.at,
                )  # fmt: skip
                entry.rows = (*entry.rows, born)
                self._add_row(born)
                self._wake_archive(entry, RowState.QUEUED, record.at)
            self._after(row, record.at, place)

    def _set(self, row: LiveRow, state: RowState) -> None:
        old, row.state = row.state, state
        if old is not state:
            self._held += (state is RowState.HELD) - (old is RowState.HELD)
            self._open[row.kind] += (state not in DONE) - (old not in DONE)
            if state in DONE and row.kind is RowKind.DELIVER and row.message in self._undelivered:
                entry = self.messages[row.message]
                if all(other.state in DONE for other in entry.rows if other.kind is RowKind.DELIVER):
                    del self._undelivered[row.message]
        if state is RowState.QUEUED:
            self.push(row)

    def _after(self, row: LiveRow, at: float, place: Position) -> None:
        """What follows from a row's new state: for the archive row, for the body, for the message."""
        entry = self.messages[row.message]
        if row.kind is RowKind.DELIVER:
            delivering = [other for other in entry.rows if other.kind is RowKind.DELIVER]
            if row.state is RowState.DELIVERED:
                self._wake_archive(entry, RowState.QUEUED, at)
            elif all(other.state in DONE for other in delivering) and not any(
                other.state is RowState.DELIVERED for other in delivering
            ):
                self._wake_archive(entry, RowState.REMOVED, 0.0)
        if row.state not in DONE:
            return
        if all(other.state in DONE for other in entry.rows):
            self._leave(entry, place, at)
        elif entry.where is not Where.NOWHERE and not entry.needs_body:
            self._gone(entry)
            entry.where = Where.NOWHERE if entry.where is Where.FILE else entry.where

    def _wake_archive(self, entry: Entry, state: RowState, due: float) -> None:
        for row in entry.rows:
            if row.kind is RowKind.ARCHIVE and row.state is RowState.WAITING:
                row.due = due
                self._set(row, state)

    def _gone(self, entry: Entry) -> None:
        if not self._replaying:
            self._tell_gone(entry)

    def _leave(self, entry: Entry, place: Position, now: float) -> None:
        if entry.request:
            self.remember(REQUESTS, entry.request, _encode((now, entry.message)), place)
        self._gone(entry)
        self._forget(entry)
        since = self.dirty.get(entry.id)
        if not entry.indexed:
            self.dirty.pop(entry.id, None)
        elif since is None:
            self.dirty[entry.id] = (place, now)


def request_fact(value: bytes) -> tuple[float, Message]:
    """When a message with a request left, and the message."""
    return msgspec.msgpack.decode(value, type=tuple[float, Message])
