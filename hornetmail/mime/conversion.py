"""Whether a message fits a server that takes less, and the message changed so that it does (RFC 6152 section 3, RFC 5322 section 2.1.1).

A server without 8BITMIME takes ASCII only; none takes lines over 998 bytes. Bodies get a transfer encoding, part by part, down through multiparts
and messages within; what is signed or encrypted is not touched, and then the message does not fit (``Findings.unfit``). The same message is changed
to the same bytes each time.

First ``Survey``, then ``Conversion``, both over pieces of the whole message cut anywhere, pure, in time proportional to it, in flat memory.
"""

from __future__ import annotations

import enum

import msgspec

from hornetmail.core.mail.fields import read_fields
from hornetmail.mime.encode import Base64, Encoder, Plain, QuotedPrintable, Requoted, Rewrapped
from hornetmail.mime.structure import token
from hornetmail.mime.walk import Entity, Kind, Piece, Walker
from hornetmail.mime.words import MOST, Unwritable, folded, in_ascii


class Flaw(enum.Flag):
    """What a server may not take. ``NONE``: nothing of it."""

    NONE = 0
    EIGHT = 1
    LONG = 2


class Column:
    """Looks for bytes above 127 and lines of more than 998 bytes in a text that comes by in pieces."""

    def __init__(self) -> None:
        self._column = 0
        self._cr = False

    def look(self, data: bytes) -> Flaw:
        """The flaws of this piece; a line too long is told of in each piece that it goes on in."""
        flaw = Flaw.NONE if data.isascii() else Flaw.EIGHT
        return flaw | Flaw.LONG if self._long(data) else flaw

    def _long(self, data: bytes) -> bool:
        first = data.find(b"\n")
        if first < 0:
            self._column += len(data)
            self._cr = data.endswith(b"\r") or (self._cr and not data)
            return self._column - self._cr > MOST
        long = self._column + first - (data[first - 1] == 13 if first else self._cr) > MOST
        last = data.rfind(b"\n")
        self._column, self._cr = len(data) - last - 1, data.endswith(b"\r")
        at = first
        while not long and at < last:
            # The last line end within reach: no line before it can be too long.
            found = data.rfind(b"\n", at + 1, at + MOST + 3)
            long = found < 0 or (found == at + MOST + 2 and data[found - 1] != 13)
            at = found
        return long or self._column - self._cr > MOST


class Findings(msgspec.Struct, frozen=True):
    """What a survey found. ``header``: flaws of headers, of parts' and of messages within too; ``body``: of all else; ``entities``: by number, of
    what is not header. ``fixed``, ``fixed_header``: which of them cannot be mended, and why."""

    header: Flaw
    body: Flaw
    entities: dict[int, Flaw]
    fixed: dict[Flaw, str]
    fixed_header: dict[Flaw, str]

    def unfit(self, flaws: Flaw, *, headers: bool = True) -> str:
        """Why the message cannot be freed of these flaws, ``""`` if it can, or has none of them. ``headers``: see ``Conversion``."""
        for flaw in _each(flaws):
            why = self.fixed.get(flaw, "") or (self.fixed_header.get(flaw, "") if headers or flaw is Flaw.LONG else "")
            if why:
                return why
        return ""


class Survey:
    """``feed`` the message, ``finish`` tells."""

    def __init__(self) -> None:
        self._walker = Walker()
        self._header = self._body = Flaw.NONE
        self._entities: dict[int, Flaw] = {}
        self._fixed: dict[Flaw, str] = {}
        self._fixed_header: dict[Flaw, str] = {}
        self._column = Column()

    def feed(self, data: bytes) -> None:
        """A piece."""
        for piece in self._walker.feed(data):
            self._look(piece)

    def finish(self) -> Findings:
        """All that was found."""
        for piece in self._walker.finish():
            self._look(piece)
        if self._walker.refused:
            _because(self._fixed, self._header | self._body, self._walker.refused)
        return Findings(self._header, self._body, self._entities, self._fixed, self._fixed_header)

    def _look(self, piece: Piece) -> None:
        flaw = self._column.look(piece.data)
        if piece.kind is Kind.BOUNDARY:
            # A line that it ends was told of before; its own may go on behind the boundary (RFC 2046 section 5.1.1), and stays as it is.
            flaw = Column().look(piece.data)
            self._body |= flaw
            _because(self._fixed, flaw, "the line of a boundary goes on behind it")
            return
        if not flaw:
            return
        entity = piece.entity
        if piece.kind is Kind.HEADER:
            self._header |= flaw
            _because(self._fixed_header, flaw, _sealed(entity) or _unwritable(piece.data, flaw))
            return
        self._body |= flaw
        if not self._walker.refused:
            self._entities[entity.number] = self._entities.get(entity.number, Flaw.NONE) | flaw
        why = _sealed(entity)
        if not why and piece.kind is Kind.BODY:
            why = _unencodable(entity)
        _because(self._fixed, flaw, why)


def _each(flaws: Flaw) -> list[Flaw]:
    return [flaw for flaw in (Flaw.EIGHT, Flaw.LONG) if flaw in flaws]


def _because(fixed: dict[Flaw, str], flaws: Flaw, why: str) -> None:
    if why:
        for flaw in _each(flaws):
            fixed.setdefault(flaw, why)


def _sealed(entity: Entity) -> str:
    return "a part of it is signed or encrypted and must not be changed" if entity.sealed else ""


def _unwritable(block: bytes, flaws: Flaw) -> str:
    try:
        folded(in_ascii(block) if Flaw.EIGHT in flaws else block)
    except Unwritable as error:
        return str(error)
    return ""


def _unencodable(entity: Entity) -> str:
    """Why this body may not get a transfer encoding (RFC 2045 section 6.4)."""
    if entity.type == "MULTIPART" and entity.encoding not in _ENCODED:
        return "it is a multipart without a usable boundary"
    if entity.type == "MESSAGE" and not entity.subtype.startswith("GLOBAL") and entity.encoding not in _ENCODED:
        return f"a message/{entity.subtype.lower()} may not be encoded"
    if entity.encoding.startswith("X-"):
        return f"a part of it has the encoding {entity.encoding.lower()[:40]}"
    return ""


_ENCODED = frozenset({"BASE64", "QUOTED-PRINTABLE"})


class Conversion:
    """The message without some flaws that ``findings`` has of it. ``headers``: whether bytes above 127 in headers are among
    them; they are not where SMTPUTF8 is spoken."""

    def __init__(self, findings: Findings, flaws: Flaw, *, headers: bool = True) -> None:
        self._findings = findings
        self._flaws = flaws
        self._header_flaws = flaws if headers else flaws & ~Flaw.EIGHT
        self._walker = Walker()
        self._encoder: Encoder | None = None
        self._at: tuple[Kind, int] | None = None

    def feed(self, data: bytes) -> bytes:
        """A piece."""
        return b"".join(self._piece(piece) for piece in self._walker.feed(data))

    def finish(self) -> bytes:
        """What is left."""
        return b"".join(self._piece(piece) for piece in self._walker.finish()) + self._ended()

    def _piece(self, piece: Piece) -> bytes:
        here = (piece.kind, piece.entity.number)
        out = b""
        if here != self._at:
            out, self._at = self._ended(), here
            self._encoder = self._encoder_for(piece)
        if piece.kind is Kind.HEADER:
            return out + self._header(piece.data, piece.entity)
        return out + (self._encoder.feed(piece.data) if self._encoder is not None else piece.data)

    def _ended(self) -> bytes:
        encoder, self._encoder = self._encoder, None
        return encoder.finish() if encoder is not None else b""

    def _flawed(self, entity: Entity) -> bool:
        return bool(self._findings.entities.get(entity.number, Flaw.NONE) & self._flaws)

    def _encoder_for(self, piece: Piece) -> Encoder | None:
        entity = piece.entity
        if piece.kind not in (Kind.BODY, Kind.OUTSIDE) or not self._flawed(entity):
            return None
        if piece.kind is Kind.OUTSIDE:
            return Plain()
        if entity.encoding in _ENCODED:
            return Rewrapped() if entity.encoding == "BASE64" else Requoted()
        return QuotedPrintable() if entity.type == "TEXT" else Base64()

    def _header(self, block: bytes, entity: Entity) -> bytes:
        if entity.sealed:
            return block
        before = block
        if not entity.composite and self._flawed(entity):
            block = _labelled(block, _encoding(entity).lower().encode(), must=True)
        elif Flaw.EIGHT in self._flaws and entity.encoding in ("8BIT", "BINARY"):
            block = _labelled(block, b"7bit", must=False)
        if (entity.number == 0 or (entity.root and block != before)) and not any(
            match[1].lower() == b"mime-version" for match in read_fields(block)[0]
        ):
            block = _with_field(block, b"MIME-Version: 1.0\r\n")
        if Flaw.EIGHT in self._header_flaws:
            block = in_ascii(block)
        return folded(block)


def _encoding(entity: Entity) -> str:
    """The transfer encoding that its body gets."""
    if entity.encoding in _ENCODED:
        return entity.encoding
    return "QUOTED-PRINTABLE" if entity.type == "TEXT" else "BASE64"


def _labelled(block: bytes, encoding: bytes, *, must: bool) -> bytes:
    """The header with that Content-Transfer-Encoding alone; one is added if it ``must``."""
    found = [match for match in read_fields(block)[0] if match[1].lower() == b"content-transfer-encoding"]
    if len(found) == 1 and token(found[0][2]) == encoding.upper().decode():
        return block
    field = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    if not found:
        return _with_field(block, field) if must else block
    out, at = [], 0
    for match in found:
        out += [block[at : match.start()], field]
        at, field = match.end(), b""
    return b"".join([*out, block[at:]])


def _with_field(block: bytes, field: bytes) -> bytes:
    """The header with a field more, at its end, and with the blank line that a header needs."""
    _, stop, _ = read_fields(block)
    head = block[:stop]
    if head and not head.endswith(b"\n"):
        head += b"\r\n"
    return head + field + (block[stop:] or b"\r\n")
