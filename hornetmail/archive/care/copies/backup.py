"""Backups of ``archive.db`` and ``control.db`` on the active medium (A29, A55, A56, rule 26).

The index is copied as the file that it is: SQLCipher's pages, which never were anything but encrypted, while the file stands still (``db/frozen.py``)
and everybody goes on writing into its log. An increment holds the pieces that changed since the backup before it. Of ``control.db`` goes a dump of its rows, so that
any engine takes it back. Dump and manifest are sealed under a key that is derived from the archive's lookup key, so that paper and medium alone
open them. The queue is not part of it: from a backup it would be sent twice.

A backup is there when its manifest is, which is written last and removed first. Layout: ``docs/formats/archive.rst``.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.internet.defer import Deferred

from hornetmail.archive.keys.keyring import Keyring
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import IMedium, MediumError, MediumMissing, MediumUnread
from hornetmail.archive.media.roster import Media
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.dump import Dump, dump
from hornetmail.db.engines import DatabaseError, SQLite
from hornetmail.db.frozen import Busy, Frozen, freeze
from hornetmail.db.migrate import Migration
from hornetmail.db.pool import Database
from hornetmail.disk.seal import BrokenSeal, Seal

PIECE = 64 << 10
"""Bytes of a piece: what an increment stores again if one page in it changed."""

OBJECT = 16 << 20
"""Bytes of pieces in one object on the medium."""

FORMAT = 1
DAY = 86400.0
TRIES = 20
"""Tries to have the index stand still, half a second apart; readers are held to 2 s."""

_FOLDER = "backup/"
_NAME = re.compile(r"backup/(\d{8}t\d{6}z)/(\d{8}t\d{6}z)/([a-z]+-?\d*)")
_MANIFEST = "manifest"


class BackupBroken(ArchiveError):
    """A backup cannot be read; the message says where."""


class Halted(ArchiveError):
    """It was asked to end before it was done."""


class Keep(msgspec.Struct, frozen=True):
    """What is kept: the newest full backup of each of the last ``days`` days and ``weeks`` weeks in which there was one, the newest ``least`` in any case, since a clock
    that is years ahead must not drop all but the one that it made, and the increments of the newest ``chains``. What was deleted from the archive is in no
    backup ``longest`` seconds later, if one is made each day (rule 23)."""

    days: int = 7
    weeks: int = 4
    chains: int = 2
    least: int = 3

    @property
    def longest(self) -> float:
        """Seconds."""
        return max(self.days + 1, 7 * (self.weeks + 1)) * DAY


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """``length`` bytes of the index at ``start`` of ``Manifest.objects[number]``; ``digest``: their SHA-256."""

    number: int
    start: int
    length: int
    digest: bytes


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. ``made``: Unix seconds. ``schema``: migrations of the index. ``objects``: names on the medium, also of the backups that it is an
    increment to. ``secrets``: files of the data directory without which the rest of ``control.db`` does not open, by name."""

    format: int
    archive: bytes
    made: float
    full: bool
    schema: int
    size: int
    piece: int
    objects: tuple[str, ...]
    pieces: tuple[Piece, ...]
    control: str
    secrets: Mapping[str, bytes]


class BackupName(msgspec.Struct, frozen=True, order=True):
    """``chain``: the stamp of the full backup that it stands on; ``stamp``: its own, UTC."""

    chain: str
    stamp: str

    @property
    def full(self) -> bool:
        """Whether it stands alone."""
        return self.chain == self.stamp

    @property
    def folder(self) -> str:
        """On the medium."""
        return f"{_FOLDER}{self.chain}/{self.stamp}/"

    @property
    def manifest(self) -> str:
        """Its object on the medium."""
        return self.folder + _MANIFEST

    @property
    def made(self) -> float:
        """Unix seconds."""
        return datetime.datetime.strptime(self.stamp, "%Y%m%dt%H%M%Sz").replace(tzinfo=datetime.UTC).timestamp()


class Listing(msgspec.Struct, frozen=True):
    """What a medium holds below ``backup/``. ``whole``: those with a manifest, oldest first, each with its bytes; ``objects``: of each, those without too."""

    whole: tuple[BackupName, ...]
    objects: Mapping[BackupName, Mapping[str, int]]

    def size(self, name: BackupName) -> int:
        """Bytes of its own."""
        return sum(self.objects.get(name, {}).values())


def backup_named(name: str) -> BackupName | None:
    """The backup that an object belongs to, by its name; None: to none."""
    found = _NAME.fullmatch(name)
    return BackupName(found[1], found[2]) if found else None


def backup_seal(keyring: Keyring) -> Seal:
    """What manifests and dumps are sealed with; a change of the root key does not change it. Raises KeyTrouble: locked."""
    info = b"hornetmail backup 1"
    return Seal(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(keyring.lookup_key()))


def backups_on(medium: IMedium) -> Listing:
    """In a thread. Raises MediumError."""
    return listed(medium.names(_FOLDER))


def listed(names: Iterable[tuple[str, int]]) -> Listing:
    """Out of names and sizes; what is none of ours is passed over."""
    objects: dict[BackupName, dict[str, int]] = {}
    for name, size in names:
        if backup := backup_named(name):
            objects.setdefault(backup, {})[name] = size
    whole = sorted((name for name, parts in objects.items() if name.manifest in parts), key=lambda name: name.stamp)
    return Listing(tuple(whole), objects)


def kept(names: Sequence[BackupName], now: float, keep: Keep) -> set[BackupName]:
    """Of whole backups, those to keep at ``now`` (Unix seconds, days in UTC)."""
    fulls = sorted((name for name in names if name.full), key=lambda name: name.stamp, reverse=True)
    chosen: set[str] = {full.stamp for full in fulls[: keep.least]}
    for period, most in ((DAY, keep.days), (7 * DAY, keep.weeks)):
        seen: set[int] = set()
        for full in fulls:
            number = int(full.made // period)
            if number > now // period - most and number not in seen:
                seen.add(number)
                chosen.add(full.stamp)
    chains = {full.stamp for full in fulls[: keep.chains]} & chosen
    return {name for name in names if (name.full and name.stamp in chosen) or (not name.full and name.chain in chains)}


def read_manifest(medium: IMedium, name: BackupName, seal: Seal) -> Manifest:
    """In a thread. Raises BackupBroken, MediumError."""
    where = f"medium {medium.number}: {name.manifest}"
    try:
        manifest = msgspec.msgpack.decode(_opened(medium.get(name.manifest), name.manifest, seal, where), type=Manifest)
    except msgspec.DecodeError as error:
        raise BackupBroken(f"{where}: {error}") from None
    if manifest.format != FORMAT:
        raise BackupBroken(f"{where}: it has format {manifest.format}, this program reads {FORMAT}")
    if any(piece.number >= len(manifest.objects) for piece in manifest.pieces):
        raise BackupBroken(f"{where}: it names an object that it does not list")
    return manifest


def read_control(medium: IMedium, manifest: Manifest, seal: Seal) -> Dump:
    """In a thread. Raises BackupBroken, MediumError."""
    where = f"medium {medium.number}: {manifest.control}"
    try:
        return msgspec.msgpack.decode(_opened(medium.get(manifest.control), manifest.control, seal, where), type=Dump)
    except msgspec.DecodeError as error:
        raise BackupBroken(f"{where}: {error}") from None


def read_pieces(medium: IMedium, manifest: Manifest) -> Iterator[bytes]:
    """The index, piece by piece, each checked. In a thread. Raises BackupBroken that names the object, MediumError."""
    name, data = "", b""
    total = 0
    for number, piece in enumerate(manifest.pieces):
        wanted = manifest.objects[piece.number]
        if wanted != name:
            name, data = wanted, medium.get(wanted)
        got = data[piece.start : piece.start + piece.length]
        if len(got) != piece.length or hashlib.sha256(got).digest() != piece.digest:
            raise BackupBroken(f"medium {medium.number}: {name}: piece {number} of the index is damaged")
        total += len(got)
        yield got
    if total != manifest.size:
        raise BackupBroken(f"medium {medium.number}: the pieces of the index have {total} bytes, not {manifest.size}")


def _opened(sealed: bytes, name: str, seal: Seal, where: str) -> bytes:
    try:
        packed = seal.open(sealed, b"hornetmail backup 1:" + name.encode())
    except BrokenSeal as error:
        raise BackupBroken(f"{where}: damaged, or another archive's ({error})") from None
    return zstandard.ZstdDecompressor().decompress(packed)


def _closed(plain: bytes, name: str, seal: Seal) -> bytes:
    return seal.close(zstandard.ZstdCompressor(level=3).compress(plain), b"hornetmail backup 1:" + name.encode())


def _stamp(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%dt%H%M%Sz")


class Sources(msgspec.Struct, frozen=True):
    """What is backed up. ``index`` raises ArchiveError if there is none; ``migrations``: those of ``control``. ``settle``: have what is staged indexed and on the
    medium first, as far as that works. ``secrets``: see ``Manifest``; blocking. ``offload`` runs what blocks in a thread."""

    reactor: Any
    media: Media
    keys: KeyStore
    index: Callable[[], Database]
    index_schema: int
    control: Database
    migrations: Sequence[Migration]
    settle: Callable[[], Awaitable[object]]
    secrets: Callable[[], Mapping[str, bytes]]
    offload: Callable[..., Awaitable[Any]]


class Made(msgspec.Struct, frozen=True):
    """A backup that was made. ``bytes``: what it added to the medium; ``dropped``: how many older ones went."""

    name: BackupName
    medium: int
    bytes: int
    dropped: int

    @property
    def words(self) -> str:
        """For people."""
        kind = "full" if self.name.full else "incremental"
        return f"{kind} backup on medium {self.medium}, {self.bytes} bytes; {self.dropped} older ones dropped"


class Backups:
    """Makes them, lists them, drops old ones. One at a time: they share a lane of the jobs."""

    WITHOUT = ("sessions", "queue_marks", "schema_migrations")
    """Tables of ``control.db`` that do not go along: who is logged in now, and how far a queue had come that does not go along either (rule 26)."""

    def __init__(self, sources: Sources, keep: Keep = Keep()) -> None:
        self._sources = sources
        self._keep = keep
        self._halted = False

    def halt(self) -> None:
        """End what runs at its next step; what it wrote has no manifest and goes with the next backup."""
        self._halted = True

    async def listing(self) -> Sequence[tuple[BackupName, int, int]]:
        """Whole backups on media in use, newest first: name, medium, bytes. Media that are away are passed over."""
        found: list[tuple[BackupName, int, int]] = []
        for medium in self._sources.media.all():
            try:
                listing: Listing = await self._sources.offload(backups_on, medium)
            except MediumError:
                continue
            found += [(name, medium.number, listing.size(name)) for name in listing.whole]
        return sorted(found, key=lambda one: one[0].stamp, reverse=True)

    async def make(self, now: float, full: bool) -> Made:
        """One more on the active medium; an increment becomes a full one where there is none to stand on. Raises ArchiveError, DatabaseError, DiskFull; what
        was begun is then not a backup, and those from before are as they were."""
        sources = self._sources
        medium, seal = sources.media.active, backup_seal(sources.keys.current())
        await sources.settle()
        listing: Listing = await sources.offload(backups_on, medium)
        for unfinished in set(listing.objects) - set(listing.whole):
            await sources.offload(_drop, medium, unfinished, listing.objects[unfinished])
        before = None if full else await self._before(medium, listing, seal)
        stamp = _stamp(now)
        if any(name.stamp >= stamp for name in listing.objects):  # the clock was set back, or two in one second
            stamp = _stamp(max(name.made for name in listing.objects) + 1)
        name = BackupName(stamp if before is None else before[0].chain, stamp)
        try:
            written = await self._write(now, medium, name, before[1] if before is not None else None, seal)
        except Exception:
            # It has no manifest, and would hold the room that mail needs.
            with contextlib.suppress(ArchiveError, OSError):
                rest: Listing = await sources.offload(backups_on, medium)
                await sources.offload(_drop, medium, name, rest.objects.get(name, {}))
            raise
        return Made(name, medium.number, written, await self._drop_old(now))

    async def _write(self, now: float, medium: IMedium, name: BackupName, before: Manifest | None, seal: Seal) -> int:
        """All of it onto the medium, the manifest last; bytes written."""
        sources = self._sources
        frozen = await self._freeze()
        try:
            writing = _Writing(medium, name, before, frozen.path)
            more = True
            while more:
                if self._halted:
                    raise Halted("the backup was asked to end")
                more = await sources.offload(writing.step)
        finally:
            await sources.offload(frozen.thaw)
        dumped: Dump = await sources.control.read(dump, sources.migrations, self.WITHOUT)
        control, secrets = name.folder + "control", await sources.offload(sources.secrets)
        data = await sources.offload(_closed, msgspec.msgpack.encode(dumped), control, seal)
        await sources.offload(medium.put, control, data)
        manifest = Manifest(
            FORMAT,
            sources.keys.current().archive,
            now,
            name.full,
            sources.index_schema,
            writing.size,
            PIECE,
            tuple(writing.objects),
            tuple(writing.pieces),
            control,
            secrets,
        )
        sealed = await sources.offload(_closed, msgspec.msgpack.encode(manifest), name.manifest, seal)
        await sources.offload(medium.put, name.manifest, sealed)
        await sources.offload(read_manifest, medium, name, seal)
        return writing.written + len(data) + len(sealed)

    async def _before(self, medium: IMedium, listing: Listing, seal: Seal) -> tuple[BackupName, Manifest] | None:
        """The newest backup, if an increment can stand on it: it opens, all that it names is there in its length, and so is the full one of its chain, without
        which the rule would drop the increment at once."""
        if not listing.whole or BackupName(listing.whole[-1].chain, listing.whole[-1].chain) not in listing.whole:
            return None
        name = listing.whole[-1]
        try:
            manifest: Manifest = await self._sources.offload(read_manifest, medium, name, seal)
        except (BackupBroken, MediumUnread):
            return None
        there = {one: size for parts in listing.objects.values() for one, size in parts.items()}
        whole = all(piece.start + piece.length <= there.get(manifest.objects[piece.number], 0) for piece in manifest.pieces)
        return (name, manifest) if whole and manifest.piece == PIECE else None

    async def _freeze(self) -> Frozen:
        index = self._sources.index()
        engine = index.engine
        if not isinstance(engine, SQLite):
            raise DatabaseError("the index is a file, always")
        for _ in range(TRIES):
            try:
                return await index.alone(freeze, engine)
            except Busy:
                pause: Deferred[None] = Deferred()
                self._sources.reactor.callLater(0.5, pause.callback, None)
                await pause
        return await index.alone(freeze, engine)

    async def _drop_old(self, now: float) -> int:
        """On all media in use: what the rule does not keep, and what has no manifest."""
        dropped = 0
        for medium in self._sources.media.all():
            try:
                listing: Listing = await self._sources.offload(backups_on, medium)
                staying = kept(listing.whole, now, self._keep)
                for name in sorted(set(listing.objects) - staying, key=lambda one: one.stamp, reverse=True):
                    await self._sources.offload(_drop, medium, name, listing.objects[name])
                    dropped += name in listing.whole
            except MediumError:
                continue
        return dropped


def _drop(medium: IMedium, name: BackupName, objects: Mapping[str, int]) -> None:
    """The manifest first, so that none ever names what is gone."""
    medium.delete(name.manifest)
    for one in objects:
        medium.delete(one)


class _Writing:
    """The index on its way to the medium, an object's worth a step. In threads, one step at a time."""

    def __init__(self, medium: IMedium, name: BackupName, before: Manifest | None, path: Path) -> None:
        self._medium = medium
        self._name = name
        self._known = before.pieces if before is not None else ()
        self._path = path
        self._buffer: list[bytes] = []
        self._held = 0
        self.objects: list[str] = list(before.objects) if before is not None else []
        self.pieces: list[Piece] = []
        self.size = 0
        self.written = 0

    def step(self) -> bool:
        """Read on until an object is full, or the file ends; whether there is more. Raises OSError, MediumError, DiskFull."""
        with self._path.open("rb") as file:
            os.lseek(file.fileno(), self.size, os.SEEK_SET)
            for _ in range(OBJECT // PIECE):
                data = os.read(file.fileno(), PIECE)
                if not data:
                    self._put()
                    return False
                self._take(data)
        self._put()
        return True

    def _take(self, data: bytes) -> None:
        digest = hashlib.sha256(data).digest()
        number = len(self.pieces)
        known = self._known[number] if number < len(self._known) else None
        if known is not None and (known.digest, known.length) == (digest, len(data)):
            self.pieces.append(known)
        else:
            self.pieces.append(Piece(len(self.objects), self._held, len(data), digest))
            self._buffer.append(data)
            self._held += len(data)
        self.size += len(data)

    def _put(self) -> None:
        if not self._buffer:
            return
        name = f"{self._name.folder}index-{len(self.objects):06d}"
        data = b"".join(self._buffer)
        self._medium.put(name, data)
        if hashlib.sha256(self._medium.get(name)).digest() != hashlib.sha256(data).digest():
            raise MediumError(f"medium {self._medium.number} did not keep {name} as it was written")
        self.objects.append(name)
        self.written += len(data)
        self._buffer, self._held = [], 0


def newest_backup(
    medium: IMedium, keyring: Keyring, flawed: Callable[[str], None] = lambda text: None
) -> tuple[BackupName, Manifest, Dump] | None:
    """The newest one of which manifest and rows open; why newer ones are passed over is told to ``flawed``. In a thread. Raises MediumError."""
    seal = backup_seal(keyring)
    for name in reversed(backups_on(medium).whole):
        try:
            manifest = read_manifest(medium, name, seal)
            return name, manifest, read_control(medium, manifest, seal)
        except (BackupBroken, MediumMissing, MediumUnread) as error:
            flawed(str(error))
    return None
