"""The records of the queue's journal (``docs/formats/spool.rst``): what they say, and their bytes.

Payloads are msgpack. Structs that are arrays grow only at their ends, with defaults; messages are maps.
"""

from __future__ import annotations

import enum
import struct

import msgspec

from hornetmail.core.delivery.queued import Message, Portal, Row, RowKind, RowState, WaitsFor
from hornetmail.core.failover.verdict import Verdict


class Kind(enum.IntEnum):
    """The kind byte of a record. Numbers are never reused."""

    ACCEPTED = 1
    KEPT = 2
    CLAIMED = 3
    SETTLED = 4
    CHANGED = 5
    ADOPTED = 6
    REMEMBERED = 7
    RECLAIMED = 8


class Where(enum.IntEnum):
    """Where a message's body is. LOST: it cannot be read any more, and rows that need it are held or will be."""

    NOWHERE = 0
    RECORD = 1
    FILE = 2
    LOST = 3


class LiveRow(msgspec.Struct, array_like=True, gc=False):
    """A row as it is kept in memory, journal and index. ``mark``: the service's uptime when it came into its state.
    ``interrupted``: its attempt was cut off by a death, and nobody has settled it since. ``waits_for`` None: of before rows said it
    (``spool.earlier``)."""

    id: int
    message: int
    kind: RowKind
    state: RowState
    address: str = ""
    number: int = 0
    due: float = 0.0
    attempts: int = 0
    queued: float = 0.0
    worked: float = 0.0
    last: Verdict | None = None
    portal: Portal | None = None
    reason: str = ""
    delay_told: bool = False
    mark: float = 0.0
    interrupted: bool = False
    waits_for: WaitsFor | None = None
    staged: tuple[int, ...] = ()
    unheard: int = 0

    def row(self) -> Row:
        """As others see it."""
        return Row(
            self.id, self.message, self.kind, self.state, self.address, self.number, self.due, self.attempts, self.queued, self.worked,
            self.last, self.portal, self.reason, self.delay_told, self.waits_for or WaitsFor.NOTHING, self.staged, self.unheard,
        )  # fmt: skip


class Snapshot(msgspec.Struct, array_like=True, gc=False):
    """ACCEPTED and KEPT: a message and its rows as they are then; the body may follow. ``file`` names a body's file."""

    message: Message
    rows: list[LiveRow]
    where: Where
    file: int = 0


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The beginning of a Snapshot."""

    message: Message


class ClaimedRow(msgspec.Struct, array_like=True, gc=False):
    """``due``: when it is tried again should this attempt never end."""

    row: int
    attempts: int
    due: float
    worked: float


class Claimed(msgspec.Struct, array_like=True, gc=False):
    """CLAIMED."""

    at: float
    rows: list[ClaimedRow]


class SettledRow(msgspec.Struct, array_like=True, gc=False):
    """``born``: the ID of the drain row that came to be with it, 0 if none; ``drain_state`` and ``drain_due`` are that row's.
    ``waits_for`` None: of before rows said it."""

    row: int
    state: RowState
    due: float
    worked: float
    last: Verdict | None
    reason: str
    delay_told: bool
    born: int = 0
    portal: Portal | None = None
    drain_state: RowState = RowState.QUEUED
    drain_due: float = 0.0
    drain_reason: str = ""
    waits_for: WaitsFor | None = None
    staged: tuple[int, ...] = ()
    drain_waits_for: WaitsFor = WaitsFor.NOTHING
    unheard: int = 0


class SettledRows(msgspec.Struct, array_like=True, gc=False):
    """SETTLED."""

    at: float
    rows: list[SettledRow]


class Changed(msgspec.Struct, array_like=True, gc=False):
    """CHANGED. ``worked`` goes with ``rows``."""

    at: float
    rows: list[int]
    worked: list[float]
    state: RowState
    due: float
    reason: str


class Adopted(msgspec.Struct, array_like=True, gc=False):
    """ADOPTED: these are due now."""

    at: float
    rows: list[int]


class Reclaimed(msgspec.Struct, array_like=True, gc=False):
    """RECLAIMED: their attempt will never end; queued for the time of their claim. ``worked`` goes with ``rows``."""

    at: float
    rows: list[int]
    worked: list[float]


class Remembered(msgspec.Struct, array_like=True, gc=False):
    """REMEMBERED: a fact; None forgets it."""

    space: str
    key: str
    value: bytes | None


Record = Snapshot | Claimed | SettledRows | Changed | Adopted | Reclaimed | Remembered

_encode = msgspec.msgpack.Encoder().encode
_LENGTH = struct.Struct(">I")
_heads = msgspec.msgpack.Decoder(_Head)
_decoders: dict[int, msgspec.msgpack.Decoder[Record]] = {
    Kind.ACCEPTED: msgspec.msgpack.Decoder(Snapshot),
    Kind.KEPT: msgspec.msgpack.Decoder(Snapshot),
    Kind.CLAIMED: msgspec.msgpack.Decoder(Claimed),
    Kind.SETTLED: msgspec.msgpack.Decoder(SettledRows),
    Kind.CHANGED: msgspec.msgpack.Decoder(Changed),
    Kind.ADOPTED: msgspec.msgpack.Decoder(Adopted),
    Kind.RECLAIMED: msgspec.msgpack.Decoder(Reclaimed),
    Kind.REMEMBERED: msgspec.msgpack.Decoder(Remembered),
}


class UnknownRecord(Exception):
    """A record that this program cannot read: written by a newer one."""


def encode(record: Record, body: list[bytes] | tuple[bytes, ...] = ()) -> bytes:
    """A record's payload. A snapshot's length stands before it, since a body may follow."""
    data = _encode(record)
    if isinstance(record, Snapshot):
        return b"".join((_LENGTH.pack(len(data)), data, *body))
    return data


def decode(kind: int, payload: bytes) -> Record:
    """The record, without a body. Raises UnknownRecord."""
    decoder = _decoders.get(kind)
    if decoder is None:
        raise UnknownRecord(f"kind {kind}")
    try:
        if kind in (Kind.ACCEPTED, Kind.KEPT):
            (length,) = _LENGTH.unpack_from(payload)
            return decoder.decode(memoryview(payload)[4 : 4 + length])
        return decoder.decode(payload)
    except (msgspec.DecodeError, struct.error) as error:
        raise UnknownRecord(f"kind {kind}: {error}") from error


def message_of(payload: bytes) -> Message:
    """The message of a snapshot, without its rows and body. Raises UnknownRecord."""
    try:
        (length,) = _LENGTH.unpack_from(payload)
        return _heads.decode(memoryview(payload)[4 : 4 + length]).message
    except (msgspec.DecodeError, struct.error) as error:
        raise UnknownRecord(f"a snapshot: {error}") from error


def body_of(payload: bytes) -> bytes:
    """The body behind a snapshot."""
    (length,) = _LENGTH.unpack_from(payload)
    return payload[4 + length :]
