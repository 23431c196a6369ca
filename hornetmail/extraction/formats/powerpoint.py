"""The text of PowerPoint's binary files ([MS-PPT]): atoms of text, in the order in which they lie."""

from __future__ import annotations

import struct

from hornetmail.extraction.bounds import Gathered, Unreadable

_MASTER = 0x03F8
_TEXT_CHARS = 0x0FA0
_TEXT_BYTES = 0x0FA8
_STRING = 0x0FBA
_SEALED = 0xF3D1C4DF
_ENDS = str.maketrans({"\r": "\n", "\x0b": "\n"})


def read(document: bytes, user: bytes, into: Gathered) -> None:
    """Its words. Raises Unreadable, Enough."""
    if len(user) >= 16 and struct.unpack_from("<I", user, 12)[0] == _SEALED:
        raise Unreadable("it is encrypted")
    at = 0
    while at + 8 <= len(document):
        version, kind, size = struct.unpack_from("<HHI", document, at)
        at += 8
        if version & 0xF == 0xF and kind != _MASTER:
            continue
        data = document[at : at + size]
        at += size
        if kind in (_TEXT_CHARS, _STRING):
            text = data.decode("utf-16-le", "replace").translate(_ENDS)
            # Names of extensions begin so.
            into.add("" if text.startswith("___") else text + "\n")
        elif kind == _TEXT_BYTES:
            into.add(data.decode("cp1252", "replace").translate(_ENDS) + "\n")
