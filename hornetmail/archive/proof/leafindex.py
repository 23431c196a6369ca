"""What makes one leaf cheap to prove: the roots of blocks of leaves, and where in the log each run lies.

It is made from the log, and kept beside it in a file, so that it is not made anew at each start; a file that does not fit the log counts for nothing.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence

import msgspec

from hornetmail.archive.proof.leaves import audit_path, node_hash, split_at, tree_root
from hornetmail.disk.records import Position

BLOCK = 1024
"""Leaves of a block whose root is kept."""

_MAGIC = b"HMLIDX1\n"


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """``runs``: first leaf, how many, segment and offset in the log; ``blocks``: the roots of whole blocks, one after the other; ``rest``: the leaves behind them."""

    runs: list[tuple[int, int, int, int]]
    blocks: bytes
    rest: bytes


class LeafIndex:
    """Grows with the log. A path, or the root of an earlier size, takes at most ``2 * BLOCK`` leaves read back and one hash a block (``tests/cost/test_proof.py``).
    Memory: 32 bytes for each ``BLOCK`` leaves, and some for each run. ``read`` gives the hashes of the run at a position."""

    def __init__(self, read: Callable[[int, Position], Sequence[bytes]]) -> None:
        self._read = read
        self._runs: list[tuple[int, int, int, int]] = []
        self._blocks: list[bytes] = []
        self._rest: list[bytes] = []

    @property
    def size(self) -> int:
        """Leaves in it."""
        return len(self._blocks) * BLOCK + len(self._rest)

    @property
    def runs(self) -> int:
        """How many runs."""
        return len(self._runs)

    @property
    def last(self) -> tuple[int, Position] | None:
        """First leaf and place of the last run."""
        if not self._runs:
            return None
        first, _, segment, offset = self._runs[-1]
        return first, Position(segment, offset)

    def add(self, hashes: Sequence[bytes], position: Position) -> None:
        """The next run."""
        self._runs.append((self.size, len(hashes), position.segment, position.offset))
        self._rest += hashes
        while len(self._rest) >= BLOCK:
            self._blocks.append(tree_root(self._rest[:BLOCK]))
            del self._rest[:BLOCK]

    def root_at(self, size: int) -> bytes:
        """The root when there were ``size`` leaves. Raises IndexError."""
        if not 0 <= size <= self.size:
            raise IndexError(f"a tree of {size} leaves, of {self.size}")
        return self._subtree(0, size)

    def path(self, number: int, size: int) -> list[bytes]:
        """The audit path of a leaf in the tree of the first ``size`` leaves, lowest first (RFC 6962 section 2.1.1). Raises IndexError."""
        if not 0 <= number < size <= self.size:
            raise IndexError(f"leaf {number} of {size}, of {self.size}")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > BLOCK:
            middle = low + split_at(high - low)
            if number < middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low = middle
        return audit_path(number - low, self.stretch(low, high)) + path[::-1]

    def _subtree(self, low: int, high: int) -> bytes:
        if high - low == BLOCK and low % BLOCK == 0:
            return self._blocks[low // BLOCK]
        if high - low <= BLOCK:
            return tree_root(self.stretch(low, high))
        middle = low + split_at(high - low)
        return node_hash(self._subtree(low, middle), self._subtree(middle, high))

    def stretch(self, low: int, high: int) -> list[bytes]:
        """Leaves ``low`` to ``high`` - 1, read back from the runs that hold them."""
        found: list[bytes] = []
        at = bisect_right(self._runs, low, key=lambda run: run[0]) - 1
        while len(found) < high - low:
            first, _, segment, offset = self._runs[at]
            begin = low + len(found) - first
            found += self._read(first, Position(segment, offset))[begin : begin + high - low - len(found)]
            at += 1
        return found

    def to_bytes(self) -> bytes:
        """As it is kept."""
        data = _MAGIC + msgspec.msgpack.encode(_Kept(self._runs, b"".join(self._blocks), b"".join(self._rest)))
        return data + hashlib.sha256(data).digest()

    def load(self, data: bytes) -> bool:
        """Take what was kept; False, and nothing taken, if it is damaged."""
        if data[:8] != _MAGIC or hashlib.sha256(data[:-32]).digest() != data[-32:]:
            return False
        try:
            kept = msgspec.msgpack.decode(data[8:-32], type=_Kept)
        except ValueError:
            return False
        self._runs = kept.runs
        self._blocks, self._rest = ([one[at : at + 32] for at in range(0, len(one), 32)] for one in (kept.blocks, kept.rest))
        return bool(self._runs)
