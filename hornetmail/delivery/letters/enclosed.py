"""An archived mail inside a small new message of ours, as message/rfc822 (rule 16): for servers that drop a Message-ID that they have seen.

RFC 2046 section 5.2.1 allows message/rfc822 no encoding but 7bit, 8bit and binary, so the mail travels as it is: its exact bytes between two
boundaries. What 8bit cannot carry (RFC 2045 section 2.8) could only be altered on the way, and is refused.
"""

from __future__ import annotations

from email.header import Header

import msgspec

from hornetmail.mime import headers
from hornetmail.wire.smtp.data import has_bare

LONGEST = 998
"""Bytes of a line without its CRLF (RFC 5322 section 2.1.1)."""

SUBJECT = 200
"""Characters of the mail's subject that ours repeats."""


class Unfit(ValueError):
    """The mail cannot travel as an attachment; the message says why."""


class Fitness:
    """Looks at a mail piece by piece, however it is cut. ``feed`` and ``end`` raise Unfit."""

    __slots__ = ("_held", "_line")

    def __init__(self) -> None:
        self._line = 0
        self._held = b""

    def feed(self, piece: bytes) -> None:
        """The next piece."""
        if b"\0" in piece:
            raise Unfit("it holds NUL bytes, which 8bit may not carry")
        text = self._held + piece if self._held else piece
        self._held = b"\r" if text.endswith(b"\r") else b""
        if self._held:
            text = text[:-1]
        if has_bare(text):
            raise Unfit("some of its lines do not end with CRLF, and would be changed on the way")
        first, *others = text.split(b"\r\n")
        longest = max(self._line + len(first), max(map(len, others), default=0))
        if longest > LONGEST:
            raise Unfit(f"it has a line of more than {LONGEST} bytes, the most that SMTP carries")
        self._line = len(others[-1]) if others else self._line + len(first)

    def end(self) -> None:
        """Nothing comes any more."""
        if self._held:
            raise Unfit("its last line does not end with CRLF, and would be changed on the way")


class Cover(msgspec.Struct, frozen=True):
    """What our message says of the mail. ``date``, ``received``: RFC 5322 dates. ``unique`` occurs in no message. ``domain``: the recipient's."""

    identifier: int
    to: str
    domain: str
    date: str
    unique: str
    received: str
    sha256: bytes


def around(cover: Cover, data: bytes) -> tuple[bytes, bytes]:
    """What stands before the mail, and what behind it; CRLF line ends. ``data`` is looked through, not copied."""
    eight = "7bit" if data.isascii() else "8bit"
    boundary = _boundary(cover.unique, data)
    top = [
        f"From: Mail archive <MAILER-DAEMON@{cover.domain}>",
        f"To: <{cover.to}>",
        f"Subject: {_subject(data)}",
        f"Date: {cover.date}",
        f"Message-ID: <{cover.unique}@{cover.domain}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/mixed; boundary="{boundary}"',
        f"Content-Transfer-Encoding: {eight}",
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "Content-Transfer-Encoding: 7bit",
        "",
        "The attached mail comes from the archive, byte for byte as it was received.",
        "",
        f"  Received:  {cover.received}",
        f"  Number:    {cover.identifier}",
        f"  Size:      {len(data)} bytes",
        f"  SHA-256:   {cover.sha256.hex()}",
        "",
        f"--{boundary}",
        "Content-Type: message/rfc822",
        f"Content-Transfer-Encoding: {eight}",
        f'Content-Disposition: attachment; filename="{cover.identifier}.eml"',
        "",
        "",
    ]
    # The CRLF before a boundary is the boundary's (RFC 2046 section 5.1.1): the mail's own last one stays the mail's.
    return "\r\n".join(top).encode(), f"\r\n--{boundary}--\r\n".encode()


def _boundary(unique: str, data: bytes) -> str:
    number = 0
    while (boundary := f"=_{unique}_{number}").encode() in data:
        number += 1
    return boundary


def _subject(data: bytes) -> str:
    raw = headers.first(data, b"subject")
    text = headers.decode_text(raw) if raw is not None else ""
    words = "".join(c if c.isprintable() else " " for c in text).split()
    own = " ".join(words)[:SUBJECT] or "mail without a subject"
    subject = f"Redelivered: {own}"
    if subject.isascii() and "=?" not in subject:
        return subject
    return Header(subject, "utf-8", header_name="Subject").encode(linesep="\r\n")
