"""Texts that people type and others read."""

from __future__ import annotations

import pytest

from hornetmail.core.text import unseen


@pytest.mark.parametrize(
    ("text", "line", "several"),
    [
        ("", "", ""),
        ("Grüße, 你好", "", ""),
        ("one\r\n\ttwo", "U+000D", ""),
        ("a\x00b", "U+0000", "U+0000"),
        ("a\n\x1b[2J", "U+000A", "U+001B"),
        ("moc\u202eelpmaxe", "U+202E, which turns", "U+202E, which turns"),
        ("one\u2028two", "U+2028", "U+2028"),
        ("\ud800", "U+D800", "U+D800"),
        ("no\u00a0break, soft\u00adhyphen", "", ""),
    ],
)
def test_what_cannot_be_seen(text: str, line: str, several: str) -> None:
    """Would catch a name that breaks out of its line or reads backwards, a note that may not have two lines, and an error without the place."""
    for found, wanted in ((unseen(text), line), (unseen(text, lines=True), several)):
        assert (wanted in found) if wanted else not found
