"""Tokens of the ``rights`` column: what a search asks of a mail besides its words, as words of the full text."""

from __future__ import annotations

import hashlib

import msgspec

from hornetmail.archive.index.schema.people import People
from hornetmail.mime.reading.files import extension
from hornetmail.mime.reading.mail import MailText


def right_token(letter: str, key: str) -> str:
    """The token that stands for somebody's right: ``s`` sent it, ``r`` received it, ``o`` owns it, ``t`` a tenant."""
    return letter + hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


ANY = "x"
ATTACHMENT = "ha"
SPAM = "sp"


def direction_token(direction: str) -> str:
    """Stands for the way that a mail went."""
    return f"di{direction}"


SIZES = 40
"""Powers of two of sizes that are told apart; mail is smaller."""


def size_token(size: int) -> str:
    """Stands for a size, to the power of two below."""
    return f"sz{min(size.bit_length(), SIZES)}"


def type_token(kind: str) -> str:
    """Stands for a file whose name ends so."""
    return f"ft{kind}"


class Marks(msgspec.Struct, frozen=True, gc=False):
    """What a search asks of a mail besides its words and people."""

    tenant: int
    direction: str
    size: int
    spam: bool


def rights_of(text: MailText, people: People, marks: Marks) -> str:
    """The ``rights`` column of a mail."""
    tokens = [ANY, right_token("t", str(marks.tenant)), direction_token(marks.direction), size_token(marks.size)]
    tokens += sorted(right_token("s", k) for k in people.senders())
    tokens += sorted(right_token("r", k) for k in people.receivers())
    tokens += sorted(right_token("o", k) for k in people.owners())
    tokens += sorted({type_token(kind) for name in text.files if (kind := extension(name)).isalnum() and len(kind) <= 20})
    if text.files:
        tokens.append(ATTACHMENT)
    if marks.spam:
        tokens.append(SPAM)
    return " ".join(tokens)
