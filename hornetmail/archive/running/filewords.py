"""The words of files that hang on mail, behind the mail itself: it is found by its own words at once, and by theirs when somebody has read them."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from hornetmail.archive.index.writing.unread import Unread, away, back, give_up, locate_unread, next_unread, take_words
from hornetmail.archive.media.medium import MediumError, MediumMissing
from hornetmail.archive.store.holdings import Holdings
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.engines import DatabaseError
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord
from hornetmail.interfaces.readers import IReaders, ReadersAway, ReadingFailed
from hornetmail.mime.reading.mail import MailText

RETRY = 30.0
"""Seconds until the next try when nobody could read, or the index could not be written."""

TRIES = 3
"""A mail may move between looking and reading."""

AHEAD = 2
"""Mails that are asked for at a time, for each process: so many lie in memory."""


class Heard(Protocol):
    """Who tells of trouble (``footing.Voice``)."""

    def here(self, code: str, text: str) -> None: ...
    def over(self, code: str, why: str) -> None: ...


class FileWords:
    """One loop over what waits in the index, the newest first. ``readers`` None: it waits."""

    log = Logger()

    def __init__(self, holdings: Holdings, database: Database, readers: IReaders | None, voice: Heard) -> None:
        self._holdings = holdings
        self._database = database
        self._readers = readers
        self._voice = voice
        self._failed = False
        self._running = False
        self._again = False
        self._stopped = False
        self._timer: Any = None
        self._waiting: list[Deferred[None]] = []
        self._reading: set[Deferred[MailText]] = set()

    def wake(self) -> None:
        """There is something to read."""
        self._again = True
        if self._readers is None or self._readers.processes < 1 or self._running or self._stopped:
            return
        self._quiet()
        self._running = True
        Deferred.fromCoroutine(self._run())

    async def retry(self) -> None:
        """A medium is back."""
        await self._database.run(back)
        self.wake()

    async def done(self) -> None:
        """Returns when nothing waits that can be read now, or it was stopped."""
        while self._running:
            done: Deferred[None] = Deferred()
            self._waiting.append(done)
            await done

    async def stop(self) -> None:
        """What is being read is read another time."""
        self._stopped = True
        self._quiet()
        for one in list(self._reading):
            one.cancel()
        await self.done()

    def _quiet(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def _run(self) -> None:
        try:
            while self._again and not self._stopped:
                self._again = False
                while not self._stopped and (batch := await self._database.read(next_unread, AHEAD * self._side_by_side())):
                    await self._batch(batch)
        except Exception as error:  # noqa: BLE001  what waits stays in the index, and is tried again
            if not self._stopped:
                self.log.error("files of mail are not read now, next try in {retry} s: {error}", retry=RETRY, error=error)
                self._failed = True
                self._voice.here("archive-files", f"files that hang on mail are not read, and not searched: {error}")
                self._timer = self._holdings.reactor.callLater(RETRY, self.wake)
        self._running = False
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def _side_by_side(self) -> int:
        return self._readers.processes if self._readers is not None else 0

    async def _batch(self, batch: list[int]) -> None:
        """All of it, side by side as far as there are processes. Raises the first error once all have ended."""
        under_way = [Deferred.fromCoroutine(self._one(place)) for place in batch]
        first: Exception | None = None
        for one in under_way:
            try:
                await one
            except Exception as error:  # noqa: BLE001  raised below
                first = first or error
        if first is not None:
            raise first

    async def _one(self, place: int) -> None:
        try:
            if (raw := await self._raw(place)) is None:
                return
            text = await self._read(raw)
            await self._database.run(take_words, place, text)
            if self._failed:
                self._failed = False
                self._voice.over("archive-files", "files are read again")
        except CancelledError:
            return
        except (ReadersAway, DatabaseError):
            raise
        except MediumError as error:
            self.log.info("files of a mail wait for their medium: {error}", error=error)
            await self._database.run(away, place)
        except (ArchiveError, BadRecord) as error:
            # Whoever verifies the archive is told of it.
            await self._database.run(give_up, place, f"the archived mail cannot be read: {error}")
        except ReadingFailed as error:
            await self._database.run(give_up, place, str(error))
        except Exception as error:  # noqa: BLE001  one mail must not hold up those behind it
            self.log.failure("the words of a mail's files cannot be put into the index")
            await self._database.run(give_up, place, f"its words cannot be put into the index: {error!r}"[:200])

    async def _raw(self, place: int) -> bytes | None:
        """The mail, None if it went. It may move to a pack, or to another one, between looking and reading. Raises ArchiveError, BadRecord."""
        for attempt in range(1, TRIES + 1):
            if (one := await self._database.read(locate_unread, place)) is None:
                return None
            try:
                return bytes(await self._holdings.in_thread(self._open, one))
            except (KeyError, MediumMissing) as error:
                if attempt == TRIES:
                    raise MediumMissing(f"a mail is neither staged nor in a pack: {error}") from None
        raise AssertionError

    def _open(self, one: Unread) -> bytes:
        """In a thread."""
        shelf = self._holdings.shelf
        return shelf.mail(shelf.record(one.pack, one.start, one.length, one.record))[1]

    async def _read(self, raw: bytes) -> MailText:
        assert self._readers is not None
        if self._stopped:
            raise CancelledError
        reading = Deferred.fromCoroutine(self._readers.read(raw))
        self._reading.add(reading)
        try:
            return await reading
        finally:
            self._reading.discard(reading)
