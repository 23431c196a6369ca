"""When an uncertain copy may go home in normal mode (rule 1)."""

from __future__ import annotations

import msgspec
import pytest

from hornetmail.core.delivery import turn
from hornetmail.core.delivery.queued import Portal, Row, RowKind, RowState, WaitsFor
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.mail.reply import Reply

T = 1_800_000_000.0
STEP = 60.0
NO_REPLY = Verdict(Outcome.UNCERTAIN, Reply(421, "4.4.2"), "primary", Stage.DOT, unavailable=True)
REFUSED = Verdict(Outcome.DEFERRED, Reply(451, "4.4.1"), "primary", Stage.CONNECT, unavailable=True)
FULL = Verdict(Outcome.DEFERRED, Reply(452, "4.2.2", "mailbox full"), "primary", Stage.RCPT, unavailable=True)


def copy(number: int = 1, **fields: object) -> Row:
    row = Row(number, 1, RowKind.DRAIN, RowState.QUEUED, queued=T, portal=Portal(1, "name"))
    return msgspec.structs.replace(row, **fields)


def uncertain(number: int = 1, **fields: object) -> Row:
    return copy(number, **{"portal": Portal(1, "name", uncertain=True), **fields})


def ripe(rows: list[Row], answering: float, step: float, now: float) -> list[int]:
    turns = turn.Turns(answering, step, now)
    for row in rows:
        turns.add(row)
    return list(turns.ripe())


def test_what_is_uncertain() -> None:
    """Would catch a copy that the primary may have already and that is taken for one it has not: a double for a reader (rule 1)."""
    assert turn.is_uncertain(uncertain())
    assert turn.is_uncertain(copy(last=NO_REPLY))
    assert turn.is_uncertain(copy(portal=None, last=NO_REPLY))
    assert not turn.is_uncertain(copy())
    assert not turn.is_uncertain(copy(portal=None))
    assert not turn.is_uncertain(copy(last=REFUSED))


def test_only_the_first_hand_over_is_held_back() -> None:
    """Would catch a copy that is held back for good: once tried, the back-off alone says when."""
    assert turn.is_held_back(uncertain())
    assert not turn.is_held_back(uncertain(attempts=1))
    assert not turn.is_held_back(uncertain(state=RowState.STUCK))
    assert not turn.is_held_back(uncertain(kind=RowKind.DELIVER))
    assert not turn.is_held_back(copy())


def test_who_waits_out_a_back_off_for_the_primarys_sake() -> None:
    """Would catch copies that wait an hour though the primary is back, and ones that are tried over and over for their own mailbox's sake."""
    stalled = copy(due=T + 1, last=REFUSED)
    assert turn.is_stalled(stalled, T)
    assert not turn.is_stalled(stalled, T + 1)
    for other in (
        copy(due=T + 1, last=REFUSED, kind=RowKind.DELIVER),
        copy(due=T + 1, last=REFUSED, state=RowState.CLAIMED),
        uncertain(due=T + 1, last=REFUSED),
        copy(due=T + 1, last=FULL),
        copy(due=T + 1),
    ):
        assert not turn.is_stalled(other, T)
        assert not turn.waits_for_whole_primary(other, T)
    assert turn.waits_for_whole_primary(stalled, T)
    born = copy(due=T + 1, waits_for=WaitsFor.OUTAGE)
    assert turn.waits_for_whole_primary(born, T)
    assert not turn.waits_for_whole_primary(born, T + 1)
    for change in ({"kind": RowKind.DELIVER}, {"state": RowState.HELD}, {"waits_for": WaitsFor.PRIMARY}):
        assert not turn.waits_for_whole_primary(msgspec.structs.replace(born, **change), T)
    assert not turn.waits_for_whole_primary(uncertain(due=T + 1, waits_for=WaitsFor.OUTAGE), T)


def test_the_primary_must_answer_first() -> None:
    """Would catch a second hand-over to a primary that was not heard of since it left the first one without a reply."""
    row = uncertain()
    assert ripe([row], 0.0, STEP, T + 9 * STEP) == []
    assert ripe([row], T - STEP, STEP, T + STEP - 1) == []
    assert ripe([row], T - STEP, STEP, T + STEP) == [row.id]
    assert ripe([row], T + 2 * STEP, STEP, T + 2 * STEP - 1) == []
    assert ripe([row], T + 2 * STEP, STEP, T + 2 * STEP) == [row.id]


FIRST = copy(2, queued=T, due=T)


@pytest.mark.parametrize(
    ("other", "goes"),
    [
        (FIRST, False),
        (copy(2, queued=T + STEP), False),
        (copy(2, queued=T + STEP + 1), True),
        (copy(2, state=RowState.CLAIMED, attempts=1, due=T + 99 * STEP), False),
        (copy(2, state=RowState.PARKED, attempts=1, due=T + 99 * STEP), False),
        (copy(2, attempts=1, due=T + 2 * STEP), False),
        (copy(2, attempts=1, due=T + 2 * STEP + 1), True),
        (copy(2, state=RowState.STUCK), True),
        (copy(2, state=RowState.HOME), True),
        (copy(2, kind=RowKind.DELIVER), True),
        (uncertain(2, attempts=1), True),
    ],
)
def test_certain_ones_go_first(other: Row, goes: bool) -> None:
    """Would catch an uncertain copy that overtakes a certain one that waited with it, and one that waits for something far off or for another."""
    row = uncertain()
    assert (row.id in ripe([row, other], T - 1, STEP, T + STEP)) is goes


def test_later_ones_wait_for_what_is_near_by_then() -> None:
    """The step within which a certain copy is waited for counts from the copy's own turn, however late that is looked at."""
    row = uncertain()
    assert ripe([row, copy(2, attempts=1, due=T + 3 * STEP)], T - 1, STEP, T + 3 * STEP) == [row.id]
