"""What a mail says, for the index and for showing: header fields as text, and the plain text of its bodies.

Nothing here raises on what a mail holds: what the fast parser refuses is read by a simple one, and what that cannot read is shown raw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

import fast_mail_parser
import msgspec
from selectolax.lexbor import LexborHTMLParser

from hornetmail.core.mail.dates import parse_date
from hornetmail.core.mail.fields import mbox_end, read_fields, unfold
from hornetmail.mime.charset import decode
from hornetmail.mime.headers import addresses, decode_text, first, to_text
from hornetmail.mime.structure import deep

MAX_TEXT = 256 << 10
"""Characters of text that are taken from one mail."""

MAX_HTML = 512 << 10
MAX_PARSED = 96 << 20
_MAX_HEAD = 256 << 10
_MAX_ADDRESSES = 5000
_SILENT = ["script", "style", "template", "noscript", "head", "svg", "object", "iframe"]
_BREAKS = re.compile(
    r"<(?:br|/?p|/?div|/?tr|/?li|/?h[1-6]|/?table|/?blockquote|hr|/?pre|/?ul|/?ol)\b[^<>]{0,512}>", re.IGNORECASE
)
_GAPS = re.compile(r"<(?:/?td|/?th|/?option|/?dt|/?dd|/?section|/?article|/?title|img|input)\b[^<>]{0,512}>", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]{0,20})")
_DEEP = 5000
_BOUNDARY = re.compile(rb"boundary", re.IGNORECASE)
_MAX_BOUNDARIES = 500
_WORD = re.compile(rb"[ \t]*=\?")
_MAX_WORDS = 100
_MARK = "\ufdd0"


class Named(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An address with its display name, as the header has them."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name and self.address else self.address or self.name


class MailText(msgspec.Struct, frozen=True, gc=False):
    """A mail as text. ``date``: Unix seconds of its Date header, None if it has none that reads. ``files``: names of attachments, ``""``
    for nameless ones. ``whole``: the fast parser read it; otherwise header fields and raw text are what could be had."""

    subject: str = ""
    sender: Named | None = None
    to: tuple[Named, ...] = ()
    cc: tuple[Named, ...] = ()
    bcc: tuple[Named, ...] = ()
    message_id: str = ""
    date: float | None = None
    text: str = ""
    files: tuple[str, ...] = ()
    whole: bool = True


def read_mail(raw: bytes, *, lines: bool = False) -> MailText:
    """Read a mail. ``lines``: keep line breaks (for showing); the index does not need them. Bounded by ``MAX_TEXT``. Never raises."""
    raw = raw[mbox_end(raw) :]
    if len(raw) <= MAX_PARSED and not _nested(raw):
        try:
            return _fast(raw, lines)
        except Exception:  # noqa: BLE001  whatever a foreign parser trips over, the mail is archived and found by what can be read
            return _plain(raw)
    return _plain(raw)


def _nested(raw: bytes) -> bool:
    """Whether multiparts may lie so deep in one another that the fast parser, which calls itself for each, ends the process: 30,000 of them in
    8 MiB of stack (``tests/mime/test_text.py``)."""
    boundaries = _BOUNDARY.finditer(raw)
    return next(islice(boundaries, _MAX_BOUNDARIES, None), None) is not None and deep(raw)


def _folded(raw: bytes) -> bytes:
    """Lines of very many encoded words folded before each: the fast parser's time goes with the square of their number in a line."""
    if raw.count(b"=?") <= _MAX_WORDS:
        return raw
    return b"\n".join([_WORD.sub(b"\r\n =?", line) if line.count(b"=?") > _MAX_WORDS else line for line in raw.split(b"\n")])


def _fast(raw: bytes, lines: bool) -> MailText:
    mail = fast_mail_parser.parse_email(_folded(raw), mode="lazy")
    parts = list(mail.text_plain)
    room = MAX_TEXT - sum(map(len, parts))
    for html in mail.text_html if not _says_something(parts) or not lines else ():
        if room <= 0:
            break
        parts.append(html_to_text(html, lines=lines))
        room -= len(parts[-1])
    if lines:
        text = "\n".join(parts)[:MAX_TEXT]
    else:
        text = " ".join(_once(parts))[:MAX_TEXT]
    headers = mail.headers
    return MailText(
        subject=clean(mail.subject),
        sender=_named(mail.from_) if mail.from_ is not None else _sender(raw, headers),
        to=_addresses(mail.to),
        cc=_addresses(mail.cc),
        bcc=_addresses(mail.bcc),
        message_id=_message_id(_first(headers, "message-id")),
        date=parse_date(_first(headers, "date").encode("utf-8", "replace")),
        text=clean(text, lines=lines),
        files=tuple(clean(a.filename or "") for a in mail.attachments[:1000]),
    )


def _says_something(parts: Iterable[str]) -> bool:
    return any(part.strip() for part in parts)


def _once(parts: list[str]) -> list[str]:
    """Plain and HTML forms of the same text are indexed once, if the HTML adds no words."""
    if len(parts) < 2:
        return parts
    seen = set(parts[0].split())
    kept = [parts[0]]
    for part in parts[1:]:
        words = part.split()
        if not seen.issuperset(words):
            kept.append(part)
            seen.update(words)
    return kept


def _named(address: fast_mail_parser.PyAddress) -> Named:
    return Named(clean(address.display_name or ""), clean(address.address))


def _addresses(found: list[fast_mail_parser.PyAddress]) -> tuple[Named, ...]:
    return tuple(_named(a) for a in found[:_MAX_ADDRESSES])


def _first(headers: dict[str, list[str]], name: str) -> str:
    for key, values in headers.items():
        if key.lower() == name and values:
            return values[0]
    return ""


def _sender(raw: bytes, headers: dict[str, list[str]]) -> Named | None:
    """Where the fast parser sees none: an address all the same, or the words that stand there."""
    found = next(iter(_listed(first(raw, b"from") or b"")), None)
    if found is not None and found.address:
        return found
    value = clean(_first(headers, "from"))
    return Named(value, "") if value else None


def _message_id(value: str) -> str:
    return clean(value)[:998]


def clean(text: str, *, lines: bool = False) -> str:
    """White space made single (line breaks kept if ``lines``), NULs and lone surrogates taken out."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    if "\x00" in text:
        text = text.replace("\x00", " ")
    if not lines:
        return " ".join(text.split())
    kept: list[str] = []
    for line in text.splitlines():
        stripped = line.rstrip()
        if stripped or (kept and kept[-1]):
            kept.append(stripped)
    return "\n".join(kept).strip("\n")


def html_to_text(html: str, *, lines: bool = False) -> str:
    """The text a reader of HTML would see, scripts and styles left out. Bounded by ``MAX_HTML``. Never raises."""
    html = html[:MAX_HTML]
    if lines:
        html = " ".join(html.split())
    html = _GAPS.sub(r"\g<0> ", _BREAKS.sub(rf"\g<0>{_MARK}", html))
    if html.count("<") > _DEEP and _depth(html) > _DEEP:
        return _crude(html, lines)
    try:
        tree = LexborHTMLParser(html)
        tree.strip_tags(_SILENT)
        text = tree.body.text(separator="") if tree.body is not None else ""
    except Exception:  # noqa: BLE001  a foreign parser; raw words are better than none
        return _crude(html, lines)
    return _laid_out(text, lines)


def _depth(html: str) -> int:
    """About how deep the elements nest. The parser's time grows with the square of that."""
    depth = deepest = 0
    counts: dict[str, int] = {}
    for found in _TAG.finditer(html):
        name = found.group(2).lower()
        if not found.group(1):
            counts[name] = counts.get(name, 0) + 1
            depth += 1
            deepest = max(deepest, depth)
        elif counts.get(name, 0):
            counts[name] -= 1
            depth -= 1
    return deepest


def _crude(html: str, lines: bool) -> str:
    """Without a parser: all but the tags."""
    return _laid_out(re.sub(r"<[^<>]{0,2000}>", " ", html), lines)


def _laid_out(text: str, lines: bool) -> str:
    if lines:
        broken = re.sub(rf"(?:{_MARK}\s*){{2,}}", "\n", text).replace(_MARK, "\n")
        return "\n".join(" ".join(line.split()) for line in broken.split("\n"))
    return " ".join(text.replace(_MARK, " ").split())


def _plain(raw: bytes) -> MailText:
    """The fallback: header fields, and the rest as it is."""
    found, _, body = read_fields(raw, 0, min(len(raw), _MAX_HEAD))
    values: dict[bytes, bytes] = {}
    for field in found:
        values.setdefault(field[1].lower(), unfold(field[2]))
    return MailText(
        subject=clean(decode_text(values.get(b"subject", b""))),
        sender=next(iter(_listed(values.get(b"from", b""))), None),
        to=_listed(values.get(b"to", b"")),
        cc=_listed(values.get(b"cc", b"")),
        bcc=_listed(values.get(b"bcc", b"")),
        message_id=_message_id(decode(values.get(b"message-id", b""))),
        date=parse_date(values.get(b"date", b"")),
        text=clean(decode(raw[body : body + MAX_TEXT])),
        whole=False,
    )


def _listed(value: bytes) -> tuple[Named, ...]:
    return tuple(
        Named(clean(decode_text(one.name or b"")), clean(to_text(one.mailbox + b"@" + one.host if one.host else one.mailbox)))
        for one in addresses(value)[:_MAX_ADDRESSES]
        if one.mailbox is not None and one.host is not None
    )
