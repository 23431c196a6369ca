"""How far the journal had come, kept by somebody else: so that an older copy of it is noticed (ADR 27).

A queue that is put back from a file backup, or whose disk lost what it had said was durable, looks sound. What is in it may have been delivered since, and
what came since is not in it.
"""

from __future__ import annotations

import msgspec

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.disk.records import Position, RecordLog

DOUBTED = (RowState.QUEUED, RowState.PARKED)
"""Deliveries that an older journal believes to be still ahead."""

KIND = RowKind.DELIVER
"""Copies in the portal are no such: one that went home since is not there any more."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A record that was durable. ``name``: of its segment's file; ``at``: Unix seconds when it was the newest."""

    name: str
    segment: int
    offset: int
    at: float


def missing(journal: RecordLog, mark: Mark) -> str:
    """Why the journal is an older one than that of the mark; ``""`` if it is not, or nobody can tell. Before its replay."""
    return journal.missing(mark.name, Position(mark.segment, mark.offset + 1))
