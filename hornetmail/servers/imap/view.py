"""The selected folder as one client counts it: its sequence numbers, and what it has to be told (RFC 3501 section 7.4)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from hornetmail.core.folder import Entry, FolderError, FolderInfo
from hornetmail.interfaces.folders import IFolder, IFolderTree, IIndexedFolder
from hornetmail.servers.imap.enabled import Enabled
from hornetmail.servers.imap.mounts import Mounts
from hornetmail.servers.imap.watch import Place
from hornetmail.wire.imap.answers.render import flag_list
from hornetmail.wire.imap.tokens.sequences import SequenceSet, compressed, spans_of_numbers, spans_of_uids

SYSTEM_FLAGS = frozenset({"\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"})
RECENT = frozenset({"\\Recent"})

REMEMBERED = 1000
"""A store remembers removals for a limited time, but at least so many: an answer with fewer is complete."""


class View:
    r"""``uids`` is the client's numbering: message n has ``uids[n - 1]``. It shrinks only when EXPUNGE was rendered.

    ``dirty``: the bus hinted at changes that were not read yet. ``place``: where the watch hears of it. ``thorough``: the next
    reading compares everything. ``recent_from``: the first UID that is ``\Recent`` here, because this session was the first to be told of it (RFC 3501
    section 2.3.2; of several that look on, each tells). ``saved``: UIDs that the last search kept (``$``, RFC 5182), as ranges. ``modseq``: the client
    was told of all changes up to it. Memory: four bytes a message.
    """

    __slots__ = (
        "_changed",
        "_gone",
        "_grown",
        "_told",
        "checked",
        "dirty",
        "enabled",
        "folder",
        "keywords",
        "modseq",
        "name",
        "place",
        "readonly",
        "recent_from",
        "saved",
        "thorough",
        "tree",
        "uids",
        "wake",
    )

    def __init__(self, name: str, tree: IFolderTree, folder: IFolder, readonly: bool, enabled: Enabled | None = None) -> None:
        self.name = name
        self.enabled = Enabled() if enabled is None else enabled
        self.saved: tuple[tuple[int, int], ...] = ()
        self.tree = tree
        self.folder = folder
        self.readonly = readonly
        self.place: Place = (0, "")
        self.uids: array[int] = array("I")
        self.modseq = 0
        self.keywords: frozenset[str] = frozenset()
        self.recent_from = 0
        self.checked = 0.0
        self.dirty = False
        self.thorough = False
        self.wake: Callable[[], None] | None = None
        self._gone: dict[int, int] = {}
        self._changed: dict[int, Entry] = {}
        self._told: dict[int, int] = {}
        self._grown = False

    def touch(self) -> None:
        """The bus says that something changed."""
        self.dirty = True
        if self.wake is not None:
            self.wake()

    @property
    def waiting(self) -> bool:
        """The client has to be told something, or there is something to read."""
        return self.dirty or self._grown or bool(self._gone) or bool(self._changed)

    def is_recent(self, uid: int) -> bool:
        r"""Whether the message is \Recent here."""
        return uid >= self.recent_from

    def flags(self, entry: Entry) -> bytes:
        r"""The flag list of a message, \Recent included."""
        recent = entry.uid >= self.recent_from and not self.enabled.rev2
        return flag_list(entry.flags | RECENT if recent else entry.flags)

    def flag_lists(self, entries: Sequence[Entry]) -> list[bytes]:
        """The flag lists of messages in order of UID: of many at once, since most have one of a few."""
        if entries and not self.enabled.rev2 and entries[-1].uid >= self.recent_from:
            return [self.flags(entry) for entry in entries]
        known = {flags: flag_list(flags) for flags in {entry.flags for entry in entries}}
        return [known[entry.flags] for entry in entries]

    def learned(self, entries: Iterable[Entry]) -> bytes:
        """FLAGS, if there are keywords among these that the client was not told of (RFC 3501 section 7.2.6)."""
        new = frozenset(
            flag
            for flags in {entry.flags for entry in entries}
            for flag in flags
            if flag not in self.keywords and not flag.startswith("\\")
        )
        if not new:
            return b""
        self.keywords |= new
        return b"* FLAGS %b\r\n" % flag_list(SYSTEM_FLAGS | self.keywords)

    def fetched(self, number: int, entry: Entry, uid: bool) -> bytes:
        """An untagged FETCH that tells of flags; with their mod-sequence if the client wants it (RFC 7162 section 3.1)."""
        middle = b"UID %d " % entry.uid if uid or self.enabled.qresync else b""
        end = b" MODSEQ (%d)" % entry.modseq if self.enabled.condstore else b""
        return b"* %d FETCH (%bFLAGS %b%b)\r\n" % (number, middle, self.flags(entry), end)

    def marked(self, number: int, entry: Entry, uid: bool) -> bytes:
        """The mod-sequence alone: what a client that set flags in silence has to know (RFC 7162 section 3.1.3)."""
        middle = b"UID %d " % entry.uid if uid or self.enabled.qresync else b""
        return b"* %d FETCH (%bMODSEQ (%d))\r\n" % (number, middle, entry.modseq)

    def highest(self) -> bytes:
        """HIGHESTMODSEQ (RFC 7162 section 3.1.2.1): the client was told of all up to here, or was not yet told what went."""
        told = min([self.modseq, *[modseq - 1 for modseq in self._gone.values()]])
        return b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % told

    def number(self, uid: int) -> int:
        """The sequence number of a UID, 0 if the client does not know it."""
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else 0

    def spans(self, wanted: SequenceSet, uid: bool) -> list[tuple[int, int]]:
        """Half-open spans of indexes into ``uids``."""
        if wanted.saved:
            return spans_of_uids(SequenceSet(self.saved), self.uids)
        return spans_of_uids(wanted, self.uids) if uid else spans_of_numbers(wanted, len(self.uids))

    def picked(self, wanted: SequenceSet, uid: bool) -> Sequence[int]:
        """The UIDs that a set names."""
        found: array[int] = array("I")
        for start, end in self.spans(wanted, uid):
            found += self.uids[start:end]
        return found

    def told(self, entries: Iterable[Entry]) -> None:
        """The client knows these flags already: its own command made them so."""
        for entry in entries:
            self._told[entry.uid] = entry.modseq
            self._changed.pop(entry.uid, None)

    async def read(self) -> None:
        """Read what changed since the last time. Raises FolderError, NONEXISTENT when the folder has gone."""
        self.dirty = False
        top = self.uids[-1] if self.uids else 0
        if not self.folder.there:
            raise FolderError("NONEXISTENT", "The selected mailbox has gone")
        since = self.modseq
        changes = await self.folder.changes(self.modseq)
        for entry in changes:
            uid = entry.uid
            self.modseq = max(self.modseq, entry.modseq)
            if entry.gone:
                if self.number(uid):
                    self._gone[uid] = entry.modseq
                self._changed.pop(uid, None)
            elif uid > top:
                if not self.number(uid):
                    self._arrived(uid)
            elif self.number(uid) and self._told.get(uid, 0) < entry.modseq:
                self._changed[uid] = entry
        self._told.clear()
        if self._grown and not self.readonly:
            await self.folder.recent(take=True)
        doubted = self.thorough and not IIndexedFolder.providedBy(self.folder)  # nobody else writes into an index
        if doubted or sum(entry.gone for entry in changes) >= REMEMBERED:
            self.thorough = False
            await self._compare(since)

    def shows(self, info: FolderInfo) -> bool:
        """Whether that is the folder looked at, by what both are called now."""
        mine: FolderInfo = self.folder.info
        return mine.name == info.name and mine.uidvalidity == info.uidvalidity

    def stands(self, mounts: Mounts) -> bool:
        """Whether the name by which it was selected is still this folder's: others may have renamed, deleted, or made it anew."""
        tree, inner = mounts.locate(self.name)
        return tree is self.tree and inner == self.folder.info.name and self.folder.there

    async def _compare(self, since: int) -> None:
        """Changes are remembered for a limited time, removals above all: compare the folder with what the client knows. What is found
        to be gone went after modseq ``since``."""
        if IIndexedFolder.providedBy(self.folder):
            gone, new = await self.folder.compared(self.uids)
        else:
            present, known = frozenset(entry.uid for entry in await self.folder.entries()), frozenset(self.uids)
            gone, new = list(known - present), sorted(present - known)
        self._gone.update((uid, since + 1) for uid in gone if uid not in self._gone)
        for uid in new:
            self._arrived(uid)

    def _arrived(self, uid: int) -> None:
        uids = self.uids
        if uids and uid < uids[-1]:
            uids.insert(bisect_left(uids, uid), uid)
        else:
            uids.append(uid)
        self._grown = True

    def news(self, expunge: bool) -> bytes:
        """Untagged responses for what was read. Without ``expunge`` messages that have gone keep their numbers (section 7.4.1)."""
        pieces: list[bytes] = []
        if expunge and self._gone:
            pieces.append(self.expunged(tuple(self._gone)))
        if self._grown:
            self._grown = False
            pieces.append(self.counts())
        if self._changed:
            pieces.append(self.learned(self._changed.values()))
            for uid, entry in sorted(self._changed.items()):
                number = self.number(uid)
                if number and uid not in self._gone:
                    pieces.append(self.fetched(number, entry, uid=True))
            self._changed.clear()
        return b"".join(pieces)

    def counts(self) -> bytes:
        """EXISTS and RECENT; of that IMAP4rev2 knows nothing."""
        if self.enabled.rev2:
            return b"* %d EXISTS\r\n" % len(self.uids)
        recent = len(self.uids) - bisect_left(self.uids, self.recent_from)
        return b"* %d EXISTS\r\n* %d RECENT\r\n" % (len(self.uids), recent)

    def expunged(self, uids: Iterable[int]) -> bytes:
        """EXPUNGE for those the client knows, the last first, so that each number stands as it is, or VANISHED (RFC 7162 section 3.2.10); they leave
        the numbering."""
        uids = sorted(uids)
        known = [uid for uid in uids if self.number(uid)]
        numbers = [self.number(uid) for uid in known]
        for uid in uids:
            self._gone.pop(uid, None)
        if not numbers:
            return b""
        if len(numbers) < 20:
            for n in reversed(numbers):
                del self.uids[n - 1]
        else:
            dropped = set(numbers)
            self.uids = array("I", [uid for n, uid in enumerate(self.uids, 1) if n not in dropped])
        if self.enabled.qresync:
            return b"* VANISHED %b\r\n" % compressed(known)
        return b"".join([b"* %d EXPUNGE\r\n" % n for n in reversed(numbers)])
