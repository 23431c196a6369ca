"""The live messages, in memory: what the journal's records come to, one after the other. No I/O.

All transitions go through ``apply``, at run time and at replay alike. Rules that are the queue's own are here: the archive row that
becomes due with the first delivery (design, step 5) and is removed if there is none (A20), and when a message leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from hornetmail.core.delivery.queued import DONE, Backlog, Message, Portal, RowKind, RowState, WaitsFor
from hornetmail.core.mail.envelope import Direction
from hornetmail.disk.records import Position
from hornetmail.interfaces.queue import IShare
from hornetmail.spool.disk.journal import (
    Adopted,
    Changed,
    Claimed,
    Kind,
    LiveRow,
    Reclaimed,
    Record,
    Remembered,
    SettledRows,
    Snapshot,
    Where,
)
from hornetmail.spool.rows.dues import Dues
from hornetmail.spool.rows.entries import Entries, Rows
from hornetmail.spool.rows.entry import Entry
from hornetmail.spool.rows.ordered import Ordered, RowIndex
from hornetmail.spool.rows.tallies import Tallies
from hornetmail.spool.rows.turns import Turn, Turns

REQUESTS = "spool.requests"
"""The space of facts that keeps requests of messages that have left, so that a repeated one is not a second message."""

UPTIME = "spool.uptime"
"""The space of one fact: the seconds that the service has been up in all its lives, as they were a minute ago at most."""

WALL = 1e9
"""Marks from here on are wall-clock times of versions that counted by them; 31 years of uptime are not reached."""

_encode = msgspec.msgpack.Encoder().encode

_NEAR = 1 << 20
"""Bytes of the journal of which a replay does not say more exactly where a message changed first."""


class Live:
    """``gone(entry)`` is told, once ``start`` was called, of bodies that nobody needs any more. ``monotonic``: seconds of a clock that only
    goes forward while the service runs, from anywhere. ``unpacked``: messages that are kept as they are worked with; ``messages`` packs the others
    (``cool``), so that nobody keeps a row or an entry from one turn of the reactor to another unless it has a turn of it."""

    def __init__(self, gone: Callable[[Entry], None], monotonic: Callable[[], float], unpacked: int = 20_000) -> None:
        self.turns = Turns()
        self.index = RowIndex()
        self.tallies = Tallies()
        self.messages = Entries(unpacked, self.turns)
        self.rows = Rows(self.messages, self.index)
        self.dues = Dues(self.rows, self.turns, lambda message: self.messages[message].domain)
        self.requests: dict[str, int] = {}
        self.facts: dict[str, dict[str, bytes]] = {}
        self.fact_places: dict[tuple[str, str], Position] = {}
        self.dirty: dict[int, tuple[Position, float]] = {}
        self.dirty_facts: dict[tuple[str, str], Position] = {}
        self.segment_bytes: dict[int, int] = {}
        self.in_segment: dict[int, Ordered] = {}
        """By segment of their newest snapshot: messages, and the bytes that they take there."""
        self._interrupted: set[int] = set()
        """While it replays: rows of which a start before had found that a death had cut off their attempt."""
        self._since: tuple[Position, float] = (Position(0, 0), 0.0)
        self._tell_gone = gone
        self._monotonic = monotonic
        self._replaying = True
        self._up = 0.0
        self._began = 0.0

    def clear(self) -> None:
        """Before a replay: forget what an index said that is not to be believed."""
        for part in (
            self.messages,
            self.index,
            self.tallies,
            self.dues,
            self.requests,
            self.segment_bytes,
            self.in_segment,
            self._interrupted,
        ):
            part.clear()
        for kept in (self.facts, self.fact_places, self.dirty, self.dirty_facts):
            kept.clear()
        self._up = 0.0

    # What is asked

    def up(self) -> float:
        """Seconds that the service has been up in all its lives (rule 5). Suspend, NTP and hands do not move it."""
        return self._up if self._replaying else self._up + (self._monotonic() - self._began)

    def worked(self, row: LiveRow) -> float:
        """``row.worked`` as it is now: uptime counts while a row waits for its turn or is tried, not while it is parked or held (rule 5)."""
        if row.state in (RowState.PARKED, RowState.HELD, RowState.STUCK):
            return row.worked
        since = self._up if row.mark >= WALL else row.mark
        return row.worked + max(0.0, self.up() - since)

    def backlog(self, now: float, tenant: int = 0) -> Backlog:
        """Figures, of all or of a tenant."""
        if tenant:
            tally = self.tallies.of(tenant)
            delivering = tally.delivering
            drain, archive = tally.opened[RowKind.DRAIN], tally.opened[RowKind.ARCHIVE]
            return Backlog(tally.messages, delivering.size, drain, archive, tally.held, self._age(delivering.first, now))
        index = self.index
        deliver = [index.of(RowKind.DELIVER, state) for state in RowState if state not in DONE]
        return Backlog(
            len(self.messages),
            sum(rows.size for rows in deliver),
            index.opened(RowKind.DRAIN),
            index.opened(RowKind.ARCHIVE),
            sum(index.of(kind, RowState.HELD).size for kind in RowKind),
            self._age(min((rows.first for rows in deliver if rows.size), default=0), now),
        )

    def _age(self, row: int, now: float) -> float:
        return max(0.0, now - self.rows[row].queued) if row else 0.0

    def due(
        self, now: float, limit: int, kinds: Collection[RowKind], share: IShare | None = None, passes: int = 1000
    ) -> tuple[list[LiveRow], bool]:
        """See ``Dues.pop``."""

        def together(row: LiveRow) -> Iterable[LiveRow]:
            turns = self.turns
            return [other for other in self.messages[row.message].rows if other.kind is row.kind and other.id not in turns]

        return self.dues.pop(now, limit, kinds, together, share, passes)

    def adoptable(self, row: LiveRow) -> bool:
        """Whether a row waits for a later attempt to deliver to somebody of a served domain (L4)."""
        return row.kind is RowKind.DELIVER and row.state is RowState.QUEUED and not self.messages[row.message].outgoing

    def in_files(self) -> dict[int, int]:
        """The messages whose bodies are in files, by those. Looks at all messages: for a thread, at start."""
        found = {}
        for number in self.messages.in_files():
            entry = self.messages[number]
            if entry.where is Where.FILE and entry.needs_body:
                found[entry.file] = number
            self.messages.cool()
        return found

    # What happens

    def start(self) -> list[LiveRow]:
        """Replay is over. Rows that were claimed at death are queued at their recorded time; they are answered as they were, and again
        after a further death until they are settled."""
        self._replaying = self.messages.bare = False
        self._began = self._monotonic()
        claimed = [number for kind in RowKind for number in self.index.of(kind, RowState.CLAIMED).after(0)]
        found = []
        for number in sorted({*claimed, *self._interrupted}):
            row = self.rows.get(number)
            if row is None or row.state not in (RowState.CLAIMED, RowState.QUEUED) or not (row.interrupted or number in claimed):
                continue
            found.append(msgspec.structs.replace(row, state=RowState.CLAIMED))
            if row.state is RowState.CLAIMED:
                row.interrupted = True
                self._set(row, RowState.QUEUED, row.due)
        self._interrupted.clear()
        return found

    def clamp(self, row: LiveRow, now: float, longest: float) -> None:
        """Due within ``longest`` seconds, spread over the second half of them. Not recorded: a start does the same."""
        self._set(row, row.state, now + longest * (128 + row.id % 128) / 256)

    def put_off(self, row: LiveRow, due: float) -> None:
        """It cannot be tried before that. Not recorded."""
        self._set(row, row.state, due)

    def apply(self, kind: int, record: Record, place: Position, size: int) -> None:
        """One record of the journal, in order. Records about what is gone or done change nothing."""
        now = self.up()
        touched: dict[int, None] = {}
        if isinstance(record, Snapshot):
            if kind == Kind.KEPT and record.message.id in self.messages:
                self._moved(record, place, size, now)
            else:
                self._accept(record, place, size, now)
        elif isinstance(record, Claimed):
            for claim in record.rows:
                row = self._touch(claim.row, place, now)
                if row is not None:
                    row.attempts, row.worked, row.mark = claim.attempts, claim.worked, now
                    self._set(row, RowState.CLAIMED, claim.due)
        elif isinstance(record, SettledRows):
            self._settle(record, place, now)
        elif isinstance(record, Changed):
            for number, worked in zip(record.rows, record.worked, strict=True):
                row = self._touch(number, place, now)
                if row is not None:
                    row.worked, row.mark = worked, now
                    row.reason = record.reason
                    if row.waits_for is not WaitsFor.NOTICE:
                        row.waits_for = WaitsFor.NOTHING
                    self._set(row, record.state, record.due)
                    touched[row.message] = None
            self._after(touched, record.at, place)
        elif isinstance(record, Adopted):
            for number in record.rows:
                row = self._touch(number, place, now)
                if row is not None and row.state is RowState.QUEUED:
                    self._set(row, RowState.QUEUED, record.at)
        elif isinstance(record, Reclaimed):
            for number, worked in zip(record.rows, record.worked, strict=True):
                row = self._touch(number, place, now)
                if row is not None and row.state is RowState.CLAIMED:
                    row.worked, row.mark, row.interrupted = worked, now, True
                    if self._replaying:
                        self._interrupted.add(number)
                    self._set(row, RowState.QUEUED, row.due)
        elif isinstance(record, Remembered):
            self.remember(record.space, record.key, record.value, place)

    def remember(self, space: str, key: str, value: bytes | None, place: Position) -> None:
        """A fact."""
        if space == UPTIME and value is not None and self._replaying:
            self._up = max(self._up, float(value))
        if value is None:
            self.facts.get(space, {}).pop(key, None)
            self.fact_places.pop((space, key), None)
        else:
            self.facts.setdefault(space, {})[key] = value
            self.fact_places[space, key] = place
        self.dirty_facts.setdefault((space, key), place)

    def load_fact(self, space: str, key: str, value: bytes, place: Position) -> None:
        """A fact of the index, before the replay of what came after its checkpoint."""
        self.remember(space, key, value, place)
        del self.dirty_facts[space, key]

    def load(self, entry: Entry) -> None:
        """An entry of the index, before the replay of what came after its checkpoint."""
        self._add(entry)
        self.messages.cool()

    def end(self, turn: Turn, *, failed: bool = False) -> None:
        """A transition is over. ``failed``: its rows are as they were, and due as they were."""
        rows, missed = turn.rows, self.dues.missed
        self.turns.end(turn)
        for number in rows:
            if failed or number in missed:
                missed.discard(number)
                row = self.rows.get(number)
                if row is not None and row.state is RowState.QUEUED:
                    self.dues.push(row)

    def _add(self, entry: Entry) -> None:
        self.messages.add(entry)
        self._place(entry)
        if entry.request:
            self.requests[entry.request] = entry.id
        self.tallies.came(entry.tenant)
        for row in entry.rows:
            self._add_row(row, entry)

    def _add_row(self, row: LiveRow, entry: Entry) -> None:
        self.messages.rows[row.id] = row
        self.index.add(row, entry.domain)
        self.tallies.add(entry.tenant, row)
        if row.interrupted and self._replaying:
            self._interrupted.add(row.id)
        if row.state is RowState.QUEUED:
            self.dues.push(row)

    def _forget(self, entry: Entry) -> None:
        self.messages.remove(entry)
        self._unplace(entry)
        if entry.request:
            self.requests.pop(entry.request, None)
        for row in entry.rows:
            self.index.remove(row, entry.domain)
            self.tallies.remove(entry.tenant, row)
            if row.state is RowState.QUEUED:
                self.dues.drop(row)
        self.tallies.left(entry.tenant)

    def _place(self, entry: Entry) -> None:
        segment = entry.segment
        self.segment_bytes[segment] = self.segment_bytes.get(segment, 0) + entry.stored
        if segment not in self.in_segment:
            self.in_segment[segment] = Ordered()
        self.in_segment[segment].add(entry.id)

    def _unplace(self, entry: Entry) -> None:
        segment = entry.segment
        self.segment_bytes[segment] -= entry.stored
        self.in_segment[segment].remove(entry.id)
        if not self.in_segment[segment].size:
            del self.segment_bytes[segment], self.in_segment[segment]

    def _accept(self, record: Snapshot, place: Position, size: int, now: float) -> None:
        message = record.message
        old = self.messages.get(message.id)
        if old is not None:
            self._forget(old)
        entry = Entry(
            message.id, message.tenant, message, tuple(record.rows), *place, size, record.where, record.file, message.domain,
            message.direction is Direction.OUT, message.request, indexed=old is not None and old.indexed,
        )  # fmt: skip
        self._add(entry)
        self._changed(message.id, place, now)

    def _moved(self, record: Snapshot, place: Position, size: int, now: float) -> None:
        entry = self.messages[record.message.id]
        self._unplace(entry)
        (entry.segment, entry.offset), entry.stored, entry.where = place, size, record.where
        self._place(entry)
        self._changed(entry.id, place, now)

    def _touch(self, number: int, place: Position, now: float) -> LiveRow | None:
        """A row that is to change, or None if it is done or gone."""
        row = self.rows.get(number)
        if row is None or row.state in DONE:
            return None
        self._changed(row.message, place, now)
        return row

    def _changed(self, message: int, place: Position, now: float) -> None:
        """The index is to hear of it. A replay without an index changes all there is: those near each other share what is kept of that."""
        if message in self.dirty:
            return
        if self._replaying:
            near, _ = self._since
            if near.segment != place.segment or not 0 <= place.offset - near.offset < _NEAR:
                self._since = (place, now)
            self.dirty[message] = self._since
        else:
            self.dirty[message] = (place, now)

    def _settle(self, record: SettledRows, place: Position, now: float) -> None:
        touched: dict[int, None] = {}
        for one in record.rows:
            row = self._touch(one.row, place, now)
            if row is None:
                continue
            row.worked, row.reason, row.mark = one.worked, one.reason, now
            row.delay_told = row.delay_told or one.delay_told
            row.last = one.last or row.last
            row.waits_for, row.staged = one.waits_for, one.staged or row.staged
            row.unheard = max(row.unheard, one.unheard)
            row.interrupted = False
            self._set(row, one.state, one.due)
            entry = self.messages[row.message]
            if one.born and one.portal is not None and not self._has(entry, one.portal):
                born = LiveRow(
                    one.born, row.message, RowKind.DRAIN, one.drain_state, row.address, row.number, one.drain_due,
                    waits_for=one.drain_waits_for,
                    queued=record.at, portal=one.portal, reason=one.drain_reason, mark=now, unheard=row.unheard,
                )  # fmt: skip
                entry.rows = (*entry.rows, born)
                self._add_row(born, entry)
                self._wake_archive(entry, RowState.QUEUED, record.at)
            touched[row.message] = None
        self._after(touched, record.at, place)

    def _has(self, entry: Entry, copy: Portal) -> bool:
        """Whether a drain row for that copy was born already: the index may be ahead of a replay, and a settlement may be asked for twice."""
        return any(
            row.portal is not None and (row.portal.mailbox, row.portal.name) == (copy.mailbox, copy.name) for row in entry.rows
        )

    def _set(self, row: LiveRow, state: RowState, due: float) -> None:
        """The one way in which a row gets another state, or another time."""
        if row.state is RowState.QUEUED:
            self.dues.drop(row)
        if state is not row.state:
            self.tallies.change(self.messages[row.message].tenant, row, state)
        self.index.set(row, state)
        row.due = due
        if state is RowState.QUEUED:
            self.dues.push(row)

    def _after(self, messages: Iterable[int], at: float, place: Position) -> None:
        """What follows from rows' new states: for the archive rows, for the bodies, for the messages. Once a message, however many of its
        recipients there are."""
        for message in messages:
            entry = self.messages[message]
            delivering = [row.state for row in entry.rows if row.kind is RowKind.DELIVER]
            if RowState.DELIVERED in delivering:
                self._wake_archive(entry, RowState.QUEUED, at)
            elif delivering and all(state in DONE for state in delivering):
                self._wake_archive(entry, RowState.REMOVED, 0.0)
            if all(row.state in DONE for row in entry.rows):
                self._leave(entry, place)
            elif entry.where in (Where.RECORD, Where.FILE) and not entry.needs_body:
                self._gone(entry)
                entry.where = Where.NOWHERE if entry.where is Where.FILE else entry.where

    def _wake_archive(self, entry: Entry, state: RowState, due: float) -> None:
        for row in entry.rows:
            if row.kind is RowKind.ARCHIVE and row.state is RowState.WAITING:
                self._set(row, state, due)

    def _gone(self, entry: Entry) -> None:
        if not self._replaying:
            self._tell_gone(entry)

    def _leave(self, entry: Entry, place: Position) -> None:
        if entry.request and entry.meta is not None:
            self.remember(REQUESTS, entry.request, _encode((self.up(), entry.message)), place)
        self._gone(entry)
        self._forget(entry)
        if not entry.indexed:
            self.dirty.pop(entry.id, None)  # an index that has it hears that it left: it stays among those that were touched


def request_fact(value: bytes) -> tuple[float, Message]:
    """When a message with a request left, in seconds of uptime, and the message."""
    return msgspec.msgpack.decode(value, type=tuple[float, Message])
