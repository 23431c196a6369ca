"""The server key: what this machine's own files are sealed with (rule 24). The archive has keys of its own."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hornetmail.disk.files import Disk


class ServerKey:
    """32 random bytes in ``DIR/keys/server.key``; each use has a key of its own, derived by its label (RFC 5869)."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ValueError(f"a server key has 32 bytes, not {len(secret)}")
        self._secret = secret

    @classmethod
    def create(cls, path: Path, disk: Disk) -> ServerKey:
        """Make a new one, readable by its owner only."""
        secret = os.urandom(32)
        disk.write_durably(path, secret, 0o600)
        return cls(secret)

    @classmethod
    def load(cls, path: Path) -> ServerKey:
        """Raises OSError or ValueError naming the file."""
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def derive(self, label: str, length: int = 32) -> bytes:
        """The key for one use."""
        return HKDF(SHA256(), length, b"hornetmail server key", label.encode()).derive(self._secret)
