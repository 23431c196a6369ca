"""Sequence sets (RFC 3501 section 9, ``sequence-set``): kept as ranges, never as numbers."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

STAR = 0
"""``*`` in a range: the largest number in use."""

NUMBER_MAX = (1 << 32) - 1

_ELEMENT = re.compile(rb"(?:([1-9][0-9]{0,9})|\*)(?::(?:([1-9][0-9]{0,9})|(\*)))?(,|$)")


class SequenceSet(msgspec.Struct, frozen=True, gc=False):
    """``ranges`` as they were given, ``STAR`` for ``*``. ``saved``: it is ``$``, what the last search kept (RFC 5182), and has no ranges."""

    ranges: tuple[tuple[int, int], ...]
    saved: bool = False

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
    if raw == b"$":
        return SequenceSet((), saved=True)
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


def missing(wanted: Iterable[tuple[int, int]], uids: Sequence[int]) -> list[tuple[int, int]]:
    """What the sorted ranges ``wanted`` name and the sorted ``uids`` do not have: as ranges, so that a gap of millions costs nothing."""
    found: list[tuple[int, int]] = []
    for low, high in wanted:
        at = bisect_left(uids, low)
        while low <= high:
            there = uids[at] if at < len(uids) else high + 1
            if there > low:
                found.append((low, min(there - 1, high)))
            low, at = there + 1, at + 1
    return found


def rendered(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Ranges as a set."""
    return ",".join([str(low) if low == high else f"{low}:{high}" for low, high in ranges]).encode("ascii")


def agreed(numbers: SequenceSet, uids_then: SequenceSet, uids: Sequence[int]) -> int:
    """The highest UID up to which a client's pairs of number and UID are still true of ``uids``, 0 if none is (RFC 7162 section 3.2.5.2): what
    went, went behind it."""
    last = 0
    for number, uid in zip(_each(numbers), _each(uids_then), strict=False):
        if number > len(uids) or uids[number - 1] != uid:
            break
        last = uid
    return last


def _each(wanted: SequenceSet) -> Iterator[int]:
    for low, high in wanted.ranges:
        yield from range(min(low, high), max(low, high) + 1)


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """``numbers`` in their order, those that rise by one as ranges."""
    first = last = -1
    for n in numbers:
        if last < 0:
            first = n
        elif n != last + 1:
            yield first, last
            first = n
        last = n
    if last >= 0:
        yield first, last


def compressed(numbers: Iterable[int]) -> bytes:
    """The shortest set that names ``numbers`` in their order (``uid-set`` of RFC 4315): runs that rise by one become ranges."""
    return rendered(runs(numbers))
