"""GETMETADATA and SETMETADATA: their grammar (RFC 5464 section 5)."""

from __future__ import annotations

from collections.abc import Callable

from hornetmail.core.metadata import ENTRIES, entry_of
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.tokens.grammar import Bad, Cursor, mailbox

Parser = Callable[[bytes, Cursor], c.Command]

DEPTHS = {"0": 0, "1": 1, "INFINITY": None}


def _entry(cursor: Cursor) -> str:
    at = cursor.at
    try:
        return entry_of(cursor.astring())
    except ValueError as why:
        raise Bad(
            f"entry name broken (RFC 5464 section 3.2): {'eight bits' if isinstance(why, UnicodeError) else why}", at
        ) from None


def _options(cursor: Cursor) -> tuple[int | None, int | None] | None:
    """MAXSIZE and DEPTH in parentheses; None if something else stands there."""
    if cursor.data[cursor.at : cursor.at + 5].upper() not in (b"(MAXS", b"(DEPT"):
        return None
    cursor.expect(b"(")
    found: dict[str, int | None] = {}
    while not found or not cursor.skip(b")"):
        if found:
            cursor.space()
        at = cursor.at
        word = cursor.word()
        cursor.space()
        if word in found or word not in ("MAXSIZE", "DEPTH"):
            raise Bad("MAXSIZE or DEPTH expected, each once", at)
        if word == "MAXSIZE":
            found[word] = cursor.number()
        else:
            at = cursor.at
            depth = cursor.word()
            if depth not in DEPTHS:
                raise Bad("0, 1 or infinity expected", at)
            found[word] = DEPTHS[depth]
    return found.get("MAXSIZE"), found.get("DEPTH", 0)


def _get(tag: bytes, cursor: Cursor) -> c.Command:
    """The options stand before the mailbox in the formal syntax and behind it in the examples (sections 5 and 4.2.1): both are taken."""
    cursor.space()
    options = _options(cursor)
    if options is not None:
        cursor.space()
    name = mailbox(cursor)
    cursor.space()
    if options is None and (options := _options(cursor)) is not None:
        cursor.space()
    most, depth = options or (None, 0)
    entries: list[str] = []
    if not cursor.skip(b"("):
        entries.append(_entry(cursor))
        return c.GetMetadata(tag, name, tuple(entries), most, depth)
    while not entries or not cursor.skip(b")"):
        if entries:
            cursor.space()
        entries.append(_entry(cursor))
        if len(entries) > ENTRIES:
            raise cursor.bad("too many entries")
    return c.GetMetadata(tag, name, tuple(entries), most, depth)


def _set(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    name = mailbox(cursor)
    cursor.space()
    cursor.expect(b"(")
    values: dict[str, bytes | None] = {}
    count = 0
    while not count or not cursor.skip(b")"):
        if count:
            cursor.space()
        at = cursor.at
        entry = _entry(cursor)
        if entry.count("/") < 2:
            raise Bad("an entry below /private or /shared expected", at)
        cursor.space()
        values[entry] = None if cursor.nil() else cursor.string8()
        count += 1
        if count > ENTRIES:
            raise cursor.bad("too many entries")
    return c.SetMetadata(tag, name, values)


PARSERS: dict[str, Parser] = {"GETMETADATA": _get, "SETMETADATA": _set}
"""By their words."""
