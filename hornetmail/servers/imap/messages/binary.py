"""BINARY and BINARY.SIZE of FETCH (RFC 3516, RFC 9051 section 6.4.5): parts with their transfer encoding undone."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hornetmail.core.folder import FolderError
from hornetmail.interfaces.body import IBody
from hornetmail.mime.transfer import decoded, decoder_of
from hornetmail.net.serving.pump import Wire
from hornetmail.wire.imap.answers.structure import cut
from hornetmail.wire.imap.requests.items import Section


def answer(section: Section, raw: bytes | None, encoding: str) -> bytes:
    """A part that is held as it is; None: there is none."""
    data = b"" if raw is None else decoded(raw, encoding)
    if section.decoded == "BINARY.SIZE":
        return b"%b %d" % (section.label, len(data))
    if raw is None:
        return _label(section) + b" NIL"
    start, end = cut(section, 0, len(data))
    return opening(section, end - start, b"\0" in data[start:end]) + data[start:end]


def _label(section: Section) -> bytes:
    return section.label if section.start < 0 else b"%b<%d>" % (section.label, section.start)


def opening(section: Section, size: int, nul: bool) -> bytes:
    """What stands before the data: a ``literal8`` only where a literal cannot carry it (RFC 3516 section 4.3)."""
    return b"%b %b{%d}\r\n" % (_label(section), b"~" if nul else b"", size)


class Large:
    """A part too large to be held: read once to know what comes of it, and once more to send that. ``slice_bytes`` are read at a time."""

    def __init__(self, body: IBody, span: tuple[int, int], encoding: str, slice_bytes: int, wire: Wire) -> None:
        self._body = body
        self._span = span
        self._encoding = encoding
        self._slice_bytes = slice_bytes
        self._wire = wire

    async def _pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        """What comes of the part between these bytes of it, ``end`` -1 for all. Raises FolderError if the message is shorter than it was."""
        decoder = decoder_of(self._encoding)
        at, last = self._span
        told = 0
        while at < last and (end < 0 or told < end):
            raw = await self._body.read(at, min(self._slice_bytes, last - at))
            if not raw:
                raise FolderError("UNAVAILABLE", "The message ends too early")
            at += len(raw)
            data = decoder.feed(raw)
            if at >= last:
                data += decoder.end()
            low = max(0, start - told)
            high = len(data) if end < 0 else min(len(data), end - told)
            told += len(data)
            if low < high:
                yield data[low:high]
            if turn := self._wire.breathe():
                await turn

    async def measured(self, section: Section) -> tuple[int, bool]:
        """How many bytes the answer has, and whether NUL is among them."""
        end = section.start + section.count if section.start >= 0 else -1
        size, nul = 0, False
        async for piece in self._pieces(max(section.start, 0), end):
            size += len(piece)
            nul = nul or b"\0" in piece
        return size, nul

    def data(self, section: Section) -> AsyncIterator[bytes]:
        """The bytes of the answer."""
        return self._pieces(max(section.start, 0), section.start + section.count if section.start >= 0 else -1)
