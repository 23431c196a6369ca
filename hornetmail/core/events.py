"""Events on the bus: hints, sent after commit. Subscribers re-read what they need."""

from __future__ import annotations

import msgspec

from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Verdict


class MessageAccepted(msgspec.Struct, frozen=True, gc=False):
    """A message got its 250."""

    message: int
    domain: str
    relayed: bool = False
    """It came from the domain's own server, through the relay door."""


class RecipientSettled(msgspec.Struct, frozen=True, gc=False):
    """An attempt for one recipient of a domain ended."""

    message: int
    row: int
    domain: str
    verdict: Verdict


class FolderChanged(msgspec.Struct, frozen=True, gc=False):
    """Something in a folder changed: messages, flags, or the folder itself."""

    mailbox: int
    folder: str


class Annotated(msgspec.Struct, frozen=True, gc=False):
    """Annotations of a folder changed (RFC 5464), of the server where ``folder`` is empty. ``person``: whose private ones; 0 for shared ones."""

    mailbox: int
    folder: str
    person: int
    entries: tuple[str, ...]


class ModeChanged(msgspec.Struct, frozen=True, gc=False):
    """A domain's mode switched; ``by`` is a person or ``"health"``."""

    domain: str
    mode: Mode
    by: str
    reason: str


class HealthChanged(msgspec.Struct, frozen=True, gc=False):
    """A primary host went up or down."""

    domain: str
    host: str
    up: bool
    reason: str


class PrimarySeen(msgspec.Struct, frozen=True, gc=False):
    """A primary host is there: it answered a probe, or took a connection after it had not or nobody knew. ``domains``: those it serves.
    What waits for them may go now."""

    host: str
    domains: tuple[str, ...]


class DirectoryChanged(msgspec.Struct, frozen=True, gc=False):
    """A new snapshot of the directory is in force. ``domains``: names of those added, changed or removed; ``people``: of those with other
    mailboxes, addresses or passwords in them. A domain's settings are not its people's."""

    version: int
    domains: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()


class ArchiveGrew(msgspec.Struct, frozen=True, gc=False):
    """Mails became searchable; 0: some may have left the search."""

    mails: int


class Alarm(msgspec.Struct, frozen=True, gc=False):
    """Something an administrator must know; ``code`` is stable and stands in ``core.alarms.KINDS``, ``text`` is for people. ``subject``: what it is
    about, where that is not the domain as a whole (a medium, a host, a store). Code and subject make it one alarm: raised again, it counts."""

    code: str
    text: str
    domain: str = ""
    subject: str = ""


class AlarmEnded(msgspec.Struct, frozen=True, gc=False):
    """The cause of an alarm is gone; nothing happens if there is none. ``subject``: its subject, or its domain if it had none. ``why``: for people."""

    code: str
    subject: str = ""
    why: str = ""


class AlarmsChanged(msgspec.Struct, frozen=True, gc=False):
    """An alarm began, was raised again, was acknowledged, or ended."""

    open: int


class StoreBroken(msgspec.Struct, frozen=True, gc=False):
    """A database, or a log, met corruption, an I/O error or a failed sync: this process writes no more to it. ``file``: its path, or its URL without
    password; ``corrupt``: what is in it is wrong, not the disk below."""

    store: str
    file: str
    text: str
    corrupt: bool


class StoreHeld(msgspec.Struct, frozen=True, gc=False):
    """Another program keeps a database from being written, or does not any more (``held``). Nothing is wrong with it. ``file`` as in StoreBroken."""

    store: str
    file: str
    held: bool


class QuotaNear(msgspec.Struct, frozen=True, gc=False):
    """A mailbox holds more than 90 % of what it may. Published again until ``IPortal.quota_told`` says that its owner knows. ``since``: Unix seconds."""

    mailbox: int
    size: int
    messages: int
    since: float


class WentHome(msgspec.Struct, frozen=True, gc=False):
    """A portal copy was settled with the primary: it took it (``home``), or refused it for good."""

    domain: str
    mailbox: int
    home: bool
