"""Bodies of live messages, wherever they are."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from hornetmail.disk.records import BadRecord, RecordLog
from hornetmail.interfaces.body import IBody
from hornetmail.spool.disk.bodies import GONE, BodyFiles, BytesBody, FileBody, Recent
from hornetmail.spool.disk.errors import BodyLost, SpoolError
from hornetmail.spool.disk.journal import Where, body_of
from hornetmail.spool.rows.live import Entry, Live


class Reading:
    """Reads, and tells once of each body that turns out to be gone for good."""

    log = Logger()

    def __init__(
        self, live: Live, journal: RecordLog, files: BodyFiles, recent: Recent, alarm: Callable[[str, str], None]
    ) -> None:
        self._live = live
        self._journal = journal
        self._files = files
        self._recent = recent
        self._alarm = alarm
        self._told: set[int] = set()
        self.damaged: set[int] = set()
        """Segments with damage in them, found at start or since."""

    async def body(self, message: int) -> IBody:
        """The body as received. Raises KeyError once deliver and archive rows are done, BodyLost, and SpoolError if it cannot be read now."""
        entry = self._live.messages[message]
        if not entry.needs_body:
            raise KeyError(message)
        if entry.where is Where.FILE:
            return FileBody(
                self._files, entry.file, entry.message.size, lambda: self._here(entry), lambda error: self.lost(entry, error)
            )
        recent = self._recent.get(message)
        return BytesBody(recent if recent is not None else await self._read(entry))

    def _here(self, entry: Entry) -> bool:
        return self._live.messages.get(entry.id) is entry and entry.needs_body

    async def _read(self, entry: Entry) -> bytes:
        """A short body, from the journal."""
        while entry.where is Where.RECORD:
            place = entry.place
            try:
                return body_of(await self._files.thread(self._journal.read, place))
            except (KeyError, BadRecord, OSError) as error:
                if not self._here(entry):
                    raise KeyError(entry.id) from None
                if entry.place != place:
                    continue  # it was copied forward meanwhile
                if isinstance(error, OSError) and error.errno not in GONE:
                    raise SpoolError(f"the body of {entry.id} cannot be read now: {error}") from error
                self.damaged.add(place.segment)
                self.lost(entry, error)
                raise BodyLost(f"the body of {entry.id} cannot be read: {error}") from error
        raise BodyLost(f"the body of {entry.id} is lost")

    def recent(self, entry: Entry) -> bytes | None:
        """A short body, if it happens to be in memory."""
        return self._recent.get(entry.id)

    def lost(self, entry: Entry, error: Exception) -> None:
        """A body turned out to be gone: tell of it, once in a life of the service."""
        if entry.id in self._told:
            return
        self._told.add(entry.id)
        message = entry.message
        sender, to = message.envelope.sender or "<>", ", ".join(one.address for one in message.envelope.recipients[:5])
        self.log.error("the body of message {number} is lost: {error}", number=entry.id, error=error)
        self._alarm("queue-body-lost", f"the text of message {entry.id} from {sender} to {to} cannot be read from disk: {error}")
