"""When an uncertain copy's turn to go home has come in normal mode (rule 1): last of those that wait, and not before the primary
answered again. Pure: the queue's rows and the time are handed in.
"""

from __future__ import annotations

from array import array
from math import inf

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


class Turns:
    """Whose turn it is, in one go over a domain's waiting copies (``add``), of which no more is kept than two numbers for each that was held back.

    ``answering``: since when the primary has answered, Unix seconds, 0 if not since its last trouble, which any uncertain hand-over is.
    A copy's turn comes when the primary answers and ``step`` seconds, the first of the back-off, have passed since it was made. It lets
    the certain ones go first that waited then and are tried for the first time, are under way, or are due within a further step: not those
    with a longer wait before them (stalled ones are to be tried once before).
    """

    def __init__(self, answering: float, step: float, now: float) -> None:
        self._answering = answering
        self._step = step
        self._now = now
        self.held_back = 0
        """How many wait for their turn."""
        self._rows, self._turns = array("q"), array("d")
        self._first = inf
        """From this turn on there is a certain one that goes before."""

    def add(self, row: Row) -> None:
        """One more copy."""
        if row.kind is not RowKind.DRAIN or row.state not in _WAITING:
            return
        if not is_uncertain(row):
            soon = row.state is not RowState.QUEUED or not row.attempts
            self._first = min(self._first, row.queued if soon else max(row.queued, row.due - self._step))
        elif is_held_back(row):
            self.held_back += 1
            turn = max(row.queued + self._step, self._answering)
            if self._answering and turn <= self._now:
                self._rows.append(row.id)
                self._turns.append(turn)

    def ripe(self) -> array[int]:
        """The rows whose turn it is, in the order in which they were added."""
        return array("q", (row for row, turn in zip(self._rows, self._turns, strict=True) if turn < self._first))
