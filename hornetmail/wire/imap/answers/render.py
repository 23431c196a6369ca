"""Small pieces of responses as bytes (RFC 3501 section 9)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from hornetmail.wire.imap.tokens.names import encode_name

QUOTED_BYTES = 4096
"""Longer strings go as literals."""

_QUOTABLE = re.compile(rb"[ !#-\[\]-~]*\Z")
_TEXT = re.compile(rb"[ -~]*\Z")
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+\Z")


def string(raw: bytes) -> bytes:
    """Quoted where that is possible, else a literal without NUL."""
    if len(raw) <= QUOTED_BYTES:
        if _QUOTABLE.match(raw):
            return b'"%b"' % raw
        if _TEXT.match(raw):
            return b'"%b"' % raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return literal(raw.replace(b"\0", b"") if b"\0" in raw else raw)


def astring(raw: bytes) -> bytes:
    """As an atom where that is possible: programs that know ACL take the quotes of an identifier for a part of it (imapclient 4)."""
    return raw if _ATOM.match(raw) else string(raw)


def nstring(raw: bytes | None) -> bytes:
    """A string or NIL."""
    return b"NIL" if raw is None else string(raw)


def literal(raw: bytes) -> bytes:
    """A literal as it is."""
    return b"{%d}\r\n%b" % (len(raw), raw)


def literal8(raw: bytes) -> bytes:
    """A literal that may have NUL (RFC 3516 section 5)."""
    return b"~" + literal(raw)


def mailbox_name(name: str, *, utf8: bool = False) -> bytes:
    """A mailbox name in modified UTF-7, as an atom where that is possible; with ``utf8`` in UTF-8, quoted (RFC 6855 section 3)."""
    if utf8 and not name.isascii():
        return b'"%b"' % name.encode("utf-8", "replace").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    raw = name.encode("ascii") if utf8 and name.isprintable() else encode_name(name)
    if _ATOM.match(raw) and raw.upper() != b"NIL":
        return raw
    return string(raw)


_ORDER = {"\\Answered": 0, "\\Flagged": 1, "\\Deleted": 2, "\\Seen": 3, "\\Draft": 4, "\\Recent": 5}


@lru_cache(maxsize=4096)
def flag_list(flags: frozenset[str]) -> bytes:
    """A parenthesised list, system flags first."""
    return b"(%b)" % " ".join(sorted(flags, key=lambda f: (_ORDER.get(f, 9), f))).encode("ascii", "replace")


def parenthesised(pieces: Iterable[bytes]) -> bytes:
    """A list of what is rendered already."""
    return b"(%b)" % b" ".join(pieces)
