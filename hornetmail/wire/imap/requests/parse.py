"""From a command's bytes to its value. Knows every command's grammar and nothing of the connection's state."""

from __future__ import annotations

import binascii
from collections.abc import Callable

import msgspec

from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.requests import metadata, selected, sharing
from hornetmail.wire.imap.tokens.dates import parse_date_time
from hornetmail.wire.imap.tokens.grammar import LIST_ITEMS, Bad, Cursor, mailbox, mailbox_of

Parser = Callable[[bytes, Cursor], c.Command]

STATUS_ITEMS = frozenset(
    {
        *("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "HIGHESTMODSEQ"),
        *("DELETED", "DELETED-STORAGE", "APPENDLIMIT", "MAILBOXID"),
    }
)
SELECT_OPTIONS = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
RETURN_OPTIONS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE"})
WRAPPING = b"UTF8 ("
"""What stands before a message with UTF-8 in its header (RFC 6855 section 4)."""


class Literal(msgspec.Struct, frozen=True, gc=False):
    """A literal announced at the end of a line. ``waits``: it comes only when it is asked for. ``binary``: a ``literal8``. ``utf8``: UTF8=ACCEPT
    is in force. ``wrapped``: a message within ``UTF8 (…)`` (RFC 6855 section 4)."""

    size: int
    waits: bool = True
    binary: bool = False
    utf8: bool = False
    wrapped: bool = False


def parse_head(line: bytes) -> tuple[bytes, str, int]:
    """Tag, command word in upper case (``UID FETCH`` is one word) and where its arguments begin. Raises ``Bad``; a tag
    that could be read can be told by ``readable_tag``."""
    cursor = Cursor(line)
    tag = cursor.tag()
    cursor.space()
    word = cursor.word()
    if word == "UID":
        cursor.space()
        word = "UID " + cursor.word()
    if word not in PARSERS:
        raise Bad(f"command {word[:40]} unknown", len(tag) + 1)
    return tag, word, cursor.at


def readable_tag(line: bytes) -> bytes:
    """The tag that an error about this line is answered with, ``*`` if there is none."""
    try:
        cursor = Cursor(line)
        tag = cursor.tag()
    except Bad:
        return b"*"
    return tag if cursor.peek() in (0x20, -1) else b"*"


def parse_command(data: bytes, *, utf8: bool = False) -> c.Command:
    """A whole command without its final CRLF. ``utf8``: mailbox names are UTF-8 (RFC 6855 section 3). Raises ``Bad``."""
    tag, word, at = parse_head(data)
    cursor = Cursor(data, at, utf8)
    command = PARSERS[word](tag, cursor)
    cursor.end()
    return command


def parse_append(data: bytes, literal: Literal) -> c.Append | None:
    """APPEND or REPLACE up to its message literal (which is not in ``data``); None if the literal at this place is the mailbox's name."""
    tag, word, at = parse_head(data)
    cursor = Cursor(data, at, literal.utf8)
    cursor.space()
    replaced = None
    if word != "APPEND":
        where = cursor.at
        replaced = cursor.sequence_set()
        if not replaced.single:
            raise Bad("one message expected", where)
        cursor.space()
    if cursor.peek() < 0:
        return None
    name = mailbox(cursor)
    cursor.space()
    flags, date = _message(cursor, literal)
    if replaced is None:
        return c.Append(tag, name, flags, date, literal.size, literal.binary)
    return c.Replace(tag, name, flags, date, literal.size, literal.binary, replaced, word != "REPLACE")


def parse_further(data: bytes, literal: Literal) -> c.Further:
    """What stands between two messages of one APPEND (RFC 3502): a space, flags, a date."""
    cursor = Cursor(data, 0, literal.utf8)
    cursor.space()
    cursor.skip(b" ")  # imapclient's multiappend says two
    flags, date = _message(cursor, literal)
    return c.Further(flags, date, literal.size, literal.binary)


def _message(cursor: Cursor, literal: Literal) -> tuple[tuple[str, ...], float | None]:
    """Flags and date of a message, up to its literal."""
    flags: tuple[str, ...] = ()
    date: float | None = None
    if cursor.peek() == 0x28:
        flags = cursor.flags()
        cursor.space()
    if cursor.peek() == 0x22:
        where = cursor.at
        date = parse_date_time(cursor.string())
        if date is None:
            raise Bad("date-time expected", where)
        cursor.space()
    if not (literal.wrapped and cursor.data[cursor.at :].upper() == WRAPPING):
        cursor.end()
    return flags, date


def decode_base64(raw: bytes) -> bytes | None:
    """A line of SASL; None if it is no base64. ``=`` alone is an empty response (RFC 4959 section 3)."""
    if raw == b"=":
        return b""
    try:
        return binascii.a2b_base64(raw, strict_mode=True)
    except binascii.Error:
        return None


def _bare(kind: Callable[[bytes], c.Command]) -> Parser:
    return lambda tag, cursor: kind(tag)


def _named(kind: Callable[[bytes, str], c.Command]) -> Parser:
    def parse(tag: bytes, cursor: Cursor) -> c.Command:
        cursor.space()
        return kind(tag, mailbox(cursor))

    return parse


def _login(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    user = cursor.astring()
    cursor.space()
    return c.Login(tag, user, cursor.astring())


def _authenticate(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    mechanism = cursor.word()
    if not cursor.skip(b" "):
        return c.Authenticate(tag, mechanism, None)
    at = cursor.at
    initial = decode_base64(cursor.base64())
    if initial is None:
        raise Bad("base64 expected", at)
    return c.Authenticate(tag, mechanism, initial)


def _id(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    if cursor.nil():
        return c.Id(tag, ())
    fields: list[tuple[bytes, bytes]] = []
    cursor.expect(b"(")
    while not cursor.skip(b")"):
        if fields:
            cursor.space()
        key = cursor.string()
        cursor.space()
        fields.append((key[:30], b"" if cursor.nil() else cursor.string()[:1024]))
        if len(fields) > 30:
            raise cursor.bad("too many fields")
    return c.Id(tag, tuple(fields))


def _enable(tag: bytes, cursor: Cursor) -> c.Command:
    found: list[str] = []
    while not found or cursor.peek() >= 0:
        cursor.space()
        found.append(cursor.word())
        if len(found) > LIST_ITEMS:
            raise cursor.bad("too many capabilities")
    return c.Enable(tag, tuple(found))


def _compress(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    return c.Compress(tag, cursor.word())


def _create(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    name = mailbox(cursor)
    if not cursor.skip(b" ("):
        return c.Create(tag, name, ())
    at = cursor.at
    if cursor.word() != "USE":
        raise Bad("USE expected", at)
    cursor.space()
    uses = cursor.flags()
    cursor.expect(b")")
    return c.Create(tag, name, uses)


def _rename(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    old = mailbox(cursor)
    cursor.space()
    return c.Rename(tag, old, mailbox(cursor))


def _listing(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    extended = False
    select: frozenset[str] = frozenset()
    if cursor.peek() == 0x28:
        extended = True
        select = _words(cursor, SELECT_OPTIONS)
        if "RECURSIVEMATCH" in select and not select & {"SUBSCRIBED", "SPECIAL-USE"}:
            raise cursor.bad("RECURSIVEMATCH needs a further selection option")
        cursor.space()
    reference = mailbox(cursor)
    cursor.space()
    patterns: list[str] = []
    if cursor.skip(b"("):
        extended = True
        while not patterns or not cursor.skip(b")"):
            if patterns:
                cursor.space()
            patterns.append(_pattern(cursor))
            if len(patterns) > 100:
                raise cursor.bad("too many patterns")
    else:
        patterns.append(_pattern(cursor))
    returns: set[str] = set()
    status: tuple[str, ...] = ()
    if cursor.skip(b" "):
        extended = True
        at = cursor.at
        if cursor.word() != "RETURN":
            raise Bad("RETURN expected", at)
        cursor.space()
        cursor.expect(b"(")
        first = True
        while not cursor.skip(b")"):
            if not first:
                cursor.space()
            first = False
            at = cursor.at
            word = cursor.word()
            if word == "STATUS":
                cursor.space()
                status = _status_items(cursor)
            elif word in RETURN_OPTIONS:
                returns.add(word)
            else:
                raise Bad(f"return option {word[:40]} unknown", at)
    return c.Listing(tag, reference, tuple(patterns), False, extended, select, frozenset(returns), status)


def _pattern(cursor: Cursor) -> str:
    at = cursor.at
    return mailbox_of(cursor, cursor.list_mailbox(), at)


def _lsub(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    reference = mailbox(cursor)
    cursor.space()
    return c.Listing(tag, reference, (_pattern(cursor),), lsub=True)


def _words(cursor: Cursor, known: frozenset[str]) -> frozenset[str]:
    cursor.expect(b"(")
    found: set[str] = set()
    first = True
    while not cursor.skip(b")"):
        if not first:
            cursor.space()
        first = False
        at = cursor.at
        word = cursor.word()
        if word not in known:
            raise Bad(f"option {word[:40]} unknown", at)
        found.add(word)
    return frozenset(found)


def _status_items(cursor: Cursor) -> tuple[str, ...]:
    cursor.expect(b"(")
    found: dict[str, None] = {}
    while not found or not cursor.skip(b")"):
        if found:
            cursor.space()
        at = cursor.at
        word = cursor.word()
        if word not in STATUS_ITEMS or word in found:
            raise Bad("status item expected", at)
        found[word] = None
    return tuple(found)


def _status(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    name = mailbox(cursor)
    cursor.space()
    return c.Status(tag, name, _status_items(cursor))


def _get_quota(tag: bytes, cursor: Cursor) -> c.Command:
    cursor.space()
    return c.GetQuota(tag, cursor.astring().decode("utf-8", "replace"))


def _append(tag: bytes, cursor: Cursor) -> c.Command:
    raise cursor.bad("message literal expected")


PARSERS: dict[str, Parser] = {
    **selected.PARSERS,
    **sharing.PARSERS,
    **metadata.PARSERS,
    "CAPABILITY": _bare(c.Capability),
    "NOOP": _bare(c.Noop),
    "LOGOUT": _bare(c.Logout),
    "STARTTLS": _bare(c.Starttls),
    "AUTHENTICATE": _authenticate,
    "LOGIN": _login,
    "ID": _id,
    "ENABLE": _enable,
    "COMPRESS": _compress,
    "NAMESPACE": _bare(c.Namespace),
    "CREATE": _create,
    "DELETE": _named(c.Delete),
    "RENAME": _rename,
    "SUBSCRIBE": _named(lambda tag, name: c.Subscribe(tag, name, True)),
    "UNSUBSCRIBE": _named(lambda tag, name: c.Subscribe(tag, name, False)),
    "LIST": _listing,
    "LSUB": _lsub,
    "STATUS": _status,
    "GETQUOTA": _get_quota,
    "GETQUOTAROOT": _named(c.GetQuotaRoot),
    "APPEND": _append,
    "REPLACE": _append,
    "UID REPLACE": _append,
    "IDLE": _bare(c.Idle),
    "CHECK": _bare(c.Check),
    "CLOSE": _bare(lambda tag: c.Close(tag, True)),
    "UNSELECT": _bare(lambda tag: c.Close(tag, False)),
    "EXPUNGE": _bare(lambda tag: c.Expunge(tag, None)),
}
"""Every command that is understood."""
