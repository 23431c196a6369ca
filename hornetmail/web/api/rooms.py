"""What operations work on: every room as its interface, joined by ``compose``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from hornetmail.access.login import Access
from hornetmail.access.second import SecondPerson
from hornetmail.access.sessions import Sessions
from hornetmail.core.served import MailServer
from hornetmail.directory.store import DirectoryStore
from hornetmail.runtime.jobs import Jobs


class Rooms(msgspec.Struct, frozen=True, kw_only=True):
    """Rooms of a process. Those that its roles do not run are None; an operation that needs one answers 503 ``role_off``.

    ``second`` is None only where nothing can be asked of a second person. ``queue`` … ``meters`` (``media``: ``IMedia``, ``safety``: ``ISafety``) provide the interface of the same name in ``hornetmail.interfaces``. ``clock`` is an ``IReactorTime``.
    ``health``: every role that should run, with ``""`` or the reason why it does not work. ``bounce``: gives up the queue rows named and
    notifies their senders (rule 6); the number given up. ``root_keys``: the archive's key, its
    paper and its change (A3-A6); ``unlocking``: what opens it. ``jobs``: the planned ones (A50-A60). ``alarms``: the book of ``runtime.alarms``; ``alarm_addresses``: whom a
    mail about an alarm of a tenant would reach now. ``mail_servers``: what mail programs have to be told.
    """

    directory: DirectoryStore
    access: Access
    sessions: Sessions
    clock: Any
    audit: Any = None
    second: SecondPerson | None = None
    bus: Any = None
    queue: Any = None
    modes: Any = None
    recipients: Any = None
    portal: Any = None
    archive: Any = None
    retention: Any = None
    media: Any = None
    safety: Any = None
    redelivery: Any = None
    strays: Any = None
    filing: Any = None
    expiry: Any = None
    meters: Any = None
    health: Callable[[], Mapping[str, str]] = dict
    bounce: Callable[[Sequence[int], str], Awaitable[int]] | None = None
    root_keys: Any = None
    unlocking: Any = None
    stamps: Any = None
    jobs: Jobs | None = None
    alarms: Any = None
    alarm_addresses: Callable[[int], Sequence[str]] = lambda tenant: ()
    mail_servers: Sequence[MailServer] = ()
    hostname: str = ""
    version: str = ""
