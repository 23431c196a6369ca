"""Texts of many messages, one behind the other, as searches compare them: one look passes over all that have nothing of what is sought.

They are read from the index by the first search and stay in memory, within bounds, for those that follow (``tests/portal/test_stacks.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from hornetmail.core.folder import Sieve

HELD_BYTES = 48 << 20
"""Of all folders together; those not searched for the longest time go first."""

STACK_BYTES = 256 << 10
"""Smaller ones become one."""


class Stack:
    """Some messages' headers, and their bodies."""

    __slots__ = ("_ends", "bodies", "headers", "uids")

    def __init__(self, uids: Sequence[int], headers: bytes, bodies: bytes, ends: Sequence[tuple[int, int]]) -> None:
        self.uids = uids
        self.headers = headers
        self.bodies = bodies
        self._ends = ends

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.headers) + len(self.bodies) + 200 * len(self.uids)

    def sifted(self, sieve: Sieve) -> dict[int, bool]:
        """What the sieve says of each. For threads."""
        if not sieve.possible(self.headers, self.bodies):
            return dict.fromkeys(self.uids, False)
        return {uid: sieve.judge(uid, headers, body) for uid, headers, body in self.rows()}

    def rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Each message's UID, headers and body."""
        header = body = 0
        for uid, (header_end, body_end) in zip(self.uids, self._ends, strict=True):
            yield uid, self.headers[header:header_end], self.bodies[body:body_end]
            header, body = header_end + 1, body_end + 1


def stacked(rows: Sequence[tuple[int, bytes, bytes]]) -> Stack:
    """UIDs, headers and bodies; LF stands between any two of them."""
    ends: list[tuple[int, int]] = []
    header = body = -1
    for _, one, other in rows:
        header, body = header + 1 + len(one), body + 1 + len(other)
        ends.append((header, body))
    return Stack([row[0] for row in rows], b"\n".join([row[1] for row in rows]), b"\n".join([row[2] for row in rows]), ends)


class Stacks:
    """Those of folders, by their IDs. A message's text never changes, and its UID is never another's: what has gone is asked for no more."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self._most = most
        self._folders: OrderedDict[int, list[Stack]] = OrderedDict()
        self._held = 0

    def of(self, folder: int) -> Sequence[Stack]:
        """A folder's."""
        found = self._folders.get(folder)
        if found is None:
            return ()
        self._folders.move_to_end(folder)
        return tuple(found)

    def put(self, folder: int, stack: Stack) -> None:
        """Messages that are in none yet. Of a folder that is too large by itself the first ones stay: others would only push each other out."""
        mine = self._folders.setdefault(folder, [])
        self._folders.move_to_end(folder)
        while self._held + stack.size > self._most and len(self._folders) > 1:
            self.drop(next(iter(self._folders)))
        if self._held + stack.size <= self._most:
            self._held += stack.size
            if mine and mine[-1].size + stack.size <= STACK_BYTES:
                stack = stacked([*mine.pop().rows(), *stack.rows()])
            mine.append(stack)

    def drop(self, folder: int) -> None:
        """A folder has gone, or others need the room."""
        self._held -= sum(stack.size for stack in self._folders.pop(folder, ()))

    def clear(self) -> None:
        """Nothing stays."""
        self._folders.clear()
        self._held = 0
