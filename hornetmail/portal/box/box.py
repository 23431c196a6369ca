"""One mailbox: its folders, and the only place where files, index and memory change together, under one lock.

The order is always: files (durable), index (committed), memory, hint on the bus. A crash in between leaves files that the index does not know
or rows without files; ``_look`` settles both whenever a folder is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from weakref import WeakValueDictionary, ref

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.core.folder import Entry, FolderError
from hornetmail.core.served import Quota
from hornetmail.db.engines import DatabaseError
from hornetmail.portal.box.batch import Batch, Lock
from hornetmail.portal.box.turns import Arrival, Turn
from hornetmail.portal.box.unwritten import Unwritten
from hornetmail.portal.box.usage import Counted
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.files import Listing, Maildir
from hornetmail.portal.maildir.ground import Ground
from hornetmail.portal.maildir.snapshot import Gone, Place, Snapshot
from hornetmail.portal.maildir.watching import TRUSTED_SECONDS
from hornetmail.portal.rows import figures, index
from hornetmail.portal.rows.index import Change, FolderRow, Stored

RENAMED_THERE = 16
"""Files renamed in the thread that commits, at most: others wait for it meanwhile."""

LATELY_SECONDS = 1.0
ENTRIES_A_SECOND = 10_000
"""For ``opened_lately``: a look is believed for the first, and for one more second for each so many messages in the folder, so that looking takes a
few hundredths of the time however large it is."""


class Box:
    """A mailbox in memory. There is never more than one of the same mailbox."""

    log = Logger()

    def __init__(self, ground: Ground, mailbox: int, tenant: int, maildir: Maildir, unwritten: Unwritten) -> None:
        self.ground = ground
        self.mailbox = mailbox
        self.tenant = tenant
        self.maildir = maildir
        self.unwritten = unwritten
        self.lock = Lock()
        self.rows: dict[str, FolderRow] = {}
        self.subscribed: set[str] = set()
        self.grants: dict[int, Mapping[str, str]] = {}
        """Rights that were given, by folder; of those on which any were."""
        self.missing: dict[str, float] = {}
        """Folders whose directories other programs took away, and since when."""
        self.surveyed: tuple[int, float] = (0, 0.0)
        """When the Maildir was changed (ns) at the last survey, and when that was."""
        self.usage = Counted(mailbox, self._quota)
        self._snapshots: WeakValueDictionary[str, Snapshot] = WeakValueDictionary()
        self._opens: WeakValueDictionary[str, Batch[None, Snapshot]] = WeakValueDictionary()
        self.arrivals: WeakValueDictionary[str, Batch[Arrival, int]] = WeakValueDictionary()

    # Loading

    async def load(self) -> None:
        """Read the folders, make what a new mailbox has, and settle what a crash left. Called once, before anything else."""
        ground, maildir = self.ground, self.maildir
        known = await ground.database.read(index.box, self.mailbox)
        rows = {row.name: row for row in known[1]} if known is not None else {}
        renamed = await ground.thread(maildir.finish_renaming, [(row.id, row.name) for row in rows.values()])
        if renamed:
            await ground.database.run(index.rename_folders, [(one.row, one.new) for one in renamed])
            rows.update({one.new: msgspec.structs.replace(rows.pop(one.old), name=one.new) for one in renamed})
        present, subscribed = await ground.thread(maildir.prepare, tuple(naming.SPECIAL_USE))
        gone = [row for name, row in rows.items() if name not in present]
        if gone:
            await ground.database.run(index.drop_folders, [row.id for row in gone])
        missing = [(name, naming.SPECIAL_USE.get(name, "")) for name in present if name not in rows]
        if missing:
            _, made = await ground.database.run(index.make_folders, self.tenant, self.mailbox, missing, int(ground.now()), 1)
            rows.update({row.name: row for row in made})
        self.rows = {name: rows[name] for name in present}
        held = await ground.database.read(figures.usage, self.mailbox)
        self.usage = Counted(self.mailbox, self._quota, *held, *await ground.database.read(figures.near, self.mailbox))
        await self.weigh()
        self.subscribed = subscribed if subscribed is not None else set(self.rows)

    def _quota(self) -> Quota:
        directory = self.ground.directory
        owner = directory.mailbox_by_id(self.mailbox)
        return owner.quota(directory.domain(owner.domain)) if owner is not None else Quota()

    async def weigh(self) -> None:
        """Have its owner told if it is nearly full; said again each time until that is done (``told``). Raises nothing: what was done is done."""
        if self.usage.turned(self.ground.now()):
            try:
                await self.ground.database.run(figures.set_near, self.mailbox, self.usage.since, False)
            except DatabaseError as error:
                self.log.warn(
                    "that mailbox {mailbox} is nearly full is not on record: {error}", mailbox=self.mailbox, error=error
                )
        if (news := self.usage.news) is not None:
            self.ground.bus.publish(news)

    async def told(self, since: float) -> None:
        """Its owner knows, of what began then."""
        if since == self.usage.since:
            self.usage.told = True
            await self.ground.database.run(figures.set_near, self.mailbox, since, True)

    def snapshot_in_memory(self, name: str) -> Snapshot | None:
        """The folder, if it is in memory."""
        return self._snapshots.get(name)

    def forget(self, name: str) -> None:
        """A folder is removed: whoever has it open hears of it. The lock is held."""
        self.grants.pop(self.rows.pop(name).id, None)
        snapshot = self._snapshots.pop(name, None)
        if snapshot is not None:
            snapshot.removed = True
            self.ground.stacks.drop(snapshot.id)

    def renamed(self, old: str, new: str) -> None:
        """A folder has another name; it stays the same for whoever has it open. The lock is held."""
        self.rows[new] = msgspec.structs.replace(self.rows.pop(old), name=new)
        snapshot = self._snapshots.pop(old, None)
        if snapshot is not None:
            snapshot.name = new
            self._snapshots[new] = snapshot

    async def open(self, name: str) -> Snapshot:
        """The folder as it is now, other programs' changes included. Raises FolderError NONEXISTENT. Takes the lock; those who wait for the same folder
        are answered together, not each from within the one before."""
        batch = self._opens.get(name)
        if batch is None:

            async def opened(waiting: Sequence[None]) -> list[Snapshot]:
                return [await self.opened(name)] * len(waiting)

            batch = self._opens[name] = Batch(self.lock, opened)
        return await batch.join(None)

    def open_already(self, name: str) -> Snapshot | None:
        """The same, if it is in memory, nobody changes anything just now, and nothing happened to its files: without waiting, which for SELECT and STATUS
        is most of what they cost."""
        snapshot = self._snapshots.get(name)
        if snapshot is None or snapshot.removed or self.lock.locked or not self._trusted(snapshot):
            return None
        self.ground.keep(snapshot)
        return snapshot

    def _trusted(self, snapshot: Snapshot) -> bool:
        """Whether what memory has is what lies on the disk. Nobody changes anything meanwhile."""
        watch = snapshot.watch
        if watch is None or not 0 <= self.ground.now() - snapshot.looked[2] < TRUSTED_SECONDS or not watch.quiet(snapshot):
            return False
        self.maildir.anchor.look()
        return True

    async def opened(self, name: str) -> Snapshot:
        """The same, for who has the lock."""
        row = self.rows.get(name)
        if row is None:
            raise FolderError("NONEXISTENT", f"no folder {name}")
        snapshot = self._snapshots.get(name)
        if snapshot is None:
            snapshot = await self.ground.database.read(index.load, row)
            await self._watch(snapshot)
            await self._look(snapshot)
            self._snapshots[name] = snapshot
        else:
            await self._look(snapshot)
        self.ground.keep(snapshot)
        return snapshot

    async def opened_lately(self, name: str) -> Snapshot:
        """The same; what other programs did in the last seconds (``LATELY_SECONDS``) may be missing, so that who changes a folder a thousand times need
        not list it a thousand times. What is done about it must stand that a file is not where it was."""
        snapshot = self._snapshots.get(name)
        if snapshot is None or snapshot.removed:
            return await self.opened(name)
        lately = LATELY_SECONDS + len(snapshot.entries) / ENTRIES_A_SECOND
        return snapshot if 0 <= self.ground.now() - snapshot.looked[2] < lately else await self.opened(name)

    async def look(self, snapshot: Snapshot) -> None:
        """Take in what other programs did. Takes the lock."""
        async with self.lock:
            await self._look(snapshot)

    async def _watch(self, snapshot: Snapshot) -> None:
        """Be told what other programs do to it, where that can be."""
        numbers = await self.ground.thread(self.ground.watching.add, self.maildir.directories(snapshot.name))
        if numbers is not None:
            mine, known = ref(self), ref(snapshot)

            def news() -> None:
                box, folder = mine(), known()
                if box is not None and folder is not None and not folder.removed and not box._own_doing(folder):
                    Deferred.fromCoroutine(box.look(folder)).addErrback(box._unseen)

            snapshot.watch = self.ground.watching.watch(snapshot, numbers, news)

    def _own_doing(self, snapshot: Snapshot) -> bool:
        """Whether what happened to its files is what memory knows, seen without waiting for anybody."""
        return snapshot.watch is not None and not self.lock.locked and snapshot.watch.quiet(snapshot)

    def _unseen(self, failure: Failure) -> None:
        if not failure.check(FolderError, OSError, DatabaseError):
            self.log.failure("mailbox {mailbox} could not be looked at", failure, mailbox=self.mailbox)

    async def looked(self, snapshot: Snapshot) -> None:
        """Memory and index know what lies on the disk now, for who has the lock and knows that it changed. Raises FolderError NONEXISTENT."""
        snapshot.looked = (0, 0, 0.0)
        await self._look(snapshot)

    async def _look(self, snapshot: Snapshot) -> None:
        if snapshot.removed:
            raise FolderError("NONEXISTENT", f"no folder {snapshot.name}")
        if self._trusted(snapshot):
            return
        watch = snapshot.watch
        if watch is not None:
            watch.listed()
        try:
            listing = await self.ground.thread(
                self.maildir.look, snapshot.name, snapshot.places.values(), snapshot.looked, self.ground.now()
            )
        except FileNotFoundError:
            raise FolderError("NONEXISTENT", f"the directory of {snapshot.name} has gone") from None
        if listing is None:
            return
        if listing.unreadable:
            self.log.warn(
                "{count} files in {path} are no readable messages, {name} for one",
                count=len(listing.unreadable),
                path=str(self.maildir.folder(snapshot.name)),
                name=listing.unreadable[0],
            )
        await self._take_in(snapshot, listing)
        snapshot.looked = listing.looked

    async def _take_in(self, snapshot: Snapshot, listing: Listing) -> None:
        modseq = snapshot.modseq + 1
        changed: list[Entry] = []
        for place in listing.moved:
            uid = snapshot.uids[place.base]
            entry = snapshot.entries[uid]
            flags = _union(naming.flags_of(place.letters), entry.flags)
            if flags != entry.flags:
                changed.append(msgspec.structs.replace(entry, flags=flags, modseq=modseq))
        added = [
            Stored(
                Entry(
                    snapshot.uidnext + number,
                    modseq,
                    naming.flags_of(found.place.letters),
                    found.size,
                    found.date,
                    found.place.base,
                    saved=self.ground.now(),
                ),
                found.place,
                at=self.ground.now() if snapshot.name == naming.INBOX else 0.0,
                landed=self.ground.now(),
            )
            for number, found in enumerate(listing.added)
        ]
        gone = [snapshot.uids[base] for base in listing.vanished]
        for place in listing.moved:
            snapshot.moved_file(snapshot.uids[place.base], place)
        if changed or added or gone:
            await self.commit(Turn(snapshot, added, [(entry, snapshot.places[entry.uid]) for entry in changed], gone))

    async def commit(self, *turns: Turn) -> None:
        """Index, memory and hints for a change whose files are done, in one transaction. The lock is held."""
        changes = [self._change(turn) for turn in turns]
        await self.ground.database.run(index.store, self.tenant, self.mailbox, changes)
        await self._committed(turns, changes)

    async def _committed(self, turns: Sequence[Turn], changes: Sequence[Change]) -> None:
        """Memory and hints."""
        for turn, change in zip(turns, changes, strict=True):
            snapshot = turn.snapshot
            snapshot.uidnext = change.uidnext
            before = len(snapshot.entries), snapshot.size
            for entry, place in turn.changed:
                snapshot.put(entry, place)
            for stored in turn.added:
                snapshot.put(stored.entry, stored.place)
                if stored.kept is not None:
                    self.ground.lately.came(snapshot.id, stored.entry.uid, stored.kept.ready)
                    self.unwritten.came(self.tenant, snapshot.id, stored.entry.uid, stored.kept)
            for one in change.gone:
                snapshot.remove(one.uid, change.modseq)
            self.usage.grew(len(snapshot.entries) - before[0], snapshot.size - before[1])
        for turn in turns:
            self.ground.changed(self.mailbox, turn.snapshot.name)
        if any(turn.added or turn.gone for turn in turns):
            await self.weigh()

    def _change(self, turn: Turn) -> Change:
        snapshot = turn.snapshot
        modseq = snapshot.modseq + 1
        uidnext = max([snapshot.uidnext, *(one.entry.uid + 1 for one in turn.added)])
        gone = [Gone(uid, modseq, snapshot.places[uid].base) for uid in turn.gone]
        changed = [entry for entry, _ in turn.changed]
        unwritten = self.unwritten.forget(snapshot.id, turn.gone)
        return Change(snapshot.id, uidnext, modseq, snapshot.recent_from, turn.added, changed, gone, unwritten)

    # Changes. All take the lock; all raise FolderError NONEXISTENT when the folder has gone.

    async def store(
        self,
        snapshot: Snapshot,
        uids: Collection[int],
        change: Callable[[frozenset[str]], frozenset[str]],
        since: int | None = None,
    ) -> list[Entry]:
        """New flags for messages; the entries as they are then. UIDs that are gone are passed over, and those changed after modseq ``since``. Raises
        FolderError INUSE."""
        async with self.lock:
            self.alive(snapshot)
            if since is not None:
                uids = [uid for uid in uids if uid in snapshot.entries and snapshot.entries[uid].modseq <= since]
            self.unclaimed(snapshot, uids)
            for _ in range(3):
                if await self._store(snapshot, uids, change):
                    return [snapshot.entries[uid] for uid in uids if uid in snapshot.entries]
                await self.looked(snapshot)
            raise FolderError("UNAVAILABLE", "another program keeps renaming these messages")

    async def _store(self, snapshot: Snapshot, uids: Collection[int], change: Callable[[frozenset[str]], frozenset[str]]) -> bool:
        """One attempt; false if another program had renamed files, so that not all was done."""
        modseq = snapshot.modseq + 1
        changed: list[tuple[Entry, Place]] = []
        renames: list[tuple[Place, Place]] = []
        movers: list[int] = []
        same: dict[frozenset[str], frozenset[str]] = {}
        for uid in uids:
            entry = snapshot.entries.get(uid)
            if entry is None:
                continue
            flags = change(entry.flags)
            flags = same.setdefault(flags, flags)
            place = snapshot.places[uid]
            letters = naming.letters_of(flags, place.letters)
            if letters != place.letters:
                moved = Place(place.base, "cur", letters, place.hidden, place.bare)
                renames.append((place, moved))
                movers.append(uid)
                place = moved
            if flags != entry.flags:
                changed.append((msgspec.structs.replace(entry, flags=flags, modseq=modseq), place))
        lost = await self._relabelled(snapshot, renames, changed)
        if lost:
            for number, uid in enumerate(movers):
                if number not in lost:
                    snapshot.moved_file(uid, renames[number][1])
        return not lost

    async def _relabelled(
        self, snapshot: Snapshot, renames: Sequence[tuple[Place, Place]], changed: Sequence[tuple[Entry, Place]]
    ) -> Sequence[int]:
        """Files, then index and memory, which know nothing of it if files were lost: which of them. Few are renamed in the thread that commits."""
        relabel = partial(self.maildir.relabel, snapshot.name, renames)
        turn = Turn(snapshot, changed=changed)
        if not changed or not 0 < len(renames) <= RENAMED_THERE:
            lost = await self.ground.thread(relabel) if renames else []
            if changed and not lost:
                await self.commit(turn)
            return lost
        changes = [self._change(turn)]
        lost = await self.ground.database.run(index.relabel_and_store, relabel, self.tenant, self.mailbox, changes)
        if not lost:
            await self._committed([turn], changes)
        return lost

    async def expunge(self, snapshot: Snapshot, uids: Collection[int]) -> list[int]:
        """Remove messages, durably; the UIDs that went."""
        async with self.lock:
            self.alive(snapshot)
            return await self.expunged(snapshot, uids)

    async def expunged(self, snapshot: Snapshot, uids: Collection[int]) -> list[int]:
        """The same, for who has the lock."""
        gone = [uid for uid in uids if uid in snapshot.places]
        if gone:
            await self.ground.thread(self.maildir.unlink, snapshot.name, [snapshot.places[uid] for uid in gone])
            await self.commit(Turn(snapshot, gone=gone))
        return gone

    def new_base(self, size: int, origin: str = "") -> str:
        """A base name for a message that was not delivered by us; ``origin``: its EMAILID, if it has one already."""
        ground = self.ground
        return naming.appended_base(ground.now(), ground.number(), ground.token(), ground.host, size, origin)

    # Claims

    def unclaimed(self, snapshot: Snapshot, uids: Collection[int]) -> None:
        """Raises FolderError INUSE if one of them is being handed over to the primary (rule 10)."""
        if snapshot.claimed and not snapshot.claimed.isdisjoint(uids):
            raise FolderError("INUSE", "being handed over to the mail server right now")

    async def claim(self, snapshot: Snapshot, uids: Collection[int], claimed: bool, note: str = "") -> None:
        """Claim copies for hand-over, or let them go; committed on return. The lock is held."""
        if claimed:
            snapshot.claimed.update(uids)
        try:
            await self.ground.database.run(index.claim, snapshot.id, list(uids), claimed, note)
        except BaseException:
            snapshot.claimed.difference_update(uids)
            raise
        if not claimed:
            snapshot.claimed.difference_update(uids)

    def alive(self, snapshot: Snapshot) -> None:
        """Raises FolderError NONEXISTENT if the folder has gone."""
        if snapshot.removed:
            raise FolderError("NONEXISTENT", f"no folder {snapshot.name}")


def _union(lettered: frozenset[str], former: frozenset[str]) -> frozenset[str]:
    """Flags of a file name, and of what the index knows besides those that file names can say."""
    return lettered | (former - naming.LETTERED)
