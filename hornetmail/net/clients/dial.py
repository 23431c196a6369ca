"""Connecting to a host: its addresses in turn, the next one started early when one is slow (RFC 8305, the light way)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.core.served import Host
from hornetmail.net.resolver import ResolveError, is_ours

STAGGER_SECONDS = 0.3
"""The next address is tried this much later, if none is connected by then."""

ADDRESSES = 8
"""No more of one host's addresses are tried."""


class DialError(Exception):
    """No address of a host took the connection; the message says why. ``resolved`` false: it has none that could be tried. ``ours``: nothing
    could be tried, for want of sockets above all."""

    def __init__(self, text: str, *, resolved: bool = True, permanent: bool = False, ours: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.resolved = resolved
        self.permanent = permanent
        self.ours = ours


class Addresses(Protocol):
    """What the dialer needs of a resolver."""

    async def addresses(self, name: str) -> Sequence[str]:
        """See ``IResolver``."""
        ...


class Dialer:
    """Connects to hosts. ``local`` is the address to dial from, or ``""``."""

    log = Logger()

    def __init__(self, reactor: Any, resolver: Addresses, *, local: str = "") -> None:
        self.reactor = reactor
        self._resolver = resolver
        self._local = (local, 0) if local else None

    async def connect(self, host: Host, factory: Factory, *, timeout: float = 10.0) -> tuple[TwistedProtocol, str]:
        """A connected protocol of ``factory`` and the IP address it is connected to, within ``timeout`` seconds altogether. Raises DialError."""
        try:
            lookup = Deferred.fromCoroutine(self._resolver.addresses(host.name))
            lookup.addTimeout(timeout, self.reactor)
            addresses = list(await lookup)[:ADDRESSES]
        except ResolveError as error:
            raise DialError(error.text, resolved=False, permanent=error.permanent, ours=error.ours) from None
        except DeferredTimeout:
            raise DialError(f"looking up {host.name} took too long", resolved=False) from None
        if not addresses:
            raise DialError(f"{host.name} has no address", resolved=False)
        return await _Race(self, addresses, host.port, factory, timeout).run()

    def attempt(self, address: str, port: int, factory: Factory, timeout: float) -> Deferred[TwistedProtocol]:
        """One address."""
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(self.reactor, address, port, timeout=max(0.1, timeout), bindAddress=self._local)
        connecting: Any = endpoint.connect(factory)
        return cast("Deferred[TwistedProtocol]", connecting)


class _Race:
    """Attempts that overlap; the first one connected wins, the others are cancelled."""

    def __init__(self, dialer: Dialer, addresses: Sequence[str], port: int, factory: Factory, timeout: float) -> None:
        self._dialer = dialer
        self._left = list(addresses)
        self._port = port
        self._factory = factory
        self._until = dialer.reactor.seconds() + timeout
        self._open: dict[str, Deferred[Any]] = {}
        self._errors: list[str] = []
        self._ours = True
        self._over = False
        self._won: Deferred[tuple[TwistedProtocol, str]] = Deferred(lambda _: self._stop())
        self._timer: Any = None

    async def run(self) -> tuple[TwistedProtocol, str]:
        self._next()
        return await self._won

    def _next(self) -> None:
        self._timer = None
        if self._won.called:
            return
        if self._left:
            address = self._left.pop(0)
            attempt = self._dialer.attempt(address, self._port, self._factory, self._until - self._dialer.reactor.seconds())
            self._open[address] = attempt
            attempt.addCallbacks(self._connected, self._failed, (address,), {}, (address,), {})
            if self._left and not self._won.called and self._timer is None:
                self._timer = self._dialer.reactor.callLater(STAGGER_SECONDS, self._next)
        elif not self._open:
            self._won.errback(DialError("; ".join(self._errors), ours=self._ours))

    def _connected(self, protocol: TwistedProtocol, address: str) -> None:
        self._open.pop(address, None)
        if self._won.called:
            transport: Any = protocol.transport
            transport.abortConnection()
            return
        self._stop()
        self._won.callback((protocol, address))

    def _failed(self, failure: Failure, address: str) -> None:
        self._open.pop(address, None)
        if not failure.check(ConnectError, ConnectingCancelledError, CancelledError, OSError):
            # Whatever it is: the race goes on, or it would never end.
            self._dialer.log.failure("{address} could not be tried", failure, address=address)
        self._errors.append(f"{address}: {_reason(failure)}")
        self._ours = self._ours and is_ours(failure.value)
        if not self._over:
            if self._timer is not None:
                self._timer.cancel()
            self._next()

    def _stop(self) -> None:
        """It is decided, or nobody waits any more: attempts under way are cancelled, and their failures mean nothing."""
        self._over = True
        self._left.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        open_now, self._open = self._open, {}
        for attempt in open_now.values():
            attempt.cancel()


def _reason(failure: Failure) -> str:
    value: Any = failure.value
    number = getattr(value, "osError", None)
    text = os.strerror(number) if isinstance(number, int) else number or value
    return str(text).rstrip(".").lower() or type(value).__name__


__all__ = ["DialError", "Dialer"]
