"""Messages of which memory keeps no more than their rows: read again from the journal, and from the index where the journal is damaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hornetmail.core.delivery.queued import Message, RowKind
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.db.engines import DatabaseError
from hornetmail.disk.records import BadRecord, Position, RecordLog
from hornetmail.spool.disk.bodies import GONE, BodyFiles
from hornetmail.spool.disk.journal import UnknownRecord, message_of
from hornetmail.spool.rows.entry import Entry
from hornetmail.spool.rows.index import Index
from hornetmail.spool.rows.live import Live

_TOGETHER = 100
"""Messages that a thread reads at a time."""

_LOOKED_AT = 500
"""Messages that are looked for in a turn of the reactor."""


class Recalled(msgspec.Struct, gc=False):
    """Messages by ID, as far as they are live. ``later``: those that cannot be read now. ``lost``: those of which nothing but their rows is left."""

    found: dict[int, Message]
    later: dict[int, Exception]
    lost: dict[int, Exception]


class Recall:
    """Answers at once, without a turn of the reactor, when memory has all of some hundred messages that are asked for."""

    log = Logger()

    def __init__(self, reactor: Any, live: Live, journal: RecordLog, files: BodyFiles, index: Index) -> None:
        self._reactor = reactor
        self._live = live
        self._journal = journal
        self._files = files
        self._index = index

    async def messages(self, numbers: Iterable[int]) -> Recalled:
        """These messages. One that left meanwhile, or was not live, is in no part of the answer."""
        recalled = Recalled({}, {}, {})
        wanted = list(dict.fromkeys(numbers))
        for start in range(0, len(wanted), _LOOKED_AT):
            if start:
                await deferLater(self._reactor, 0)
            missing: list[int] = []
            for number in wanted[start : start + _LOOKED_AT]:
                entry = self._live.messages.get(number)
                if entry is not None:
                    message = entry.message
                    if message is not None:
                        recalled.found[number] = message
                    else:
                        missing.append(number)
            for first in range(0, len(missing), _TOGETHER):
                await self._read(missing[first : first + _TOGETHER], recalled)
        return recalled

    async def shown(self, numbers: Iterable[int]) -> dict[int, Message]:
        """These messages for people to look at: what cannot be read is a message that has no more than its rows say."""
        recalled = await self.messages(numbers)
        for number in (*recalled.later, *recalled.lost):
            entry = self._live.messages.get(number)
            if entry is not None:
                recalled.found[number] = remains(entry)
        return recalled.found

    async def _read(self, numbers: list[int], recalled: Recalled) -> None:
        damaged: dict[int, Exception] = {}
        while numbers:
            places = {number: entry.place for number in numbers if (entry := self._live.messages.get(number)) is not None}
            numbers = []
            outcomes = await self._files.thread(self._read_all, places)
            for number, outcome in outcomes.items():
                entry = self._live.messages.get(number)
                if entry is None:
                    continue
                if isinstance(outcome, Message):
                    entry.meta = recalled.found[number] = outcome
                elif entry.place != places[number]:
                    numbers.append(number)  # it was copied forward meanwhile
                elif isinstance(outcome, OSError) and outcome.errno not in GONE:
                    recalled.later[number] = outcome
                else:
                    damaged[number] = outcome
            self._live.messages.cool()
        if damaged:
            await self._from_index(damaged, recalled)

    def _read_all(self, places: dict[int, Position]) -> dict[int, Message | Exception]:
        """Blocking."""
        outcomes: dict[int, Message | Exception] = {}
        for number, place in places.items():
            try:
                message = message_of(self._journal.read(place))
                outcomes[number] = message if message.id == number else BadRecord(f"another message at {place}")
            except (KeyError, BadRecord, UnknownRecord, OSError) as error:
                outcomes[number] = error
        return outcomes

    async def _from_index(self, damaged: dict[int, Exception], recalled: Recalled) -> None:
        try:
            found = await self._index.messages(list(damaged))
        except DatabaseError as error:
            self.log.error("the queue's index cannot help with damaged places of the journal: {error}", error=error)
            found = {}
        for number, why in damaged.items():
            entry = self._live.messages.get(number)
            if entry is None:
                continue
            message = found.get(number)
            if message is not None and message.id == number:
                entry.meta = recalled.found[number] = message
            else:
                recalled.lost[number] = why


def remains(entry: Entry) -> Message:
    """What the rows know of a message that cannot be read: no sender, so that nobody gets a bounce of it."""
    known = {row.number: row.address for row in entry.rows if row.kind is not RowKind.ARCHIVE}
    count = max(known, default=-1) + 1
    recipients = tuple(Recipient(known.get(number, "")) for number in range(count))
    direction = Direction.OUT if entry.outgoing else Direction.IN
    arrived = min((row.queued for row in entry.rows), default=0.0)
    return Message(
        entry.id,
        entry.tenant,
        Envelope("", recipients),
        Origin(Door.REDELIVERY),
        direction,
        arrived,
        0,
        b"",
        b"",
        entry.domain,
        entry.request,
    )
