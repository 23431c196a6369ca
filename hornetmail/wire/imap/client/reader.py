"""From bytes to whole responses, literals in place; parts of messages are passed on while they come (RFC 3501 sections 4.3 and 7.4.2).

Nothing is kept beyond ``RESPONSE_BYTES``; every byte is looked at once (``tests/cost/test_imap_client.py``).
"""

from __future__ import annotations

import re

import msgspec

from hornetmail.wire.engine import CHUNK_BYTES, Chunk
from hornetmail.wire.imap.client.commands import Part, PartEnd

RESPONSE_BYTES = 1 << 20
"""No response is larger, parts of messages apart."""

_FETCH = re.compile(rb"\* ([0-9]{1,10}) FETCH \(", re.IGNORECASE)
_PLAIN = re.compile(rb"\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z)", re.IGNORECASE)
"""What ends in words for people, which may look like a literal."""

_LITERAL = re.compile(rb"~?\{([0-9]{1,20})\+?\}\Z")
_SECTION = re.compile(
    rb"(BODY\[[^\]]*\](?:<[0-9]+>)?|BINARY\[[0-9.]*\](?:<[0-9]+>)?|RFC822(?:\.HEADER|\.TEXT)?) ~?\{[0-9]+\+?\}", re.IGNORECASE
)
_SECTION_BYTES = 2048
"""A section's name is not longer."""


class Raw(msgspec.Struct, frozen=True, gc=False):
    """One response without its last CRLF, parts of messages replaced by empty literals. ``start``: how many bytes came before it."""

    data: bytes
    start: int


class Reader:
    """``largest``: no part of a message may be larger. ``fault`` says what was wrong, and nothing follows."""

    def __init__(self) -> None:
        self.fault = ""
        self.largest = 0
        self._buffer = bytearray()
        self._scanned = 0
        self._pieces: list[bytes] = []
        self._held = 0
        self._taken = 0
        self._start = 0
        self._number: int | None = None
        self._plain = False
        self._literal = 0
        self._part = -1

    @property
    def buffered(self) -> int:
        """Bytes received and not consumed."""
        return len(self._buffer)

    @property
    def received(self) -> int:
        """Bytes received altogether."""
        return self._taken + len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Bytes from the server."""
        self._buffer += data

    def next(self) -> Raw | Part | Chunk | PartEnd | None:
        """One step; None if more is needed, or ``fault``."""
        while not self.fault:
            if self._part >= 0:
                return self._streamed()
            if self._literal:
                if not self._inside():
                    return None
                continue
            end = self._buffer.find(b"\r\n", self._scanned)
            if end < 0:
                self._scanned = max(0, len(self._buffer) - 1)
                if self._held + len(self._buffer) > RESPONSE_BYTES:
                    self.fault = "a response that does not end"
                return None
            found = self._line(end)
            if found is not None:
                return found
        return None

    def _take(self, size: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        self._taken += size
        self._scanned = 0
        return data

    def _streamed(self) -> Chunk | PartEnd | None:
        if not self._part:
            self._part = -1
            return PartEnd()
        if not self._buffer:
            return None
        data = self._take(min(self._part, len(self._buffer), CHUNK_BYTES))
        self._part -= len(data)
        return Chunk(data)

    def _inside(self) -> bool:
        if not self._buffer:
            return False
        data = self._take(min(self._literal, len(self._buffer)))
        self._literal -= len(data)
        self._pieces.append(data)
        return not self._literal

    def _line(self, end: int) -> Raw | Part | None:
        if not self._pieces:
            self._start = self._taken
        line = self._take(end + 2)
        self._held += len(line)
        if not self._pieces:
            match = _FETCH.match(line)
            self._number = int(match[1]) if match else None
            self._plain = not line.startswith(b"* ") or _PLAIN.match(line) is not None
        literal = None if self._plain else _LITERAL.search(line, max(0, end - 24), end)
        if literal is None:
            if self._held > RESPONSE_BYTES:
                self.fault = "a response that is too long"
                return None
            data = b"".join(self._pieces) + line[:-2]
            self._pieces, self._held = [], 0
            return Raw(data, self._start)
        size = int(literal[1])
        section = self._section(line, end)
        if section is not None:
            if size > self.largest:
                self.fault = f"a part of {size} bytes where at most {self.largest} were asked for"
                return None
            self._pieces.append(line[: literal.start()] + b"{0}\r\n")
            self._part = size
            return Part(self._number or 0, section, size)
        self._held += size
        if self._held > RESPONSE_BYTES:
            self.fault = f"a literal of {size} bytes"
            return None
        self._pieces.append(line[: literal.start()] + b"{%d}\r\n" % size)
        self._literal = size
        return None

    def _section(self, line: bytes, end: int) -> str | None:
        """The part of a message that the literal at the end of the line is."""
        if self._number is None:
            return None
        least = max(0, end - _SECTION_BYTES)
        upper = line[least:end].upper()
        at = max(upper.rfind(b"BODY["), upper.rfind(b"BINARY["), upper.rfind(b"RFC822"))
        match = _SECTION.fullmatch(line, least + at, end) if at >= 0 else None
        return match[1].decode("ascii", "replace").upper() if match is not None else None
