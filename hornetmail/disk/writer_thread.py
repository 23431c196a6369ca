"""One thread that does blocking things in order, at the least cost for the reactor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
Job = tuple[Callable[..., Any], tuple[Any, ...], "Deferred[Any]"]


class WriterThread:
    """A thread and its queue. Twisted's pools take and give the GIL a dozen times a call, at locks and in their bookkeeping, and each time the
    reactor stands still for a switch of threads; this takes it when a call comes and when its own system calls return.

    ``reactor``: IReactorFromThreads.
    """

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, call: Callable[..., T], *args: Any) -> Deferred[T]:
        """``call(*args)`` in the thread, after all that was asked before. Fires in the reactor; cannot be cancelled."""
        waiter: Deferred[T] = Deferred()
        self._jobs.put((call, args, waiter))
        return waiter

    def stop(self) -> None:
        """End the thread once it has done what was asked; waits for it."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        tell = self._reactor.callFromThread
        while (job := self._jobs.get()) is not None:
            call, args, waiter = job
            try:
                result = call(*args)
            except BaseException:  # noqa: BLE001  whoever waits is told
                tell(waiter.errback, Failure())
            else:
                tell(waiter.callback, result)
            del job, call, args, waiter
