"""The commands of RFC 3501 and of the extensions that are spoken, as values."""

from __future__ import annotations

import msgspec

from hornetmail.wire.engine import Event
from hornetmail.wire.imap.requests.items import Items
from hornetmail.wire.imap.requests.search import Key, Returns
from hornetmail.wire.imap.tokens.sequences import SequenceSet


class Command(Event, frozen=True, gc=False):
    """A command with its tag; wants a ``Tagged`` answer."""

    tag: bytes


class Capability(Command, frozen=True, gc=False):
    """RFC 3501 section 6.1.1."""


class Noop(Command, frozen=True, gc=False):
    """RFC 3501 section 6.1.2."""


class Logout(Command, frozen=True, gc=False):
    """RFC 3501 section 6.1.3."""


class Starttls(Command, frozen=True, gc=False):
    """RFC 3501 section 6.2.1."""


class Authenticate(Command, frozen=True, gc=False):
    """RFC 3501 section 6.2.2, RFC 4959. Answered by a ``Continuation`` with a challenge, then ``Response`` comes.
    ``initial`` is decoded; None if there was none."""

    mechanism: str
    initial: bytes | None


class Response(Event, frozen=True, gc=False):
    """What the client said to a challenge, decoded; None: it gave up."""

    data: bytes | None


class Login(Command, frozen=True, gc=False):
    """RFC 3501 section 6.2.3."""

    user: bytes
    password: bytes


class Id(Command, frozen=True, gc=False):
    """RFC 2971; what the client said of itself, bounded."""

    fields: tuple[tuple[bytes, bytes], ...]


class Enable(Command, frozen=True, gc=False):
    """RFC 5161."""

    capabilities: tuple[str, ...]


class Compress(Command, frozen=True, gc=False):
    """RFC 4978. ``OK`` begins it, in both directions."""

    algorithm: str


class Passed(Event, frozen=True, gc=False):
    """Some of what has to be passed over was; there is more, for when others had their turn."""

    answered = False


class Namespace(Command, frozen=True, gc=False):
    """RFC 2342."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """What a client that selects a mailbox knows of it already (RFC 7162 section 3.2.5): ``uids`` None is all; ``match``: sequence numbers and
    the UIDs that they had."""

    uidvalidity: int
    modseq: int
    uids: SequenceSet | None = None
    match: tuple[SequenceSet, SequenceSet] | None = None


class Select(Command, frozen=True, gc=False):
    """SELECT, or EXAMINE with ``readonly``. ``condstore``, ``known``: parameters of RFC 7162."""

    mailbox: str
    readonly: bool
    condstore: bool = False
    known: Known | None = None


class Create(Command, frozen=True, gc=False):
    """RFC 3501 section 6.3.3; ``use``: SPECIAL-USE attributes of RFC 6154 section 3."""

    mailbox: str
    use: tuple[str, ...]


class Delete(Command, frozen=True, gc=False):
    """RFC 3501 section 6.3.4."""

    mailbox: str


class Rename(Command, frozen=True, gc=False):
    """RFC 3501 section 6.3.5."""

    old: str
    new: str


class Subscribe(Command, frozen=True, gc=False):
    """SUBSCRIBE, or UNSUBSCRIBE."""

    mailbox: str
    wanted: bool


class Listing(Command, frozen=True, gc=False):
    """LIST (RFC 3501 section 6.3.8, RFC 5258) or LSUB. ``extended``: options or several patterns were given.
    ``status``: items of RFC 5819."""

    reference: str
    patterns: tuple[str, ...]
    lsub: bool = False
    extended: bool = False
    select: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()


class GetQuota(Command, frozen=True, gc=False):
    """RFC 9208 section 4.2: of a quota root."""

    root: str


class GetQuotaRoot(Command, frozen=True, gc=False):
    """RFC 9208 section 4.3: the quota roots of a mailbox, and what they say."""

    mailbox: str


class SetAcl(Command, frozen=True, gc=False):
    """RFC 4314 section 3.1; DELETEACL (section 3.2) is one that gives nothing. ``mode``: ``+``, ``-``, or ``""`` for these rights and no others."""

    mailbox: str
    identifier: str
    mode: str
    rights: frozenset[str]


class GetAcl(Command, frozen=True, gc=False):
    """RFC 4314 section 3.3."""

    mailbox: str


class ListRights(Command, frozen=True, gc=False):
    """RFC 4314 section 3.4."""

    mailbox: str
    identifier: str


class MyRights(Command, frozen=True, gc=False):
    """RFC 4314 section 3.5."""

    mailbox: str


class GetMetadata(Command, frozen=True, gc=False):
    """RFC 5464 section 4.2, of the server where ``mailbox`` is empty. ``most``: no longer values; ``depth``: levels below the entries, None for all."""

    mailbox: str
    entries: tuple[str, ...]
    most: int | None
    depth: int | None


class SetMetadata(Command, frozen=True):
    """RFC 5464 section 4.3; None removes an entry."""

    mailbox: str
    values: dict[str, bytes | None]


class Status(Command, frozen=True, gc=False):
    """RFC 3501 section 6.3.10, with SIZE of RFC 8438."""

    mailbox: str
    items: tuple[str, ...]


class Append(Command, frozen=True, gc=False):
    """RFC 3501 section 6.3.11. Answered by a ``Continuation``, then ``Chunk`` … ``End`` follow (or ``Broken``, or ``Further``), and ``End`` is
    answered by ``Tagged``; or answered by ``Tagged`` at once, which refuses it. ``date``: Unix seconds. ``binary``: the message comes as
    ``literal8`` (RFC 3516 section 4.4, RFC 6855 section 4) and may have NUL."""

    mailbox: str
    flags: tuple[str, ...]
    date: float | None
    size: int
    binary: bool = False


class Replace(Append, frozen=True, gc=False):
    """RFC 8508: the same, in place of message ``replaced``, a sequence number or, with ``uid``, a UID."""

    replaced: SequenceSet = SequenceSet(())
    uid: bool = False


class Further(Event, frozen=True, gc=False):
    """Another message of the same APPEND (RFC 3502), answered like ``Append``."""

    flags: tuple[str, ...]
    date: float | None
    size: int
    binary: bool = False


class Idle(Command, frozen=True, gc=False):
    """RFC 2177. Answered by a ``Continuation``, then ``Done`` comes."""


class Done(Event, frozen=True, gc=False):
    """The client ended IDLE; wants its ``Tagged`` answer."""


class Check(Command, frozen=True, gc=False):
    """RFC 3501 section 6.4.1."""


class Close(Command, frozen=True, gc=False):
    """CLOSE, or UNSELECT (RFC 3691), which does not expunge."""

    expunge: bool


class Expunge(Command, frozen=True, gc=False):
    """EXPUNGE, or UID EXPUNGE (RFC 4315) with ``wanted``."""

    wanted: SequenceSet | None


class Search(Command, frozen=True, gc=False):
    """RFC 3501 section 6.4.4. ``returns`` None is a plain answer."""

    key: Key
    uid: bool
    charset: str
    returns: Returns | None


class Sort(Search, frozen=True, gc=False):
    """RFC 5256; ``order``: criteria, each with whether it is reversed."""

    order: tuple[tuple[str, bool], ...]


class Thread(Search, frozen=True, gc=False):
    """RFC 5256; ``returns`` is None."""

    algorithm: str


class Fetch(Command, frozen=True, gc=False):
    """RFC 3501 section 6.4.5, with the modifiers of RFC 7162 (``since``: only what changed after this modseq; ``vanished``: and what went) and
    9394 (``partial``)."""

    wanted: SequenceSet
    items: Items
    uid: bool
    since: int | None = None
    vanished: bool = False
    partial: tuple[int, int] | None = None


class Store(Command, frozen=True, gc=False):
    """RFC 3501 section 6.4.6. ``op``: ``+``, ``-`` or ``""`` (replace). ``since``: only what did not change after this modseq (UNCHANGEDSINCE of
    RFC 7162)."""

    wanted: SequenceSet
    op: str
    silent: bool
    flags: tuple[str, ...]
    uid: bool
    since: int | None = None


class Copy(Command, frozen=True, gc=False):
    """COPY, or MOVE (RFC 6851) with ``away``."""

    wanted: SequenceSet
    mailbox: str
    uid: bool
    away: bool


class LiteralWanted(Event, frozen=True, gc=False):
    """A synchronising literal of ``size`` bytes is acceptable: answered by a ``Continuation``."""

    size: int
