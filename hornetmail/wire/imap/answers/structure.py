"""ENVELOPE, BODY and BODYSTRUCTURE from a part tree, and where a section's bytes lie (RFC 3501 sections 6.4.5, 7.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.mime.structure import Mailaddress, Part, Summary
from hornetmail.wire.imap.answers.render import nstring, string
from hornetmail.wire.imap.requests.items import Section

EMPTY = Summary()


def envelope(summary: Summary | None) -> bytes:
    """ENVELOPE."""
    s = EMPTY if summary is None else summary
    from_ = _addresses(s.from_)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(s.date),
        nstring(s.subject),
        from_,
        from_ if s.sender == s.from_ else _addresses(s.sender),
        from_ if s.reply_to == s.from_ else _addresses(s.reply_to),
        _addresses(s.to),
        _addresses(s.cc),
        _addresses(s.bcc),
        nstring(s.in_reply_to),
        nstring(s.message_id),
    )


def _addresses(found: Sequence[Mailaddress]) -> bytes:
    if not found:
        return b"NIL"
    return b"(%b)" % b"".join(
        [b"(%b %b %b %b)" % (nstring(a.name), nstring(a.route), nstring(a.mailbox), nstring(a.host)) for a in found]
    )


def body_structure(part: Part, extended: bool) -> bytes:
    """BODYSTRUCTURE, or BODY without the extension data."""
    if part.type == "MULTIPART":
        inner = b"".join([body_structure(child, extended) for child in part.parts]) or _NOTHING
        if not extended:
            return b"(%b %b)" % (inner, _word(part.subtype))
        return b"(%b %b %b %b)" % (inner, _word(part.subtype), _params(part.params), _tail(part))
    pieces = [
        _word(part.type),
        _word(part.subtype),
        _params(part.params),
        nstring(part.id),
        nstring(part.description),
        _word(part.encoding),
        b"%d" % (part.end - part.body),
    ]
    if part.type == "TEXT":
        pieces.append(b"%d" % part.lines)
    elif part.parts and part.type == "MESSAGE":
        pieces += [envelope(part.parts[0].summary), body_structure(part.parts[0], extended), b"%d" % part.lines]
    if extended:
        pieces += [nstring(part.md5), _tail(part)]
    return b"(%b)" % b" ".join(pieces)


def outweighs(part: Part, limit: int) -> bool:
    """Whether a tree has more parts, parameters and addresses than that. Looks at ``limit`` of them at most."""
    waiting, weight = [part], 0
    while waiting and weight <= limit:
        one = waiting.pop()
        summary = one.summary
        weight += 1 + len(one.params) + len(one.disposition_params)
        if summary is not None:
            weight += sum(map(len, (summary.from_, summary.sender, summary.reply_to, summary.to, summary.cc, summary.bcc)))
        waiting.extend(one.parts)
    return weight > limit


_NOTHING = b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 0 0)'


def _word(text: str) -> bytes:
    return string(text.encode("utf-8", "replace"))


def _params(params: Sequence[tuple[str, str]]) -> bytes:
    if not params:
        return b"NIL"
    return b"(%b)" % b" ".join([b"%b %b" % (_word(name), _word(value)) for name, value in params])


def _tail(part: Part) -> bytes:
    """Disposition, language and location."""
    if part.disposition is None:
        disposition = b"NIL"
    else:
        disposition = b"(%b %b)" % (_word(part.disposition), _params(part.disposition_params))
    language = b"NIL" if not part.language else b"(%b)" % b" ".join([_word(tongue) for tongue in part.language])
    return b"%b %b %b" % (disposition, language, nstring(part.location))


def span(root: Part, section: Section) -> tuple[int, int] | None:
    """First byte and end of what a section names, before its fields are picked and its partial is cut; None if there is no such part."""
    part = _walk(root, section.path)
    if part is None:
        return None
    kind = section.kind
    if section.path:
        if not kind:
            return part.body, part.end
        if kind == "MIME":
            return part.start, part.body
        if part.type != "MESSAGE" or not part.parts:
            return None
        part = part.parts[0]
    elif not kind:
        return part.start, part.end
    return (part.body, part.end) if kind == "TEXT" else (part.start, part.body)


IDENTITY = frozenset({"7BIT", "8BIT", "BINARY"})
KNOWN = IDENTITY | {"BASE64", "QUOTED-PRINTABLE"}


def encoding_of(root: Part, section: Section) -> str | None:
    """What has to be undone of a part for ``BINARY`` (RFC 3516 section 4.3), in capitals; what a whole message, or a part that holds parts, bears is none
    (RFC 2045 section 6.4). None: there is no such part, and nothing to undo."""
    part = _walk(root, section.path) if section.path else None
    return None if part is None or part.parts or part.type == "MULTIPART" else part.encoding


def _walk(message: Part, path: Sequence[int]) -> Part | None:
    """The part at a path. A message that is no multipart has one part, 1: its body (section 6.4.5)."""
    part, container = message, True
    for number in path:
        if not container and part.type == "MESSAGE" and part.parts:
            part, container = part.parts[0], True
        if part.type == "MULTIPART":
            if number > len(part.parts):
                return None
            part = part.parts[number - 1]
        elif not container or number != 1:
            return None
        container = False
    return part


def pick_fields(header: bytes, section: Section) -> bytes:
    """HEADER.FIELDS or HEADER.FIELDS.NOT of a header, with the blank line that ends it."""
    wanted, invert = section.fields, section.kind.endswith("NOT")
    kept: list[bytes] = []
    keep = False
    for line in _lines(header):
        if line in (b"\r\n", b"\n"):
            break
        if line[:1] not in (b" ", b"\t"):
            name, colon, _ = line.partition(b":")
            keep = bool(colon) and (name.rstrip().lower() in wanted) is not invert
        if keep:
            kept.append(line)
    kept.append(b"\r\n")
    return b"".join(kept)


def _lines(header: bytes) -> list[bytes]:
    """Lines that end in LF; a bare CR ends none."""
    return [line + b"\n" for line in header.split(b"\n")[:-1]] + [rest for rest in [header.rpartition(b"\n")[2]] if rest]


def cut(section: Section, start: int, end: int) -> tuple[int, int]:
    """First byte and end after the partial is cut."""
    if section.start < 0:
        return start, end
    start = min(start + section.start, end)
    return start, min(start + section.count, end)
