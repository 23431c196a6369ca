"""Staged records whose leaf numbers another installation gave away meanwhile (ADR 38): they get new ones, since no number is given twice (rule 17).

All that is staged is written once more, in its order, behind what there is, and the old segments go then, the newest first. So what a crash leaves is a beginning of the old ones and some of
the new ones: a record that is there twice says so, and all is written once more.
"""

from __future__ import annotations

import contextlib

import msgspec

from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.store.records import Kind, RecordBroken, RecordCodec, audit_leaf_of
from hornetmail.archive.store.staged import Staged
from hornetmail.archive.store.staging import NO_LEAF, PREFIX, Staging, year_of
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.records import BadRecord

BATCH_BYTES = 8 << 20
"""So much waits in memory for one sync."""


class Renumbering:
    """Blocking; while nobody else writes the staging log, and with the key (a locked one opens no record)."""

    def __init__(self, staging: Staging, codec: RecordCodec, leaves: LeafLog) -> None:
        self._staging = staging
        self._codec = codec
        self._leaves = leaves
        self._ahead = 0

    def run(self) -> int:
        """How many records have another number than before; 0, and nothing is written, if each has its own. Raises OSError, DiskFull, LogBroken, ArchiveError: all is as it was."""
        staging = self._staging
        entries = [entry for _, some in sorted(staging.segments.items()) for entry in some]
        newest = {entry.record: entry for entry in entries}
        if len(newest) == len(entries) and not any(map(self._is_given_away, entries)):
            return 0
        before = sorted(staging.records.segments())
        staging.records.roll()
        self._ahead = staging.next_leaf
        try:
            # The place of a record is that where it was first, its bytes are those that were written last.
            self._write([newest[record] for record in dict.fromkeys(entry.record for entry in entries)])
        except BaseException:
            staging.records.forget()
            for segment in reversed(staging.records.segments()):
                if segment not in before:
                    with contextlib.suppress(OSError, ValueError):
                        staging.records.drop(segment)
            raise
        given = self._ahead - staging.next_leaf
        for segment in reversed(before):
            staging.leave(segment)
        staging.replay_again(self._leaves.size)
        return given

    def _is_given_away(self, entry: Staged) -> bool:
        """Whether the leaf log has another leaf under its number. A seal that was cut off behind the leaf log left its own there."""
        if entry.leaf == NO_LEAF or entry.leaf >= self._leaves.size:
            return False
        try:
            return self._leaves.leaf(entry.leaf) != self._leaf_of(entry, self._staging.read(entry.position))
        except (BadRecord, RecordBroken):
            return False  # told of when it is to be sealed

    def _leaf_of(self, entry: Staged, data: bytes) -> bytes | None:
        if entry.kind == Kind.MESSAGE:
            return self._codec.open_mail(data)[1].leaf_hash()
        audit = audit_leaf_of(self._codec.open_event(data)[1])
        return audit.leaf_hash() if audit is not None else None

    def _write(self, entries: list[Staged]) -> None:
        records, size = self._staging.records, 0
        for entry in entries:
            try:
                data = self._staging.read(entry.position)
            except BadRecord as error:
                # Its segment is kept aside for its sake.
                self._staging.damage(entry.position.segment, f"record {entry.record.hex()}: {error}")
                continue
            payload = self._numbered(entry, data)
            records.append(entry.kind, payload)
            size += len(payload)
            if size > BATCH_BYTES:
                records.sync()
                size = 0
        records.sync()

    def _numbered(self, entry: Staged, data: bytes) -> bytes:
        """With the next number, unless the log has its leaf: numbers grow with their records, as one that is sealed makes void what is below it and not sealed."""
        leaf = entry.leaf
        if leaf != NO_LEAF and (leaf >= self._leaves.size or self._is_given_away(entry)):
            with contextlib.suppress(RecordBroken):
                data = self._with_leaf(entry, data, self._ahead)
                leaf, self._ahead = self._ahead, self._ahead + 1
        return PREFIX.pack(entry.row, leaf, entry.identifier) + data

    def _with_leaf(self, entry: Staged, data: bytes, leaf: int) -> bytes:
        if entry.kind == Kind.MESSAGE:
            header, meta, inline = self._codec.open_mail(data)
            numbered = msgspec.structs.replace(meta, leaf=leaf)
            return self._codec.close_mail(header.tenant, header.record, numbered, inline, year_of(meta.received))
        header, event = self._codec.open_event(data)
        if len(event.leaves) != 1:
            raise ArchiveError(f"staged record {entry.record.hex()} has a leaf number, and states none")
        said = msgspec.structs.replace(event, leaves=((event.leaves[0][0], leaf),))
        return self._codec.close_event(header.tenant, header.record, said, year_of(event.at))
