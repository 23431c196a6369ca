"""63-bit identifiers of (milliseconds, node, sequence) that sort by time (L15)."""

from __future__ import annotations

from collections.abc import Callable

EPOCH_MS = 1_704_067_200_000
"""2024-01-01T00:00:00Z; 41 bits of milliseconds last until 2093."""

NODE_BITS = 10
SEQUENCE_BITS = 12


class IdSource:
    """Hands out identifiers that only grow, even when the clock steps back.

    ``now`` gives seconds since 1970; ``node`` is this node's number, 0 to 1023.
    """

    def __init__(self, now: Callable[[], float], node: int = 0) -> None:
        if not 0 <= node < 1 << NODE_BITS:
            raise ValueError(f"node {node} is not within 0..{(1 << NODE_BITS) - 1}")
        self._now = now
        self._node = node
        self._last = 0
        self._sequence = 0

    def next(self) -> int:
        """The next identifier. A full millisecond borrows from the next one."""
        ms = int(self._now() * 1000) - EPOCH_MS
        if ms > self._last:
            self._last, self._sequence = ms, 0
        else:
            self._sequence += 1
            if self._sequence >> SEQUENCE_BITS:
                self._last, self._sequence = self._last + 1, 0
        return (self._last << NODE_BITS | self._node) << SEQUENCE_BITS | self._sequence


def milliseconds_of(identifier: int) -> int:
    """The Unix time in milliseconds at which an identifier was made."""
    return (identifier >> (NODE_BITS + SEQUENCE_BITS)) + EPOCH_MS
