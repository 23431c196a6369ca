"""How far the queue's journal had come, in ``control.db``: so that the next start notices an older copy of it (ADR 27)."""

from __future__ import annotations

import msgspec

from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.spool.disk.marks import Mark
from hornetmail.spool.start import OpenedQueue

EVERY = 60.0
"""Seconds between two marks."""

_SET = "INSERT INTO queue_marks (node, tenant, value) VALUES (?, 0, ?) ON CONFLICT (node) DO UPDATE SET value = excluded.value"


class Marks:
    """Of one node's queue."""

    def __init__(self, control: Database, node: int) -> None:
        self._control = control
        self._node = node
        self._written: tuple[str, int] | None = None

    async def last(self) -> Mark | None:
        """What the last life wrote; None if none did, or it cannot be understood."""

        def ask(cursor: Cursor) -> str:
            cursor.execute("SELECT value FROM queue_marks WHERE node = ?", (self._node,))
            found = cursor.fetchone()
            return found[0] if found else ""

        try:
            return msgspec.json.decode(await self._control.read(ask), type=Mark)
        except msgspec.DecodeError:
            return None

    async def write(self, queue: OpenedQueue) -> None:
        """A job for every minute, and for the end."""
        mark = queue.mark()
        if mark is None or (mark.name, mark.offset) == self._written:
            return
        value = msgspec.json.encode(mark).decode()
        await self._control.run(lambda cursor: cursor.execute(_SET, (self._node, value)))
        self._written = mark.name, mark.offset
