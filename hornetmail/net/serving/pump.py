"""One Twisted protocol that drives every server engine of ``wire/engine.py``: SMTP, LMTP, POP3, IMAP.

The pump feeds bytes to the engine, takes its events one by one to the session, and writes what the session answers. It
keeps the flow control, the TLS handshake and the end of the connection; it knows nothing of the protocol. What a session is, and
what it may do to its connection, is said in ``net.session``.

What it is at, and the theory of operation, is in ``net.serving.phases``.

The deadline (``net.deadline``) starts anew with each event and each answer, and does not run while the session works on
an answer, unless the peer stops reading what we send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLContextFactory, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from hornetmail.net import prompt
from hornetmail.net.serving.deadline import Deadline
from hornetmail.net.serving.phases import State
from hornetmail.net.serving.rota import Place, Rota, Shift
from hornetmail.net.serving.session import Answer, Result, Session, Wire
from hornetmail.net.tls import channel_binding, tls_peer
from hornetmail.wire.engine import NEED_DATA, PAUSE_BYTES, WAITING, End, Engine, Event, LocalProtocolError, Lost, Out, TLSPeer

__all__ = ["Answer", "Pump", "Result", "Session", "State", "Wire"]

LARGE_BYTES = 4_096
"""What is said in one go is worth waking its reader for from this size on, and does not wait for the end of the turn (``net.outbox``)."""

WRITE_BYTES = 65_536
"""Answers are collected up to this size before they are written to the transport."""

LINGER_SECONDS = 10.0
"""A closed connection whose peer does not take the last bytes is aborted after this."""


_ENDED = (State.CLOSING, State.LOST)


@implementer(IPushProducer, IHandshakeListener)
class Pump(TwistedProtocol):
    """One connection. ``session_factory()`` is called when it is made; ``on_closed(pump)`` once it is gone and its last
    coroutine ended. ``tls_context_factory`` serves STARTTLS; with ``implicit_tls`` the transport is TLS already. ``rota``: that of all
    connections; one without works as if it were alone."""

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
        rota: Rota | None = None,
    ) -> None:
        self.engine = engine
        self.peer: tuple[str, int] = ("", 0)
        self.tls: TLSPeer | None = None
        self._state = State.HANDSHAKE if implicit_tls else State.RESTING
        self._full = False
        self._held = False
        self._stopping = False
        self._session_factory = session_factory
        self._session: Session | None = None
        self._context = tls_context_factory
        self._on_closed = on_closed
        self._outbox = None if rota is None else rota.outbox
        self._shift = Shift(Rota(clock) if rota is None else rota, clock)
        self._place: Place | None = None
        self._deadline = Deadline(clock, self._passed)
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._running: Deferred[Any] | None = None
        self._event: Event | None = None
        self._drains: list[Deferred[None]] = []

    # ---- the transport's side

    def connectionMade(self) -> None:
        where = self.transport.getPeer()
        self.peer = (getattr(where, "host", ""), getattr(where, "port", 0))
        self.transport.registerProducer(self, True)
        if (set_no_delay := getattr(self.transport, "setTcpNoDelay", None)) is not None:
            set_no_delay(True)
        if self._state is State.HANDSHAKE:
            self._touch()
        else:
            self._begin()

    def handshakeCompleted(self) -> None:
        """IHandshakeListener: TLS is up, at the start or after STARTTLS."""
        if self._state is State.HANDSHAKE:
            self._state = State.RESTING
            self.tls = tls_peer(self.transport)
            self.engine.tls_started(self.tls)
            self._begin() if self._session is None else self._drive()

    def dataReceived(self, data: bytes) -> None:
        if self._state in _ENDED:
            return
        self.engine.receive(data)
        if self._state is State.RESTING:
            self._drive()
        elif not self._held and self.engine.buffered > PAUSE_BYTES:
            self._hold()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self._state = State.LOST
        self._deadline.stop()
        if self._place is not None:
            self._shift.leave(self._place)
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
            self._session = None  # they know each other, and would wait for the garbage collector together
        self._released()

    def _released(self) -> None:
        """If the session was told and nothing of it runs any more: it is over."""
        if self._session is None and self._running is None and self._on_closed is not None:
            on_closed, self._on_closed = self._on_closed, None
            on_closed(self)

    # ---- IPushProducer: the transport's buffer is full, or empty again

    def pauseProducing(self) -> None:
        self._full = True
        self._touch()

    def resumeProducing(self) -> None:
        self._full = False
        self._touch()
        drains, self._drains = self._drains, []
        for drain in drains:
            drain.callback(None)
        if self._state is State.RESTING:
            self._drive()

    def stopProducing(self) -> None:
        self._full = True

    # ---- the session's side (Wire)

    def binding(self, kind: str) -> bytes | None:
        """See ``Wire.binding``."""
        return channel_binding(self.transport.getHandle(), kind) if self.tls is not None else None

    def send(self, out: Out) -> None:
        """See ``Wire.send``. Raises LocalProtocolError when the engine does not allow it now."""
        if self._said_at_once(out):
            self._touch()
            self._settle()

    def remark(self, out: Out) -> None:
        """See ``Wire.remark``. Raises LocalProtocolError."""
        self._said_at_once(out)

    def _said_at_once(self, out: Out) -> bool:
        if self._state in _ENDED:
            return False
        self._say(out)
        if self._state is State.DRIVING:
            return False
        self.flush()
        return True

    def drained(self) -> Awaitable[None]:
        """See ``Wire.drained``. Raises ConnectionLost when the connection ends first."""
        self.flush()
        if not self._full or self._state is State.LOST:
            return succeed(None)
        drain: Deferred[None] = Deferred(self._drains.remove)
        self._drains.append(drain)
        return drain

    def breathe(self) -> Awaitable[None] | None:
        """See ``Wire.breathe``."""
        if not self._shift.over():
            return None
        turn: Deferred[None] = Deferred(lambda _: self._shift.leave(place))

        def work() -> None:
            self._shift.begin()
            turn.callback(None)

        place = self._shift.later(work)
        return turn

    def close(self) -> None:
        """See ``Wire.close``."""
        if self._state in _ENDED:
            return
        self.flush()
        self._end()
        self.transport.unregisterProducer()
        self._read_on()
        prompt.close(self.transport)
        self._deadline.begin(LINGER_SECONDS)

    def abort(self) -> None:
        """Drop the connection at once, whatever was still to be sent."""
        if self._state is not State.LOST:
            self._end()
            self.transport.abortConnection()

    def _end(self) -> None:
        self._state = State.CLOSING
        self._deadline.stop()

    @property
    def idle(self) -> bool:
        """Nothing is under way that a shutdown should wait for."""
        return self._running is None and (self._session is None or not self._session.busy())

    def shutdown(self) -> None:
        """Say goodbye now if idle, else when the present transaction is done."""
        self._stopping = True
        if self._state is not State.DRIVING:
            self._settle()

    # ---- the loop

    def _begin(self) -> None:
        self._session = self._session_factory()
        self._state = State.DRIVING
        self._take(self._session.attach, self, None)
        self._touch()
        if self._driving():
            self._state = State.RESTING
        self._drive()

    def _driving(self) -> bool:
        """Still; whatever was called meanwhile may have changed it."""
        return self._state is State.DRIVING

    def _drive(self) -> None:
        """Take events to the session until the engine needs data, an answer is open, the peer must read first, or others have their turn."""
        session = self._session
        if session is not None and self._state is State.RESTING and not self._full:
            if self._shift.begin():
                self._state = State.DRIVING
                if self._take_events(session):
                    self._touch()
                if self._driving():
                    self._state = State.RESTING
            else:
                self._queue()
        if self._out:
            if self._outbox is None or self._out_bytes >= LARGE_BYTES:
                self.flush()
            else:
                self._outbox.add(self)
        self._settle()

    def _take_events(self, session: Session) -> bool:
        """One after the other; whether there was one."""
        engine, on, over = self.engine, session.on, self._shift.over
        some = False
        while True:
            step = engine.next_event()
            if step is NEED_DATA or step is WAITING:
                break
            if isinstance(step, Lost):
                self.close()
                break
            some = True
            self._take(on, step, step)
            if not self._driving():
                break
            if engine.upgrade:
                self._start_tls()
                break
            if engine.closing or self._full:
                break
            if over():
                self._queue()
                break
        return some

    def _queue(self) -> None:
        self._state = State.QUEUED
        self._place = self._shift.later(self._called)

    def _called(self) -> None:
        """Others had their turn."""
        self._place = None
        if self._state is State.QUEUED:
            self._state = State.RESTING
            self._drive()

    def _take(self, call: Callable[[Any], Result], subject: Any, event: Event | None) -> None:
        """Get one answer from the session: send it, or wait for it."""
        self._event = event
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
        if self._driving():
            self._state = State.ANSWERING
        if self._out:
            self.flush()
        # it has no result yet: a coroutine does not stop for one that has
        self._running = waiting
        waiting.addBoth(self._resume, coroutine, event)

    def _resume(self, result: object, coroutine: Coroutine[Any, Any, Answer], event: Event | None) -> None:
        """What a coroutine waits for is there. Coroutines are driven by hand: most wait once, and a Deferred around each costs more than all the rest
        of it."""
        self._shift.begin()
        try:
            try:
                if isinstance(result, Failure):
                    waiting = result.throwExceptionIntoGenerator(coroutine)
                else:
                    waiting = coroutine.send(None)
            except StopIteration as ended:
                self._running = None
                self._answered(ended.value)
                return
            self._running = waiting
            waiting.addBoth(self._resume, coroutine, event)
        except BaseException:  # noqa: BLE001
            self._running = None
            try:
                self._broke(Failure(), event)
            except Exception:  # noqa: BLE001
                self.log.failure("the pump failed")

    def _answered(self, answer: Answer) -> None:
        """An awaited answer is here."""
        if self._state is not State.ANSWERING:
            self._released()
            return
        if answer is not None:
            self._answer(answer)
        self._go_on()

    def _broke(self, failure: Failure, event: Event | None) -> None:
        if self._state is not State.LOST:
            self._failed(failure, event)
            self._go_on()
            return
        if not failure.check(CancelledError, ConnectionLost):
            self.log.failure("a session failed after its connection was lost", failure)
        self._released()

    def _go_on(self) -> None:
        """The answer is given."""
        if self._state is not State.ANSWERING:
            return
        self._state = State.RESTING
        self._touch()
        if self.engine.upgrade:
            self._start_tls()
        self._drive()

    def _failed(self, failure: Failure, event: Event | None) -> None:
        """The session raised: ours is the fault. Logged; the session may say something."""
        self.log.failure("a session failed at {event}", failure, event=type(event).__name__)
        try:
            if self._session is not None and event is not None and (answer := self._session.failed(event, failure)) is not None:
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
        if self._state in _ENDED:
            return  # whoever closed has had the last word
        data = self.engine.send(out)
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
            if self._state is not State.LOST:
                prompt.write(self.transport, data)

    def _settle(self) -> None:
        """Whatever changed: end, shutdown, reading."""
        if self._state in _ENDED:
            return
        if self.engine.closing and self._running is None:
            self.close()
        elif self._stopping and self.idle and self._state is not State.HANDSHAKE:
            self._part(self._session.goodbye() if self._session is not None else None)
        elif self.engine.buffered <= PAUSE_BYTES:
            self._read_on()
        elif not self._held:
            self._hold()

    def _hold(self) -> None:
        self._held = True
        self.transport.pauseProducing()

    def _read_on(self) -> None:
        if self._held:
            self._held = False
            self.transport.resumeProducing()

    def _part(self, answer: Answer) -> None:
        """Say the last words and close."""
        with suppress(LocalProtocolError):  # no goodbye is possible now
            if answer is not None:
                self._answer(answer)
        self.close()

    def _start_tls(self) -> None:
        self.flush()
        if self._context is None:
            self.log.error("STARTTLS was accepted without a certificate")
            self.abort()
            return
        self._state = State.HANDSHAKE
        self.transport.startTLS(self._context)

    # ---- the clock

    def _touch(self) -> None:
        """Start the deadline of the present state anew."""
        if self._state not in _ENDED:
            self._deadline.begin(self.engine.deadline)

    def _passed(self) -> None:
        """The deadline."""
        if self._full or self._state in (State.HANDSHAKE, State.CLOSING):
            self.abort()
        elif self._running is not None:
            self._touch()
        else:
            self._part(self._session.timed_out() if self._session is not None else None)


async def _awaiting(answer: Deferred[Any]) -> Answer:
    """The result of a Deferred."""
    return cast(Answer, await answer)
