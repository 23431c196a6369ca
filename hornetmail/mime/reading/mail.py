"""What a mail says, for the index and for showing: header fields as text, the text of its bodies, and of what hangs on it.

Nothing here raises on what a mail holds, and bytes win over labels that cannot be true (``mime.charset``). Time is proportional to the size
(``tests/cost/test_mime.py``); what the bounds keep out is named in ``unsearched``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import msgspec

from hornetmail.core.mail.dates import parse_date
from hornetmail.core.mail.fields import mbox_end, read_fields, unfold
from hornetmail.mime import headers
from hornetmail.mime.charset import decode, html_label
from hornetmail.mime.headers import addresses, decode_text, to_text
from hornetmail.mime.reading.enclosed import taken_out
from hornetmail.mime.reading.files import begins_as_file, holds_words, is_file, is_message, is_text, name_of
from hornetmail.mime.reading.html import behind, html_to_text
from hornetmail.mime.structure import Part, scanned
from hornetmail.mime.transfer import decoded

MAX_TEXT = 2_000_000
"""Characters that are taken from what one mail says, and as many from what hangs on it."""

MAX_DECODED = 64 << 20
"""Bytes of text parts that are decoded of one mail."""

NESTED = 4
"""Mails in encoded parts of mails are opened so deep; those that lie open in it as deep as ``structure.scan`` looks."""

FILES = 1_000
"""Names of files that are kept of one mail."""

REFERENCES = 12
"""Message-IDs that are kept of those a mail answers."""

_REFERENCES_BYTES = 16_384
_BARE_ID = re.compile(rb"<([^<>\s]{1,255})>")
_MAX_ADDRESSES = 5_000
_MAX_OVERFLOW = 1 << 20
_WANTED = frozenset(
    (
        *(
            b"subject",
            b"from",
            b"sender",
            b"reply-to",
            b"to",
            b"cc",
            b"bcc",
            b"date",
            b"message-id",
            b"in-reply-to",
            b"references",
        ),
        *(b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-bcc", b"resent-message-id"),
        *(b"list-id", b"list-post", b"keywords", b"comments", b"organization", b"thread-topic", b"apparently-to"),
    )
)
_SENDERS = (b"sender", b"resent-from", b"resent-sender")
_OTHERS = (
    *(b"reply-to", b"list-id", b"list-post", b"keywords", b"comments", b"organization", b"thread-topic"),
    *(b"message-id", b"resent-message-id", b"in-reply-to", b"references"),
)

Head = dict[bytes, list[bytes]]


class Named(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An address with its display name, as the header has them."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name and self.address else self.address or self.name


class FileWords(msgspec.Struct, frozen=True, gc=False):
    """What a file says, and what of it, or of what is packed in it, was left out and why."""

    text: str
    unsearched: tuple[str, ...] = ()


ReadFile = Callable[[str, bytes], FileWords]
"""Name and bytes of a file that is no text, as its words."""


class MailText(msgspec.Struct, frozen=True, gc=False):
    """A mail as text. ``senders``: who else has a hand in it (a second From, Sender, Resent-From). ``to``, ``cc``, ``bcc``: of all such fields,
    Resent ones included; ``overflow``: of fields with more addresses than are read one by one, their words. ``headers``: what else of the header
    people look for. ``date``: Unix seconds of its Date header, None if it has none that reads. ``text``: what it says; ``attached``: the text of what
    hangs on it. ``files``: names of attachments, ``""`` for nameless ones. ``unsearched``: what was left out and why. ``whole``: its structure
    could be followed to the end. ``references``: Message-IDs that it answers, bare, the nearest last. ``content``: a hash of all that it says and of all that hangs on it, whatever its header
    and however it was encoded (rule 13); empty if not all of it could be read. ``waiting``: there are files in it whose words are not among ``attached`` yet."""

    subject: str = ""
    sender: Named | None = None
    senders: tuple[Named, ...] = ()
    to: tuple[Named, ...] = ()
    cc: tuple[Named, ...] = ()
    bcc: tuple[Named, ...] = ()
    overflow: str = ""
    headers: str = ""
    message_id: str = ""
    date: float | None = None
    text: str = ""
    attached: str = ""
    files: tuple[str, ...] = ()
    unsearched: tuple[str, ...] = ()
    whole: bool = True
    references: tuple[str, ...] = ()
    content: bytes = b""
    waiting: bool = False


def read_mail(raw: bytes, *, lines: bool = False, files: ReadFile | None = None) -> MailText:
    """Read a mail. ``lines``: as people read it, with line breaks, and only what it says; the index does not need them, and wants to know what stands behind the
    words, too. ``files`` reads what is no text (``extraction/files.py``, in a process of its own); None: it waits, and is said not to be read yet. Never raises."""
    start = mbox_end(raw)
    if start:
        raw = raw[start:]
    tree, cut = scanned(raw)
    reading = _Reading(raw, tree, lines, files)
    reading.walk(tree, 0)
    head = _head(raw, 0, len(raw))
    label = reading.label
    subjects = [clean(decode_text(value, label)) for value in head.get(b"subject", ())]
    senders = _all(head, (b"from", *_SENDERS), label)
    to, cc, bcc = (
        _all(head, names, label)
        for names in ((b"to", b"resent-to", b"apparently-to"), (b"cc", b"resent-cc"), (b"bcc", b"resent-bcc"))
    )
    text, attached = reading.done()
    return MailText(
        subject=subjects[0] if subjects else "",
        sender=senders[0] if senders else _nameless(head, label),
        senders=senders[1:],
        to=to[:_MAX_ADDRESSES],
        cc=cc[:_MAX_ADDRESSES],
        bcc=bcc[:_MAX_ADDRESSES],
        overflow="" if lines else _overflow(head, label),
        headers="" if lines else clean(" ".join([*subjects[1:], *_others(head, label)])),
        message_id=_message_id(to_text(_first(head, b"message-id"))),
        date=parse_date(_first(head, b"date")),
        text=text,
        attached=attached,
        files=tuple(reading.files[:FILES]),
        unsearched=tuple(reading.unsearched),
        whole=not cut,
        references=() if lines else _references(head),
        content=b"" if lines or cut else reading.content(),
        waiting=reading.waiting,
    )


class _Reading:
    """Goes through the leaves of one mail in the order of its bytes."""

    def __init__(self, raw: bytes, tree: Part, lines: bool, read_file: ReadFile | None) -> None:
        self._raw = raw
        self._lines = lines
        self._read_file = read_file
        self.waiting = False
        self._room = MAX_DECODED
        self._plain: list[str] = []
        self._html: list[str] = []
        self._behind: list[str] = []
        self._attached: list[str] = []
        self.files: list[str] = []
        self.unsearched: list[str] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self.label = _label(tree)

    def walk(self, tree: Part, depth: int) -> None:
        """Take what a tree of the present bytes says. ``depth``: of mails in encoded parts."""
        inside = False
        waiting: list[tuple[Part, bool]] = [(tree, inside or depth > 0)]
        while waiting:
            part, inside = waiting.pop()
            if part.type == "MULTIPART":
                waiting.extend((child, inside) for child in reversed(part.parts))
            elif part.parts:
                self._enclosed(part)
                waiting.append((part.parts[0], True))
            else:
                self._leaf(part, inside, depth)

    def _enclosed(self, part: Part) -> None:
        """A mail in it: its header is text of what hangs on it."""
        self.files.append(clean(name_of(part)))
        if not self._lines:
            self._weigh(b"".join(self._raw[part.parts[0].start : part.parts[0].body].split()))
            self._mail_header(self._raw, part.parts[0].start, part.parts[0].end)

    def _mail_header(self, raw: bytes, start: int, end: int) -> None:
        for name, values in _head(raw, start, end).items():
            if name != b"references":
                self._attached += (clean(decode_text(value, self.label)) for value in values)

    def _leaf(self, part: Part, inside: bool, depth: int) -> None:
        if part.type == "TEXT" and part.subtype != "RTF" and not is_file(part):
            self._says(part, inside)
            return
        name = clean(name_of(part))
        if part.type != "MESSAGE" or name or part.subtype == "RFC822":
            self.files.append(name)
        if self._lines:
            return
        if is_message(part, name) or (part.subtype == "OCTET-STREAM" and self._sealed_mail(part)):
            self._nested(part, name, depth)
        elif self._holds_words(part, name):
            self._file(part, name or part.subtype.lower())
        elif is_text(part, name):
            self._take(self._decoded(part, name), part, self._attached)
        else:
            self._weigh(name.encode(), decoded(self._raw[part.body : part.end], part.encoding))

    def _holds_words(self, part: Part, name: str) -> bool:
        if holds_words(part, name) and not (part.type == "TEXT" and is_text(part, name)):
            return True
        return part.encoding == "BASE64" and begins_as_file(self._raw[part.body : part.body + 16])

    def _file(self, part: Part, name: str) -> None:
        self._weigh(name.encode(), decoded(self._raw[part.body : part.end], part.encoding))
        if self._read_file is None:
            self.waiting = True
            self.unsearched.append(f"{name}: not read yet")
            return
        found = self._read_file(name, self._bytes_of(part, name))
        self._attached.append(found.text)
        self.unsearched += found.unsearched

    def _weigh(self, *pieces: bytes) -> None:
        """Something that makes this mail another one than a mail without it."""
        for piece in pieces:
            self._hash.update(b"%d " % len(piece))
            self._hash.update(piece)

    def content(self) -> bytes:
        """See ``MailText``."""
        return self._hash.digest() if self._room else b""

    def _sealed_mail(self, part: Part) -> bool:
        """``scan`` shows a mail whose bytes are encoded, which is forbidden (RFC 2046 section 5.2.1), as bytes."""
        said = headers.first(self._raw, b"content-type", part.start, part.body)
        return said is not None and said.lstrip().lower().startswith(b"message/rfc822")

    def _says(self, part: Part, inside: bool) -> None:
        if self._lines and inside:
            return
        self._take(self._decoded(part, "text"), part, self._attached if inside else None)

    def _take(self, data: bytes, part: Part, into: list[str] | None) -> None:
        """The text of a part, what it says if ``into`` is None."""
        label = part.param("charset") or ""
        text = decode(data, html_label(data, label) if part.subtype == "HTML" else label)
        if part.subtype == "HTML" or (
            part.type != "TEXT" and text[:200].lstrip().lower().startswith(("<!doctype html", "<html"))
        ):
            said = html_to_text(text, lines=self._lines)
            (self._html if into is None else into).append(said)
            if not self._lines:
                links, descriptions = behind(text)
                self._behind += (*links, *descriptions)
            return
        if part.subtype in ("CALENDAR", "VCARD", "X-VCARD", "DIRECTORY"):
            text = text.replace("\r\n ", "").replace("\n ", "").replace("\\n", "\n").replace("\\,", ",")
        text, files = taken_out(text)
        for name, inner in files:
            self.files.append(clean(name))
            if inner and not self._lines and inner.count(b"\0") == 0:
                self._attached.append(decode(inner))
        (self._plain if into is None else into).append(_unflowed(text) if _flows(part) else text)

    def _decoded(self, part: Part, name: str) -> bytes:
        """What people read, which is part of what makes this mail itself."""
        data = self._bytes_of(part, name)
        if not self._lines:
            # line ends, and blanks before them, change on the way
            self._weigh(b" ".join(data.split()))
        return data

    def _bytes_of(self, part: Part, name: str) -> bytes:
        size = part.end - part.body
        if size > self._room:
            self.unsearched.append(f"{name}: only the first part of {size:,} bytes" if self._room else f"{name}: too much")
            size = self._room
        self._room -= size
        return decoded(self._raw[part.body : part.body + size], part.encoding)

    def _nested(self, part: Part, name: str, depth: int) -> None:
        """A mail that does not lie open: its bytes are encoded."""
        if depth >= NESTED:
            self.unsearched.append(f"{name or 'a mail'}: too deep in other mails")
            return
        outer = self._raw
        self._raw = self._decoded(part, name or "a mail")
        self._mail_header(self._raw, 0, len(self._raw))
        self.walk(scanned(self._raw)[0], depth + 1)
        self._raw = outer

    def done(self) -> tuple[str, str]:
        """What it says, and what hangs on it."""
        if self._lines:
            parts = self._plain if any(part.strip() for part in self._plain) else [*self._plain, *self._html]
            return clean("\n".join(parts)[:MAX_TEXT], lines=True), ""
        said = clean(self._bounded("text", " ".join(_once([*self._plain, *self._html, *dict.fromkeys(self._behind)]))))
        return said, clean(self._bounded("attached text", "\n".join(self._attached)))

    def _bounded(self, name: str, text: str) -> str:
        if len(text) > MAX_TEXT:
            self.unsearched.append(f"{name}: only the first {MAX_TEXT:,} characters")
        return text[:MAX_TEXT]


def _label(tree: Part) -> str:
    """The charset that the first text names: raw bytes in headers are often in it, too."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        waiting.extend(reversed(part.parts))
        label = part.param("charset") if part.type == "TEXT" and not part.parts else None
        if label and label.lower() not in ("us-ascii", "utf-8"):
            return label
    return ""


def _flows(part: Part) -> bool:
    return (part.param("delsp") or "").lower() == "yes"


def _unflowed(text: str) -> str:
    """RFC 3676 section 4.2 with DelSp: the blank before a soft line end is no part of the text."""
    return text.replace(" \r\n", "").replace(" \n", "")


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


def _head(raw: bytes, start: int, end: int) -> Head:
    found: Head = {}
    for match in read_fields(raw, start, end)[0]:
        name = match[1].lower()
        if name in _WANTED:
            found.setdefault(name, []).append(unfold(match[2]))
    return found


def _first(head: Head, name: bytes) -> bytes:
    values = head.get(name)
    return values[0] if values else b""


def _all(head: Head, names: tuple[bytes, ...], label: str) -> tuple[Named, ...]:
    """The addresses of all these fields, each once."""
    values = [value for name in names for value in head.get(name, ())]
    if not values:
        return ()
    return tuple(dict.fromkeys(one for value in values for one in _listed(value, label)))


def _listed(value: bytes, label: str) -> list[Named]:
    return [
        Named(
            clean(decode_text(one.name or b"", label)), clean(to_text(one.mailbox + b"@" + one.host if one.host else one.mailbox))
        )
        for one in addresses(value)
        if one.mailbox is not None and one.host is not None
    ]


def _nameless(head: Head, label: str) -> Named | None:
    """A From without an address: the words that stand there."""
    value = clean(decode_text(_first(head, b"from"), label))
    return Named(value, "") if value else None


def _overflow(head: Head, label: str) -> str:
    """The words of address fields that are too long to be read address by address."""
    long = [
        value
        for name in (b"to", b"cc", b"resent-to", b"resent-cc")
        for value in head.get(name, ())
        if len(value) > headers.VALUE_BYTES or value.count(b"@") >= headers.ADDRESS_COUNT
    ]
    return clean(" ".join(decode(value[:_MAX_OVERFLOW], label) for value in long)) if long else ""


def _others(head: Head, label: str) -> list[str]:
    return [decode_text(value, label) for name in _OTHERS for value in head.get(name, ())]


def _references(head: Head) -> tuple[str, ...]:
    """The first, which began the conversation, and those that are nearest."""
    found = [
        one.decode("ascii", "backslashreplace")
        for name in (b"in-reply-to", b"references")
        for value in head.get(name, ())
        for one in _BARE_ID.findall(value[-_REFERENCES_BYTES:] if name == b"references" else value[:_REFERENCES_BYTES])
    ]
    once = list(dict.fromkeys(reversed(found)))[::-1]
    return (*once[:1], *once[max(1, len(once) - REFERENCES + 1) :])


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
