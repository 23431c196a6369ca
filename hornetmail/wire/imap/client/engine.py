"""The client's side of IMAP, sans-IO, in the shape of ``wire.engine`` seen from the other end: commands are Outs, what the server says are Events.

One command at a time. What a server may make us hold is bounded: a response (``reader.RESPONSE_BYTES``), and how many of them answer one command
(``UNTAGGED``). Strings that cannot be quoted go as literals, which ``Further`` continues once they are ``Wanted``; so does an APPEND's message, as ``Text``.
"""

from __future__ import annotations

from collections import deque

from hornetmail.wire.engine import CHUNK_BYTES, NEED_DATA, Chunk, Event, LocalProtocolError, Lost, Out, Step, TLSPeer
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.imap.client.lines import base64, line
from hornetmail.wire.imap.client.reader import Raw, Reader
from hornetmail.wire.imap.client.responses import Bad, Capable, Detailed, Tagged, Untagged, tagged, untagged, words
from hornetmail.wire.imap.client.state import DATA, STATES, Meeting, Phase, Stage, Turn
from hornetmail.wire.imap.requests.parse import decode_base64
from hornetmail.wire.states import Cause, Conversation

UNTAGGED = 100_000
"""No command is answered by more responses; a FETCH by as many besides as it names messages."""


class ClientEngine(Conversation[Phase]):
    """One connection to a server. ``capabilities``: what it said last, in capitals; empty until it did."""

    STATES = STATES

    def __init__(self) -> None:
        super().__init__()
        self.capabilities: frozenset[str] = frozenset()
        self.tls = False
        self.upgrade = False
        self._reader = Reader()
        self._count = 0
        self._tag = b""
        self._command: c.Command | None = None
        self._asked_at = 0
        self._parts: deque[bytes] = deque()
        self._owed = 0
        self._unasked = True
        self._heard = False
        self._left = UNTAGGED
        self._ready: deque[Event] = deque()
        self._ended = False

    @property
    def outstanding(self) -> c.Command | None:
        """The command that is not completed."""
        return self._command

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        return self._reader.buffered

    @property
    def wants(self) -> int:
        """So many bytes of the message may be sent now, as ``Text``."""
        return self._owed if self._unasked and not self._parts else 0

    def receive(self, data: bytes) -> None:
        """Bytes from the server; ``b""`` at its end."""
        if data:
            self._reader.feed(data)
        else:
            self._ended = True

    def next_event(self) -> Step:
        """One thing that the server said, ``Violation``, ``Lost``, or NEED_DATA."""
        while self.phase is not Phase.OVER or self._ready:
            if self._ready:
                return self._ready.popleft()
            found = self._reader.next()
            if found is None:
                break
            event = self._response(found) if isinstance(found, Raw) else self._part(found)
            if event is not None:
                return event
        if self._reader.fault and self.phase is not Phase.OVER:
            return self._violated(self._reader.fault)
        return Lost() if self._ended else NEED_DATA

    # ---- what the server says

    def _response(self, raw: Raw) -> Event | None:
        data = raw.data
        early = raw.start < self._asked_at
        if self.phase is Phase.GREETING:
            return self._greeted(data)
        if data.startswith(b"* "):
            self._left -= 1
            if self._left < 0:
                return self._violated("it goes on and on")
            try:
                found = untagged(data[2:], self._tag)
            except Bad as bad:
                return self._violated(f"{data[:100]!r}: {bad}")
            return self._told(found, early)
        if data.startswith(b"+"):
            return self._violated("a continuation that nobody waits for") if early else self._continued(data[1:].lstrip(b" "))
        done = tagged(data)
        if done is None:
            return self._violated(f"{data[:100]!r} is no response")
        if early or self._command is None or done.tag != self._tag:
            return self._violated(f"{data[:100]!r} completes nothing that was asked")
        return self._completed(self._command, done)

    def _greeted(self, data: bytes) -> Event:
        try:
            found = untagged(data[2:], b"") if data.startswith(b"* ") else None
        except Bad:
            found = None
        if not isinstance(found, c.Noted) or found.status in (c.Status.NO, c.Status.BAD):
            return self._violated(f"{data[:100]!r} as a greeting")
        self._capable(found.code)
        if found.status is c.Status.BYE:
            self._befell(Turn.FAREWELL)
        else:
            self._answered(None, Meeting[found.status.value])
        return c.Greeted(found.status, found.code, found.text)

    def _capable(self, code: c.Code) -> None:
        if code.word == "CAPABILITY":
            self.capabilities, self._heard = words(code.rest), True

    def _told(self, found: Untagged | None, early: bool) -> Event | None:
        if isinstance(found, Capable):
            self.capabilities, self._heard = found.words, True
        elif isinstance(found, c.Noted):
            self._capable(found.code)
            if found.status is c.Status.PREAUTH:
                return self._violated("PREAUTH behind the greeting")
            if found.status is c.Status.BYE:
                if isinstance(self._command, c.Logout):
                    return None
                self._befell(Turn.FAREWELL)
                return c.Farewell(found.code, found.text)
            return found
        elif isinstance(found, (c.Exists, c.Expunged)):
            return found
        elif found is not None and not early:
            return self._data(found)
        return None

    def _data(self, found: Untagged) -> Event | None:
        """What counts only for who asked."""
        asked = DATA.get(type(self._command), ()) if self._command is not None else ()
        if not isinstance(found, Detailed):
            return found if isinstance(found, asked) and isinstance(found, Event) else None
        if c.Fetched not in asked:
            return None
        for section, data in found.inline:
            self._ready.append(c.Part(found.fetched.number, section, len(data)))
            self._ready += [Chunk(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
            self._ready.append(c.PartEnd())
        self._ready.append(found.fetched)
        return self._ready.popleft()

    def _part(self, found: Event) -> Event:
        if isinstance(found, c.Part) and not isinstance(self._command, c.UidFetch):
            return self._violated("a part of a message that nobody asked for")
        return found

    def _continued(self, rest: bytes) -> Event:
        if isinstance(self._command, c.Authenticate):
            challenge = b"" if not rest.strip() else decode_base64(rest.rstrip())
            if challenge is None:
                return self._violated("a challenge that is no base64")
            return c.Wanted(challenge)
        if self._parts:
            return c.Wanted()
        if self._owed and not self._unasked:
            self._unasked = True
            return c.Wanted()
        return self._violated("a continuation that nobody waits for")

    def _completed(self, command: c.Command, done: Tagged) -> Event:
        granted = done.status is c.Status.OK
        unsaid = bool(self._parts or self._owed)
        if unsaid and granted:
            return self._violated(f"OK to a {type(command).__name__.upper()} of which it does not have the whole")
        if isinstance(command, c.StartTLS) and granted and self._reader.buffered:
            return self._violated("plaintext behind the answer to STARTTLS")
        self._capable(done.code)
        amid = bool(self._owed) and self._unasked
        self._command, self._owed, self._unasked = None, 0, True
        self._parts.clear()
        if amid:
            self._befell(Turn.INTERRUPTED)
        else:
            self._answered(type(command), Stage.GRANTED if granted else Stage.REFUSED)
        self.upgrade = self.phase is Phase.TLS
        if granted and isinstance(command, (c.Login, c.Authenticate)) and not self._heard:
            self.capabilities = frozenset()  # what there is for whom is logged in was not told (RFC 3501 section 6.2.3)
        return c.Completed(command, done.status, done.code, done.text)

    def _violated(self, reason: str) -> c.Violation:
        self._befell(Turn.VIOLATED)
        self._ready.clear()
        return c.Violation(reason)

    # ---- what we say

    def send(self, out: Out) -> bytes:
        """The bytes of a command, of its next part, or of text. Raises LocalProtocolError, state unchanged."""
        if self.phase is Phase.OVER:
            raise LocalProtocolError("the conversation is over")
        match out:
            case c.Text(data=data):
                return self._text(data)
            case c.Further():
                if not self._parts:
                    raise LocalProtocolError("the command is whole")
                return self._parts.popleft() + (b"" if self._parts or self._owed else b"\r\n")
            case c.Response(data=data):
                if not isinstance(self._command, c.Authenticate):
                    raise LocalProtocolError("there is no challenge")
                return b"*\r\n" if data is None else base64(data) + b"\r\n"
            case c.Command():
                return self._said(out)
        raise LocalProtocolError(f"{type(out).__name__} is no command")

    def _said(self, out: c.Command) -> bytes:
        self._leads(type(out), Stage.SENT)
        if self._command is not None:
            raise LocalProtocolError(f"{type(out).__name__} while a command is outstanding")
        tag = b"h%d" % (self._count + 1)
        parts = line(out, tag, self.capabilities).parts
        owed, unasked = 0, True
        if isinstance(out, c.Append):
            if out.size < 1:
                raise LocalProtocolError("there is no message")
            owed, unasked = out.size, parts[-1] != b""
            if not unasked:
                parts.pop()  # the message itself, which comes as text
        elif len(parts) == 1:
            parts[0] += b"\r\n"
        self._count += 1
        self._tag = tag
        self._command = out
        self._heard = False
        self._asked_at = self._reader.received
        self._parts = deque(parts[1:])
        self._owed, self._unasked = owed, unasked
        self._left = UNTAGGED
        if isinstance(out, c.UidFetch):
            self._left += sum(min(high - low + 1, 1 << 32) for low, high in out.uids)
            self._reader.largest = out.largest
        self._answered(type(out), Stage.SENT)
        return parts[0]

    def _text(self, data: bytes) -> bytes:
        if not isinstance(self._command, c.Append) or not self._unasked or self._parts:
            raise LocalProtocolError("text that nobody waits for")
        if len(data) > self._owed:
            raise LocalProtocolError("more text than was announced")
        if b"\0" in data and not self._command.binary:
            raise LocalProtocolError("text with NUL in a literal")
        self._owed -= len(data)
        return data if self._owed else data + b"\r\n"

    def tls_started(self, peer: TLSPeer) -> None:
        """The handshake is done: what the server said before is forgotten (RFC 3501 section 6.2.1)."""
        self.tls = True
        self.upgrade = False
        self.capabilities = frozenset()
        self._reader = Reader()
        self._befell(Cause.TLS)
