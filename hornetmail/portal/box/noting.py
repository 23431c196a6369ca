"""Annotations of a mailbox's folders (RFC 5464). They lie in a file of the folder's directory and nowhere else: they are renamed and removed with it, and outlive ``portal.db``."""

from __future__ import annotations

from collections.abc import Mapping

from hornetmail.core import metadata
from hornetmail.core.events import Annotated
from hornetmail.core.folder import FolderError
from hornetmail.portal.box.box import Box


def _there(box: Box, name: str) -> None:
    if name and (name not in box.rows or name in box.missing):
        raise FolderError("NONEXISTENT", "No such mailbox")


async def noted(box: Box, name: str, person: int) -> dict[str, bytes]:
    """Shared entries of a folder, or of the server where ``name`` is empty, and the person's own. Raises FolderError."""
    _there(box, name)
    kept: metadata.Kept = await box.ground.thread(box.maildir.annotations, name)
    return kept.of(person)


async def note(box: Box, name: str, person: int, changes: Mapping[str, bytes | None]) -> None:
    """Set values, remove those that are None: all or none, durable on return. Raises FolderError."""
    async with box.lock:
        _there(box, name)
        try:
            changed = await box.ground.thread(box.maildir.annotate, name, person, box.mailbox, changes)
        except metadata.TooLarge:
            raise FolderError(f"METADATA MAXSIZE {metadata.VALUE_BYTES}", "The value is too long") from None
        except metadata.TooMany:
            raise FolderError("METADATA TOOMANY", "There is no room for more annotations on this mailbox") from None
    for who in (person, metadata.EVERYBODY):
        if entries := tuple(entry for entry in changed if metadata.is_shared(entry) == (who == metadata.EVERYBODY)):
            box.ground.bus.publish(Annotated(box.mailbox, name, who, entries))
