"""What was read or came lately, in memory: a new message is asked about at once, and the page of a list again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from hornetmail.wire.imap.answers.ready import Ready

T = TypeVar("T", bound=tuple[object, ...])

KEPT_BYTES = 4 << 20
"""About as much is held, of all mailboxes together; half of it at least is what was used last."""

PAGE = 64
"""Who asks for more messages at once reads the whole folder, and leaves here what others use."""

ENTRY_BYTES = 200
"""What Python needs besides."""


class Lately(Generic[T]):
    """Tuples of bytes and numbers by folder and UID: a UID's message never changes. Two dictionaries: when the younger one is full, it becomes the older one."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self._half = most // 2
        self._young: dict[tuple[int, int], T] = {}
        self._old: dict[tuple[int, int], T] = {}
        self._held = 0

    def put(self, folder: int, uid: int, value: T) -> None:
        """Hold it for some time."""
        size = ENTRY_BYTES + sum(len(one) for one in value if isinstance(one, bytes))
        self._held += size
        if self._held > self._half:
            self._old, self._young, self._held = self._young, {}, size
        self._young[folder, uid] = value

    def all_of(self, folder: int, uids: Sequence[int]) -> dict[int, T] | None:
        """If all of them are here."""
        if len(uids) > PAGE:
            return None
        young, old = self._young, self._old
        found: dict[int, T] = {}
        for uid in uids:
            key = folder, uid
            value = young.get(key)
            if value is None:
                value = old.get(key)
                if value is None:
                    return None
                self.put(folder, uid, value)
            found[uid] = value
        return found

    def put_all(self, folder: int, found: dict[int, T]) -> None:
        """Hold what was read, if it was a page."""
        if len(found) <= PAGE:
            for uid, value in found.items():
                self.put(folder, uid, value)


class Readies:
    """What of messages is ready to be sent: ENVELOPE and BODYSTRUCTURE, the common fields with their bits, and whole messages that were asked for by themselves: who opens
    one asks for its parts next, and on another device it is opened once more."""

    def __init__(self) -> None:
        self.texts: Lately[tuple[bytes]] = Lately()
        self.summaries: Lately[tuple[bytes, bytes]] = Lately()
        self.fields: Lately[tuple[int, bytes]] = Lately()

    def came(self, folder: int, uid: int, ready: Ready) -> None:
        """A message is new in a folder."""
        self.summaries.put(folder, uid, (ready.envelope, ready.structure))
        self.fields.put(folder, uid, (ready.bits, ready.fields))
