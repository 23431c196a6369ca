"""A folder in memory: what SELECT, FLAGS and changes are answered from. Changed only by ``Box`` under its lock, after commit."""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

import msgspec

from hornetmail.core.folder import Entry, FolderStatus
from hornetmail.portal.maildir import naming

GONE_KEPT = 2_000
"""Expunged UIDs remembered a folder."""

SEEN = "\\Seen"


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a message's file lies: ``sub`` is ``new`` or ``cur``. ``hidden``: bytes of envelope lines. ``bare``: some lines end with a
    bare LF, and are served with CRLF."""

    base: str
    sub: str
    letters: str
    hidden: int
    bare: bool

    @property
    def file(self) -> str:
        """The file's path below its folder's directory."""
        return f"{self.sub}/{self.name}"

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.base}:2,{self.letters}" if self.sub == "cur" else self.base


class Gone(msgspec.Struct, frozen=True, gc=False):
    """An expunged message."""

    uid: int
    modseq: int
    base: str


class IWatch(Protocol):
    """What tells of changes to the files (``watching.FolderWatch``)."""

    def listed(self) -> None: ...
    def quiet(self, snapshot: Snapshot) -> bool: ...


class Snapshot:
    """One folder. ``entries`` and ``places`` are in order of UID."""

    def __init__(self, identifier: int, name: str, special: str, uidvalidity: int, uidnext: int, modseq: int) -> None:
        self.id = identifier
        self.name = name
        self.special = special
        self.uidvalidity = uidvalidity
        self.uidnext = uidnext
        self.modseq = modseq
        self.entries: dict[int, Entry] = {}
        self.places: dict[int, Place] = {}
        self.uids: dict[str, int] = {}
        self.rows: dict[int, set[int]] = {}
        self.claimed: set[int] = set()
        self.gone: list[Gone] = []
        self.removed = False
        self.watch: IWatch | None = None
        self.recent_from = 1
        r"""The first UID that no session was told of: \Recent to the next one."""
        self.looked: tuple[int, int, float] = (0, 0, 0.0)
        """Modification times (ns) of ``new`` and ``cur`` when they were last listed, and when that was."""
        self.size = 0
        self.unseen = 0
        self.recent = 0
        self._recent: list[tuple[int, int]] = []
        self._recent_from = modseq

    def told_of(self) -> None:
        """Somebody tells of all that is here."""
        self.recent_from = self.uidnext
        self.recent = 0

    def put(self, entry: Entry, place: Place) -> None:
        """A new message, or a changed one."""
        uid = entry.uid
        former = self.entries.get(uid)
        self.entries[uid] = entry
        self.places[uid] = place
        self._count(entry, 1)
        if former is not None:
            self._count(former, -1)
        else:
            self.uids[place.base] = uid
            row = naming.row_of(place.base)
            if row:
                self.rows.setdefault(row, set()).add(uid)
        self._note(entry.modseq, uid)

    def moved_file(self, uid: int, place: Place) -> None:
        """Only the file's place changed; nobody needs to hear of it."""
        self.places[uid] = place

    def remove(self, uid: int, modseq: int) -> None:
        """An expunged message."""
        self._count(self.entries.pop(uid), -1)
        place = self.places.pop(uid)
        self.uids.pop(place.base, None)
        row = naming.row_of(place.base)
        if row and row in self.rows:
            self.rows[row].discard(uid)
            if not self.rows[row]:
                del self.rows[row]
        self.claimed.discard(uid)
        self.gone.append(Gone(uid, modseq, place.base))
        if len(self.gone) > GONE_KEPT * 2:
            del self.gone[:-GONE_KEPT]
        self._note(modseq, 0)

    def _count(self, entry: Entry, times: int) -> None:
        self.size += times * entry.size
        if SEEN not in entry.flags:
            self.unseen += times
        if entry.uid >= self.recent_from:
            self.recent += times

    def _note(self, modseq: int, uid: int) -> None:
        self.modseq = max(self.modseq, modseq)
        if uid:
            self._recent.append((modseq, uid))
            if len(self._recent) > 4_000:
                self._recent_from = self._recent[1_999][0]
                del self._recent[:2_000]

    def loaded(self) -> None:
        """All that the index knew is here; what comes now is news."""
        self._recent.clear()
        self._recent_from = self.modseq

    def status(self) -> FolderStatus:
        """Figures; nothing is counted for them (``tests/cost/test_portal.py``)."""
        return FolderStatus(self.uidvalidity, self.uidnext, len(self.entries), self.unseen, self.modseq, self.size, self.recent)

    def changes(self, modseq: int) -> list[Entry]:
        """Entries changed, new or gone after ``modseq``, by modseq. Costs what there is to tell, not what was told before, as long as that is among
        the newest 2,000 changes since the folder came into memory (``tests/cost/test_portal.py``)."""
        if modseq >= self.modseq:
            return []
        if modseq >= self._recent_from:
            newest = self._recent[bisect_right(self._recent, modseq, key=_at) :]
            found = [self.entries[uid] for uid in dict.fromkeys(uid for _, uid in newest) if uid in self.entries]
        else:
            found = [entry for entry in self.entries.values() if entry.modseq > modseq]
        for gone in self.gone[bisect_right(self.gone, modseq, key=_died) :]:
            found.append(Entry(uid=gone.uid, modseq=gone.modseq, flags=frozenset(), size=0, date=0.0, name=gone.base, gone=True))
        found.sort(key=_order)
        return found


def _at(change: tuple[int, int]) -> int:
    return change[0]


def _died(gone: Gone) -> int:
    return gone.modseq


def _order(entry: Entry) -> tuple[int, int]:
    return entry.modseq, entry.uid
