"""Keeps the index behind the live messages."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hornetmail.db.engines import DatabaseBroken
from hornetmail.disk.groupsync import GroupSync
from hornetmail.disk.records import Position, RecordLog
from hornetmail.spool.disk.journal import Record
from hornetmail.spool.recall import Recall
from hornetmail.spool.rows.index import Change, Checkpoint, Index, stored
from hornetmail.spool.rows.live import Live

LAG = 2.0
"""Seconds that a message may change before the index hears of it: one that comes and goes within them never touches it."""

EVERY = 1.0
AGAIN = 10.0
"""Seconds until a failed write of the index is tried again."""

PAGE = 500
BEHIND = 20_000
"""Changed messages of which the index has not heard: see ``breathe``."""


class Keeper:
    """Writes what changed, in batches."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        live: Live,
        journal: RecordLog,
        sync: GroupSync,
        index: Index,
        recall: Recall,
        alarm: Callable[[str, str], None],
    ) -> None:
        self._reactor = reactor
        self._live = live
        self._journal = journal
        self._sync = sync
        self._index = index
        self._recall = recall
        self._alarm = alarm
        self._writing = DeferredLock()
        self._timer: Any = None
        self._written: Position | None = None
        self._closed = False
        self._failed = False
        self.last = Position(0, 0)
        """The newest record that was applied."""

    def applied(self, kind: int, record: Record, place: Position, size: int) -> None:
        """Apply a durable record; called in the order of the journal."""
        self._live.apply(kind, record, place, size)
        self._live.messages.cool()
        self.last = place
        if self._timer is None:
            self.soon()

    def replay(self, kind: int, record: Record, place: Position, size: int) -> None:
        """``applied``, at start and in a thread."""
        self._live.apply(kind, record, place, size)
        self._live.messages.cool()
        self.last = place

    def started(self) -> None:
        """The replay is over."""
        self.soon()

    def soon(self) -> None:
        """Write the index in a while."""
        if self._timer is None and not self._closed:
            self._timer = self._reactor.callLater(EVERY, self._ring)

    def _ring(self) -> None:
        self._timer = None

        def again(seconds: float) -> None:
            if self._timer is None and not self._closed and (self._live.dirty or self._live.dirty_facts):
                self._timer = self._reactor.callLater(seconds, self._ring)

        def failed(failure: Any) -> None:
            self.log.error(
                "the queue's index cannot be written (the journal is not concerned): {why}", why=failure.getErrorMessage()
            )
            if failure.check(DatabaseBroken):
                self._closed = True
                self._alarm(
                    "queue-index",
                    f"the queue's index is broken; mail flows, a restart makes it again: {failure.getErrorMessage()}",
                )
            else:
                again(AGAIN)

        Deferred.fromCoroutine(self.write()).addCallbacks(lambda _: again(EVERY), failed)

    async def breathe(self) -> None:
        """Whoever changes many rows waits here between two slices of them, so that the index keeps up."""
        if len(self._live.dirty) < BEHIND or self._closed or self._failed:
            await deferLater(self._reactor, 0)
            return
        try:
            await self.write(everything=True)
        except Exception as error:  # noqa: BLE001  the journal has it all, and ``_ring`` tells
            self.log.error("the queue's index falls behind: {error}", error=error)

    async def write(self, everything: bool = False) -> None:
        """Bring the index up to date: with all, or with what has been lasting for a while. Raises the database's errors; nothing is lost."""
        while True:
            await self._writing.acquire()
            try:
                more = await self._write_some(everything)
            finally:
                self._writing.release()
            if not more:
                return

    async def _write_some(self, everything: bool) -> bool:
        live = self._live
        before = live.up() - LAG
        unknown: list[int] = []
        for number in [one for one, since in islice(live.dirty.items(), PAGE) if everything or since[1] <= before]:
            entry = live.messages.get(number)
            if entry is not None and not entry.indexed and entry.meta is None:
                unknown.append(number)
        if unknown:
            await self._recall.messages(unknown)
        taken: dict[int, tuple[Position, float]] = {}
        for number, since in live.dirty.items():
            if len(taken) == PAGE or not (everything or since[1] <= before):
                break
            taken[number] = since
        for number in taken:
            del live.dirty[number]
        facts, live.dirty_facts = live.dirty_facts, {}
        change = Change([], [], [], self._checkpoint())
        for number in taken:
            entry = live.messages.get(number)
            if entry is None:
                change.left.append(number)
            else:
                entry.indexed = True
                change.entries.append(stored(entry))
        live.messages.cool()
        for space, key in facts:
            place = live.fact_places.get((space, key), self.last)
            change.facts.append((space, key, place.segment, place.offset, live.facts.get(space, {}).get(key)))
        goal = change.checkpoint.place if change.checkpoint else None
        if not taken and not facts and goal == self._written:
            return False
        try:
            await self._index.write(change)
            self._failed = False
        except BaseException:
            self._failed = True
            live.dirty = {**taken, **{number: since for number, since in live.dirty.items() if number not in taken}}
            live.dirty_facts = {**facts, **{fact: place for fact, place in live.dirty_facts.items() if fact not in facts}}
            raise
        self._written = goal
        return len(taken) == PAGE

    def _checkpoint(self) -> Checkpoint | None:
        """Everything before it is, or is about to be, in the index."""
        live = self._live
        if not self.last.segment:
            return None
        place = Position(self.last.segment, self.last.offset + 1)
        if live.dirty:
            place = min(place, next(iter(live.dirty.values()))[0])
        return Checkpoint(place, self._journal.name(place.segment))

    async def close(self) -> None:
        """Write all, stop."""
        self._closed = True
        await self._sync.idle()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            await self.write(everything=True)
        except Exception as error:  # noqa: BLE001  the journal has it all
            self.log.error("the queue's index was not written: {error}", error=error)
        await self._index.close()
