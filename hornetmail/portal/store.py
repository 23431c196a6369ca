"""The portal as the rest of the service knows it: deliveries, the drain's claims, the POP lock, figures."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.delivery.queued import Message, Portal, Row
from hornetmail.core.folder import Entry, FolderError
from hornetmail.core.mail.envelope import Envelope
from hornetmail.core.served import Quota
from hornetmail.db.engines import DatabaseError
from hornetmail.db.pool import Database
from hornetmail.disk.anchor import Anchor, DiskAway
from hornetmail.disk.files import Disk
from hornetmail.disk.threads import thread_pool
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.portal import IPortal
from hornetmail.portal import expiry
from hornetmail.portal.box import rights
from hornetmail.portal.box.box import Box
from hornetmail.portal.box.deposit import Inflow
from hornetmail.portal.box.folder import DELETED, Folder, Tree
from hornetmail.portal.box.landing import land
from hornetmail.portal.box.survey import survey
from hornetmail.portal.box.turns import Arrival
from hornetmail.portal.box.unwritten import Unwritten, Writing
from hornetmail.portal.maildir import envelope, naming
from hornetmail.portal.maildir.files import Maildir
from hornetmail.portal.maildir.ground import Ground, shielded
from hornetmail.portal.maildir.snapshot import Place, Snapshot
from hornetmail.portal.outflow import Outflow, addressed, twins
from hornetmail.portal.rows import figures, index
from hornetmail.portal.shared import SharedTree

BOXES_KEPT = 5_000
RECEIVED_KEPT = 30 * 86_400.0
"""Seconds for which a row that was delivered is remembered, so that it is not delivered again after its message was moved or deleted."""

POP_WAIT = 60.0
"""Seconds that a drain waits for the POP lock before it is told INUSE."""

THREADS = 12

WHOLE_BYTES = 1 << 20
"""Bodies up to this size are read in one piece."""


@implementer(IPortal)
class PortalStore:
    """The Maildir store below ``root`` (``DIR/portal``). ``await open()`` before use, ``await close()`` at the end."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        root: Path,
        disk: Disk,
        database: Database,
        bus: IBus,
        directory: IDirectory,
        *,
        host: str,
        boot: str = "",
        threads: int = THREADS,
    ) -> None:
        """``database`` was opened with ``schema.MIGRATIONS``. ``boot`` names this run of the machine (the kernel's boot ID)."""
        self._pool = thread_pool(reactor, 0, threads, "portal")
        self._ground = Ground(reactor, self._pool, disk, database, bus, directory, host)
        self._root = root
        self.anchor = Anchor(root, disk)
        self._directory = directory
        self._boot = boot or "unknown"
        self._boxes: WeakValueDictionary[int, Box] = WeakValueDictionary()
        self._kept: OrderedDict[int, Box] = OrderedDict()
        self._unwritten = Unwritten(self._write_soon)
        self._loading: dict[int, list[Deferred[Box]]] = {}
        self._locks: dict[int, str] = {}
        self._outflows: WeakValueDictionary[int, Outflow] = WeakValueDictionary()
        self._lock_waiters: dict[int, list[Deferred[None]]] = {}

    async def open(self, last: str = "") -> str:
        """Start threads, release claims of the process before, skip UIDs after a crash of the machine. Raises DatabaseError, OSError; that too
        if it is not the directory of the last start (``disk.anchor``): an empty mount point is not a portal whose users have removed everything.
        ``last``: what an earlier call returned, kept where the portal's own files do not reach."""
        self._pool.start()
        try:
            token = await self._recognise(last)
        except BaseException:
            self._pool.stop()
            raise
        self._ground.watching.start()
        if await self._ground.database.run(index.start, self._boot):
            self.log.warn("the machine went down under the portal: every folder skips {count} UIDs", count=index.SKIPPED_UIDS)
        return token

    async def _recognise(self, last: str) -> str:
        """The directory is the one that the index knows. A new index believes what is there. One that knows an earlier start than the last is an older copy, or
        lost its last moments: it may give UIDs to other messages than it did then, so clients have to forget what they know. The same goes for both, put back
        together, where the last start left no word in either."""
        ground = self._ground
        tokens = await ground.thread(self.anchor.tokens)
        known = await ground.database.read(index.token)
        empty = not await ground.thread(_anything, self._root)
        if (known and known not in tokens) or (not known and empty and await ground.database.read(index.anything)):
            what = "empty" if empty else "another one" if tokens else "not the one of the last start"
            kept = f" If it is the right one, add the line {known} to {self.anchor.file}." if known else ""
            raise FileNotFoundError(
                f"the portal's directory {self._root} is {what}, and its database knows it: is the disk not mounted, or another one?{kept} If the"
                " mail is lost, remove portal.db to begin with an empty portal"
            )
        both = bool(known and last and last not in tokens)
        if both or (known and known != tokens[0]):
            count = await ground.database.run(index.renumber, int(ground.now()))
            what = (
                "Maildirs and portal.db are of a time before the last start" if both else "portal.db is older than the Maildirs"
            )
            self.log.warn(
                "{what} of {path}: all {count} folders have new UIDVALIDITYs", what=what, path=str(self._root), count=count
            )
        token = await ground.thread(self.anchor.renew)
        await ground.database.run(index.set_token, token)
        return token

    async def close(self) -> None:
        """Wait for what runs, then note an orderly end. The database is its owner's to close."""
        for box in list(self._boxes.values()):
            await box.lock.acquire()
            box.lock.release()
        self._ground.watching.close()
        await self._written(self._unwritten.taken())
        await self._ground.database.run(index.stop)
        self._ground.forget()
        self._kept.clear()
        await self._ground.thread(lambda: None)
        self._pool.stop()

    async def _written(self, some: Writing) -> None:
        """What is kept of messages is in the index, or made anew when somebody asks. Raises nothing."""
        if some:
            try:
                await self._ground.database.run(index.keep_all, some)
            except DatabaseError as error:
                self.log.warn("what is kept of some messages is not in the index, and is made anew: {error}", error=error)

    def _write_soon(self, some: Writing) -> None:
        Deferred.fromCoroutine(self._written(some)).addErrback(
            lambda failure: self.log.failure("what is kept of some messages could not be written", failure)
        )

    # Boxes

    async def _box(self, mailbox: int) -> Box:
        """The one box of a mailbox. Raises FolderError NONEXISTENT if nobody knows the mailbox."""
        box = self._boxes.get(mailbox)
        if box is not None:
            self._keep(box)
            return box
        waiting = self._loading.get(mailbox)
        if waiting is not None:
            waiter: Deferred[Box] = Deferred()
            waiting.append(waiter)
            return await waiter
        self._loading[mailbox] = []
        return await shielded(self._load(mailbox))

    async def _load(self, mailbox: int) -> Box:
        try:
            tenant = await self._tenant(mailbox)
            maildir = Maildir(self._root / str(tenant) / str(mailbox) / "Maildir", self._ground.disk, self.anchor)
            box = Box(self._ground, mailbox, tenant, maildir, self._unwritten)
            await box.load()
            await rights.load(box)
        except BaseException as error:
            for waiter in self._loading.pop(mailbox):
                waiter.errback(error)
            raise
        self._boxes[mailbox] = box
        self._keep(box)
        for waiter in self._loading.pop(mailbox):
            waiter.callback(box)
        return box

    async def _tenant(self, mailbox: int) -> int:
        known = self._directory.mailbox_by_id(mailbox)
        if known is not None:
            return known.tenant
        tenant = await self._ground.database.read(index.tenant, mailbox)
        if tenant is None:
            raise FolderError("NONEXISTENT", f"no mailbox {mailbox}")
        return tenant

    def _keep(self, box: Box) -> None:
        self._kept[box.mailbox] = box
        self._kept.move_to_end(box.mailbox)
        if len(self._kept) > BOXES_KEPT:
            self._kept.popitem(last=False)

    async def _inbox(self, mailbox: int) -> tuple[Box, Snapshot]:
        box = await self._box(mailbox)
        inbox = box.snapshot_in_memory(naming.INBOX)
        return box, inbox if inbox is not None else await shielded(box.open(naming.INBOX))

    def tree(self, mailbox: int) -> Tree:
        """See IPortal."""
        return Tree(mailbox, self._box)

    def shared(self, mailbox: int, prefix: str) -> SharedTree:
        """See IPortal."""
        return SharedTree(self._ground, mailbox, self._box, self.tree(mailbox), prefix)

    # Deliveries

    async def received(self, mailbox: int, row: Row) -> Portal | None:
        """See IPortal. Remembered for 30 days after it left INBOX."""
        _, inbox = await self._inbox(mailbox)
        twins = inbox.rows.get(row.id)
        if twins:
            return Portal(mailbox, inbox.places[min(twins)].base)
        former = await self._ground.database.read(index.received, row.id, mailbox)
        return Portal(mailbox, former) if former else None

    async def room(self, mailbox: int, size: int) -> bool:
        """See IPortal. A mailbox without a quota is not opened for it."""
        quota = self._bound(mailbox)
        return not (quota.size or quota.messages) or not (await self._box(mailbox)).usage.would_fill(quota, 1, size)

    def _bound(self, mailbox: int) -> Quota:
        """What binds mail for it: nothing where its domain has a primary."""
        owner = self._directory.mailbox_by_id(mailbox)
        domain = self._directory.domain(owner.domain) if owner is not None else None
        return Quota() if owner is None or domain is None or domain.primaries else owner.quota(domain)

    async def deliver(self, mailbox: int, message: Message, row: Row, body: IBody, *, uncertain: bool = False) -> Portal:
        """See IPortal. Durable on return. Raises DiskFull, OSError, DatabaseError, FolderError: nothing was delivered, try again."""
        return await shielded(self._deliver(mailbox, message, row, body, uncertain))

    async def _deliver(self, mailbox: int, message: Message, row: Row, body: IBody, uncertain: bool) -> Portal:
        known = await self.received(mailbox, row)
        if known is not None:
            return Portal(mailbox, known.name, uncertain)
        box = await self._box(mailbox)
        owner = self._directory.mailbox_by_id(mailbox)
        lines = envelope.write(message, row, owner.address if owner is not None else row.address, uncertain=uncertain)
        size = len(message.trace) + message.size
        bound = self._bound(mailbox) != Quota()
        if bound:
            box.usage.admit(1, size)
        base = naming.delivered_base(message.arrived, row.id, row.number, self._ground.host, len(lines) + size, len(lines))
        inflow = Inflow(box, naming.INBOX, base)
        try:
            await inflow.write(lines + message.trace)
            if message.size <= WHOLE_BYTES:
                await inflow.write(await body.read())
            else:
                async for piece in body.chunks():
                    await inflow.write(piece)
            if inflow.size != len(lines) + size:
                raise OSError(
                    f"the body of message {message.id} has {inflow.size - len(lines) - len(message.trace)} bytes, not {message.size}"
                )
            path, kept = await inflow.finish(message.arrived, len(lines))
            place = Place(base, "new", "", len(lines), False)
            await land(box, naming.INBOX, Arrival(path, place, frozenset(), size, message.arrived, kept, bound=bound))
        except BaseException:
            with contextlib.suppress(OSError):
                await inflow.discard()
            raise
        return Portal(mailbox, base, uncertain)

    async def quota_told(self, mailbox: int, since: float) -> None:
        """See IPortal."""
        await (await self._box(mailbox)).told(since)

    # The POP lock

    async def lock(self, mailbox: int, owner: str) -> bool:
        """See IPortal. False if somebody else has it. In memory: it ends with the process."""
        return self._locks.setdefault(mailbox, owner) == owner

    async def unlock(self, mailbox: int, owner: str) -> None:
        """See IPortal. Nothing happens if it is not the owner's."""
        if self._locks.get(mailbox) == owner:
            del self._locks[mailbox]
            for waiter in self._lock_waiters.pop(mailbox, []):
                waiter.callback(None)

    async def _unlocked(self, mailbox: int) -> None:
        until = self._ground.now() + POP_WAIT
        while mailbox in self._locks:
            left = until - self._ground.now()
            if left <= 0:
                raise FolderError("INUSE", "a POP session has the mailbox")
            waiter: Deferred[None] = Deferred()
            self._lock_waiters.setdefault(mailbox, []).append(waiter)
            timer = self._ground.reactor.callLater(left, self._wait_over, mailbox, waiter)
            await waiter
            if timer.active():
                timer.cancel()

    def _wait_over(self, mailbox: int, waiter: Deferred[None]) -> None:
        waiters = self._lock_waiters.get(mailbox, [])
        if waiter in waiters:
            waiters.remove(waiter)
            waiter.callback(None)

    # The drain

    async def begin_drain(self, copy: Portal) -> tuple[Envelope, IBody] | None:
        """See IPortal. The claim is committed on return. Waits up to 60 s for a POP session, then raises FolderError INUSE.

        A copy is known by its row's number wherever it was moved or copied to: what lies in INBOX at this moment counts. Without a
        number (APPENDed, foreign: rule 10) the envelope is ``<>`` to the mailbox's main address; FolderError CANNOT if it has none any more.
        """
        return await shielded(self._begin_drain(copy))

    async def _begin_drain(self, copy: Portal) -> tuple[Envelope, IBody] | None:
        outflow = self._outflow(await self._box(copy.mailbox))
        while True:
            await self._unlocked(copy.mailbox)
            claimed = await outflow.claim(copy)
            if not claimed.locked:
                return claimed.found

    async def standing(self, copy: Portal) -> Entry | None:
        """See IPortal."""
        _box, inbox = await self._inbox(copy.mailbox)
        uids = twins(inbox, copy.name)
        return inbox.entries[uids[0]] if uids else None

    def _outflow(self, box: Box) -> Outflow:
        found = self._outflows.get(box.mailbox)
        if found is None:
            found = self._outflows[box.mailbox] = Outflow(box, lambda: box.mailbox in self._locks)
        return found

    async def end_drain(self, copy: Portal, *, delivered: bool, keyword: str = "", reason: str = "") -> None:
        """See IPortal. The removal is durable on return; ``reason`` is kept beside the message (``notes``)."""
        await shielded(self._end_drain(copy, delivered, keyword, reason))

    async def _end_drain(self, copy: Portal, delivered: bool, keyword: str, reason: str) -> None:
        box, inbox = await self._inbox(copy.mailbox)
        if delivered:
            await self._outflow(box).remove(copy)
            return
        async with box.lock:
            uids = [uid for uid in twins(inbox, copy.name, marked=True) if uid in inbox.claimed]
            if uids:
                await box.claim(inbox, uids, False, reason)
        if uids and keyword:
            await box.store(inbox, uids, lambda flags: flags | {keyword})

    async def returned(self, mailbox: int, names: Collection[str]) -> dict[str, tuple[Envelope, int]]:
        """See IPortal. Chosen ones without an envelope (rule 10) come back like all others."""
        box, inbox = await self._inbox(mailbox)
        found: dict[str, tuple[Envelope, int]] = {}
        for name in names:
            uids = twins(inbox, name)
            if uids:
                size = inbox.entries[uids[0]].size
                [head] = await self._ground.thread(box.maildir.envelopes, inbox.name, [inbox.places[uids[0]]])
                if isinstance(head, FileNotFoundError):
                    continue  # moved on this very moment
                if isinstance(head, OSError):
                    raise head
                with contextlib.suppress(FolderError):  # nobody's any more
                    found[name] = addressed(self._directory, mailbox, head), size
        return found

    # Administration

    async def copies(self, mailbox: int) -> Sequence[Portal]:
        """All of INBOX that has an envelope and is not marked for deletion, oldest first: what a drain may take home, also what was moved
        away and back after its drain row had been settled."""
        _box, inbox = await self._inbox(mailbox)
        return [
            Portal(mailbox, place.base)
            for uid, place in inbox.places.items()
            if place.hidden and DELETED not in inbox.entries[uid].flags
        ]

    async def unaddressed(self, mailbox: int, *, copies: bool = False) -> Sequence[Entry]:
        """Messages in INBOX without an envelope (APPENDed, foreign): they stay, unless somebody chooses to drain them with ``<>`` (rule 10)
        through ``begin_drain(Portal(mailbox, entry.name))``."""
        _box, inbox = await self._inbox(mailbox)
        return [inbox.entries[uid] for uid, place in inbox.places.items() if copies or not place.hidden]

    async def holding(self, mailboxes: Iterable[int], spoken_for: Collection[int] | None = None) -> Sequence[int]:
        """See IPortal. What other programs dropped counts, whether or not the mailbox was opened since."""
        known = (self._directory.mailbox_by_id(mailbox) for mailbox in mailboxes)
        paths = [(one.id, self._root / str(one.tenant) / str(one.id) / "Maildir") for one in known if one is not None]
        return await self._ground.thread(_holding, paths, self._ground.disk, self.anchor, spoken_for)

    async def left_over(
        self, mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """See IPortal."""
        return await expiry.left(await self._box(mailbox), before, spared, refused)

    async def expire(
        self, mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """See IPortal. Durable on return."""
        return await shielded(self._expire(mailbox, before, spared, refused))

    async def _expire(
        self, mailbox: int, before: float, spared: Collection[str], refused: Collection[str]
    ) -> dict[str, list[str]]:
        box = await self._box(mailbox)
        gone: dict[str, list[str]] = {}
        for folder, names in (await expiry.left(box, before, spared, refused)).items():
            if folder != naming.INBOX or mailbox not in self._locks:
                gone[folder] = await expiry.remove(box, folder, names)
        return {folder: names for folder, names in gone.items() if names}

    async def notes(self, mailbox: int) -> dict[str, str]:
        """Why messages in INBOX could not be handed over, by name."""
        _, inbox = await self._inbox(mailbox)
        found = await self._ground.database.read(index.notes, inbox.id)
        return {inbox.places[uid].base: note for uid, note in found.items() if uid in inbox.places}

    async def figures(self) -> dict[str, int]:
        """``mailboxes``, ``messages``, ``bytes``, ``inbox_messages``, ``inbox_bytes``, ``claimed``."""
        return await self._ground.database.read(figures.figures)

    async def make_missing(self) -> int:
        """A job, every minute: make the mailboxes of the directory that have no Maildir yet, one after the other, so that an outage
        finds them ready. How many there were."""
        if await self._is_away():
            return 0
        there = await self._ground.database.read(index.mailboxes)
        made = 0
        for mailbox in self._directory.mailboxes():
            if mailbox.id not in there:
                try:
                    await self._box(mailbox.id)
                    made += 1
                except (FolderError, OSError, DatabaseError):
                    self.log.failure("mailbox {mailbox} could not be made", mailbox=mailbox.address)
        return made

    async def sweep(self) -> None:
        """A job, every few seconds: see what other programs did to the folders that are in memory, and tell who watches them. What is kept of messages that
        came is written (``box.unwritten``)."""
        await self._written(self._unwritten.taken())
        if await self._is_away():
            return
        for box in list(self._boxes.values()):
            if any(box.snapshot_in_memory(name) is not None for name in box.rows):
                await shielded(survey(box))
            for name in list(box.rows):
                snapshot = box.snapshot_in_memory(name)
                if snapshot is not None:
                    with contextlib.suppress(FolderError):
                        await shielded(box.look(snapshot))
        await self._ground.database.run(index.forget_received, self._ground.now() - RECEIVED_KEPT)

    async def _is_away(self) -> bool:
        """Whether the disk is; who looks at disks tells of it."""
        try:
            await self._ground.thread(self.anchor.look)
        except DiskAway:
            return True
        return False

    async def folder(self, mailbox: int, name: str) -> Folder:
        """The same as ``tree(mailbox).open(name)``."""
        return await self.tree(mailbox).open(name)


def _anything(root: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return bool(set(os.listdir(root)) - {"lost+found"})
    return False


def _holding(paths: Sequence[tuple[int, Path]], disk: Disk, anchor: Anchor, spoken_for: Collection[int] | None) -> list[int]:
    return [mailbox for mailbox, path in paths if Maildir(path, disk, anchor).holds_unaddressed(spoken_for)]
