"""Proof (L2, rule 17): leaves of a Merkle tree with the hashing of RFC 6962 section 2.1, and the log of their hashes.

A leaf's number is given before its record is written, and stands in it. A number without a record is a void leaf: the leaf whose
input is empty. A leaf hash is salted, so it tells nothing; destroying the salt (lawful deletion) leaves the tree whole.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

LEAF_VERSION = 1
EMPTY_ROOT = hashlib.sha256(b"").digest()
VOID = hashlib.sha256(b"\x00").digest()
"""The hash of the leaf with empty input; every real input begins with ``LEAF_VERSION``."""

_HEAD = struct.Struct(">B32s32sQ")
_COUNT = struct.Struct(">I")


def leaf_input(
    salt: bytes, sha256: bytes, received: float, direction: str, feed: str, login: str, sender: str, recipients: Sequence[str]
) -> bytes:
    """What a leaf states: this mail (by its SHA-256), with this envelope, went this way at this time (milliseconds)."""
    parts = [_HEAD.pack(LEAF_VERSION, salt, sha256, milliseconds(received))]
    for text in (direction, feed, login, sender):
        parts.append(_text(text))
    parts.append(_COUNT.pack(len(recipients)))
    parts.extend(_text(text) for text in recipients)
    return b"".join(parts)


def milliseconds(seconds: float) -> int:
    """Unix seconds as whole milliseconds, never below 0."""
    return max(0, round(seconds * 1000))


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return _COUNT.pack(len(raw)) + raw


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962: SHA-256(0x00 || input)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the full subtrees of a growing tree: what it takes to add leaves and know the root, in O(log n) memory."""

    def __init__(self, size: int = 0, peaks: Iterable[tuple[int, bytes]] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)

    def add(self, leaf: bytes) -> None:
        """The next leaf's hash."""
        height = 0
        while self._peaks and self._peaks[-1][0] == height:
            leaf = node_hash(self._peaks.pop()[1], leaf)
            height += 1
        self._peaks.append((height, leaf))
        self.size += 1

    @property
    def peaks(self) -> tuple[tuple[int, bytes], ...]:
        """Height and root of each full subtree, from the left: with ``size``, all that it takes to go on."""
        return tuple(self._peaks)

    def root(self) -> bytes:
        """The Merkle tree hash of all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


def audit_path(number: int, leaves: Sequence[bytes]) -> list[bytes]:
    """The hashes that lead from leaf ``number`` to the root, lowest first (RFC 6962 section 2.1.1). Raises IndexError."""
    if not 0 <= number < len(leaves):
        raise IndexError(f"leaf {number} of {len(leaves)}")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if number < middle:
            path.append(tree_root(leaves[middle:high]))
            high = middle
        else:
            path.append(tree_root(leaves[low:middle]))
            low = middle
    path.reverse()
    return path


def root_from_path(number: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to, or None if its length is wrong for that leaf and tree (RFC 9162 section 2.1.3.2)."""
    if not 0 <= number < size:
        return None
    node, last, value = number, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            value = node_hash(sibling, value)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        node, last = node >> 1, last >> 1
    return value if last == 0 else None


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


_RUN = struct.Struct(">8sQQ")
_RUN_MAGIC = b"HMLEAF1\n"


def encode_run(first: int, hashes: Sequence[bytes]) -> bytes:
    """Leaf hashes with numbers from ``first`` on, as they lie in the leaf log and on the medium."""
    data = _RUN.pack(_RUN_MAGIC, first, len(hashes)) + b"".join(hashes)
    return data + hashlib.sha256(data).digest()


def decode_run(data: bytes) -> tuple[int, list[bytes]]:
    """Raises ValueError if it is damaged."""
    if len(data) < _RUN.size + 32 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise ValueError("a run of leaves is damaged (checksum)")
    magic, first, count = _RUN.unpack_from(data)
    if magic != _RUN_MAGIC or len(data) != _RUN.size + 32 * count + 32:
        raise ValueError("not a run of leaves")
    return first, [data[i : i + 32] for i in range(_RUN.size, _RUN.size + 32 * count, 32)]
