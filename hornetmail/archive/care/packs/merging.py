"""Packs merged at night, by tenant, medium and month of expiry (rule 21): few objects, however old the archive, and packs without what was deleted
from them (rule 23). Records are copied as they are, sealed as they were; nothing is opened but what may have to go.

One pack at a time, and each step is durable before the next: a note of what goes into which pack (``merging``); the new pack put, read back and
checked; the index moved; the note gone and the old packs ``merged``; the old packs deleted. A crash at any of them leaves every record on the medium and
in the index once: the next run ends what had been moved in part, and removes what had not. A source in which one bit is not as it was is left alone and named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from hornetmail.archive.care.packs import moves
from hornetmail.archive.care.packs.plans import MergeSettings, plan_group
from hornetmail.archive.care.packs.sealing import ROWS, Sealer
from hornetmail.archive.care.packs.writing import SourceDamaged, Writer
from hornetmail.archive.index.ties.uses import wake_parts
from hornetmail.archive.media.medium import IMedium, MediumAway, MediumError, MediumLocked, MediumMissing, MediumUnread
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.packs import Group, Member, PackBroken, PackHead, SealedPack, end_of, name_of_records
from hornetmail.archive.store.records import Kind
from hornetmail.archive.store.shelf import PackRow, enter_pack, pack_row, pack_rows
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.pool import Database
from hornetmail.disk.files import DiskFull


class Merged(msgspec.Struct, frozen=True, gc=False):
    """What one run did: packs that went into others, packs that came of them, records that are gone from the media, and what could not be done: sources that are
    damaged or cannot be deleted, media that are away; ``locked``: packs that were merged and that their medium does not let go yet, and until when."""

    sources: int = 0
    packs: int = 0
    dropped: int = 0
    damaged: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()


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
        holdings: Holdings,
        database: Database,
        sealer: Sealer,
        settle: Callable[[], Awaitable[None]],
        moving: DeferredLock,
        settings: MergeSettings = MergeSettings(),
    ) -> None:
        self._holdings = holdings
        self._in_thread = holdings.in_thread
        self._media = holdings.media
        self._codec = holdings.codec
        self._writer = Writer(holdings)
        self._database = database
        self._sealer = sealer
        self._settle = settle
        self._moving = moving
        self._settings = settings
        self._damaged: dict[int, str] = {}
        self._away: dict[int, str] = {}
        self._locked: dict[int, str] = {}
        self._totals = [0, 0, 0]

    async def run(self, now: float) -> Merged:
        """Merge what is worth it. Raises what the index and the local disk raise; media that are away are told of, and hold up no other."""
        await self._alone(self._go_on)
        await self._alone(self._delete_merged)
        for plan in await self._plans(now):
            await self._merge_some([pack.number for pack in plan], plan[0].medium)
        await self._alone(self._delete_merged)
        sources, packs, dropped = self._totals
        return Merged(
            sources, packs, dropped, tuple(self._damaged.values()), tuple(self._away.values()), tuple(self._locked.values())
        )

    async def _alone(self, step: Callable[[], Awaitable[None]]) -> None:
        """While nobody seals, moves packs, or removes mail, and every part that mail has begun to use is known to be used."""
        await self._moving.acquire()
        try:
            await self._settle()
            await self._database.run(wake_parts)
            await self._sealer.between(step)
        finally:
            self._moving.release()

    # -- what a crash left over -----------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """A pack that the index knows is whole on its medium: the rest of its records move to it. One that it does not know is entered, if it is whole
        and all that it holds still lives: a mirror or a backup may have it already, so that none with other bytes may come in its place. Else it is removed."""
        for note in await self._database.read(moves.notes):
            try:
                medium = self._media.get(note.medium)
                if note.entered:
                    pack = await self._in_thread(self._writer.read_back, medium, note.entered)
                    await self._move(note.entered.number, pack.members, note.sources)
                elif not await self._end(medium, note):
                    await self._in_thread(medium.delete, note.name)
                    await self._database.run(moves.forget_note, note.pack)
            except (PackBroken, MediumUnread) as error:
                self._damaged[-1 - len(self._damaged)] = f"medium {note.medium}: {note.name}: {error}"
                await self._move_back(note)
            except MediumError as error:
                self._away[note.medium] = str(error)

    async def _end(self, medium: IMedium, note: moves.Note) -> bool:
        """Enter a pack that was put and not entered; False if there is none that holds just what it would be made of now."""
        rows = [await self._database.read(pack_row, number) for number in note.sources]
        sources = [row for row in rows if row is not None and not row.merged]
        if len(sources) < len(note.sources):
            return False
        try:
            found = await self._find(medium, sources)
        except SourceDamaged as error:
            self._damaged[error.number] = str(error)
            # It may be the last whole copy of what is damaged there: it stays as long as nothing in it is to go.
            return not any(row.dead for row in sources)
        head = PackHead(medium.number, Group(sources[0].tenant, sources[0].month), note.pack, 0.0)
        if name_of_records(found.records) != note.pack:
            return False
        pack: SealedPack | None = await self._in_thread(self._writer.put_before, medium, head, found.records)
        if pack is None:
            return False
        await self._enter(medium, pack, list(note.sources))
        self._totals[0] += len(sources)
        self._totals[2] += found.gone
        return True

    async def _move_back(self, note: moves.Note) -> None:
        """A new pack was damaged before its sources were gone: what moved to it lies in them too."""
        assert note.entered is not None
        for number in note.sources:
            source = await self._database.read(pack_row, number)
            if source is not None:
                members = await self._in_thread(self._writer.members, self._media.get(source.medium), source)
                await self._database.run(moves.move, number, members, [note.entered.number])
        await self._database.run(moves.undone, note.pack, note.entered.number)

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
            except SourceDamaged as error:
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
            await self._database.run(moves.replaced, b"", numbers)
        elif len(sources) == 1 and not found.gone:
            await self._database.run(moves.nothing_dead, numbers)
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
            self._holdings.seconds(),
        )
        await self._database.run(moves.note, head, numbers)
        pack = await self._made_before(medium, head)
        if pack is None:
            pack = await self._in_thread(self._writer.put_before, medium, head, found.records)
        if pack is None:
            pack = await self._in_thread(self._writer.put, medium, head, found.wanted)
        await self._enter(medium, pack, numbers)

    async def _enter(self, medium: IMedium, pack: SealedPack, sources: Sequence[int]) -> None:
        """A pack that is on its medium: its records move to it."""
        number = await self._database.run(enter_pack, pack, self._holdings.seconds())
        await self._move(number, pack.members, [one for one in sources if one != number])
        self._totals[1] += 1
        head = pack.head
        if head.group.month and pack.size > self._settings.limit // 2:
            # It is as it will stay, unless something in it is to go before its time (rule 20).
            await self._in_thread(medium.lock, head.name, end_of(head.group.month))

    async def _made_before(self, medium: IMedium, head: PackHead) -> SealedPack | None:
        """The same pack, if there is one and it is whole: a rebuild found it beside its sources. It must not be written again, it may be locked."""
        known = await self._database.read(moves.known_pack, head.pack)
        if known is None or known.medium != medium.number:
            return None
        try:
            pack: SealedPack = await self._in_thread(self._writer.read_back, medium, known)
        except (PackBroken, MediumMissing, MediumUnread):
            return None
        return pack

    async def _move(self, number: int, members: Sequence[Member], sources: Sequence[int]) -> None:
        for at in range(0, len(members), ROWS):
            await self._database.run(moves.move, number, members[at : at + ROWS], list(sources))
        pack = await self._database.read(pack_row, number)
        assert pack is not None
        await self._database.run(moves.replaced, pack.pack, list(sources))

    async def _find(self, medium: IMedium, sources: Sequence[PackRow]) -> _Found:
        """What of the sources lives: by the index; what that does not know is opened, and left behind only if it is known to have gone."""
        wanted = []
        gone = 0
        seen: set[bytes] = set()
        for pack in sources:
            members = await self._in_thread(self._writer.members, medium, pack)
            lives, unknown = await self._database.read(moves.living, pack, members)
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

    async def _went(self, medium: IMedium, pack: PackRow, member: Member) -> bool:
        """Whether a record that the index does not have is of something that went: by its leaf, or by the records that it is about. One that does not
        open stays."""
        try:
            data = await self._in_thread(medium.get, pack.name, member.offset, member.length)
            if hashlib.sha256(data).digest() != member.sha256:
                raise SourceDamaged(pack, f"record {member.record.hex()} was changed or is cut off")
            if member.kind == Kind.MESSAGE:
                meta = self._codec.open_mail(data)[1]
                return bool(await self._database.read(moves.leaf_is_gone, meta.node, meta.leaf))
            if member.kind == Kind.PART:
                return True
            event = self._codec.open_event(data)[1]
            if event.copy is not None:
                return bool(await self._database.read(moves.leaf_is_gone, event.copy.node, event.copy.leaf))
            return bool(event.records) and not await self._database.read(moves.any_mail, event.records)
        except MediumUnread as error:
            raise SourceDamaged(pack, str(error)) from None
        except (SourceDamaged, MediumError):
            raise
        except ArchiveError:
            return False

    # -- what is left over ----------------------------------------------------------------------------------------------------

    async def _delete_merged(self) -> None:
        for pack in await self._database.read(moves.merged_packs):
            if pack.medium in self._away:
                continue
            try:
                await self._in_thread(self._media.get(pack.medium).delete, pack.name)
            except MediumAway as error:
                self._away[pack.medium] = str(error)
                continue
            except MediumLocked as error:
                self._locked[pack.number] = str(error)
                continue
            except MediumError as error:
                # This one alone; the others may go.
                self._damaged[pack.number] = f"{pack.name} cannot be deleted: {error}"
                continue
            await self._database.run(moves.forget_pack, pack.number)
