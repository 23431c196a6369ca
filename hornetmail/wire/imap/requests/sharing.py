"""The commands about rights on mailboxes: their grammar (RFC 4314 section 7)."""

from __future__ import annotations

from collections.abc import Callable

from hornetmail.core.sharing import rights_of
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.tokens.grammar import Bad, Cursor, mailbox

Parser = Callable[[bytes, Cursor], c.Command]


def _identifier(cursor: Cursor) -> str:
    at = cursor.at
    try:
        return cursor.astring().decode()
    except UnicodeDecodeError:
        raise Bad("identifier broken (UTF-8)", at) from None


def _set(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    name = mailbox(cursor)
    cursor.space()
    identifier = _identifier(cursor)
    cursor.space()
    at = cursor.at
    letters = cursor.astring().decode("ascii", "replace")
    mode = letters[:1] if letters[:1] in ("+", "-") else ""
    try:
        return c.SetAcl(tag, name, identifier, mode, rights_of(letters[len(mode) :]))
    except ValueError:
        raise Bad("unknown right", at) from None


def _delete(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    name = mailbox(cursor)
    cursor.space()
    return c.SetAcl(tag, name, _identifier(cursor), "", frozenset())


def _list(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    name = mailbox(cursor)
    cursor.space()
    return c.ListRights(tag, name, _identifier(cursor))


def _of(kind: Callable[[bytes, str], c.Command]) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        return kind(tag, mailbox(cursor))

    return parse


PARSERS: dict[str, Parser] = {
    "SETACL": _set,
    "DELETEACL": _delete,
    "GETACL": _of(c.GetAcl),
    "LISTRIGHTS": _list,
    "MYRIGHTS": _of(c.MyRights),
}
"""By their words."""
