"""A cursor over one command's bytes, literals in place (RFC 3501 section 9). Every step is linear and bounded by the command's size."""

from __future__ import annotations

import re

from hornetmail.wire.imap.tokens.names import NAME_BYTES, decode_name
from hornetmail.wire.imap.tokens.sequences import SequenceSet, parse_sequence_set

NESTING = 50
"""Parentheses and search keys go no deeper."""

MODSEQ_MAX = (1 << 63) - 1

LIST_ITEMS = 2000
"""No parenthesised list is longer."""

_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,128}")
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_LISTED = re.compile(rb"[!#$%&'*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\0]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{([0-9]{1,10})\+?\}\r\n")
_NUMBER = re.compile(rb"[0-9]{1,19}")
_SET = re.compile(rb"[0-9*:,]+|\$")
_RANGE = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})")
_FLAG = re.compile(rb"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


class Bad(Exception):
    """The command breaks the grammar: what was expected, and the byte at which it was not there (from 0)."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(f"{what} at byte {at}")


class Cursor:
    """Takes a command apart from left to right. All takers raise ``Bad`` and never anything else. ``utf8``: RFC 6855 is in force."""

    __slots__ = ("at", "data", "depth", "utf8")

    def __init__(self, data: bytes, at: int = 0, utf8: bool = False) -> None:
        self.data = data
        self.at = at
        self.depth = 0
        self.utf8 = utf8

    def bad(self, what: str) -> Bad:
        """An error here."""
        return Bad(what, self.at)

    def _take(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        match = pattern.match(self.data, self.at)
        if match is None or match.end() == self.at:
            raise Bad(f"{what} expected", self.at)
        self.at = match.end()
        return match[0]

    def peek(self) -> int:
        """The next byte, -1 at the end."""
        return self.data[self.at] if self.at < len(self.data) else -1

    def skip(self, token: bytes) -> bool:
        """Pass over ``token`` if it comes next."""
        if self.data.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def expect(self, token: bytes) -> None:
        """Pass over ``token``."""
        if not self.skip(token):
            raise Bad(f"{'space' if token == b' ' else ascii(token.decode('ascii'))} expected", self.at)

    def space(self) -> None:
        """One space."""
        self.expect(b" ")

    def end(self) -> None:
        """Nothing follows."""
        if self.at != len(self.data):
            raise Bad("end of the command expected", self.at)

    def tag(self) -> bytes:
        """A command's tag; bounded at 128 bytes."""
        return self._take(_TAG, "tag")

    def atom(self) -> bytes:
        """An atom, as it is."""
        return self._take(_ATOM, "atom")

    def word(self) -> str:
        """An atom, in upper case."""
        return self._take(_ATOM, "atom").decode("ascii").upper()

    def flag(self) -> bytes:
        """A flag or keyword."""
        return self._take(_FLAG, "flag")

    def base64(self) -> bytes:
        """A run of base64, or ``=`` alone (RFC 4959)."""
        return self._take(_BASE64, "base64")

    def number(self, top: int = (1 << 32) - 1) -> int:
        """A number up to ``top``."""
        at = self.at
        value = int(self._take(_NUMBER, "number"))
        if value > top:
            raise Bad("number too large", at)
        return value

    def string(self) -> bytes:
        """A quoted string or a literal."""
        here = self.peek()
        if here == 0x22:
            match = _QUOTED.match(self.data, self.at)
            if match is None:
                raise Bad("quoted string broken", self.at)
            raw = match[1]
            if self.utf8 and not _is_utf8(raw):
                raise Bad("UTF-8 expected in a quoted string (RFC 6855 section 3)", self.at)
            self.at = match.end()
            return raw.replace(b"\\\\", b"\0").replace(b"\\", b"").replace(b"\0", b"\\") if b"\\" in raw else raw
        if here == 0x7B:
            match = _LITERAL.match(self.data, self.at)
            if match is None or match.end() + int(match[1]) > len(self.data):
                raise Bad("literal broken", self.at)
            end = match.end() + int(match[1])
            value = self.data[match.end() : end]
            if b"\0" in value:
                raise Bad("NUL in a literal", self.at)
            self.at = end
            return value
        raise Bad("string expected", self.at)

    def string8(self) -> bytes:
        """A string or a ``literal8``, which may have NUL (RFC 3516 section 5)."""
        if not self.skip(b"~"):
            return self.string()
        match = _LITERAL.match(self.data, self.at)
        if match is None or match.end() + int(match[1]) > len(self.data):
            raise Bad("literal broken", self.at)
        self.at = match.end() + int(match[1])
        return self.data[match.end() : self.at]

    def astring(self) -> bytes:
        """An atom (``]`` allowed) or a string."""
        if self.peek() in (0x22, 0x7B):
            return self.string()
        return self._take(_ASTRING, "atom or string")

    def list_mailbox(self) -> bytes:
        """A pattern of LIST."""
        if self.peek() in (0x22, 0x7B):
            return self.string()
        return self._take(_LISTED, "mailbox pattern")

    def nil(self) -> bool:
        """Pass over NIL."""
        if self.data[self.at : self.at + 3].upper() == b"NIL" and self.data[self.at + 3 : self.at + 4] in (b"", b" ", b")"):
            self.at += 3
            return True
        return False

    def sequence_set(self) -> SequenceSet:
        """A sequence set."""
        at = self.at
        found = parse_sequence_set(self._take(_SET, "sequence set"))
        if found is None:
            raise Bad("sequence set broken", at)
        return found

    def uids(self) -> SequenceSet:
        """A set of numbers that are known: no ``*``, no ``$`` (RFC 7162 section 7, ``known-uids``)."""
        at = self.at
        found = self.sequence_set()
        if found.saved or any(not low or not high for low, high in found.ranges):
            raise Bad("numbers expected", at)
        return found

    def modseq(self, least: int = 0) -> int:
        """A mod-sequence (RFC 7162 section 7)."""
        at = self.at
        found = self.number(MODSEQ_MAX)
        if found < least:
            raise Bad("mod-sequence too small", at)
        return found

    def partial(self) -> tuple[int, int]:
        """A range of results, from 1 or, negative, from the end (RFC 9394 section 3.5): the end nearer to it first."""
        match = _RANGE.match(self.data, self.at)
        if match is None or match[1] != match[3]:
            raise self.bad("range expected")
        low, high = sorted((int(match[2]), int(match[4])))
        if high >= 1 << 32:
            raise self.bad("number too large")
        self.at = match.end()
        return (-low, -high) if match[1] else (low, high)

    def flags(self) -> tuple[str, ...]:
        """A parenthesised list of flags, possibly empty."""
        self.expect(b"(")
        found: list[str] = []
        while not self.skip(b")"):
            if found:
                self.space()
            found.append(flag_name(self.flag()))
            if len(found) > LIST_ITEMS:
                raise self.bad("too many flags")
        return tuple(found)

    def deeper(self) -> None:
        """One level down."""
        self.depth += 1
        if self.depth > NESTING:
            raise self.bad("nested too deeply")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


_SYSTEM = {f.upper(): f for f in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "\\Recent")}


def flag_name(raw: bytes) -> str:
    r"""A flag in its usual case: system flags as RFC 3501 writes them, keywords as they came."""
    text = raw.decode("ascii")
    return _SYSTEM.get(text.upper(), text)


def mailbox(cursor: Cursor) -> str:
    """A mailbox name; INBOX in any case is INBOX."""
    at = cursor.at
    return mailbox_of(cursor, cursor.astring(), at)


def mailbox_of(cursor: Cursor, raw: bytes, at: int) -> str:
    """The name that ``raw``, found at byte ``at``, is: modified UTF-7, or UTF-8 once that was enabled (RFC 6855 section 3)."""
    if len(raw) > NAME_BYTES:
        raise Bad("mailbox name too long", at)
    try:
        return decode_name(raw, utf8=cursor.utf8)
    except ValueError:
        if cursor.utf8:
            raise Bad("mailbox name broken (UTF-8, RFC 6855 section 3)", at) from None
        raise Bad("mailbox name broken (modified UTF-7, RFC 3501 section 5.1.3)", at) from None
