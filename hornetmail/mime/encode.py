"""Transfer encodings put on a body while it comes by (RFC 2045 section 6): each takes pieces cut anywhere and holds at most a few kilobytes.

``feed`` and ``finish`` give bytes whose lines end with CRLF and have at most 76 characters, but for what ``Requoted`` may leave alone.
"""

from __future__ import annotations

import binascii
import re
from typing import Protocol

WIDTH = 76
_HELD = 4_096
_LINE = 57  # bytes that are one line of base64
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_OTHERS = bytes(code for code in range(256) if code not in _ALPHABET)
_ASCII = bytes(code if code < 128 else 63 for code in range(256))
_EIGHT = re.compile(rb"[\x80-\xff]")


class Encoder(Protocol):
    """The one shape of all of them."""

    def feed(self, data: bytes) -> bytes:
        """A piece."""
        ...

    def finish(self) -> bytes:
        """What is left; the last line has no end of its own."""
        ...


class QuotedPrintable:
    """For text: lines stay lines. A bare CR or LF ends one too, as it would if the text were sent as it is (``wire.smtp.data.Stuffer``)."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        data = self._held + data
        cut = data.rfind(b"\n") + 1
        out = _quoted(data[:cut]) if cut else b""
        self._held = data[cut:]
        if len(self._held) > _HELD:
            # A line without end is broken softly; a CR may be half a line end, and goes with what follows.
            cut = len(self._held) - self._held.endswith(b"\r")
            out += _quoted(self._held[:cut]) + b"=\r\n"
            self._held = self._held[cut:]
        return out

    def finish(self) -> bytes:
        """See ``Encoder``."""
        held, self._held = self._held, b""
        return _quoted(held)


def _quoted(data: bytes) -> bytes:
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return binascii.b2a_qp(text, quotetabs=False, istext=True, header=False).replace(b"\n", b"\r\n")


class Base64:
    """For everything else: the exact bytes."""

    def __init__(self) -> None:
        self._held = b""
        self._lines = _Lines()

    def feed(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        data = self._held + data
        cut = len(data) - len(data) % _LINE
        self._held = data[cut:]
        return self._lines.feed(binascii.b2a_base64(data[:cut], newline=False))

    def finish(self) -> bytes:
        """See ``Encoder``."""
        held, self._held = self._held, b""
        return self._lines.feed(binascii.b2a_base64(held, newline=False)) + self._lines.finish()


class Rewrapped:
    """For what is in base64 already, in lines too long or with bytes in between that are none of it (decoders pass over them, section 6.8)."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        return self._lines.feed(data.translate(None, _OTHERS))

    def finish(self) -> bytes:
        """See ``Encoder``."""
        return self._lines.finish()


class _Lines:
    """Characters in lines of 76, CRLF between them."""

    def __init__(self) -> None:
        self._held = b""
        self._first = True

    def feed(self, text: bytes) -> bytes:
        text = self._held + text
        cut = len(text) - len(text) % WIDTH
        self._held = text[cut:]
        return self._join([text[at : at + WIDTH] for at in range(0, cut, WIDTH)])

    def finish(self) -> bytes:
        held, self._held = self._held, b""
        return self._join([held] if held else [])

    def _join(self, lines: list[bytes]) -> bytes:
        if not lines:
            return b""
        out = b"\r\n".join(lines)
        out = out if self._first else b"\r\n" + out
        self._first = False
        return out


class Requoted:
    """For what is in quoted-printable already, with bytes or lines that may not be in it; all other lines stay as they are."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        data = self._held + data
        cut = data.rfind(b"\n") + 1
        out = b"".join(self._line(line) for line in data[:cut].splitlines(keepends=True)) if cut else b""
        self._held = data[cut:]
        if len(self._held) > _HELD:
            pieces = _wrapped(_escaped(self._held))
            # The last two may hold half an escape.
            self._held = b"".join(pieces[-2:])
            out += b"".join(piece + b"=\r\n" for piece in pieces[:-2])
        return out

    def finish(self) -> bytes:
        """See ``Encoder``."""
        held, self._held = self._held, b""
        return self._line(held)

    def _line(self, line: bytes) -> bytes:
        text = line.rstrip(b"\r\n")
        if text.isascii() and len(text) <= WIDTH:
            return line
        return b"=\r\n".join(_wrapped(_escaped(text))) + line[len(text) :]


def _escaped(text: bytes) -> bytes:
    return text if text.isascii() else _EIGHT.sub(lambda match: b"=%02X" % match[0][0], text)


def _wrapped(text: bytes) -> list[bytes]:
    """Pieces of at most 75 characters that split no escape, the last one of at most 76."""
    pieces: list[bytes] = []
    at = 0
    while len(text) - at > WIDTH:
        cut = at + WIDTH - 1
        for back in (1, 2):
            if text[cut - back] == 61:
                cut -= back
                break
        pieces.append(text[at:cut])
        at = cut
    pieces.append(text[at:])
    return pieces


class Plain:
    """For what nobody reads (before and behind the parts of a multipart, RFC 2046 section 5.1.1): other bytes than ASCII become ``?``, long
    lines are broken."""

    def __init__(self) -> None:
        self._column = 0

    def feed(self, data: bytes) -> bytes:
        """See ``Encoder``."""
        out: list[bytes] = []
        for line in data.translate(_ASCII).splitlines(keepends=True):
            size = len(line.rstrip(b"\r\n"))
            at = 0
            while self._column + size - at > WIDTH:
                cut = at + WIDTH - self._column
                out += [line[at:cut], b"\r\n"]
                at, self._column = cut, 0
            out.append(line[at:])
            self._column = 0 if line.endswith(b"\n") else self._column + size - at
        return b"".join(out)

    def finish(self) -> bytes:
        """See ``Encoder``."""
        return b""
