"""What still reads of an object on a medium that has bad sectors: all but the smallest stretches that do not."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hornetmail.archive.media.medium import IMedium, MediumUnread

STRETCH = 1 << 20
"""Bytes that are asked for at first; halved where they do not read."""

SMALLEST = 4096
"""Bytes of a sector, or of a page: what is lost with one at least."""

MOST_FAILURES = 128
"""Reads that fail, each of which may take half a minute, before stretches are given up as they are."""


class ReadAround(msgspec.Struct, frozen=True, gc=False):
    """``data`` is as long as the object, with zeros in place of what does not read; ``unread``: those stretches, first byte and the one behind the last."""

    data: bytes
    unread: tuple[tuple[int, int], ...]


def read_around(medium: IMedium, name: str, size: int) -> ReadAround:
    """In a thread. ``size``: bytes of the object. Raises MediumUnread (nothing of it reads), MediumError."""
    pieces: list[bytes] = []
    unread: list[tuple[int, int]] = []
    for start, end, data in _pieces(medium, name, size):
        pieces.append(data if data is not None else bytes(end - start))
        if data is None and unread and unread[-1][1] == start:
            unread[-1] = (unread[-1][0], end)
        elif data is None:
            unread.append((start, end))
    if unread == [(0, size)]:
        raise MediumUnread(f"medium {medium.number}: nothing of {name} reads")
    return ReadAround(b"".join(pieces), tuple(unread))


def _pieces(medium: IMedium, name: str, size: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Stretches in their order; None: it does not read."""
    waiting = [(start, min(start + STRETCH, size)) for start in range(0, size, STRETCH)][::-1]
    failures = 0
    while waiting:
        start, end = waiting.pop()
        try:
            yield start, end, medium.get(name, start, end - start)
        except MediumUnread:
            failures += 1
            if end - start <= SMALLEST or failures >= MOST_FAILURES:
                yield start, end, None
                continue
            middle = start + (end - start + 1) // 2
            if middle - start > SMALLEST:
                middle -= middle % SMALLEST
            waiting += [(middle, end), (start, middle)]
