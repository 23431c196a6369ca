"""The root key under a secret: a password on paper, a passphrase, what a credential or a command gives (A5). 94 bytes, described in
``docs/formats/archive.rst`` under *Key on paper*."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable

from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw

from hornetmail.archive.keys.keyring import ROOT_BYTES, KeyTrouble, root_id
from hornetmail.disk.seal import BrokenSeal, Seal

_HEAD = struct.Struct(">B8sIIB16s")
VERSION = 1
SIZE = _HEAD.size + 12 + ROOT_BYTES + 16
_MAX_MEMORY_KIB = 1 << 20
_MAX_TIME = 64


def close(root: bytes, secret: bytes, *, memory_kib: int = 65536, time: int = 3, lanes: int = 1) -> bytes:
    """Blocking: argon2id, a fifth of a second."""
    salt = secrets.token_bytes(16)
    head = _HEAD.pack(VERSION, root_id(root), memory_kib, time, lanes, salt)
    return head + Seal(_stretch(secret, salt, memory_kib, time, lanes)).close(root, head)


def name_of(sealed: bytes) -> bytes:
    """The ID of the root key inside; it says nothing of whether it opens."""
    return bytes(sealed[1:9])


def open_with(sealed: bytes, tried: Iterable[bytes]) -> bytes | None:
    """The root key; None: none of these secrets opens it. Blocking. Raises KeyTrouble: it asks for more memory or time than anything that was made
    here."""
    _, _, memory_kib, rounds, lanes, salt = _HEAD.unpack_from(sealed)
    if memory_kib > _MAX_MEMORY_KIB or rounds > _MAX_TIME:
        raise KeyTrouble("the key text asks for more memory or time than any that was made here")
    for secret in tried:
        try:
            return Seal(_stretch(secret, salt, memory_kib, rounds, lanes)).open(sealed[_HEAD.size : SIZE], sealed[: _HEAD.size])
        except BrokenSeal:
            continue
        except HashingError as error:
            raise KeyTrouble(
                f"the key text asks for what argon2 does not do ({error}): nothing that was made here does"
            ) from None
    return None


def _stretch(secret: bytes, salt: bytes, memory_kib: int, time: int, lanes: int) -> bytes:
    return hash_secret_raw(secret, salt, time, memory_kib, lanes, 32, Type.ID)
