"""A message that arrives in a folder: from a client (APPEND) or from the queue (a delivery)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from zope.interface import implementer

from hornetmail.core.folder import Copied, FolderError
from hornetmail.interfaces.body import IDeposit
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.landing import Instead, land, land_together
from hornetmail.portal.box.reading import summed_up
from hornetmail.portal.box.turns import Arrival, Whole
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.files import PIECE, Maildir
from hornetmail.portal.maildir.ground import shielded
from hornetmail.portal.maildir.snapshot import Place, Snapshot
from hornetmail.portal.maildir.trouble import told
from hornetmail.portal.rows.index import Kept

SCANNED_BYTES = 1 << 18
"""The structure of messages up to this size is made on arrival; of larger ones when somebody asks."""


class Inflow:
    """Bytes on their way into a file in ``tmp``: small ones stay in memory until the end, so that one hop writes and syncs them."""

    def __init__(self, box: Box, folder: str, base: str) -> None:
        self.size = 0
        self._box = box
        self._folder = folder
        self._base = base
        self._pieces: list[bytes] = []
        self._held = 0
        self._path: Path | None = None

    async def write(self, data: bytes) -> None:
        """Take a piece."""
        self._pieces.append(data)
        self._held += len(data)
        self.size += len(data)
        if self._held >= PIECE:
            pieces, self._pieces, self._held = self._pieces, [], 0
            append = self._path is not None
            self._path = await self._box.ground.thread(
                self._box.maildir.write, self._folder, self._base, pieces, 0.0, append=append, done=False
            )

    async def finish(self, date: float, hidden: int) -> tuple[Path, Kept | None]:
        """Write the rest, synced: the file, and what is kept of the message if it is small."""
        pieces, append = self._pieces, self._path is not None
        self._pieces = []
        scanned = not append and self.size <= SCANNED_BYTES
        path, kept = await self._box.ground.thread(
            _finish, self._box.maildir, self._folder, self._base, pieces, date, append, hidden if scanned else -1
        )
        self._path = path
        return path, kept

    def whole(self) -> Whole | None:
        """All of it, for who writes it himself, if it is small and nothing is written yet; else None, and it is to be finished."""
        if self._path is not None or self.size > SCANNED_BYTES:
            return None
        pieces, self._pieces = self._pieces, []
        return Whole(self._base, b"".join(pieces))

    async def discard(self) -> None:
        """Forget it."""
        self._pieces = []
        path, self._path = self._path, None
        if path is not None:
            await self._box.ground.thread(self._box.maildir.discard, path)


def _finish(
    maildir: Maildir, folder: str, base: str, pieces: list[bytes], date: float, append: bool, hidden: int
) -> tuple[Path, Kept | None]:
    whole = b"".join(pieces)
    path = maildir.write(folder, base, [whole], date, append=append)
    return path, summed_up(whole[hidden:]) if hidden >= 0 else None


@implementer(IDeposit)
class Append:
    """A client's message. Bare LF becomes CRLF; ``commit()`` answers ``Copied``. Raises FolderError."""

    def __init__(
        self, box: Box, snapshot: Snapshot, flags: frozenset[str], date: float | None, frees: int = 0, origin: str = ""
    ) -> None:
        """``frees``: bytes of a message that goes when this one comes; it counts for the quota only by what it is larger. ``origin``: the EMAILID that it
        has already."""
        self._box = box
        self._snapshot = snapshot
        self._flags = flags
        self._date = box.ground.now() if date is None else date
        self._inflow: Inflow | None = Inflow(box, snapshot.name, f"{int(self._date)}.{box.ground.number()}.{box.ground.host}")
        self._last = b""
        self._frees = frees
        self._origin = origin
        self.size = 0

    async def write(self, data: bytes) -> None:
        """See IDeposit."""
        if self._inflow is None or not data:
            return
        count = data.count(b"\n")
        if count:
            opening = self._last == b"\r" and data[:1] == b"\n"
            if count != data.count(b"\r\n") + opening:
                body = data[1:] if opening else data
                data = (b"\n" if opening else b"") + body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self._last = data[-1:]
        self.size += len(data)
        self._box.usage.admit(0 if self._frees else 1, self.size - self._frees)
        with told():
            await shielded(self._inflow.write(data))

    async def commit(self) -> Copied:
        """Durable, with its UID, on return."""
        with told():
            return await shielded(self._commit())

    async def finish(self, *, alone: bool = False) -> Arrival:
        """All is here, and wants its name: a finished file. ``alone``: nobody changes the mailbox just now, so that a small message is written where it gets its name, in one
        hop; where others are at work, files are written and synced side by side before they wait for their turn."""
        if self._inflow is None:
            raise ValueError("committed or aborted before")
        inflow = self._inflow
        whole = inflow.whole() if alone else None
        path: Path | Whole
        path, kept = (whole, None) if whole is not None else await inflow.finish(self._date, 0)
        letters = naming.letters_of(self._flags)
        place = Place(self._box.new_base(inflow.size, self._origin), "cur" if letters else "new", letters, 0, False)
        return Arrival(path, place, self._flags, inflow.size, self._date, kept, bound=True)

    def landed(self) -> None:
        """Its file has its name, and is no more the deposit's."""
        self._inflow = None

    async def _commit(self) -> Copied:
        box, snapshot = self._box, self._snapshot
        try:
            arrival = await self.finish(alone=not box.lock.locked)
            if snapshot.removed:  # while its message arrived; one of its name may have been made since, with UIDs of its own
                raise FolderError("NONEXISTENT", f"the folder {snapshot.name} has gone")
            uid = await land(box, snapshot.name, arrival)
        except BaseException:
            await self._abort()
            raise
        self.landed()
        return copied(box, snapshot, [uid])

    async def abort(self) -> None:
        """See IDeposit."""
        await shielded(self._abort())

    async def _abort(self) -> None:
        inflow, self._inflow = self._inflow, None
        if inflow is not None:
            with contextlib.suppress(OSError):
                await inflow.discard()


def copied(box: Box, snapshot: Snapshot, uids: Sequence[int]) -> Copied:
    """Where messages are that landed."""
    row = box.rows.get(snapshot.name)
    return Copied(snapshot.uidvalidity if row is None else row.uidvalidity, (), tuple(uids))


async def commit_together(box: Box, snapshot: Snapshot, deposits: Sequence[Append], instead: Instead | None) -> Copied:
    """See IFolder.commit."""
    try:
        uids = await land_together(box, snapshot, [await deposit.finish() for deposit in deposits], instead)
    except BaseException:
        for deposit in deposits:
            await deposit.abort()
        raise
    for deposit in deposits:
        deposit.landed()
    return copied(box, snapshot, uids)
