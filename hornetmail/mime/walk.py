"""A message walked along its MIME structure while it comes by, piece by piece (RFC 2046).

Pure, in time proportional to the size, in memory that does not depend on it: a header is held until its end (at most ``HEADER_BYTES``), bodies
never. ``refused`` says why the structure could not be followed to its end; then what is left is handed on as it is.
"""

from __future__ import annotations

import enum

import msgspec

from hornetmail.core.mail.fields import begins_field, mbox_end, read_fields
from hornetmail.mime.structure import boundary_of, content_type, token

HEADER_BYTES = 1 << 18
DEPTH = 50
PARTS = 2_000
"""Each takes time, and 64 KiB may hold thousands (rule 8d)."""

_BOUNDARY_LINE = 1_000
"""A boundary's line is no longer."""


class Kind(enum.Enum):
    """What a piece belongs to. ``HEADER``: a whole header with its blank line. ``BODY``: of a part without parts. ``OUTSIDE``: what stands before
    and behind the parts of a multipart. ``BOUNDARY``: a boundary's line with the line end before it."""

    HEADER = "header"
    BODY = "body"
    OUTSIDE = "outside"
    BOUNDARY = "boundary"


class Entity(msgspec.Struct, frozen=True, gc=False):
    """A message or a part. ``number``: in the order of coming, 0 the whole. Types and ``encoding`` in capitals. ``composite``: it is walked into.
    ``root``: it is a message of its own. ``sealed``: it lies in something signed or encrypted (RFC 1847)."""

    number: int
    type: str = "TEXT"
    subtype: str = "PLAIN"
    encoding: str = "7BIT"
    composite: bool = False
    root: bool = False
    sealed: bool = False
    depth: int = 0


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Some bytes; all pieces one after another are what was fed."""

    kind: Kind
    data: bytes
    entity: Entity


class _Open(msgspec.Struct, frozen=True, gc=False):
    boundary: bytes
    entity: Entity


class Walker:
    """``feed`` and at last ``finish`` hand out the pieces."""

    def __init__(self) -> None:
        self.refused = ""
        self._buffer = b""
        self._at = 0
        self._seen = 0  # of a header: where the first line begins that was not looked at
        self._kind = Kind.HEADER
        self._line_start = True
        self._ended = False
        self._stack: list[_Open] = []
        self._levels: dict[bytes, int] = {}
        self._count = 0
        self._out: list[Piece] = []
        self._entity = self._next(None)

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that are complete with this one."""
        self._buffer = self._buffer[self._at :] + data
        self._seen -= self._at
        self._at = 0
        while self._step():
            pass
        out, self._out = self._out, []
        return out

    def finish(self) -> list[Piece]:
        """What is left."""
        self._ended = True
        return self.feed(b"")

    # ---- steps

    def _step(self) -> bool:
        return self._header() if self._kind is Kind.HEADER else self._text()

    def _emit(self, kind: Kind, stop: int) -> None:
        if stop > self._at:
            self._out.append(Piece(kind, self._buffer[self._at : stop], self._entity))
            self._at = stop

    def _header(self) -> bool:
        buffer = self._buffer
        while True:
            stop = buffer.find(b"\n", self._seen)
            if stop < 0:
                if self._ended:
                    self._header_ends(len(buffer))
                    return self._kind is not Kind.HEADER
                if len(buffer) - self._at > HEADER_BYTES:
                    self._give_up("a header without end")
                    return True
                return False
            if buffer[self._seen : stop] in (b"", b"\r"):
                self._header_ends(stop + 1)
                return True
            if not self._is_field(stop):
                self._header_ends(self._seen)
                return True
            self._seen = stop + 1

    def _is_field(self, stop: int) -> bool:
        buffer, at = self._buffer, self._seen
        if at > self._at:
            return buffer[at : at + 1] in (b" ", b"\t") or begins_field(buffer, at, stop)
        return begins_field(buffer, at, stop) or mbox_end(buffer, at) > at

    def _header_ends(self, stop: int) -> None:
        block = self._buffer[self._at : stop]
        self._entity, boundary = _described(self._entity, block)
        self._emit(Kind.HEADER, stop)
        self._line_start = True
        entity = self._entity
        if not entity.composite:
            self._kind = Kind.BODY
        elif entity.type == "MESSAGE":
            self._begin(entity)
        else:
            self._levels.setdefault(boundary, len(self._stack))
            self._stack.append(_Open(boundary, entity))
            self._kind = Kind.OUTSIDE

    def _text(self) -> bool:
        """Body or what is outside: on to the next boundary."""
        buffer, scan = self._buffer, self._at
        first = self._line_start
        while self._levels:
            hit = scan if first and buffer.startswith(b"--", scan) else _behind(buffer.find(b"\n--", scan))
            if hit < 0:
                break
            first = False
            stop = buffer.find(b"\n", hit)
            if stop < 0 and not self._ended and len(buffer) - hit <= _BOUNDARY_LINE:
                self._content(self._before(hit))
                return False
            stop = len(buffer) if stop < 0 else stop + 1
            # however it was cut: a line that is longer is none
            if stop - hit <= _BOUNDARY_LINE and self._boundary(hit, stop):
                return True
            scan = stop - 1 if buffer.endswith(b"\n", hit, stop) else stop
        self._content(len(buffer) if self._ended or not self._levels else self._held())
        return False

    def _content(self, stop: int) -> None:
        if stop > self._at:
            self._line_start = False
            self._emit(self._kind, stop)

    def _before(self, hit: int) -> int:
        """Where the line end before a boundary begins."""
        stop = hit
        if stop > self._at and self._buffer[stop - 1] == 10:
            stop -= 1
            if stop > self._at and self._buffer[stop - 1] == 13:
                stop -= 1
        return stop

    def _held(self) -> int:
        """The end of the buffer but for what may be the beginning of a boundary."""
        size = len(self._buffer)
        if self._line_start and size - self._at < 2:
            return self._at
        stop = size - 1 if self._buffer.endswith(b"\n-", self._at) else size
        before = self._before(stop)
        if before == stop:
            before = size - 1 if self._buffer.endswith(b"\r", self._at) else size
        return before

    def _boundary(self, hit: int, stop: int) -> bool:
        text = self._buffer[hit + 2 : stop].rstrip(b" \t\r\n")
        level, last = self._levels.get(text), False
        if level is None and text.startswith(tuple(self._levels)):  # RFC 2046 section 5.1.1: it need only begin with the boundary
            boundary = max((each for each in self._levels if text.startswith(each)), key=len)
            level, last = self._levels[boundary], text.startswith(b"--", len(boundary))
        if level is None:
            return False
        self._content(self._before(hit))
        self._emit(Kind.BOUNDARY, stop)
        parent = self._stack[level].entity
        while len(self._stack) > (level if last else level + 1):
            boundary = self._stack.pop().boundary
            if self._levels.get(boundary) == len(self._stack):
                del self._levels[boundary]
        self._line_start = True
        if last:
            self._entity, self._kind = parent, Kind.OUTSIDE
        else:
            self._begin(parent)
        return True

    def _begin(self, parent: Entity) -> None:
        self._entity, self._kind, self._seen = self._next(parent), Kind.HEADER, self._at
        if self.refused:
            self._give_up(self.refused)

    def _next(self, parent: Entity | None) -> Entity:
        number = self._count
        self._count += 1
        if parent is None:
            return Entity(number, root=True)
        if number >= PARTS or parent.depth + 1 >= DEPTH:
            self.refused = "too many parts" if number >= PARTS else "parts nested too deep"
        sealed = parent.sealed or (parent.type == "MULTIPART" and parent.subtype in ("SIGNED", "ENCRYPTED"))
        kind = ("MESSAGE", "RFC822") if parent.type == "MULTIPART" and parent.subtype == "DIGEST" else ("TEXT", "PLAIN")
        return Entity(number, *kind, root=parent.type == "MESSAGE", sealed=sealed, depth=parent.depth + 1)

    def _give_up(self, why: str) -> None:
        self.refused = self.refused or why
        self._kind = Kind.OUTSIDE
        self._stack.clear()
        self._levels.clear()


def _behind(line_end: int) -> int:
    return line_end + 1 if line_end >= 0 else -1


def _described(entity: Entity, block: bytes) -> tuple[Entity, bytes]:
    """The entity as its header has it, and its boundary if it is a multipart with one."""
    found: dict[bytes, bytes] = {}
    for match in read_fields(block)[0]:
        found.setdefault(match[1].lower(), match[2])
    digest = (entity.type, entity.subtype) == ("MESSAGE", "RFC822")
    kind, subtype, params = content_type(found.get(b"content-type"), digest)
    encoding = token(found.get(b"content-transfer-encoding")) or "7BIT"
    boundary = boundary_of(params) if kind == "MULTIPART" else b""
    # A label of another encoding is forbidden here (RFC 2045 section 6.4), and then it is not known what lies within.
    open_to_view = encoding not in ("BASE64", "QUOTED-PRINTABLE")
    composite = open_to_view and (bool(boundary) or (kind, subtype) in (("MESSAGE", "RFC822"), ("MESSAGE", "GLOBAL")))
    changed = msgspec.structs.replace(entity, type=kind, subtype=subtype, encoding=encoding, composite=composite)
    return changed, boundary
