"""Where the root key lies between two starts (A2, rule 22): in a file of its own, or sealed under what a source gives (``sources``).

One form is chosen; the key is written in that form, durably, before another one goes, so that a crash leaves at least one that opens. A start that
finds it in another form, because the choice was changed, writes it anew.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hornetmail.archive.keys import sealedroot
from hornetmail.archive.keys.keyring import KeyTrouble, RootFile
from hornetmail.archive.keys.paper import forms, normal
from hornetmail.archive.keys.sources import Passphrase, Source
from hornetmail.disk.files import Disk

_ONCE = ": it was sealed under another secret; unlock the archive once, with its paper or with that"
_TAG = b"hornetmail-root-sealed-1"


class IRoots(Protocol):
    """Where a root key is read from and written to."""

    def read(self) -> bytes | None:
        """None: it is not here, or nobody has said yet what opens it. Raises KeyTrouble."""

    def write(self, root: bytes) -> None:
        """Durable on return. Raises KeyTrouble, OSError."""


class RootStore:
    """``plain``: the file of its own; ``sealed``: the other one. ``chosen``: what it shall lie under, None: nothing, the file of its own.
    ``others``: sources that are still configured, for a key that lies under one of them. Blocks."""

    def __init__(
        self, plain: RootFile, sealed: Path, disk: Disk, chosen: Source | None = None, others: Sequence[Source] = ()
    ) -> None:
        self._plain = plain
        self._sealed = sealed
        self._disk = disk
        self._chosen = chosen
        self._others = others
        self._elsewhere = False

    @property
    def source(self) -> str:
        """Where it shall lie, for people."""
        return self._chosen.name if self._chosen is not None else f"the file {self._plain.path.name}"

    @property
    def typed(self) -> bool:
        """Whether somebody has to type what opens it."""
        return self._chosen is not None and self._chosen.typed

    @property
    def elsewhere(self) -> bool:
        """Whether what was read last lay in another form than the chosen one."""
        return self._elsewhere

    def read(self) -> bytes | None:
        """See IRoots. A source that fails is passed over as long as another form is there."""
        self._elsewhere = False
        trouble: KeyTrouble | None = None
        for source in (self._chosen, *self._others) if self._chosen is not None else (None, *self._others):
            try:
                root = self._plain.read() if source is None else self._under(source)
            except KeyTrouble as error:
                trouble = trouble or error
                continue
            if root is not None:
                self._elsewhere = source is not self._chosen
                return root
        if self._chosen is not None and (root := self._plain.read()) is not None:
            self._elsewhere = True
            return root
        if trouble is None and self._sealed.exists() and self._chosen is None:
            trouble = KeyTrouble(f"the key is not in {self._plain.path}, but sealed in {self._sealed}{_ONCE}")
        if trouble is not None:
            raise trouble
        return None

    def tidy(self) -> None:
        """Remove what a crash left: another form beside the chosen one, which was read. OSError."""
        if not self._elsewhere:
            self._remove(self._sealed if self._chosen is None else self._plain.path)

    def write(self, root: bytes) -> None:
        """See IRoots. In the chosen form; any other goes afterwards. A source that gives something else each time it is asked would lock the archive for good: it is asked twice."""
        if self._chosen is None:
            self._plain.write(root)
            self._remove(self._sealed)
        else:
            secret = self._chosen.secret()
            if secret is None:
                raise KeyTrouble(f"{self._chosen.name} was not chosen yet: archive key passphrase, or the page Archive key")
            if self._chosen.secret() != secret:
                raise KeyTrouble(
                    f"{self._chosen.name} gives something else each time it is asked: nothing opens what is sealed under that"
                )
            self._write_sealed(root, secret)
            self._remove(self._plain.path)
        self._elsewhere = False

    def open_typed(self, passphrase: str) -> bytes:
        """The root key that lies sealed under what somebody typed, which is the passphrase from now on if one is asked for. Raises KeyTrouble: there
        is none, it is damaged, or this does not open it."""
        data = self._read_sealed()
        if data is None:
            raise KeyTrouble(f"no key lies under a passphrase ({self._sealed} is missing): unlock the archive with its paper")
        for secret in forms(passphrase):
            root = sealedroot.open_with(data, (secret,))
            if root is not None:
                self._elsewhere = not self._take(secret)
                return root
        raise KeyTrouble(f"this passphrase does not open the archive's key ({self._sealed})")

    def choose(self, passphrase: str) -> None:
        """The passphrase that ``write`` uses from now on, if one is asked for."""
        self._take(normal(passphrase).encode())

    def write_under(self, root: bytes, passphrase: str) -> None:
        """Write it under another passphrase, which counts once that is done. Raises KeyTrouble (none is asked for), OSError."""
        if not self.typed:
            raise KeyTrouble(f"the archive's key lies under {self.source}: no passphrase is asked for")
        secret = normal(passphrase).encode()
        self._write_sealed(root, secret)
        self._take(secret)
        self._remove(self._plain.path)
        self._elsewhere = False

    def check(self) -> None:
        """See whether anything lies in the chosen form, for ``elsewhere``."""
        self._elsewhere = not (self._plain.path if self._chosen is None else self._sealed).exists()

    def _take(self, secret: bytes) -> bool:
        if isinstance(self._chosen, Passphrase):
            self._chosen.take(secret)
            return True
        return False

    def _under(self, source: Source) -> bytes | None:
        data = self._read_sealed()
        if data is None:
            return None
        secret = source.secret()
        if secret is None:
            return None
        root = sealedroot.open_with(data, (secret,))
        if root is None:
            raise KeyTrouble(f"{source.name} does not open {self._sealed}{_ONCE}")
        return root

    def _read_sealed(self) -> bytes | None:
        try:
            words = self._sealed.read_bytes().split()
        except FileNotFoundError:
            return None
        try:
            tag, text, check = words
            data = bytes.fromhex(text.decode("ascii"))
            if tag != _TAG or len(data) != sealedroot.SIZE or binascii.crc32(data) != int(check, 16):
                raise ValueError
        except ValueError:
            raise KeyTrouble(f"{self._sealed} is damaged: unlock the archive with its paper") from None
        return data

    def _write_sealed(self, root: bytes, secret: bytes) -> None:
        data = sealedroot.close(root, secret)
        self._disk.make_directory(self._sealed.parent)
        line = b"%s %s %08x\n" % (_TAG, data.hex().encode(), binascii.crc32(data))
        self._disk.write_durably(self._sealed, line)

    def _remove(self, path: Path) -> None:
        if path.exists():
            self._disk.unlink(path)
            self._disk.sync_directory(path.parent)
