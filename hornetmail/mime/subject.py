"""What a thread's subjects have in common (RFC 5256 section 2.1), and how texts are compared that way (RFC 5051). Pure, linear but for ``SUBJECT_CHARACTERS``."""

from __future__ import annotations

import re
import unicodedata

SUBJECT_CHARACTERS = 1_000
"""Subjects are compared by so many of their characters."""

_TRAILER = re.compile(r"(?:\(fwd\)|\s)\Z", re.IGNORECASE)
_REPLY = re.compile(r"(?:\[[^\[\]]*+\]\s*+)*+(?:re|fwd?)\s*+(?:\[[^\[\]]*+\]\s*+)?:", re.IGNORECASE)
_BLOB = re.compile(r"\[[^\[\]]*+\]\s*+")


def base_subject(subject: str) -> tuple[str, bool]:
    """The subject without ``Re:``, ``[list]``, ``(fwd)`` and their kin, and whether it was one of a reply or a forwarded mail."""
    text = " ".join(subject[:SUBJECT_CHARACTERS].split())
    start, end = 0, len(text)
    answers = False
    while True:
        while (trailer := _TRAILER.search(text, max(start, end - 5), end)) is not None:
            end = trailer.start()
            answers = answers or trailer[0] != " "
        start, led = _led(text, start, end)
        answers = answers or led
        if text[start : start + 5].lower() != "[fwd:" or end <= start + 5 or text[end - 1] != "]":
            return text[start:end], answers
        start, end, answers = start + 5, end - 1, True


def _led(text: str, start: int, end: int) -> tuple[int, bool]:
    """Behind all that stands before a subject, and whether some of it says that this is an answer."""
    answers = False
    while True:
        while start < end and text[start] == " ":
            start += 1
        if (reply := _REPLY.match(text, start, end)) is not None:
            start, answers = reply.end(), True
        elif (blob := _BLOB.match(text, start, end)) is not None and blob.end() < end:
            start = blob.end()
        else:
            return start, answers


def casemapped(text: str) -> str:
    """As i;unicode-casemap compares: each character in its title case, then taken apart (RFC 5051 section 2)."""
    if text.isascii():
        return text.upper()
    return unicodedata.normalize("NFKD", "".join([title if len(title := c.title()) == 1 else c for c in text]))
