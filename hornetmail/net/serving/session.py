"""What a session is to the pump, and what it may do to its connection.

What a session is (inherit from ``Session`` for defaults):

* ``attach(wire)``: the connection is up (with TLS from the start: after the handshake). What it returns is sent like an answer: the
  greeting. Sending it with ``wire.send`` is as good.
* ``on(event)`` returns ``Out``, a sequence of them, ``None``, or an awaitable of these. ``None`` for an event that wants no
  answer (``Chunk``), or when the answer is given later with ``wire.send``. Immediate answers cost no Deferred. While an
  awaitable is open no further event is parsed.
* ``failed(event, failure)``: ``on`` raised; what the protocol says then (451, NO, -ERR), or ``None`` to close.
* ``lost(reason)``: the connection is gone. Called once, after the open coroutine was cancelled. After ``End`` that coroutine
  is *not* cancelled: it runs to its end, and its answer is dropped.
* ``timed_out()``: the peer let the engine's ``deadline`` pass; the goodbye, or ``None``. The connection closes after it.
* ``goodbye()``: we are going down; 421, ``* BYE``, ``-ERR`` or ``None``. The connection closes after it.
* ``busy()``: a transaction is under way that deserves to finish before a shutdown says goodbye.

What a session has is the ``Wire``: ``send``, ``drained``, ``breathe``, ``peer``, ``tls``, ``close``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from twisted.python.failure import Failure

from hornetmail.wire.engine import Event, Out, TLSPeer

Answer = Out | Sequence[Out] | None
Result = Answer | Awaitable[Answer]


class Wire(Protocol):
    """What a session may do to its connection."""

    peer: tuple[str, int]
    """IP address and port of the client."""

    tls: TLSPeer | None
    """Set once TLS is up."""

    def binding(self, kind: str) -> bytes | None:
        """What the TLS channel is known by on both of its ends, by one of ``wire.sasl.BINDINGS``; None if that kind says nothing of it."""
        ...

    def send(self, out: Out) -> None:
        """Say something that answers no event (untagged responses, late answers). Dropped when the connection is gone."""
        ...

    def remark(self, out: Out) -> None:
        """The same, for what tells no news: the peer's deadline runs on."""
        ...

    def drained(self) -> Awaitable[None]:
        """Fires when the peer took enough of what was sent that more may come. Await it between large pieces."""
        ...

    def breathe(self) -> Awaitable[None] | None:
        """Between two steps of long work: None while this connection's slice of the reactor's turn lasts (``net.rota``), else what fires in the next one, so that nobody
        waits for this connection. ``if turn := wire.breathe(): await turn``."""
        ...

    def close(self) -> None:
        """Close once all that was sent is gone."""
        ...


class Session:
    """The server's side of a conversation, with defaults for everything but ``on``."""

    wire: Wire

    def attach(self, wire: Wire) -> Result:
        """Keeps the wire; subclasses return the greeting."""
        self.wire = wire
        return None

    def on(self, event: Event) -> Result:
        """The answer to an event."""
        raise NotImplementedError

    def failed(self, event: Event, failure: Failure) -> Answer:
        """What to say when ``on`` raised; ``None`` closes the connection."""
        return None

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""

    def timed_out(self) -> Answer:
        """The goodbye to a silent peer."""
        return None

    def goodbye(self) -> Answer:
        """The goodbye when we shut down."""
        return None

    def busy(self) -> bool:
        """Whether a shutdown should wait for the present transaction."""
        return False
