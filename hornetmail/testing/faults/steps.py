"""Steps, and how one of them may end."""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from typing import NamedTuple


class Ending(enum.StrEnum):
    """What becomes of a step instead of its going well. Those with ``WHILE`` meet all steps of the same kind for ``WHILE_SECONDS``."""

    DIES = "the process dies"
    LOSES = "the machine dies, and what was not synced is gone"
    HANGS = "it takes 30 s"
    CANCELLED = "whoever awaits it is cancelled"
    ENOSPC = "no space"
    ENOSPC_WHILE = "no space for a while"
    EIO = "an I/O error"
    EIO_WHILE = "I/O errors for a while"
    EACCES = "not permitted"
    EACCES_WHILE = "not permitted for a while"
    LOCKED = "the database is locked"
    LOCKED_WHILE = "the database is locked for a while"
    RESET = "the connection is reset"
    RESET_WHILE = "connections are reset for a while"


HANG_SECONDS = 30.0
WHILE_SECONDS = 120.0
DEATHS = frozenset({Ending.DIES, Ending.LOSES})
WHILE = frozenset({Ending.ENOSPC_WHILE, Ending.EIO_WHILE, Ending.EACCES_WHILE, Ending.LOCKED_WHILE, Ending.RESET_WHILE})
ERRNO = {
    Ending.ENOSPC: errno.ENOSPC,
    Ending.ENOSPC_WHILE: errno.ENOSPC,
    Ending.EIO: errno.EIO,
    Ending.EIO_WHILE: errno.EIO,
    Ending.EACCES: errno.EACCES,
    Ending.EACCES_WHILE: errno.EACCES,
}

_ALWAYS = (Ending.DIES, Ending.LOSES, Ending.HANGS, Ending.CANCELLED)
_SPACE = (Ending.ENOSPC, Ending.ENOSPC_WHILE)
_IO = (Ending.EIO, Ending.EIO_WHILE)
_ACCESS = (Ending.EACCES, Ending.EACCES_WHILE)
_LOCK = (Ending.LOCKED, Ending.LOCKED_WHILE)
_NET = (Ending.RESET, Ending.RESET_WHILE)


class Kind(enum.StrEnum):
    """What is done in a step."""

    CREATE = "create"
    OPEN = "open"
    READ = "read"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC_FILE = "sync_file"
    SYNC_DATA = "sync_data"
    RENAME = "rename"
    UNLINK = "unlink"
    LINK = "link"
    MAKE_DIRECTORY = "make_directory"
    REMOVE_DIRECTORY = "remove_directory"
    HOP = "hop to a thread"
    BEGIN = "begin a transaction"
    SELECT = "begin to read a database"
    COMMIT = "commit"
    GET = "get from a medium"
    LIST = "list a medium"
    DIAL = "dial"
    REPLY = "a peer's reply"


ENDINGS: dict[Kind, tuple[Ending, ...]] = {
    Kind.CREATE: (*_ALWAYS, *_SPACE, *_IO, *_ACCESS),
    Kind.OPEN: (*_ALWAYS, *_IO, *_ACCESS),
    Kind.READ: (*_ALWAYS, *_IO),
    Kind.WRITE: (*_ALWAYS, *_SPACE, *_IO),
    Kind.TRUNCATE: (*_ALWAYS, *_IO),
    Kind.SYNC_FILE: (*_ALWAYS, *_SPACE, *_IO),
    Kind.SYNC_DATA: (*_ALWAYS, *_SPACE, *_IO),
    Kind.RENAME: (*_ALWAYS, *_SPACE, *_IO, *_ACCESS),
    Kind.UNLINK: (*_ALWAYS, *_IO, *_ACCESS),
    Kind.LINK: (*_ALWAYS, *_SPACE, *_IO, *_ACCESS),
    Kind.MAKE_DIRECTORY: (*_ALWAYS, *_SPACE, *_IO, *_ACCESS),
    Kind.REMOVE_DIRECTORY: (*_ALWAYS, *_IO, *_ACCESS),
    Kind.HOP: _ALWAYS,
    Kind.BEGIN: (*_ALWAYS, *_LOCK, *_IO),
    Kind.SELECT: (*_ALWAYS, *_LOCK, *_IO),
    Kind.COMMIT: (*_ALWAYS, *_LOCK, *_SPACE, *_IO),
    Kind.GET: (*_ALWAYS, *_IO),
    Kind.LIST: (*_ALWAYS, *_IO),
    Kind.DIAL: (*_ALWAYS, *_NET),
    Kind.REPLY: (*_ALWAYS, *_NET),
}
"""Which endings a kind of step can have."""


class Step(NamedTuple):
    """One step of a run: its number from 1, its kind, and what it was about (a file's name, a host, a database)."""

    number: int
    kind: Kind
    what: str


class Plan(NamedTuple):
    """Step ``number`` of a run ends like that."""

    number: int
    ending: Ending


class Steps:
    """Counts the steps of one life of a process, and ends one of them as planned. ``now`` tells the time, ``die`` is called when it is over.

    ``connections``: how many were open when the planned step came; ``unanswered``: replies that were lost by the plan.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        self.plan = plan
        self.taken: list[Step] = []
        self.met: Step | None = None
        self.dead = False
        self.counting = False
        self.connections = 0
        self.unanswered = 0
        self.open_connections: Callable[[], int] = lambda: 0
        self.now: Callable[[], float] = lambda: 0.0
        self.die: Callable[[], None] = lambda: None
        self._until = 0.0

    def take(self, kind: Kind, what: str) -> Ending | None:
        """A step is about to be done: how it shall end, None for well. Nothing is counted before ``counting``."""
        if not self.counting or self.dead:
            return None
        step = Step(len(self.taken) + 1, kind, what)
        self.taken.append(step)
        plan = self.plan
        if plan is None:
            return None
        if step.number == plan.number:
            if plan.ending not in ENDINGS[kind]:
                raise AssertionError(f"{step} cannot end with {plan.ending}: the run differs from the one that was counted")
            self.met = step
            self.connections = self.open_connections()
            self._until = self.now() + WHILE_SECONDS
            if plan.ending in DEATHS:
                self.dead = True
                self.die()
            return plan.ending
        if self.met is not None and plan.ending in WHILE and plan.ending in ENDINGS[kind] and self.now() < self._until:
            return plan.ending
        return None
