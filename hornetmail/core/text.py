"""Texts that people type and others read: names, reasons, notes. What cannot be seen in them lies about the rest."""

from __future__ import annotations

import unicodedata

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""All that changes the direction of writing (Unicode's Bidi_Control): ``moc.elpmaxe`` shown for ``example.com``."""

_BREAKS = frozenset("\u2028\u2029")


def unseen(text: str, *, lines: bool = False) -> str:
    """Why a text cannot be taken as it is, or ``""``: a control character, or one that turns the direction of writing, by number. ``lines``: ends of
    lines and tabs are part of it."""
    if text.isprintable():
        return ""
    for character in text:
        if lines and character in "\t\r\n":
            continue
        if character in _TURNING:
            return f"it has U+{ord(character):04X}, which turns the direction of writing and cannot be seen"
        if character in _BREAKS or unicodedata.category(character) in ("Cc", "Cs"):
            return f"it has a control character (U+{ord(character):04X})"
    return ""
