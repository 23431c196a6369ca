"""A message as it goes over the wire (RFC 1939 section 3)."""

from __future__ import annotations


def stuffed(data: bytes, tail: bytes) -> bytes:
    """A piece with the dots at the beginning of its lines doubled; ``tail``: what was sent before it."""
    out = data.replace(b"\n.", b"\n..")
    return b"." + out if data[:1] == b"." and tail.endswith(b"\n") else out


def end(tail: bytes) -> bytes:
    """What follows the last piece, which ends in ``tail``."""
    return b".\r\n" if tail.endswith(b"\r\n") else b"\r\n.\r\n"


def whole(text: bytes, size: int) -> bytes:
    """The answer to RETR, all of it. ``size``: octets of the message, as it is."""
    return b"+OK %d octets\r\n%b%b" % (size, stuffed(text, b"\n"), end(text or b"\r\n"))
