"""The text of DATA."""

from __future__ import annotations

import itertools

from hornetmail.wire.smtp.data import has_bare


def test_bare_ends_are_seen_wherever_they_stand() -> None:
    """Would catch a count of lines that misses a bare CR or LF, or sees one in sound text: every text of up to 7 bytes of the four kinds."""
    for length in range(8):
        for letters in itertools.product(b"\r\na.", repeat=length):
            text = bytes(letters)
            pairs = text.count(b"\r\n")
            assert has_bare(text) is (text.count(b"\r") != pairs or text.count(b"\n") != pairs), text
