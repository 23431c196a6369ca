"""A live message in memory, as it is worked with."""

from __future__ import annotations

import msgspec

from hornetmail.core.delivery.queued import DONE, Message, RowKind
from hornetmail.disk.records import Position
from hornetmail.spool.disk.journal import LiveRow, Where

_messages = msgspec.msgpack.Decoder(Message)
_encode = msgspec.msgpack.Encoder().encode


class Entry(msgspec.Struct, gc=False):
    """``meta`` is the Message, encoded once it is older, None if only the disk has it (``spool.recall``). ``segment``, ``offset`` and ``stored``:
    its newest snapshot in the journal. ``indexed``: the index may have it."""

    id: int
    tenant: int
    meta: Message | bytes | None
    rows: tuple[LiveRow, ...]
    segment: int
    offset: int
    stored: int
    where: Where
    file: int
    domain: str
    outgoing: bool
    request: str
    indexed: bool = False

    @property
    def place(self) -> Position:
        return Position(self.segment, self.offset)

    @property
    def message(self) -> Message | None:
        """None if only the disk has it."""
        meta = self.meta
        return _messages.decode(meta) if isinstance(meta, bytes) else meta

    def pack(self) -> bytes:
        """Keep only the encoded form from now on, and answer it; empty if only the disk has it."""
        if isinstance(self.meta, Message):
            self.meta = _encode(self.meta)
        return self.meta or b""

    @property
    def needs_body(self) -> bool:
        """A deliver or archive row is not done. Drain rows live on without: the portal has a copy."""
        return any(row.kind is not RowKind.DRAIN and row.state not in DONE for row in self.rows)
