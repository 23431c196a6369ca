"""How far the queue's journal had come, in ``control.db`` and on the archive's media: so that the next start notices an older copy of it (ADR 27), and of the
data directory as a whole (ADR 34); and what the portal was known by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.archive.archive import Archive
from hornetmail.archive.media.medium import IMedium, MediumMissing
from hornetmail.core.delivery.queued import RowKind
from hornetmail.core.events import Alarm
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.delivery.tasks import within
from hornetmail.interfaces.bus import IBus
from hornetmail.spool.disk.marks import Mark
from hornetmail.spool.start import OpenedQueue

EVERY = 60.0
"""Seconds between two marks."""

OUTSIDE = 900.0
"""Seconds between two marks on a medium."""

READ_SECONDS, LAST_SECONDS = 10.0, 2.0
"""A medium that does not answer for so long at the start, and at the end, keeps nobody waiting."""

AHEAD = (RowKind.DELIVER, RowKind.DRAIN)
"""What may have been done since: the portal was put back too, with copies that went home."""

_SET = "INSERT INTO queue_marks (node, tenant, value) VALUES (?, 0, ?) ON CONFLICT (node) DO UPDATE SET value = excluded.value"


_SET_PORTAL = _SET.replace("queue_marks", "portal_marks")


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


class PortalMark:
    """What the portal's directory was known by at its last start (``disk.anchor``), in ``control.db``: Maildirs that are put back together with the ``portal.db`` of then
    agree with each other, and only this knows better."""

    def __init__(self, control: Database, node: int) -> None:
        self._control = control
        self._node = node

    async def last(self) -> str:
        """``""`` if nobody knows."""

        def ask(cursor: Cursor) -> str:
            cursor.execute("SELECT value FROM portal_marks WHERE node = ?", (self._node,))
            found = cursor.fetchone()
            return str(found[0]) if found else ""

        return await self._control.read(ask)

    async def write(self, token: str) -> None:
        """Once it is in the directory, and in ``portal.db``."""
        await self._control.run(lambda cursor: cursor.execute(_SET_PORTAL, (self._node, token)))


class OutsideMarks:
    """The same where the data directory does not reach: ``queue/n<node>`` on the archive's media. ``offload(call, *args)`` runs what blocks in a thread. ``fresh``:
    ``control.db`` has no mark, so this queue has no past that a medium could know of (after a restore from media, say). A queue that is known to be the only thing
    that was put back (ADR 27) is told of already."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, bus: IBus, archive: Archive, offload: Callable[..., Awaitable[Any]], node: int, fresh: bool
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._archive = archive
        self._offload = offload
        self._name = f"queue/n{node}"
        self._fresh = fresh
        self._read: set[int] = set()
        self._written: tuple[int, str, int] | None = None
        self._at = 0.0

    async def compare(self, queue: OpenedQueue) -> None:
        """With what all media say that are in reach and were not asked yet: before anybody delivers, and later of one that is back. One that does not answer keeps
        nobody waiting, and is asked another time."""
        away = self._archive.watch.unread()
        for medium in self._archive.media.all():
            if medium.number in self._read or medium.number in away:
                continue
            try:
                mark = await within(self._clock, READ_SECONDS, self._asked(medium))
            except Exception as error:  # noqa: BLE001 - the others are asked all the same, and this one before it is written to
                self.log.warn(
                    "medium {number} does not say now how far the queue was: {error}", number=medium.number, error=error
                )
                continue
            known = self._fresh or queue.older
            if mark is not None and not known and (why := await queue.older_than(mark)):
                await self._tell(queue, medium, mark, why)
            self._read.add(medium.number)

    async def write(self, queue: OpenedQueue) -> None:
        """A job: how far it is by now, every ``OUTSIDE`` seconds."""
        await self.compare(queue)
        if self._clock.seconds() - self._at >= OUTSIDE:
            await self._write(queue)

    async def last(self, queue: OpenedQueue) -> None:
        """How far it came, at the end, unless that takes too long. Raises nothing."""
        try:
            await within(self._clock, LAST_SECONDS, self._write(queue))
        except Exception as error:  # noqa: BLE001 - the end does not wait for a medium
            self.log.warn("the queue's mark was not written to the medium: {error}", error=error)

    async def _write(self, queue: OpenedQueue) -> None:
        """A medium that was not asked yet is left as it is: it may know better."""
        medium, mark = self._archive.media.active, queue.mark()
        if medium.number in self._archive.watch.away():
            return  # that is told; where another installation writes, its own mark shall stay
        if mark is None or medium.number not in self._read or (medium.number, mark.name, mark.offset) == self._written:
            return
        await self._offload(medium.put, self._name, msgspec.json.encode(mark))
        self._written, self._at = (medium.number, mark.name, mark.offset), self._clock.seconds()

    async def _asked(self, medium: IMedium) -> Mark | None:
        mark: Mark | None = await self._offload(self._mark_on, medium)
        return mark

    def _mark_on(self, medium: IMedium) -> Mark | None:
        """In a thread."""
        try:
            return msgspec.json.decode(medium.get(self._name), type=Mark)
        except (MediumMissing, msgspec.DecodeError):
            return None

    async def _tell(self, queue: OpenedQueue, medium: IMedium, mark: Mark, why: str) -> None:
        until = f"{datetime.fromtimestamp(mark.at, UTC):%Y-%m-%d %H:%M} UTC"
        said = f"medium {medium.number} says that the queue was written until {until}: {why}"
        held = await queue.doubt(
            f"the data directory is an older copy, in which this is not delivered yet: it may have been since ({said})", AHEAD
        )
        text = (
            f"the data directory as a whole is an older copy now, with queue and control.db, or another service writes to the same medium ({said}). {held} deliveries, and"
            " copies on their way home, may have been made since and are held: nothing in them is lost, and what is released may come twice. Mail that was"
            " accepted since is not in the queue; what was archived of it is on the medium. People, settings and passwords are as they were then"
        )
        self.log.error("{text}", text=text)
        self._bus.publish(Alarm("queue-older", text))
