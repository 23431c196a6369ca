"""Which stretches of a mail are attachments worth sharing."""

from __future__ import annotations

import os

from hornetmail.archive.store.parts import MIN_PART, split
from hornetmail.archive.store.records import Segment, base64_lines


def mail_of(*blocks: bytes) -> bytes:
    """A mail with these attachments, as they are."""
    parts = b"".join(
        b"--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + block + b"\r\n" for block in blocks
    )
    return b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n"


def shared(raw: bytes) -> list[tuple[Segment, int]]:
    """Kind and bytes of what is kept once; all together must be the mail."""
    pieces = split(raw)
    assert not pieces or sum(piece.length for piece in pieces) == len(raw)
    return [(piece.kind, piece.length) for piece in pieces if piece.kind != Segment.INLINE]


def test_each_attachment_once() -> None:
    """Rule 20: would catch an attachment that is kept twice, or taken for two, because its text has the word that stands in its header."""
    first = base64_lines(os.urandom(40_000))
    word = first[:76] + b"\r\n" + b"base64" * 12 + first[78 + 72 :]
    second = base64_lines(os.urandom(50_000))
    for blocks in ((first, second), (word, second), (word, word, second)):
        assert [length for _, length in shared(mail_of(*blocks))] == [len(block) for block in blocks]
    assert shared(mail_of(first))[0][0] == Segment.BASE64
    assert shared(mail_of(b"?" * 40_000)) == [(Segment.SHARED, 40_000)]


def test_what_is_too_small() -> None:
    """Would catch the bound that is off by one, and line ends behind an attachment that count as its own."""
    for length, found in ((MIN_PART - 1, []), (MIN_PART, [(Segment.SHARED, MIN_PART)])):
        assert shared(mail_of(b"?" * length)) == found
        assert shared(mail_of(b"?" * length + b"\r\n\r\n")) == found


def test_a_mail_that_ends_early() -> None:
    """Would catch an attachment without an end that is left out, and a header without a body that ends in an error of ours."""
    raw = mail_of(b"?" * 40_000)
    cut = raw[: raw.index(b"?") + 39_000]
    assert shared(cut) == [(Segment.SHARED, 39_000)]
    assert shared(raw[: raw.index(b"?") - 4]) == []
    assert shared(b"base64") == shared(b"") == []
    assert shared(b"base64\r\n\r\n" + b"?" * 40_000) == [(Segment.SHARED, 40_000)]
