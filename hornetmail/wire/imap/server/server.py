"""The IMAP4rev1 server engine, sans-IO (RFC 3501; IDLE, UIDPLUS, MOVE, LITERAL+, SASL-IR, ENABLE and their kin in ``commands``).

A command is gathered whole, its literals in place, then parsed at once. The exception is the message of an APPEND or REPLACE: the command
is an event when its head is complete, its message follows as ``Chunk`` … ``End``, or ``Chunk`` … ``Further`` and so on (RFC 3502). Every other synchronising literal is the event
``LiteralWanted``; the session answers it with a ``Continuation``. Its states are in ``state``.
"""

from __future__ import annotations

import enum
import re

import msgspec

from hornetmail.wire.engine import (
    CHUNK_BYTES,
    NEED_DATA,
    Broken,
    Chunk,
    End,
    Event,
    LocalProtocolError,
    Out,
    Step,
    TLSPeer,
)
from hornetmail.wire.imap.answers.answers import Bye, Continuation, Greeting, Tagged, Untagged
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.imap.requests.parse import (
    WRAPPING,
    Literal,
    decode_base64,
    parse_append,
    parse_command,
    parse_further,
    parse_head,
    readable_tag,
)
from hornetmail.wire.imap.server.deflate import Deflate, NotDeflate
from hornetmail.wire.imap.server.state import STATES, Phase
from hornetmail.wire.imap.tokens.grammar import Bad
from hornetmail.wire.server import ServerSide
from hornetmail.wire.states import Cause


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """How much of what is taken, in bytes and seconds. ``stranger`` ones hold before log-in; the longest legal thing there is an ID of thirty pairs,
    30 and 1,024 bytes each (RFC 2971 section 3.3). ``literals``: of one command. ``discard``: a message literal that was
    refused but comes all the same (LITERAL+) is skipped up to this size; above it the connection ends."""

    line: int = 65_536
    literal: int = 65_536
    literals: int = 2_000
    command: int = 262_144
    stranger_line: int = 36_864
    stranger_literal: int = 4_096
    stranger_command: int = 36_864
    discard: int = 64 << 20
    stranger_seconds: float = 180.0
    seconds: float = 1800.0
    message_seconds: float = 300.0


class _Mode(enum.Enum):
    COMMAND = "command"
    LITERAL = "literal"
    MESSAGE = "message"
    AFTER_MESSAGE = "after message"
    DISCARD = "discard"
    EXCHANGE = "exchange"
    IDLE = "idle"


_MARKER = re.compile(rb"(?P<binary>~?)\{(?P<size>[0-9]{1,20})(?P<goes>\+?)\}\Z")
_MARKER_BYTES = 25
_CLEAN = re.compile(r"[\x00-\x1f\x7f]")


_WITH_MESSAGE = frozenset({"APPEND", "REPLACE", "UID REPLACE"})
_UTF8 = frozenset({"UTF8=ACCEPT", "IMAP4REV2"})
"""What makes UTF-8 of mailbox names once it is enabled (RFC 6855 section 3, RFC 9051 section 5.1)."""


class ImapServerEngine(ServerSide[Phase]):
    """See ``wire/engine.py``. ``tls``: the connection is encrypted from its start."""

    STATES = STATES
    INJECTED = Broken("plaintext behind STARTTLS", Bye("Plaintext behind STARTTLS"), fatal=True)

    def __init__(self, *, tls: bool = False, bounds: Bounds = Bounds()) -> None:
        super().__init__()
        self.tls = tls
        self._bounds = bounds
        self._mode = _Mode.COMMAND
        self._buffer = bytearray()
        self._scanned = 0
        self._command = bytearray()
        self._literals = 0
        self._word = ""
        self._left = 0
        self._tag = b"*"
        self._utf8 = False
        self._deflate: Deflate | None = None
        self._append = Literal(0)
        self._replaces = False

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        return len(self._buffer) + (0 if self._deflate is None else self._deflate.waiting)

    @property
    def deadline(self) -> float:
        """RFC 3501 section 5.4: at least 30 minutes once logged in; IDLE is no exception."""
        if self.phase in (Phase.GREETING, Phase.NOT_AUTHENTICATED):
            return self._bounds.stranger_seconds
        return self._bounds.message_seconds if self._mode is _Mode.MESSAGE else self._bounds.seconds

    @property
    def idling(self) -> bool:
        """IDLE is under way."""
        return self._mode is _Mode.IDLE

    def receive(self, data: bytes) -> None:
        """Bytes from the peer, or ``b""`` at its end."""
        if not data:
            self._ended = True
        elif self._deflate is not None:
            self._deflate.receive(data)
        elif self.phase is not Phase.CLOSED:
            self._buffer += data

    def tls_started(self, peer: TLSPeer) -> None:
        """RFC 3501 section 6.2.1: what was known before is forgotten."""
        self.tls = True
        self.upgrade = False
        self._forget()

    # ---- in

    def _step(self) -> Step:
        while True:
            step = self._next()
            if step is not NEED_DATA or self._deflate is None:
                return step
            try:
                more = self._deflate.more()
            except NotDeflate:
                return self._fatal("what came is not compressed as was agreed")
            if not more:
                return NEED_DATA
            self._buffer += more
            if self._mode is _Mode.DISCARD:
                return c.Passed()

    def _next(self) -> Step:
        while True:
            step = self._once()
            if step is not None:
                return step

    def _once(self) -> Step | None:
        """The next step; None when a literal was announced that comes unasked: what there is of it may be here already."""
        mode = self._mode
        if mode is _Mode.COMMAND:
            return self._gather()
        if mode is _Mode.MESSAGE:
            return self._message()
        if mode is _Mode.LITERAL:
            if len(self._buffer) < self._left:
                return NEED_DATA
            self._command += self._take(self._left)
            self._mode = _Mode.COMMAND
            return self._gather()
        if mode is _Mode.DISCARD:
            return self._discard()
        line = self._line()
        if not isinstance(line, bytes):
            return line
        if mode is _Mode.EXCHANGE:
            return self._exchange(line)
        self._mode = _Mode.COMMAND
        if mode is _Mode.AFTER_MESSAGE:
            return self._after_message(line)
        if line.upper() == b"DONE":
            return c.Done()
        return self._broken("DONE expected", line)

    def _forget(self) -> None:
        self._buffer.clear()
        self._scanned = 0
        if self._deflate is not None:
            self._deflate.forget()

    def _take(self, count: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        self._scanned = 0
        return data

    def _line(self) -> Step | bytes:
        """The next line without its CRLF."""
        limit = self._bounds.stranger_line if self.phase is Phase.NOT_AUTHENTICATED else self._bounds.line
        end = self._buffer.find(b"\n", self._scanned)
        if end > limit or (end < 0 and len(self._buffer) > limit):
            return self._fatal("a line is too long")
        if end < 0:
            self._scanned = len(self._buffer)
            return NEED_DATA
        line = self._take(end + 1)
        if line[-2:-1] != b"\r":
            self._tag = readable_tag(bytes(self._command) + line[:-1]) if self._mode is _Mode.COMMAND else self._tag
            self._starts_anew()
            self._mode = _Mode.COMMAND
            return Broken("a line ends in a bare LF", Tagged("BAD", "A line ends in a bare LF"))
        return line[:-2]

    def _gather(self) -> Step | None:
        line = self._line()
        if not isinstance(line, bytes):
            return line
        marker = _MARKER.search(line, max(0, len(line) - _MARKER_BYTES)) if line.endswith(b"}") else None
        if marker is not None:
            return self._literal(line, marker)
        data = line
        if self._command:
            data = bytes(self._command + line)
            self._command.clear()
        self._literals = 0
        try:
            command = parse_command(data, utf8=self._utf8)
        except Bad as why:
            return self._refuse(data, str(why))
        self._tag = command.tag
        return self._admit(command)

    def _refuse(self, data: bytes, why: str) -> Broken:
        self._tag = readable_tag(data)
        return Broken(why, Tagged("BAD", _sentence(why)))

    def _admit(self, command: c.Command) -> Event:
        if not self._understood(type(command)):
            why = f"not possible while {self.phase.value}"
            return Broken(why, Tagged("BAD", _sentence(why)))
        if isinstance(command, c.Starttls):
            if self.tls:
                return Broken("TLS twice", Tagged("BAD", "TLS is active already"))
            if self._buffer:
                return self._injected()
        return command

    def _announced(self, line: bytes, marker: re.Match[bytes]) -> Literal:
        """The literal that ``marker`` announces."""
        binary = bool(marker["binary"])
        wrapped = binary and self._utf8 and line[: marker.start()].upper().endswith(b" " + WRAPPING)
        return Literal(int(marker["size"]), not marker["goes"], binary, self._utf8, wrapped)

    def _literal(self, line: bytes, marker: re.Match[bytes]) -> Step | None:
        """A literal announced at the end of ``line``; None if it comes unasked."""
        literal = self._announced(line, marker)
        size, waits = literal.size, literal.waits
        so_far = len(self._command) + marker.start()
        try:
            if not self._literals:
                self._tag, self._word, _ = parse_head(line[: marker.start()])
            append = None
            if self._word in _WITH_MESSAGE:
                append = parse_append(bytes(self._command) + line[: marker.start()], literal)
            if literal.binary and append is None and self._word != "SETMETADATA":
                raise Bad("a literal8 is for messages and annotations only", so_far)
        except Bad as why:
            return self._skip(self._refuse(bytes(self._command) + line, str(why)), size, waits)
        if append is not None:
            event = self._admit(append)
            if isinstance(event, Broken):
                return self._skip(event, size, waits)
            self._starts_anew()
            self._append = literal
            self._replaces = isinstance(append, c.Replace)
            return event
        stranger = self.phase is Phase.NOT_AUTHENTICATED
        if size > (self._bounds.stranger_literal if stranger else self._bounds.literal):
            return self._skip(Broken("a literal is too long", Tagged("BAD", "A literal is too long", "TOOBIG")), size, waits)
        if so_far + size > (self._bounds.stranger_command if stranger else self._bounds.command):
            return self._skip(Broken("the command is too long", Tagged("BAD", "The command is too long", "TOOBIG")), size, waits)
        self._literals += 1
        if self._literals > self._bounds.literals:
            return self._skip(Broken("too many literals", Tagged("BAD", "Too many literals", "TOOBIG")), size, waits)
        self._command += line + b"\r\n"
        self._left = size
        self._mode = _Mode.LITERAL
        return c.LiteralWanted(size) if waits else None

    def _starts_anew(self) -> None:
        """The next line is a command's first."""
        self._command.clear()
        self._literals = 0

    def _after_message(self, line: bytes) -> Step:
        """Behind a message the command ends, or another message follows."""
        if self._append.wrapped:
            if not line.startswith(b")"):
                return self._broken("a parenthesis expected behind the message", line)
            line = line[1:]
        if not line:
            return End()
        marker = _MARKER.search(line, max(0, len(line) - _MARKER_BYTES)) if line.endswith(b"}") else None
        if marker is None or self._replaces:
            return self._broken("the command should end behind its message", line)
        literal = self._announced(line, marker)
        try:
            further = parse_further(line[: marker.start()], literal)
        except Bad as why:
            return self._skip(Broken(str(why), Tagged("BAD", _sentence(str(why)))), literal.size, literal.waits)
        self._append = literal
        return further

    def _skip(self, broken: Broken, size: int, waits: bool) -> Broken:
        """The command is refused at its literal; one that does not wait comes all the same."""
        self._starts_anew()
        if waits:
            return broken
        if size > self._bounds.discard:
            return self._fatal("a literal is far too long")
        self._left = size
        self._mode = _Mode.DISCARD
        return broken

    def _discard(self) -> Step | None:
        """Pass over literals of a refused command, and the lines between them, up to its end."""
        while True:
            dropped = min(self._left, len(self._buffer))
            if dropped:
                del self._buffer[:dropped]
                self._left -= dropped
                self._scanned = 0
            if self._left:
                return NEED_DATA
            line = self._line()
            if not isinstance(line, bytes):
                return line
            marker = _MARKER.search(line, max(0, len(line) - _MARKER_BYTES)) if line.endswith(b"+}") else None
            if marker is None:
                self._mode = _Mode.COMMAND
                return self._gather()
            self._left = int(marker["size"])
            if self._left > self._bounds.discard:
                return self._fatal("a literal is far too long")

    def _message(self) -> Step | None:
        """The next piece of a message; None behind its last one."""
        if self._left:
            if not self._buffer:
                return NEED_DATA
            data = self._take(min(self._left, len(self._buffer), CHUNK_BYTES))
            self._left -= len(data)
            return Chunk(data)
        self._mode = _Mode.AFTER_MESSAGE
        return None

    def _exchange(self, line: bytes) -> Step:
        if line == b"*":
            return c.Response(None)
        data = decode_base64(line)
        if data is None:
            return self._broken("base64 expected", line)
        return c.Response(data)

    def _broken(self, why: str, line: bytes) -> Broken:
        """A wrong line inside a command; that command is answered. What a literal at its end brings is passed over."""
        broken = Broken(why, Tagged("BAD", _sentence(why)))
        self._mode = _Mode.COMMAND
        marker = _MARKER.search(line, max(0, len(line) - _MARKER_BYTES)) if line.endswith(b"+}") else None
        return broken if marker is None else self._skip(broken, int(marker["size"]), False)

    def _fatal(self, why: str) -> Broken:
        self._starts_anew()
        self._forget()
        self._mode = _Mode.COMMAND
        return Broken(why, Bye(_sentence(why)), fatal=True)

    # ---- out

    def send(self, out: Out) -> bytes:
        """The bytes for ``out``. Raises LocalProtocolError."""
        begins = isinstance(self._pending, c.Compress) and isinstance(out, Tagged) and out.status == "OK"
        data = self._said(out)
        if self._deflate is not None:
            return self._deflate.said(data) if data else data
        if begins:
            self._deflate = Deflate()
            self._deflate.receive(bytes(self._buffer))
            self._buffer.clear()
            self._scanned = 0
        return data

    def _said(self, out: Out) -> bytes:
        if isinstance(out, Untagged):
            if self.phase in (Phase.GREETING, Phase.CLOSED):
                raise LocalProtocolError(f"nothing can be said in phase {self.phase.value}")
            return out.data
        if isinstance(out, Tagged):
            return self._completion(out)
        if isinstance(out, Continuation):
            return self._continuation(out)
        if isinstance(out, Greeting):
            self._answered(None, Greeting)
            return b"* OK " + _text(out.code, out.text)
        if isinstance(out, Bye):
            if self.phase is Phase.CLOSED:
                raise LocalProtocolError("closed already")
            self._close()
            return b"* BYE " + _text(out.code, out.text)
        raise LocalProtocolError(f"{type(out).__name__} is not spoken here")

    def _close(self) -> None:
        self._befell(Cause.FAREWELL)
        self._pending = None
        self._forget()

    def _completion(self, out: Tagged) -> bytes:
        pending = self._pending
        if pending is None or isinstance(pending, c.LiteralWanted):
            raise LocalProtocolError("no command waits for its completion")
        if isinstance(pending, Broken) and pending.fatal:
            raise LocalProtocolError("only BYE answers this")
        if not isinstance(pending, Broken):
            self._leads(type(pending), out.status)
        if isinstance(pending, c.Starttls) and out.status == "OK":
            if self._buffer:
                return self._said(self._injected().suggested)
            self.upgrade = True
        if isinstance(pending, (c.Append, c.Further)):
            size, waits = self._append.size, self._append.waits
            if not waits and size > self._bounds.discard:
                self._close()
                return b"* BYE The message is far too long\r\n"
            if not waits:
                self._mode, self._left = _Mode.DISCARD, size
        elif self._mode is _Mode.EXCHANGE:
            self._mode = _Mode.COMMAND
        self._pending = None
        if isinstance(pending, c.Enable) and out.status == "OK":
            self._utf8 = self._utf8 or not _UTF8.isdisjoint(pending.capabilities)
        if not isinstance(pending, Broken):
            self._answered(type(pending), out.status)
        tag, self._tag = self._tag, b"*"
        return b"%b%b %b %b" % (out.data, tag, out.status.encode("ascii"), _text(out.code, out.text))

    def _continuation(self, out: Continuation) -> bytes:
        pending = self._pending
        if pending is None:
            raise LocalProtocolError("nothing waits for a continuation")
        self._leads(type(pending), Continuation)
        if isinstance(pending, (c.Append, c.Further)):
            self._left = self._append.size
            self._mode = _Mode.MESSAGE
            self._pending = None
            return b"+ Ready\r\n" if self._append.waits else b""
        if isinstance(pending, c.Idle):
            self._mode = _Mode.IDLE
        elif not isinstance(pending, c.LiteralWanted):
            self._mode = _Mode.EXCHANGE
        self._pending = None
        return f"+ {_CLEAN.sub(' ', out.text)}\r\n".encode("utf-8", "replace")


def _sentence(why: str) -> str:
    return why[:1].upper() + why[1:]


def _text(code: str, text: str) -> bytes:
    """``resp-text`` and the end of its line."""
    line = f"[{_CLEAN.sub(' ', code)}] {text}" if code else text
    return (_CLEAN.sub(" ", line) if _CLEAN.search(line) else line).encode("utf-8", "replace") + b"\r\n"
