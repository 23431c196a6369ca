"""What goes into the archive and what comes out, as values."""

from __future__ import annotations

import msgspec

from hornetmail.core.mail.envelope import Direction

MAX_MAIL = 60 << 20
"""Bytes of the largest mail that is archived: with all that is kept beside it, it fits into one record of the staging log (64 MiB)."""


class ArchiveItem(msgspec.Struct, frozen=True, gc=False):
    """One mail on its way into the archive.

    ``row`` is the queue row's ID, the token that makes staging happen once. ``feed`` names the source (``inline``, ``relay``,
    ``submission``, …). ``sender`` is the reverse-path, ``login`` the authenticated sender or ``""``; ``recipients`` are the
    envelope recipients that were delivered. ``trace``: header lines that we prepended, kept beside the exact received bytes (rule 12).
    ``received`` Unix seconds. ``owners``: keys of local addresses with a right to it besides those of the envelope.
    """

    row: int
    tenant: int
    feed: str
    direction: Direction
    sender: str
    recipients: tuple[str, ...]
    received: float
    retention_days: int
    login: str = ""
    trace: bytes = b""
    spam: bool = False
    owners: tuple[str, ...] = ()


class Hit(msgspec.Struct, frozen=True, gc=False):
    """One line of a result list; ``date`` Unix seconds of the Date header or of receipt. Fields outside of the scope are empty. ``renditions``: as many it is kept in, of those
    that the scope may see (rule 13); ``namesake``: another mail has its Message-ID and other content (told only to those who see everybody's mail)."""

    id: int
    date: float
    sender: str
    recipients: tuple[str, ...]
    subject: str
    size: int
    direction: Direction
    received: float = 0.0
    spam: bool = False
    attachments: int = 0
    renditions: int = 1
    namesake: bool = False


class Came(msgspec.Struct, frozen=True, gc=False):
    """One time that a mail came: the ID of the rendition, which has ``size`` bytes, by which feed, when (Unix seconds), and to whom, as far as the scope may see it."""

    id: int
    feed: str
    received: float
    recipients: tuple[str, ...]
    size: int


class ArchivedMail(msgspec.Struct, frozen=True, gc=False):
    """One archived mail in full, as far as the scope may see it.

    ``recipients``: envelope recipients that the scope may see (rule 14); ``header_recipients``: To and Cc. ``medium``: the
    numeric ID of its medium (A13). ``text``: its plain text for showing, empty without a right to content. ``away``: why the content cannot be
    opened now (A15), for people; ``""`` if it can. ``unsearched``: what of it cannot be found by its words, and why. ``came``: its arrivals, in their order; ``namesakes``: IDs of other
    mails, within the scope, that have its Message-ID and other content. ``conversation``: the newest mails of its conversation, itself among them, the oldest
    first; empty if there is no other.
    """

    hit: Hit
    tenant: int
    feed: str
    login: str
    message_id: str
    sha256: bytes
    medium: int
    expires: float
    recipients: tuple[str, ...] = ()
    header_recipients: tuple[str, ...] = ()
    text: str = ""
    away: str = ""
    unsearched: tuple[str, ...] = ()
    came: tuple[Came, ...] = ()
    namesakes: tuple[int, ...] = ()
    conversation: tuple[Hit, ...] = ()


class Handed(msgspec.Struct, frozen=True, gc=False):
    """What became of a redelivery: the queue's message IDs, and by mail why it cannot travel the way that was asked for."""

    queued: tuple[int, ...]
    unfit: tuple[tuple[int, str], ...] = ()


class Refused(Exception):
    """The right to do this is missing; the message says which."""


class QueryError(ValueError):
    """A search query that cannot be understood; the message names the term."""


class ArchiveError(Exception):
    """The archive cannot do it now; the message says why."""


class NoAuthority(ArchiveError):
    """No time stamp authority is set up."""


class HoldRefused(ArchiveError):
    """A legal hold forbids it; the message names mail and hold."""


class MediumRefused(ArchiveError):
    """It may not be done with that medium; the message says why."""


class KeyRefused(ArchiveError):
    """The archive's root key cannot be changed like this: the wrong paper, or the wrong moment. The message says which."""


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """A stretch of time, Unix seconds."""

    since: float
    until: float


class Page(msgspec.Struct, frozen=True, gc=False):
    """``total`` counts all hits within the scope; without ``exact`` there are more than that. ``results`` at most 500, newest first; ``after``
    continues behind them or is ``""``. ``partly``: mail received then may have what was looked for and not be found, because an earlier version indexed it.
    ``closed``: where words of the query were not looked for, since the scope has no right to it (rule 15): ``content``, ``subject``."""

    total: int
    results: tuple[Hit, ...]
    after: str = ""
    exact: bool = True
    partly: tuple[Stretch, ...] = ()
    closed: tuple[str, ...] = ()


class ArchiveFigures(msgspec.Struct, frozen=True, gc=False):
    """The archive in figures. ``locked``: the key is not there; mail is taken, not searchable (rule 22). ``marked``: by retention, to go (rule 19).
    ``renewing``: months whose full text still has the form of an earlier version. ``unread``: mails whose files are not read yet, up to 10,000."""

    mails: int = 0
    packs: int = 0
    bytes_raw: int = 0
    bytes_stored: int = 0
    staged: int = 0
    unindexed: int = 0
    locked: bool = False
    marked: int = 0
    renewing: int = 0
    unread: int = 0


class RootKeyState(msgspec.Struct, frozen=True, gc=False):
    """The archive's root key (rule 22). ``key``: the ID of the one in force, in hex. ``pending``: that of one that waits until its paper is
    confirmed, or ``""``; ``since``: when it was made, Unix seconds. ``waiting``: media that still hold the keys under the one before."""

    key: str = ""
    pending: str = ""
    since: float = 0.0
    waiting: tuple[int, ...] = ()


class KeySourceState(msgspec.Struct, frozen=True, gc=False):
    """Where the root key lies between two starts. ``source``: for people; ``typed``: somebody has to type what opens it; ``trouble``: why the archive
    is locked, or why the key does not lie where it shall, ``""`` if all is well."""

    source: str = ""
    typed: bool = False
    trouble: str = ""


class MediumState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A medium (A7-A16). ``taken``: another installation writes there. ``id``: its number for good; ``where``: for people, without any secret. ``active``: takes new mail. ``used`` false: out of
    use for now; ``up``: it answered when it was last looked at, else ``why`` says why not, ``since`` (Unix seconds) when. ``mails``, ``packs``,
    ``bytes``: what it holds, if ``counted``. ``total``, ``free``: bytes, 0 where nobody can tell. ``moving_to``: its mail is being moved there,
    ``copied`` objects so far; ``moved_to``: it lies there."""

    id: int
    kind: str
    name: str = ""
    where: str = ""
    active: bool = False
    used: bool = True
    up: bool = False
    why: str = ""
    taken: bool = False
    since: float = 0.0
    mails: int = 0
    packs: int = 0
    bytes: int = 0
    counted: bool = True
    total: int = 0
    free: int = 0
    moving_to: int = 0
    copied: int = 0
    moved_to: int = 0


class MediumProbe(msgspec.Struct, frozen=True, gc=False):
    """A medium could be written, read, listed and deleted from, in that many ``seconds``; its room in bytes."""

    seconds: float
    total: int
    free: int


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Something that ``archive verify`` found wrong: ``where`` names pack, record or table. ``mended``: it was, and is so no more."""

    where: str
    what: str
    mended: bool = False


class BackupState(msgspec.Struct, frozen=True, gc=False):
    """A backup of the databases. ``made``: Unix seconds; ``bytes``: of its own."""

    stamp: str
    full: bool
    made: float
    medium: int
    bytes: int


class MirrorState(msgspec.Struct, frozen=True, gc=False):
    """The mirror. ``done``: when it last followed, Unix seconds, 0 for never; ``text``: what it did then; ``trouble``: why it did not since, ``""`` if it did."""

    kind: str
    where: str
    done: float
    text: str
    trouble: str = ""
