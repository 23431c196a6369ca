"""The header scan: whatever the pieces, the same message."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.servers.header import HEADER_BYTES, HeaderScan, without_bcc

LINES = st.sampled_from(
    [
        b"From: a\r\n",
        b"Bcc: x\r\n",
        b"\tfolded\r\n",
        b"BCC:y\r\n",
        b"Resent-Bcc: z\r\n",
        b"\r\n",
        b"text Bcc: a\r\n",
        b"Received: q\r\n",
        b"x",
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(LINES, max_size=12).map(b"".join), st.lists(st.integers(0, 100), max_size=8), st.booleans())
def test_any_cut_gives_the_same_message(text: bytes, places: list[int], submission: bool) -> None:
    """Would catch a byte lost, doubled or reordered, or a Bcc that slips through between two pieces."""
    edges = sorted({p % (len(text) + 1) for p in places} | {0, len(text)})
    scan = HeaderScan(submission=submission)
    kept = b"".join(scan.take(text[a:b]) for a, b in itertools.pairwise(edges)) + scan.finish()
    if not submission:
        assert kept == text
        return
    end = 0 if text.startswith(b"\r\n") else text.find(b"\r\n\r\n") + 2
    end = len(text) if end == 1 else end
    assert kept == without_bcc(text[:end]) + text[end:]
    assert not any(line.lower().startswith((b"bcc:", b"resent-bcc:")) for line in scan.header.split(b"\r\n"))


def test_endless_header_is_not_held() -> None:
    """Would catch memory that grows with a header that never ends."""
    scan = HeaderScan(submission=True)
    line = b"X-Long: " + b"x" * 990 + b"\r\n"
    kept = sum(len(scan.take(line)) for _ in range(400))
    assert kept + len(scan.finish()) == 400 * len(line)
    assert kept > HEADER_BYTES


def test_facts() -> None:
    """Would catch wrong answers about what is in the header, folded lines and text included."""
    scan = HeaderScan(submission=False)
    scan.take("Received: a\r\n\tb\r\nDate: x\r\nreceived: c\r\nX: Message-ID: no\r\n\r\nReceived: text ü\r\n".encode())
    assert scan.hops() == 2
    assert scan.has(b"date")
    assert not scan.has(b"message-id")
    assert scan.eight_bit


def test_bridge() -> None:
    """Catches trace lines that make a text without header into one, or an empty line that splits a header in two: behind the line of an mbox it did."""
    for text, bridge in (
        (b"Hello there\r\nSubject: no\r\n", b"\r\n"),
        (b"Subject: x\r\n\r\ntext\r\n", b""),
        (b"Subject : x\r\n\r\ntext\r\n", b""),
        (b"From : a@b\r\n\r\ntext\r\n", b""),
        (b"\r\ntext\r\n", b""),
        (b"", b""),
        (b"https: not\r\n", b""),
        (b" folded from nowhere\r\n", b"\r\n"),
        (b"From a@b Mon Nov 27 20:00:00 2026\r\nSubject: x\r\n\r\ntext\r\n", b"X-Mailbox-Line: "),
        (b">From a@b Mon Nov 27 20:00:00 2026\r\nSubject: x\r\n\r\ntext\r\n", b"X-Mailbox-Line: "),
        (b"From now on there are no headers\r\nin this text\r\n", b"\r\n"),
        (b"From now on\r\n\r\nthere are paragraphs\r\n", b"\r\n"),
    ):
        scan = HeaderScan(submission=False)
        scan.take(text)
        scan.finish()
        assert scan.bridge == bridge, text


def test_bcc_behind_anything() -> None:
    """A line that is no field ends the header for some and is passed over by others, and nobody reads the four thousandth field: a Bcc behind it was sent."""
    for before in (b"From: a@b\r\nthis is no field\r\n", b"A: b\r\n" * 5_000, b">From x\r\n", b"X: y\r\n folded\r\n"):
        assert without_bcc(before + b"Bcc : secret@c\r\n and@d\r\nTo: e@f\r\n") == before + b"To: e@f\r\n"
