"""Months indexed by an earlier version get the present form, while the archive runs (``archive/index/writing/renewal.py``)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hornetmail.archive.index.writing.poison import text_of
from hornetmail.archive.index.writing.renewal import Due, begin_renewal, due, end_renewal, known_text, months_left, renew
from hornetmail.archive.media.medium import MediumError, MediumMissing
from hornetmail.archive.running.footing import Footing
from hornetmail.archive.store.shelf import PackRow, pack_row
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.engines import Cursor
from hornetmail.disk.records import BadRecord
from hornetmail.mime.reading.mail import MailText

SLICE = 16
"""Mails that are read and entered together: mail that arrives waits for no more."""

LONGEST_REST = 1.0
"""Seconds. Between two slices others have as long as the slice took, at most that."""


class Renewed(msgspec.Struct, frozen=True):
    """What a run came to. ``months`` have their form now, ``left`` do not; ``mails`` were read, of ``unread`` of them only what the index knew; ``waits``: why a month cannot be read now; ``halted``: it was asked to
    end before it was done."""

    months: int = 0
    left: int = 0
    mails: int = 0
    unread: int = 0
    waits: str = ""
    halted: bool = False


class Renewing:
    """One run at a time is the timetable's to see to; two would only do some work twice."""

    log = Logger()

    def __init__(self, footing: Footing) -> None:
        self._holdings = footing.holdings
        self._standing = footing.standing
        self._uptime = footing.around.uptime
        self._halted = False
        self._waiting: Deferred[None] | None = None

    def halt(self) -> None:
        """The run that is under way ends behind its slice, or the file that it waits for."""
        self._halted = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> Renewed:
        """The newest month first; the next run goes on where this one ended. Raises ArchiveError: the index cannot be written now."""
        self._halted = False
        found = Renewed()
        for month in await self._standing.writing().database.read(months_left):
            try:
                found = await self._month(month, found)
            except MediumError as error:
                # The others may lie elsewhere.
                self.log.error("month {month} waits for its new form: {error}", month=month, error=error)
                found = msgspec.structs.replace(found, waits=str(error))
            if self._halted:
                break
        if found.mails:
            # Of a month that is not done yet, too.
            self._standing.writing().words.wake()
        left = await self._standing.writing().database.read(months_left)
        return msgspec.structs.replace(found, left=len(left), halted=self._halted and bool(left))

    async def _month(self, month: int, found: Renewed) -> Renewed:
        """The new table takes the old one's place when it has the words of files too, as far as they can be read now: the old one may have them."""
        after = await self._standing.writing().database.run(begin_renewal, month)
        heard = False
        while after is not None and not self._halted:
            began = self._uptime()
            database = self._standing.writing().database
            wanted, packs = await database.read(_next, month, after)
            if not wanted:
                if heard and await database.run(end_renewal, month):
                    return msgspec.structs.replace(found, months=found.months + 1)
                if not heard:
                    await self._hear()
                    heard = True
                # Mail may have come meanwhile, or the month may have gone.
                after = await database.run(begin_renewal, month)
                continue
            texts = await self._holdings.in_thread(self._texts, wanted, packs)
            unread = [place for place, text in texts if text is None]
            known = {place: await database.read(known_text, place) for place in unread}
            if not await database.run(renew, month, [(place, text or known[place]) for place, text in texts]):
                return found
            after = wanted[-1].place
            found = msgspec.structs.replace(found, mails=found.mails + len(texts), unread=found.unread + len(unread))
            await deferLater(self._holdings.reactor, min(LONGEST_REST, max(0.0, self._uptime() - began)), lambda: None)
        return found

    async def _hear(self) -> None:
        """Returns when no file waits that can be read now, or the run is to end."""
        words = self._standing.writing().words
        words.wake()
        self._waiting = Deferred.fromCoroutine(words.done())
        try:
            await self._waiting
        except CancelledError:
            if not self._halted:
                raise
        finally:
            self._waiting = None

    def _texts(self, wanted: Sequence[Due], packs: dict[int, PackRow | None]) -> list[tuple[int, MailText | None]]:
        """In a thread. None: its bytes cannot be read, and will not be tomorrow. Raises MediumError: not now."""
        shelf = self._holdings.shelf
        texts: list[tuple[int, MailText | None]] = []
        for one in wanted:
            pack = packs[one.pack] if one.pack is not None else None
            try:
                raw = shelf.mail(shelf.record(pack, one.start, one.length, one.record))[1]
            except (KeyError, MediumMissing) as error:
                # It moved just now, into a pack or into another one.
                raise MediumError(f"mail in the pack of record {one.record.hex()} is elsewhere: {error}") from error
            except MediumError:
                raise
            except (ArchiveError, BadRecord) as error:
                self.log.error("record {record} keeps no more than its header: {error}", record=one.record.hex(), error=error)
                texts.append((one.place, None))
                continue
            texts.append((one.place, text_of(one.record, raw, self._poisoned)))
        return texts

    def _poisoned(self, record: bytes, why: str) -> None:
        self.log.error("record {record} is in the index by its headers only: {why}", record=record.hex(), why=why)


def _next(cursor: Cursor, month: int, after: int) -> tuple[list[Due], dict[int, PackRow | None]]:
    wanted = due(cursor, month, after, SLICE)
    return wanted, {pack: pack_row(cursor, pack) for pack in {one.pack for one in wanted} if pack is not None}
