"""Header fields with their offsets, and the values in them: pure, bounded, linear, never raising (RFC 5322, 2047, 2231).

Everything that comes from a message is bytes here. Text is made by ``decode_text`` (for people) and by ``parameters`` (RFC 2045
parameters). The bounds are far above what honest mail has; what lies beyond them is not looked at.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator

import msgspec

from hornetmail.core.mail.fields import read_fields, unfold
from hornetmail.mime.charset import decode

ADDRESS_COUNT = 4_000
"""No more addresses are read from one field."""

PARAMETER_COUNT = 100
"""No more parameters are read from one field."""

PARAMETER_TRIES = 4 * PARAMETER_COUNT
"""Nor more pieces looked at that might be some."""

VALUE_BYTES = 1 << 18
"""Decoded text, parameters and addresses come from the first so many bytes of a field."""

_CONTROLS = bytes(c for c in range(32) if c != 9) + b"\x7f"


class Field(msgspec.Struct, frozen=True, gc=False):
    """One header field: ``data[start:value]`` is the name with its colon, ``data[value:end]`` the raw value with its line end(s).
    ``name`` is in lower case."""

    name: bytes
    start: int
    value: int
    end: int


class Mailaddress(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An address as RFC 3501 section 7.4.2 shows it, in raw bytes: quotes taken off, encoded words left as they are.

    A group begins with ``host`` None and its name in ``mailbox``, and ends with ``mailbox`` and ``host`` both None. An address
    without a domain has ``host`` ``b""``. ``route``: the source route of old (RFC 5322 section 4.4), ``@a,@b``, or None.
    """

    name: bytes | None
    mailbox: bytes | None
    host: bytes | None
    route: bytes | None = None


def header_end(data: bytes, start: int = 0, end: int | None = None) -> tuple[int, int]:
    """Where the fields end and where the body begins.

    They differ by the blank line. A line that is no field ends the header too and is the body's first.
    """
    _, stop, body = read_fields(data, start, end)
    return stop, body


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the header that begins at ``start``, in order."""
    for found in read_fields(data, start, end)[0]:
        yield Field(found[1].lower(), found.start(), found.start(2), found.end())


def every(data: bytes, name: bytes, start: int = 0, end: int | None = None) -> list[bytes]:
    """All values of a field, unfolded and trimmed, in order; ``name`` in any case."""
    wanted = name.lower()
    return [unfold(found[2]) for found in read_fields(data, start, end)[0] if found[1].lower() == wanted]


def first(data: bytes, name: bytes, start: int = 0, end: int | None = None) -> bytes | None:
    """The first value of a field, unfolded and trimmed, or None."""
    wanted = name.lower()
    for found in read_fields(data, start, end)[0]:
        if found[1].lower() == wanted:
            return unfold(found[2])
    return None


def clean(raw: bytes) -> bytes:
    """Unfolded, and free of control characters: what may be shown or put into an IMAP string."""
    return unfold(raw[:VALUE_BYTES]).translate(None, _CONTROLS)


def to_text(raw: bytes) -> str:
    """Bytes of a header as text that always has a UTF-8 form: UTF-8 if it is, else Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


# RFC 2047 ------------------------------------------------------------------------------------------------------------------------

_WORD = re.compile(rb"=\?([!->@-~]{1,60})\?(?:([Bb])\?([^?]{0,4000})|([Qq])\?([^?]{0,4000}))\?=")
"""Blanks in a word are forbidden and yet written (section 2, rule 3 of section 5)."""
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")


def _decoded(charset: bytes, kind: bytes, content: bytes) -> tuple[str, bytes] | None:
    if kind in b"Bb":
        try:
            raw = binascii.a2b_base64(content + b"=" * (-len(content) % 4))
        except binascii.Error:
            return None
    else:
        raw = _HEX.sub(lambda found: bytes((int(found[1], 16),)), content.replace(b"_", b" "))
    return charset.split(b"*")[0].decode("ascii").lower(), raw


def decode_text(raw: bytes, label: str = "") -> str:
    """An unstructured value for people: unfolded, encoded words decoded (RFC 2047), control characters gone. ``label``: the charset that bytes which are neither
    ASCII nor UTF-8 are probably in.

    Adjacent words of one charset are decoded together, because some programs split characters between them.
    """
    value = clean(raw)
    if b"=?" not in value:
        return _unlabelled(value, label)
    out: list[str] = []
    pending: tuple[str, bytes] | None = None
    pos = 0
    for found in _WORD.finditer(value):
        word = _decoded(found[1], found[2] or found[4], found[3] if found[2] else found[5])
        if word is None:
            continue
        between = value[pos : found.start()]
        if pending is not None and (between.strip() or pending[0] != word[0]):
            out.append(decode(pending[1], pending[0]))
            pending = None
            if not between.strip():
                between = b""
        if pending is not None:
            pending = (word[0], pending[1] + word[1])
        else:
            if between and not (out and pos and not between.strip()):
                out.append(_unlabelled(between, label))
            pending = word
        pos = found.end()
    if pending is not None:
        out.append(decode(pending[1], pending[0]))
    out.append(_unlabelled(value[pos:], label))
    return "".join(c if c >= " " or c == "\t" else " " for c in "".join(out))


def _unlabelled(raw: bytes, label: str) -> str:
    """Bytes of a header that nobody declared."""
    return raw.decode("ascii") if raw.isascii() else decode(raw, label)


# Parameters ----------------------------------------------------------------------------------------------------------------------

_PARAMETER = re.compile(
    rb"""([^=;\s"]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"?|([^;"\s][^;]*+)?)""",
    re.DOTALL,
)
_SEPARATORS = re.compile(rb"[;\s]*+")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

Parameters = tuple[tuple[str, str], ...]


def parameters(raw: bytes) -> tuple[str, Parameters]:
    """A value with parameters (RFC 2045 section 5.1): the value as written, and the parameters with names in lower case.

    RFC 2231 names (``filename*0*``) are left alone; ``decode_parameters`` puts them together.
    """
    value = clean(raw)
    head, semicolon, rest = value.partition(b";")
    if b"(" in head:
        head = head.partition(b"(")[0]
    found: list[tuple[str, str]] = []
    if semicolon:
        pos = 0
        for _ in range(PARAMETER_TRIES):
            if len(found) >= PARAMETER_COUNT:
                break
            separators = _SEPARATORS.match(rest, pos)
            pos = separators.end() if separators is not None else pos
            match = _PARAMETER.match(rest, pos)
            if match is None:
                pos = rest.find(b";", pos)
                if pos < 0:
                    break
                continue
            if match[2] is not None:
                text = _ESCAPE.sub(rb"\1", match[2]) if b"\\" in match[2] else match[2]
            else:
                text = (match[3] or b"").strip()
                if text.endswith(b")") and b" (" in text:
                    text = text.partition(b" (")[0]
            found.append((to_text(match[1]).lower(), to_text(text)))
            pos = match.end()
    return to_text(head.strip()), tuple(found)


_SECTION = re.compile(r"([^*]++)(?:\*([0-9]{1,3}))?(\*)?\Z")


def decode_parameters(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Parameters for people: RFC 2231 sections joined and decoded, RFC 2047 words (a common mistake) decoded too."""
    plain: dict[str, str] = {}
    parts: dict[str, list[tuple[int, bool, str]]] = {}
    for name, value in found:
        match = _SECTION.match(name)
        if match is None or (match[2] is None and match[3] is None):
            plain.setdefault(name, decode_text(value.encode()) if "=?" in value else value)
        else:
            parts.setdefault(match[1], []).append((int(match[2] or 0), bool(match[3]), value))
    for name, sections in parts.items():
        charset = ""
        joined = bytearray()
        for number, extended, value in sorted(sections):
            if extended and number == 0 and value.count("'") >= 2:
                charset, _, value = value.split("'", 2)
            joined += _percent(value.encode()) if extended else value.encode()
        text = decode(bytes(joined), charset)
        plain[name] = "".join(c for c in text if c >= " ")
    return plain


_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def _percent(raw: bytes) -> bytes:
    return _PERCENT.sub(lambda found: bytes((int(found[1], 16),)), raw)


# Message-IDs ------------------------------------------------------------------------------------------------------------------

_MESSAGE_ID = re.compile(rb"<([^<>\s]{1,990})>")


def message_id(raw: bytes | None) -> bytes | None:
    """The first ``<…>`` of a Message-ID, In-Reply-To or References value, brackets included, or None."""
    found = _MESSAGE_ID.search(raw[:VALUE_BYTES]) if raw else None
    return found[0] if found else None


def message_ids(raw: bytes | None) -> list[bytes]:
    """All of them, in order."""
    return [found[0] for found in _MESSAGE_ID.finditer(raw[:VALUE_BYTES])] if raw else []


# Addresses -----------------------------------------------------------------------------------------------------------------------

_SIMPLE = re.compile(
    rb"""[\s,]*+(?:(?:"([^"\\]*+)"|([^"\\()<>@,;:\[\]]*+))\s*+<\s*+([^"\\()<>@,;:\[\]\s]++)@([^"\\()<>@,;:\[\]\s]++)\s*+>"""
    rb"""|([^"\\()<>@,;:\[\]\s]++)@([^"\\()<>@,;:\[\]\s]++))\s*+(?:,|\Z)"""
)
_TOKEN = re.compile(
    rb"""(\s*+)(?:"((?:[^"\\]|\\.)*+)"?|(\[[^\]\r\n]*+\]?)|([^\s"()<>@,;:\[\\]++)|([(<>@,;:\\\]]))""",
    re.DOTALL,
)


def addresses(raw: bytes) -> tuple[Mailaddress, ...]:
    """The addresses of a From, To, Cc … value, groups included, as tolerant as mail is (RFC 5322 section 3.4 and 4.4)."""
    value = clean(raw)
    found: list[Mailaddress] = []
    pos = 0
    size = len(value)
    simple = _SIMPLE.match
    while pos < size and len(found) < ADDRESS_COUNT:
        match = simple(value, pos)
        if match is None:
            _AddressReader(value, pos, found).read()
            break
        quoted, phrase, local, host, bare, bare_host = match.groups()
        if local is not None:
            name = quoted if quoted is not None else phrase.strip()
            found.append(Mailaddress(name or None, local, host))
        else:
            found.append(Mailaddress(None, bare, bare_host))
        pos = match.end()
    return tuple(found)


class _AddressReader:
    """The slow way, token by token, for everything that is not plain ``name <local@host>``."""

    def __init__(self, value: bytes, pos: int, found: list[Mailaddress]) -> None:
        self._value = value
        self._pos = pos
        self._found = found
        self._group = False
        self._clear()

    def _clear(self) -> None:
        self._words: list[bytes] = []
        self._inside: list[bytes] | None = None
        self._closed = False
        self._comment: bytes | None = None
        self._route: bytes | None = None

    def read(self) -> None:
        value, size = self._value, len(self._value)
        while self._pos < size and len(self._found) < ADDRESS_COUNT:
            match = _TOKEN.match(value, self._pos)
            if match is None:
                break
            self._pos = match.end()
            space, quoted, literal, atom, special = match.groups()
            if special is not None:
                self._special(special, bool(space))
            elif quoted is not None:
                self._word(_ESCAPE.sub(rb"\1", quoted), bool(space))
            else:
                self._word(literal if literal is not None else atom, bool(space))
        self._end()
        if self._group:
            self._found.append(Mailaddress(None, None, None))

    def _word(self, word: bytes, space: bool) -> None:
        if self._inside is None:
            if space and self._words:
                self._words.append(b" ")
            self._words.append(word)
        elif not self._closed:
            self._inside.append(word)

    def _special(self, special: bytes, space: bool) -> None:
        angle = self._inside is not None and not self._closed
        if special == b"(":
            self._skip_comment()
        elif special == b"<" and self._inside is None:
            self._inside = []
        elif special == b">":
            self._closed = self._inside is not None
        elif special == b"@":
            self._word(b"@", False)
        elif special == b":" and angle:
            self._route = b"".join(self._inside or ())
            self._inside = []
        elif special == b"," and angle and self._inside and self._inside[0] == b"@":
            self._inside.append(b",")
        elif special == b"," and not angle:
            self._end()
        elif special == b":" and not self._group and self._inside is None:
            self._found.append(Mailaddress(None, b"".join(self._words).strip() or b"", None))
            self._group = True
            self._clear()
        elif special == b";" and not angle:
            self._end()
            if self._group:
                self._found.append(Mailaddress(None, None, None))
                self._group = False

    def _skip_comment(self) -> None:
        value, pos, depth = self._value, self._pos, 1
        start = pos
        while depth:
            match = _COMMENT.search(value, pos)
            if match is None:
                pos = len(value)
                break
            pos = match.end()
            depth += {40: 1, 41: -1}.get(value[match.start()], 0)
        if self._comment is None:
            self._comment = value[start : pos - 1 if not depth else pos].strip()
        self._pos = pos

    def _end(self) -> None:
        words, inside, comment, route = self._words, self._inside, self._comment, self._route
        self._clear()
        if inside is None:
            if not words:
                return
            spec, name = b"".join([word for word in words if word != b" "] if b"@" in words else words), comment
        else:
            spec, name = b"".join(inside), b"".join(words).strip() or comment
        local, at, host = spec.rpartition(b"@")
        if not at:
            local, host = spec, b""
        if local or host or name:
            self._found.append(Mailaddress(name or None, local, host, route))


_COMMENT = re.compile(rb"\\.|[()]", re.DOTALL)
