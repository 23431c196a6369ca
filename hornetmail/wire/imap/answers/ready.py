"""What clients ask of every message of a folder, in the form in which it goes over the wire: made once, kept, and sent again and again."""

from __future__ import annotations

import msgspec

from hornetmail.mime.structure import Part
from hornetmail.wire.imap.answers.structure import body_structure, envelope, pick_fields
from hornetmail.wire.imap.requests.items import Section

MOST_BYTES = 16_384
"""Of one message; more of it is made when somebody asks."""

FIELDS = (
    *(b"from", b"to", b"cc", b"bcc", b"subject", b"date", b"message-id", b"references", b"in-reply-to", b"content-type"),
    *(b"reply-to", b"sender", b"priority", b"x-priority", b"importance", b"newsgroups", b"followup-to", b"lines"),
    *(b"list-id", b"list-post", b"list-subscribe", b"list-unsubscribe", b"content-description", b"x-label"),
    *(b"x-original-to", b"disposition-notification-to", b"return-receipt-to", b"mail-followup-to", b"mail-reply-to"),
    *(b"x-draft-info", b"x-spam-flag", b"x-uniform-type-identifier", b"x-universally-unique-identifier"),
)
"""The fields that mail programs ask of all messages. Their places are those of bits in what is kept: new ones come at the end."""

_BITS = {name: 1 << place for place, name in enumerate(FIELDS)}
_COMMON = Section(b"", kind="HEADER.FIELDS", fields=frozenset(FIELDS))


class Ready(msgspec.Struct, frozen=True, gc=False):
    """``envelope`` and ``structure`` are what follows these words in an answer. ``fields``: those of the header that are in ``FIELDS``, as they stand
    there, without a blank line; ``bits`` says which."""

    envelope: bytes
    structure: bytes
    bits: int
    fields: bytes


TOO_LARGE = Ready(b"", b"", -1, b"")
"""Of a message whose answers are made anew each time."""


def ready(tree: Part, header: bytes) -> Ready:
    """From a message's structure and its header. Takes time in proportion to these: for threads."""
    fields = pick_fields(header, _COMMON)[:-2]
    bits = 0
    for line in fields.split(b"\n"):
        bits |= _BITS.get(line.partition(b":")[0].rstrip().lower(), 0)
    made = Ready(envelope(tree.summary), body_structure(tree, True), bits, fields)
    return made if len(made.envelope) + len(made.structure) + len(fields) <= MOST_BYTES else TOO_LARGE


def asked(section: Section) -> int:
    """The bits of what a section asks for, if that is some of ``FIELDS`` and no others; else 0."""
    if section.kind != "HEADER.FIELDS" or section.path or section.start >= 0:
        return 0
    bits = [_BITS.get(name, 0) for name in section.fields]
    return sum(bits) if all(bits) else 0


def picked(bits: int, fields: bytes, section: Section, wanted: int) -> bytes:
    """What a section asks for, ``wanted`` by its bits, with the blank line that ends it: the same as ``pick_fields`` of the header."""
    return fields + b"\r\n" if not bits & ~wanted else pick_fields(fields, section)
