"""Content-Transfer-Encoding undone (RFC 2045 section 6), as mail has it: padding that is missing, several base64 runs behind one another, junk between
them. Never raises. ``pieces`` and ``texts`` hold no more than a piece at a time, whatever the part's length (``tests/cost/test_mime.py``).
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Iterator

from hornetmail.mime import charset

PIECE_BYTES = 65_536
"""Encoded bytes that are decoded at a time."""

_JUNK = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_PAD = re.compile(b"=+")


def decoded(raw: bytes, encoding: str) -> bytes:
    """The bytes of a whole part; ``encoding`` in capitals."""
    return b"".join(pieces(raw, encoding))


def pieces(raw: bytes, encoding: str) -> Iterator[bytes]:
    """The same, piece by piece."""
    if encoding == "BASE64":
        return _base64(raw)
    if encoding == "QUOTED-PRINTABLE":
        return _quoted(raw)
    return (raw[at : at + PIECE_BYTES] for at in range(0, len(raw), PIECE_BYTES))


def _base64(raw: bytes) -> Iterator[bytes]:
    """Each run up to its padding by itself; a lone last sign of a run says nothing and is dropped."""
    kept = b""
    for at in range(0, len(raw), PIECE_BYTES):
        kept += raw[at : at + PIECE_BYTES].translate(None, _JUNK)
        *runs, kept = _PAD.split(kept)
        found = b"".join(map(_run, runs))
        whole = len(kept) & ~3
        found += binascii.a2b_base64(kept[:whole])
        kept = kept[whole:]
        if found:
            yield found
    if kept:
        yield _run(kept)


def _run(run: bytes) -> bytes:
    if len(run) % 4 == 1:
        run = run[:-1]
    return binascii.a2b_base64(run + b"=" * (-len(run) % 4))


def _quoted(raw: bytes) -> Iterator[bytes]:
    """Pieces end behind a line, or where no escape is under way."""
    at = 0
    while at < len(raw):
        end = at + PIECE_BYTES
        if end < len(raw):
            line = raw.rfind(b"\n", at, end) + 1
            sign = raw.rfind(b"=", end - 3, end)
            end = line if line > at else sign if sign > at else end
        yield binascii.a2b_qp(raw[at:end])
        at = end


def texts(raw: bytes, encoding: str, label: str) -> Iterator[str]:
    """A text part as text, piece by piece: the charset that ``mime.charset`` would read the whole in."""
    if len(raw) <= PIECE_BYTES:
        yield charset.decode(decoded(raw, encoding), label)
        return
    reader = codecs.getincrementaldecoder(_codec(raw, encoding, label))("replace")
    for piece in pieces(raw, encoding):
        yield reader.decode(piece)
    yield reader.decode(b"", True)


def _codec(raw: bytes, encoding: str, label: str) -> str:
    declared = charset.codec_for(label) if label else None
    for codec in (declared, "utf-8"):
        if codec is not None and codec != "cp1252" and _fits(raw, encoding, codec):
            return codec
    return "cp1252" if declared == "cp1252" else charset.guess(next(pieces(raw, encoding), b""))


def _fits(raw: bytes, encoding: str, codec: str) -> bool:
    try:
        reader = codecs.getincrementaldecoder(codec)("strict")
        for piece in pieces(raw, encoding):
            reader.decode(piece)
        reader.decode(b"", True)
    except (UnicodeError, ValueError, LookupError, AttributeError):
        return False
    return True
