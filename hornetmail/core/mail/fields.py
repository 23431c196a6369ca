"""The fields of a header as bytes with their places: the one reader of them (RFC 5322 section 2.2). Pure, bounded, linear (``tests/cost/test_mime.py``)."""

from __future__ import annotations

import re
from collections.abc import Iterator

HEADER_BYTES = 1 << 20
"""A header is searched no further; the rest counts as body."""

FIELD_COUNT = 4_000
"""No more fields are read from one header."""

_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:((?:[^\n]*+\n(?=[ \t]))*+[^\n]*+(?:\n|\Z))")
_NAME = re.compile(rb"[!-9;-~]++[ \t]*+:")
_MBOX_LINES = re.compile(rb"(?:>*+From (?![ \t]*+:)[^\n]*+\n){1,100}+")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")

Fields = tuple[list[re.Match[bytes]], int, int]


def read_fields(data: bytes, start: int = 0, end: int | None = None) -> Fields:
    """Matches of all fields (group 1 the name, group 2 the raw value with its line ends), where they end, and where the body begins: behind the blank
    line, or with the first line that is no field. A line of an mbox before the first (``mbox_end``) is passed over."""
    if end is None:
        end = len(data)
    limit = min(end, start + HEADER_BYTES)
    found: list[re.Match[bytes]] = []
    pos = start
    match = _FIELD.match
    line = _MBOX_LINES.match(data, pos, limit)
    if line is not None:
        pos = line.end()
    while pos < limit and len(found) < FIELD_COUNT:
        field = match(data, pos, limit)
        if field is None:
            if data.startswith(b"\r\n", pos):
                return found, pos, min(pos + 2, end)
            if data.startswith(b"\n", pos):
                return found, pos, pos + 1
            return found, pos, pos
        found.append(field)
        pos = field.end()
    return found, pos, pos


def begins_field(data: bytes, at: int = 0, end: int | None = None) -> bool:
    """Whether a field begins there (RFC 5322 section 3.6.8; blanks before the colon as in section 4.5)."""
    return _NAME.match(data, at, len(data) if end is None else end) is not None


def mbox_end(data: bytes, start: int = 0) -> int:
    """Where a message begins whose first lines are those that an mbox file has before it, ``From `` or ``>From ``: programs that copy them along are
    many. ``start`` itself if there are none. (``From : a@b`` is a field, RFC 5322 section 4.5.)"""
    line = _MBOX_LINES.match(data, start)
    return start if line is None else line.end()


def each_field(block: bytes) -> Iterator[re.Match[bytes]]:
    """Matches of everything in a header block that somebody may take for a field, however many: lines that are none are passed over, as some
    programs do. For what must not be missed."""
    pos = 0
    while pos < len(block):
        field = _FIELD.match(block, pos)
        if field is not None:
            yield field
            pos = field.end()
        else:
            pos = block.find(b"\n", pos) + 1 or len(block)


def unfold(raw: bytes) -> bytes:
    """The value on one line, without white space around it (RFC 5322 section 2.2.3)."""
    value = raw.strip(b" \t\r\n")
    return _FOLD.sub(b"", value) if b"\n" in value else value
