"""The text of DATA on the wire: transparency, where it ends, and what smuggles (RFC 5321 sections 4.1.1.4, 4.5.2, 2.3.8).

The only end of data is CRLF ``.`` CRLF. Everything that some server somewhere takes for it (``LF . LF``, ``CR . CR``,
``CRLF . LF``, …) holds a bare CR or LF; such a message is refused after its true end, or made clean.
"""

from __future__ import annotations

from hornetmail.wire.engine import CHUNK_BYTES

_DOT = b"\r\n."
_END = b"\r\n.\r\n"


def _held(piece: bytes) -> int:
    """How many bytes at the end may belong to an end of data, a stuffed dot or a line end that continues."""
    if piece.endswith(b"\r"):
        return 4 if piece.endswith(b"\r\n.\r") else 1
    if piece.endswith(b"\n"):
        return 2 if piece.endswith(b"\r\n") else 0
    return 3 if piece.endswith(b"\r\n.") else 0


class Unstuffer:
    """Takes the transparency off an incoming text, piece by piece.

    ``flaw`` becomes ``"nul"``, ``"bare"``, ``"size"`` or ``"line"`` once the text cannot be accepted; pieces are then empty, and the
    end is still found. ``size``: bytes of text so far, without stuffing. With ``normalise`` bare CR and LF become CRLF instead.
    """

    __slots__ = ("_bare", "_first", "_line", "_long", "_max_line", "_max_size", "_normalise", "_nul", "_slice", "size")

    def __init__(self, *, max_size: int, max_line: int, normalise: bool) -> None:
        self.size = 0
        self._bare = self._nul = self._long = False
        self._first = True
        self._line = 0
        self._max_size = max_size
        self._max_line = max_line
        self._normalise = normalise
        self._slice = CHUNK_BYTES // 2 if normalise else CHUNK_BYTES  # made clean it may grow to twice its size

    @property
    def flaw(self) -> str:
        """The worst thing found so far, ``""`` if nothing; the same however the text was cut."""
        if self._nul:
            return "nul"
        if self._bare:
            return "bare"
        if self.size > self._max_size:
            return "size"
        return "line" if self._long else ""

    def take(self, buffer: bytes, at: int) -> tuple[bytes, int, bool]:
        """Of ``buffer`` from ``at``: a piece of text (at most CHUNK_BYTES), where the rest begins, whether the text ended there.

        The piece is empty and the place unmoved if more must arrive first. The first call's buffer is a start of line.
        """
        if self._first:
            return self._take_first(buffer, at)
        raw = buffer[at : at + self._slice]
        dot = raw.find(_DOT)  # one look for stuffed dots and for the end
        end = raw.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            return self._clean(raw[: end + 2], dot < end), at + end + 5, True
        held = _held(raw)
        if held:
            raw = raw[:-held]
        return self._clean(raw, dot >= 0), at + len(raw), False

    def _take_first(self, buffer: bytes, at: int) -> tuple[bytes, int, bool]:
        head = buffer[at : at + 3]
        if head == b".\r\n":
            self._first = False
            return b"", at + 3, True
        if not head or b".\r\n".startswith(head):
            return b"", at, False
        self._first = False
        return self.take(buffer, at + 1 if head[:1] == b"." else at)

    def _clean(self, raw: bytes, stuffed: bool) -> bytes:
        """A raw piece that splits no CRLF, made text; counts and checks it. ``stuffed``: there may be dots to take off."""
        if not raw:
            return b""
        if b"\0" in raw:
            self._nul = True
        bare = has_bare(raw)
        text = raw.replace(_DOT, b"\r\n") if stuffed else raw
        if bare and self._normalise:
            text = crlf(text)
        elif bare:
            self._bare = True
        self._measure(text)
        self.size += len(text)
        return b"" if self.flaw else text

    def _measure(self, text: bytes) -> None:
        """Find lines longer than allowed."""
        first = text.find(b"\r\n")
        if first < 0:
            self._line += len(text)
            longest = self._line
        else:
            longest = self._line + first
            self._line = len(text) - text.rfind(b"\r\n") - 2
            if len(text) > self._max_line:
                longest = max(longest, max(map(len, text[first:].split(b"\r\n"))))
        if longest > self._max_line:
            self._long = True


def has_bare(text: bytes) -> bool:
    """Whether there is a CR or LF outside of CRLF: without its CRs and with one before each LF, a clean text is what it was. (Looks for single
    bytes only; on lines of usual length nearly five times as fast as counting lines.)"""
    return text.replace(b"\r", b"").replace(b"\n", b"\r\n") != text


def crlf(text: bytes) -> bytes:
    """All line ends, bare ones too, as CRLF. The text must not be cut between CR and LF."""
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


class Stuffer:
    """Puts the transparency on an outgoing text, at every line's start, wherever pieces are cut.

    Bare CR and LF become CRLF, so that what we send can end only where we end it.
    """

    __slots__ = ("_held", "_start")

    def __init__(self) -> None:
        self._start = True
        self._held = b""

    def feed(self, text: bytes) -> bytes:
        """A piece of text, ready for the wire."""
        if self._held:
            text = self._held + text
            self._held = b""
        if text.endswith(b"\r"):
            self._held = b"\r"
            text = text[:-1]
        if not text:
            return b""
        return self._stuff(text)

    def _stuff(self, text: bytes) -> bytes:
        if has_bare(text):
            text = crlf(text)
        stuffed = text.replace(b"\r\n.", b"\r\n..")
        if self._start and text.startswith(b"."):
            stuffed = b"." + stuffed
        self._start = text.endswith(b"\r\n")
        return stuffed

    def finish(self) -> bytes:
        """What is missing up to and including the end of data."""
        rest = b""
        if self._held:
            self._held = b""
            rest = self._stuff(b"\r\n")
        return rest + (b".\r\n" if self._start else b"\r\n.\r\n")
