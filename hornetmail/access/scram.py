"""What is kept of passwords for SCRAM-SHA-256 (RFC 5802, RFC 7677), sealed under the server key; and the same for those who do not exist (ADR 28).

A credential's text is ``base64(seal(salt(16) + iterations(4, big-endian) + stored key(32) + server key(32)))``; the password's argon2id hash is the seal's
context, so that keys of one password never stand beside another's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata

from hornetmail.disk.seal import BrokenSeal, Seal
from hornetmail.wire.sasl import ScramKeys

ITERATIONS = 65_536
"""Of PBKDF2: 25 ms where a password is set, and where a client proves that it knows it."""

SALT_BYTES = 16
_CONTEXT = b"SCRAM-SHA-256 "


def prepared(password: str) -> bytes:
    """What clients make of a password: SASLprep without its prohibitions (RFC 4013 sections 2.1 and 2.2)."""
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    return unicodedata.normalize("NFKC", mapped).encode("utf-8", "surrogatepass")


def derive(password: str, salt: bytes, iterations: int) -> ScramKeys:
    """The keys of a password (RFC 5802 section 3). Long work, to be done in a thread."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return ScramKeys(salt, iterations, hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256"))


class ScramSecrets:
    """``key``: 32 bytes that stay the same from start to start."""

    def __init__(self, key: bytes, iterations: int = ITERATIONS) -> None:
        self._seal = Seal(key)
        self._decoys = hmac.digest(key, b"decoys", "sha256")
        self._iterations = iterations

    def make(self, password: str, hashed: str) -> str:
        """What a credential keeps beside its hash. Long work, to be done in a thread."""
        keys = derive(password, secrets.token_bytes(SALT_BYTES), self._iterations)
        plain = keys.salt + keys.iterations.to_bytes(4, "big") + keys.stored + keys.server
        return base64.b64encode(self._seal.close(plain, _CONTEXT + hashed.encode())).decode("ascii")

    def keys(self, kept: str, hashed: str) -> ScramKeys | None:
        """The keys in it; None if there are none, or none of this hash or server key."""
        try:
            plain = self._seal.open(base64.b64decode(kept, validate=True), _CONTEXT + hashed.encode())
        except (BrokenSeal, binascii.Error):
            return None
        if len(plain) != SALT_BYTES + 68:
            return None
        return ScramKeys(plain[:16], int.from_bytes(plain[16:20], "big"), plain[20:52], plain[52:])

    def decoy(self, name: str) -> ScramKeys:
        """Keys whose password nobody knows: the same for the same name each time, and like anybody's, so that who asks learns nothing of who exists."""
        salt, stored, server = (
            hmac.digest(self._decoys, b"%b %b" % (use, name.encode("utf-8", "surrogatepass")), "sha256")
            for use in (b"salt", b"stored", b"server")
        )
        return ScramKeys(salt[:SALT_BYTES], self._iterations, stored, server)
