"""The text of Word's binary files ([MS-DOC]): 97 and later by their piece table, 6 and 95 as they lie."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from hornetmail.extraction.bounds import Gathered, Unreadable

_WORD_97 = 193
_ENCRYPTED = 0x0100
_OTHER_TABLE = 0x0200
_FIELD = re.compile("\x13[^\x13\x14\x15]*+[\x14\x15]|[\x13-\x15]")
"""Instructions of a field, between its begin and what it shows."""

_ENDS = str.maketrans(
    {"\r": "\n", "\x07": "\n", "\x0b": "\n", "\x0c": "\n", "\x0e": "\n", "\x1e": "-", "\x1f": ""}
    | {chr(n): " " for n in (1, 2, 3, 4, 5, 8, 9)}
)


def read(document: bytes, stream: Callable[[str], bytes], into: Gathered) -> None:
    """Its words, footnotes, headers and comments included. Raises Unreadable, Enough, struct.error."""
    magic, version, flags = struct.unpack_from("<HH6xH", document)
    if magic not in (0xA5EC, 0xA5DC):
        raise Unreadable("it is damaged: no Word document")
    if flags & _ENCRYPTED:
        raise Unreadable("it is encrypted")
    if version < _WORD_97:
        start, end = struct.unpack_from("<II", document, 0x18)
        _say(document[start:end].decode("cp1252", "replace"), into)
        return
    table = stream("1Table" if flags & _OTHER_TABLE else "0Table")
    where, length = struct.unpack_from("<II", document, 0x01A2)
    _say(_pieces(document, table[where : where + length]), into)


def _pieces(document: bytes, clx: bytes) -> str:
    at = 0
    while at < len(clx) and clx[at] == 1:
        at += 3 + struct.unpack_from("<H", clx, at + 1)[0]
    if at >= len(clx) or clx[at] != 2:
        raise Unreadable("it is damaged: no table of pieces")
    (size,) = struct.unpack_from("<I", clx, at + 1)
    plc = clx[at + 5 : at + 5 + size]
    count = max(0, (len(plc) - 4) // 12)
    places = struct.unpack_from(f"<{count + 1}I", plc)
    said: list[str] = []
    room = len(document)
    for number in range(count):
        characters = max(0, places[number + 1] - places[number])
        (position,) = struct.unpack_from("<2xI", plc, 4 * (count + 1) + 8 * number)
        # The same bytes many times over would be a bomb.
        room -= characters
        if room < 0:
            break
        if position & 0x40000000:
            start = (position & 0x3FFFFFFF) // 2
            said.append(document[start : start + characters].decode("cp1252", "replace"))
        else:
            said.append(document[position : position + 2 * characters].decode("utf-16-le", "replace"))
    return "".join(said)


def _say(text: str, into: Gathered) -> None:
    into.add(_FIELD.sub("", text).translate(_ENDS) + "\n")
