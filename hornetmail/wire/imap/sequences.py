"""Sequence sets (RFC 3501 section 9, ``sequence-set``): kept as ranges, never as numbers."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import msgspec

STAR = 0
"""``*`` in a range: the largest number in use."""

NUMBER_MAX = (1 << 32) - 1

_ELEMENT = re.compile(rb"(?:([1-9][0-9]{0,9})|\*)(?::(?:([1-9][0-9]{0,9})|(\*)))?(,|$)")


class SequenceSet(msgspec.Struct, frozen=True, gc=False):
    """``ranges`` as they were given, ``STAR`` for ``*``."""

    ranges: tuple[tuple[int, int], ...]

    def resolved(self, top: int) -> list[tuple[int, int]]:
        """Sorted ranges that do not touch one another, ``*`` standing for ``top``."""
        plain = sorted((min(a or top, b or top), max(a or top, b or top)) for a, b in self.ranges)
        out: list[tuple[int, int]] = []
        for low, high in plain:
            if out and low <= out[-1][1] + 1:
                if high > out[-1][1]:
                    out[-1] = (out[-1][0], high)
            else:
                out.append((low, high))
        return out

    @property
    def single(self) -> bool:
        """Whether it can name one message only."""
        return len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]

    def beyond(self, top: int) -> bool:
        """Whether a range without ``*`` reaches above ``top``: messages that do not exist (section 9, ``seq-number``). ``1:*`` in an
        empty folder is no mistake."""
        return any(a and b and (a > top or b > top) for a, b in self.ranges)


def parse_sequence_set(raw: bytes) -> SequenceSet | None:
    """None if it is no sequence set. Linear in its length."""
    ranges: list[tuple[int, int]] = []
    at, match = 0, None
    while match is None or match[4]:
        match = _ELEMENT.match(raw, at)
        if match is None:
            return None
        low = int(match[1] or STAR)
        high = int(match[2]) if match[2] else STAR if match[3] else low
        if low > NUMBER_MAX or high > NUMBER_MAX:
            return None
        ranges.append((low, high))
        at = match.end()
    return SequenceSet(tuple(ranges))


def spans_of_numbers(wanted: SequenceSet, count: int) -> list[tuple[int, int]]:
    """Half-open index spans of messages 1 to ``count``."""
    if not count:
        return []
    return [(low - 1, min(high, count)) for low, high in wanted.resolved(count) if low <= count]


def spans_of_uids(wanted: SequenceSet, uids: Sequence[int]) -> list[tuple[int, int]]:
    """Half-open index spans of the sorted ``uids``; UIDs that do not exist are passed over (section 6.4.8)."""
    if not uids:
        return []
    spans = ((bisect_left(uids, low), bisect_right(uids, high)) for low, high in wanted.resolved(uids[-1]))
    return [span for span in spans if span[0] < span[1]]


def compressed(numbers: Iterable[int]) -> bytes:
    """The shortest set that names ``numbers`` in their order (``uid-set`` of RFC 4315): runs that rise by one become ranges."""
    pieces: list[str] = []
    first = last = -1
    for n in numbers:
        if n == last + 1 and last >= 0:
            last = n
            continue
        if last >= 0:
            pieces.append(str(first) if first == last else f"{first}:{last}")
        first = last = n
    if last >= 0:
        pieces.append(str(first) if first == last else f"{first}:{last}")
    return ",".join(pieces).encode("ascii")
