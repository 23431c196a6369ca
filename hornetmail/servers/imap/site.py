"""What all IMAP connections of a door share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import msgspec
from twisted.internet.defer import DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.threadpool import ThreadPool

from hornetmail.core.served import Person
from hornetmail.interfaces.access import IAccess
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.folders import IFolderTree
from hornetmail.servers.imap.watch import Watch

T = TypeVar("T")

READERS = 2
"""Searches through texts side by side."""


class ImapPolicy(msgspec.Struct, frozen=True, gc=False):
    """``plaintext_login``: passwords are taken without TLS (loopback only). ``starttls``: a certificate is there. ``append_bytes``: no
    larger message is taken. ``login_tries``: then the connection ends. ``login_delay``: seconds, times the number of tries.
    ``broken_commands``: before log-in, then the connection ends; ten times as many after it. ``early``: commands before log-in, exchanges that were given up included."""

    plaintext_login: bool = False
    starttls: bool = True
    append_bytes: int = 64 << 20
    login_tries: int = 3
    login_delay: float = 1.0
    broken_commands: int = 10
    early: int = 50
    hostname: str = "localhost"


class ImapSite:
    """Joined by ``compose``. ``trees(person)`` answers (prefix, tree) for each tree to mount, the portal's with prefix ``""``.
    ``reactor`` is also the clock; ``threads`` run searches through bodies."""

    def __init__(
        self,
        reactor: IReactorTime,
        threads: ThreadPool,
        access: IAccess,
        trees: Callable[[Person], Sequence[tuple[str, IFolderTree]]],
        bus: IBus,
        policy: ImapPolicy = ImapPolicy(),
    ) -> None:
        self.reactor = reactor
        self.threads = threads
        self.access = access
        self.trees = trees
        self.policy = policy
        self.watch = Watch(bus)
        self._readers = DeferredSemaphore(READERS)
        self._alone: WeakValueDictionary[int, DeferredLock] = WeakValueDictionary()

    async def reading(self, mailbox: int, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Work that reads texts: one at a time for a user, ``READERS`` for all, so that memory and threads stay for others."""
        alone = self._alone.get(mailbox)
        if alone is None:
            alone = self._alone[mailbox] = DeferredLock()
        async with alone, self._readers:
            return await work()

    @property
    def from_threads(self) -> IReactorFromThreads:
        """The reactor, as ``deferToThreadPool`` wants it."""
        return IReactorFromThreads(self.reactor)
