"""A message's bytes as they are served, wherever its file has been renamed to meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

from zope.interface import implementer

from hornetmail.core.folder import FolderError
from hornetmail.interfaces.body import IBody
from hornetmail.portal.box.box import Box
from hornetmail.portal.maildir.snapshot import Snapshot
from hornetmail.portal.maildir.trouble import told
from hornetmail.wire.engine import CHUNK_BYTES

AHEAD_BYTES = 1 << 20
"""Read ahead by ``chunks``."""


@implementer(IBody)
class FileBody:
    """One message of a folder. Raises FolderError EXPUNGEISSUED once it has gone, UNAVAILABLE if disk or index cannot say."""

    def __init__(self, box: Box, snapshot: Snapshot, uid: int) -> None:
        entry = snapshot.entries.get(uid)
        if entry is None:
            raise _gone(uid)
        self.size = entry.size
        self._box = box
        self._snapshot = snapshot
        self._uid = uid

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """See IBody."""
        with told():
            return await self._read(start, length)

    async def _read(self, start: int, length: int) -> bytes:
        snapshot, maildir = self._snapshot, self._box.maildir
        for attempt in range(3):
            place = snapshot.places.get(self._uid)
            if place is None:
                raise _gone(self._uid)
            try:
                return await self._box.ground.thread(maildir.read, snapshot.name, place, start, length)
            except FileNotFoundError:
                # another program renamed or removed it; or we did, just now
                if attempt or snapshot.places.get(self._uid) is place:
                    snapshot.looked = (0, 0, 0.0)
                    await self._box.look(snapshot)
        raise _gone(self._uid)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See IBody."""
        pos = 0
        while pos < self.size:
            piece = await self.read(pos, AHEAD_BYTES)
            if not piece:
                return
            for at in range(0, len(piece), CHUNK_BYTES):
                yield piece[at : at + CHUNK_BYTES]
            pos += len(piece)


def _gone(uid: int) -> FolderError:
    return FolderError("EXPUNGEISSUED", f"message {uid} has been removed")
