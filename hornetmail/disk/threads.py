"""Where threads come from: Twisted's pools and writers of our own, unless the reactor that is handed in brings its own kind.

Every room that blocks has threads of its own, and asks for them here. A reactor with the methods of ``BringsThreads`` runs what blocks itself, in
an order that it decides; the product's never does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.threadpool import ThreadPool

from hornetmail.disk.writer_thread import WriterThread

T = TypeVar("T")


@runtime_checkable
class BringsThreads(Protocol):
    """A reactor that runs blocking calls by itself. The answers behave as ThreadPool, WriterThread and blockingCallFromThread do."""

    def thread_pool(self, least: int, most: int, name: str) -> ThreadPool: ...
    def writer_thread(self, name: str) -> WriterThread: ...
    def wait_for(self, ask: Callable[[], Deferred[Any]]) -> Any: ...
    def lock(self) -> AbstractContextManager[object]: ...


def thread_pool(reactor: Any, least: int, most: int, name: str) -> ThreadPool:
    """A pool, not yet started."""
    return reactor.thread_pool(least, most, name) if isinstance(reactor, BringsThreads) else ThreadPool(least, most, name)


def writer_thread(reactor: Any, name: str) -> WriterThread:
    """A thread that does things in order, running."""
    return reactor.writer_thread(name) if isinstance(reactor, BringsThreads) else WriterThread(reactor, name)


def lock(reactor: Any) -> AbstractContextManager[object]:
    """What two threads do not do at the same time."""
    return reactor.lock() if isinstance(reactor, BringsThreads) else threading.Lock()


def wait_for(reactor: Any, ask: Callable[[], Deferred[T]]) -> T:
    """In a thread: what becomes of something that the reactor is to do. Raises what it fails with."""
    if isinstance(reactor, BringsThreads):
        result: T = reactor.wait_for(ask)
        return result
    answer: Any = blockingCallFromThread(reactor, ask)  # type: ignore[arg-type]
    return cast("T", answer)
