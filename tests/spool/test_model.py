"""The journal against a model: any sequence of transitions, replayed from any checkpoint, ends the same."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import settings as sized
from hypothesis import strategies as st

from hornetmail.core.delivery.queued import DONE, Message, Portal, RowKind, RowState
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.disk.records import Position
from hornetmail.spool.disk.journal import (
    Adopted,
    Changed,
    Claimed,
    ClaimedRow,
    Kind,
    LiveRow,
    Record,
    Remembered,
    SettledRow,
    SettledRows,
    Snapshot,
    Where,
    body_of,
    decode,
    encode,
)
from hornetmail.spool.rows.index import entry_of, stored
from hornetmail.spool.rows.live import Live

AFTER = (RowState.QUEUED, RowState.PARKED, RowState.STUCK, RowState.DELIVERED, RowState.FAILED)
BY_HAND = (RowState.QUEUED, RowState.HELD, RowState.PARKED, RowState.REMOVED)
STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30), st.integers(0, 30)), max_size=40)


def fresh(unpacked: int = 20_000) -> Live:
    """Live messages whose clock stands still."""
    return Live(lambda entry: None, lambda: 0.0, unpacked)


def message_of(number: int, recipients: int, request: str) -> Message:
    """A message with that many recipients."""
    to = tuple(Recipient(f"u{n}@example.test") for n in range(recipients))
    origin = Origin(Door.MX)
    return Message(
        number, 1 + recipients % 2, Envelope("s@x.test", to), origin, Direction.IN, 1.0, 3, b"h", b"t", "example.test", request
    )


def history(steps: list[tuple[int, int, int]]) -> list[tuple[Kind, Record]]:
    """Transitions that the steps stand for, made the way the queue makes them: from the live state of that moment."""
    live = fresh()
    live.start()
    records: list[tuple[Kind, Record]] = []
    number = 100
    for step, (what, one, two) in enumerate(steps):
        at = float(step + 1)
        open_rows = [row for row in live.rows.values() if row.state not in DONE]
        row = open_rows[one % len(open_rows)] if open_rows else None
        record: tuple[Kind, Record]
        if what == 0 or row is None:
            number += 10
            message = message_of(number, 1 + one % 3, f"r{number}" if two % 4 == 0 else "")
            rows = [
                LiveRow(number + 1 + n, number, RowKind.DELIVER, RowState.QUEUED, f"u{n}@example.test", n, at)
                for n in range(1 + one % 3)
            ]
            if two % 2:
                rows.append(LiveRow(number + 5, number, RowKind.ARCHIVE, RowState.WAITING))
            record = Kind.ACCEPTED, Snapshot(message, rows, Where.RECORD)
        elif what == 1:
            record = Kind.CLAIMED, Claimed(at, [ClaimedRow(row.id, row.attempts + 1, at + 5, 0.0)])
        elif what in (2, 3):
            settled = SettledRow(row.id, AFTER[two % len(AFTER)], at + 9, 1.0, None, "why", False)
            if two % 3 == 0 and row.kind is RowKind.DELIVER:
                number += 10
                settled = SettledRow(
                    row.id, RowState.DELIVERED, 0.0, 1.0, None, "", False, number, Portal(1, "n"), RowState.PARKED
                )
            record = Kind.SETTLED, SettledRows(at, [settled])
        elif what == 4:
            record = Kind.CHANGED, Changed(at, [row.id], [live.worked(row)], BY_HAND[two % len(BY_HAND)], at, "by hand")
        elif what == 5:
            record = Kind.ADOPTED, Adopted(at, [row.id for row in open_rows if row.state is RowState.QUEUED])
        elif two % 2:
            entry = live.messages[row.message]
            record = (
                Kind.KEPT,
                msgspec.msgpack.decode(
                    msgspec.msgpack.encode(Snapshot(entry.message, list(entry.rows), Where.RECORD)), type=Snapshot
                ),
            )
        else:
            record = Kind.REMEMBERED, Remembered("space", f"key {one % 3}", None if two % 5 == 0 else bytes([two]))
        records.append(record)
        live.apply(record[0], decode(record[0], encode(record[1])), Position(1, step), 10)
    return records


def state_of(live: Live) -> object:
    """All that must agree."""
    rows = {number: msgspec.structs.replace(row, mark=0.0) for number, row in live.rows.items()}
    backlog = live.backlog(0.0)
    return (
        rows,
        {n: (e.domain, e.outgoing, e.request, e.where, e.place, e.stored) for n, e in live.messages.items()},
        live.facts.get("space", {}),
        live.requests,
        live.segment_bytes,
        backlog,
        [live.backlog(0.0, tenant) for tenant in (1, 2)],
    )


def applied(records: list[tuple[Kind, Record]], first: int, live: Live) -> Live:
    """Replay what comes from that record on."""
    for step in range(first, len(records)):
        kind, record = records[step]
        live.apply(kind, decode(kind, encode(record)), Position(1, step), 10)
        live.messages.cool()
    return live


@sized(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 40), st.integers(0, 40), st.integers(0, 4))
def test_any_checkpoint_converges(steps: list[tuple[int, int, int]], first: int, second: int, unpacked: int) -> None:
    """Would catch a transition that is not absolute: the index may be newer than its checkpoint, and replay goes over it again."""
    records = history(steps)
    checkpoint, ahead = sorted((min(first, len(records)), min(second, len(records))))
    whole = applied(records, 0, fresh())
    saved = applied(records[:ahead], 0, fresh(unpacked))
    resumed = fresh(unpacked)
    for entry in saved.messages.values():
        resumed.load(entry_of(stored(entry)))
    for (space, key), place in saved.fact_places.items():
        resumed.remember(space, key, saved.facts[space][key], place)
    applied(records, checkpoint, resumed)
    assert state_of(resumed) == state_of(whole)
    for number, entry in resumed.messages.items():
        assert entry.message in (whole.messages[number].message, None)
        assert entry.message is not None or not entry.request


def _counts(figure: str, row: LiveRow) -> bool:
    return row.state is RowState.HELD if figure == "held" else row.kind == figure


@sized(max_examples=100, deadline=None)
@given(STEPS)
def test_invariants(steps: list[tuple[int, int, int]]) -> None:
    """Would catch an archive row that wakes before a delivery or outlives the last failure, a message that stays when all is done, and
    figures that drift (A18, A20)."""
    live = applied(history(steps), 0, fresh())
    for entry in live.messages.values():
        assert any(row.state not in DONE for row in entry.rows)
        deliver = [row for row in entry.rows if row.kind is RowKind.DELIVER]
        delivered = any(row.state is RowState.DELIVERED for row in deliver)
        for row in entry.rows:
            if row.kind is RowKind.ARCHIVE and row.state is RowState.WAITING:
                assert not delivered
                assert not all(row.state in DONE for row in deliver)
    backlog = live.backlog(0.0)
    assert backlog.messages == len(live.messages)
    still = [row for row in live.rows.values() if row.state not in DONE]
    assert (backlog.deliver, backlog.archive, backlog.drain) == tuple(
        sum(row.kind is kind for row in still) for kind in (RowKind.DELIVER, RowKind.ARCHIVE, RowKind.DRAIN)
    )
    assert backlog.held == sum(row.state is RowState.HELD for row in still)
    shares = [live.backlog(0.0, tenant) for tenant in (1, 2, 3)]
    for figure in ("messages", "deliver", "drain", "archive", "held"):
        assert [getattr(share, figure) for share in shares] == [
            sum(live.messages[row.message].tenant == tenant for row in still if _counts(figure, row))
            if figure != "messages"
            else sum(entry.tenant == tenant for entry in live.messages.values())
            for tenant in (1, 2, 3)
        ]
    assert max((share.oldest for share in shares), default=0.0) == backlog.oldest
    live.start()
    due = live.due(1e10, 10_000, ())[0]
    assert {row.id for row in due} == {row.id for row in live.rows.values() if row.state is RowState.QUEUED}
    assert len(due) == len({row.id for row in due})


def test_a_body_lies_behind_its_record() -> None:
    """Would catch a body that is cut or grows by the record's own bytes."""
    record = Snapshot(message_of(1, 1, ""), [], Where.RECORD)
    payload = encode(record, (b"body ", b"bytes"))
    assert body_of(payload) == b"body bytes"
    assert decode(Kind.ACCEPTED, payload) == record
