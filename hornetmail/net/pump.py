"""One Twisted protocol that drives every server engine of ``wire/engine.py``: SMTP, LMTP, POP3, IMAP.

The pump feeds bytes to the engine, takes its events one by one to the session, and writes what the session answers. It
keeps the clock, the flow control, the TLS handshake and the end of the connection; it knows nothing of the protocol.

What a session is, and what it may do to its connection, is said in ``net.session``.

No connection holds the others up: after ``TURN_SECONDS`` of work it goes on in the next turn of the reactor (``tests/cost/test_doors.py``). Sessions
whose one answer is long work ask for that with ``Wire.breathe``.

Deadlines: one timer a connection. It starts anew with each event and each answer, and does not run while the session works on
an answer, unless the peer stops reading what we send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLContextFactory,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from hornetmail.net import prompt
from hornetmail.net.outbox import Outbox
from hornetmail.net.session import Answer, Result, Session, Wire
from hornetmail.net.tls import channel_binding
from hornetmail.wire.engine import NEED_DATA, PAUSE_BYTES, WAITING, End, Engine, Event, LocalProtocolError, Lost, Out, TLSPeer

__all__ = ["Answer", "Pump", "Result", "Session", "Wire"]

WRITE_BYTES = 65_536
"""Answers are collected up to this size before they are written to the transport."""

TURN_SECONDS = 0.005
"""So long a connection works before others have their turn."""

LINGER_SECONDS = 10.0
"""A closed connection whose peer does not take the last bytes is aborted after this."""


@implementer(IPushProducer, IHandshakeListener)
class Pump(TwistedProtocol):
    """One connection. ``session_factory()`` is called when it is made; ``on_closed(pump)`` once it is gone and its last
    coroutine ended. ``tls_context_factory`` serves STARTTLS; with ``implicit_tls`` the transport is TLS already."""

    log = Logger()
    transport: Any

    def __init__(
        self,
        engine: Engine,
        session_factory: Callable[[], Session],
        clock: IReactorTime,
        tls_context_factory: IOpenSSLContextFactory | None = None,
        *,
        implicit_tls: bool = False,
        on_closed: Callable[[Pump], None] | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        self.engine = engine
        self.peer: tuple[str, int] = ("", 0)
        self.tls: TLSPeer | None = None
        self._session_factory = session_factory
        self._session: Session | None = None
        self._clock = clock
        self._context = tls_context_factory
        self._implicit = implicit_tls
        self._on_closed = on_closed
        self._outbox = outbox
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._driving = False
        self._began = 0.0
        self._rest: IDelayedCall | None = None
        self._running: Deferred[Any] | None = None
        self._event: Event | None = None
        self._handshaking = implicit_tls
        self._paused_reading = False
        self._paused_writing = False
        self._drains: list[Deferred[None]] = []
        self._alive = False
        self._closing = False
        self._stopping = False
        self._told = False
        self._moved = False
        self._timer: IDelayedCall | None = None
        self._fires = 0.0
        self._due = 0.0

    # ---- the transport's side

    def connectionMade(self) -> None:
        self._alive = True
        where = self.transport.getPeer()
        self.peer = (getattr(where, "host", ""), getattr(where, "port", 0))
        self.transport.registerProducer(self, True)
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        if self._implicit:
            self._touch()
        else:
            self._begin()

    def handshakeCompleted(self) -> None:
        """IHandshakeListener: TLS is up, at the start or after STARTTLS."""
        self._handshaking = False
        self.tls = tls_peer(self.transport)
        self.engine.tls_started(self.tls)
        if self._session is None:
            self._begin()
        else:
            self._drive()

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self.engine.receive(data)
        if self._running is None and not self._driving and self._rest is None:
            self._drive()
        elif not self._paused_reading and self.engine.buffered > PAUSE_BYTES:
            self._paused_reading = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self._alive = False
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._clear_rest()
        running = self._running
        if running is not None and not isinstance(self._event, End):
            running.cancel()
        drains, self._drains = self._drains, []
        for drain in drains:
            drain.errback(ConnectionLost())
        if self._session is not None:
            try:
                self._session.lost(reason)
            except Exception:  # noqa: BLE001
                self.log.failure("the session's end failed")
        self._told = True
        if self._running is None:
            self._closed()

    def _closed(self) -> None:
        """The session was told and nothing of it runs any more."""
        if self._told:
            self._session = None  # they know each other, and would wait for the garbage collector together
            if self._on_closed is not None:
                on_closed, self._on_closed = self._on_closed, None
                on_closed(self)

    # ---- IPushProducer: the transport's buffer is full, or empty again

    def pauseProducing(self) -> None:
        self._paused_writing = True
        self._touch()

    def resumeProducing(self) -> None:
        self._paused_writing = False
        self._touch()
        drains, self._drains = self._drains, []
        for drain in drains:
            drain.callback(None)
        if self._running is None and not self._driving and self._rest is None:
            self._drive()

    def stopProducing(self) -> None:
        self._paused_writing = True

    # ---- the session's side (Wire)

    def binding(self, kind: str) -> bytes | None:
        """See ``Wire.binding``."""
        return channel_binding(self.transport.getHandle(), kind) if self.tls is not None else None

    def send(self, out: Out) -> None:
        """See ``Wire.send``. Raises LocalProtocolError when the engine does not allow it now."""
        if not self._alive or self._closing:
            return
        self._say(out)
        if not self._driving:
            self.flush()
            self._after()

    def remark(self, out: Out) -> None:
        """See ``Wire.remark``. Raises LocalProtocolError."""
        if self._alive and not self._closing:
            moved = self._moved
            self._say(out)
            self._moved = moved
            if not self._driving:
                self.flush()

    def drained(self) -> Awaitable[None]:
        """See ``Wire.drained``. Raises ConnectionLost when the connection ends first."""
        self.flush()
        if not self._paused_writing or not self._alive:
            return succeed(None)
        drain: Deferred[None] = Deferred(self._drains.remove)
        self._drains.append(drain)
        return drain

    def breathe(self) -> Awaitable[None] | None:
        """See ``Wire.breathe``."""
        now = self._clock.seconds()
        if now - self._began < TURN_SECONDS:
            return None
        turn: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(0, self._next_turn, turn)
        return turn

    def _next_turn(self, turn: Deferred[None]) -> None:
        self._began = self._clock.seconds()
        turn.callback(None)

    def close(self) -> None:
        """See ``Wire.close``."""
        if not self._alive:
            return
        self.flush()
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
            self._resume_reading()
            prompt.close(self.transport)
            self._clear_timer()
            self._timer = self._clock.callLater(LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """Drop the connection at once, whatever was still to be sent."""
        self._clear_timer()
        if self._alive:
            self._closing = True
            self.transport.abortConnection()

    @property
    def idle(self) -> bool:
        """Nothing is under way that a shutdown should wait for."""
        return self._running is None and (self._session is None or not self._session.busy())

    def shutdown(self) -> None:
        """Say goodbye now if idle, else when the present transaction is done."""
        self._stopping = True
        if not self._driving:
            self._after()

    # ---- the loop

    def _begin(self) -> None:
        self._session = self._session_factory()
        self._driving = True
        try:
            self._take(self._session.attach, self, None)
        finally:
            self._driving = False
        self._drive()

    def _drive(self) -> None:
        """Take events to the session until the engine needs data, an answer is open, or the peer must read first."""
        if self._session is None:
            return
        engine = self.engine
        on = self._session.on
        seconds = self._clock.seconds
        self._began = seconds()
        self._driving = True
        try:
            while (
                self._running is None and self._alive and not self._closing and not self._paused_writing and not self._handshaking
            ):
                step = engine.next_event()
                if step is NEED_DATA or step is WAITING:
                    break
                if isinstance(step, Lost):
                    self.flush()
                    self.close()
                    break
                self._take(on, step, step)
                if engine.upgrade and self._running is None:
                    self._start_tls()
                elif engine.closing:
                    break
                elif seconds() - self._began >= TURN_SECONDS:
                    self._rest = self._clock.callLater(0, self._rested)
                    break
        finally:
            self._driving = False
        if self._out:
            if self._outbox is None:
                self.flush()
            else:
                self._outbox.add(self)
        self._after()

    def _rested(self) -> None:
        """Others had their turn."""
        self._rest = None
        if self._running is None and not self._driving:
            self._drive()

    def _clear_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _take(self, call: Callable[[Any], Result], subject: Any, event: Event | None) -> None:
        """Get one answer from the session: send it, or wait for it."""
        self._event = event
        self._moved = True
        try:
            result = call(subject)
            if result is None:
                return
            if isinstance(result, Out):
                self._say(result)
                return
            if isinstance(result, (list, tuple)):
                self._answer(result)
                return
            coroutine = cast("Coroutine[Any, Any, Answer]", _awaiting(result) if isinstance(result, Deferred) else result)
            try:
                waiting = coroutine.send(None)
            except StopIteration as ended:
                if ended.value is not None:
                    self._answer(ended.value)
                return
        except Exception:  # noqa: BLE001
            self._failed(Failure(), event)
            return
        self._running = waiting
        if self._out:
            self.flush()
        waiting.addBoth(self._resume, coroutine, event)

    def _resume(self, result: object, coroutine: Coroutine[Any, Any, Answer], event: Event | None) -> None:
        """What a coroutine waits for is there, in a turn of its own (the Deferred itself hands it over). Coroutines are driven by hand: most wait once, and a Deferred
        around each costs more than all the rest of it."""
        self._began = self._clock.seconds()
        try:
            try:
                if isinstance(result, Failure):
                    waiting = result.throwExceptionIntoGenerator(coroutine)
                else:
                    waiting = coroutine.send(None)
            except StopIteration as ended:
                self._answered(ended.value)
                return
            self._running = waiting
            waiting.addBoth(self._resume, coroutine, event)
        except BaseException:  # noqa: BLE001
            try:
                self._broke(Failure(), event)
            except Exception:  # noqa: BLE001
                self.log.failure("the pump failed")

    def _answered(self, answer: Answer) -> None:
        """An awaited answer is here."""
        self._running = None
        if not self._alive:
            self._closed()
            return
        if answer is not None:
            self._answer(answer)
        self._go_on()

    def _broke(self, failure: Failure, event: Event | None) -> None:
        self._running = None
        if not self._alive:
            if not failure.check(CancelledError, ConnectionLost):
                self.log.failure("a session failed after its connection was lost", failure)
            self._closed()
            return
        self._failed(failure, event)
        self._go_on()

    def _go_on(self) -> None:
        if not self._driving:
            if self.engine.upgrade:
                self._start_tls()
            self._drive()

    def _failed(self, failure: Failure, event: Event | None) -> None:
        """The session raised: ours is the fault. Logged; the session may say something."""
        self.log.failure("a session failed at {event}", failure, event=type(event).__name__)
        try:
            answer = self._session.failed(event, failure) if self._session is not None and event is not None else None
            if answer is not None:
                self._answer(answer)
                return
        except Exception:  # noqa: BLE001
            self.log.failure("a session failed to apologise")
        self.close()

    def _answer(self, answer: Out | Sequence[Out]) -> None:
        if isinstance(answer, Out):
            self._say(answer)
        else:
            for out in answer:
                self._say(out)

    def _say(self, out: Out) -> None:
        data = self.engine.send(out)
        self._moved = True
        if data:
            self._out.append(data)
            self._out_bytes += len(data)
            if self._out_bytes >= WRITE_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what has been said."""
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            if self._alive:
                prompt.write(self.transport, data)

    def _after(self) -> None:
        """Whatever changed: end, reading, deadline, shutdown."""
        if not self._alive or self._closing:
            return
        if self.engine.closing and self._running is None:
            self.close()
            return
        if self._stopping and self.idle and not self._handshaking:
            self._part(self._session.goodbye() if self._session is not None else None)
            return
        if self.engine.buffered > PAUSE_BYTES:
            if not self._paused_reading:
                self._paused_reading = True
                self.transport.pauseProducing()
        else:
            self._resume_reading()
        if self._moved:
            self._touch()

    def _resume_reading(self) -> None:
        if self._paused_reading:
            self._paused_reading = False
            self.transport.resumeProducing()

    def _part(self, answer: Answer) -> None:
        """Say the last words and close."""
        try:
            if answer is not None:
                self._answer(answer)
        except LocalProtocolError:
            self.log.debug("no goodbye is possible in phase {phase}", phase=self.engine.phase)
        self.close()

    def _start_tls(self) -> None:
        self.flush()
        if self._context is None:
            self.log.error("STARTTLS was accepted without a certificate")
            self.abort()
            return
        self._handshaking = True
        self.transport.startTLS(self._context)

    # ---- the clock

    def _touch(self) -> None:
        """Start the deadline of the present state anew. The delayed call is moved only when it would fire too late."""
        if not self._alive or self._closing:
            return
        self._moved = False
        now = self._clock.seconds()
        self._due = now + self.engine.deadline
        if self._timer is None:
            self._fires = self._due
            self._timer = self._clock.callLater(self._due - now, self._ticked)
        elif self._due < self._fires:
            self._fires = self._due
            self._timer.reset(self._due - now)

    def _clear_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _ticked(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if self._due > now:
            self._fires = self._due
            self._timer = self._clock.callLater(self._due - now, self._ticked)
        elif self._paused_writing or self._handshaking:
            self.abort()
        elif self._running is not None:
            self._touch()
        else:
            self._part(self._session.timed_out() if self._session is not None else None)


async def _awaiting(answer: Deferred[Any]) -> Answer:
    """The result of a Deferred."""
    return cast(Answer, await answer)


def tls_peer(transport: Any) -> TLSPeer:
    """What is known of the TLS connection below a transport."""
    connection = transport.getHandle()
    return TLSPeer(connection.get_protocol_version_name(), connection.get_cipher_name() or "", _server_name(connection))


def _server_name(connection: Any) -> str:
    name = connection.get_servername()
    return "" if name is None else bytes(name).decode("ascii", "replace")
