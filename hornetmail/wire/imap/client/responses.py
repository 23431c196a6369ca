"""What a response says (RFC 3501 section 7). Lenient where servers are known to be loose: spaces at ends, odd characters in flags and names."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from hornetmail.wire.engine import Event
from hornetmail.wire.imap.client.commands import (
    Code,
    Exists,
    Expunged,
    Fetched,
    Found,
    Listed,
    Noted,
    Ranges,
    Spaces,
    Status,
)
from hornetmail.wire.imap.tokens.dates import parse_date_time
from hornetmail.wire.imap.tokens.grammar import NESTING, Bad, Cursor, flag_name
from hornetmail.wire.imap.tokens.sequences import parse_sequence_set

FLAGS = 2000
"""No list of flags is longer."""

SPACES = 100
"""No more namespaces are looked at."""

_CODE = re.compile(rb"\[([A-Za-z0-9!-]{1,64})(?: ([^\]]*))?\] ?")
_TAGGED = re.compile(rb"([!-)+-~][!-~]{0,31}) (OK|NO|BAD)(?: |\Z)", re.IGNORECASE)
_CONDITION = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: |\Z)", re.IGNORECASE)
_NUMBERED = re.compile(rb"([0-9]{1,10}) (EXISTS|EXPUNGE|RECENT|FETCH)\b", re.IGNORECASE)
_WORD = re.compile(rb"([A-Za-z0-9.\-]{1,32})(?: |\Z)")
_LIST_OF_FLAGS = re.compile(rb"\(([^()\"{\r\n]*)\)")
_ITEM = re.compile(rb"([A-Za-z0-9.\-]{1,40})(\[[^\]]{0,2048}\](?:<[0-9]{1,20}>)?)?")
_ATOM = re.compile(rb'[^ ()"{\r\n]+')
_REST = re.compile(rb"[^\r\n]+")


class Tagged(msgspec.Struct, frozen=True, gc=False):
    """A command's completion."""

    tag: bytes
    status: Status
    code: Code
    text: str


class Capable(Event, frozen=True, gc=False):
    """CAPABILITY as data."""

    words: frozenset[str]


class Detailed(msgspec.Struct, frozen=True, gc=False):
    """A FETCH response; ``inline``: parts that came as quoted strings."""

    fetched: Fetched
    inline: tuple[tuple[str, bytes], ...] = ()


Untagged = Noted | Capable | Listed | Spaces | Exists | Expunged | Found | Detailed


def tagged(data: bytes) -> Tagged | None:
    """A completion; None if it is none."""
    match = _TAGGED.match(data)
    if match is None:
        return None
    return Tagged(match[1], Status(match[2].decode("ascii").upper()), *_told(data, match.end()))


def _told(data: bytes, at: int) -> tuple[Code, str]:
    code = Code()
    match = _CODE.match(data, at)
    if match is not None:
        code, at = Code(match[1].decode("ascii").upper(), match[2] or b""), match.end()
    return code, data[at : at + 1000].decode("utf-8", "replace")


def words(rest: bytes) -> frozenset[str]:
    """Capabilities, in capitals."""
    return frozenset(word.decode("ascii", "replace").upper() for word in rest.split()[:1000])


def untagged(data: bytes, tag: bytes) -> Untagged | None:
    """What stands behind ``* ``; None for what is of no interest. ``tag``: of the command outstanding. Raises Bad."""
    match = _CONDITION.match(data)
    if match is not None:
        return Noted(Status(match[1].decode("ascii").upper()), *_told(data, match.end()))
    match = _NUMBERED.match(data)
    if match is not None:
        return _numbered(int(match[1]), match[2].upper(), Cursor(data, match.end()))
    match = _WORD.match(data)
    parse = _DATA.get(match[1].upper()) if match is not None else None
    return parse(Cursor(data, match.end()), tag) if parse is not None and match is not None else None


def _numbered(number: int, word: bytes, cursor: Cursor) -> Untagged | None:
    if word == b"EXISTS":
        return Exists(number)
    if word == b"FETCH":
        cursor.space()
        return _fetched(number, cursor)
    return Expunged(number) if word == b"EXPUNGE" else None


def _capability(cursor: Cursor, tag: bytes) -> Capable:
    return Capable(words(cursor.data[cursor.at :]))


def _flags(cursor: Cursor) -> frozenset[str]:
    match = _LIST_OF_FLAGS.match(cursor.data, cursor.at)
    if match is None:
        raise cursor.bad("list of flags expected")
    found = match[1].split()
    if len(found) > FLAGS:
        raise cursor.bad("too many flags")
    cursor.at = match.end()
    return frozenset(flag_name(flag) for flag in found if flag.isascii())


def _delimiter(cursor: Cursor) -> bytes:
    return b"" if cursor.nil() else cursor.string()[:1]


def _listed(cursor: Cursor, tag: bytes) -> Listed:
    attributes = _flags(cursor)
    cursor.space()
    delimiter = _delimiter(cursor)
    cursor.space()
    if cursor.peek() in (0x22, 0x7B):
        name = cursor.string()
    else:
        match = _REST.match(cursor.data, cursor.at)
        name = match[0].rstrip(b" ") if match is not None else b""
    return Listed(name, delimiter, frozenset(each.lower() for each in attributes))


def _spaces(cursor: Cursor, tag: bytes) -> Spaces:
    if cursor.nil():
        return Spaces(())
    cursor.expect(b"(")
    found: list[tuple[bytes, bytes]] = []
    while not cursor.skip(b")"):
        cursor.skip(b" ")
        cursor.expect(b"(")
        prefix = cursor.string()
        cursor.space()
        found.append((prefix, _delimiter(cursor)))
        while cursor.skip(b" "):  # extensions
            _passed(cursor)
        cursor.expect(b")")
        if len(found) > SPACES:
            raise cursor.bad("too many namespaces")
    return Spaces(tuple(found))


def _search(cursor: Cursor, tag: bytes) -> Found:
    numbers: list[int] = []
    for word in cursor.data[cursor.at :].split():
        if not word.isdigit():
            break  # (MODSEQ n), RFC 7162
        if len(word) > 10:
            raise cursor.bad("number too large")
        numbers.append(int(word))
    return Found(_ranges(numbers))


def _ranges(numbers: list[int]) -> Ranges:
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and number <= found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def _esearch(cursor: Cursor, tag: bytes) -> Found | None:
    """None if it belongs to another command, or numbers no UIDs."""
    if cursor.skip(b"("):
        cursor.atom()
        cursor.space()
        if cursor.string() != tag:
            return None
        cursor.expect(b")")
    uids = False
    while cursor.skip(b" ") or cursor.peek() >= 0:
        word = _ATOM.match(cursor.data, cursor.at)
        if word is None:
            break
        cursor.at = word.end()
        if word[0].upper() == b"UID":
            uids = True
            continue
        cursor.space()
        if word[0].upper() == b"ALL":
            return Found(_whole(cursor)) if uids else None
        _passed(cursor)
    return Found(())


def _whole(cursor: Cursor) -> Ranges:
    match = _ATOM.match(cursor.data, cursor.at)
    found = parse_sequence_set(match[0]) if match is not None else None
    if found is None or found.saved or any(not low or not high for low, high in found.ranges):
        raise cursor.bad("numbers expected")
    return tuple(found.resolved(0))


# ---- FETCH


def _fetched(number: int, cursor: Cursor) -> Detailed:
    found: dict[str, object] = {}
    inline: list[tuple[str, bytes]] = []
    cursor.expect(b"(")
    while not cursor.skip(b")"):
        while cursor.skip(b" "):
            pass
        match = _ITEM.match(cursor.data, cursor.at)
        if match is None:
            raise cursor.bad("item expected")
        cursor.at = match.end()
        cursor.space()
        name = match[1].upper().decode("ascii")
        if match[2] or (name.startswith("RFC822") and name != "RFC822.SIZE"):
            if cursor.peek() == 0x22:
                inline.append((name + (match[2] or b"").decode("ascii", "replace").upper(), cursor.string()))
            else:
                _passed(cursor)
            continue
        _item(name, cursor, found)
    return Detailed(msgspec.convert({"number": number, **found}, Fetched), tuple(inline))


def _item(name: str, cursor: Cursor, found: dict[str, object]) -> None:
    if name == "UID":
        found["uid"] = cursor.number()
    elif name == "FLAGS":
        found["flags"] = _flags(cursor)
    elif name == "RFC822.SIZE":
        found["size"] = cursor.number((1 << 63) - 1)
    elif name == "INTERNALDATE":
        found["date"] = parse_date_time(cursor.string())
    else:
        _passed(cursor)


def _passed(cursor: Cursor) -> None:
    """Over one value, whatever it is."""
    depth = 0
    while True:
        here = cursor.peek()
        if here == 0x28:
            cursor.at += 1
            depth += 1
            if depth > NESTING:
                raise cursor.bad("nested too deeply")
        elif here == 0x29 and depth:
            cursor.at += 1
            depth -= 1
        elif here == 0x7E:  # of a literal8
            cursor.at += 1
            continue
        elif here in (0x22, 0x7B):
            cursor.string()
        elif here == 0x20 and depth:
            cursor.at += 1
        else:
            match = _ATOM.match(cursor.data, cursor.at)
            if match is None:
                raise cursor.bad("value expected")
            cursor.at = match.end()
        if not depth:
            return


_DATA: dict[bytes, Callable[[Cursor, bytes], Untagged | None]] = {
    b"CAPABILITY": _capability,
    b"LIST": _listed,
    b"NAMESPACE": _spaces,
    b"SEARCH": _search,
    b"ESEARCH": _esearch,
}

__all__ = ["Bad", "Capable", "Detailed", "Tagged", "tagged", "untagged", "words"]
