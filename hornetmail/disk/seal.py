"""AES-256-GCM with random nonces that are stored in front of what they sealed."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD = NONCE_BYTES + TAG_BYTES
"""By how much the sealed form is longer."""


class BrokenSeal(Exception):
    """What was opened is not what was sealed: another key, another context, or changed bytes."""


class Seal:
    """One key of 32 bytes. May be used from several threads at once."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a seal's key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._cipher = AESGCM(key)

    def close(self, plain: bytes, context: bytes) -> bytes:
        """``nonce(12) + ciphertext + tag(16)``; ``context`` is authenticated, not stored, and needed to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plain bytes. Raises BrokenSeal."""
        if len(sealed) < OVERHEAD:
            raise BrokenSeal("shorter than nonce and tag")
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except InvalidTag:
            raise BrokenSeal("the tag does not match") from None

    def opening(self, nonce: bytes, context: bytes) -> Opening:
        """To open what is too large to be held, piece by piece."""
        return Opening(self._key, nonce, context)

    def derive(self, purpose: bytes) -> Seal:
        """A seal of its own for ``purpose`` (HKDF-SHA256, RFC 5869): each holds so few messages that random nonces cannot meet."""
        return Seal(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"hornetmail seal " + purpose).derive(self._key))

    def mark(self) -> bytes:
        """8 bytes that are the same for the same key and tell nothing else about it."""
        return HKDF(algorithm=SHA256(), length=8, salt=None, info=b"hornetmail mark").derive(self._key)


class Opening:
    """Opens the ciphertext behind a nonce in pieces. What it gives is proved by nothing before ``end``: keep it from everybody until then."""

    def __init__(self, key: bytes, nonce: bytes, context: bytes) -> None:
        self._cipher = Cipher(AES(key), GCM(nonce)).decryptor()
        self._cipher.authenticate_additional_data(context)

    def feed(self, piece: bytes) -> bytes:
        """A piece of the ciphertext, without the tag."""
        return self._cipher.update(piece)

    def end(self, tag: bytes) -> None:
        """All of it came. Raises BrokenSeal."""
        try:
            self._cipher.finalize_with_tag(tag)
        except (InvalidTag, ValueError):
            raise BrokenSeal("the tag does not match") from None
