"""Packs merged at night, by tenant, medium and month of expiry (rule 21): few objects, however old the archive, and packs without what was deleted
from them (rule 23). Records are copied as they are, sealed as they were; nothing is opened but what may have to go.

One pack at a time, and each step is durable before the next: a note of what goes into which pack (``merging``); the new pack put, read back and
checked; the index moved; the note gone and the old packs ``merged``; the old packs deleted. A crash at any of them leaves every record on the medium and
in the index once: the next run ends what had been moved in part, and removes what had not. A source in which one bit is not as it was is left alone and named.

Memory does not grow with the packs: records go through a file of ciphertext beside ``archive.db``.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from hornetmail.archive.care.packs.sealing import ROWS, Sealer, trailer_key
from hornetmail.archive.index.uses import wake_parts
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import IMedium, MediumAway, MediumError, MediumMissing
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.packs import (
    Group,
    Member,
    PackBroken,
    PackHead,
    PackWriter,
    SealedPack,
    end_of,
    members_of,
    month_of,
    name_of_records,
)
from hornetmail.archive.store.records import Kind, RecordCodec
from hornetmail.archive.store.shelf import PackRow, enter_pack, pack_row, pack_rows
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk, DiskFull

LIMIT = 128 << 20
"""Bytes: no merged pack is larger, unless a single record is. Ten years of a million mails are a few thousand objects then
(``test_ten_years_of_a_million_mails``), and ``verify`` and a rebuild, which read packs whole, hold one of these in memory."""

SPAN = 8 << 20
"""Bytes read from a medium at once."""

SETTLED = 30 * 86400.0
"""Seconds: a group that got no pack for that long is put together whatever the sizes; until then, only where it at least doubles what is rewritten."""


class MergeSettings(msgspec.Struct, frozen=True, gc=False):
    """``limit``: bytes of a pack, at most; ``settled``: seconds after which a group is taken for finished."""

    limit: int = LIMIT
    settled: float = SETTLED


class Merged(msgspec.Struct, frozen=True, gc=False):
    """What one run did: packs that went into others, packs that came of them, records that are gone from the media, and what could not be done: sources that are
    damaged or cannot be deleted, media that are away."""

    sources: int = 0
    packs: int = 0
    dropped: int = 0
    damaged: tuple[str, ...] = ()
    away: tuple[str, ...] = ()


class _Damaged(ArchiveError):
    """A source is not as it was put there."""

    def __init__(self, pack: PackRow, why: str) -> None:
        super().__init__(f"medium {pack.medium}: {pack.name}: {why}")
        self.number = pack.number


class _Found(msgspec.Struct, frozen=True, gc=False):
    """What is copied of the sources, in order, and how many records are left behind because they went."""

    wanted: tuple[tuple[PackRow, tuple[Member, ...]], ...]
    gone: int

    @property
    def records(self) -> list[bytes]:
        return [member.record for _, members in self.wanted for member in members]


class Merger:
    """One run. ``settle`` returns once all that is staged now is in the index. ``moving`` is held for one new pack at a time: meanwhile nobody else
    moves packs or removes mail."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        pool: Any,
        database: Database,
        media: Media,
        sealer: Sealer,
        codec: RecordCodec,
        keys: KeyStore,
        disk: Disk,
        directory: Path,
        settle: Callable[[], Awaitable[None]],
        moving: DeferredLock,
        settings: MergeSettings = MergeSettings(),
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._database = database
        self._media = media
        self._sealer = sealer
        self._codec = codec
        self._keys = keys
        self._disk = disk
        self._scratch = directory / "merging.tmp"
        self._settle = settle
        self._moving = moving
        self._settings = settings
        self._damaged: dict[int, str] = {}
        self._away: dict[int, str] = {}
        self._totals = [0, 0, 0]

    async def run(self, now: float) -> Merged:
        """Merge what is worth it. Raises what the index and the local disk raise; media that are away are told of, and hold up no other."""
        await self._alone(self._go_on)
        await self._alone(self._delete_merged)
        for plan in await self._plans(now):
            await self._merge_some([pack.number for pack in plan], plan[0].medium)
        await self._alone(self._delete_merged)
        sources, packs, dropped = self._totals
        return Merged(sources, packs, dropped, tuple(self._damaged.values()), tuple(self._away.values()))

    async def _alone(self, step: Callable[[], Awaitable[None]]) -> None:
        """While nobody seals, moves packs, or removes mail, and every part that mail has begun to use is known to be used."""
        await self._moving.acquire()
        try:
            await self._settle()
            await self._database.run(wake_parts)
            await self._sealer.between(step)
        finally:
            self._moving.release()

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        return await deferToThreadPool(self._reactor, self._pool, call, *args)

    # -- what a crash left over -----------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """A pack that the index knows is whole on its medium: the rest of its records move to it. One that it does not know is removed."""
        for note in await self._database.read(_notes):
            try:
                medium = self._media.get(note.medium)
                if note.entered:
                    pack = await self._in_thread(self._read_back, medium, note.entered)
                    await self._move(note.entered.number, pack.members, note.sources)
                else:
                    await self._in_thread(medium.delete, note.name)
                    await self._database.run(_forget_note, note.pack)
            except PackBroken as error:
                self._damaged[-1 - len(self._damaged)] = f"medium {note.medium}: {note.name}: {error}"
                await self._move_back(note)
            except MediumError as error:
                self._away[note.medium] = str(error)

    async def _move_back(self, note: _Note) -> None:
        """A new pack was damaged before its sources were gone: what moved to it lies in them too."""
        assert note.entered is not None
        for number in note.sources:
            source = await self._database.read(pack_row, number)
            if source is not None:
                members = await self._in_thread(self._members, self._media.get(source.medium), source)
                await self._database.run(_move, number, members, [note.entered.number])
        await self._database.run(_undone, note.pack, note.entered.number)

    def _read_back(self, medium: IMedium, pack: PackRow) -> SealedPack:
        """In a thread: a pack from end to end, as it was entered. Raises PackBroken, MediumError."""
        self._check_whole(medium, pack.name, pack.size, pack.sha256)
        head, members = members_of(lambda at, length: medium.get(pack.name, at, length), pack.size, self._keys.current())
        return SealedPack(head, members, b"", pack.sha256, pack.size)

    # -- what is worth it -----------------------------------------------------------------------------------------------------

    async def _plans(self, now: float) -> list[list[PackRow]]:
        packs = [pack for pack in await self._database.read(pack_rows) if not pack.merged]
        groups: dict[tuple[int, int, int], list[PackRow]] = {}
        for pack in packs:
            groups.setdefault((pack.tenant, pack.medium, pack.month), []).append(pack)
        plans = []
        for _, group in sorted(groups.items()):
            plans += plan_group(group, now, self._settings)
        return plans

    async def _merge_some(self, numbers: Sequence[int], medium: int) -> None:
        """One new pack; without a damaged source, if there is one."""
        while len(numbers) > 0 and medium not in self._away:
            try:
                await self._alone(partial(self._merge_now, tuple(numbers), medium))
                return
            except _Damaged as error:
                self.log.error("a pack is damaged and not merged: {error}", error=error)
                self._damaged[error.number] = str(error)
                if error.number not in numbers:
                    return
                numbers = [number for number in numbers if number != error.number]
            except (MediumError, DiskFull) as error:
                self.log.error("packs are not merged now: {error}", error=error)
                self._away[medium] = str(error)

    async def _merge_now(self, numbers: Sequence[int], medium: int) -> None:
        """What of the plan is still as it was: packs may have moved or gone since."""
        found = [await self._database.read(pack_row, number) for number in numbers]
        sources = [pack for pack in found if pack is not None and pack.medium == medium and not pack.merged]
        if len(sources) > 1 or any(pack.dead for pack in sources):
            await self._merge(sources)

    # -- one pack -------------------------------------------------------------------------------------------------------------

    async def _merge(self, sources: Sequence[PackRow]) -> None:
        """The order is what this module promises."""
        medium = self._media.get(sources[0].medium)
        found = await self._find(medium, sources)
        numbers = [pack.number for pack in sources]
        if not found.records:
            await self._database.run(_replaced, b"", numbers)
        elif len(sources) == 1 and not found.gone:
            await self._database.run(_nothing_dead, numbers)
            return
        else:
            await self._put_and_move(medium, sources, found, numbers)
        self._totals[0] += len(sources)
        self._totals[2] += found.gone

    async def _put_and_move(self, medium: IMedium, sources: Sequence[PackRow], found: _Found, numbers: list[int]) -> None:
        first = sources[0]
        head = PackHead(
            medium.number,
            Group(first.tenant, first.month),
            name_of_records(found.records),
            self._reactor.seconds(),
        )
        await self._database.run(_note, head, numbers)
        pack = await self._made_before(medium, head)
        if pack is None:
            pack = await self._in_thread(self._put, medium, head, found)
        number = await self._database.run(enter_pack, pack, self._reactor.seconds())
        await self._move(number, pack.members, [one for one in numbers if one != number])
        self._totals[1] += 1
        if head.group.month and pack.size > self._settings.limit // 2:
            # It is as it will stay, unless something in it is to go before its time (rule 20).
            await self._in_thread(medium.lock, head.name, end_of(head.group.month))

    async def _made_before(self, medium: IMedium, head: PackHead) -> SealedPack | None:
        """The same pack, if there is one and it is whole: a rebuild found it beside its sources. It must not be written again, it may be locked."""
        known = await self._database.read(_known, head.pack)
        if known is None or known.medium != medium.number:
            return None
        try:
            pack: SealedPack = await self._in_thread(self._read_back, medium, known)
        except (PackBroken, MediumMissing):
            return None
        return pack

    async def _move(self, number: int, members: Sequence[Member], sources: Sequence[int]) -> None:
        for at in range(0, len(members), ROWS):
            await self._database.run(_move, number, members[at : at + ROWS], list(sources))
        pack = await self._database.read(pack_row, number)
        assert pack is not None
        await self._database.run(_replaced, pack.pack, list(sources))

    async def _find(self, medium: IMedium, sources: Sequence[PackRow]) -> _Found:
        """What of the sources lives: by the index; what that does not know is opened, and left behind only if it is known to have gone."""
        wanted = []
        gone = 0
        seen: set[bytes] = set()
        for pack in sources:
            members = await self._in_thread(self._members, medium, pack)
            lives, unknown = await self._database.read(_living, pack, members)
            for member in unknown:
                if await self._went(medium, pack, member):
                    gone += 1
                else:
                    lives.add(member.record)
            kept = []
            for member in members:
                if member.record in lives and member.record not in seen:
                    seen.add(member.record)
                    kept.append(member)
            wanted.append((pack, tuple(kept)))
        return _Found(tuple(wanted), gone)

    def _members(self, medium: IMedium, pack: PackRow) -> tuple[Member, ...]:
        """In a thread."""
        try:
            head, members = members_of(lambda at, length: medium.get(pack.name, at, length), pack.size, self._keys.current())
        except (PackBroken, MediumMissing) as error:
            raise _Damaged(pack, str(error)) from None
        if (head.group, head.pack) != (Group(pack.tenant, pack.month), pack.pack):
            raise _Damaged(pack, "it is another pack")
        return members

    async def _went(self, medium: IMedium, pack: PackRow, member: Member) -> bool:
        """Whether a record that the index does not have is of something that went: by its leaf, or by the records that it is about. One that does not
        open stays."""
        try:
            data = await self._in_thread(medium.get, pack.name, member.offset, member.length)
            if hashlib.sha256(data).digest() != member.sha256:
                raise _Damaged(pack, f"record {member.record.hex()} was changed or is cut off")
            if member.kind == Kind.MESSAGE:
                meta = self._codec.open_mail(data)[1]
                return bool(await self._database.read(_leaf_is_gone, meta.node, meta.leaf))
            if member.kind == Kind.PART:
                return True
            event = self._codec.open_event(data)[1]
            if event.copy is not None:
                return bool(await self._database.read(_leaf_is_gone, event.copy.node, event.copy.leaf))
            return bool(event.records) and not await self._database.read(_any_mail, event.records)
        except (_Damaged, MediumError):
            raise
        except ArchiveError:
            return False

    # -- bytes ----------------------------------------------------------------------------------------------------------------

    def _put(self, medium: IMedium, head: PackHead, found: _Found) -> SealedPack:
        """In a thread: into a file, onto the medium, and read back."""
        self._keys.publish(medium)
        key = trailer_key(self._keys, medium, head.group.tenant, head.made)
        with self._file() as write:
            writer = PackWriter(head, write)
            for pack, members in found.wanted:
                for record in _records(medium, pack, members):
                    writer.add(record)
            sealed = writer.end(self._keys.current(), key)
            self._put_file(medium, head.name)
        try:
            self._check_whole(medium, head.name, sealed.size, sealed.sha256)
        except PackBroken as error:
            raise MediumError(f"medium {medium.number}: {error}") from None
        return sealed

    def _put_file(self, medium: IMedium, name: str) -> None:
        """A view of the file's pages, which the system keeps or drops as memory allows."""
        with open(self._scratch, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            view = memoryview(pages)
            try:
                medium.put(name, view)
            finally:
                view.release()

    @contextmanager
    def _file(self) -> Iterator[Callable[[bytes], None]]:
        disk, path = self._disk, self._scratch
        disk.unlink(path, missing_ok=True)
        fd = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        at = 0

        def write(data: bytes) -> None:
            nonlocal at
            disk.write(fd, data, at)
            at += len(data)

        try:
            yield write
        finally:
            disk.close(fd)
            disk.unlink(path, missing_ok=True)

    def _check_whole(self, medium: IMedium, name: str, size: int, sha256: bytes) -> None:
        digest = hashlib.sha256()
        read = 0
        while chunk := medium.get(name, read, SPAN):
            digest.update(chunk)
            read += len(chunk)
            if len(chunk) < SPAN:
                break
        if (read, digest.digest()) != (size, sha256):
            raise PackBroken(f"{name} is not as it was written")

    # -- what is left over ----------------------------------------------------------------------------------------------------

    async def _delete_merged(self) -> None:
        for pack in await self._database.read(_merged_packs):
            if pack.medium in self._away:
                continue
            try:
                await self._in_thread(self._media.get(pack.medium).delete, pack.name)
            except MediumAway as error:
                self._away[pack.medium] = str(error)
                continue
            except MediumError as error:
                # It may be locked; the others may be not.
                self._damaged[pack.number] = f"{pack.name} cannot be deleted: {error}"
                continue
            await self._database.run(_forget, pack.number)


def _records(medium: IMedium, pack: PackRow, members: Sequence[Member]) -> Iterator[bytes]:
    """Records of a source in order, read in spans, each checked. Raises _Damaged, MediumError."""
    at = 0
    while at < len(members):
        first = members[at]
        end = at + 1
        while end < len(members) and members[end].offset + members[end].length - first.offset <= SPAN:
            end += 1
        last = members[end - 1]
        data = medium.get(pack.name, first.offset, last.offset + last.length - first.offset)
        for member in members[at:end]:
            begin = member.offset - first.offset
            record = data[begin : begin + member.length]
            if hashlib.sha256(record).digest() != member.sha256:
                raise _Damaged(pack, f"record {member.record.hex()} was changed or is cut off")
            yield record
        at = end


def plan_group(group: Sequence[PackRow], now: float, settings: MergeSettings) -> list[list[PackRow]]:
    """Which packs of one tenant, medium and month are written anew together. Those that hold what went: at once if it was asked for or its month has another
    name than the present, so that a month which expires day by day is not rewritten each night. Small ones: as many as are together about as large as
    the next one, so that each record is copied a number of times that grows with the logarithm of a pack's size only; all, once the group has settled."""
    present = month_of(now)
    due = [pack for pack in group if pack.dead and pack.month and (pack.soon or pack.month != present)]
    settled = now - max(pack.made for pack in group) > settings.settled
    small = sorted((p for p in group if p not in due and p.size <= settings.limit // 2), key=lambda p: (p.size, p.number))
    chosen = list(due)
    total = sum(pack.size for pack in due)
    for pack in small:
        if chosen and pack.size > max(total + total // 4, settings.limit // 64) and not settled:
            break
        chosen.append(pack)
        total += pack.size
    plans: list[list[PackRow]] = [[]]
    size = 0
    for pack in sorted(chosen, key=lambda p: p.number):
        if plans[-1] and size + pack.size > settings.limit:
            plans.append([])
            size = 0
        plans[-1].append(pack)
        size += pack.size
    return [plan for plan in plans if len(plan) > 1 or any(pack in due for pack in plan)]


# -- the index ----------------------------------------------------------------------------------------------------------------


class _Note(msgspec.Struct, frozen=True):
    pack: bytes
    medium: int
    name: str
    sources: tuple[int, ...]
    entered: PackRow | None


def _notes(cursor: Cursor) -> list[_Note]:
    notes = []
    for pack, tenant, medium, month, sources in cursor.execute(
        "SELECT pack, tenant, medium, month, sources FROM merging"
    ).fetchall():
        known = cursor.execute("SELECT number FROM pack WHERE pack = ?", (pack,)).fetchone()
        name = PackHead(medium, Group(tenant, month), pack, 0.0).name
        numbers = msgspec.msgpack.decode(sources, type=tuple[int, ...])
        notes.append(_Note(pack, medium, name, numbers, pack_row(cursor, known[0]) if known else None))
    return notes


def _note(cursor: Cursor, head: PackHead, sources: Sequence[int]) -> None:
    cursor.execute(
        "INSERT INTO merging (pack, tenant, medium, month, sources) VALUES (?, ?, ?, ?, ?) ON CONFLICT (pack) DO UPDATE SET sources = excluded.sources",
        (head.pack, head.group.tenant, head.medium, head.group.month, msgspec.msgpack.encode(list(sources))),
    )


def _forget_note(cursor: Cursor, pack: bytes) -> None:
    cursor.execute("DELETE FROM merging WHERE pack = ?", (pack,))


def _known(cursor: Cursor, pack: bytes) -> PackRow | None:
    row = cursor.execute("SELECT number FROM pack WHERE pack = ?", (pack,)).fetchone()
    return pack_row(cursor, row[0]) if row else None


def _undone(cursor: Cursor, pack: bytes, number: int) -> None:
    cursor.execute("UPDATE pack SET merged = 1 WHERE number = ?", (number,))
    cursor.execute("DELETE FROM merging WHERE pack = ?", (pack,))


def _living(cursor: Cursor, pack: PackRow, members: Sequence[Member]) -> tuple[set[bytes], list[Member]]:
    """Records that are copied, and those that have to be opened to know. What the index has elsewhere is neither."""
    if pack.month == 0:
        return {member.record for member in members}, []
    lives = set()
    unknown = []
    for member in members:
        if member.kind == Kind.MESSAGE:
            row = cursor.execute("SELECT pack FROM mail WHERE record = ?", (member.record,)).fetchone()
        elif member.kind == Kind.PART:
            row = cursor.execute(
                "SELECT CASE WHEN idle = 0 THEN pack END FROM part WHERE record = ?", (member.record,)
            ).fetchone()
            if row is None:
                # Never entered, so nobody knows whose it is: it stays.
                row = (pack.number,)
            elif row[0] is None:
                row = None
        else:
            row = cursor.execute("SELECT ? FROM arrival WHERE record = ?", (pack.number, member.record)).fetchone()
        if row is None:
            unknown.append(member)
        elif row[0] == pack.number:
            lives.add(member.record)
    return lives, unknown


def _leaf_is_gone(cursor: Cursor, node: int, leaf: int) -> bool:
    row = cursor.execute(
        "SELECT last FROM leaf_gone WHERE node = ? AND first <= ? ORDER BY first DESC LIMIT 1", (node, leaf)
    ).fetchone()
    return row is not None and int(row[0]) >= leaf


def _any_mail(cursor: Cursor, records: Sequence[bytes]) -> bool:
    return any(cursor.execute("SELECT 1 FROM mail WHERE record = ?", (record,)).fetchone() for record in records)


def _move(cursor: Cursor, number: int, members: Sequence[Member], sources: Sequence[int]) -> None:
    """Only what lies in the sources: a mail that went meanwhile, or lies elsewhere, is left as it is."""
    marks = ",".join("?" * len(sources))
    for table, kind in (("mail", Kind.MESSAGE), ("part", Kind.PART)):
        moved = [(number, m.offset, m.length, m.record, *sources) for m in members if m.kind == kind]
        cursor.executemany(f"UPDATE {table} SET pack = ?, start = ?, length = ? WHERE record = ? AND pack IN ({marks})", moved)


def _replaced(cursor: Cursor, pack: bytes, sources: Sequence[int]) -> None:
    """Nothing that lives lies in the sources any more: idle parts go with them."""
    for number in sources:
        cursor.execute("DELETE FROM part WHERE pack = ? AND idle = 1", (number,))
        cursor.execute("UPDATE pack SET merged = 1 WHERE number = ?", (number,))
    cursor.execute("DELETE FROM merging WHERE pack = ?", (pack,))


def _nothing_dead(cursor: Cursor, numbers: Sequence[int]) -> None:
    cursor.executemany("UPDATE pack SET dead = 0, soon = 0 WHERE number = ?", [(number,) for number in numbers])


def _merged_packs(cursor: Cursor) -> list[PackRow]:
    """Those of which nothing is referred to any more."""
    found = []
    for pack in pack_rows(cursor):
        if pack.merged and not any(
            cursor.execute(f"SELECT 1 FROM {table} WHERE pack = ? LIMIT 1", (pack.number,)).fetchone()
            for table in ("mail", "part")
        ):
            found.append(pack)
    return found


def _forget(cursor: Cursor, number: int) -> None:
    cursor.execute("DELETE FROM pack WHERE number = ?", (number,))
