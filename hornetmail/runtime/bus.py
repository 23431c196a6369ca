"""The bus: hints between rooms that do not know one another."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.interfaces.bus import IBus


@implementer(IBus)
class Bus:
    """Delivers an event in the next reactor turn, to each listener on its own.

    A hint is sent after commit and may be lost: who must not miss anything re-reads the store when it starts.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._listeners: dict[type, list[Callable[[Any], Any]]] = {}
        self._pending: list[Any] = []

    def publish(self, event: Any) -> None:
        """Queue the event; one reactor turn carries all that were published meanwhile."""
        if type(event) not in self._listeners:
            return
        self._pending.append(event)
        if len(self._pending) == 1:
            self._reactor.callLater(0, self._carry)

    def subscribe(self, kind: type, listener: Callable[[Any], Any]) -> Callable[[], None]:
        """Listen to events of exactly this class. The answer unsubscribes, also twice."""
        listeners = self._listeners.setdefault(kind, [])
        listeners.append(listener)

        def unsubscribe() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return unsubscribe

    def _carry(self) -> None:
        events, self._pending = self._pending, []
        for event in events:
            for listener in tuple(self._listeners.get(type(event), ())):
                try:
                    result = listener(event)
                    if iscoroutine(result):
                        Deferred.fromCoroutine(result).addErrback(self._complain, event)
                except Exception:  # noqa: BLE001 - one listener's mistake disturbs nobody else
                    self.log.failure("a listener to {event!r} failed", event=event)

    def _complain(self, failure: Any, event: Any) -> None:
        self.log.failure("a listener to {event!r} failed", failure=failure, event=event)
