"""Large attachments, kept once within a merge group (rule 21): a mail is split into stretches, and put together again byte for byte."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple

from hornetmail.archive.store.records import Segment, base64_lines
from hornetmail.db.engines import Cursor

MIN_PART = 8 << 10
"""Bytes, as they stand in the mail, from which an attachment gets a record of its own: smaller ones gain nothing by it (``docs/measurements.rst``)."""


class Piece(NamedTuple):
    """A stretch of a mail: ``length`` bytes of it, kept as ``data``."""

    kind: Segment
    length: int
    data: bytes


class PartKey(NamedTuple):
    """What a shared part is found by: only within one tenant and month of expiry."""

    tenant: int
    month: int
    digest: bytes


class PartPlace(NamedTuple):
    """A part in the index: where its record lies (``pack`` None: staged)."""

    record: bytes
    key: PartKey
    pack: int | None
    start: int
    length: int


def digest_of(key: bytes, data: bytes) -> bytes:
    """The keyed hash that equal parts have in common."""
    return hmac.new(key, data, hashlib.sha256).digest()


def split(raw: bytes) -> list[Piece]:
    """A mail's stretches if it has attachments worth sharing, else nothing. Linear in time, whatever the bytes."""
    pieces: list[Piece] = []
    done = at = 0
    while (head := raw.find(b"base64", at)) >= 0:
        start = raw.find(b"\r\n\r\n", head)
        if start < 0:
            break
        start += 4
        end = raw.find(b"\r\n--", start)
        end = len(raw) if end < 0 else end
        at = end
        while end > start and raw[end - 2 : end] == b"\r\n":
            end -= 2
        if end - start >= MIN_PART:
            if start > done:
                pieces.append(Piece(Segment.INLINE, start - done, raw[done:start]))
            pieces.append(_piece(raw[start:end]))
            done = end
    if not pieces:
        return []
    if done < len(raw):
        pieces.append(Piece(Segment.INLINE, len(raw) - done, raw[done:]))
    return pieces


def _piece(block: bytes) -> Piece:
    """Decoded, if encoding it again gives just these bytes; as it is otherwise."""
    try:
        decoded = binascii.a2b_base64(block)
    except binascii.Error:
        decoded = b""
    if decoded and base64_lines(decoded) == block:
        return Piece(Segment.BASE64, len(block), decoded)
    return Piece(Segment.SHARED, len(block), block)


def store_parts(cursor: Cursor, parts: Sequence[PartPlace]) -> None:
    """Enter parts into the index; those it knows stay as they are."""
    cursor.executemany(
        "INSERT INTO part (record, tenant, month, digest, pack, start, length) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(p.record, *p.key, p.pack, p.start, p.length) for p in parts],
    )


def find_part(cursor: Cursor, key: PartKey, medium: int) -> bytes | None:
    """The record of a part that is there already, staged or on the medium that new mail goes to (rule 21): mail there needs no other one."""
    row = cursor.execute(
        "SELECT p.record FROM part p LEFT JOIN pack k ON k.number = p.pack WHERE p.tenant = ? AND p.month = ? AND p.digest = ? AND p.idle = 0"
        " AND (p.pack IS NULL OR k.medium = ?) LIMIT 1",
        (*key, medium),
    ).fetchone()
    return row[0] if row else None
