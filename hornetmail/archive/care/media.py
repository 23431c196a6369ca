"""Media while the service runs (A7-A16): added, tested, made active, put out of use, and moved into one another.

Nothing here deletes what a medium holds. A move copies each object, reads the copy back, and only then has the index point at it; the retired
number stays, and leads to the new place for good. It may be cut off at any point and goes on with the next start.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.archive.care.watch import MediaWatch
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import (
    IMedium,
    IPlace,
    Medium,
    MediumError,
    MediumMissing,
    MediumUnread,
    PlaceTrouble,
    identity_at,
)
from hornetmail.archive.media.register import Entry, Register
from hornetmail.archive.media.roster import Media
from hornetmail.archive.media.settings import settings_for
from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.core.archive.archived import ArchiveError, MediumProbe, MediumRefused, MediumState
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.files import DiskFull
from hornetmail.interfaces.media import IMedia

_MOVED = ("packs/", "journal/", "leaves/", "stamps/")
_PROBE = bytes(range(256)) * 256


class Parts(msgspec.Struct, frozen=True):
    """What it works on. ``index`` raises ArchiveError if there is none. ``moving``: held while a pack changes its place, and while packs are
    deleted. ``leaves``: the leaf log. ``sealed`` waits until what is being sealed lies where it was to go. ``offload`` runs what blocks in a thread; ``alarm(code, text, medium)``, ``over(code, why, medium)``."""

    register: Register
    media: Media
    watch: MediaWatch
    keys: KeyStore
    leaves: LeafLog
    index: Callable[[], Database]
    moving: DeferredLock
    sealed: Callable[[], Awaitable[object]]
    offload: Callable[..., Awaitable[Any]]
    alarm: Callable[[str, str, str], None]
    over: Callable[[str, str, str], None]


@implementer(IMedia)
class MediaCare:
    """See ``IMedia``."""

    log = Logger()

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = DeferredLock()
        self._move: Deferred[None] | None = None
        self._copied: dict[int, int] = {}
        self._stuck: dict[int, str] = {}
        self._stopping = False

    # -- looking --------------------------------------------------------------------------------------------------------------

    async def list(self) -> Sequence[MediumState]:
        """See IMedia."""
        parts = self._parts
        try:
            held, counted = await parts.index().read(_held, parts.media.active.number), True
        except ArchiveError:
            held, counted = {}, False
        entries = [entry for entry in parts.register.entries.values() if not entry.removed]
        return [self._state(entry, held.get(entry.number, (0, 0, 0)), counted) for entry in entries]

    def _state(self, entry: Entry, held: tuple[int, int, int], counted: bool) -> MediumState:
        seen = self._parts.watch.health(entry.number)
        why = seen.why if seen is not None else ""
        if entry.moved:
            why = f"its mail lies on medium {entry.moved}"
        elif not entry.used:
            why = "out of use"
        elif not entry.ready:
            why = "adding it was cut off: add it once more"
        elif entry.moving:
            why = self._stuck.get(entry.number, "") or why
        return MediumState(
            id=entry.number,
            kind=str(entry.settings.__struct_config__.tag),
            name=entry.name,
            where=self._parts.register.where(entry),
            active=entry.active,
            used=entry.used and entry.ready and not entry.moved,
            up=seen is not None and seen.up and not entry.moved,
            why=why,
            taken=seen is not None and seen.taken and entry.used and not entry.moved,
            since=seen.since if seen is not None else 0.0,
            mails=held[0],
            packs=held[1],
            bytes=held[2],
            counted=counted,
            total=seen.space.total if seen is not None else 0,
            free=seen.space.free if seen is not None else 0,
            moving_to=entry.moving,
            copied=self._copied.get(entry.number, 0),
            moved_to=entry.moved,
        )

    async def test(self, number: int) -> MediumProbe:
        """See IMedia."""
        self._known(number)
        medium = self._parts.media.any(number)
        probe: MediumProbe = await self._parts.offload(_probe, medium)
        await self._parts.offload(self._parts.watch.look_at, medium)
        return probe

    # -- changing -------------------------------------------------------------------------------------------------------------

    async def add(self, kind: str, place: str, options: Mapping[str, object], secret: str, name: str = "") -> int:
        """See IMedia."""
        parts = self._parts
        settings = settings_for(kind, place, options)
        archive = parts.keys.current().archive
        there = parts.register.means.place(settings, secret)
        try:
            number = await parts.offload(_number_at, there, archive)
            async with _Held(self._lock):
                entry = await parts.register.add(settings, secret, name, number)
                await parts.offload(Medium(entry.number, there).claim, archive)
                await self._set(entry.number, ready=True)
        except PlaceTrouble as error:
            raise MediumError(f"{settings.where}: {error}") from error
        finally:
            await parts.offload(there.close)
        medium = parts.media.any(entry.number)
        await parts.offload(parts.watch.look_at, medium)
        for problem in await parts.offload(parts.keys.publish_all, [medium]):
            self.log.error("the keyring: {problem}", problem=problem)
        return entry.number

    async def activate(self, number: int) -> None:
        """See IMedia."""
        entry = self._usable(number)
        parts = self._parts
        medium = parts.media.any(number)
        await parts.offload(medium.look)
        async with _Held(self._lock):
            await parts.offload(parts.keys.publish, medium)
            if not entry.used:
                await parts.register.change(number, used=True)
            await parts.register.activate(number)
            parts.register.refresh(parts.media)
        await parts.offload(parts.watch.look_at, medium)

    async def deactivate(self, number: int) -> None:
        """See IMedia."""
        if self._usable(number).active:
            raise MediumRefused(f"medium {number} is the active one: activate another one first")
        await self._set(number, used=False)

    async def use(self, number: int) -> None:
        """See IMedia."""
        self._usable(number)
        medium = self._parts.media.any(number)
        await self._parts.offload(medium.look)
        await self._set(number, used=True)
        await self._parts.offload(self._parts.watch.look_at, medium)

    async def take(self, number: int) -> None:
        """See IMedia."""
        self._usable(number)
        parts = self._parts
        medium = parts.register.medium(number)
        await parts.offload(_take_over, medium, parts.leaves)
        await parts.offload(parts.watch.look_at, medium)

    async def set_secret(self, number: int, secret: str) -> None:
        """See IMedia."""
        self._known(number)
        await self._parts.register.set_secret(number, secret)
        self._parts.register.refresh(self._parts.media)

    async def remove(self, number: int) -> None:
        """See IMedia."""
        entry, parts = self._known(number), self._parts
        if entry.active:
            raise MediumRefused(f"medium {number} is the active one: activate another one first")
        if entry.moved or any(e.moved == number or e.moving == number for e in parts.register.entries.values()):
            raise MediumRefused(f"medium {number} stays: others lead to it, or it leads to another")
        if entry.ready:
            held = await parts.index().read(_held, parts.media.active.number)
            if number in held or await parts.offload(_holds, parts.media.any(number)):
                raise MediumRefused(f"medium {number} holds mail: it can be put out of use, or merged into another one")
        await self._set(number, used=False, removed=True)

    async def _set(self, number: int, **values: Any) -> None:
        await self._parts.register.change(number, **values)
        self._parts.register.refresh(self._parts.media)

    def _known(self, number: int) -> Entry:
        entry = self._parts.register.entries.get(number)
        if entry is None or entry.removed:
            raise MediumRefused(f"there is no medium {number}")
        return entry

    def _usable(self, number: int) -> Entry:
        entry = self._known(number)
        if entry.moved or entry.moving:
            raise MediumRefused(f"medium {number} is retired: its mail goes to medium {entry.moved or entry.moving}")
        if not entry.ready:
            raise MediumRefused(f"medium {number} was not added to its end: add it once more")
        return entry

    # -- moving ---------------------------------------------------------------------------------------------------------------

    async def merge(self, numbers: Sequence[int], into: int) -> None:
        """See IMedia."""
        target = self._usable(into)
        if not target.used:
            raise MediumRefused(f"medium {into} is out of use")
        for number in dict.fromkeys(numbers):
            entry = self._known(number)
            if not entry.moving:
                entry = self._usable(number)
            if number == into:
                raise MediumRefused(f"medium {number} cannot be merged into itself")
            if entry.active:
                raise MediumRefused(f"medium {number} is the active one: activate another one first")
            await self._parts.offload(self._parts.media.any(number).look)
        await self._parts.offload(self._parts.media.any(into).look)
        chosen = set(numbers)
        for entry in list(self._parts.register.entries.values()):
            # What is on its way to one of them goes to the new place too: nothing may come to a medium that is retired.
            if entry.number in chosen or (entry.moving in chosen and entry.moving):
                self._stuck.pop(entry.number, None)
                await self._set(entry.number, used=True, moving=into)
        self.resume()

    def resume(self) -> None:
        """Go on with what is to be moved, unless that is under way."""
        if self._move is None and not self._stopping and any(e.moving for e in self._parts.register.entries.values()):
            self._move = Deferred.fromCoroutine(self._move_all())

    async def go_on(self) -> None:
        """The same, as a job."""
        self.resume()

    async def stop(self) -> None:
        """Finish the object under way; the rest goes on with the next start."""
        self._stopping = True
        if self._move is not None:
            await self._move

    async def _move_all(self) -> None:
        """One after the other. What cannot be moved now is told, and tried again with the next ``resume``."""
        tried: set[tuple[int, int]] = set()
        try:
            while (entry := self._next(tried)) is not None:
                tried.add((entry.number, entry.moving))
                try:
                    await self._move_one(entry.number, entry.moving)
                except (ArchiveError, OSError) as error:
                    self.log.error("medium {number} is not yet moved: {error}", number=entry.number, error=error)
                    text = f"medium {entry.number} is not yet moved to {entry.moving}: {error}"
                    self._stuck[entry.number] = text
                    self._parts.alarm("medium-move", text, str(entry.number))
        except Exception:  # noqa: BLE001  a later resume tries again
            self.log.failure("moving media failed")
        finally:
            self._move = None

    def _next(self, tried: set[tuple[int, int]]) -> Entry | None:
        """The next medium that is to be moved; None: there is none, or it is to end."""
        waiting = (e for e in self._parts.register.entries.values() if e.moving and (e.number, e.moving) not in tried)
        return next(waiting, None) if not self._stopping else None

    async def _move_one(self, number: int, into: int) -> None:
        source, target = self._parts.media.any(number), self._parts.media.any(into)
        self._copied[number] = 0
        # It may have been the active one a moment ago, and a pack for it be on its way.
        await self._parts.sealed()
        unread: list[str] = []
        for folder in _MOVED:
            for name, _ in await self._parts.offload(source.names, folder):
                if self._stopping or self._known(number).moving != into:
                    return
                try:
                    await self._move_object(source, target, name)
                except MediumUnread as error:
                    # It alone stays behind; the others are out of danger.
                    unread.append(str(error))
                    continue
                self._copied[number] += 1
        if unread:
            raise MediumError(f"{len(unread)} objects do not read, all others are moved; the first: {unread[0]}")
        left = await self._parts.index().read(_left, number)
        if left:
            raise MediumError(f"{left} packs that the index has on medium {number} are not there: see archive verify")
        if self._known(number).moving != into:
            return
        await self._set(number, moving=0, moved=into, used=False)
        self._stuck.pop(number, None)
        self._parts.over("medium-move", "it is moved", str(number))
        self.log.info("all mail of medium {number} lies on medium {into} now", number=number, into=into)

    async def _move_object(self, source: IMedium, target: IMedium, name: str) -> None:
        pack = _pack_of(name)
        if not pack:
            await self._parts.offload(_copy, source, target, name)
            return
        async with _Held(self._parts.moving):
            index = self._parts.index()
            lies = await index.read(_lies, pack)
            if lies == target.number:
                return
            if lies and lies != source.number and await self._parts.offload(_gives, self._parts.media.any(lies), name):
                # It was on its way to there first.
                return
            await self._parts.offload(_copy, source, target, name)
            await index.run(_moved, pack, lies, target.number)


class _Held:
    """``async with`` for a DeferredLock."""

    def __init__(self, lock: DeferredLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


def _pack_of(name: str) -> bytes:
    """The ID in a pack's name, or nothing."""
    stem = name.rpartition("/")[2].removesuffix(".pack")
    if not name.endswith(".pack") or len(stem) != 32:
        return b""
    try:
        return bytes.fromhex(stem)
    except ValueError:
        return b""


def _number_at(place: IPlace, archive: bytes) -> int:
    """The number that a medium of this archive bears already; 0: there is none. Raises PlaceTrouble: it is another archive's."""
    place.make()
    identity = identity_at(place)
    if identity is None:
        return 0
    if identity.archive != archive.hex():
        raise PlaceTrouble(f"it holds another archive ({identity.archive})")
    return identity.medium


def _copy(source: IMedium, target: IMedium, name: str) -> None:
    """In a thread. Raises MediumError: the target holds something else of that name, or did not keep it."""
    data = source.get(name)
    try:
        there = target.get(name)
    except MediumMissing:
        there = None
    if there is not None:
        if hashlib.sha256(there).digest() != hashlib.sha256(data).digest():
            raise MediumError(f"medium {target.number} holds another {name} than medium {source.number}")
        return
    target.put(name, data)
    if target.get(name) != data:
        raise MediumError(f"medium {target.number} did not keep {name} as it was written")


def _gives(medium: IMedium, name: str) -> bool:
    """In a thread. Whether a medium has an object, as far as can be seen: one that is lost has not."""
    try:
        return len(medium.get(name, 0, 1)) == 1
    except MediumError:
        return False


def _probe(medium: IMedium) -> MediumProbe:
    """In a thread: write, read, list, delete. Raises MediumError."""
    began = monotonic()
    space = medium.look()
    name = f"test/{secrets.token_hex(8)}"
    try:
        medium.put(name, _PROBE)
        if medium.get(name) != _PROBE or medium.get(name, 100, 50) != _PROBE[100:150]:
            raise MediumError(f"medium {medium.number} did not keep what was written to it")
        if (name, len(_PROBE)) not in medium.names("test/"):
            raise MediumError(f"medium {medium.number} does not list what was written to it")
    except DiskFull as error:
        raise MediumError(str(error)) from error
    finally:
        medium.delete(name)
    return MediumProbe(monotonic() - began, space.total, space.free)


def _take_over(medium: Medium, leaves: LeafLog) -> None:
    """In a thread. Raises MediumRefused: who wrote there meanwhile went on with the leaf log, and two logs cannot be joined; MediumError."""
    if unlike := leaves.unlike(medium):
        raise MediumRefused(
            f"medium {medium.number} cannot be taken over: who wrote there meanwhile went on with the archive ({unlike}). End that installation and restart this one, which takes up what it can; "
            "or restore from the medium (archive restore): what only this one has is in its archive/staging"
        )
    medium.take_over()


def _holds(medium: IMedium) -> bool:
    return any(medium.names(folder, "", 1) for folder in _MOVED)


def _held(cursor: Cursor, active: int) -> dict[int, tuple[int, int, int]]:
    """Mails, packs and bytes by medium; what is still staged counts for the active one."""
    packs = cursor.execute("SELECT medium, count(*), coalesce(sum(size), 0) FROM pack GROUP BY medium").fetchall()
    mails: dict[int, int] = dict(
        cursor.execute("SELECT p.medium, count(*) FROM pack p JOIN mail m ON m.pack = p.number GROUP BY p.medium").fetchall()
    )
    (staged,) = cursor.execute("SELECT count(*) FROM mail WHERE pack IS NULL").fetchone()
    if staged:
        mails[active] = mails.get(active, 0) + staged
    figures = {medium: (count, size) for medium, count, size in packs}
    return {number: (mails.get(number, 0), *figures.get(number, (0, 0))) for number in {*mails, *figures}}


def _lies(cursor: Cursor, pack: bytes) -> int:
    row = cursor.execute("SELECT medium FROM pack WHERE pack = ?", (pack,)).fetchone()
    return int(row[0]) if row else 0


def _moved(cursor: Cursor, pack: bytes, source: int, target: int) -> None:
    cursor.execute("UPDATE pack SET medium = ? WHERE pack = ? AND medium = ?", (target, pack, source))


def _left(cursor: Cursor, number: int) -> int:
    (left,) = cursor.execute("SELECT count(*) FROM pack WHERE medium = ?", (number,)).fetchone()
    return int(left)
