"""Heads of the leaf log, and the stamps on them (A33, L2), as they lie beside it and on every medium.

A head says how many leaves the log of a node has, their root, and what the stamp before was; an authority stamps the head. So each stamp holds all
stamps before it: one that was made while the one before was still good keeps that one good after its certificate has ended (the idea of RFC 4998).
"""

from __future__ import annotations

import hashlib
import struct

import msgspec

_HEAD = struct.Struct(">8sIQQ32sQ64s")
HEAD_BYTES = _HEAD.size
LINK_BYTES = HEAD_BYTES + 64
_HEAD_MAGIC = b"HMHEAD1\n"
_STAMP_MAGIC = b"HMSTMP1\n"
_LENGTH = struct.Struct(">I")

NONE = bytes(64)
"""Stands for the stamp before the first."""


class StampBroken(ValueError):
    """Bytes that are no head or stamp; the message says why."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """What is stamped. ``number``: of the stamp, from 0, per node. ``size`` leaves have that ``root``. ``made``: Unix milliseconds by our clock. ``before``: the
    link of the stamp before, or ``NONE``."""

    node: int
    number: int
    size: int
    root: bytes
    made: int
    before: bytes

    def to_bytes(self) -> bytes:
        """What the authority stamps."""
        return _HEAD.pack(_HEAD_MAGIC, self.node, self.number, self.size, self.root, self.made, self.before)


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """A head, the token on it, who gave it, and the CA certificates (DER) that it was held against."""

    head: Head
    token: bytes
    authority: str
    certificates: tuple[bytes, ...]

    @property
    def link(self) -> bytes:
        """What the next head says of this stamp."""
        return link_of(self.head.to_bytes(), hashlib.sha512(self.token).digest())

    def to_bytes(self) -> bytes:
        """As it lies on the disk."""
        name = self.authority.encode()
        parts = [_STAMP_MAGIC, self.head.to_bytes()]
        for one in (self.token, name):
            parts += [_LENGTH.pack(len(one)), one]
        parts.append(_LENGTH.pack(len(self.certificates)))
        for one in self.certificates:
            parts += [_LENGTH.pack(len(one)), one]
        data = b"".join(parts)
        return data + hashlib.sha256(data).digest()


def link_of(head: bytes, token_digest: bytes) -> bytes:
    """SHA-512 over a head and the SHA-512 of its token: a chain of links needs no tokens."""
    return hashlib.sha512(head + token_digest).digest()


def read_head(data: bytes) -> Head:
    """Raises StampBroken."""
    if len(data) != HEAD_BYTES or data[:8] != _HEAD_MAGIC:
        raise StampBroken("not a head of the leaf log")
    _, node, number, size, root, made, before = _HEAD.unpack(data)
    return Head(node, number, size, root, made, before)


def read_stamp(data: bytes) -> Stamp:
    """Raises StampBroken."""
    if len(data) < 8 + HEAD_BYTES + 32 or data[:8] != _STAMP_MAGIC:
        raise StampBroken("not a stamp")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise StampBroken("a stamp is damaged (checksum)")
    at, end = 8 + HEAD_BYTES, len(data) - 32
    try:
        token, at = _take(data, at, end)
        name, at = _take(data, at, end)
        (count,) = _LENGTH.unpack_from(data[:end], at)
        at += _LENGTH.size
        certificates = []
        for _ in range(count):
            one, at = _take(data, at, end)
            certificates.append(one)
        authority = name.decode()
    except (struct.error, UnicodeDecodeError):
        raise StampBroken("a stamp is damaged (lengths)") from None
    if at != end:
        raise StampBroken("a stamp is damaged (something follows it)")
    return Stamp(read_head(data[8 : 8 + HEAD_BYTES]), token, authority, tuple(certificates))


def _take(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(data[:end], at)
    at += _LENGTH.size
    if at + length > end:
        raise StampBroken("a stamp is damaged (lengths)")
    return data[at : at + length], at + length
