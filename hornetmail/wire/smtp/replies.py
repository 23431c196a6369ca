"""Reading a server's replies (RFC 5321 section 4.2, RFC 2034).

Codes are 200 to 599: 1xx is never sent (section 4.2.1), and what has another form or holds a NUL is no reply at all.
"""

from __future__ import annotations

from hornetmail.core.mail.reply import Reply

_CONTROLS = dict.fromkeys((*range(1, 32), 127), " ")
"""Would break lines or hide words where a reply is shown."""

LINES = 100
"""A reply has no more lines."""

LINE_BYTES = 4_096
"""Nor longer ones; RFC 5321 section 4.5.3.1.5 allows 512, some servers tell stories."""


class ReplyParser:
    """Bytes in, replies out. ``fault`` says why the stream is not SMTP (then nothing more comes)."""

    __slots__ = ("_buffer", "_code", "_lines", "fault")

    def __init__(self) -> None:
        self.fault = ""
        self._buffer = b""
        self._code = b""
        self._lines: list[str] = []

    @property
    def buffered(self) -> int:
        """Bytes that wait, lines of an unfinished reply not counted."""
        return len(self._buffer)

    @property
    def begun(self) -> bool:
        """Whether a part of a reply is here."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> None:
        """More bytes."""
        self._buffer += data

    def next(self) -> Reply | None:
        """The next whole reply, or None."""
        while not self.fault:
            end = self._buffer.find(b"\n")
            if end < 0 or end > LINE_BYTES:
                if len(self._buffer) > LINE_BYTES:
                    self.fault = "reply line too long"
                return None
            line, self._buffer = self._buffer[:end].rstrip(b"\r"), self._buffer[end + 1 :]
            code, mark = line[:3], line[3:4]
            if not code.isdigit() or not b"200" <= code <= b"599" or mark not in (b" ", b"-", b"") or b"\0" in line:
                self.fault = "not an SMTP reply"
                return None
            if self._lines and code != self._code:
                self.fault = "reply lines with different codes"
                return None
            self._code = code
            self._lines.append(line[4:].decode("utf-8", "replace").translate(_CONTROLS))
            if mark != b"-":
                return self._whole()
            if len(self._lines) >= LINES:
                self.fault = "reply of too many lines"
        return None

    def _whole(self) -> Reply:
        lines, self._lines = self._lines, []
        enhanced = _enhanced(lines[0], self._code[:1].decode())
        if enhanced:
            lines = [line[len(enhanced) :].lstrip(" ") if line.startswith(enhanced) else line for line in lines]
        return Reply(int(self._code), enhanced, "\n".join(lines))


def _enhanced(line: str, kind: str) -> str:
    """The enhanced code at a line's start, if its class fits the reply's."""
    word = line.split(" ", 1)[0]
    parts = word.split(".")
    if len(parts) == 3 and parts[0] == kind and kind in "245" and all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts):
        return word
    return ""
