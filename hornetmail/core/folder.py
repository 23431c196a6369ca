"""Folders and their messages as values, shared by portal, archive, IMAP, POP3 and webmail."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class FolderInfo(msgspec.Struct, frozen=True, gc=False):
    """A folder of a tree. ``name`` uses ``/`` between levels and is text (never modified UTF-7); ``use`` is a SPECIAL-USE
    attribute like ``\\Sent`` or ``""``. ``object``: its MAILBOXID (RFC 8474), the same whatever it is renamed to and no other folder's, or ``""``."""

    name: str
    uidvalidity: int
    use: str = ""
    subscribed: bool = True
    selectable: bool = True
    readonly: bool = False
    object: str = ""


class Sieve(msgspec.Struct, frozen=True):
    """What a search asks of texts, folded and in UTF-8. ``judge(uid, headers, body)``: whether a message matches. ``possible(headers, bodies)``, of many messages' headers,
    one behind the other with LF between them, and of their bodies: False if none of them can match."""

    judge: Callable[[int, bytes, bytes], bool]
    possible: Callable[[bytes, bytes], bool]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message of a folder. ``date``: INTERNALDATE in Unix seconds. ``size``: bytes as served (envelope lines of rule 9 hidden,
    CRLF line ends). ``gone``: it was expunged; only in answers to ``changes``. ``name``: stable unique ID (POP UIDL). ``saved``: since when it is in
    this folder, in Unix seconds (SAVEDATE, RFC 8514), or 0 if that is not known."""

    uid: int
    modseq: int
    flags: frozenset[str]
    size: int
    date: float
    name: str = ""
    gone: bool = False
    saved: float = 0.0


class FolderStatus(msgspec.Struct, frozen=True, gc=False):
    """What SELECT and STATUS answer. ``recent``: messages that nobody was told of."""

    uidvalidity: int
    uidnext: int
    messages: int
    unseen: int
    modseq: int
    size: int = 0
    recent: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What all folders of a mailbox hold, and may hold: bytes and messages (RFC 9208 section 5); a limit of 0 is none."""

    size: int
    messages: int
    size_limit: int
    messages_limit: int


class Copied(msgspec.Struct, frozen=True, gc=False):
    """COPYUID or APPENDUID of RFC 4315; ``uidvalidity`` 0 means that there is none to tell (rule 27)."""

    uidvalidity: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]


class FolderError(Exception):
    """An operation on a folder that cannot be done. ``code``: an IMAP response code of RFC 5530 such as ``NONEXISTENT``,
    ``ALREADYEXISTS``, ``CANNOT``, ``INUSE``, ``OVERQUOTA``, ``NOPERM``, ``TRYCREATE``, ``UNAVAILABLE``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
