"""Messages that a search cannot read: the others are found, and it is said that these may be missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.logger import Logger

from hornetmail.core.folder import FolderError

T = TypeVar("T")

MOST = 8
"""After so many it is the disk, and not they: the command is given up."""


class Unreadable:
    """Those of one command, which asks about many at once, and about each alone where that fails."""

    log = Logger()

    def __init__(self) -> None:
        self.uids: set[int] = set()

    async def each(self, uids: Sequence[int], ask: Callable[[Sequence[int]], Awaitable[dict[int, T]]]) -> dict[int, T]:
        """What is found of those that can be read. Raises FolderError."""
        wanted = [uid for uid in uids if uid not in self.uids] if self.uids else uids
        try:
            return await ask(wanted)
        except FolderError as error:
            if error.code != "UNAVAILABLE":
                raise
        found: dict[int, T] = {}
        for uid in wanted:
            try:
                found.update(await ask([uid]))
            except FolderError as error:
                self._failed(uid, error)
        return found

    def _failed(self, uid: int, error: FolderError) -> None:
        self.uids.add(uid)
        if error.code != "UNAVAILABLE" or len(self.uids) > MOST:
            raise error
        self.log.warn("message {uid} cannot be read for a search: {why}", uid=uid, why=error.__cause__ or error)

    @property
    def words(self) -> bytes:
        """What the client is told, besides what was found; nothing if all could be read."""
        if not self.uids:
            return b""
        return b"* NO [UNAVAILABLE] %d messages cannot be read now and may be missing here\r\n" % len(self.uids)
