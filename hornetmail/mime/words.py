"""A header in ASCII and in lines that are short enough, for servers that take no others (RFC 2047, 2231, 5322 section 2.2.3).

For headers that bear other bytes without being declared as UTF-8 (RFC 6532): what people read is encoded, what machines read is kept where it is
ASCII. Only addresses cannot be written otherwise.
"""

from __future__ import annotations

import binascii
import re

from hornetmail.core.mail.fields import read_fields
from hornetmail.mime.headers import VALUE_BYTES

MOST = 998
"""A line has no more bytes (RFC 5322 section 2.1.1)."""

HEADER_BYTES = 65_536
"""Longer headers are not rewritten: it would hold everybody up (rule 8d)."""

_SPACE = re.compile(rb"([ \t\r\n]+)")
_ADDRESS = re.compile(rb'"(?:[^"\\]|\\.)*+"|\((?:[^()\\]|\\.)*+\)|<[^<>]*+>|[,:;]|[ \t\r\n]++|[^"(<,:; \t\r\n]++|.', re.DOTALL)
_PARAMETER = re.compile(rb"([!#-'*+\-.0-9A-Z^-~]++)=(\"(?:[^\"\\]|\\.)*+\"|[^;\"\s]++)", re.DOTALL)
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ASCII = bytes(code if code < 128 else 63 for code in range(256))

_ADDRESSES = frozenset(
    (
        *(b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"),
        *(b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-bcc"),
        *(b"disposition-notification-to", b"return-receipt-to", b"errors-to"),
    )
)
_PARAMETERS = frozenset({b"content-type", b"content-disposition"})
_MACHINES = frozenset(
    (
        *(b"received", b"message-id", b"in-reply-to", b"references", b"date", b"return-path", b"mime-version", b"content-id"),
        *(b"content-transfer-encoding", b"content-location", b"dkim-signature", b"authentication-results", b"resent-message-id"),
        *(
            b"arc-seal",
            b"arc-message-signature",
            b"arc-authentication-results",
            b"resent-date",
            b"delivered-to",
            b"x-original-to",
        ),
    )
)


class Unwritable(ValueError):
    """This header cannot be written that way; the text says why."""


def in_ascii(block: bytes) -> bytes:
    """A header, blank line included if it has one, in ASCII. Raises Unwritable for an address that is not."""
    if block.isascii():
        return block
    if len(block) > HEADER_BYTES:
        raise Unwritable("a header with other bytes than ASCII is too long")
    matches, _, _ = read_fields(block)
    out: list[bytes] = []
    at = 0
    for match in matches:
        if match[0].isascii():
            continue
        out += [block[at : match.start(2)], _value(match[1].lower(), match[2])]
        at = match.end()
    # A mark of an mbox before the fields, and fields beyond all bounds, are nobody's.
    return b"".join([*out, block[at:]]).translate(_ASCII)


def for_old_readers(start: bytes) -> bytes:
    """The start of a message for a program that takes no UTF-8 in headers (RFC 6856 section 2): a header in UTF-8 is written in ASCII, all else stays. One
    that is no UTF-8 stays, too: nobody declared it, and such programs have their own guesses. Raises Unwritable."""
    _, stop, _ = read_fields(start)
    header = start[:stop]
    if header.isascii() or _charset(header) != b"utf-8":
        return start
    return in_ascii(header) + start[stop:]


def _value(name: bytes, value: bytes) -> bytes:
    text = value.rstrip(b"\r\n")
    end = value[len(text) :]
    if name in _ADDRESSES:
        return _addresses(text) + end
    if name in _PARAMETERS:
        return _PARAMETER.sub(_parameter, text).translate(_ASCII) + end
    if name in _MACHINES:
        return text.translate(_ASCII) + end
    return _unstructured(text) + end


def _words(raw: bytes) -> bytes:
    """Encoded words of at most 75 characters, folded."""
    raw = raw.replace(b"\r\n", b"").replace(b"\n", b"")
    charset = _charset(raw)
    pieces: list[bytes] = []
    at = 0
    while at < len(raw):
        cut = at + 42
        while charset == b"utf-8" and cut < len(raw) and raw[cut] & 0xC0 == 0x80:
            cut -= 1  # a character is not split
        pieces.append(raw[at:cut])
        at = cut
    return b"\r\n ".join(b"=?%s?B?%s?=" % (charset, binascii.b2a_base64(each, newline=False)) for each in pieces)


def _charset(raw: bytes) -> bytes:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return b"unknown-8bit"  # RFC 1428
    return b"utf-8"


def _unstructured(text: bytes) -> bytes:
    """Words that are not ASCII become encoded ones, together with the space between two of them: decoding takes that away."""
    return _encoded([(word, not word.isascii()) for word in _SPACE.split(text) if word])


def _encoded(words: list[tuple[bytes, bool]]) -> bytes:
    """Those marked, as encoded words; white space between two of them is encoded with them."""
    out: list[bytes] = []
    run: list[bytes] = []
    space = b""
    for word, marked in words:
        if marked:
            run += [space, word] if run else [word]
            space = b""
        elif run and not word.strip(b" \t\r\n"):
            space = word
        else:
            out += [_words(b"".join(run))] if run else []
            out += [space, word]
            run, space = [], b""
    out += [_words(b"".join(run))] if run else []
    return b"".join([*out, space])


def _addresses(text: bytes) -> bytes:
    tokens = [match[0] for match in _ADDRESS.finditer(text)]
    words: list[tuple[bytes, bool]] = []
    for at, token in enumerate(tokens):
        if token.isascii():
            words.append((token, False))
            continue
        behind = tokens[at + 1] if at + 1 < len(tokens) else b""
        if token.startswith(b"<") or b"@" in token or behind.startswith(b"@"):
            raise Unwritable(f"the address {token.decode('utf-8', 'replace')[:100]} is not ASCII")
        if token.startswith(b"("):
            words.append((b"(" + _unstructured(token[1:-1]) + b")", False))
        elif token.startswith(b'"') and len(token) > 1:
            words.append((_ESCAPE.sub(rb"\1", token[1:-1]), True))
        else:
            words.append((token, True))
    return _encoded(words)


def _parameter(match: re.Match[bytes], longest: int = VALUE_BYTES) -> bytes:
    """RFC 2231 sections of at most 60 characters, if it is not ASCII or longer than that."""
    name, value = match[1], match[2]
    if value.isascii() and len(value) <= longest:
        return match[0]
    if name.endswith(b"*"):
        return name + b"=" + b"".join(b"%%%02X" % code if code > 127 else bytes((code,)) for code in value)
    if value.startswith(b'"'):
        value = _ESCAPE.sub(rb"\1", value[1:-1])
    text = _charset(value) + b"''" + _percent(value)
    if len(text) <= 60:
        return name + b"*=" + text
    sections: list[bytes] = []
    at = 0
    while at < len(text):
        cut = at + 60
        for back in (1, 2):
            if text[cut - back : cut - back + 1] == b"%":
                cut -= back
                break
        sections.append(b"%s*%d*=%s" % (name, len(sections), text[at:cut]))
        at = cut
    return b";\r\n ".join(sections)


def _percent(value: bytes) -> bytes:
    return b"".join(bytes((code,)) if code in _SAFE else b"%%%02X" % code for code in value)


def folded(block: bytes) -> bytes:
    """The header in lines of at most ``MOST`` bytes, folded at spaces. A field that has none is written otherwise where its meaning allows that: lists'
    addresses are broken (RFC 2369 section 2 has readers ignore that), parameters are continued, texts become encoded words. Raises Unwritable."""
    if all(len(line) <= MOST for line in block.splitlines(keepends=True)):
        return block
    out: list[bytes] = []
    at = 0
    for match in read_fields(block)[0]:
        if len(match[0]) > MOST:
            out += [_lines(block[at : match.start()]), _field(match)]
            at = match.end()
    return b"".join([*out, _lines(block[at:])])


def _lines(text: bytes) -> bytes:
    return b"".join(_folded(line) if len(line) > MOST else line for line in text.splitlines(keepends=True))


def _field(match: re.Match[bytes]) -> bytes:
    try:
        return _lines(match[0])
    except Unwritable:
        name = match[1].lower()
        head, value = match[0][: match.start(2) - match.start()], match[2].strip(b" \t\r\n")
        if name in _PARAMETERS:
            return _lines(head + b" " + _PARAMETER.sub(lambda each: _parameter(each, longest=MOST // 2), value) + b"\r\n")
        if name.startswith(b"list-"):
            pieces = [value[at : at + MOST // 2] for at in range(0, len(value), MOST // 2)]
            return head + b"\r\n ".join([b"", *pieces])[2:] + b"\r\n"
        if len(head) > MOST // 2 or name in _ADDRESSES or name in _MACHINES:
            raise
        return head + b" " + _words(value) + b"\r\n"


def _folded(line: bytes) -> bytes:
    text = line.rstrip(b"\r\n")
    end = line[len(text) :]
    out: list[bytes] = []
    at = 0
    while len(text) - at > MOST:
        # Not at the beginning: a line of nothing but space would end the header for some.
        first = len(text) - len(text[at:].lstrip(b" \t"))
        cut = max(text.rfind(b" ", first, at + MOST + 1), text.rfind(b"\t", first, at + MOST + 1))
        while cut > first and text[cut - 1] in b" \t":
            cut -= 1
        if cut <= first or not text[cut:].strip(b" \t"):
            raise Unwritable("a line of a header is too long and cannot be folded")
        out.append(text[at:cut])
        at = cut
    return b"\r\n".join([*out, text[at:]]) + end
