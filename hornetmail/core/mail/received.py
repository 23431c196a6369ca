"""Received lines: the one we put in front, how many there are, and which of them are our own (RFC 5321 section 4.4, rule 7)."""

from __future__ import annotations

import msgspec

from hornetmail.core.mail.address import in_a_labels, key_of
from hornetmail.core.mail.dates import rfc5322_date
from hornetmail.core.mail.fields import each_field

_SPECIAL = frozenset("()<>;\\")

MARK = "(HornetMail)"
"""Stands behind our host name in our own lines."""


class Hop(msgspec.Struct, frozen=True, gc=False):
    """How a message came over one connection. ``cipher``: TLS version and cipher, ``""`` without TLS."""

    helo: str
    peer: str
    by: str
    id: str
    at: float
    esmtp: bool = True
    tls: bool = False
    authenticated: bool = False
    lmtp: bool = False
    smtputf8: bool = False
    cipher: str = ""


def protocol(hop: Hop) -> str:
    """The ``with`` word: RFC 3848, and RFC 6531 section 4.3 for the UTF8 ones."""
    if hop.lmtp:
        name = "LMTP"
    elif not hop.esmtp:
        return "SMTP"
    else:
        name = "SMTP" if hop.smtputf8 else "ESMTP"
    return f"{'UTF8' if hop.smtputf8 else ''}{name}{'S' if hop.tls else ''}{'A' if hop.authenticated else ''}"


def received(hop: Hop, recipients: tuple[str, ...]) -> bytes:
    """Our line, CRLF at its end. The recipient is named only if there is one: others are nobody's business (Bcc). It is ASCII, so that it alone
    never keeps a message from a server without SMTPUTF8, unless that recipient's address is not."""
    where = f"IPv6:{hop.peer}" if ":" in hop.peer else hop.peer
    secured = f" ({_clean(hop.cipher, 80)})" if hop.cipher else ""
    target = f" for <{_clean(in_a_labels(recipients[0]), 320)}>" if len(recipients) == 1 else ""
    return (
        f"Received: from {_clean(hop.helo.encode('ascii', 'replace').decode(), 255) or 'unknown'} ([{where}])\r\n"
        f"\tby {hop.by} {MARK} with {protocol(hop)}{secured}\r\n"
        f"\tid {hop.id}{target};\r\n"
        f"\t{rfc5322_date(hop.at)}\r\n"
    ).encode()


def _clean(text: str, longest: int) -> str:
    """What a client said, fit for a header: one line, no comments or brackets of its own."""
    text = text[:longest]
    if text.isprintable() and not _SPECIAL.intersection(text):
        return text
    return "".join(c if c.isprintable() and c not in _SPECIAL else "_" for c in text)


def count(header: bytes) -> int:
    """Received fields in a header block (lines end with CRLF)."""
    lowered = header.lower()
    return lowered.count(b"\r\nreceived:") + lowered.startswith(b"received:")


def own(header: bytes, by: str) -> list[str]:
    """For each of our own lines in a header block the key of the recipient it names, or ``""``."""
    token = f"by {by} {MARK}".encode()
    if token not in header:
        return []
    found: list[str] = []
    for field in each_field(header):
        if field[1].lower() == b"received" and token in field[2]:
            _, mark, rest = field[2].partition(b" for <")
            found.append(key_of(rest.partition(b">;")[0].decode("utf-8", "replace")) if mark else "")
    return found


def loops(lines: list[str], recipient: str) -> bool:
    """Whether ``own`` lines show that mail for this recipient comes round again. Lines that name nobody count from the third on."""
    return key_of(recipient) in lines or lines.count("") >= 3
