"""Keeps the journal short: what lives in its old segments is copied to its end, then they go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hornetmail.core.delivery.queued import DONE, Message
from hornetmail.disk.files import DiskFull
from hornetmail.disk.groupsync import GroupSync
from hornetmail.disk.records import BadRecord, Position, RecordLog
from hornetmail.spool.disk.errors import SpoolError
from hornetmail.spool.disk.journal import Kind, Remembered, Snapshot, Where, body_of
from hornetmail.spool.keeper import Keeper
from hornetmail.spool.reading import Reading
from hornetmail.spool.recall import Recall
from hornetmail.spool.rows.live import REQUESTS, UPTIME, WALL, Live, request_fact

REQUEST_DAYS = 7
TRIES = 3
"""Runs of ``tidy``, a minute each, in which a body may not be readable before it is given up: a disk can have a bad moment."""

_STEP = 200
_FACTS = 5000
"""Messages, or facts and times, looked at in a turn of the reactor."""


class Tidying:
    """``submit`` journals a record. Segments with damage in them are put aside, not removed, for whoever can make more of them."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        live: Live,
        journal: RecordLog,
        sync: GroupSync,
        keeper: Keeper,
        reading: Reading,
        recall: Recall,
        submit: Callable[..., Deferred[Position]],
    ) -> None:
        self._reactor = reactor
        self._live = live
        self._journal = journal
        self._sync = sync
        self._keeper = keeper
        self._submit = submit
        self._reading = reading
        self._recall = recall
        self._lock = DeferredLock()
        self._closed = False
        self._unread: dict[int, int] = {}
        self._noted = 0.0

    async def tidy(self) -> int:
        """Drop old segments; the number. What lives in one is copied forward first, if it is little or the journal is mostly dead. A message
        whose body cannot be read costs its body, not the segment's going: it is told of, and goes on without."""
        await self._lock.acquire()
        try:
            await self._note_uptime()
            await self._forget_requests()
            dropped = 0
            while True:
                segments = self._journal.segments()
                if self._closed or len(segments) < 2 or not self._worth(segments):
                    return dropped
                if not await self._empty(segments[0]):
                    return dropped
                await self._keeper.write(everything=True)
                if segments[0] in self._reading.damaged:
                    go = partial(self._journal.set_aside, segments[0], self._journal.directory / "damaged")
                    self.log.warn("a damaged segment is kept as {path}", path=str(await self._sync.alone(go)))
                else:
                    await self._sync.alone(partial(self._journal.drop, segments[0]))
                self._reading.damaged.discard(segments[0])
                dropped += 1
        finally:
            self._lock.release()

    async def close(self) -> None:
        """Stop, once the step under way is over, and note the uptime."""
        self._closed = True
        await self._lock.acquire()
        try:
            await self._note_uptime()
        except (DiskFull, SpoolError) as error:
            self.log.warn("the uptime is not noted: {error}", error=error)
        finally:
            self._lock.release()

    def _worth(self, segments: list[int]) -> bool:
        alive = self._live.segment_bytes
        oldest = alive.get(segments[0], 0)
        total = sum(self._journal.size(segment) for segment in segments)
        return 4 * oldest <= self._journal.size(segments[0]) or 2 * sum(alive.values()) < total

    async def _empty(self, segment: int) -> bool:
        """Copy forward what lives in a segment; False if something in it has to wait for another time."""
        live = self._live
        facts = list(live.fact_places.items())
        for start in range(0, len(facts), _FACTS):
            for (space, key), place in facts[start : start + _FACTS]:
                value = live.facts.get(space, {}).get(key)
                if place.segment <= segment and value is not None and live.fact_places.get((space, key)) == place:
                    await self._submit(Kind.REMEMBERED, Remembered(space, key, value))
            await deferLater(self._reactor, 0)
        for old in [number for number in live.in_segment if number <= segment]:
            after = 0
            while not self._closed and old in live.in_segment:
                numbers = list(islice(live.in_segment[old].after(after), _STEP))
                if not numbers:
                    break
                for number in numbers:
                    if not self._closed:
                        await self._copy(number, old)
                live.messages.cool()
                after = numbers[-1]
        return not self._closed and not any(number <= segment for number in live.in_segment)

    async def _copy(self, number: int, segment: int) -> None:
        """A snapshot of a message as it is, at the journal's end, if its last one is in that segment. It waits for transitions under way, and later
        ones wait for it."""
        live = self._live
        entry = live.messages.get(number)
        if entry is None or entry.segment != segment:
            return
        where, body = entry.where, b""
        if where is Where.RECORD and entry.needs_body:
            read = await self._read(number)
            if read is None:
                return
            where, body = (Where.LOST, b"") if isinstance(read, Exception) else (where, read)
        message = await self._message(number)
        entry = live.messages.get(number)
        if message is None or entry is None:
            return
        turn = await live.turns.take(row.id for row in entry.rows if row.state not in DONE)
        try:
            entry = live.messages.get(number)
            if self._closed or entry is None or entry.segment != segment:
                live.end(turn)
                return
            if where is Where.FILE:
                where = entry.where
            elif where is Where.RECORD and not entry.needs_body:
                where, body = Where.NOWHERE, b""
            copied = self._submit(
                Kind.KEPT, Snapshot(message, list(entry.rows), where, entry.file), (body,) if body else (), turn=turn
            )
        except BaseException:
            live.end(turn)
            raise
        await copied

    async def _read(self, number: int) -> bytes | Exception | None:
        """The body of a message; what became of that if it is given up, None if it is to be asked for another time, or has left."""
        entry = self._live.messages[number]
        place = entry.place
        try:
            return body_of(await self._sync.alone(lambda: self._journal.read(place)))
        except KeyError:
            return None
        except (BadRecord, OSError) as error:
            recent = self._reading.recent(number)
            self._reading.damaged.add(place.segment)
            if recent is None and not self._given_up(number, error):
                return None
            if recent is None:
                await self._reading.lost(number, error)
            return error if recent is None else recent

    async def _message(self, number: int) -> Message | None:
        """The message; what is left of it if it is given up, None if it is to be asked for another time, or has left."""
        recalled = await self._recall.messages([number])
        if number in recalled.later:
            self.log.error("message {number} cannot be read: {error}", number=number, error=recalled.later[number])
        elif number in recalled.lost and self._given_up(number, recalled.lost[number]):
            return (await self._recall.shown([number])).get(number)
        return recalled.found.get(number)

    def _given_up(self, number: int, error: Exception) -> bool:
        """Whether a message that cannot be read could not be for long enough."""
        tries = self._unread[number] = self._unread.get(number, 0) + 1
        if tries < TRIES:
            self.log.error("message {number} cannot be read: {error}", number=number, error=error)
        return tries >= TRIES

    async def _note_uptime(self) -> None:
        """Once a run: what a crash costs of it is a minute."""
        up = self._live.up()
        if up - self._noted >= 1.0 and self._live.rows:
            await self._submit(Kind.REMEMBERED, Remembered(UPTIME, "", repr(up).encode()))
            self._noted = up

    async def _forget_requests(self) -> None:
        """Counted by uptime, as a request comes again only while the service is up."""
        live = self._live
        before = live.up() - REQUEST_DAYS * 86400
        for key, value in list(live.facts.get(REQUESTS, {}).items()):
            left = request_fact(value)[0]
            if (left if left < WALL else left - self._reactor.seconds() + live.up()) < before:
                await self._submit(Kind.REMEMBERED, Remembered(REQUESTS, key, None))
