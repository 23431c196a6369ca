"""What everything in the portal stands on, handed in once by ``PortalStore``."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from hornetmail.core.events import FolderChanged
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.lately import Readies
from hornetmail.portal.maildir.snapshot import Snapshot
from hornetmail.portal.maildir.stacks import Stacks
from hornetmail.portal.maildir.watching import Watching

T = TypeVar("T")
P = ParamSpec("P")

ENTRIES_KEPT = 300_000
"""Entries of folders that stay in memory although nobody has them open."""


class Ground:
    """Reactor, threads, disk, index, bus, and the counters that make names unique."""

    log = Logger()

    def __init__(
        self, reactor: Any, pool: ThreadPool, disk: Disk, database: Database, bus: IBus, directory: IDirectory, host: str
    ) -> None:
        self.reactor = reactor
        self.disk = disk
        self.database = database
        self.bus = bus
        self.directory = directory
        self.host = naming.safe_host(host)
        self.watching = Watching(reactor)
        self.lately = Readies()
        self.stacks = Stacks()
        self._pool = pool
        self._number = 0
        self._kept: OrderedDict[int, Snapshot] = OrderedDict()
        self._keeps = 0

    def now(self) -> float:
        """Unix seconds."""
        return float(self.reactor.seconds())

    def thread(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run blocking work in the portal's threads."""
        deferred: Deferred[T] = deferToThreadPool(self.reactor, self._pool, fn, *args, **kwargs)
        return deferred

    def number(self) -> int:
        """Grows with each call."""
        self._number += 1
        return self._number

    def token(self) -> str:
        """Eight random hexadecimal digits."""
        return os.urandom(4).hex()

    def changed(self, mailbox: int, folder: str) -> None:
        """Hint at a change that is committed."""
        self.bus.publish(FolderChanged(mailbox, folder))

    def keep(self, snapshot: Snapshot) -> None:
        """Let a folder stay in memory as one of the last used."""
        key = id(snapshot)
        self._kept[key] = snapshot
        self._kept.move_to_end(key)
        self._keeps += 1
        if self._keeps > 256 or len(self._kept) > 4_000:  # weigh now and then
            self._keeps = 0
            total = sum(len(one.entries) + 50 for one in self._kept.values())
            while total > ENTRIES_KEPT and len(self._kept) > 1:
                _, one = self._kept.popitem(last=False)
                total -= len(one.entries) + 50

    def forget(self) -> None:
        """Keep nothing in memory that is not open."""
        self._kept.clear()
        self.stacks.clear()


def shielded(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Run a change to its end even if whoever waits for it is cancelled (a lost connection): file, index and memory must agree."""
    inner = Deferred.fromCoroutine(work)
    outer: Deferred[T] = Deferred()

    def ended(result: T | Failure) -> None:
        if isinstance(result, Failure):
            outer.errback(result)
        else:
            outer.callback(result)

    inner.addBoth(ended)
    return outer
