"""The book of alarms (rule 8f): what the bus says of troubles becomes durable things in ``control.db`` that end with their cause.

It listens from the moment it is made, so that what is raised while the service starts is kept, and writes once ``control.db`` is open. Memory is
ahead of the database: an alarm about a broken database is told all the same. How an alarm ends:

* whoever raised it says so (``AlarmEnded``);
* or the book asks: ``watch`` gives a question for a code, which is asked every time it looks around, first after the start;
* or, for one without such a question that was open when the service started: it was not raised again within ``confirm`` seconds;
* or, for what happened and does not last (``Ends.SEEN``): somebody acknowledges it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core import alarms
from hornetmail.core.alarms import AlarmRecord, Ends, Stage, Telling, Way, kind_of
from hornetmail.core.events import Alarm, AlarmEnded, AlarmsChanged
from hornetmail.core.ids import IdSource
from hornetmail.db.pool import Database
from hornetmail.interfaces.bus import IBus

CONFIRM = 1200.0
"""Seconds after a start in which a trouble that lasts has shown itself again; every raiser looks at least that often."""

KEEP = 90 * 86400.0
"""Seconds that an ended alarm stays in the list of what was."""

OFTEN = 3600.0
"""Seconds between two looks at what is that old."""

CARRIED = 86400.0
"""Seconds after its end in which an alarm is still told to have ended, and in which another one remembers when it was told."""

PAGE = 200
"""Rows written in one call."""

MOST_TEXT = 2_000
"""Characters of an alarm's text and subject."""

MOST_ENDED = 10_000
"""Ended alarms that are read at start."""

_RECORD = msgspec.json.Decoder(AlarmRecord)

Gone = Callable[[AlarmRecord], str]
"""Why the cause of an alarm is gone, or ``""``: it lasts, or that cannot be told now."""


class AlarmBook:
    """``tenant_of`` answers whose business a domain is; alarms of no domain are the operator's (tenant 1)."""

    log = Logger()

    def __init__(self, clock: IReactorTime, bus: IBus, ids: IdSource, confirm: float = CONFIRM) -> None:
        self._clock = clock
        self._bus = bus
        self._ids = ids
        self._confirm = confirm
        self._began = clock.seconds()
        self._forgot = 0.0
        self._open: dict[tuple[str, str], AlarmRecord] = {}
        self._left: dict[int, AlarmRecord] = {}
        self._before: dict[tuple[str, str], AlarmRecord] = {}
        self._unconfirmed: set[tuple[str, str]] = set()
        self._dirty: dict[int, AlarmRecord] = {}
        self._gone: dict[str, Gone] = {}
        self._database: Database | None = None
        self._tenant_of: Callable[[str], int] = lambda domain: 1
        self._lock = DeferredLock()
        self._listeners: list[Callable[[], None]] = []
        bus.subscribe(Alarm, self.raise_)
        bus.subscribe(AlarmEnded, self.end)

    async def open(self, database: Database, tenant_of: Callable[[str], int]) -> None:
        """Take up what stood when the service stopped, and write down what was raised since it started."""
        self._tenant_of = tenant_of
        now = self._clock.seconds()
        stored = await database.read(_stored, now - CARRIED)
        for record in stored:
            if record.ended:
                self._before[record.key] = record
                if not alarms.settled(record):
                    self._left[record.number] = record
                continue
            raised = self._open.get(record.key)
            if raised is not None:
                self._dirty.pop(raised.number, None)
                record = msgspec.structs.replace(
                    record, text=raised.text, last=raised.last, count=record.count + raised.count, mail=record.mail
                )
            elif kind_of(record.code).ends is Ends.CAUSE:
                self._unconfirmed.add(record.key)
            self._open[record.key] = record
            if raised is not None:
                self._dirty[record.number] = record
        for record in list(self._dirty.values()):
            self._keep(msgspec.structs.replace(record, tenant=self._tenant_of(record.domain) if record.domain else 1))
        self._database = database
        await self.write()

    # -- what happens

    def watch(self, code: str, gone: Gone) -> None:
        """Ask ``gone`` for open alarms of that code whenever the book looks around."""
        self._gone[code] = gone

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it when there may be something to tell."""
        self._listeners.append(listener)

    def raise_(self, event: Alarm) -> None:
        """An alarm begins, or is raised again."""
        key = (event.code, _storable(event.subject or event.domain))
        text = _storable(event.text)
        now = self._clock.seconds()
        self._unconfirmed.discard(key)
        standing = self._open.get(key)
        if standing is not None:
            self._keep(alarms.raised(standing, text, now))
            return
        self.log.warn("alarm {code} {subject}: {text}", code=event.code, subject=key[1], text=text)
        tenant = self._tenant_of(event.domain) if event.domain else 1
        before = self._before.get(key)
        mail, hook = (Telling(before.telling(way).at) if before is not None else Telling() for way in (Way.MAIL, Way.HOOK))
        self._keep(
            AlarmRecord(
                number=self._ids.next(),
                code=event.code,
                subject=key[1],
                text=text,
                since=now,
                last=now,
                tenant=tenant,
                domain=event.domain,
                mail=mail,
                hook=hook,
            )
        )

    def end(self, event: AlarmEnded) -> None:
        """The cause is gone; nothing happens if there is no such alarm."""
        standing = self._open.get((event.code, event.subject))
        if standing is not None:
            self._end(standing, event.why or "it is over")

    def _end(self, standing: AlarmRecord, why: str) -> None:
        self.log.info(
            "alarm {code} {subject} ended after {seconds:.0f} s: {why}",
            code=standing.code,
            subject=standing.subject,
            seconds=self._clock.seconds() - standing.since,
            why=why,
        )
        self._keep(alarms.ended(standing, why, self._clock.seconds()))

    def _keep(self, record: AlarmRecord) -> None:
        """It is so from now on, in memory; the database follows."""
        if record.ended:
            if self._open.pop(record.key, None) is not None:
                self._unconfirmed.discard(record.key)
                self._before[record.key] = record
            if alarms.settled(record):
                self._left.pop(record.number, None)
            else:
                self._left[record.number] = record
        else:
            self._open[record.key] = record
        self._dirty[record.number] = record
        self._soon()
        self._bus.publish(AlarmsChanged(len(self._open)))
        for listener in self._listeners:
            listener()

    async def look(self) -> None:
        """Every half minute or so: what is gone ends, what was not written is written, what is old is forgotten."""
        now = self._clock.seconds()
        for record in list(self._open.values()):
            gone = self._gone.get(record.code)
            try:
                why = gone(record) if gone is not None else ""
            except Exception:  # noqa: BLE001 - one question that fails must not keep the others from being asked
                self.log.failure(
                    "whether the alarm {code} {subject} is over cannot be told", code=record.code, subject=record.subject
                )
                continue
            if why:
                self._end(record, why)
        for key in sorted(self._unconfirmed):
            if key[0] not in self._gone and now - self._began >= (kind_of(key[0]).within or self._confirm):
                self._end(self._open[key], "not seen again since the restart")
        self._before = {key: record for key, record in self._before.items() if now - record.ended < CARRIED}
        self._left = {number: record for number, record in self._left.items() if now - record.ended < CARRIED}
        await self.write()
        if self._database is not None and now - self._forgot >= OFTEN:
            self._forgot = now
            await self._database.run(_forget, now - KEEP)

    # -- writing

    def _soon(self) -> None:
        if self._database is not None and not self._lock.locked:
            Deferred.fromCoroutine(self.write())

    async def write(self) -> None:
        """What is in memory is in ``control.db`` on return, if that takes it; otherwise it stays to be written, and is told all the same."""
        if self._database is None:
            return
        await self._lock.acquire()
        try:
            while self._dirty:
                page = sorted(self._dirty.values(), key=lambda record: record.number)[:PAGE]
                try:
                    await self._database.run(_write, page)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, alarms go on
                    self.log.error("alarms cannot be written down: {error}", error=error)
                    return
                for record in page:
                    if self._dirty.get(record.number) is record:
                        del self._dirty[record.number]
        finally:
            self._lock.release()

    # -- what there is

    def standing(self, tenant: int = 0) -> Sequence[AlarmRecord]:
        """Open alarms of a tenant (0: of all), the newest first."""
        found = (record for record in self._open.values() if tenant in (0, record.tenant))
        return sorted(found, key=lambda record: record.number, reverse=True)

    def find(self, code: str, subject: str = "") -> AlarmRecord | None:
        """An open alarm."""
        return self._open.get((code, subject))

    async def over(self, tenant: int = 0, limit: int = 100) -> Sequence[AlarmRecord]:
        """Those that ended, the last one first."""
        if self._database is None:
            return []
        await self.write()
        return await self._database.read(_over, tenant, limit)

    def counts(self) -> dict[str, int]:
        """Open alarms by code; every code is there, so that a figure goes back to 0."""
        found = dict.fromkeys(alarms.KINDS, 0)
        for record in self._open.values():
            found[record.code] = found.get(record.code, 0) + 1
        return found

    async def acknowledge(self, numbers: Iterable[int], by: str, tenant: int = 0) -> int:
        """Somebody has seen these, or, if none is named, all of the tenant; how many were not acknowledged before. Durable on return."""
        wanted = set(numbers)
        found = [one for one in self.standing(tenant) if not one.acknowledged and (not wanted or one.number in wanted)]
        for record in found:
            self._keep(alarms.acknowledged(record, by, self._clock.seconds()))
        await self.write()
        return len(found)

    # -- telling

    def due(self, way: Way, repeat: Callable[[int], float]) -> list[tuple[AlarmRecord, Stage]]:
        """What that way has to say now, oldest first. ``repeat(tenant)``: seconds between reminders."""
        now = self._clock.seconds()
        records = sorted([*self._open.values(), *self._left.values()], key=lambda record: record.number)
        stages = [(record, alarms.due(record, way, now, repeat(record.tenant))) for record in records]
        return [(record, stage) for record, stage in stages if stage is not None]

    def told(self, way: Way, said: Iterable[tuple[AlarmRecord, Stage]]) -> None:
        """That way has said it. What changed meanwhile stays changed."""
        now = self._clock.seconds()
        for record, stage in said:
            current = self._open.get(record.key) or self._left.get(record.number)
            if current is None or current.number != record.number:
                current = self._left.get(record.number)
            if current is not None:
                self._keep(alarms.told(current, way, stage, now))


def _storable(text: str) -> str:
    """What a peer said may be anything: no NUL, no lone surrogates, and an end."""
    return text[:MOST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _stored(cursor: Any, ended_after: float) -> list[AlarmRecord]:
    cursor.execute("SELECT value FROM alarms WHERE ended = 0 ORDER BY number", ())
    found = [_RECORD.decode(value) for (value,) in cursor.fetchall()]
    cursor.execute("SELECT value FROM alarms WHERE ended > ? ORDER BY ended DESC LIMIT ?", (ended_after, MOST_ENDED))
    return [*(_RECORD.decode(value) for (value,) in reversed(cursor.fetchall())), *found]


def _write(cursor: Any, records: Sequence[AlarmRecord]) -> None:
    """Ended ones first: a further alarm of the same code and subject may be open already."""
    for record in sorted(records, key=lambda record: not record.ended):
        cursor.execute(
            "INSERT INTO alarms (number, tenant, code, subject, ended, value) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (number)"
            " DO UPDATE SET tenant = excluded.tenant, ended = excluded.ended, value = excluded.value",
            (
                record.number,
                record.tenant,
                record.code,
                record.subject,
                record.ended,
                msgspec.json.encode(record).decode(),
            ),
        )


def _over(cursor: Any, tenant: int, limit: int) -> list[AlarmRecord]:
    where, values = ("AND tenant = ?", (tenant,)) if tenant else ("", ())
    cursor.execute(f"SELECT value FROM alarms WHERE ended > 0 {where} ORDER BY ended DESC LIMIT ?", (*values, limit))
    return [_RECORD.decode(value) for (value,) in cursor.fetchall()]


def _forget(cursor: Any, before: float) -> None:
    cursor.execute(
        "DELETE FROM alarms WHERE number IN (SELECT number FROM alarms WHERE ended > 0 AND ended < ? LIMIT 200)", (before,)
    )
