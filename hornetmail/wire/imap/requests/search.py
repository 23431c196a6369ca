"""The tree of SEARCH keys (RFC 3501 section 6.4.4), what a search answers, and in which order: values and their parsers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import msgspec

from hornetmail.wire.imap.tokens.dates import parse_date
from hornetmail.wire.imap.tokens.grammar import Bad, Cursor, flag_name
from hornetmail.wire.imap.tokens.sequences import SequenceSet

KEYS = 1000
"""No search has more keys."""


class Key(msgspec.Struct, frozen=True, gc=False):
    """A condition."""


class All(Key, frozen=True, gc=False):
    """Every message."""


class Flagged(Key, frozen=True, gc=False):
    r"""Has the flag or keyword (``\Recent`` too), or has it not."""

    flag: str
    present: bool = True


class Day(Key, frozen=True, gc=False):
    """INTERNALDATE or, with ``sent``, the Date header, or, with ``saved``, SAVEDATE (RFC 8514): ``<``, ``=`` or ``>=`` a day's ordinal, zones
    disregarded."""

    op: Literal["<", "=", ">="]
    day: int
    sent: bool = False
    saved: bool = False


class EmailId(Key, frozen=True, gc=False):
    """The message of that EMAILID (RFC 8474)."""

    id: str


class Size(Key, frozen=True, gc=False):
    """Larger or smaller than ``octets``."""

    op: Literal["<", ">"]
    octets: int


class Header(Key, frozen=True, gc=False):
    """A header field that holds the text (any, if empty). ``name`` in lower case."""

    name: str
    text: bytes


class Text(Key, frozen=True, gc=False):
    """Text in the body or, with ``headers``, in the header too."""

    text: bytes
    headers: bool


class Numbers(Key, frozen=True, gc=False):
    """Sequence numbers, or UIDs."""

    wanted: SequenceSet
    uid: bool


class Changed(Key, frozen=True, gc=False):
    """MODSEQ (RFC 7162 section 3.1.5): the mod-sequence is ``since`` or above."""

    since: int


class Age(Key, frozen=True, gc=False):
    """OLDER or, ``younger``, YOUNGER than ``seconds`` (RFC 5032), by INTERNALDATE."""

    seconds: int
    younger: bool


class Not(Key, frozen=True, gc=False):
    """The opposite."""

    key: Key


class Or(Key, frozen=True, gc=False):
    """One of two."""

    left: Key
    right: Key


class And(Key, frozen=True, gc=False):
    """All of them."""

    keys: tuple[Key, ...]


class Returns(msgspec.Struct, frozen=True, gc=False):
    """What an extended search answers (RFC 4731, 5182, 9394): of MIN, MAX, COUNT, ALL, SAVE and PARTIAL, the range with it."""

    words: frozenset[str]
    partial: tuple[int, int] = (0, 0)


_PLAIN: dict[str, Key] = {
    "ALL": All(),
    "ANSWERED": Flagged("\\Answered"),
    "DELETED": Flagged("\\Deleted"),
    "DRAFT": Flagged("\\Draft"),
    "FLAGGED": Flagged("\\Flagged"),
    "NEW": And((Flagged("\\Recent"), Flagged("\\Seen", False))),
    "OLD": Flagged("\\Recent", False),
    "RECENT": Flagged("\\Recent"),
    "SAVEDATESUPPORTED": All(),
    "SEEN": Flagged("\\Seen"),
    "UNANSWERED": Flagged("\\Answered", False),
    "UNDELETED": Flagged("\\Deleted", False),
    "UNDRAFT": Flagged("\\Draft", False),
    "UNFLAGGED": Flagged("\\Flagged", False),
    "UNSEEN": Flagged("\\Seen", False),
}
_DAYS: dict[str, tuple[Literal["<", "=", ">="], str]] = {
    f"{kind}{word}": (op, kind)
    for kind in ("", "SENT", "SAVED")
    for word, op in cast(tuple[tuple[str, Literal["<", "=", ">="]], ...], (("BEFORE", "<"), ("ON", "="), ("SINCE", ">=")))
}
_FIELDS = {"BCC": "bcc", "CC": "cc", "FROM": "from", "SUBJECT": "subject", "TO": "to"}


def parse_search(cursor: Cursor) -> Key:
    """One or more keys up to the end of the command."""
    return _Parser(cursor).several(closing=False)


class _Parser:
    __slots__ = ("count", "cursor")

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.count = 0

    def several(self, closing: bool) -> Key:
        cursor = self.cursor
        keys = [self.one()]
        while not (cursor.skip(b")") if closing else cursor.peek() < 0):
            cursor.space()
            keys.append(self.one())
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def one(self) -> Key:
        cursor = self.cursor
        self.count += 1
        if self.count > KEYS:
            raise cursor.bad("too many search keys")
        if cursor.skip(b"("):
            cursor.deeper()
            key = self.several(closing=True)
            cursor.depth -= 1
            return key
        if 0x30 <= cursor.peek() <= 0x39 or cursor.peek() in (0x2A, 0x24):
            return Numbers(cursor.sequence_set(), uid=False)
        at = cursor.at
        word = cursor.word()
        plain = _PLAIN.get(word)
        if plain is not None:
            return plain
        try:
            return self.with_argument(word)
        except KeyError:
            raise Bad(f"search key {word[:40]} unknown", at) from None

    def with_argument(self, word: str) -> Key:
        cursor = self.cursor
        if word in _FIELDS:
            cursor.space()
            return Header(_FIELDS[word], cursor.astring())
        if word in _DAYS:
            op, kind = _DAYS[word]
            cursor.space()
            at = cursor.at
            day = parse_date(cursor.astring())
            if day is None:
                raise Bad("date expected", at)
            return Day(op, day, kind == "SENT", kind == "SAVED")
        match word:
            case "BODY" | "TEXT":
                cursor.space()
                return Text(cursor.astring(), headers=word == "TEXT")
            case "EMAILID" | "THREADID":
                cursor.space()
                found = cursor.atom().decode("ascii")
                return EmailId(found) if word == "EMAILID" else Not(All())
            case "HEADER":
                cursor.space()
                name = cursor.astring().decode("latin-1").lower()
                cursor.space()
                return Header(name, cursor.astring())
            case "KEYWORD" | "UNKEYWORD":
                cursor.space()
                return Flagged(flag_name(cursor.flag()), word == "KEYWORD")
            case "LARGER" | "SMALLER":
                cursor.space()
                return Size(">" if word == "LARGER" else "<", cursor.number((1 << 63) - 1))
            case "UID":
                cursor.space()
                return Numbers(cursor.sequence_set(), uid=True)
            case "MODSEQ":
                cursor.space()
                if cursor.peek() == 0x22:  # whose flags are meant, and in whose eyes: there is one mod-sequence for all
                    cursor.string()
                    cursor.space()
                    cursor.word()
                    cursor.space()
                return Changed(cursor.modseq())
            case "OLDER" | "YOUNGER":
                cursor.space()
                at = cursor.at
                seconds = cursor.number()
                if not seconds:
                    raise Bad("number above 0 expected", at)
                return Age(seconds, word == "YOUNGER")
            case "NOT" | "OR":
                return self.combined(word)
        raise KeyError(word)

    def combined(self, word: str) -> Key:
        cursor = self.cursor
        cursor.deeper()
        cursor.space()
        left = self.one()
        if word == "NOT":
            cursor.depth -= 1
            return Not(left)
        cursor.space()
        right = self.one()
        cursor.depth -= 1
        return Or(left, right)


RESULTS = frozenset({"MIN", "MAX", "COUNT", "ALL", "SAVE"})


def parse_returns(cursor: Cursor) -> Returns:
    """The list behind RETURN; an empty one means ALL (RFC 4731 section 3.1)."""
    cursor.expect(b"(")
    words: set[str] = set()
    partial = (0, 0)
    first = True
    while not cursor.skip(b")"):
        if not first:
            cursor.space()
        first = False
        at = cursor.at
        word = cursor.word()
        if word == "PARTIAL" and word not in words:
            cursor.space()
            partial = cursor.partial()
        elif word not in RESULTS:
            raise Bad(f"option {word[:40]} unknown", at)
        words.add(word)
    if {"PARTIAL", "ALL"} <= words:
        raise cursor.bad("PARTIAL or ALL, not both (RFC 9394 section 3.1)")
    return Returns(frozenset(words) or frozenset({"ALL"}), partial)


ORDERS = frozenset({"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"})


def parse_order(cursor: Cursor) -> tuple[tuple[str, bool], ...]:
    """Sort criteria (RFC 5256 section 3, RFC 5957), each with whether it is reversed; one that was there before adds nothing."""
    cursor.expect(b"(")
    found: dict[str, bool] = {}
    while not found or not cursor.skip(b")"):
        if found:
            cursor.space()
        at = cursor.at
        word = cursor.word()
        reverse = word == "REVERSE"
        if reverse:
            cursor.space()
            at = cursor.at
            word = cursor.word()
        if word not in ORDERS:
            raise Bad("sort criterion expected", at)
        found.setdefault(word, reverse)
    return tuple(found.items())


def watches(key: Key) -> bool:
    """Whether a MODSEQ is among the keys: then the answer tells the highest (RFC 7162 section 3.1.5)."""
    return _any(key, lambda one: isinstance(one, Changed))


def counts(key: Key) -> bool:
    """Whether sequence numbers are among the keys: nothing may be told to have gone while they are read (RFC 7162 section 3.2.10.2, RFC 9051 section
    7.5.1)."""
    return _any(key, lambda one: isinstance(one, Numbers) and not one.uid and not one.wanted.saved)


def _any(key: Key, wanted: Callable[[Key], bool]) -> bool:
    match key:
        case Not():
            return _any(key.key, wanted)
        case Or():
            return _any(key.left, wanted) or _any(key.right, wanted)
        case And():
            return any(_any(one, wanted) for one in key.keys)
    return wanted(key)
