"""A portal copy's envelope in its own first lines (rule 9): written at delivery, hidden from readers, taken off again at drain.

Four lines with CRLF, always in this order: ``Return-Path``, ``Delivered-To`` (the mailbox), ``X-Original-To`` (the recipient as
accepted), ``X-HornetMail-Envelope`` (what else the hand-over needs: ``8BITMIME``, ``SMTPUTF8``, ``UNCERTAIN``, ``RET=``,
``ENVID=``, ``NOTIFY=``, ``ORCPT=``; values percent-encoded, separated by spaces).
"""

from __future__ import annotations

from urllib.parse import quote, unquote

import msgspec

from hornetmail.core.delivery.queued import Message, Row
from hornetmail.core.mail.envelope import Envelope, Recipient
from hornetmail.mime import headers

ENVELOPE_BYTES = 16_384
"""More than four such lines can have."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What the lines say. ``envelope`` has one recipient, the original one; ``mailbox`` is the address it was delivered to."""

    envelope: Envelope
    mailbox: str
    uncertain: bool = False


def write(message: Message, row: Row, mailbox: str, *, uncertain: bool) -> bytes:
    """The lines for one recipient of a message."""
    given = message.envelope
    recipients = given.recipients
    recipient = recipients[row.number] if 0 <= row.number < len(recipients) else Recipient(row.address)
    words = [
        *(["8BITMIME"] if given.eight_bit else []),
        *(["SMTPUTF8"] if given.smtputf8 else []),
        *(["UNCERTAIN"] if uncertain else []),
        *([f"RET={quote(given.ret)}"] if given.ret else []),
        *([f"ENVID={quote(given.envid)}"] if given.envid else []),
        *([f"NOTIFY={quote(','.join(recipient.notify))}"] if recipient.notify else []),
        *([f"ORCPT={quote(recipient.orcpt)}"] if recipient.orcpt else []),
    ]
    return (
        f"Return-Path: <{given.sender}>\r\nDelivered-To: {mailbox}\r\nX-Original-To: {row.address or recipient.address}\r\n"
        f"X-HornetMail-Envelope: {' '.join(words) or '-'}\r\n"
    ).encode()


def read(lines: bytes) -> Kept | None:
    """The envelope, or None if these are not such lines."""
    names = [field.name for field in headers.fields(lines)]
    if names != [b"return-path", b"delivered-to", b"x-original-to", b"x-hornetmail-envelope"]:
        return None
    path, mailbox, original, rest = (
        headers.to_text(headers.first(lines, name) or b"")
        for name in (b"return-path", b"delivered-to", b"x-original-to", b"x-hornetmail-envelope")
    )
    words = {word.partition("=")[0]: unquote(word.partition("=")[2]) for word in rest.split(" ")}
    notify = words.get("NOTIFY", "")
    return Kept(
        Envelope(
            sender=path[1:-1] if path.startswith("<") and path.endswith(">") else path,
            recipients=(Recipient(original, tuple(notify.split(",")) if notify else (), words.get("ORCPT", "")),),
            eight_bit="8BITMIME" in words,
            smtputf8="SMTPUTF8" in words,
            ret=words.get("RET", ""),
            envid=words.get("ENVID", ""),
        ),
        mailbox,
        "UNCERTAIN" in words,
    )
