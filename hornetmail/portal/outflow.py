"""Copies of one INBOX on their way to the primary: claimed for hand-over, and removed after it (C5, C6, rules 9 and 10).

A copy costs the same in a full INBOX as in an empty one (``tests/portal/test_outflow.py``): those that wait are claimed together and removed together,
and the directory, which each removal changes, is not listed anew for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Envelope, Recipient
from hornetmail.interfaces.directory import IDirectory
from hornetmail.portal.box.batch import Batch
from hornetmail.portal.box.body import FileBody
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.folder import DELETED
from hornetmail.portal.maildir import envelope, naming
from hornetmail.portal.maildir.snapshot import Snapshot

TRIES = 3
"""Looks at the folder before a copy that another program keeps renaming is given up for now."""


class Claimed(msgspec.Struct, frozen=True):
    """What became of a claim. ``locked``: a POP session was quicker, ask again; ``found``: envelope and bytes, None if it is not in INBOX."""

    locked: bool = False
    found: tuple[Envelope, FileBody] | None = None


class Outflow:
    """``locked()``: whether a POP session has the mailbox."""

    def __init__(self, box: Box, locked: Callable[[], bool]) -> None:
        self._box = box
        self._locked = locked
        self._claims = Batch(box.lock, self._claim)
        self._removals = Batch(box.lock, self._remove)

    async def claim(self, copy: Portal) -> Claimed:
        """See ``IPortal.begin_drain``. Committed on return, with no one else's change between the look at the copy and its claim."""
        return await self._claims.join(copy)

    async def remove(self, copy: Portal) -> None:
        """What of it is claimed leaves INBOX, durably on return."""
        await self._removals.join(copy)

    async def _claim(self, copies: Sequence[Portal]) -> Sequence[Claimed | Exception]:
        if self._locked():
            return [Claimed(locked=True)] * len(copies)
        box = self._box
        results: dict[int, Claimed | Exception] = {}
        uids: list[int] = []
        left = list(range(len(copies)))
        for _ in range(TRIES):
            inbox = await box.opened_lately(naming.INBOX)
            found = {number: twins(inbox, copies[number].name) for number in left}
            there = [number for number in left if found[number]]
            results.update((number, Claimed()) for number in left if not found[number])
            heads = await box.ground.thread(
                box.maildir.envelopes, inbox.name, [inbox.places[found[number][0]] for number in there]
            )
            left = []
            for number, head in zip(there, heads, strict=True):
                if isinstance(head, FileNotFoundError):
                    left.append(number)
                    continue
                try:
                    if isinstance(head, OSError):
                        raise head
                    wanted = addressed(box.ground.directory, box.mailbox, head)
                    results[number] = Claimed(found=(wanted, FileBody(box, inbox, found[number][0])))
                    uids += found[number]
                except (OSError, FolderError) as error:
                    results[number] = error
            if not left:
                break
            # Another program renamed or removed them since.
            inbox.looked = (0, 0, 0.0)
        results.update((number, FolderError("UNAVAILABLE", "another program keeps renaming this message")) for number in left)
        if uids:
            await box.claim(inbox, uids, True)
        return [results[number] for number in range(len(copies))]

    async def _remove(self, copies: Sequence[Portal]) -> Sequence[Exception | None]:
        box = self._box
        inbox = box.snapshot_in_memory(naming.INBOX) or await box.opened(naming.INBOX)
        try:
            await box.expunged(inbox, self._going(inbox, copies))
        except Exception as error:  # noqa: BLE001 - one that cannot be removed keeps none of the others
            if len(copies) == 1:
                return [error]
            results: list[Exception | None] = []
            for copy in copies:
                results += await self._remove([copy])
            return results
        return [None] * len(copies)

    def _going(self, inbox: Snapshot, copies: Sequence[Portal]) -> list[int]:
        every = (uid for copy in copies for uid in twins(inbox, copy.name, marked=True) if uid in inbox.claimed)
        return list(dict.fromkeys(every))


def twins(inbox: Snapshot, name: str, *, marked: bool = False) -> list[int]:
    """UIDs in INBOX of a copy, by row number or else by name; those marked for deletion only if asked for."""
    row = naming.row_of(name)
    uids = sorted(inbox.rows.get(row, ())) if row else [inbox.uids[name]] if name in inbox.uids else []
    return [uid for uid in uids if marked or DELETED not in inbox.entries[uid].flags]


def addressed(directory: IDirectory, mailbox: int, head: bytes) -> Envelope:
    """The envelope of a copy whose first lines are ``head``, to the recipient whom rule 9 names; without any: ``<>`` to the mailbox's main address
    (rule 10). Raises FolderError CANNOT if it has none any more."""
    owner = directory.mailbox_by_id(mailbox)
    kept = envelope.read(head) if head else None
    if kept is None:
        if owner is None:
            raise FolderError("CANNOT", f"mailbox {mailbox} has no address any more")
        return Envelope("", (Recipient(owner.address),), eight_bit=True)
    original = kept.envelope.recipients[0]
    known = directory.mailbox(original.address)
    if known is not None and known.id == mailbox:
        return kept.envelope
    address = owner.address if owner is not None else kept.mailbox
    return msgspec.structs.replace(kept.envelope, recipients=(Recipient(address, original.notify, original.orcpt),))
