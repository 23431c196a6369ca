"""The structure of a message with byte offsets: what IMAP's BODYSTRUCTURE, ENVELOPE and partial fetches are answered from (RFC 2045, 2046).

``scan`` is pure, takes time in proportion to the size, never raises and obeys bounds: ``DEPTH`` levels, ``PARTS`` parts in all,
``DELIMITERS`` candidates for a boundary line, ``BOUNDARIES`` names of them. What lies deeper or beyond is shown as one APPLICATION/OCTET-STREAM.
"""

from __future__ import annotations

import re
from itertools import islice

import msgspec

from hornetmail.core.mail.fields import read_fields
from hornetmail.mime.headers import Mailaddress, Parameters, addresses, clean, message_ids, parameters, to_text

__all__ = ["DEPTH", "PARTS", "REFERENCES", "Mailaddress", "Part", "Summary", "boundary_of", "content_type", "scan", "token"]

DEPTH = 24
PARTS = 1_000
REFERENCES = 30
DELIMITERS = 20_000
BOUNDARIES = 2_000
LONGER = 50


class Summary(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The envelope structure of RFC 3501 section 7.4.2 in raw bytes, unfolded; None where the field is missing. ``sender`` and
    ``reply_to`` are ``from_`` where the message has none, as the RFC wants it. ``references``: the Message-IDs of that field, of more than
    ``REFERENCES`` the first and the last ones (a thread hangs on its first and on its parent, RFC 5322 section 3.6.4)."""

    date: bytes | None = None
    subject: bytes | None = None
    in_reply_to: bytes | None = None
    message_id: bytes | None = None
    from_: tuple[Mailaddress, ...] = ()
    sender: tuple[Mailaddress, ...] = ()
    reply_to: tuple[Mailaddress, ...] = ()
    to: tuple[Mailaddress, ...] = ()
    cc: tuple[Mailaddress, ...] = ()
    bcc: tuple[Mailaddress, ...] = ()
    references: tuple[bytes, ...] = ()


class Part(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A body part. ``start``: first byte of its header; ``body``: first byte of its body; ``end``: behind its last byte (the line
    end before a boundary belongs to the boundary). ``lines``: of the body, a last one without line end included.

    ``type``, ``subtype``, ``encoding`` and ``disposition`` are in upper case, parameter names in lower case. Texts hold no control
    characters and always have a UTF-8 form. A multipart has at least one part. ``summary`` is there on messages: the root, and the single
    child of a MESSAGE/RFC822, which is the message in it; so a root of that type and what it holds have one each.
    """

    start: int
    body: int
    end: int
    lines: int
    type: str = "TEXT"
    subtype: str = "PLAIN"
    params: Parameters = ()
    id: bytes | None = None
    description: bytes | None = None
    md5: bytes | None = None
    location: bytes | None = None
    encoding: str = "7BIT"
    disposition: str | None = None
    disposition_params: Parameters = ()
    language: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    summary: Summary | None = None

    def param(self, name: str) -> str | None:
        """The first parameter of that (lower case) name as written."""
        for known, value in self.params:
            if known == name:
                return value
        return None


_ASCII: Parameters = (("charset", "us-ascii"),)
_TYPE = re.compile(r"([!-.0-~]{1,100})\s*/\s*([!-.0-~]{1,100})")
_BOUNDARY = re.compile(rb"""boundary\s{0,5}=\s{0,5}"?([^"\s;]{1,200})""", re.IGNORECASE)
_OPAQUE = frozenset({"BASE64", "QUOTED-PRINTABLE"})
_INTERESTING = frozenset(
    (
        *(
            b"date",
            b"subject",
            b"in-reply-to",
            b"references",
            b"message-id",
            b"from",
            b"sender",
            b"reply-to",
            b"to",
            b"cc",
            b"bcc",
        ),
        *(b"content-type", b"content-transfer-encoding", b"content-id", b"content-description", b"content-md5"),
        *(b"content-location", b"content-disposition", b"content-language"),
    )
)

Fields = dict[bytes, bytes]


def scan(data: bytes) -> Part:
    """The tree of a whole message. Never raises."""
    return _Scanner(data).part(0, len(data), 0, digest=False, message=True)


def scanned(data: bytes) -> tuple[Part, bool]:
    """The same, and whether some of it was taken for opaque because it lies too deep or comes too late."""
    scanner = _Scanner(data)
    return scanner.part(0, len(data), 0, digest=False, message=True), scanner.cut


class _Scanner:
    """``cut``: some of it was taken for opaque, because it lies too deep or comes too late."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = PARTS
        self._delimiters = DELIMITERS
        self._boundaries: set[bytes] | None = None
        self.cut = False

    def _fields(self, start: int, end: int) -> tuple[Fields, int]:
        matches, _, body = read_fields(self._data, start, end)
        found: Fields = {}
        more: dict[bytes, list[bytes]] = {}
        for match in matches:
            name = match[1].lower()
            if name in _INTERESTING:
                if name not in found:
                    found[name] = match[2]
                elif name in _JOINED:
                    more.setdefault(name, [found[name].rstrip()]).append(match[2].rstrip())
        for name, values in more.items():
            found[name] = b", ".join(values)
        return found, body

    def part(self, start: int, end: int, depth: int, *, digest: bool, message: bool) -> Part:
        """The part that fills ``start`` to ``end``, with the summary of its header if it is a ``message``."""
        self._parts -= 1
        found, body = self._fields(start, end)
        kind, subtype, params = content_type(found.get(b"content-type"), digest)
        encoding = token(found.get(b"content-transfer-encoding")) or "7BIT"
        parts: tuple[Part, ...] = ()
        if kind == "MULTIPART" or (kind == "MESSAGE" and subtype == "RFC822"):
            self.cut = self.cut or depth >= DEPTH or self._parts <= 0
            if depth >= DEPTH or self._parts <= 0 or (kind == "MESSAGE" and encoding in _OPAQUE):
                kind, subtype, params = "APPLICATION", "OCTET-STREAM", ()
            elif kind == "MESSAGE":
                parts = (self.part(body, end, depth + 1, digest=False, message=True),)
            else:
                parts = self._multipart(body, end, depth, boundary_of(params), subtype == "DIGEST")
        disposition, disposition_params = None, ()  # type: str | None, Parameters
        if b"content-disposition" in found:
            value, disposition_params = parameters(found[b"content-disposition"])
            disposition = value.upper() or None
        language = found.get(b"content-language")
        return Part(
            start=start,
            body=body,
            end=end,
            lines=_lines(self._data, body, end),
            type=kind,
            subtype=subtype,
            params=params,
            id=_raw(found, b"content-id"),
            description=_raw(found, b"content-description"),
            md5=_raw(found, b"content-md5"),
            location=_raw(found, b"content-location"),
            encoding=encoding,
            disposition=disposition,
            disposition_params=disposition_params,
            language=tuple(word.strip() for word in to_text(clean(language)).split(",")[:20] if word.strip()) if language else (),
            parts=parts,
            summary=_summary(found) if message else None,
        )

    def _multipart(self, body: int, end: int, depth: int, boundary: bytes, digest: bool) -> tuple[Part, ...]:
        regions = self._regions(body, end, boundary) if boundary else []
        if not regions:
            self._parts -= 1
            return (Part(start=body, body=body, end=end, lines=_lines(self._data, body, end), params=_ASCII),)
        out: list[Part] = []
        for start, stop in regions:
            if self._parts <= 0:
                break
            out.append(self.part(start, stop, depth + 1, digest=digest, message=False))
        return tuple(out)

    def _regions(self, body: int, end: int, boundary: bytes) -> list[tuple[int, int]]:
        """Where the parts of a multipart lie (RFC 2046 section 5.1.1); a missing last boundary ends the last part where the parent ends. A line that
        only begins with the boundary is one, too, unless it begins with a longer one of a part within."""
        data = self._data
        delimiter = b"--" + boundary
        needle = b"\n" + delimiter
        regions: list[tuple[int, int]] = []
        longer: tuple[bytes, ...] | None = None
        open_at = -1
        hit = body if data.startswith(delimiter, body, end) else -1
        if hit < 0:
            hit = data.find(needle, body, end) + 1 or -1
        while hit >= 0 and self._delimiters > 0 and len(regions) < self._parts:
            self._delimiters -= 1
            behind = hit + len(delimiter)
            stop = data.find(b"\n", behind, end)
            line_end = end if stop < 0 else stop + 1
            rest = data[behind : min(line_end, behind + 200)].rstrip(b" \t\r\n")
            if rest not in (b"", b"--") and longer is None:
                longer = self._longer(boundary)
            if not longer or rest in (b"", b"--") or not (boundary + rest).startswith(longer):
                if open_at >= 0:
                    cut = hit - 1 if hit > open_at else hit  # the line end belongs to the boundary
                    if cut > open_at and data[cut - 1] == 13:
                        cut -= 1
                    regions.append((open_at, max(cut, open_at)))
                if rest.startswith(b"--"):
                    return regions
                open_at = line_end
            following = data.find(needle, line_end - 1, end)
            hit = following + 1 if following >= 0 else -1
        if open_at >= 0:
            regions.append((open_at, end))
        self.cut = self.cut or hit >= 0
        return regions

    def _longer(self, boundary: bytes) -> tuple[bytes, ...]:
        """Boundaries named in the message that begin with this one."""
        if self._boundaries is None:
            self._boundaries = {found[1] for found in islice(_BOUNDARY.finditer(self._data), BOUNDARIES)}
        longer = [each for each in self._boundaries if len(each) > len(boundary) and each.startswith(boundary)]
        return tuple(longer[:LONGER])


_JOINED = frozenset({b"to", b"cc", b"bcc"})


def _lines(data: bytes, start: int, end: int) -> int:
    return data.count(b"\n", start, end) + (1 if end > start and data[end - 1] != 10 else 0)


def _raw(found: Fields, name: bytes) -> bytes | None:
    value = found.get(name)
    return clean(value) if value is not None else None


def token(value: bytes | None) -> str:
    """The first word of a value in capitals, ``""`` if there is none."""
    if value is None:
        return ""
    words = to_text(clean(value)).replace(";", " ").split(None, 1)
    return words[0].upper() if words else ""


def content_type(value: bytes | None, digest: bool) -> tuple[str, str, Parameters]:
    """Type and subtype in capitals, and the parameters, of a Content-Type (RFC 2045 section 5); what holds without one, or with one that cannot
    be read (section 5.2), in a ``digest`` a message (RFC 2046 section 5.1.5)."""
    if value is None:
        return ("MESSAGE", "RFC822", ()) if digest else ("TEXT", "PLAIN", _ASCII)
    head, params = parameters(value)
    match = _TYPE.match(head)
    if match is None:
        return ("TEXT", "PLAIN", params or _ASCII)
    return match[1].upper(), match[2].upper(), params


def boundary_of(params: Parameters) -> bytes:
    """The boundary of a multipart, ``b""`` if it has none that can be one."""
    for name, value in params:
        if name == "boundary":
            return value.rstrip().encode()[:200] if value.isascii() else b""
    return b""


def _summary(found: Fields) -> Summary:
    if not found:
        return Summary()
    from_ = _addresses(found, b"from")
    return Summary(
        date=_raw(found, b"date"),
        subject=_raw(found, b"subject"),
        in_reply_to=_raw(found, b"in-reply-to"),
        message_id=_raw(found, b"message-id"),
        from_=from_,
        sender=_addresses(found, b"sender") or from_,
        reply_to=_addresses(found, b"reply-to") or from_,
        to=_addresses(found, b"to"),
        cc=_addresses(found, b"cc"),
        bcc=_addresses(found, b"bcc"),
        references=_references(found.get(b"references")),
    )


def _references(value: bytes | None) -> tuple[bytes, ...]:
    found = message_ids(value)
    return tuple(found if len(found) <= REFERENCES else [found[0], *found[-REFERENCES + 1 :]])


def _addresses(found: Fields, name: bytes) -> tuple[Mailaddress, ...]:
    value = found.get(name)
    return addresses(value) if value is not None else ()
