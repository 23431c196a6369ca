"""The one shape of all protocol engines.

An engine is fed bytes and asked for events; answers go through it to become bytes. It does no I/O, has no clock and never
raises on anything a peer sends. Whoever drives it (``net/serving/pump``) loops ``receive`` → ``next_event`` → session → ``send``.

The rules that every engine keeps:

* ``next_event`` makes one step. It returns an ``Event``, ``NEED_DATA`` (feed more), or ``WAITING`` (the last event that
  wants an answer has none yet: nothing behind it is parsed, so pipelined answers keep their order).
* An answer is one ``Out`` that completes the pending event; an ``Out`` marked untagged/unsolicited does not.
* Mistakes of the peer are events too: ``Broken`` carries the answer that the protocol wants, the session may count and replace
  it. A fatal one is followed by ``phase`` closing as soon as it is answered.
* Mistakes of ours raise ``LocalProtocolError`` from ``send`` and leave the state as it was.
* After an answer that starts TLS, ``upgrade`` is true: the pump starts TLS and calls ``tls_started``. Plaintext that was
  buffered behind the command is a fatal violation (RFC 3207 section 5, RFC 2595 section 7 and RFC 9051 section 6.2.1 want it gone; we refuse).
* Any split of the same bytes gives the same events, apart from where ``Chunk`` boundaries lie.

What of this is the same in every server's engine is written once, in ``wire.server``.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Literal, Protocol

import msgspec


class Signal(enum.Enum):
    """What ``next_event`` returns when there is no event."""

    NEED_DATA = "need data"
    WAITING = "waiting"


NEED_DATA: Literal[Signal.NEED_DATA] = Signal.NEED_DATA
WAITING: Literal[Signal.WAITING] = Signal.WAITING

CHUNK_BYTES = 65_536
"""No ``Chunk`` is larger."""

PAUSE_BYTES = 65_536
"""The pump stops reading from the transport while an engine holds more than this."""


class LocalProtocolError(Exception):
    """Our side tried what the protocol does not allow in this phase."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something the peer did. ``answered`` tells whether parsing waits for an answer."""

    answered: ClassVar[bool] = True


class Out(msgspec.Struct, frozen=True, gc=False):
    """Something we say."""


class Chunk(Event, frozen=True, gc=False):
    """A piece of a body or literal, at most ``CHUNK_BYTES``, transparency taken off. Wants no answer on the wire; the
    pump asks for the next event only when the session took this one."""

    answered: ClassVar[bool] = False
    data: bytes


class End(Event, frozen=True, gc=False):
    """The body is complete. From here on a lost connection no longer cancels the session's work."""


class Lost(Event, frozen=True, gc=False):
    """The peer ended its side of the connection; nothing follows."""

    answered: ClassVar[bool] = False


class Broken(Event, frozen=True, gc=False):
    """The peer broke the protocol. ``suggested`` is the answer that fits; ``fatal`` ends the connection after it; ``command``: the verb, where
    one was understood."""

    reason: str
    suggested: Out
    fatal: bool = False
    command: str = ""


class TLSPeer(msgspec.Struct, frozen=True, gc=False):
    """What is known of the peer after the handshake, for trace headers and logs."""

    version: str = ""
    cipher: str = ""
    name: str = ""


Step = Event | Literal[Signal.NEED_DATA] | Literal[Signal.WAITING]


class Engine(Protocol):
    """The shape itself."""

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        ...

    @property
    def deadline(self) -> float:
        """Seconds that the present state may last; the pump keeps the clock and restarts it with each event or answer."""
        ...

    @property
    def phase(self) -> enum.Enum:
        """The state, one member of the engine's own enumeration."""
        ...

    @property
    def upgrade(self) -> bool:
        """The pump must start TLS now."""
        ...

    @property
    def closing(self) -> bool:
        """Nothing more will be said; the pump closes the connection once written bytes are gone."""
        ...

    def receive(self, data: bytes) -> None:
        """Bytes from the peer; ``b""`` means that the peer ended. Never raises on content."""
        ...

    def next_event(self) -> Step:
        """One step: an event, ``NEED_DATA`` or ``WAITING``."""
        ...

    def send(self, out: Out) -> bytes:
        """The bytes for ``out``; the only way to say anything. Raises LocalProtocolError, state unchanged."""
        ...

    def tls_started(self, peer: TLSPeer) -> None:
        """The handshake is done: state from before it is forgotten (RFC 3207 section 4.2)."""
        ...
