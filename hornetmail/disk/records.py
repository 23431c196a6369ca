"""The append log under the queue's journal, staging packs, a medium's journal and the leaf log: checksummed, sealed, in segments.

On disk: ``DIRECTORY/<writer>-<number>-<identity>.log``, written only at their ends; the bytes are in ``segment.py``. Invariants:
a record is durable once ``sync`` returned; segment N is durable before segment N+1 exists; numbers only grow and are unique in
the directory. A sync that failed breaks the log for good: the kernel may have forgotten what it could not write, and a
second fsync would say that all is well.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from twisted.logger import Logger

from hornetmail.disk.anchor import nothing
from hornetmail.disk.files import Disk, DiskFull, SyncFailed
from hornetmail.disk.seal import BrokenSeal, Seal
from hornetmail.disk.segment import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    RECORD_BYTES,
    Damage,
    Place,
    WrongKey,
    check_header,
    encode,
    header_at,
    open_payload,
    scan,
    segment_header,
    stored_length,
)

__all__ = ["BadRecord", "Damage", "LogBroken", "Position", "RecordLog", "Replayed", "WrongKey"]

_READ_AHEAD = 16 << 10
_PIECE = 64 << 10


class LogBroken(Exception):
    """A sync or write failed: nothing more is appended by this object. Answer 4xx, stop, and start again with a replay."""


class BadRecord(Exception):
    """The record that was asked for is not there intact."""


class Position(NamedTuple):
    """Where a record lies: its segment's number and its offset in it. Sorts in order of writing."""

    segment: int
    offset: int


class Replayed(msgspec.Struct, frozen=True, gc=False):
    """What a replay saw: intact records and their payload bytes, bytes cut from the torn tail, and damage that was isolated."""

    records: int
    bytes: int
    cut: int
    damage: tuple[Damage, ...]


class _Segment:
    """``end``: where the next record goes; ``durable``: up to where it is on disk. ``fd`` is -1 unless it is open for appending."""

    def __init__(self, place: Place, seal: Seal | None, end: int = HEADER_BYTES, durable: int = 0) -> None:
        self.place = place
        self.seal = seal
        self.fd = -1
        self.end = end
        self.durable = durable


class RecordLog:
    """One log in one directory. Blocking; ``replay`` comes first, and only one thread at a time may call (``read`` excepted).

    ``writer``: 1 to 16 of ``[a-z0-9_]``, who appends; records of all writers are replayed. ``seal`` None: plain, checksummed only. ``look`` raises
    DiskAway if the directory is not the one that was opened: asked before a file is made or removed, and before a missing one is believed.
    """

    log = Logger()

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        *,
        writer: str,
        seal: Seal | None,
        segment_bytes: int = 64 << 20,
        look: Callable[[], None] = nothing,
    ) -> None:
        if not re.fullmatch(r"[a-z0-9_]{1,16}", writer):
            raise ValueError(f"a writer is 1 to 16 of a-z, 0-9 and _, not {writer!r}")
        self.directory = directory
        self._disk = disk
        self._writer = writer
        self._seal = seal
        self._limit = segment_bytes
        self._look = look
        self._segments: dict[int, _Segment] = {}
        self._active: _Segment | None = None
        self._last = 0
        self._pending: list[tuple[_Segment, int, bytes, bytes]] = []
        self._replayed = False
        self._broken: BaseException | None = None

    @property
    def broken(self) -> bool:
        """A sync or write failed; see LogBroken."""
        return self._broken is not None

    def replay(self, take: Callable[[Position, int, bytes], None], since: Position | None = None) -> Replayed:
        """Hand every intact record to ``take(position, kind, payload)`` in order of writing, and get ready to append.

        An incomplete record at the end of the last segment is what a crash left behind and is cut off. Any other damage is
        reported and left as it is. With ``since``, records before that position are not handed out, and whole segments before it are
        not even read (``locate`` says first whether the position is still this log's). Raises WrongKey before it changed anything, OSError if the directory cannot be read.
        """
        self._disk.make_directory(self.directory)
        places = self._places()
        records = size = cut = 0
        damage: list[Damage] = []
        for place in places:
            segment = _Segment(place, place.seal(self._seal) if self._seal else None)
            last = place is places[-1]
            if since and place.number < since.segment and not last:
                segment.end = segment.durable = (self.directory / place.name).stat().st_size
                self._segments[place.number] = segment
                continue
            data, unreadable = self._load(place)
            if len(data) < HEADER_BYTES and last:
                cut += len(data)
                self._disk.unlink(self.directory / place.name)
                self._disk.sync_directory(self.directory)
                break
            sound = check_header(data, place, segment.seal)
            found = [] if sound else [Damage(place.number, 0, min(HEADER_BYTES, len(data)), "the segment's header")]
            found += [Damage(place.number, offset, _PIECE, "cannot be read") for offset in unreadable]
            torn = 0
            for item in scan(data, place, segment.seal):
                if not isinstance(item, Damage):
                    position = Position(place.number, item.offset)
                    if since and position < since:
                        continue
                    take(position, item.kind, item.payload)
                    records += 1
                    size += len(item.payload)
                elif item.torn and last and not unreadable:
                    torn = item.length
                else:
                    found.append(item)
            segment.end = segment.durable = len(data) - torn
            cut += torn
            self._segments[place.number] = segment
            damage += found
            if last and place.writer == self._writer:
                self._resume(segment, torn, usable=not found)
        self._last = places[-1].number if places else 0
        self._replayed = True
        for one in damage:
            self.log.error("damage in {directory}: {damage}", directory=str(self.directory), damage=one)
        return Replayed(records, size, cut, tuple(damage))

    def nothing(self) -> bool:
        """Whether there is no segment at all; before ``replay``, too."""
        return not any(True for _ in self._places())

    def locate(self, segment: int) -> str:
        """The name of the file that holds a segment, ``""`` if there is none; before ``replay``, too. It is never reused."""
        return next((place.name for place in self._places() if place.number == segment), "")

    def holds(self, position: Position) -> bool:
        """Whether a record begins at that position, or one byte before it, intact as far as its header says; before ``replay``, too. A position
        that another journal gave, or a later state of this one, does not pass."""
        place = next((place for place in self._places() if place.number == position.segment), None)
        if place is None or position.offset < HEADER_BYTES:
            return False
        try:
            return self._begins(place, position.offset)
        except OSError:
            return False

    def missing(self, name: str, position: Position) -> str:
        """Why this is an older state of the log that had a record at that position (see ``holds``) of the file ``name``, or another log. ``""`` if the record is
        there, if its file went when its time had come, and if the disk does not let it be read: that is damage. Before ``replay``, too."""
        places = self._places()
        if not places:
            return "it is empty"
        if position.segment > places[-1].number:
            return f"it ends with {places[-1].name}, and had gone on to {name}"
        place = next((place for place in places if place.number == position.segment), None)
        if place is None:
            return ""
        if place.name != name:
            return f"it has {place.name} and not {name}"
        try:
            size = (self.directory / name).stat().st_size
            if size < position.offset:
                return f"{name} ends at {size}, and had gone on to {position.offset - 1}"
            return "" if self._begins(place, position.offset) else f"{name} has another record at {position.offset - 1}"
        except OSError:
            return ""

    def _begins(self, place: Place, offset: int) -> bool:
        """Whether a record begins there, or one byte before. Raises OSError."""
        fd = self._disk.open(self.directory / place.name, os.O_RDONLY)
        try:
            data = self._disk.read(fd, RECORD_BYTES + 1, offset - 1)
        finally:
            self._disk.close(fd)
        return any(header_at(data, skip, place, offset - 1 + skip) is not None for skip in (0, 1))

    def _places(self) -> list[Place]:
        if not self.directory.is_dir():
            return []
        found = filter(None, map(Place.of, os.listdir(self.directory)))
        return sorted(found, key=lambda place: (place.number, place.writer))

    def _load(self, place: Place) -> tuple[bytes, list[int]]:
        """A segment's bytes; pieces that the disk refuses are zeros, their offsets are told."""
        fd = self._disk.open(self.directory / place.name, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            with contextlib.suppress(OSError):
                return self._disk.read(fd, size, 0), []
            parts, unreadable = [], []
            for offset in range(0, size, _PIECE):
                length = min(_PIECE, size - offset)
                try:
                    parts.append(self._disk.read(fd, length, offset))
                except OSError:
                    parts.append(bytes(length))
                    unreadable.append(offset)
            return b"".join(parts), unreadable
        finally:
            self._disk.close(fd)

    def _resume(self, segment: _Segment, torn: int, usable: bool) -> None:
        """Cut the torn tail, and go on in the last segment if it is sound and has room (one that is not stays as it is)."""
        sealed = self._seal is not None
        if not torn and not (usable and segment.end < self._limit):
            return
        fd = self._disk.open(self.directory / segment.place.name, os.O_RDWR)
        if torn:
            self._disk.truncate(fd, segment.end)
            self._disk.sync_file(fd)
        head = self._disk.read(fd, HEADER_BYTES, 0)
        if usable and segment.end < self._limit and head == segment_header(segment.place, segment.seal if sealed else None):
            segment.fd, self._active = fd, segment
        else:
            self._disk.close(fd)

    def append(self, kind: int, payload: bytes) -> Position:
        """Take a record and seal it; it is durable when ``sync`` returned. Raises LogBroken, ValueError (kind or length)."""
        if self._broken:
            raise LogBroken("the log is broken") from self._broken
        if not self._replayed:
            raise RuntimeError("append before replay")
        if not 0 <= kind <= 255 or len(payload) > MAX_PAYLOAD:
            raise ValueError(f"kind {kind}, {len(payload)} bytes")
        size = stored_length(len(payload), self._seal is not None)
        segment = self._active
        if segment is None or (segment.end + size > self._limit and segment.end > HEADER_BYTES):
            segment = self._begin()
        offset = segment.end
        segment.end += size
        self._pending.append((segment, offset, *encode(segment.place, offset, kind, payload, segment.seal)))
        return Position(segment.place.number, offset)

    def _begin(self) -> _Segment:
        self._last += 1
        place = Place(self._writer, self._last, os.urandom(8))
        segment = _Segment(place, place.seal(self._seal) if self._seal else None)
        self._segments[place.number] = self._active = segment
        return segment

    def sync(self) -> None:
        """Make all that was appended durable: one write and one fdatasync for each segment touched, usually one.

        Raises DiskFull when there was no room to write: nothing of it is kept, and the log can be used again. Raises LogBroken
        for any other failure, a sync's above all, and then for ever.
        """
        if self._broken:
            raise LogBroken("the log is broken") from self._broken
        batch, self._pending = self._pending, []
        if not batch:
            return
        touched: dict[int, _Segment] = {}
        for segment, *_ in batch:
            touched.setdefault(segment.place.number, segment)
        try:
            for segment in touched.values():
                self._write(segment, [part for owner, _, *parts in batch if owner is segment for part in parts])
        except DiskFull:
            self._retreat(list(touched.values()))
            raise
        except Exception as error:
            self._broken = error
            raise LogBroken(f"writing to {self.directory} failed: {error}") from error
        for segment in touched.values():
            segment.durable = segment.end
            if segment is not self._active:
                self._close(segment)

    def _write(self, segment: _Segment, parts: list[bytes]) -> None:
        """Raises DiskFull only from before the sync."""
        fresh = segment.fd < 0
        offset = segment.durable
        if fresh:
            self._look()
            segment.fd = self._disk.open(self.directory / segment.place.name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            parts.insert(0, segment_header(segment.place, segment.seal))
            offset = 0
        try:
            self._disk.write_synced(segment.fd, parts, offset)
        except SyncFailed as error:
            raise LogBroken(f"a sync failed: {error}") from error
        if fresh:
            try:
                self._disk.sync_directory(self.directory)
            except OSError as error:
                raise LogBroken(f"a sync failed: {error}") from error

    def _retreat(self, touched: list[_Segment]) -> None:
        """Take a batch back that found no room: cut its segments to what was durable before. Failing at that breaks the log."""
        try:
            for segment in reversed(touched):
                if segment.durable:
                    self._disk.truncate(segment.fd, segment.durable)
                    self._disk.sync_data(segment.fd)
                    segment.end = segment.durable
                    self._active = segment
                    continue
                self._segments.pop(segment.place.number, None)
                if self._active is segment:
                    self._active = None
                if segment.fd >= 0:
                    self._close(segment)
                    self._disk.unlink(self.directory / segment.place.name, missing_ok=True)
                    self._disk.sync_directory(self.directory)
        except OSError as error:
            self._broken = error
            raise LogBroken(f"taking a failed write back failed too: {error}") from error

    def forget(self) -> None:
        """Drop what was appended and not yet synced."""
        for segment, offset, *_ in reversed(self._pending):
            segment.end = offset
        self._pending = []

    def read(self, position: Position) -> bytes:
        """A record's payload. Any thread may call. Raises KeyError (segment gone), BadRecord, OSError."""
        segment = self._segments[position.segment]
        place, at = segment.place, position.offset
        try:
            fd = self._disk.open(self.directory / place.name, os.O_RDONLY)
        except FileNotFoundError:
            self._look()
            raise KeyError(position.segment) from None
        try:
            data = self._disk.read(fd, RECORD_BYTES + _READ_AHEAD, at)
            head = header_at(data, 0, place, at)
            if head is None:
                raise BadRecord(f"no record at {position}")
            missing = RECORD_BYTES + head[2] - len(data)
            if missing > 0:
                data += self._disk.read(fd, missing, at + len(data))
        finally:
            self._disk.close(fd)
        stop = RECORD_BYTES + head[2]
        if len(data) < stop:
            raise BadRecord(f"an incomplete record at {position}")
        try:
            return open_payload(data[:RECORD_BYTES], data[RECORD_BYTES:stop], place, at, segment.seal)
        except BrokenSeal as error:
            raise BadRecord(f"{error} at {position}") from error

    def segments(self) -> list[int]:
        """The numbers of all segments, ascending; the last may be the one that is written to."""
        return sorted(self._segments)

    def name(self, segment: int) -> str:
        """The name of a segment's file; never reused. Raises KeyError."""
        return self._segments[segment].place.name

    def size(self, segment: int) -> int:
        """A segment's bytes, those included that wait for their sync. Raises KeyError."""
        return self._segments[segment].end

    def roll(self) -> None:
        """The next record begins a new segment (unless nothing is in the present one)."""
        segment = self._active
        if segment is not None and segment.end > HEADER_BYTES:
            self._active = None
            if segment.end == segment.durable:
                self._close(segment)

    def drop(self, segment: int) -> None:
        """Remove a segment, durable on return, so that what was dropped first cannot outlive what was dropped later.

        Dropping the one that is written to rolls. Called again after it failed, it goes on where it was. Raises KeyError, ValueError (records in it
        wait for their sync), OSError.
        """
        one = self._segments[segment]
        if one.end != max(one.durable, HEADER_BYTES):
            raise ValueError(f"segment {segment} has records that are not yet synced")
        self._look()
        if one is self._active:
            self._active = None
        self._close(one)
        self._disk.unlink(self.directory / one.place.name, missing_ok=True)
        self._disk.sync_directory(self.directory)
        del self._segments[segment]

    def set_aside(self, segment: int, place: Path) -> Path:
        """Move a segment out of the log, into the directory ``place``, as it is; durable on return. It is not replayed any more. May be called again
        when it failed, as ``drop``. Raises as that."""
        one = self._segments[segment]
        if one.end != max(one.durable, HEADER_BYTES):
            raise ValueError(f"segment {segment} has records that are not yet synced")
        if one is self._active:
            self._active = None
        self._close(one)
        self._disk.make_directory(place)
        before, after = self.directory / one.place.name, place / one.place.name
        if after.exists() and not before.exists():
            self._disk.sync_directory(place)
            self._disk.sync_directory(self.directory)
        else:
            self._disk.rename(before, after)
        del self._segments[segment]
        return after

    def close(self) -> None:
        """Close files. What was not synced is forgotten."""
        self._pending = []
        for segment in self._segments.values():
            self._close(segment)
        self._active = None
        self._replayed = False

    def _close(self, segment: _Segment) -> None:
        if segment.fd >= 0:
            self._disk.close(segment.fd)
            segment.fd = -1
