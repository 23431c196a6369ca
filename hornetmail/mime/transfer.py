"""Content-Transfer-Encoding undone (RFC 2045 section 6), as mail has it: padding that is missing, several base64 runs behind one another, junk between
them. Never raises. ``pieces``, ``texts`` and ``Decoder`` hold no more than a piece at a time, whatever the part's length (``tests/cost/test_mime.py``).
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Iterator

from hornetmail.mime import charset

PIECE_BYTES = 65_536
"""Encoded bytes that are decoded at a time."""

_JUNK = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
BEGINNING = 6 << 10
"""Encoded bytes of HTML in which its charset is looked for."""

_PAD = re.compile(b"=+")
_SOFT = re.compile(rb"=[ \t\r]++\n")
"""A soft line end with what transports put behind it (RFC 2045 section 6.7, rule 3)."""


def decoded(raw: bytes, encoding: str) -> bytes:
    """The bytes of a whole part; ``encoding`` in capitals."""
    return b"".join(pieces(raw, encoding))


def pieces(raw: bytes, encoding: str) -> Iterator[bytes]:
    """The same, piece by piece."""
    decoder = decoder_of(encoding)
    for at in range(0, len(raw), PIECE_BYTES):
        if found := decoder.feed(raw[at : at + PIECE_BYTES]):
            yield found
    if found := decoder.end():
        yield found


class Decoder:
    """Takes a part in pieces, cut anywhere, and gives what they say; this one what says itself."""

    def feed(self, data: bytes) -> bytes:
        """What is known with this piece."""
        return data

    def end(self) -> bytes:
        """What was kept for what might have come."""
        return b""


def decoder_of(encoding: str) -> Decoder:
    """``encoding`` in capitals; what is not known is taken as it is."""
    if encoding == "BASE64":
        return _Base64()
    return _Quoted() if encoding == "QUOTED-PRINTABLE" else Decoder()


class _Base64(Decoder):
    """Each run up to its padding by itself; a lone last sign of a run says nothing and is dropped."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        data = self._kept + data.translate(None, _JUNK)
        bare = data.rstrip(b"=")
        if b"=" in bare:
            *runs, kept = _PAD.split(data)
        else:
            # As nearly all are; the pattern takes hundreds of times as long over them.
            runs, kept = ([], data) if len(bare) == len(data) else ([bare], b"")
        whole = len(kept) & ~3
        self._kept = kept[whole:]
        return b"".join(map(_run, runs)) + binascii.a2b_base64(kept[:whole])

    def end(self) -> bytes:
        return _run(self._kept)


def _run(run: bytes) -> bytes:
    if len(run) % 4 == 1:
        run = run[:-1]
    return binascii.a2b_base64(run + b"=" * (-len(run) % 4))


class _Quoted(Decoder):
    """Pieces end behind a line, or where no escape is under way."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        data = self._kept + data
        end = data.rfind(b"\n") + 1
        if not end:
            sign = data.rfind(b"=", max(0, len(data) - 3))
            end = sign if sign >= 0 else len(data)
        self._kept = data[end:]
        return binascii.a2b_qp(_SOFT.sub(b"=\n", data[:end]))

    def end(self) -> bytes:
        return binascii.a2b_qp(self._kept)


def label_in(raw: bytes, encoding: str, subtype: str, label: str) -> str:
    """The charset of a text part as it may be believed: HTML often says it better than its header."""
    if subtype != "HTML":
        return label
    return charset.html_label(decoded(raw[:BEGINNING], encoding), label)


def texts(raw: bytes, encoding: str, label: str) -> Iterator[str]:
    """A text part as text, piece by piece: the charset that ``mime.charset`` would read the whole in."""
    if len(raw) <= PIECE_BYTES:
        yield charset.decode(decoded(raw, encoding), label)
        return
    fitting = Fitting(label)
    for piece in pieces(raw, encoding):
        fitting.feed(piece)
    reader = fitting.reader()
    for piece in pieces(raw, encoding):
        yield reader.decode(piece)
    yield reader.decode(b"", True)


class Fitting:
    """Which charset a text is in that comes in pieces: the declared one or UTF-8, if all of it fits, else a guess by its beginning."""

    def __init__(self, label: str) -> None:
        self._declared = charset.codec_for(label) if label else None
        self._first = b""
        self._readers: dict[str, codecs.IncrementalDecoder] = {}
        for codec in (self._declared, "utf-8"):
            if codec is not None and codec != "cp1252":
                try:
                    self._readers[codec] = codecs.getincrementaldecoder(codec)("strict")
                except LookupError:
                    continue

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """The next piece, decoded from its transfer encoding."""
        self._first = self._first or data
        for codec, reader in list(self._readers.items()):
            try:
                reader.decode(data, final)
            except (UnicodeError, ValueError, AttributeError):
                del self._readers[codec]

    def reader(self) -> codecs.IncrementalDecoder:
        """What reads it from its beginning, once all was fed."""
        self.feed(b"", final=True)
        codec = next(iter(self._readers), "") or ("cp1252" if self._declared == "cp1252" else charset.guess(self._first))
        return codecs.getincrementaldecoder(codec)("replace")
