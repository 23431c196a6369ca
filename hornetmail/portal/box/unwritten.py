"""What is kept of messages that came lately, and is not in the index yet: many are written in one go, and of a message that goes before that nothing ever is.

It can be made anew from the files: a process that ends without a word loses time, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from hornetmail.portal.rows.index import Kept

MESSAGES = 128
HELD_BYTES = 2 << 20
"""More is written at once. Else that is done every few seconds (``PortalStore.sweep``)."""

Writing = Sequence[tuple[int, int, Sequence[tuple[int, Kept]]]]
"""Tenant, folder, and UIDs with what is kept."""


class Unwritten:
    """Of all folders. ``write`` is asked to write what became too much; it must not raise."""

    def __init__(self, write: Callable[[Writing], object]) -> None:
        self._write = write
        self._kept: dict[int, dict[int, Kept]] = {}
        self._tenants: dict[int, int] = {}
        self._messages = 0
        self._bytes = 0

    def came(self, tenant: int, folder: int, uid: int, kept: Kept) -> None:
        """A message has its UID."""
        self._tenants[folder] = tenant
        self._kept.setdefault(folder, {})[uid] = kept
        self._messages += 1
        self._bytes += _size(kept)
        if self._messages >= MESSAGES or self._bytes >= HELD_BYTES:
            self._write(self.taken())

    def taken(self) -> Writing:
        """All of it, for whoever writes it now; what goes later has to be removed from the index."""
        taken = [(self._tenants[folder], folder, list(some.items())) for folder, some in self._kept.items()]
        self._kept, self._tenants, self._messages, self._bytes = {}, {}, 0, 0
        return taken

    def get(self, folder: int, uid: int) -> Kept | None:
        """Of a message, if it is here."""
        some = self._kept.get(folder)
        return None if some is None else some.get(uid)

    def forget(self, folder: int, uids: Collection[int]) -> bool:
        """These messages go, or more of them is in the index than here: whether all of them were here, and nothing of them is there."""
        some = self._kept.get(folder)
        if some is None:
            return not uids
        found = [kept for uid in uids if (kept := some.pop(uid, None)) is not None]
        self._messages -= len(found)
        self._bytes -= sum(map(_size, found))
        if not some:
            del self._kept[folder], self._tenants[folder]
        return len(found) == len(uids)


def _size(kept: Kept) -> int:
    ready = kept.ready
    return len(kept.tree) + len(kept.head or b"") + len(ready.envelope) + len(ready.structure) + len(ready.fields)
