"""A mail for people: header, text, HTML made harmless, attachments. Pure; whoever calls it with large mails does so in a thread.

Leaves of the MIME tree are numbered in order of their bytes; that number names an attachment in addresses.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from hornetmail.core.mail.dates import parse_date
from hornetmail.mime import headers
from hornetmail.mime.charset import decode
from hornetmail.mime.reading.html import html_to_text
from hornetmail.mime.structure import Mailaddress, Part, Summary, scan
from hornetmail.mime.transfer import decoded, label_in
from hornetmail.web.mailhtml import sanitise

MAX_TEXT = 400_000
"""Characters of text that are shown."""

MAX_HTML = 2 << 20
MAX_INLINE = 6 << 20
"""Bytes of images inside a mail that are shown in it, all together."""

_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})


class Named(msgspec.Struct, frozen=True):
    """An address with its display name."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name and self.address else self.address or self.name

    @property
    def short(self) -> str:
        """The name, or the address of nameless ones."""
        return self.name or self.address


class Attachment(msgspec.Struct, frozen=True):
    """A leaf that is offered as a file. ``size``: about so many bytes once decoded."""

    number: int
    name: str
    content_type: str
    size: int


class Head(msgspec.Struct, frozen=True):
    """What a list shows of a mail, and what an answer needs. ``date`` None: it has none that reads."""

    subject: str = ""
    sender: tuple[Named, ...] = ()
    reply_to: tuple[Named, ...] = ()
    to: tuple[Named, ...] = ()
    cc: tuple[Named, ...] = ()
    bcc: tuple[Named, ...] = ()
    date: float | None = None
    message_id: str = ""
    in_reply_to: str = ""


class Shown(msgspec.Struct, frozen=True):
    """A mail opened. ``text``: its plain text, made from HTML if there is no other; ``html``: it has an HTML form."""

    head: Head
    text: str
    html: bool
    attachments: tuple[Attachment, ...]
    references: str


class Document(msgspec.Struct, frozen=True):
    """A mail's HTML, harmless. ``blocked``: images elsewhere that were left out."""

    html: str
    blocked: int


def head_of(summary: Summary | None) -> Head:
    """The fields that a list shows, as text."""
    if summary is None:
        return Head()
    return Head(
        subject=headers.decode_text(summary.subject or b"").strip(),
        sender=named(summary.from_),
        reply_to=named(summary.reply_to),
        to=named(summary.to),
        cc=named(summary.cc),
        bcc=named(summary.bcc),
        date=parse_date(summary.date) if summary.date else None,
        message_id=headers.to_text(headers.message_id(summary.message_id) or b""),
        in_reply_to=headers.to_text(headers.message_id(summary.in_reply_to) or b""),
    )


def named(found: tuple[Mailaddress, ...]) -> tuple[Named, ...]:
    """Addresses as text; marks of groups are left out."""
    made = []
    for one in found:
        if one.mailbox is None or one.host is None:
            continue
        address = headers.to_text(one.mailbox) + (f"@{headers.to_text(one.host)}" if one.host else "")
        made.append(Named(headers.decode_text(one.name or b"").strip(), address))
    return tuple(made)


def has_attachments(tree: Part) -> bool:
    """Whether a list shows a paper clip."""
    return any(_is_file(leaf) for _, leaf, _ in _leaves(tree))


def show(data: bytes) -> Shown:
    """The mail opened. Never raises."""
    tree = scan(data)
    chosen = _bodies(tree)
    plain = "\n".join(_text(data, leaf) for leaf in chosen if leaf.subtype != "HTML")
    html = [leaf for leaf in chosen if leaf.subtype == "HTML"]
    if html or not plain.strip():
        spare = [leaf for _, leaf, _ in _leaves(tree) if leaf.type == "TEXT" and leaf.subtype == "PLAIN" and not _is_file(leaf)]
        plain = "\n".join(_text(data, leaf) for leaf in spare) or "\n".join(
            html_to_text(_text(data, leaf), lines=True) for leaf in html
        )
    bodies = {id(leaf) for leaf in chosen}
    attachments = tuple(
        Attachment(number, file_name(leaf, number), f"{leaf.type}/{leaf.subtype}".lower(), _size(leaf))
        for number, leaf, inside in _leaves(tree)
        if id(leaf) not in bodies
        and (_is_file(leaf) or not (inside or leaf.type == "TEXT"))
        and not (inside and leaf.id and html)
    )
    return Shown(
        head=head_of(tree.summary),
        text=plain[:MAX_TEXT],
        html=bool(html),
        attachments=attachments,
        references=" ".join(headers.to_text(one) for one in headers.message_ids(headers.first(data, b"references")))[-4000:],
    )


def header_text(data: bytes) -> str:
    """The header as it came, for those who want to see it."""
    return headers.to_text(data[: headers.header_end(data)[0]])[:200_000]


def part_of(data: bytes, number: int) -> tuple[str, str, bytes]:
    """Name, type and decoded bytes of a leaf. Raises KeyError."""
    for found, leaf, _ in _leaves(scan(data)):
        if found == number:
            return file_name(leaf, number), f"{leaf.type}/{leaf.subtype}".lower(), _decoded(data, leaf)
    raise KeyError(number)


def document(data: bytes, *, remote: bool) -> Document:
    """The HTML form without scripts, forms, foreign styles and, unless ``remote``, without anything to fetch; images that lie inside the mail
    are put into it as ``data:`` addresses, within ``MAX_INLINE``."""
    tree = scan(data)
    inside: dict[str, Part] = {}
    for _, leaf, _ in _leaves(tree):
        if leaf.id and f"{leaf.type}/{leaf.subtype}".lower() in _IMAGES:
            inside.setdefault(headers.to_text(leaf.id).strip("<> "), leaf)
    images = _Images(data, inside, remote)
    html = "\n<hr>\n".join(_text(data, leaf)[:MAX_HTML] for leaf in _bodies(tree) if leaf.subtype == "HTML")
    return Document(sanitise(html, images.source), images.blocked)


class _Images:
    def __init__(self, data: bytes, inside: dict[str, Part], remote: bool) -> None:
        self._data = data
        self._inside = inside
        self._remote = remote
        self._left = MAX_INLINE
        self.blocked = 0

    def source(self, wanted: str) -> str | None:
        """What stands in ``src`` instead, or None for nothing."""
        scheme, _, rest = wanted.strip().partition(":")
        scheme = scheme.lower()
        if scheme == "data":
            return wanted if rest.split(";")[0].lower() in _IMAGES else None
        if scheme == "cid":
            leaf = self._inside.get(rest.strip())
            if leaf is None or (size := leaf.end - leaf.body) > self._left:
                return None
            self._left -= size
            return (
                f"data:{leaf.type.lower()}/{leaf.subtype.lower()};base64,{base64.b64encode(_decoded(self._data, leaf)).decode()}"
            )
        if scheme in ("http", "https"):
            if self._remote:
                return wanted
            self.blocked += 1
        return None


_LINK = re.compile(r"https?://[^\s<>\"'\x00-\x1f]{3,1000}")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def text_html(text: str) -> str:
    """Plain text as HTML: escaped, links made, quoted lines marked."""
    lines = []
    for line in text.splitlines():
        made, position = [], 0
        for found in _LINK.finditer(line):
            target = found[0].rstrip(".,;:!?)]}>")
            made.append(line[position : found.start()].translate(_ESCAPES))
            shown = target.translate(_ESCAPES)
            made.append(f'<a href="{shown}" target="_blank" rel="noopener noreferrer nofollow">{shown}</a>')
            position = found.start() + len(target)
        made.append(line[position:].translate(_ESCAPES))
        joined = "".join(made)
        lines.append(f'<span class="quoted">{joined}</span>' if line.startswith(">") else joined)
    return "\n".join(lines)


def file_name(leaf: Part, number: int) -> str:
    """The name of a leaf as a file: no path, no control characters, never empty."""
    given = (
        headers.decode_parameters(leaf.disposition_params).get("filename")
        or headers.decode_parameters(leaf.params).get("name")
        or ""
    )
    name = "".join(character for character in given.replace("\\", "/").rpartition("/")[2] if character.isprintable()).strip(". ")[
        :180
    ]
    if name:
        return name
    if leaf.type == "MESSAGE":
        return f"message-{number}.eml"
    return f"part-{number}.{ {'PLAIN': 'txt', 'JPEG': 'jpg', 'OCTET-STREAM': 'bin'}.get(leaf.subtype, leaf.subtype.lower()[:10]) }".replace(
        " ", ""
    )


def disposition(name: str) -> str:
    """``Content-Disposition`` for a download, in any script (RFC 6266 section 4.1)."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _leaves(tree: Part) -> Iterator[tuple[int, Part, bool]]:
    """Leaves with their numbers; the last says whether it lies inside multipart/related."""
    stack: list[tuple[Part, bool]] = [(tree, False)]
    number = 0
    while stack:
        part, inside = stack.pop()
        if part.type == "MULTIPART":
            stack.extend((child, inside or part.subtype == "RELATED") for child in reversed(part.parts))
        else:
            number += 1
            yield number, part, inside


def _is_file(leaf: Part) -> bool:
    if leaf.disposition == "ATTACHMENT" or leaf.type == "MESSAGE":
        return True
    named_ = leaf.param("name") is not None or any(name.startswith("filename") for name, _ in leaf.disposition_params)
    return named_ and not (leaf.type == "TEXT" and leaf.disposition == "INLINE") and not (leaf.id and leaf.type == "IMAGE")


def _bodies(part: Part) -> list[Part]:
    """The text leaves that are shown as the mail's body, in order."""
    if part.type != "MULTIPART":
        return (
            [part]
            if part.type == "TEXT" and part.subtype in ("PLAIN", "HTML", "ENRICHED", "MARKDOWN") and not _is_file(part)
            else []
        )
    if part.subtype == "ALTERNATIVE":
        best: list[Part] = []
        for child in part.parts:
            best = _bodies(child) or best
        return best
    if part.subtype == "RELATED":
        for child in part.parts:
            if found := _bodies(child):
                return found
        return []
    return [leaf for child in part.parts for leaf in _bodies(child)]


def _decoded(data: bytes, leaf: Part) -> bytes:
    return decoded(data[leaf.body : leaf.end], leaf.encoding)


def _text(data: bytes, leaf: Part) -> str:
    label = label_in(data[leaf.body : leaf.end], leaf.encoding, leaf.subtype, leaf.param("charset") or "")
    return decode(_decoded(data, leaf), label).replace("\r\n", "\n").replace("\x00", "")


def _size(leaf: Part) -> int:
    size = leaf.end - leaf.body
    return size * 3 // 4 if leaf.encoding == "BASE64" else size
