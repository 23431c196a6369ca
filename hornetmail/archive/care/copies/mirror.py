"""The mirror: everything that lies on the media, in one other place (A11, A32, A55, A56).

It is a medium of number 0, which holds no mail of its own: a place that bears the archive's name, looked at by every call as each medium is, so that an unmounted share is
never taken for an empty one. It bears the mark of the one installation that follows into it (``follower.py``), which every call looks at too: after a restore the old installation may
still run, and two would each delete what the other has. Media are united in it, since packs, journals, leaves, stamps and backups have names of their own; of the wrapped keys it
has those of the active medium. Only what is new is copied, so that a run that was cut off goes on where it was.

Damage is not followed: an object that differs from the mirror's takes its place only if it is whole, and one that is not is named. Deletions are (rule 23): what is gone from the media goes from the mirror only if every medium that may hold it was in reach, and the index does
not know it as a pack either, or was rebuilt and is not yet confirmed (rule 18). A run of leaves goes when the media have its leaves in a longer one. A pack that a disk lost is still in the index, and stays in the mirror, from where ``repair.py`` takes it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from hornetmail.archive.care.copies.backup import Halted, Keep, kept, listed
from hornetmail.archive.care.copies.sound import flaw_of
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
    MediumUnread,
    identity_at,
)
from hornetmail.archive.media.readaround import read_around
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaflog import span_of
from hornetmail.archive.proof.stampsheets import sheet_of
from hornetmail.archive.store.packs import pack_id_of
from hornetmail.archive.store.shelf import pack_rows
from hornetmail.core.archive.archived import ArchiveError, Finding, MediumRefused
from hornetmail.core.delivery.backoff import DAY
from hornetmail.db.pool import Database
from hornetmail.disk.files import DiskFull

NUMBER = 0
"""The number of the mirror: no medium has it."""

BACKUP = "backup/"
FIXED = ("packs/", "journal/", "leaves/", "stamps/", BACKUP)
"""Objects below these never change once they are written."""

_FOLLOWED = ("packs/", "journal/")
_PASSED_OVER = ("test/", "queue/", IDENTITY)


MOST_NAMED = 5


class _Damaged(ArchiveError):
    """What a medium has of an object is not whole, and the mirror has another one; or it does not read."""


class _SourceAway(ArchiveError):
    """A medium that is mirrored went out of reach."""


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


def take_mirror(place: IPlace, archive: bytes, follower: str) -> Medium:
    """The place made the mirror of this archive, into which this installation alone follows from now on, whoever did before. In a thread. Raises MediumError, PlaceTrouble: it is a
    medium, or another archive's; another installation took it in the same moment."""
    place.make()
    identity = identity_at(place)
    if identity is not None and identity.archive == archive.hex() and identity.medium != NUMBER:
        raise MediumRefused(f"it is medium {identity.medium} of this archive: the mirror is somewhere else")
    Medium(NUMBER, place).claim(archive)
    medium = Medium(NUMBER, place, follower)
    medium.expect(archive)
    medium.take()
    return medium


def followed(place: IPlace, archive: bytes, follower: str) -> Medium:
    """The mirror that lies there, for the installation that follows into it. One from before there were marks is taken up; an empty place is not: it may be a mount point. In a thread. Raises
    MediumTaken: another one does; MediumError, PlaceTrouble."""
    mirror_at(place, archive)
    identity = identity_at(place)
    marked = Medium(NUMBER, place, follower)
    marked.expect(archive)
    if identity is not None and not identity.follower:
        marked.take()
    else:
        marked.look()
    return marked


def mirror_at(place: IPlace, archive: bytes) -> Medium:
    """The mirror that lies there, to read from, whoever follows into it. In a thread. Raises MediumError."""
    medium = Medium(NUMBER, place)
    medium.expect(archive)
    medium.look()
    return medium


class _Run:
    """A run under way. ``held``: what the mirror has; ``away``, ``full``, ``damaged``: what prevented it from having more."""

    def __init__(self, held: dict[str, int], away: list[str]) -> None:
        self.held = held
        self.away = away
        self.full = ""
        self.damaged: list[str] = []
        self.copied = 0
        self.bytes = 0

    def lacks_mail(self, lengths: Mapping[str, int]) -> bool:
        """Whether there was no room for something that is no backup."""
        return bool(self.full) and any(
            self.held.get(name) != length for name, length in lengths.items() if not name.startswith(BACKUP)
        )

    def told(self, stuck: str) -> list[str]:
        """For people: what went wrong; empty if all went well."""
        told = [f"not all media could be read: {'; '.join(self.away)}"] if self.away else []
        if self.full:
            told.append(f"{self.full}: the rest is not copied")
        if stuck:
            told.append(f"some that are gone for good stay: {stuck}")
        if self.damaged:
            more = f" (and {len(self.damaged) - MOST_NAMED} more)" if len(self.damaged) > MOST_NAMED else ""
            told.append(f"damaged, and left in the mirror as they were: {'; '.join(self.damaged[:MOST_NAMED])}{more}")
        return told


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
        """Copy what the mirror lacks, mail before backups, then follow deletions. Raises MediumError (the mirror), Halted, or ArchiveError when media were away or the mirror is full, after all else was
        done."""
        offload = self._sources.offload
        target.expect(self._sources.keys.current().archive)
        there: Mapping[str, int] = dict(await offload(target.names, ""))
        unused = tuple(sorted({m.number for m in self._sources.media.every()} - {m.number for m in self._sources.media.all()}))
        wanted, away = await self._wanted()
        run = _Run(dict(there), away)
        await self._copy(target, wanted, run)
        deleted, stuck = 0, ""
        if not run.away and not unused:
            lengths = {name: length for name, (length, _) in wanted.items()}
            deleted, stuck = await self._follow(target, there, lengths, now, run.lacks_mail(lengths))
        await offload(target.sweep, now - DAY)
        done = Mirrored(run.copied, run.bytes, deleted, unused)
        if told := run.told(stuck):
            raise ArchiveError("; ".join((done.words, *told)))
        return done

    async def _copy(self, target: IMedium, wanted: Mapping[str, tuple[int, IMedium]], run: _Run) -> None:
        """What the mirror lacks, as long as there is room. Raises MediumError (the mirror), Halted."""
        gone: set[int] = set()
        fits = math.inf
        for name, (length, medium) in sorted(wanted.items(), key=lambda one: one[0].startswith(BACKUP)):
            if self._halted:
                raise Halted("the mirror was asked to end")
            if medium.number in gone or length >= fits or (name.startswith(FIXED) and run.held.get(name) == length):
                continue
            try:
                count: int = await self._sources.offload(self._bring, medium, target, name)
            except _Damaged as error:
                run.damaged.append(str(error))
                continue
            except _SourceAway as error:
                run.away.append(str(error))
                gone.add(medium.number)
                continue
            except MediumMissing:
                continue  # purged, moved or dropped meanwhile
            except DiskFull as error:
                # What is smaller may still fit.
                run.full, fits = str(error), length
                continue
            run.held[name] = length
            run.copied += count > 0
            run.bytes += count

    def _superseded(self, target: IMedium, there: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
        """In a thread. What else says the same must be whole in the mirror."""
        keyring = self._sources.keys.current()
        gone = superseded(there, wanted)
        covers = {sheet for name in gone if (sheet := sheet_of(name))}
        if any(name.startswith("leaves/") for name in gone):
            covers |= {name for name in wanted if name.startswith("leaves/")}
        try:
            if all(not flaw_of(target, name, target.get(name), keyring) for name in sorted(covers)):
                return gone
        except (MediumMissing, MediumUnread):
            pass
        return [name for name in gone if not name.startswith(("leaves/", "stamps/"))]

    def _bring(self, source: IMedium, target: IMedium, name: str) -> int:
        """In a thread. Raises _Damaged, _SourceAway, MediumMissing (the source has it no more), MediumError (the mirror)."""
        keyring = self._sources.keys.current()
        try:
            data = source.get(name)
        except MediumMissing:
            raise
        except MediumUnread as error:
            raise _Damaged(str(error)) from error
        except MediumError as error:
            raise _SourceAway(str(error)) from error

        def sound(data: bytes) -> None:
            if flaw := flaw_of(source, name, data, keyring):
                raise _Damaged(f"medium {source.number}: {name}: {flaw}")

        return put_copy(data, target, name, sound)

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

    async def _follow(
        self, target: IMedium, there: Mapping[str, int], wanted: Mapping[str, int], now: float, only_backups: bool
    ) -> tuple[int, str]:
        """Delete what is gone for good: how many, and why the first of those that stayed did. ``only_backups``: there was no room for all mail, so that what went from the media may lie in
        a merged pack that the mirror has not; old backups make room."""
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
        gone = (
            []
            if only_backups
            else [name for name in there if name.startswith(_FOLLOWED) and name not in wanted and pack_id_of(name) not in known]
        )
        for one, objects in backups.objects.items():
            if one not in staying:
                gone += [name for name in sorted(objects, key=lambda name: name != one.manifest) if name not in wanted]
        if not only_backups:
            gone += await self._sources.offload(self._superseded, target, there, wanted)
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


def put_copy(data: bytes, target: IMedium, name: str, sound: Callable[[bytes], None] = lambda data: None) -> int:
    """The bytes that were written: 0 if the target had just those. ``sound``: raises if they may not take the place of another copy. In a thread. Raises MediumError."""
    try:
        if target.get(name) == data:
            return 0
        sound(data)
    except (MediumMissing, MediumUnread):
        # There is no other copy of it.
        pass
    target.put(name, data)
    if target.get(name) != data:
        raise MediumError(f"medium {target.number} did not keep {name} as it was written")
    return len(data)


def bring_back(source: IMedium, target: IMedium, name: str, size: int, flaws: list[Finding]) -> bool:
    """Copy an object to where there is none, as far as it reads; whether it was written. Of a pack all that reads is taken. What does not is told to ``flaws``. In a thread.
    Raises MediumError."""
    try:
        data = source.get(name)
    except MediumMissing as error:
        flaws.append(Finding(name, str(error)))
        return False
    except MediumUnread as error:
        flaws.append(Finding(name, str(error)))
        if not pack_id_of(name):
            return False
        try:
            data = read_around(source, name, size).data
        except MediumUnread:
            return False
    return put_copy(data, target, name) > 0
