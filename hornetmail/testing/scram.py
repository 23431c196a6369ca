"""A client of SCRAM-SHA-256 (RFC 5802), written from the other side, for tests."""

from __future__ import annotations

import base64
import hashlib
import hmac


class ScramClient:
    """``bound``: what the channel is known by, with its kind as ``header`` says it (``p=tls-exporter,,``)."""

    def __init__(
        self, user: str, password: str, *, header: str = "n,,", bound: bytes = b"", nonce: str = "fyko+d2lbbFgONRv9qkxdawL"
    ) -> None:
        self._password = password.encode()
        self._header = header.encode()
        self._bound = bound
        self._bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}".encode()
        self._server = b""
        self.first = self._header + self._bare

    def last(self, challenge: bytes) -> bytes:
        """The answer to the server's first message."""
        parts = dict(piece.split(b"=", 1) for piece in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(parts[b"s"]), int(parts[b"i"]))
        key = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
        said = b"c=" + base64.b64encode(self._header + self._bound) + b",r=" + parts[b"r"]
        everything = b",".join((self._bare, challenge, said))
        signature = hmac.new(hashlib.sha256(key).digest(), everything, hashlib.sha256).digest()
        server = hmac.new(salted, b"Server Key", hashlib.sha256).digest()
        self._server = b"v=" + base64.b64encode(hmac.new(server, everything, hashlib.sha256).digest())
        return said + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))

    def knows(self, verdict: bytes) -> bool:
        """Whether the server proved that it knows the password's keys."""
        return verdict == self._server


def b64(data: bytes) -> bytes:
    """As it goes over the line."""
    return base64.b64encode(data)


def unb64(line: bytes, lead: bytes) -> bytes:
    """What a challenge says behind ``lead``."""
    assert line.startswith(lead), line
    return base64.b64decode(line[len(lead) :].strip())
