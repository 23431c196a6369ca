"""The envelope of a message and where it came from (RFC 5321 section 2.3.1)."""

from __future__ import annotations

import enum

import msgspec


class Direction(enum.StrEnum):
    """Which way a message goes, seen from the served domains."""

    IN = "in"
    OUT = "out"
    INTERNAL = "internal"


class Door(enum.StrEnum):
    """The entrance a message came through."""

    MX = "mx"
    RELAY = "relay"
    SUBMISSION = "submission"
    WEB = "web"
    LMTP = "lmtp"
    NOTICE = "notice"
    REDELIVERY = "redelivery"


class Recipient(msgspec.Struct, frozen=True, gc=False):
    """One forward-path: ``address`` as given, the DSN wishes of RFC 3461 (``notify`` empty = not asked)."""

    address: str
    notify: tuple[str, ...] = ()
    orcpt: str = ""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """``sender`` is the reverse-path, ``""`` for ``<>``. ``eight_bit``: BODY=8BITMIME was declared or is needed."""

    sender: str
    recipients: tuple[Recipient, ...]
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """How a message reached us.

    ``login`` is the authenticated mailbox address or ``""``; ``peer`` the client's IP address or ``""`` for mail
    made here; ``trusted`` is true when the client may relay by its address (the primary at the relay door);
    ``aligned`` is true when SPF or DKIM passed in alignment with the sender, which a bounce needs (rule 6).
    """

    door: Door
    peer: str = ""
    helo: str = ""
    login: str = ""
    tls: bool = False
    trusted: bool = False
    aligned: bool = False
