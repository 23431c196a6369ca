"""The archive's keys (A2-A6, rule 22): a root key on paper that wraps random data keys, and the file that holds the wrapped ones.

The keyring file lies beside ``archive.db`` and on every medium, so that media and root key alone open everything (L3). Its bytes are
described in ``docs/formats/archive.rst``. The private half of an X25519 pair is wrapped like any other key; its public half lies open, so
that mail can be sealed while the root key is not there.
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import hmac
import secrets
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hornetmail.core.archive.archived import ArchiveError
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import BrokenSeal, Seal

ROOT_BYTES = 32
KEYRING_NAME = "keyring"

_MAGIC = b"HMKEYS1\n"
_LENGTH = struct.Struct(">I")
_CONTEXT = struct.Struct(">BIQI")


class KeyTrouble(ArchiveError):
    """A key is missing, wrong, or its file is damaged; the message says which."""


class KeyringDamaged(KeyTrouble):
    """What lies there is no keyring, or not as it was written; a copy lies on every medium."""


class KeyReplaced(KeyTrouble):
    """The root key is one that was replaced: the message names it and the one in force."""


class Purpose(enum.IntEnum):
    """What a wrapped key is for. The numbers stand in files."""

    DATA = 1
    DATABASE = 2
    SEALED_BOX = 3
    LOOKUP = 4


_SIZES = {Purpose.DATA: 32, Purpose.DATABASE: 48, Purpose.SEALED_BOX: 32, Purpose.LOOKUP: 32}
"""Bytes of each; a database key is 32 bytes of key and 16 of salt, as SQLCipher takes them raw."""


class _Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    number: int
    purpose: int
    tenant: int
    year: int
    wrapped: bytes


class _Body(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    serial: int
    archive: bytes
    root: bytes
    public: bytes
    entries: tuple[_Entry, ...]
    former: tuple[bytes, ...] = ()
    eras: tuple[tuple[int, int], ...] = ()


NODE_BITS = 22
"""A key's number is the node that made it, shifted left by these, and its count there: so two nodes never give one number to two keys."""


def new_root() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(ROOT_BYTES)


def root_id(root: bytes) -> bytes:
    """8 bytes that name a root key and tell nothing of it."""
    return _derive(root, b"hornetmail root id 1", 8)


def _derive(secret: bytes, info: bytes, length: int = 32, salt: bytes | None = None) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def _wrap_context(purpose: int, number: int, tenant: int, year: int) -> bytes:
    return b"hornetmail key wrap 1" + _CONTEXT.pack(purpose, number, tenant, year)


class RootFile:
    """Where the running service has the root key, so that it starts unattended: one line of text, mode 0600."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    def write(self, root: bytes) -> None:
        """Durable on return."""
        check = binascii.crc32(root)
        self._disk.make_directory(self._path.parent)
        self._disk.write_durably(self._path, b"hornetmail-root-1 %s %08x\n" % (root.hex().encode(), check))

    def read(self) -> bytes | None:
        """The key, or None if there is none (locked). Raises KeyTrouble if the file is damaged."""
        try:
            words = self._path.read_bytes().split()
        except FileNotFoundError:
            return None
        try:
            tag, text, check = words
            root = bytes.fromhex(text.decode("ascii"))
            if tag != b"hornetmail-root-1" or len(root) != ROOT_BYTES or binascii.crc32(root) != int(check, 16):
                raise ValueError
        except ValueError:
            raise KeyTrouble(f"{self._path} is damaged: type the key in again from its paper") from None
        return root


class Keyring:
    """The wrapped keys of one archive, opened with its root key, or locked without it."""

    def __init__(self, body: _Body, root: bytes | None) -> None:
        self._body = body
        self._root = root
        self._seals: dict[int, Seal] = {}
        era, eras = len(body.former), dict(body.eras)
        data = sorted(
            (e for e in body.entries if e.purpose == Purpose.DATA and eras.get(e.number, 0) == era), key=lambda e: -e.number
        )
        self._data = {(e.tenant, e.year): e.number for e in data}
        self._private: X25519PrivateKey | None = None
        self._public = X25519PublicKey.from_public_bytes(body.public)
        if root is not None:
            raw = self._unwrap(self._only(Purpose.SEALED_BOX))
            self._private = X25519PrivateKey.from_private_bytes(raw)
            if self._private.public_key().public_bytes_raw() != body.public:
                raise KeyTrouble("the keyring's public key does not belong to its private key")

    @classmethod
    def create(cls, root: bytes) -> Keyring:
        """A new archive's keyring: a name, a database key, a lookup key and the X25519 pair."""
        private = X25519PrivateKey.generate()
        raw = {
            Purpose.DATABASE: secrets.token_bytes(_SIZES[Purpose.DATABASE]),
            Purpose.SEALED_BOX: private.private_bytes_raw(),
            Purpose.LOOKUP: secrets.token_bytes(_SIZES[Purpose.LOOKUP]),
        }
        seal = Seal(root)
        entries = tuple(
            _Entry(number, purpose, 0, 0, seal.close(key, _wrap_context(purpose, number, 0, 0)))
            for number, (purpose, key) in enumerate(raw.items(), 1)
        )
        body = _Body(1, secrets.token_bytes(16), root_id(root), private.public_key().public_bytes_raw(), entries)
        return cls(body, root)

    @classmethod
    def from_bytes(cls, data: bytes, root: bytes | None) -> Keyring:
        """Read a keyring file. Raises KeyTrouble: damaged, or of another root key."""
        if not data.startswith(_MAGIC) or len(data) < 12:
            raise KeyringDamaged("not a keyring")
        (length,) = _LENGTH.unpack_from(data, 8)
        end = 12 + length
        if len(data) != end + 36 or binascii.crc32(data[:end]) != _LENGTH.unpack_from(data, end)[0]:
            raise KeyringDamaged("the keyring is damaged (checksum)")
        try:
            body = msgspec.msgpack.decode(data[12:end], type=_Body)
        except ValueError as error:
            raise KeyringDamaged(f"the keyring is damaged ({error})") from None
        if root is not None:
            if body.root != root_id(root):
                raise _other_root(body, root_id(root))
            if not hmac.compare_digest(_mac(root, data[:end]), data[end + 4 :]):
                raise KeyringDamaged("the keyring was changed by somebody without the root key")
        return cls(body, root)

    def to_bytes(self) -> bytes:
        """The keyring file. Needs the root key."""
        if self._root is None:
            raise KeyTrouble("the archive key is locked")
        encoded = msgspec.msgpack.encode(self._body)
        data = _MAGIC + _LENGTH.pack(len(encoded)) + encoded
        return data + _LENGTH.pack(binascii.crc32(data)) + _mac(self._root, data)

    def reading(self, data: bytes) -> Keyring:
        """Another keyring file, opened with the root key of this one. Raises KeyTrouble."""
        return Keyring.from_bytes(data, self._root)

    @property
    def locked(self) -> bool:
        """Without the root key: sealing works, opening does not."""
        return self._root is None

    @property
    def archive(self) -> bytes:
        """16 random bytes that name the archive; they stand on each of its media."""
        return self._body.archive

    @property
    def root(self) -> bytes:
        """The ID of the root key that these are wrapped under."""
        return self._body.root

    @property
    def root_key(self) -> bytes:
        """The root key itself. Raises KeyTrouble while locked."""
        if self._root is None:
            raise KeyTrouble("the archive key is locked")
        return self._root

    @property
    def former(self) -> tuple[bytes, ...]:
        """The IDs of the root keys that were in force before it, oldest first."""
        return self._body.former

    @property
    def serial(self) -> int:
        """Grows with each key, and with each change of the root key."""
        return self._body.serial

    @property
    def numbers(self) -> frozenset[int]:
        """All key numbers."""
        return frozenset(e.number for e in self._body.entries)

    @property
    def public(self) -> X25519PublicKey:
        """What is sealed to while the key is locked."""
        return self._public

    @property
    def private(self) -> X25519PrivateKey:
        """Raises KeyTrouble while locked."""
        if self._private is None:
            raise KeyTrouble("the archive key is locked")
        return self._private

    def copy_of(self, data: bytes) -> Keyring:
        """Another file of this archive's keys, as it lay on a medium. Raises KeyTrouble: damaged, changed, or not an earlier state of this one."""
        found = Keyring.from_bytes(data, self._root)
        if found.archive != self.archive:
            raise KeyTrouble(f"the keyring belongs to another archive ({found.archive.hex()})")
        if found.serial > self.serial or not set(found._body.entries) <= set(self._body.entries):
            raise KeyTrouble("its wrapped keys are not those in force")
        return found

    def follows(self, data: bytes) -> bool:
        """Whether a keyring file is this archive's from before a change of the root key. Its own root key is not here, so that no more than its
        checksum vouches for it. Raises KeyTrouble: damaged."""
        found = Keyring.from_bytes(data, None)
        return found.archive == self.archive and found.root in self.former and found.serial < self.serial

    def database_key(self) -> bytes:
        """48 bytes for ``archive.db``."""
        return self._unwrap(self._only(Purpose.DATABASE))

    def lookup_key(self) -> bytes:
        """32 bytes for keyed hashes of attachment parts."""
        return self._unwrap(self._only(Purpose.LOOKUP))

    def data_number(self, tenant: int, year: int) -> int | None:
        """The number of a tenant's data key of a year, if it has been made under the present root key: whoever had the one before may have read
        the others. Of several (two nodes made one at a time) the lowest."""
        return self._data.get((tenant, year))

    def with_data(self, wanted: Iterable[tuple[int, int]], node: int = 0) -> Keyring:
        """This keyring with data keys for these (tenant, year) pairs, made by a node. It must be on disk before a key of it is used."""
        if self._root is None:
            raise KeyTrouble("the archive key is locked")
        seal = Seal(self._root)
        entries, eras = list(self._body.entries), dict(self._body.eras)
        number = max((e.number for e in entries if e.number >> NODE_BITS == node), default=node << NODE_BITS)
        for tenant, year in sorted(set(wanted) - set(self._data)):
            number += 1
            raw = secrets.token_bytes(_SIZES[Purpose.DATA])
            wrapped = seal.close(raw, _wrap_context(Purpose.DATA, number, tenant, year))
            entries.append(_Entry(number, Purpose.DATA, tenant, year, wrapped))
            eras[number] = len(self.former)
        if len(entries) == len(self._body.entries):
            return self
        return Keyring(_with(self._body, entries, eras), self._root)

    def united(self, other: Keyring) -> Keyring:
        """All keys of two keyrings of one archive under one root key, whoever wrote them; this one, if it has them all. Raises KeyTrouble: they
        are of another archive or root key, or give one number to two keys."""
        if (other.archive, other.root, other._body.public) != (self.archive, self.root, self._body.public):
            raise KeyTrouble("keyrings of two archives, or under two root keys, cannot be united")
        entries = {e.number: e for e in self._body.entries}
        for entry in other._body.entries:
            known = entries.setdefault(entry.number, entry)
            if known != entry and (_kind(known) != _kind(entry) or other._unwrap(entry) != self._unwrap(known)):
                raise KeyTrouble(
                    f"key {entry.number} is one key here and another there: is this an older copy of the data directory?"
                )
        if len(entries) == len(self._body.entries):
            return self
        return Keyring(_with(self._body, entries.values(), dict((*other._body.eras, *self._body.eras)), other.serial), self._root)

    def rewrapped(self, root: bytes) -> Keyring:
        """The same keys under a new root key; the ID of the one before is kept, so that its paper is known as older."""
        seal = Seal(root)
        entries = tuple(
            msgspec.structs.replace(e, wrapped=seal.close(self._unwrap(e), _wrap_context(e.purpose, e.number, e.tenant, e.year)))
            for e in self._body.entries
        )
        former = (*self.former, self.root)
        body = msgspec.structs.replace(self._body, serial=self.serial + 1, root=root_id(root), entries=entries, former=former)
        return Keyring(body, root)

    def seal(self, number: int) -> Seal:
        """The data key with a number. Raises KeyTrouble: locked, or there is no such key."""
        found = self._seals.get(number)
        if found is None:
            for entry in self._body.entries:
                if entry.number == number and entry.purpose == Purpose.DATA:
                    found = self._seals[number] = Seal(self._unwrap(entry))
                    return found
            raise KeyTrouble(f"key {number} is not in the keyring")
        return found

    def _only(self, purpose: Purpose) -> _Entry:
        for entry in self._body.entries:
            if entry.purpose == purpose:
                return entry
        raise KeyTrouble(f"the keyring holds no {purpose.name.lower()} key")

    def _unwrap(self, entry: _Entry) -> bytes:
        if self._root is None:
            raise KeyTrouble("the archive key is locked")
        context = _wrap_context(entry.purpose, entry.number, entry.tenant, entry.year)
        try:
            return Seal(self._root).open(entry.wrapped, context)
        except BrokenSeal:
            raise KeyTrouble(f"wrapped key {entry.number} does not open") from None


def _kind(entry: _Entry) -> tuple[int, int, int]:
    return entry.purpose, entry.tenant, entry.year


def _with(body: _Body, entries: Iterable[_Entry], eras: dict[int, int], serial: int = 0) -> _Body:
    """With other entries; the serial grows beyond both. An era of 0 is not written."""
    ordered = tuple(sorted(entries, key=lambda e: e.number))
    return msgspec.structs.replace(
        body, serial=max(body.serial, serial) + 1, entries=ordered, eras=tuple(sorted((n, era) for n, era in eras.items() if era))
    )


def _other_root(body: _Body, found: bytes) -> KeyTrouble:
    text = f"the keyring belongs to root key {body.root.hex()}, not to {found.hex()}"
    if found not in body.former:
        return KeyTrouble(text)
    return KeyReplaced(f"{text}: key {found.hex()} is older and was replaced, the paper of key {body.root.hex()} is needed")


def _mac(root: bytes, data: bytes) -> bytes:
    return hmac.new(_derive(root, b"hornetmail keyring mac 1"), data, hashlib.sha256).digest()
