"""A mailbox in memory behind ``IFolderTree``, a bus that calls at once, and a log-in: what tests of IMAP, POP and webmail stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec
from zope.interface import implementer

from hornetmail.access.login import AccessRefused
from hornetmail.access.scram import derive
from hornetmail.core.events import FolderChanged
from hornetmail.core.folder import Copied, Entry, FolderError, FolderInfo, FolderStatus, Sieve, Usage
from hornetmail.core.served import Person, Scope
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.body import IBody, IDeposit
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.folders import IFolder, IFolderTree
from hornetmail.mime.structure import Part, scan
from hornetmail.wire.imap.answers.ready import TOO_LARGE, Ready, ready
from hornetmail.wire.imap.answers.structure import outweighs
from hornetmail.wire.sasl import ScramKeys


@implementer(IBus)
class MemoryBus:
    """Calls every subscriber at once, so that a test need not turn a reactor."""

    def __init__(self) -> None:
        self._listeners: dict[type, list[Callable[[Any], Any]]] = {}

    def publish(self, event: Any) -> None:
        """Tell it."""
        for listener in tuple(self._listeners.get(type(event), ())):
            listener(event)

    def subscribe(self, kind: type, listener: Callable[[Any], Any]) -> Callable[[], None]:
        """Listen."""
        listeners = self._listeners.setdefault(kind, [])
        listeners.append(listener)
        return lambda: listeners.remove(listener)


@implementer(IAccess)
class MemoryAccess:
    """``passwords`` by address; the place in it is the mailbox's ID, from 1."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self.passwords = passwords
        self.asked: list[tuple[str, str, str, str]] = []

    async def login(self, user: str, password: str, door: str, peer: str) -> Person:
        """Raises AccessRefused."""
        self.asked.append((user, password, door, peer))
        if self.passwords.get(user.lower()) != password:
            raise AccessRefused("credentials", "wrong")
        return Person(list(self.passwords).index(user.lower()) + 1, user.lower(), 1)

    def offers_scram(self) -> bool:
        """Always."""
        return True

    def scram_keys(self, user: str) -> ScramKeys:
        """Of the password, or of none."""
        return derive(self.passwords.get(user.lower(), "no password of anybody's"), b"0123456789abcdef", 4096)

    async def proved(self, user: str, keys: ScramKeys, right: bool, door: str, peer: str) -> Person:
        """Raises AccessRefused."""
        return await self.login(user, self.passwords.get(user.lower(), "") if right else "", door, peer)

    def scope(self, person: Person) -> Scope:
        """Own mail."""
        return Scope(1, frozenset(person.addresses))


@implementer(IBody)
class MemoryBody:
    """Bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, start: int = 0, length: int = -1) -> bytes:
        """A part."""
        return self._data[start:] if length < 0 else self._data[start : start + length]

    async def chunks(self) -> AsyncIterator[bytes]:
        """In pieces."""
        for start in range(0, self.size, 65_536):
            yield self._data[start : start + 65_536]


class _Kept:
    def __init__(self, entry: Entry, data: bytes) -> None:
        self.entry = entry
        self.data = data
        self.part: Part | None = None
        self.ready: Ready | None = None


@implementer(IFolder)
class MemoryFolder:
    """A folder. ``inuse``: UIDs that a drain has claimed."""

    def __init__(self, tree: MemoryTree, info: FolderInfo) -> None:
        self.info = info
        self.kept_texts: dict[int, tuple[bytes, bytes]] = {}
        self.inuse: set[int] = set()
        self.messages: dict[int, _Kept] = {}
        self.uidnext = 1
        self.modseq = 1
        self.recent_from = 1
        self._tree = tree
        self._gone: list[Entry] = []

    def add(self, data: bytes, flags: Collection[str] = (), date: float = 1.7e9) -> int:
        """A message, as delivery would; its UID."""
        uid = self.uidnext
        self.uidnext += 1
        self.modseq += 1
        self.messages[uid] = _Kept(
            Entry(uid, self.modseq, frozenset(flags), len(data), date, f"n{uid}", saved=self._tree.saved), data
        )
        self.changed()
        return uid

    def changed(self) -> None:
        """The hint."""
        self._tree.bus.publish(FolderChanged(self._tree.mailbox, self.info.name))

    def remove(self, uid: int) -> None:
        """A message goes, as a drain would take it."""
        entry = self.messages.pop(uid).entry
        self.modseq += 1
        self._gone.append(Entry(uid, self.modseq, entry.flags, entry.size, entry.date, entry.name, gone=True))
        self.changed()

    async def status(self) -> FolderStatus:
        """Figures."""
        await self._tree.hop()
        kept = [m.entry for m in self.messages.values()]
        unseen = sum("\\Seen" not in e.flags for e in kept)
        recent = sum(e.uid >= self.recent_from for e in kept)
        return FolderStatus(
            self.info.uidvalidity, self.uidnext, len(kept), unseen, self.modseq, sum(e.size for e in kept), recent
        )

    async def recent(self, take: bool) -> int:
        """Told of, or not."""
        await self._tree.hop()
        first = self.recent_from
        if take:
            self.recent_from = self.uidnext
        return first

    async def entries(self, uids: Collection[int] | None = None) -> Sequence[Entry]:
        """By UID."""
        await self._tree.hop()
        if uids is None:
            return [m.entry for m in self.messages.values()]
        return [self.messages[uid].entry for uid in sorted(uids) if uid in self.messages]

    async def changes(self, modseq: int) -> Sequence[Entry]:
        """Since then."""
        await self._tree.hop()
        found = [m.entry for m in self.messages.values() if m.entry.modseq > modseq]
        return sorted(found + [e for e in self._gone if e.modseq > modseq], key=lambda e: e.modseq)

    async def structures(self, uids: Sequence[int]) -> dict[int, Any]:
        """Trees."""
        await self._tree.hop()
        found = {}
        for uid in uids:
            if uid in self.messages:
                kept = self.messages[uid]
                if kept.part is None:
                    kept.part = scan(kept.data)
                found[uid] = kept.part
        return found

    @property
    def there(self) -> bool:
        """Until it is dropped."""
        return self._tree.has(self)

    def email_id(self, entry: Entry) -> str:
        """One a message."""
        return f"E{entry.name}"

    async def headers(self, uids: Sequence[int]) -> dict[int, bytes]:
        """Up to the blank line."""
        found = await self.structures(uids)
        return {uid: self.messages[uid].data[: part.body] for uid, part in found.items()}

    async def summaries(self, uids: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """As the portal has them."""
        found = await self._ready(uids)
        return {uid: (one.envelope, one.structure) for uid, one in found.items()}

    async def fields(self, uids: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """As the portal has them."""
        found = await self._ready(uids)
        return {uid: (one.bits, one.fields) for uid, one in found.items()}

    async def _ready(self, uids: Sequence[int]) -> dict[int, Ready]:
        """Of large ones there is nothing."""
        found = {}
        for uid, tree in (await self.structures(uids)).items():
            kept = self.messages[uid]
            if kept.ready is None:
                kept.ready = TOO_LARGE if outweighs(tree, 1000) else ready(tree, kept.data[: tree.body])
            found[uid] = kept.ready
        return found

    async def sifted(self, uids: Sequence[int], sieve: Sieve) -> dict[int, bool]:
        """Of what was kept."""
        await self._tree.hop()
        there = [uid for uid in uids if uid in self.kept_texts]
        headers, bodies = (b"\n".join(self.kept_texts[uid][which] for uid in there) for which in (0, 1))
        if there and not sieve.possible(headers, bodies):
            return dict.fromkeys(there, False)
        return {uid: sieve.judge(uid, *self.kept_texts[uid]) for uid in there}

    async def keep_texts(self, found: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Kept."""
        await self._tree.hop()
        self.kept_texts.update((uid, (headers, body)) for uid, headers, body in found)

    async def pieces(self, wanted: Sequence[tuple[int, int, int]]) -> Sequence[bytes | None]:
        """Pieces."""
        await self._tree.hop()
        texts = {uid: kept.data for uid, kept in self.messages.items()}
        return [texts[uid][start : start + length] if uid in texts else None for uid, start, length in wanted]

    async def body(self, uid: int) -> IBody:
        """Raises FolderError EXPUNGEISSUED."""
        await self._tree.hop()
        if uid not in self.messages:
            raise FolderError("EXPUNGEISSUED", "gone")
        return IBody(MemoryBody(self.messages[uid].data))

    def _writable(self, uids: Collection[int] = ()) -> None:
        if self.info.readonly:
            raise FolderError("NOPERM", "read-only")
        if self.inuse.intersection(uids):
            raise FolderError("INUSE", "being delivered")

    async def store(
        self,
        uids: Collection[int],
        add: Collection[str] = (),
        remove: Collection[str] = (),
        replace: Collection[str] | None = None,
        since: int | None = None,
    ) -> Sequence[Entry]:
        """Flags."""
        await self._tree.hop()
        uids = [uid for uid in uids if since is None or uid not in self.messages or self.messages[uid].entry.modseq <= since]
        self._writable(uids)
        self.modseq += 1
        out = []
        for uid in sorted(uids):
            kept = self.messages.get(uid)
            if kept is None:
                continue
            e = kept.entry
            flags = frozenset(replace) if replace is not None else (e.flags | frozenset(add)) - frozenset(remove)
            if flags != e.flags:
                kept.entry = msgspec.structs.replace(e, modseq=self.modseq, flags=flags)
            out.append(kept.entry)
        self.changed()
        return out

    async def expunge(self, uids: Collection[int] | None = None) -> Sequence[int]:
        r"""Those marked \Deleted."""
        await self._tree.hop()
        gone = [u for u, m in self.messages.items() if "\\Deleted" in m.entry.flags and (uids is None or u in uids)]
        self._writable(gone)
        for uid in gone:
            self.remove(uid)
        return gone

    async def copy(self, uids: Collection[int], target: str) -> Copied:
        """All or nothing."""
        await self._tree.hop()
        folder = self._tree.found(target)
        folder._writable()
        sources = sorted(uid for uid in uids if uid in self.messages)
        targets = [folder.add(m.data, m.entry.flags, m.entry.date) for m in [self.messages[u] for u in sources]]
        return Copied(folder.info.uidvalidity, tuple(sources), tuple(targets))

    async def move(self, uids: Collection[int], target: str) -> Copied:
        """And away."""
        self._writable(uids)
        copied = await self.copy(uids, target)
        for uid in copied.sources:
            self.remove(uid)
        return copied

    def append(self, flags: Collection[str], date: float | None, frees: int = 0) -> IDeposit:
        """A new message."""
        self._writable()
        return IDeposit(MemoryDeposit(self, flags, 1.7e9 if date is None else date, frees))

    async def commit(self, deposits: Sequence[Any], instead: tuple[Any, int] | None = None) -> Copied:
        """All or none."""
        source, replaced = instead if instead is not None else (self, 0)
        source._writable([replaced])
        for deposit in deposits:
            await deposit.check()
        copies = [await deposit.commit() for deposit in deposits]
        if replaced in source.messages:
            source.remove(replaced)
        return Copied(self.info.uidvalidity, (), tuple(uid for copy in copies for uid in copy.targets))


@implementer(IDeposit)
class MemoryDeposit:
    """Collects."""

    def __init__(self, folder: MemoryFolder, flags: Collection[str], date: float, frees: int = 0) -> None:
        self._frees = frees
        self._folder = folder
        self._flags = flags
        self._date = date
        self._data = bytearray()
        self._open = True

    @property
    def size(self) -> int:
        """So far."""
        return len(self._data)

    async def write(self, data: bytes) -> None:
        """A piece."""
        await self._folder._tree.hop()
        self._data += data
        if self._folder._tree.full and len(self._data) > self._frees:
            raise FolderError("OVERQUOTA", "full")

    async def check(self) -> None:
        """Raises FolderError if it cannot be kept."""
        tree = self._folder._tree
        await tree.hop()
        if tree.fails:
            tree.fails -= 1
            if not tree.fails:
                raise FolderError("UNAVAILABLE", "the disk says no")

    async def commit(self, *args: Any, **keywords: Any) -> Copied:
        """There."""
        await self.check()
        self._open = False
        return Copied(self._folder.info.uidvalidity, (), (self._folder.add(bytes(self._data), self._flags, self._date),))

    async def abort(self) -> None:
        """Forgotten."""
        self._open = False
        self._data.clear()


@implementer(IFolderTree)
class MemoryTree:
    """A mailbox. ``pause`` is awaited by every asynchronous step, so that tests can let other things happen in between. ``fails``: the so many-th
    message from now cannot be committed. ``objects``: folders have MAILBOXIDs from now on; ``saved``: the SAVEDATE of what comes from now on."""

    def __init__(self, mailbox: int, bus: IBus, *, readonly: bool = False, inbox: bool = True) -> None:
        self.mailbox = mailbox
        self.bus = bus
        self.readonly = readonly
        self.full = False
        self.held: Usage | None = None
        self.objects = False
        self.saved = 0.0
        self.fails = 0
        self.pause: Callable[[], Awaitable[None]] | None = None
        self._validity = 1000
        self._folders: dict[str, MemoryFolder] = {}
        self._subscribed: dict[str, None] = {}
        if inbox:
            self.make("INBOX")

    async def hop(self) -> None:
        """A step."""
        if self.pause is not None:
            await self.pause()

    def make(self, name: str, use: str = "", selectable: bool = True) -> MemoryFolder:
        """A folder, at once."""
        self._validity += 1
        known = f"F{self._validity}" if self.objects else ""
        folder = MemoryFolder(self, FolderInfo(name, self._validity, use, False, selectable, self.readonly, known))
        self._folders[name] = folder
        return folder

    def has(self, folder: MemoryFolder) -> bool:
        """Whether it is one of these."""
        return self._folders.get(folder.info.name) is folder

    def found(self, name: str) -> MemoryFolder:
        """Raises FolderError."""
        folder = self._folders.get(name)
        if folder is None:
            raise FolderError("NONEXISTENT", "no such folder")
        return folder

    async def folders(self) -> Sequence[FolderInfo]:
        """All, INBOX first."""
        await self.hop()
        names = sorted(self._folders, key=lambda n: (n != "INBOX", n))
        infos = [self._folders[n].info for n in names]
        return [msgspec.structs.replace(i, subscribed=i.name in self._subscribed) for i in infos]

    async def open(self, name: str) -> IFolder:
        """Raises FolderError."""
        await self.hop()
        return IFolder(self.found(name))

    async def create(self, name: str, use: str = "") -> None:
        """Raises FolderError."""
        await self.hop()
        if self.readonly:
            raise FolderError("NOPERM", "read-only")
        if name in self._folders:
            raise FolderError("ALREADYEXISTS", "it exists")
        levels = name.split("/")
        for n in range(1, len(levels)):
            if "/".join(levels[:n]) not in self._folders:
                self.make("/".join(levels[:n]))
        self.make(name, use)

    async def delete(self, name: str) -> None:
        """Raises FolderError."""
        await self.hop()
        if any(other.startswith(name + "/") for other in self._folders):
            raise FolderError("CANNOT", "it has children")
        self.drop(name)

    def drop(self, name: str) -> None:
        """A folder goes, at once. Raises FolderError."""
        folder = self.found(name)
        del self._folders[name]
        folder.changed()

    async def rename(self, old: str, new: str) -> None:
        """Raises FolderError."""
        await self.hop()
        source = self.found(old)
        if new in self._folders:
            raise FolderError("ALREADYEXISTS", "it exists")
        if old == "INBOX":
            self.make(new)
            await source.move(list(source.messages), new)
            return
        for name in [n for n in self._folders if n == old or n.startswith(old + "/")]:
            folder = self._folders.pop(name)
            info = folder.info
            folder.info = msgspec.structs.replace(info, name=new + name[len(old) :])
            self._folders[folder.info.name] = folder
            self.bus.publish(FolderChanged(self.mailbox, name))
            folder.changed()

    async def subscribe(self, name: str, wanted: bool) -> None:
        """Outlives the folder."""
        await self.hop()
        if wanted:
            self._subscribed[name] = None
        else:
            self._subscribed.pop(name, None)

    async def usage(self) -> Usage | None:
        """As it is set."""
        return self.held

    async def subscriptions(self) -> Sequence[str]:
        """Names."""
        await self.hop()
        return sorted(self._subscribed)
