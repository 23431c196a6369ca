"""What makes two mails one (rule 13), and mails one conversation: keys that are made of what a mail says of itself. Pure.

A key is not a proof: whoever knows a mail can send another one with its Message-ID. So mail of the same Message-ID and other content stays apart and is
flagged, and nobody sees of a group more than the arrivals that are theirs (rule 14).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

KEY_BYTES = 8
"""Of the key of a Message-ID, with which an identity begins."""

_IDENTITY_BYTES = 10


def bare(message_id: str) -> str:
    """A Message-ID without what stands around it."""
    text = message_id.strip()
    start, end = text.find("<"), text.find(">")
    return text[start + 1 : end].strip() if -1 < start < end else text


def message_key(message_id: str) -> bytes:
    """Stands for a Message-ID; ``b""`` for none."""
    name = bare(message_id)
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=KEY_BYTES).digest() if name else b""


def number_of(key: bytes) -> int:
    """A key as the databases take it."""
    return int.from_bytes(key, "big", signed=True)


def identity(message_id: str, sender: str, date: float | None, content: bytes) -> bytes:
    """What renditions of one mail have in common: Message-ID, From, Date and all that it says; ``b""`` without a Message-ID, its key alone if ``content`` is empty (not
    all of it could be read), which makes it a mail of its own."""
    key = message_key(message_id)
    if not key or not content:
        return key
    said = f"{sender}\n{date!r}\n".encode("utf-8", "surrogateescape") + content
    return key + hashlib.blake2b(said, digest_size=_IDENTITY_BYTES).digest()


def is_whole(made: bytes) -> bool:
    """Whether an identity speaks of content, too."""
    return len(made) > KEY_BYTES


def of_same_message_id(made: bytes) -> tuple[bytes, bytes]:
    """Identities of that Message-ID are from the first, and less than the second."""
    key = made[:KEY_BYTES]
    return key, key + b"\xff" * (_IDENTITY_BYTES + 1)


def conversation(message_id: str, references: Sequence[str]) -> list[bytes]:
    """Keys of Message-IDs by which a mail may belong to a conversation: its own, then what it answers, the nearest first."""
    keys = [message_key(one) for one in (message_id, *reversed(references))]
    return [key for key in dict.fromkeys(keys) if key]
