"""Running coroutines that nobody waits for, side by side, without losing their errors."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all side by side; their results in order. The first error is raised when all have ended, so that none is left behind."""
    running = [Deferred.fromCoroutine(each) for each in coroutines]
    errors: list[Failure] = []

    def keep(failure: Failure) -> None:
        errors.append(failure)

    for each in running:
        each.addErrback(keep)
    results = await gatherResults(running)
    if errors:
        errors[0].raiseException()
    return results


async def within(clock: IReactorTime, seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, or TimeoutError after ``seconds``; it is cancelled then."""
    running = Deferred.fromCoroutine(coroutine)
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        running.cancel()

    call = clock.callLater(seconds, expire)
    try:
        return await running
    except CancelledError:
        if expired:
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        raise
    finally:
        if call.active():
            call.cancel()


async def awaiting(awaitable: Awaitable[T]) -> T:
    """A coroutine out of anything that can be awaited."""
    return await awaitable


async def pause(clock: IReactorTime, seconds: float) -> None:
    """Sleep; cancelling wakes with CancelledError."""
    waited: Deferred[None] = Deferred(lambda d: call.cancel())
    call = clock.callLater(seconds, waited.callback, None)
    await waited


class Tasks:
    """The coroutines under way in one part of the service. ``stop`` waits for them, then cancels what is left."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: set[Deferred[Any]] = set()
        self._idle: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._running)

    def start(self, coroutine: Coroutine[Any, Any, Any], what: str) -> Deferred[None]:
        """Run it; an error is logged with ``what``. The answer fires when it ended, and never fails."""
        running: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        ended: Deferred[None] = Deferred()
        self._running.add(running)

        def end(result: Any) -> None:
            self._running.discard(running)
            if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
                self.log.failure("{what} failed", failure=result, what=what)
            if not self._running:
                waiting, self._idle = self._idle, []
                for each in waiting:
                    each.callback(None)
            ended.callback(None)

        running.addBoth(end)
        return ended

    async def stop(self, grace: float) -> None:
        """Wait ``grace`` seconds for all to end; cancel the rest. What does not end at once when it is cancelled is not waited for."""
        if self._running and grace > 0:
            with contextlib.suppress(TimeoutError):
                await within(self._clock, grace, self._quiet())
        for each in list(self._running):
            each.cancel()

    async def _quiet(self) -> None:
        waiting: Deferred[None] = Deferred(lambda d: self._idle.remove(d) if d in self._idle else None)
        self._idle.append(waiting)
        await waiting
