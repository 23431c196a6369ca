"""Messages on their way from a folder of one mailbox into one of another: they arrive as if a client had brought them, and keep their EMAILID (RFC 8474 section 5.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Protocol

from hornetmail.core.folder import Copied, Entry, FolderError
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.portal.maildir.ground import shielded

TOGETHER = 64
"""Messages that are committed together."""


class Leaving(Protocol):
    """A folder that messages leave for others' folders."""

    def email_id(self, entry: Entry) -> str:
        """See IFolder."""

    async def entries(self, uids: Collection[int] | None = None) -> Sequence[Entry]:
        """See IFolder."""

    async def body(self, uid: int) -> IBody:
        """See IFolder."""

    async def leave(self, uids: Sequence[int]) -> tuple[Sequence[int], FolderError | None]:
        """They go, durably: those that are still here for sure, and why. Raises FolderError: nothing went."""


class Taking(Protocol):
    """A folder that takes messages of others' folders."""

    def twin(self, entry: Entry, known: str) -> IDeposit:
        """A message like that one, with its EMAILID."""

    async def keep(self, deposits: Sequence[IDeposit]) -> Copied:
        """All of them, or none; where they lie."""

    async def take_back(self, uids: Collection[int]) -> None:
        """What was committed just now goes again, whoever may expunge."""


async def carry(source: Leaving, uids: Collection[int], target: Taking, *, away: bool) -> Copied:
    """Copy messages, or move them: all or none. They are in the target, durably, before any leaves the source; a crash in between leaves both. Where leaving fails
    half-way, or whoever asked is gone meanwhile, no message is in neither (``tests/portal/test_carrying.py``). Raises FolderError."""
    return await shielded(_carry(source, uids, target, away))


async def _carry(source: Leaving, uids: Collection[int], target: Taking, away: bool) -> Copied:
    entries = await source.entries(uids)
    validity, came = 0, list[int]()
    there: Sequence[int] = ()
    failed: FolderError | None = None
    try:
        for start in range(0, len(entries), TOGETHER):
            copied = await _some(source, entries[start : start + TOGETHER], target)
            validity = copied.uidvalidity
            came.extend(copied.targets)
        if away and entries:
            there, failed = await source.leave([entry.uid for entry in entries])
    except BaseException:
        with contextlib.suppress(FolderError):
            await target.take_back(came)
        raise
    if failed is not None:
        twins = dict(zip([entry.uid for entry in entries], came, strict=True))
        with contextlib.suppress(FolderError):
            await target.take_back([twins[uid] for uid in there])
        raise failed
    return Copied(validity, tuple(entry.uid for entry in entries), tuple(came))


async def _some(source: Leaving, entries: Sequence[Entry], target: Taking) -> Copied:
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
