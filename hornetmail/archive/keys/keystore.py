"""The keyring on disk: beside ``archive.db``, and a copy on every medium (rule 22).

A change of the root key is one rename, that of the local keyring: before it the old root key opens the archive, after it the new one. The
keyring from before stays beside it, and on each medium, until every medium holds the new one. Which of them do not yet is kept in the file
``root-change``.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from hornetmail.archive.keys.keyring import KEYRING_NAME, KeyReplaced, Keyring, KeyTrouble
from hornetmail.archive.media.medium import IMedium, MediumError, MediumMissing, MediumUnread
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk

PREVIOUS_NAME = "keyring-previous"
OTHERS = "keyrings"
"""The folder of a medium in which nodes other than the first have theirs: one writer a file, so that none can lose another's keys."""
CHANGE_NAME = "root-change"


class _Change(msgspec.Struct, frozen=True):
    """``to``: the root key's ID in hex. ``waiting``: media that lack the new keyring. ``tidy``: media that still have the one before."""

    to: str
    waiting: tuple[int, ...]
    tidy: tuple[int, ...]


class KeyStore:
    """Holds the keyring that is in force. May be used from any thread; what writes blocks."""

    def __init__(
        self, directory: Path, disk: Disk, node: int = 0, lock: Callable[[], AbstractContextManager[object]] = threading.Lock
    ) -> None:
        self.node = node
        self._name = KEYRING_NAME if node == 0 else f"{OTHERS}/n{node}"
        self._path = directory / KEYRING_NAME
        self._previous = directory / PREVIOUS_NAME
        self._change_path = directory / CHANGE_NAME
        self._disk = disk
        self._lock = lock()
        self._publishing = lock()
        self._current: Keyring | None = None
        self._published: dict[int, int] = {}
        self._change: _Change | None = None

    @property
    def exists(self) -> bool:
        """Whether there is a keyring here."""
        return self._path.exists()

    @property
    def is_open(self) -> bool:
        """Whether it was read."""
        return self._current is not None

    @property
    def waiting(self) -> frozenset[int]:
        """Media whose keyring is still under the root key from before."""
        change = self._change
        return frozenset(change.waiting) if change is not None else frozenset()

    def create(self, root: bytes) -> Keyring:
        """A new archive's keyring, durable. Raises KeyTrouble if there is one already."""
        if self.exists:
            raise KeyTrouble(f"{self._path} exists already")
        keyring = Keyring.create(root)
        self._disk.make_directory(self._path.parent)
        self._disk.write_durably(self._path, keyring.to_bytes())
        self._current = keyring
        return keyring

    def open(self, root: bytes | None) -> Keyring:
        """Read it; locked if there is no root key. Raises KeyTrouble."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            raise KeyTrouble(f"{self._path} is missing; a copy lies on every medium") from None
        keyring = Keyring.from_bytes(data, root)
        self._change = self._read_change(keyring)
        self._current = keyring
        return keyring

    def restore(self, media: Sequence[IMedium], root: bytes) -> Keyring:
        """Write here what the keyrings of the media hold that open with ``root``: those of all nodes, united. Raises KeyReplaced (a medium has one under a later root key, and
        an older keyring would lack keys), KeyTrouble (none opens), MediumError."""
        found: Keyring | None = None
        trouble: KeyTrouble | None = None
        for medium in media:
            opened = False
            for name in _keyrings_on(medium):
                if opened and name == PREVIOUS_NAME:
                    continue
                try:
                    ring = Keyring.from_bytes(medium.get(name), root)
                except MediumMissing:
                    continue
                except KeyReplaced:
                    raise
                except MediumUnread as error:
                    trouble = trouble or KeyTrouble(str(error))
                    continue
                except KeyTrouble as error:
                    trouble = trouble or error
                    continue
                opened = True
                # The newest one leads, so that one file alone comes back as it was written.
                newest, older = (ring, found) if found is None or ring.serial > found.serial else (found, ring)
                found = newest if older is None else newest.united(older)
        if found is None:
            raise trouble or KeyTrouble("there is no keyring, neither here nor on a medium")
        self._disk.make_directory(self._path.parent)
        self._disk.write_durably(self._path, found.to_bytes())
        return self.open(root)

    def replace(self, media: Sequence[IMedium], root: bytes) -> Path:
        """The same where a damaged one lies, which is kept beside it: where. Raises the same; it is as it was then."""
        damaged = self._path.read_bytes()
        self.restore(media, root)
        aside = self._path.with_name(f"{self._path.name}-damaged-{hashlib.sha256(damaged).hexdigest()[:16]}")
        self._disk.write_durably(aside, damaged)
        return aside

    def unite(self, media: Sequence[IMedium]) -> list[str]:
        """Take keys that the media in reach hold and this keyring lacks, because another node made them, or this is an older copy of the data
        directory; what could not be taken, a line each. Blocking."""
        problems: list[str] = []
        if self.current().locked:
            return problems
        for medium in media:
            try:
                for name in _keyrings_on(medium):
                    if name != PREVIOUS_NAME:
                        self._unite(medium.get(name))
            except MediumMissing:
                continue
            except (ArchiveError, OSError) as error:
                problems.append(f"medium {medium.number}: {error}")
        return problems

    def _unite(self, data: bytes) -> None:
        there = Keyring.from_bytes(data, None)
        if there.root != self.current().root or there.archive != self.current().archive:
            return
        with self._lock:
            before = self.current()
            after = before.united(before.reading(data))
            if after is not before:
                self._disk.write_durably(self._path, after.to_bytes())
                self._current = after

    def current(self) -> Keyring:
        """The keyring in force. Raises KeyTrouble if none was opened."""
        if self._current is None:
            raise KeyTrouble("the keyring is not open")
        return self._current

    def ensure(self, wanted: Iterable[tuple[int, int]]) -> None:
        """See that there are data keys for these (tenant, year) pairs, durable before they are used."""
        with self._lock:
            before = self.current()
            after = before.with_data(wanted, self.node)
            if after is not before:
                self._disk.write_durably(self._path, after.to_bytes())
                self._current = after

    # -- a change of the root key ---------------------------------------------------------------------------------------------

    def rewrap(self, root: bytes, media: Iterable[int]) -> None:
        """All keys under a new root key, durable on return; ``media``: the numbers of those that shall hold them. Raises KeyTrouble (locked),
        OSError: the old root key is in force then, unless the error came after the rename, and a restart will tell."""
        with self._lock:
            before = self.current()
            after = before.rewrapped(root)
            numbers = tuple(sorted(media))
            self._disk.write_durably(self._previous, before.to_bytes())
            change = _Change(after.root.hex(), numbers, numbers)
            self._write_change(change)
            self._disk.write_durably(self._path, after.to_bytes())
            self._current, self._change = after, change

    def keep(self) -> None:
        """Write the keyring in force once more, so that a change which failed half-way did not happen. Raises KeyTrouble, OSError."""
        with self._lock:
            self._disk.write_durably(self._path, self.current().to_bytes())
            if self._change is None:
                self._forget_change()
            else:
                self._write_change(self._change)

    def publish(self, medium: IMedium, again: bool = False) -> None:
        """Put the keyring on a medium, unless it has the newest; ``again``: look there, although it was put there before. Raises MediumError (out of reach, another archive's, or its keyring is newer than
        ours), DiskFull, KeyTrouble (locked)."""
        if self._published.get(medium.number) == self.current().serial and not again:
            return
        with self._publishing:
            # One at a time, so that an earlier keyring never takes the place of a later one.
            keyring = self.current()
            data = keyring.to_bytes()
            # An empty directory where a share is not mounted holds no identity, and must get no keys.
            medium.expect(keyring.archive)
            medium.look()
            try:
                there = medium.get(self._name)
            except MediumMissing:
                there = b""
            if there != data:
                if there:
                    self._set_aside(medium, there, keyring)
                medium.put(self._name, data)
                if medium.get(self._name) != data:
                    raise MediumError(f"medium {medium.number} did not keep the keyring")
            self._published[medium.number] = keyring.serial
            self._holds(medium.number)

    def publish_all(self, media: Sequence[IMedium]) -> list[str]:
        """The same for all media in reach, then away with what a change of the root key left behind; what went wrong, a line each."""
        problems: list[str] = []
        if self.current().locked:
            return problems
        for medium in media:
            try:
                self.publish(medium)
            except (ArchiveError, OSError) as error:
                problems.append(f"medium {medium.number} did not take it: {error}")
        try:
            self._tidy(media)
        except (ArchiveError, OSError) as error:
            problems.append(f"the one from before is not yet off every medium: {error}")
        return problems

    def _set_aside(self, medium: IMedium, there: bytes, keyring: Keyring) -> None:
        """What lies on the medium before it is replaced: kept if another root key opens it, refused if it has keys that we lack."""
        try:
            found = Keyring.from_bytes(there, None)
        except KeyTrouble:
            return
        if found.serial > keyring.serial:
            raise MediumError(
                f"medium {medium.number} holds a newer keyring (root key {found.root.hex()}) than {self._path} (root key {keyring.root.hex()}),"
                " which is left as it is: restore from the medium with the paper of that key"
            )
        if found.root != keyring.root:
            medium.put(PREVIOUS_NAME, there)

    def _holds(self, number: int) -> None:
        with self._lock:
            change = self._change
            if change is not None and number in change.waiting:
                change = msgspec.structs.replace(change, waiting=tuple(n for n in change.waiting if n != number))
                self._write_change(change)
                self._change = change

    def known(self, numbers: frozenset[int]) -> None:
        """Media that are configured no more wait for nothing. Raises OSError."""
        with self._lock:
            change = self._change
            if change is not None and not numbers.issuperset((*change.waiting, *change.tidy)):
                waiting, tidy = (tuple(n for n in has if n in numbers) for has in (change.waiting, change.tidy))
                self._change = msgspec.structs.replace(change, waiting=waiting, tidy=tidy)
                self._write_change(self._change)

    def _tidy(self, media: Sequence[IMedium]) -> None:
        """Once every medium holds the new keyring, take the one from before away; later where a medium is out of reach."""
        with self._publishing:
            change = self._change
            if change is None or change.waiting:
                return
            for medium in media:
                if medium.number in change.tidy:
                    medium.delete(PREVIOUS_NAME)
                    change = msgspec.structs.replace(change, tidy=tuple(n for n in change.tidy if n != medium.number))
            with self._lock:
                if change.tidy:
                    self._write_change(change)
                else:
                    self._forget_change()
                self._change = change if change.tidy else None

    def _read_change(self, keyring: Keyring) -> _Change | None:
        change: _Change | None = None
        try:
            change = msgspec.json.decode(self._change_path.read_bytes(), type=_Change)
        except (FileNotFoundError, ValueError):
            # Damaged: every medium is looked at again after a start in any case.
            pass
        if change is None or change.to != keyring.root.hex():
            # It ended before the keyring was in its place, or after the last medium had it.
            self._forget_change()
            return None
        return change

    def _write_change(self, change: _Change) -> None:
        self._disk.write_durably(self._change_path, msgspec.json.encode(change) + b"\n")

    def _forget_change(self) -> None:
        self._disk.unlink(self._change_path, missing_ok=True)
        self._disk.unlink(self._previous, missing_ok=True)


def _keyrings_on(medium: IMedium) -> list[str]:
    """The names of the keyrings that a medium may hold: the first node's, those of others, the one from before a change of the root key."""
    others = [name for name, _ in medium.names(f"{OTHERS}/")]
    return [KEYRING_NAME, *others, PREVIOUS_NAME]
