"""Bodies of live messages, wherever they are."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from hornetmail.disk.records import BadRecord, RecordLog
from hornetmail.interfaces.body import IBody
from hornetmail.spool.disk.bodies import GONE, BodyFiles, BytesBody, FileBody, Recent
from hornetmail.spool.disk.errors import BodyLost, SpoolError
from hornetmail.spool.disk.journal import Where, body_of
from hornetmail.spool.recall import Recall
from hornetmail.spool.rows.live import Live


class Reading:
    """Reads, and tells once of each body that turns out to be gone for good."""

    log = Logger()

    def __init__(
        self, live: Live, journal: RecordLog, files: BodyFiles, recent: Recent, recall: Recall, alarm: Callable[[str, str], None]
    ) -> None:
        self._live = live
        self._journal = journal
        self._files = files
        self._recent = recent
        self._recall = recall
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
                self._files,
                entry.file,
                await self._size(message),
                lambda: self._here(message),
                lambda error: self.lost(message, error),
            )
        recent = self._recent.get(message)
        return BytesBody(recent if recent is not None else await self._read(message))

    def _here(self, message: int) -> bool:
        entry = self._live.messages.get(message)
        return entry is not None and entry.needs_body

    async def _size(self, message: int) -> int:
        """Of a body in a file."""
        recalled = await self._recall.messages([message])
        if message in recalled.found:
            return recalled.found[message].size
        if not self._here(message):
            raise KeyError(message)
        if message in recalled.later:
            raise SpoolError(f"message {message} cannot be read now: {recalled.later[message]}")
        raise BodyLost(f"how long the body of {message} is cannot be read: {recalled.lost.get(message)}")

    async def _read(self, message: int) -> bytes:
        """A short body, from the journal."""
        while True:
            entry = self._live.messages.get(message)
            if entry is None or not entry.needs_body:
                raise KeyError(message)
            if entry.where is not Where.RECORD:
                raise BodyLost(f"the body of {message} is lost")
            place = entry.place
            try:
                return body_of(await self._files.thread(self._journal.read, place))
            except (KeyError, BadRecord, OSError) as error:
                now = self._live.messages.get(message)
                if now is None or not now.needs_body:
                    raise KeyError(message) from None
                if now.place != place:
                    continue  # it was copied forward meanwhile
                if isinstance(error, OSError) and error.errno not in GONE:
                    raise SpoolError(f"the body of {message} cannot be read now: {error}") from error
                self.damaged.add(place.segment)
                await self.lost(message, error)
                raise BodyLost(f"the body of {message} cannot be read: {error}") from error

    def recent(self, message: int) -> bytes | None:
        """A short body, if it happens to be in memory."""
        return self._recent.get(message)

    async def lost(self, message: int, error: Exception) -> None:
        """A body turned out to be gone: tell of it, once in a life of the service."""
        if message in self._told:
            return
        self._told.add(message)
        known = (await self._recall.shown([message])).get(message)
        envelope = known.envelope if known else None
        sender = (envelope.sender if envelope else "") or "<>"
        to = ", ".join(one.address for one in envelope.recipients[:5]) if envelope else "?"
        self.log.error("the body of message {number} is lost: {error}", number=message, error=error)
        self._alarm("queue-body-lost", f"the text of message {message} from {sender} to {to} cannot be read from disk: {error}")
