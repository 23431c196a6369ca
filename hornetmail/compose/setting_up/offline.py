"""Running asynchronous work to its end without a service: set-up, rebuild, key import."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

T = TypeVar("T")


def run(task: Callable[[Any], Awaitable[T]]) -> T:
    """Call ``task(reactor)`` on a reactor of its own and return what it answers, or raise what it raised.

    The reactor is not installed: nothing else in the process sees it.
    """
    reactor = EPollReactor()
    results: list[Any] = []

    async def whole() -> T:
        return await task(reactor)

    def done(result: Any) -> None:
        results.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(whole()).addBoth(done))
    reactor.run(installSignalHandlers=False)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result  # type: ignore[no-any-return]
