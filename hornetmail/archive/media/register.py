"""The media in ``control.db``: a number for good (A13), what it takes to reach each, and which one is active (A12).

A row is never removed, so that no number is given twice. Secrets are sealed under the server key and leave this module only for the place
that needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import IPlace, Medium
from hornetmail.archive.media.roster import Media
from hornetmail.archive.media.s3 import BucketPlace
from hornetmail.archive.media.settings import BucketSettings, DirectorySettings, Settings, ShareSettings
from hornetmail.archive.media.smb import SharePlace
from hornetmail.archive.media.writer import Writer
from hornetmail.core.archive.archived import ArchiveError, MediumRefused
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import BrokenSeal, Seal

FIRST = 1
"""The number of the medium that ``init`` makes."""

_CONTEXT = b"hornetmail medium secret 1:%d"


class Entry(msgspec.Struct, frozen=True):
    """A medium as registered. ``ready``: it was claimed. ``moving``: its mail is being moved there; ``moved``: it lies there (0: neither).
    ``removed``: it held nothing and was taken out."""

    number: int
    settings: Settings
    name: str = ""
    active: bool = False
    used: bool = True
    ready: bool = True
    moving: int = 0
    moved: int = 0
    removed: bool = False


class Means(msgspec.Struct, frozen=True):
    """What places are made with. ``first``: the directory of ``hornetmail.toml``; ``writer``: who writes to media, None: whoever comes."""

    reactor: Any
    disk: Disk
    first: Path
    writer: Writer | None = None

    def place(self, settings: Settings, secret: str) -> IPlace:
        """The place that settings name."""
        place: IPlace
        match settings:
            case DirectorySettings():
                place = DirectoryPlace(Path(settings.path) if settings.path else self.first, self.disk)
            case ShareSettings():
                place = SharePlace(settings, secret, self.reactor.seconds)
            case BucketSettings():
                place = BucketPlace(settings, secret, self.reactor)
        return place


class Register:
    """``database`` is ``control.db``. ``entries`` is what was last read or written."""

    def __init__(self, database: Database, seal: Seal, means: Means) -> None:
        self._database = database
        self._seal = seal
        self._means = means
        self._media: dict[int, tuple[Settings, bytes, Medium]] = {}
        self.entries: dict[int, Entry] = {}
        self._secrets: dict[int, bytes] = {}

    @property
    def means(self) -> Means:
        """What places are made with."""
        return self._means

    async def open(self) -> Media:
        """Read them; where there are none, the first one is the directory of ``hornetmail.toml``. Raises ArchiveError, ValueError."""
        first = Entry(FIRST, DirectorySettings(), active=True)
        self._took(await self._database.run(_first, first))
        return Media(*self._parts())

    def _took(self, rows: list[tuple[Entry, bytes]]) -> None:
        self.entries = {entry.number: entry for entry, _ in rows}
        self._secrets = {entry.number: secret for entry, secret in rows}

    def refresh(self, media: Media) -> None:
        """Make the roster what the register says."""
        media.change(*self._parts())

    def _parts(self) -> tuple[list[Medium], int, frozenset[int], dict[int, int]]:
        known = [e for e in self.entries.values() if e.ready and not e.removed]
        active = next((e.number for e in known if e.active), FIRST)
        unused = frozenset(e.number for e in known if not e.used)
        return [self._medium(e) for e in known], active, unused, {e.number: e.moved for e in known if e.moved}

    def _medium(self, entry: Entry) -> Medium:
        """The same object as long as nothing about it changed: it holds connections, and what it has seen."""
        secret = self._secrets[entry.number]
        kept = self._media.get(entry.number)
        if kept is None or kept[:2] != (entry.settings, secret):
            place = self._means.place(entry.settings, self.secret(entry.number))
            medium = Medium(entry.number, place, writer=self._means.writer)
            kept = self._media[entry.number] = (entry.settings, secret, medium)
        return kept[2]

    def where(self, entry: Entry) -> str:
        """For people."""
        return entry.settings.where or str(self._means.first)

    def secret(self, number: int) -> str:
        """Raises ArchiveError: it was sealed under another server key."""
        sealed = self._secrets[number]
        if not sealed:
            return ""
        try:
            return self._seal.open(sealed, _CONTEXT % number).decode()
        except BrokenSeal:
            raise ArchiveError(f"the secret of medium {number} was sealed under another server key: set it again") from None

    async def add(self, settings: Settings, secret: str, name: str, number: int = 0) -> Entry:
        """A row that is not yet ``ready``; the one from before, if such a try was cut off. ``number``: the one that the medium bears already."""

        def seal(n: int) -> bytes:
            return self._seal.close(secret.encode(), _CONTEXT % n) if secret else b""

        number, rows = await self._database.run(_add, settings, seal, name, number)
        self._took(rows)
        return self.entries[number]

    async def change(self, number: int, **values: Any) -> Entry:
        """Set fields of a row."""
        self._took(await self._database.run(_change, number, values))
        return self.entries[number]

    async def activate(self, number: int) -> None:
        """Exactly one is active."""
        self._took(await self._database.run(_activate, number))

    async def set_secret(self, number: int, secret: str) -> None:
        """Another password or key."""
        self._took(await self._database.run(_set_secret, number, self._seal.close(secret.encode(), _CONTEXT % number)))

    def medium(self, number: int) -> Medium:
        """As registered. Raises MediumRefused: there is none."""
        try:
            return self._media[number][2]
        except KeyError:
            raise MediumRefused(f"there is no medium {number}") from None

    def release(self, number: int) -> None:
        """This installation writes to that medium no more. Blocking. Raises MediumError."""
        self.medium(number).release()

    def close(self) -> None:
        """Let go of all connections. Blocking."""
        for _, _, medium in self._media.values():
            medium.close()


def _rows(cursor: Any) -> list[tuple[Entry, bytes]]:
    cursor.execute("SELECT value, secret FROM media ORDER BY number", ())
    return [(msgspec.json.decode(value, type=Entry), bytes(secret)) for value, secret in cursor.fetchall()]


def _put(cursor: Any, entry: Entry) -> None:
    cursor.execute("UPDATE media SET value = ? WHERE number = ?", (msgspec.json.encode(entry).decode(), entry.number))


def _insert(cursor: Any, entry: Entry, secret: bytes) -> None:
    sql = "INSERT INTO media (number, tenant, value, secret) VALUES (?, 0, ?, ?)"
    cursor.execute(sql, (entry.number, msgspec.json.encode(entry).decode(), secret))


def _first(cursor: Any, first: Entry) -> list[tuple[Entry, bytes]]:
    rows = _rows(cursor)
    if not rows:
        _insert(cursor, first, b"")
        rows = _rows(cursor)
    return rows


def _add(
    cursor: Any, settings: Settings, seal: Callable[[int], bytes], name: str, wanted: int
) -> tuple[int, list[tuple[Entry, bytes]]]:
    known = {entry.number: entry for entry, _ in _rows(cursor)}
    for entry in known.values():
        if entry.settings == settings and not entry.removed and not entry.moved:
            if entry.ready:
                raise MediumRefused(f"this is medium {entry.number} already")
            if not wanted or wanted == entry.number:
                _put(cursor, msgspec.structs.replace(entry, name=name))
                cursor.execute("UPDATE media SET secret = ? WHERE number = ?", (seal(entry.number), entry.number))
                return entry.number, _rows(cursor)
    if wanted in known:
        raise MediumRefused(f"it calls itself medium {wanted}, and there is another one of that number")
    number = wanted or max(known, default=0) + 1
    _insert(cursor, Entry(number, settings, name, used=True, ready=False), seal(number))
    return number, _rows(cursor)


def _change(cursor: Any, number: int, values: dict[str, Any]) -> list[tuple[Entry, bytes]]:
    for entry, _ in _rows(cursor):
        if entry.number == number:
            _put(cursor, msgspec.structs.replace(entry, **values))
    return _rows(cursor)


def _activate(cursor: Any, number: int) -> list[tuple[Entry, bytes]]:
    for entry, _ in _rows(cursor):
        if entry.active != (entry.number == number):
            _put(cursor, msgspec.structs.replace(entry, active=entry.number == number))
    return _rows(cursor)


def _set_secret(cursor: Any, number: int, secret: bytes) -> list[tuple[Entry, bytes]]:
    cursor.execute("UPDATE media SET secret = ? WHERE number = ?", (secret, number))
    return _rows(cursor)
