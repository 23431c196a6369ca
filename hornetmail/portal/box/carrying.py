"""Messages on their way from a folder of one mailbox into one of another: they arrive as if a client had brought them, and keep their EMAILID (RFC 8474 section 5.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Protocol

from hornetmail.core.folder import Copied, Entry, FolderError
from hornetmail.interfaces.body import IDeposit
from hornetmail.interfaces.folders import IFolder

TOGETHER = 64
"""Messages that are committed together."""

DELETED = "\\Deleted"


class Taking(Protocol):
    """A folder that takes messages of others' folders."""

    def twin(self, entry: Entry, known: str) -> IDeposit:
        """A message like that one, with its EMAILID."""

    async def keep(self, deposits: Sequence[IDeposit]) -> Copied:
        """All of them, or none; where they lie."""

    async def take_back(self, uids: Collection[int]) -> None:
        """What was committed just now goes again, whoever may expunge."""


async def carry(source: IFolder, uids: Collection[int], target: Taking, *, away: bool) -> Copied:
    """Copy messages, or move them: all or none. They are in the target, durably, before any leaves the source; a crash in between leaves both. Raises FolderError."""
    entries = await source.entries(uids)
    validity, came = 0, list[int]()
    try:
        for start in range(0, len(entries), TOGETHER):
            copied = await _some(source, entries[start : start + TOGETHER], target)
            validity = copied.uidvalidity
            came.extend(copied.targets)
        if away and entries:
            await _leave(source, entries)
    except BaseException:
        with contextlib.suppress(FolderError):
            await target.take_back(came)
        raise
    return Copied(validity, tuple(entry.uid for entry in entries), tuple(came))


async def _some(source: IFolder, entries: Sequence[Entry], target: Taking) -> Copied:
    deposits: list[IDeposit] = []
    try:
        for entry in entries:
            body = await source.body(entry.uid)
            deposit = target.twin(entry, source.email_id(entry))
            deposits.append(deposit)
            async for piece in body.chunks():
                await deposit.write(piece)
    except BaseException:
        for deposit in deposits:
            await deposit.abort()
        raise
    return await target.keep(deposits)


async def _leave(source: IFolder, entries: Sequence[Entry]) -> None:
    """Marked and expunged. If that cannot be, what was marked for it is not any more."""
    wanted = [entry.uid for entry in entries]
    await source.store(wanted, (DELETED,))
    try:
        await source.expunge(wanted)
    except BaseException:
        unmarked = [entry.uid for entry in entries if DELETED not in entry.flags]
        with contextlib.suppress(FolderError):
            await source.store(unmarked, (), (DELETED,))
        raise
