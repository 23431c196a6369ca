"""Those who wait for the same lock are served together: one sync and one transaction for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredLock

T = TypeVar("T")
R = TypeVar("R")

MOST = 64
"""Served together at most."""


class Lock(DeferredLock):
    """Whoever waits next goes on when whoever released it is through, not from within his release: a thousand who do their work at once are a loop, and no
    tower a thousand high (``tests/portal/test_batch.py``)."""

    def __init__(self) -> None:
        super().__init__()
        self._passing = False
        self._released = False

    def release(self) -> None:
        """See DeferredLock."""
        assert self.locked
        self._released = True
        if self._passing:
            return
        self._passing = True
        try:
            while self._released and self.waiting:
                self._released = False
                self.waiting.pop(0).callback(self)  # type: ignore[arg-type]
            self.locked = not self._released
        finally:
            self._passing = False


class Batch(Generic[T, R]):
    """``work(items)`` is run with ``lock`` held and answers each item with its result or its error; an error of its own is everybody's."""

    def __init__(self, lock: DeferredLock, work: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]) -> None:
        self._lock = lock
        self._work = work
        self._waiting: list[tuple[T, Deferred[R]]] = []

    async def join(self, item: T) -> R:
        """The item's result, once its batch was served. Not to be cancelled."""
        waiter: Deferred[R] = Deferred()
        self._waiting.append((item, waiter))
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._serve()).addErrback(self._broke)
        return await waiter

    def _broke(self, failure: object) -> None:
        waiting, self._waiting = self._waiting, []
        for _, waiter in waiting:
            waiter.errback(failure)  # type: ignore[arg-type]

    async def _serve(self) -> None:
        async with self._lock:
            while self._waiting:
                some = self._waiting[:MOST]
                results: Sequence[R | Exception]
                try:
                    results = await self._work([item for item, _ in some])
                except Exception as error:  # noqa: BLE001
                    results = [error] * len(some)
                del self._waiting[: len(some)]
                for (_, waiter), result in zip(some, results, strict=True):
                    if isinstance(result, Exception):
                        waiter.errback(result)
                    else:
                        waiter.callback(result)
