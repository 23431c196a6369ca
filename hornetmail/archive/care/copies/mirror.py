"""The mirror: everything that lies on the media, in one other place (A11, A32, A55, A56).

It is a medium of number 0, which holds no mail of its own: a place that bears the archive's name, looked at by every call as each medium is, so that an unmounted share is
never taken for an empty one. Media are united in it, since packs, journals, leaves, stamps and backups have names of their own; of the wrapped keys it
has those of the active medium. Only what is new is copied, so that a run that was cut off goes on where it was.

Deletions are followed (rule 23), damage is not: what is gone from the media goes from the mirror only if every medium that may hold it was in reach, and the index does
not know it as a pack either, or was rebuilt and is not yet confirmed (rule 18). A pack that a disk lost is still in the index, and stays in the mirror, from where ``repair`` takes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from hornetmail.archive.care.copies.backup import Halted, Keep, kept, listed
from hornetmail.archive.care.terms.retention import is_rebuilt
from hornetmail.archive.keys.keystore import PREVIOUS_NAME, KeyStore
from hornetmail.archive.media.medium import (
    IDENTITY,
    IMedium,
    IPlace,
    Medium,
    MediumAway,
    MediumError,
    MediumMissing,
    identity_at,
)
from hornetmail.archive.media.register import MediumRefused
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaflog import span_of
from hornetmail.archive.proof.stampsheets import sheet_of
from hornetmail.archive.store.packs import open_pack, pack_id_of
from hornetmail.archive.store.shelf import PackRow, pack_rows
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.pool import Database

NUMBER = 0
"""The number of the mirror: no medium has it."""

FIXED = ("packs/", "journal/", "leaves/", "stamps/", "backup/")
"""Objects below these never change once they are written."""

_FOLLOWED = ("packs/", "journal/")
_PASSED_OVER = ("test/", IDENTITY)


class Mirrored(msgspec.Struct, frozen=True):
    """What a run did. ``unread``: media whose content was not looked at, so that nothing was deleted."""

    copied: int = 0
    bytes: int = 0
    deleted: int = 0
    unread: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """For people."""
        waits = f"; nothing is deleted while media {', '.join(map(str, self.unread))} are not looked at" if self.unread else ""
        return f"{self.copied} objects copied, {self.bytes} bytes; {self.deleted} followed into deletion{waits}"


class Sources(msgspec.Struct, frozen=True):
    """What is mirrored. ``index`` raises ArchiveError if there is none. ``offload`` runs what blocks in a thread; ``moving``: held while a pack changes its place."""

    media: Media
    keys: KeyStore
    index: Callable[[], Database]
    offload: Callable[..., Awaitable[Any]]


def mirror_at(place: IPlace, archive: bytes) -> Medium:
    """The place made the mirror of this archive, as it may be already. In a thread. Raises MediumError, PlaceTrouble: it is a medium, or another archive's."""
    place.make()
    identity = identity_at(place)
    if identity is not None and identity.archive == archive.hex() and identity.medium != NUMBER:
        raise MediumRefused(f"it is medium {identity.medium} of this archive: the mirror is somewhere else")
    medium = Medium(NUMBER, place)
    medium.claim(archive)
    return medium


class Mirror:
    """Makes one place follow the media. One run at a time: it shares a lane with the backups."""

    def __init__(self, sources: Sources, keep: Keep = Keep()) -> None:
        self._sources = sources
        self._keep = keep
        self._halted = False

    def halt(self) -> None:
        """End what runs behind the object under way."""
        self._halted = True

    async def run(self, target: IMedium, now: float) -> Mirrored:
        """Copy what the mirror lacks, then follow deletions. Raises MediumError (the mirror), DiskFull, Halted, or ArchiveError when media were away, after all else was done."""
        offload = self._sources.offload
        target.expect(self._sources.keys.current().archive)
        there: Mapping[str, int] = dict(await offload(target.names, ""))
        unused = tuple(sorted({m.number for m in self._sources.media.every()} - {m.number for m in self._sources.media.all()}))
        wanted, away = await self._wanted()
        copied = size = 0
        for name, (length, medium) in wanted.items():
            if self._halted:
                raise Halted("the mirror was asked to end")
            if name.startswith(FIXED) and there.get(name) == length:
                continue
            try:
                count: int = await offload(copy_object, medium, target, name)
            except MediumMissing:
                continue  # purged, moved or dropped meanwhile
            copied += count > 0
            size += count
        deleted, stuck = 0, ""
        if not away and not unused:
            deleted, stuck = await self._follow(target, there, {name: length for name, (length, _) in wanted.items()}, now)
        done = Mirrored(copied, size, deleted, unused)
        if away:
            raise ArchiveError(f"{done.words}; not all media could be read: {'; '.join(away)}")
        if stuck:
            raise ArchiveError(f"{done.words}; some that are gone for good stay: {stuck}")
        return done

    async def _wanted(self) -> tuple[dict[str, tuple[int, IMedium]], list[str]]:
        """What the media in use hold, and why others could not be read. Where two hold a name, the active one's counts."""
        media, wanted, away = self._sources.media, {}, []
        active = media.active
        for medium in media.all():
            try:
                names: Sequence[tuple[str, int]] = await self._sources.offload(medium.names, "")
            except MediumError as error:
                away.append(str(error))
                continue
            for name, length in names:
                if name.startswith(_PASSED_OVER) or (not name.startswith(FIXED) and medium is not active):
                    continue
                if name not in wanted or medium is active:
                    wanted[name] = (length, medium)
        return wanted, away

    async def _follow(self, target: IMedium, there: Mapping[str, int], wanted: Mapping[str, int], now: float) -> tuple[int, str]:
        """Delete what is gone for good: how many, and why the first of those that stayed did."""
        try:
            index = self._sources.index()
        except ArchiveError:
            return 0, ""
        if await index.read(is_rebuilt):
            return 0, ""
        known = {row.pack for row in await index.read(pack_rows)}
        # What was sealed since the media were listed is in the index by now, and not among ``wanted``.
        backups = listed(there.items())
        staying = kept(backups.whole, now, self._keep)
        gone = [name for name in there if name.startswith(_FOLLOWED) and name not in wanted and pack_id_of(name) not in known]
        for one, objects in backups.objects.items():
            if one not in staying:
                gone += [name for name in sorted(objects, key=lambda name: name != one.manifest) if name not in wanted]
        gone += superseded(there, wanted)
        deleted, stuck = 0, ""
        for name in gone:
            try:
                await self._sources.offload(target.delete, name)
                deleted += 1
            except MediumAway:
                raise
            except MediumError as error:
                # It may be locked; the others may be not.
                stuck = stuck or str(error)
        return deleted, stuck

    async def repair(self, source: IMedium, full: bool) -> Sequence[Finding]:
        """Put packs back on their media that are missing there or (``full``: all are opened) damaged, from the mirror; what was done, and what could not be. Raises
        MediumError (the mirror), ArchiveError."""
        sources = self._sources
        source.expect(sources.keys.current().archive)
        await sources.offload(source.look)
        rows: list[PackRow] = await sources.index().read(pack_rows)
        found: list[Finding] = []
        for number in sorted({row.medium for row in rows}):
            try:
                medium = sources.media.get(number)
                names = dict((*await sources.offload(medium.names, "packs/"), *await sources.offload(medium.names, "journal/")))
            except MediumError as error:
                found.append(Finding(f"medium {number}", str(error)))
                continue
            for row in rows:
                if row.medium == number and not self._halted:
                    whole = names.get(row.name) == row.size
                    if not whole or full:
                        found += await sources.offload(self._mend, source, medium, row)
        return found

    def _mend(self, source: IMedium, medium: IMedium, row: PackRow) -> list[Finding]:
        """In a thread."""
        where, keyring = f"medium {medium.number}: {row.name}", self._sources.keys.current()
        try:
            data = medium.get(row.name)
            if hashlib.sha256(data).digest() == row.sha256:
                return []
            open_pack(data, keyring)
            return []
        except MediumMissing:
            trouble = "missing"
        except ArchiveError as error:
            trouble = str(error)
        try:
            good = source.get(row.name)
            if open_pack(good, keyring).head.pack != row.pack:
                return [Finding(where, f"{trouble}; what the mirror has of that name is another pack")]
            medium.put(row.name, good)
            if medium.get(row.name) != good:
                return [Finding(where, f"{trouble}; the medium did not keep what the mirror has")]
        except ArchiveError as error:
            return [Finding(where, f"{trouble}; not repaired: {error}")]
        return [Finding(where, f"{trouble}; repaired from the mirror", mended=True)]


def superseded(there: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    """What the media no longer have because something else says the same: runs of leaves all of whose leaves lie in other runs by now (rule 17), stamps that lie in a
    sheet, and wrapped keys from before a change of the root key, which the former key would open (rule 22). A run that a disk lost stays."""
    gone = [name for name in there if name.rpartition("/")[2] == PREVIOUS_NAME and name not in wanted]
    gone += [name for name in there if name.startswith("stamps/") and name not in wanted and sheet_of(name) in wanted]
    spans: dict[str, list[tuple[int, int]]] = {}
    for name, size in wanted.items():
        folder = name.rpartition("/")[0]
        first, count = span_of(name, size) if name.startswith("leaves/") else (0, 0)
        if count:
            spans.setdefault(folder, []).append((first, first + count))
    for folder in spans:
        spans[folder].sort()
    for name, size in there.items():
        if name.startswith("leaves/") and name not in wanted:
            first, count = span_of(name, size)
            if count and _covered(first, first + count, spans.get(name.rpartition("/")[0], ())):
                gone.append(name)
    return gone


def _covered(low: int, high: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether spans, in order, have all from ``low`` to ``high`` - 1."""
    for first, behind in spans:
        if first <= low < behind:
            low = behind
            if low >= high:
                return True
    return False


def copy_object(source: IMedium, target: IMedium, name: str) -> int:
    """The bytes that were written: 0 if the target had just those. In a thread. Raises MediumMissing (the source has it no more), MediumError."""
    data = source.get(name)
    try:
        if target.get(name) == data:
            return 0
    except MediumMissing:
        pass
    target.put(name, data)
    if target.get(name) != data:
        raise MediumError(f"medium {target.number} did not keep {name} as it was written")
    return len(data)
