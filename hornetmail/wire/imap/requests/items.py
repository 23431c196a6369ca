"""What FETCH asks for (RFC 3501 section 6.4.5)."""

from __future__ import annotations

import msgspec

from hornetmail.wire.imap.tokens.grammar import LIST_ITEMS, Bad, Cursor

PATH_LEVELS = 100
"""No part number is longer."""


class Section(msgspec.Struct, frozen=True, gc=False):
    """``BODY[path.kind]<start.count>``. ``kind``: ``""`` (all), ``HEADER``, ``TEXT``, ``MIME``, ``HEADER.FIELDS``,
    ``HEADER.FIELDS.NOT``; ``fields`` in lower case. ``label``: how the answer names it, without the partial's origin.
    ``start`` -1: not partial. ``decoded``: ``BINARY`` or ``BINARY.SIZE`` (RFC 3516): the transfer encoding is undone, and offsets and sizes are those of
    what comes of it."""

    label: bytes
    path: tuple[int, ...] = ()
    kind: str = ""
    fields: frozenset[bytes] = frozenset()
    start: int = -1
    count: int = 0
    peek: bool = True
    decoded: str = ""


class Items(msgspec.Struct, frozen=True, gc=False):
    """``plain``: of FLAGS, UID, INTERNALDATE, RFC822.SIZE, ENVELOPE, BODY, BODYSTRUCTURE, MODSEQ, PREVIEW, EMAILID, THREADID, SAVEDATE, in the order asked, each once."""

    plain: tuple[str, ...]
    sections: tuple[Section, ...]


_PLAIN = frozenset(
    {"FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "MODSEQ", "EMAILID", "THREADID", "SAVEDATE"}
)
_MACROS = {
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_WHOLE = {
    "RFC822": Section(b"RFC822", peek=False),
    "RFC822.HEADER": Section(b"RFC822.HEADER", kind="HEADER"),
    "RFC822.TEXT": Section(b"RFC822.TEXT", kind="TEXT", peek=False),
}


def parse_items(cursor: Cursor) -> Items:
    """A macro, one item or a list of them."""
    plain: dict[str, None] = {}
    sections: dict[Section, None] = {}
    if cursor.skip(b"("):
        count = 0
        while not cursor.skip(b")"):
            if count:
                cursor.space()
            count += 1
            if count > LIST_ITEMS:
                raise cursor.bad("too many items")
            _item(cursor, plain, sections)
        if not count:
            raise cursor.bad("item expected")
    else:
        at = cursor.at
        macro = _MACROS.get(_name(cursor))
        if macro is not None:
            plain.update(dict.fromkeys(macro))
        else:
            cursor.at = at
            _item(cursor, plain, sections)
    return Items(tuple(plain), tuple(sections))


def _name(cursor: Cursor) -> str:
    """Letters, digits and dots up to a bracket or delimiter."""
    start = cursor.at
    data = cursor.data
    at = start
    while at < len(data) and at - start < 24 and (data[at : at + 1].isalnum() or data[at] == 0x2E):
        at += 1
    cursor.at = at
    return data[start:at].decode("ascii").upper()


def _item(cursor: Cursor, plain: dict[str, None], sections: dict[Section, None]) -> None:
    at = cursor.at
    name = _name(cursor)
    if name in _PLAIN:
        plain[name] = None
    elif name in _WHOLE:
        sections[_WHOLE[name]] = None
    elif name == "BODY" and cursor.peek() == 0x5B:
        sections[_section(cursor, peek=False)] = None
    elif name == "BODY.PEEK" and cursor.peek() == 0x5B:
        sections[_section(cursor, peek=True)] = None
    elif name in ("BINARY", "BINARY.PEEK", "BINARY.SIZE") and cursor.peek() == 0x5B:
        sections[_decoded(cursor, name)] = None
    elif name == "BODY":
        plain[name] = None
    elif name == "PREVIEW":
        plain[name] = None
        if (
            cursor.data[cursor.at : cursor.at + 7].upper() == b" (LAZY)"
        ):  # RFC 8970 section 3.2: asks for no more than is done anyhow
            cursor.at += 7
    else:
        raise Bad("FETCH item expected", at)


def _decoded(cursor: Cursor, name: str) -> Section:
    """``section-binary`` of RFC 3516 section 7: a part's number, and a partial where data is asked for."""
    at = cursor.at
    section = _section(cursor, peek=name != "BINARY")
    word = "BINARY.SIZE" if name == "BINARY.SIZE" else "BINARY"
    if section.kind or (section.start >= 0 and word != "BINARY"):
        raise Bad("part number expected", at)
    return msgspec.structs.replace(section, label=word.encode("ascii") + section.label[4:], decoded=word)


def _section(cursor: Cursor, peek: bool) -> Section:
    cursor.expect(b"[")
    path: list[int] = []
    kind = ""
    while not cursor.skip(b"]"):
        if 0x31 <= cursor.peek() <= 0x39 and not kind:
            path.append(cursor.number())
            if len(path) > PATH_LEVELS:
                raise cursor.bad("part number too long")
            if cursor.peek() != 0x5D:
                cursor.expect(b".")
                if cursor.peek() == 0x5D:
                    raise cursor.bad("part number expected")
            continue
        at = cursor.at
        kind = _name(cursor)
        if kind not in ("HEADER", "TEXT", "MIME", "HEADER.FIELDS", "HEADER.FIELDS.NOT") or (kind == "MIME" and not path):
            raise Bad("section expected", at)
        if kind.startswith("HEADER.FIELDS"):
            fields = _fields(cursor)
            cursor.expect(b"]")
            return _partial(cursor, peek, path, kind, fields)
        cursor.expect(b"]")
        break
    return _partial(cursor, peek, path, kind, [])


def _fields(cursor: Cursor) -> list[bytes]:
    cursor.expect(b" (")
    fields = [cursor.astring()]
    while not cursor.skip(b")"):
        cursor.space()
        fields.append(cursor.astring())
        if len(fields) > LIST_ITEMS:
            raise cursor.bad("too many fields")
    return fields


def _partial(cursor: Cursor, peek: bool, path: list[int], kind: str, fields: list[bytes]) -> Section:
    start, count = -1, 0
    if cursor.skip(b"<"):
        start = cursor.number((1 << 63) - 1)
        cursor.expect(b".")
        count = cursor.number((1 << 63) - 1)
        if not count:
            raise cursor.bad("count above 0 expected")
        cursor.expect(b">")
    inner = ".".join([*map(str, path), *([kind] if kind else [])]).encode("ascii")
    if fields:
        inner += b" (" + b" ".join(_field_name(f) for f in fields) + b")"
    return Section(b"BODY[" + inner + b"]", tuple(path), kind, frozenset(f.lower() for f in fields), start, count, peek)


def _field_name(field: bytes) -> bytes:
    """As it can stand in the answer's label: field names are printable ASCII, all else is shown as ``?``."""
    clean = bytes(c if 33 <= c <= 126 and c not in b'"\\(){}%*]' else 0x3F for c in field)
    return clean or b'""'
