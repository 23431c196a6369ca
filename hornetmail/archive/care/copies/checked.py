"""Whether the backups on the media are whole: what a restore would need of them, looked at before it is needed."""

from __future__ import annotations

import hashlib

from hornetmail.archive.care.copies.backup import (
    BackupBroken,
    BackupName,
    Listing,
    Piece,
    backup_seal,
    backups_on,
    read_control,
    read_manifest,
)
from hornetmail.archive.keys.keyring import Keyring
from hornetmail.archive.media.medium import IMedium, MediumAway, MediumError, MediumMissing, MediumUnread
from hornetmail.archive.media.roster import Media
from hornetmail.core.archive.archived import Finding


def check_backups(media: Media, keyring: Keyring, full: bool) -> list[Finding]:
    """``full``: all of them are read, each object once; else the newest on each medium, of its pieces only whether they are there. A medium that is away is passed over: others tell of it. Blocking.
    Raises KeyTrouble: locked."""
    found: list[Finding] = []
    for medium in media.all():
        try:
            found += _Check(medium, keyring, full).run()
        except MediumError:
            continue
    return found


class _Check:
    """Of one medium. ``troubles``: object, what is wrong, and the backups that cannot be had for it."""

    def __init__(self, medium: IMedium, keyring: Keyring, full: bool) -> None:
        self._medium = medium
        self._seal = backup_seal(keyring)
        self._full = full
        self._troubles: list[tuple[str, str, set[BackupName]]] = []
        self._pieces: dict[str, set[Piece]] = {}
        self._needed: dict[str, set[BackupName]] = {}

    def run(self) -> list[Finding]:
        """Raises MediumError: the medium is away."""
        listing = backups_on(self._medium)
        for backup in listing.whole if self._full else listing.whole[-1:]:
            self._open(backup)
        sizes = {name: size for objects in listing.objects.values() for name, size in objects.items()}
        for name in sorted(self._pieces):
            if what := self._flaw(name, sizes.get(name, -1)):
                self._troubles.append((name, what, self._needed[name]))
        return self._told() if self._troubles else []

    def _open(self, name: BackupName) -> None:
        where = name.manifest
        try:
            manifest = read_manifest(self._medium, name, self._seal)
            for piece in manifest.pieces:
                self._pieces.setdefault(manifest.objects[piece.number], set()).add(piece)
            for one in manifest.objects:
                self._needed.setdefault(one, set()).add(name)
            where = manifest.control
            read_control(self._medium, manifest, self._seal)
        except MediumAway:
            raise
        except MediumMissing:
            self._troubles.append((where, "it is missing", {name}))
        except MediumUnread as error:
            self._troubles.append((where, str(error), {name}))
        except BackupBroken:
            self._troubles.append((where, "it does not open: damaged, or another archive's", {name}))

    def _flaw(self, name: str, size: int) -> str:
        """What is wrong with an object that pieces of the index lie in."""
        pieces = self._pieces[name]
        if size < 0:
            return "it is missing"
        if size < max(piece.start + piece.length for piece in pieces):
            return f"it is cut off at {size} bytes"
        if not self._full:
            return ""
        try:
            data = memoryview(self._medium.get(name))
        except MediumAway:
            raise
        except MediumMissing:
            return "it is missing"
        except MediumError as error:
            return str(error)
        bad = sum(hashlib.sha256(data[p.start : p.start + p.length]).digest() != p.digest for p in pieces)
        return f"{bad} of {len(pieces)} pieces of the index in it are damaged" if bad else ""

    def _told(self) -> list[Finding]:
        """Without what was dropped meanwhile, since another backup was made."""
        listing: Listing = backups_on(self._medium)
        still = set(listing.whole)
        found = []
        for name, what, backups in self._troubles:
            if lost := sorted(one.stamp for one in backups & still):
                more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
                found.append(
                    Finding(f"medium {self._medium.number}: {name}", f"{what}; backup {lost[-1]}{more} cannot be restored whole")
                )
        return found
