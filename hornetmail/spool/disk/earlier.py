"""What earlier versions wrote, read as what it means now.

Until rows had ``waits_for`` and ``staged``, both stood in the reason for people, by how it began.
"""

from __future__ import annotations

from hornetmail.core.delivery.queued import RowKind, RowState, WaitsFor
from hornetmail.spool.disk.journal import LiveRow, Record, SettledRow, SettledRows, Snapshot

_MAILBOX = "emergency: "
_PRIMARY = "kept for the primary: "
_STAGED = "staged "


def understood(record: Record) -> Record:
    """The record itself, with the fields that an earlier version did not write."""
    if isinstance(record, Snapshot):
        for row in record.rows:
            understand(row)
    elif isinstance(record, SettledRows):
        for one in record.rows:
            understand(one)
    return record


def understand(row: LiveRow | SettledRow) -> None:
    """Give a row its fields, if it was written before it had them and its reason has what they say. Nothing else begins like that: rows get
    the fields with their first transition, and new ones have no such reason."""
    if row.waits_for is not None:
        return
    if isinstance(row, LiveRow) and row.kind is not RowKind.DELIVER and row.kind is not RowKind.ARCHIVE:
        return
    if row.state is RowState.PARKED and row.reason.startswith(_MAILBOX):
        row.waits_for = WaitsFor.MAILBOX
    elif row.state is RowState.QUEUED and row.reason.startswith(_PRIMARY):
        row.waits_for = WaitsFor.PRIMARY
    elif row.reason.startswith(_STAGED):
        names = row.reason[len(_STAGED) :].split(",")
        row.staged = tuple(int(each) for each in names if each.isascii() and each.isdigit())
        row.reason = ""
