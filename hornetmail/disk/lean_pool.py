"""Threads for what blocks, at little cost for the reactor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

OnResult = Callable[[bool, Any], object]
Job = tuple[OnResult | None, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class LeanPool(ThreadPool):
    """A Twisted thread pool for ``deferToThreadPool`` and adbapi without its bookkeeping: that takes and gives the GIL a dozen times a call, and each time
    the reactor stands still for a switch of threads. Threads begin when there is work for them and stay. Calls begin in the order in which they came."""

    def __init__(self, minthreads: int, maxthreads: int, name: str) -> None:
        """``minthreads`` is not heeded: a thread begins when it is needed."""
        self.min, self.max, self.name = minthreads, maxthreads, name
        self.started = self.joined = False
        self.threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._asked = 0
        self._done: list[list[int]] = []
        """What each thread has done; a cell is written by its thread only."""

    def start(self) -> None:
        """Begin, with what was asked already."""
        self.started, self.joined = True, False
        self._hire()

    def stop(self) -> None:
        """Do what was asked, and end; waits for it."""
        self.started, self.joined = False, True
        for _ in self.threads:
            self._jobs.put(None)
        for thread in self.threads:
            thread.join()
        self.threads = []
        self._done = []
        self._asked = 0

    def callInThread(self, func: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """See ThreadPool."""
        self.callInThreadWithCallback(None, func, *args, **kw)

    def callInThreadWithCallback(self, onResult: OnResult | None, func: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """See ThreadPool. Of the reactor's thread only."""
        if self.joined:
            return
        self._asked += 1
        self._jobs.put((onResult, func, args, kw))
        if self.started and len(self.threads) < self.max:
            self._hire()

    def adjustPoolsize(self, minthreads: int | None = None, maxthreads: int | None = None) -> None:
        """See ThreadPool."""
        self.min = self.min if minthreads is None else minthreads
        self.max = self.max if maxthreads is None else maxthreads

    def _hire(self) -> None:
        while len(self.threads) < min(self.max, self._asked - sum(cell[0] for cell in self._done)):
            cell = [0]
            thread = threading.Thread(target=self._work, args=(cell,), name=f"{self.name} {len(self.threads) + 1}", daemon=True)
            self._done.append(cell)
            self.threads.append(thread)
            thread.start()

    def _work(self, cell: list[int]) -> None:
        while (job := self._jobs.get()) is not None:
            told, call, args, kw = job
            try:
                outcome: tuple[bool, Any] = True, call(*args, **kw)
            except BaseException:  # noqa: BLE001  whoever waits is told
                outcome = False, Failure()
            cell[0] += 1
            if told is not None:
                told(*outcome)
            del job, told, call, args, kw, outcome
