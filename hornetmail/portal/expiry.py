"""What an emergency left in a mailbox, and its removal (rule 24).

The folders besides INBOX, and of INBOX what the primary refused at drain: nothing that is still to get home, nothing without an envelope.
"""

from __future__ import annotations

from collections.abc import Collection

from hornetmail.core.folder import FolderError
from hornetmail.portal.box.box import Box
from hornetmail.portal.maildir import naming
from hornetmail.portal.rows import figures

ROWS = 200
"""Messages that go in one transaction."""


def _key(name: str) -> int | str:
    """What a copy is known by wherever it was moved: its row's number, or else its name."""
    return naming.row_of(name) or name


async def left(box: Box, before: float, spared: Collection[str], refused: Collection[str]) -> dict[str, list[str]]:
    """Base names by folder; see IPortal.left_over."""
    staying = {_key(name) for name in spared}
    stuck = {_key(name) for name in refused}
    found: dict[str, list[str]] = {}
    for folder, base in await box.ground.database.read(figures.aged, box.mailbox, before):
        key = _key(base)
        if key not in staying and (folder != naming.INBOX or key in stuck):
            found.setdefault(folder, []).append(base)
    return found


async def remove(box: Box, folder: str, names: Collection[str]) -> list[str]:
    """Remove those that lie there still and are not being handed over, durably; open sessions see them go. Which went."""
    gone: list[str] = []
    waiting = list(names)
    while waiting:
        batch, waiting = waiting[:ROWS], waiting[ROWS:]
        async with box.lock:
            try:
                snapshot = await box.opened(folder)
            except FolderError:
                return gone
            going = [name for name in batch if name in snapshot.uids and snapshot.uids[name] not in snapshot.claimed]
            await box.expunged(snapshot, [snapshot.uids[name] for name in going])
            gone += going
    return gone
