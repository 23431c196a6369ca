"""Stamps of long ago, many in one object, so that a medium that is stamped daily for ten years holds few of them.

A sheet holds ``SHEET`` stamps that follow one another, from a multiple of that number on, as they are. Each of them says by itself whether it is whole.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from hornetmail.archive.proof.stamps import StampBroken

SHEET = 256
"""Stamps in a sheet."""

SUFFIX = ".sheet"
STAMP_SUFFIX = ".stamp"
_MAGIC = b"HMSHEET1"
_HEAD = struct.Struct(">8sQI")
_LENGTH = struct.Struct(">I")


def encode_sheet(first: int, stamps: Sequence[bytes]) -> bytes:
    """The sheet of these stamps."""
    parts = [_HEAD.pack(_MAGIC, first, len(stamps))]
    for one in stamps:
        parts += [_LENGTH.pack(len(one)), one]
    data = b"".join(parts)
    return data + hashlib.sha256(data).digest()


def stamps_of(data: bytes) -> list[bytes]:
    """What a sheet holds, as far as it can be told apart: each stamp says whether it is whole. Raises StampBroken: not even a sheet."""
    if len(data) < _HEAD.size or data[:8] != _MAGIC:
        raise StampBroken("not a sheet of stamps")
    _, _, count = _HEAD.unpack_from(data)
    found = []
    at = _HEAD.size
    for _ in range(min(count, SHEET)):
        if at + _LENGTH.size > len(data):
            break
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        found.append(data[at : at + length])
        at += length
    return found


def sheet_of(name: str) -> str:
    """The name of the sheet that a stamp of this name goes into; ``""`` if it is no stamp's."""
    folder, _, file = name.rpartition("/")
    number = number_in(file, STAMP_SUFFIX)
    return f"{folder}/{number - number % SHEET:020d}{SUFFIX}" if number >= 0 else ""


def number_in(file: str, suffix: str) -> int:
    """The number in a file's name; -1: it is something else."""
    text = file.removesuffix(suffix)
    return int(text) if len(text) == 20 and text.isascii() and text.isdigit() and file.endswith(suffix) else -1
