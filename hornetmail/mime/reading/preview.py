"""The first words of a message, as lists of mail show them (RFC 8970 section 3). Pure."""

from __future__ import annotations

import re

from hornetmail.mime.charset import decode
from hornetmail.mime.reading.html import html_to_text
from hornetmail.mime.structure import Part
from hornetmail.mime.transfer import decoded, label_in

CHARACTERS = 200
"""RFC 8970 section 3.1: no preview is longer."""

PLAIN_BYTES = 4_096
HTML_BYTES = 32_768
"""So much of a text is looked at: HTML begins with its style sheet."""

_CUT = re.compile(rb"[\xc0-\xff][\x80-\xbf]{0,2}\Z")


def shown(root: Part) -> Part | None:
    """The part that a reader sees first: text that is no attachment. None if there is none."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.parts:
            waiting.extend(reversed(part.parts))
        elif part.type == "TEXT" and part.subtype in ("PLAIN", "HTML") and part.disposition != "ATTACHMENT":
            return part
    return None


def wanted(part: Part) -> int:
    """How many bytes of the part's body are needed."""
    return min(part.end - part.body, HTML_BYTES if part.subtype == "HTML" else PLAIN_BYTES)


def preview(part: Part, raw: bytes) -> str:
    """The words, from the first bytes of the part's body. Never raises."""
    data = decoded(raw, part.encoding)
    if len(raw) < part.end - part.body:
        data = _CUT.sub(b"", data)
    text = decode(data, label_in(raw, part.encoding, part.subtype, part.param("charset") or ""))
    if part.subtype == "HTML":
        text = html_to_text(text)
    words = " ".join(text.split())
    return "".join([c for c in words[:CHARACTERS] if c >= " " and not "\x7f" <= c < "\xa0"]).rstrip()
