"""What the server engines have in common: the frame around their steps, and lines as commands.

``ServerSide`` keeps the rules of ``wire.engine`` that do not depend on the protocol: who waits for whom, the end, and plaintext behind STARTTLS.
``LineServer`` adds what SMTP, LMTP and POP3 share beyond that: commands of one line, and answers that go by the protocol's table (``wire.states``).
"""

from __future__ import annotations

import enum

from hornetmail.wire.engine import NEED_DATA, WAITING, Broken, Event, LocalProtocolError, Lost, Out, Step, TLSPeer
from hornetmail.wire.states import Cause, Conversation, P

ENDLESS_BYTES = 65_536
"""A line beyond this ends the connection."""


class ServerSide(Conversation[P]):
    """One connection, from greeting to end. An engine names its states and says what one step is."""

    INJECTED: Broken
    """What plaintext behind STARTTLS is met with; fatal."""

    def __init__(self) -> None:
        super().__init__()
        self.upgrade = False
        self.tls = False
        self._pending: Event | None = None
        self._ended = False

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        raise NotImplementedError

    def next_event(self) -> Step:
        """One step: an event, ``NEED_DATA`` or ``WAITING``."""
        if self._pending is not None or self.phase is self.STATES.begin:
            return WAITING
        if self.phase is self.STATES.over:
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
    """A protocol whose commands are lines. ``FAREWELL`` may be said wherever the exceptions have ``Cause.FAREWELL``; what meets ``Broken`` the
    engine says in ``_to_broken``."""

    TLS: P
    """The phase in which a handshake is under way."""
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
        elif self.closing:
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
        self._befell(Cause.TLS)

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
        pending = self._pending
        if self.closing:
            raise LocalProtocolError("the conversation is over")
        if isinstance(out, self.FAREWELL):
            if not self._possible(Cause.FAREWELL):
                raise LocalProtocolError(f"no goodbye in phase {self.phase.value}")
            data = self._render(pending, out)
            self._pending = None
            self._befell(Cause.FAREWELL)
            return data
        if isinstance(pending, Broken):
            return self._to_broken(pending, out)
        if pending is None and self.phase is not self.STATES.begin:
            raise LocalProtocolError(f"nothing waits for {type(out).__name__} in phase {self.phase.value}")
        target = self._leads(None if pending is None else type(pending), type(out))
        if target is self.TLS and self.buffered:
            broken = self._injected()
            return self._to_broken(broken, broken.suggested)
        data = self._render(pending, out)
        self._pending = None
        cause = self._instead(pending, out)
        if cause is None:
            self._answered(None if pending is None else type(pending), type(out))
            self.upgrade = target is self.TLS
        else:
            self._befell(cause)
        self._moved(pending, out)
        return data

    def _render(self, pending: Event | None, out: Out) -> bytes:
        """An answer as bytes. Raises LocalProtocolError for one that is wrong in itself."""
        raise NotImplementedError

    def _instead(self, pending: Event | None, out: Out) -> enum.Enum | None:
        """What makes this answer lead elsewhere than the table says; None, mostly."""
        return None

    def _moved(self, pending: Event | None, out: Out) -> None:
        """What an answer changes besides the phase."""
        raise NotImplementedError

    def _to_broken(self, broken: Broken, out: Out) -> bytes:
        """The bytes of what meets a ``Broken``, and where it leads. Raises LocalProtocolError, state unchanged."""
        raise NotImplementedError
