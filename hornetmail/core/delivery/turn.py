"""When an uncertain copy's turn to go home has come in normal mode (rule 1): last of those that wait, and not before the primary
answered again. Pure: the queue's rows and the time are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hornetmail.core.delivery.queued import Row, RowKind, RowState, WaitsFor
from hornetmail.core.failover import outage
from hornetmail.core.failover.verdict import Outcome, Verdict

_WAITING = frozenset({RowState.QUEUED, RowState.PARKED, RowState.CLAIMED})


def is_uncertain(row: Row) -> bool:
    """The primary may have this copy already (rule 1)."""
    if row.portal is not None and row.portal.uncertain:
        return True
    return row.last is not None and row.last.outcome is Outcome.UNCERTAIN


def counted(row: Row, verdict: Verdict) -> Row:
    """The row after an attempt that came to this verdict: with one silence more, if its final dot was taken and not answered."""
    return msgspec.structs.replace(row, unheard=row.unheard + 1) if verdict.outcome is Outcome.UNCERTAIN else row


def is_held_back(row: Row) -> bool:
    """An uncertain copy that was not tried since it was made; further attempts follow the back-off alone."""
    return row.kind is RowKind.DRAIN and row.state is RowState.QUEUED and not row.attempts and is_uncertain(row)


def is_stalled(row: Row, now: float) -> bool:
    """A certain copy that waits out a back-off only because the primary as a whole was in trouble when it was tried."""
    if row.kind is not RowKind.DRAIN or row.state is not RowState.QUEUED or row.due <= now or is_uncertain(row):
        return False
    return row.last is not None and outage.read(row.last).breadth.wide


def waits_for_whole_primary(row: Row, now: float) -> bool:
    """A certain copy that waits out a back-off only because of trouble of the primary as a whole."""
    if row.kind is RowKind.DRAIN and row.state is RowState.QUEUED and row.waits_for is WaitsFor.OUTAGE:
        return row.due > now and not is_uncertain(row)
    return is_stalled(row, now)


def ripe(copies: Iterable[Row], answering: float, step: float, now: float) -> list[Row]:
    """Those of a domain's waiting ``copies`` that were held back and may go now.

    ``answering``: since when the primary has answered, Unix seconds, 0 if not since its last trouble, which any uncertain hand-over is.
    A copy's turn comes when the primary answers and ``step`` seconds, the first of the back-off, have passed since it was made. It lets
    the certain ones go first that waited then and are tried for the first time, are under way, or are due within a further step: not those
    with a longer wait before them (stalled ones are to be tried once before).
    """
    if not answering:
        return []
    waiting = [row for row in copies if row.kind is RowKind.DRAIN and row.state in _WAITING]
    first = [row for row in waiting if not is_uncertain(row) and _is_near(row, now + step)]
    found = []
    for row in waiting:
        turn = max(row.queued + step, answering)
        if (
            is_held_back(row)
            and turn <= now
            and not any(other.queued <= turn and _is_near(other, turn + step) for other in first)
        ):
            found.append(row)
    return found


def _is_near(row: Row, horizon: float) -> bool:
    return row.state is not RowState.QUEUED or not row.attempts or row.due <= horizon
