"""The keyring on disk: beside ``archive.db``, and a copy on every medium (rule 22)."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from hornetmail.archive.keys import KEYRING_NAME, Keyring, KeyTrouble
from hornetmail.archive.media import IMedium, MediumError, MediumMissing
from hornetmail.disk.files import Disk


class KeyStore:
    """Holds the keyring that is in force. May be used from any thread; what writes blocks."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._path = directory / KEYRING_NAME
        self._disk = disk
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._current: Keyring | None = None
        self._published: dict[int, int] = {}

    @property
    def exists(self) -> bool:
        """Whether there is a keyring here."""
        return self._path.exists()

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
        self._current = Keyring.from_bytes(data, root)
        return self._current

    def take_from(self, medium: IMedium, root: bytes) -> Keyring:
        """The newest keyring is the medium's: write it here. Raises KeyTrouble, MediumError."""
        try:
            data = medium.get(KEYRING_NAME)
        except MediumMissing:
            raise KeyTrouble(f"medium {medium.number} holds no keyring") from None
        keyring = Keyring.from_bytes(data, root)
        self._disk.make_directory(self._path.parent)
        self._disk.write_durably(self._path, data)
        self._current = keyring
        return keyring

    def current(self) -> Keyring:
        """The keyring in force. Raises KeyTrouble if none was opened."""
        if self._current is None:
            raise KeyTrouble("the keyring is not open")
        return self._current

    def ensure(self, wanted: Iterable[tuple[int, int]]) -> None:
        """See that there are data keys for these (tenant, year) pairs, durable before they are used."""
        with self._lock:
            before = self.current()
            after = before.with_data(wanted)
            if after is not before:
                self._disk.write_durably(self._path, after.to_bytes())
                self._current = after

    def publish(self, medium: IMedium) -> None:
        """Put the keyring on a medium, unless it has the newest. Raises MediumError, DiskFull, KeyTrouble (locked)."""
        if self._published.get(medium.number) == self.current().serial:
            return
        with self._publishing:
            # One at a time, so that an earlier keyring never takes the place of a later one.
            keyring = self.current()
            data = keyring.to_bytes()
            try:
                same = medium.get(KEYRING_NAME) == data
            except MediumMissing:
                same = False
            if not same:
                medium.put(KEYRING_NAME, data)
                if medium.get(KEYRING_NAME) != data:
                    raise MediumError(f"medium {medium.number} did not keep the keyring")
            self._published[medium.number] = keyring.serial
