"""The restore drill (L3): on schedule, the newest backup is restored into a scratch database beside the archive, and a sample of the mails that it knows is opened from
the media, with the wrapped keys as they lie there. A backup that nobody ever restored is none.

The scratch files are encrypted as the originals are, and are gone at the end, whatever the end is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hornetmail.archive.care.copies.backup import newest_backup, read_pieces
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.keys.keyring import KEYRING_NAME, Keyring
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import IMedium, MediumMissing
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.shelf import PackRow, Shelf, pack_row
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.dump import Dump, load
from hornetmail.db.engines import Cursor
from hornetmail.db.migrate import Migration
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk

SAMPLE = 25
"""Mails that are opened."""

OLDEST = 8 * 86400.0
"""Seconds: a newest backup that is older is a failure, whatever is in it."""


class DrillFailed(ArchiveError):
    """A restore would not have worked; the message says why."""


class Report(msgspec.Struct, frozen=True):
    """What a drill found. ``opened``: mails whose bytes were as the index said; ``passed_over``: in packs that were merged or purged since the backup."""

    backup: str
    mails: int
    rows: int
    opened: int
    passed_over: int

    @property
    def words(self) -> str:
        """For people."""
        more = f", {self.passed_over} more lie elsewhere or went since" if self.passed_over else ""
        return f"backup {self.backup}: {self.mails} mails and {self.rows} rows of control.db restored; {self.opened} mails opened{more}"


class Sources(msgspec.Struct, frozen=True):
    """What it works on. ``directory``: where the scratch files go. ``migrations``: those of ``control.db``. ``live``: the packs that the index in use knows."""

    reactor: Any
    disk: Disk
    directory: Path
    media: Media
    keys: KeyStore
    shelf: Shelf
    migrations: Sequence[Migration]
    index: Callable[[], Database]
    offload: Callable[..., Awaitable[Any]]


class _Mail(msgspec.Struct, frozen=True):
    identifier: int
    sha256: bytes
    pack: int
    start: int
    length: int
    record: bytes


class Drill:
    """Restores into scratch databases."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def run(self, now: float) -> Report:
        """Raises DrillFailed or another ArchiveError, DatabaseError, OSError: what a restore would have failed of."""
        sources = self._sources
        medium = sources.media.active
        ring: Keyring = await sources.offload(self._keyring, medium)
        flaws: list[str] = []
        found = await sources.offload(newest_backup, medium, ring, flaws.append)
        if flaws:
            raise DrillFailed(f"the newest backup does not open: {flaws[0]}")
        if found is None:
            raise DrillFailed(f"there is no backup on medium {medium.number}")
        name, manifest, dumped = found
        if now - name.made > OLDEST:
            raise DrillFailed(f"the newest backup on medium {medium.number} is of {name.stamp}")
        index, control = (sources.directory / f"drill-{what}.db" for what in ("archive", "control"))
        try:
            rows = await self._people(control, dumped, ring)
            await sources.offload(self._write, index, medium, manifest)
            mails, opened, passed_over = await self._mails(index, ring)
        finally:
            for path in (index, control):
                await sources.offload(self._remove, path)
        return Report(name.stamp, mails, rows, opened, passed_over)

    def _keyring(self, medium: IMedium) -> Keyring:
        """As it lies on the medium, opened with the root key. Raises KeyTrouble, MediumError."""
        return self._sources.keys.current().reading(medium.get(KEYRING_NAME))

    def _write(self, path: Path, medium: IMedium, manifest: Any) -> None:
        self._remove(path)
        with path.open("xb") as file:
            path.chmod(0o600)
            for piece in read_pieces(medium, manifest):
                file.write(piece)

    def _remove(self, path: Path) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._sources.disk.unlink(path.with_name(path.name + suffix), missing_ok=True)

    async def _people(self, path: Path, dumped: Dump, ring: Keyring) -> int:
        sources = self._sources
        await sources.offload(self._remove, path)
        steps = sources.migrations[: dumped.schema]
        database = await Database.open(sources.reactor, f"sqlite://{path}", steps, key=ring.database_key(), synchronous="NORMAL")
        try:
            return await database.run(load, dumped, sources.migrations)
        finally:
            await database.close()

    async def _mails(self, path: Path, ring: Keyring) -> tuple[int, int, int]:
        sources = self._sources
        database = await Database.open(
            sources.reactor, f"sqlite://{path}", MIGRATIONS, key=ring.database_key(), synchronous="NORMAL"
        )
        try:
            trouble = await database.read(_quick_check)
            if trouble != "ok":
                raise DrillFailed(f"the restored index is damaged: {trouble}")
            total, sample = await database.read(_sample, SAMPLE)
            opened = passed_over = 0
            for mail in sample:
                pack = await database.read(pack_row, mail.pack)
                if pack is None:
                    raise DrillFailed(f"mail {mail.identifier} of the restored index is in a pack that it does not know")
                if await self._opens(mail, pack):
                    opened += 1
                else:
                    passed_over += 1
        finally:
            await database.close()
        if total and sample and not opened and passed_over == len(sample) and passed_over >= SAMPLE:
            raise DrillFailed("no mail of the sample lies where the restored index has it")
        return total, opened, passed_over

    async def _opens(self, mail: _Mail, pack: PackRow) -> bool:
        """False: the pack is not there any more, and the index in use does not know it either."""
        sources = self._sources
        try:
            raw: bytes = await sources.offload(self._raw, mail, pack)
        except MediumMissing as error:
            if await sources.index().read(_knows, pack.pack):
                raise DrillFailed(f"mail {mail.identifier} cannot be opened: {error}") from error
            return False
        if hashlib.sha256(raw).digest() != mail.sha256:
            raise DrillFailed(f"mail {mail.identifier} is not the one that the restored index has")
        return True

    def _raw(self, mail: _Mail, pack: PackRow) -> bytes:
        return self._sources.shelf.mail(self._sources.shelf.record(pack, mail.start, mail.length, mail.record))[1]


def _quick_check(cursor: Cursor) -> str:
    return str(cursor.execute("PRAGMA quick_check(1)").fetchone()[0])


def _sample(cursor: Cursor, most: int) -> tuple[int, list[_Mail]]:
    """All mails, and some that were in packs, spread over the whole of the archive."""
    (total,) = cursor.execute("SELECT count(*) FROM mail").fetchone()
    (packed,) = cursor.execute("SELECT count(*) FROM mail WHERE pack IS NOT NULL").fetchone()
    found = []
    for number in range(min(most, packed)):
        at = number * packed // min(most, packed)
        row = cursor.execute(
            "SELECT id, sha256, pack, start, length, record FROM mail WHERE pack IS NOT NULL ORDER BY place LIMIT 1 OFFSET ?",
            (at,),
        ).fetchone()
        found.append(_Mail(*row))
    return total, found


def _knows(cursor: Cursor, pack: bytes) -> bool:
    return cursor.execute("SELECT 1 FROM pack WHERE pack = ?", (pack,)).fetchone() is not None
