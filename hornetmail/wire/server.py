"""What the server engines have in common: the frame around their steps, and lines as commands.

``ServerSide`` keeps the rules of ``wire.engine`` that do not depend on the protocol: who waits for whom, the end, and plaintext behind STARTTLS.
``LineServer`` adds what SMTP, LMTP and POP3 share beyond that: commands of one line, and a table that says which answer meets which event
in which phase. The table itself stands with its protocol.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Generic, TypeVar

from hornetmail.wire.engine import NEED_DATA, WAITING, Broken, Event, LocalProtocolError, Lost, Out, Step, TLSPeer

P = TypeVar("P", bound=enum.Enum)

Table = tuple[tuple[tuple[P, ...], type[Event] | None, dict[type[Out], P | None]], ...]
"""A state machine to be read: in these phases, this event (None: the connection itself) may be met by these answers, each leading to
that phase (None: it stays)."""

Moves = Mapping[tuple[P, type[Event] | None], Mapping[type[Out], P | None]]
"""The same, to be looked up."""

ENDLESS_BYTES = 65_536
"""A line beyond this ends the connection."""


def moves_of(table: Table[P]) -> Moves[P]:
    """The table by phase and event."""
    return {(phase, event): outs for phases, event, outs in table for phase in phases}


class ServerSide(Generic[P]):
    """One connection, from greeting to end. An engine names its phases and says what one step is."""

    GREETING: P
    CLOSING: P
    INJECTED: Broken
    """What plaintext behind STARTTLS is met with; fatal."""

    def __init__(self) -> None:
        self.phase = self.GREETING
        self.upgrade = False
        self.tls = False
        self._pending: Event | None = None
        self._ended = False

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        raise NotImplementedError

    @property
    def closing(self) -> bool:
        """Nothing more will be said."""
        return self.phase is self.CLOSING

    def next_event(self) -> Step:
        """One step: an event, ``NEED_DATA`` or ``WAITING``."""
        if self._pending is not None or self.phase is self.GREETING:
            return WAITING
        if self.phase is self.CLOSING:
            self._forget()
            step: Step = NEED_DATA
        elif self.upgrade:
            step = self._injected() if self.buffered else NEED_DATA
        else:
            step = self._step()
        if isinstance(step, Event):
            if step.answered:
                self._pending = step
            return step
        return Lost() if self._ended else step

    def _step(self) -> Step:
        """The next event of what is buffered, or ``NEED_DATA``."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Drop what is buffered."""
        raise NotImplementedError

    def _injected(self) -> Broken:
        """Plaintext behind STARTTLS: dropped, and fatal."""
        self._forget()
        return self.INJECTED


class LineServer(ServerSide[P]):
    """A protocol whose commands are lines, its state machine a table. ``FAREWELL`` is allowed in every phase, unless the engine's ``_render``
    refuses it, and leads to ``CLOSING``; what meets ``Broken`` the engine says in ``_to_broken``."""

    TLS: P
    MOVES: Moves[P]
    FAREWELL: type[Out]
    ENDLESS: Broken
    """What a line without end is met with; fatal."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = b""
        self._at = 0
        self._skipped = 0

    # ---- in

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        return len(self._buffer) - self._at

    def receive(self, data: bytes) -> None:
        """Bytes from the peer, or ``b""`` at its end."""
        if not data:
            self._ended = True
        elif self.phase is self.CLOSING:
            pass
        elif self._at == len(self._buffer):
            self._buffer, self._at = data, 0
        else:
            self._buffer, self._at = self._buffer[self._at :] + data, 0

    def tls_started(self, peer: TLSPeer) -> None:
        """What was said before is forgotten (RFC 3207 section 4.2, RFC 2595 section 4)."""
        self.tls = True
        self.upgrade = False
        self._forget()
        self._pending = None

    def _line(self, longest: int, long: Broken) -> bytes | Broken | None:
        """The next line without its LF; None if it is not complete. In place of one of more than ``longest`` bytes comes ``long``; of such a
        line only the length is kept, and beyond ``ENDLESS_BYTES`` not even that."""
        buffer, start = self._buffer, self._at
        end = buffer.find(b"\n", start)
        size = (end if end >= 0 else len(buffer)) - start + self._skipped
        if size > ENDLESS_BYTES:
            self._forget()
            return self.ENDLESS
        if end < 0:
            if size > longest:
                self._forget()
                self._skipped = size
            return None
        self._at = end + 1
        self._skipped = 0
        return buffer[start:end] if size <= longest else long

    def _forget(self) -> None:
        self._buffer, self._at, self._skipped = b"", 0, 0

    # ---- out

    def send(self, out: Out) -> bytes:
        """The bytes for ``out``. Raises LocalProtocolError, state unchanged, for what the table does not allow."""
        phase, pending = self.phase, self._pending
        if phase is self.CLOSING:
            raise LocalProtocolError("the conversation is over")
        if isinstance(out, self.FAREWELL):
            data = self._render(pending, out)
            self._pending = None
            self.phase = self.CLOSING
            return data
        if pending is None and phase is not self.GREETING:
            raise LocalProtocolError(f"nothing waits for {type(out).__name__} in phase {phase.value}")
        if isinstance(pending, Broken):
            return self._to_broken(pending, out)
        moves = self.MOVES.get((phase, None if pending is None else type(pending)), {})
        if type(out) not in moves:
            raise LocalProtocolError(f"{type(out).__name__} does not answer {type(pending).__name__} in phase {phase.value}")
        return self._move(pending, out, moves[type(out)])

    def _move(self, pending: Event | None, out: Out, target: P | None) -> bytes:
        if target is self.TLS and self.buffered:
            broken = self._injected()
            return self._to_broken(broken, broken.suggested)
        data = self._render(pending, out)
        self._pending = None
        if target is not None:
            self.phase = target
            self.upgrade = target is self.TLS
        self._moved(pending, out)
        return data

    def _render(self, pending: Event | None, out: Out) -> bytes:
        """An answer as bytes. Raises LocalProtocolError for one that is wrong in itself."""
        raise NotImplementedError

    def _moved(self, pending: Event | None, out: Out) -> None:
        """What an answer changes besides the phase."""
        raise NotImplementedError

    def _to_broken(self, broken: Broken, out: Out) -> bytes:
        """The bytes of what meets a ``Broken``, and where it leads. Raises LocalProtocolError, state unchanged."""
        raise NotImplementedError
