"""Mailbox names: modified UTF-7 (RFC 3501 section 5.1.3) and the wildcards of LIST (section 6.3.8)."""

from __future__ import annotations

import binascii
import re

DELIMITER = "/"
"""Between the levels of a name; the same for every tree."""

_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Control characters, and ends of lines and paragraphs (RFC 6855 section 3)."""

NAME_BYTES = 1000
"""No mailbox name is longer on the wire."""


def decode_name(raw: bytes, *, utf8: bool = False) -> str:
    """The text of a mailbox name. ``INBOX`` in any case becomes ``INBOX``, as a first level too.

    Raises ValueError if it is no modified UTF-7. UTF-8 is understood as well: clients that send it mean it. ``utf8``: it is UTF-8 and
    nothing else (RFC 6855 section 3).
    """
    if utf8:
        name = raw.decode("utf-8")
    elif raw.isascii():
        name = _decode_utf7(raw) if b"&" in raw else raw.decode("ascii")
    else:
        name = raw.decode("utf-8")
    if _FORBIDDEN.search(name):
        raise ValueError("a control character in a mailbox name")
    if name[:5].upper() == "INBOX" and (len(name) == 5 or name[5] == DELIMITER):
        name = "INBOX" + name[5:]
    return name


def _decode_utf7(raw: bytes) -> str:
    pieces: list[str] = []
    at = 0
    while (start := raw.find(b"&", at)) >= 0:
        end = raw.find(b"-", start)
        if end < 0:
            raise ValueError("a shift in a mailbox name does not end")
        pieces.append(raw[at:start].decode("ascii"))
        shifted = raw[start + 1 : end]
        if not shifted:
            pieces.append("&")
        else:
            padded = shifted.replace(b",", b"/") + b"=" * (-len(shifted) % 4)
            try:
                units = binascii.a2b_base64(padded, strict_mode=True)
            except binascii.Error:
                raise ValueError("broken base64 in a mailbox name") from None
            pieces.append(units.decode("utf-16-be"))
        at = end + 1
    pieces.append(raw[at:].decode("ascii"))
    return "".join(pieces)


_PRINTABLE = re.compile(r"[ -~]+|[^ -~]+")


def encode_name(name: str) -> bytes:
    """The modified UTF-7 of a name, not yet quoted."""
    if name.isascii() and name.isprintable():
        return name.encode("ascii").replace(b"&", b"&-")
    pieces: list[bytes] = []
    for run in _PRINTABLE.findall(name):
        if " " <= run[0] <= "~":
            pieces.append(run.encode("ascii").replace(b"&", b"&-"))
        else:
            units = run.encode("utf-16-be", "surrogatepass")
            pieces.append(b"&" + binascii.b2a_base64(units, newline=False).rstrip(b"=").replace(b"/", b",") + b"-")
    return b"".join(pieces)


_WILDCARDS = re.compile(r"[*%]{2,}")


class Pattern:
    """A LIST pattern: ``*`` anything, ``%`` anything within a level, INBOX in any case. ``matches`` is linear in the name, whatever the pattern
    (``tests/cost/test_imap.py``): which of its places may come next is one number, a bit a place, and neighbouring wildcards are one."""

    __slots__ = ("_any", "_end", "_level", "_places", "_start")

    def __init__(self, pattern: str) -> None:
        if pattern[:5].upper() == "INBOX" and (len(pattern) == 5 or pattern[5] in "/*%"):
            pattern = "INBOX" + pattern[5:]
        pattern = _WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
        self._places: dict[str, int] = {}
        for at, c in enumerate(pattern):
            self._places[c] = self._places.get(c, 0) | 1 << at
        self._any = self._places.pop("*", 0)
        self._level = self._places.pop("%", 0)
        self._end = 1 << len(pattern)
        self._start = self._closed(1)

    def _closed(self, reached: int) -> int:
        """Wildcards may match nothing."""
        return reached | (reached & (self._any | self._level)) << 1

    def matches(self, name: str) -> bool:
        """Whether it names this mailbox."""
        reached = self._start
        within = self._any | self._level
        for c in name:
            stays = reached & (self._any if c == DELIMITER else within)
            reached = self._closed(stays | (reached & self._places.get(c, 0)) << 1)
            if not reached:
                return False
        return bool(reached & self._end)
