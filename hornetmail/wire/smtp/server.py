"""The server's side of SMTP (RFC 5321) and LMTP (RFC 2033), sans-IO.

With PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531), ENHANCEDSTATUSCODES (2034), STARTTLS (3207), AUTH (4954), DSN (3461).
Its states are in ``state``: commands that do not fit the phase never reach the session as themselves but as ``Broken``.
"""

from __future__ import annotations

import base64
import enum

import msgspec

from hornetmail.core.mail.reply import Reply
from hornetmail.wire.engine import (
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
from hornetmail.wire.server import LineServer
from hornetmail.wire.smtp import grammar
from hornetmail.wire.smtp.data import Unstuffer
from hornetmail.wire.smtp.events import (
    Accept,
    Auth,
    AuthResponse,
    Challenge,
    Data,
    Expand,
    Farewell,
    GoAhead,
    Greeting,
    Hello,
    Help,
    Mail,
    Noop,
    PerRecipient,
    Quit,
    Rcpt,
    Refuse,
    Reset,
    StartTLS,
    Verify,
    Welcome,
)
from hornetmail.wire.smtp.state import STATES, Phase, Turn
from hornetmail.wire.states import Cause

COMMAND_BYTES = 2_048
"""Longest command line. RFC 5321 has 512; MAIL and RCPT grow by the allowances of SIZE, 8BITMIME, SMTPUTF8, AUTH and DSN."""

AUTH_BYTES = 12_288
"""Longest line of an AUTH exchange (RFC 4954 section 4)."""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """What the engine offers and bears.

    ``auth``: mechanisms, offered over TLS only unless ``auth_plaintext``. ``bare``: ``"refuse"`` or ``"normalise"``. ``max_size`` bytes
    of text. ``max_text_line``: longer lines in DATA refuse the message. ``idle`` and ``data``: seconds to wait for a command and for
    text (RFC 5321 section 4.5.3.2.7: 5 minutes).
    """

    hostname: str = "localhost"
    software: str = "HornetMail"
    lmtp: bool = False
    starttls: bool = False
    auth: tuple[str, ...] = ()
    auth_plaintext: bool = False
    smtputf8: bool = True
    dsn: bool = True
    max_size: int = 52_428_800
    bare: str = "refuse"
    max_text_line: int = 1_048_576
    idle: float = 300.0
    data: float = 300.0


_VERBS: dict[str, type[Event]] = {
    "HELO": Hello,
    "EHLO": Hello,
    "LHLO": Hello,
    "STARTTLS": StartTLS,
    "AUTH": Auth,
    "MAIL": Mail,
    "RCPT": Rcpt,
    "DATA": Data,
    "RSET": Reset,
    "NOOP": Noop,
    "VRFY": Verify,
    "EXPN": Expand,
    "HELP": Help,
    "QUIT": Quit,
}

_BARE = frozenset({"STARTTLS", "DATA", "RSET", "QUIT"})
_FOREIGN = frozenset({"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE"})

_FLAWS = {
    "bare": Reply(550, "5.6.11", "bare CR or LF in the message (RFC 5321 section 2.3.8)"),
    "nul": Reply(550, "5.6.11", "NUL in the message"),
    "line": Reply(554, "5.6.0", "a line of the message is too long"),
    "size": Reply(552, "5.3.4", "the message is too big"),
}


_LONG = Broken("line too long", Refuse(Reply(500, "5.5.2", "line too long")))


class ServerEngine(LineServer[Phase]):
    """One connection, from greeting to end."""

    STATES = STATES
    TLS = Phase.TLS
    FAREWELL = Farewell
    ENDLESS = Broken("endless line", Refuse(Reply(500, "5.5.2", "line too long")), fatal=True)
    INJECTED = Broken("plaintext behind STARTTLS", Refuse(Reply(554, "5.5.1", "plaintext behind STARTTLS")), fatal=True)

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.authenticated = False
        self._offered = grammar.Offered(esmtp=False, smtputf8=False, dsn=False)
        self._recipients = 0
        self._smtputf8 = False
        self._text: Unstuffer | None = None
        self._over = False
        self._verb = ""

    @property
    def deadline(self) -> float:
        return self.policy.data if self.phase is Phase.DATA else self.policy.idle

    def tls_started(self, peer: TLSPeer) -> None:
        """See ``Engine``."""
        super().tls_started(peer)
        self._clear()
        self.authenticated = False
        self._offered = grammar.Offered(esmtp=False, smtputf8=False, dsn=False)

    # ---- answers

    def _instead(self, pending: Event | None, out: Out) -> enum.Enum | None:
        if isinstance(out, Refuse):
            if out.reply.code == 421:
                return Cause.FAREWELL
            if isinstance(pending, Data) and self.buffered > 0:
                return Turn.TEXT_BEHIND
        elif isinstance(out, Greeting) and out.reply is not None and not out.reply.completed:
            return Turn.TURNED_AWAY
        return None

    def _moved(self, pending: Event | None, out: Out) -> None:
        if isinstance(out, Accept):
            self._accepted(pending)
        elif isinstance(out, GoAhead):
            self._text = Unstuffer(
                max_size=self.policy.max_size, max_line=self.policy.max_text_line, normalise=self.policy.bare == "normalise"
            )
        elif isinstance(out, Welcome) and isinstance(pending, Hello):
            esmtp = pending.esmtp
            self._clear()
            self._offered = grammar.Offered(esmtp=esmtp, smtputf8=esmtp and self.policy.smtputf8, dsn=esmtp and self.policy.dsn)
        if isinstance(pending, End):
            self._clear()

    def _accepted(self, pending: Event | None) -> None:
        """What an acceptance changes besides the phase."""
        if isinstance(pending, Mail):
            self._smtputf8 = pending.smtputf8
        elif isinstance(pending, Rcpt):
            self._recipients += 1
        elif isinstance(pending, Reset):
            self._clear()
        elif isinstance(pending, (Auth, AuthResponse)):
            self.authenticated = True

    def _render(self, pending: Event | None, out: Out) -> bytes:
        if isinstance(out, (Accept, Refuse)):
            if isinstance(out, Accept) is not out.reply.completed or out.reply.intermediate:
                raise LocalProtocolError(f"{type(out).__name__} with {out.reply.code}")
            times = self._recipients if self.policy.lmtp and isinstance(pending, End) else 1
            return grammar.render(out.reply) * times
        if isinstance(out, Greeting):
            kind = "LMTP" if self.policy.lmtp else "ESMTP"
            return grammar.render(out.reply or Reply(220, "", f"{self.policy.hostname} {kind} {self.policy.software}"))
        if isinstance(out, GoAhead):
            return b"354 go ahead, end with <CRLF>.<CRLF>\r\n"
        if isinstance(out, Challenge):
            return b"334 " + base64.b64encode(out.data) + b"\r\n"
        if isinstance(out, PerRecipient):
            if not self.policy.lmtp or len(out.replies) != self._recipients:
                raise LocalProtocolError("a reply for each recipient is LMTP's way, and there must be as many")
            return b"".join(map(grammar.render, out.replies))
        if isinstance(out, Farewell):
            return grammar.render(out.reply)
        mechanisms = out.mechanisms if isinstance(out, Welcome) else ()
        return self._welcome(isinstance(pending, Hello) and pending.esmtp, mechanisms)

    def _welcome(self, esmtp: bool, mechanisms: tuple[str, ...]) -> bytes:
        if not esmtp:
            return grammar.render(Reply(250, "", self.policy.hostname))
        lines = [self.policy.hostname, "PIPELINING", f"SIZE {self.policy.max_size}"]
        if self.policy.starttls and not self.tls:
            lines.append("STARTTLS")
        if self._auth_allowed() and mechanisms:
            lines.append("AUTH " + " ".join(name for name in mechanisms if name in self.policy.auth))
        lines += ["ENHANCEDSTATUSCODES", "8BITMIME"]
        if self.policy.dsn:
            lines.append("DSN")
        if self.policy.smtputf8:
            lines.append("SMTPUTF8")
        if not self.policy.lmtp:
            lines.append("HELP")
        return grammar.render(Reply(250, "", "\n".join(lines)))

    def _auth_allowed(self) -> bool:
        return bool(self.policy.auth) and (self.tls or self.policy.auth_plaintext)

    def _to_broken(self, broken: Broken, out: Out) -> bytes:
        if not isinstance(out, Refuse) or out.reply.code < 400:
            raise LocalProtocolError(f"{type(out).__name__} does not answer Broken")
        data = grammar.render(out.reply)
        if self.phase is Phase.DOT:
            if self.policy.lmtp:
                data *= self._recipients
            self._clear()
        self._pending = None
        if broken.fatal or out.reply.code == 421:
            self._befell(Cause.FATAL)
            self._forget()
        else:
            self._befell(Cause.MISTAKE)
        return data

    # ---- steps

    def _step(self) -> Step:
        return self._text_step() if self.phase is Phase.DATA else self._command_step()

    def _text_step(self) -> Step:
        text = self._text
        if text is None:
            raise LocalProtocolError("no text is expected")
        if not self._over:
            before = self._at
            piece, self._at, self._over = text.take(self._buffer, before)
            if piece:
                return Chunk(piece)
            if not self._over:
                # discarded text is progress too: the deadline starts anew
                return NEED_DATA if self._at == before else Chunk(b"")
        self._over = False
        self._befell(Turn.TEXT_ENDED)
        if text.flaw:
            return Broken(f"text: {text.flaw}", Refuse(_FLAWS[text.flaw]))
        return End()

    # ---- commands

    def _command_step(self) -> Step:
        line = self._line(AUTH_BYTES, _LONG)
        if line is None:
            return NEED_DATA
        if isinstance(line, Broken):
            return line
        if len(line) > COMMAND_BYTES and not (self.phase is Phase.AUTH or line[:5].upper() == b"AUTH "):
            return _LONG
        try:
            return self._read(line)
        except grammar.Fault as fault:
            return Broken(str(fault), Refuse(fault.reply), command=self._verb)

    def _read(self, line: bytes) -> Event:
        self._verb = ""
        if not line or line.find(b"\r") != len(line) - 1:
            raise grammar.Fault(500, "5.5.2", "lines end with CRLF")
        try:
            text = line[:-1].decode("utf-8")
        except UnicodeDecodeError:
            raise grammar.Fault(500, "5.5.2", "that is no text") from None
        if not text.isprintable():
            raise grammar.Fault(500, "5.5.2", "control characters in a command")
        if self.phase is Phase.AUTH:
            if text == "*":
                raise grammar.Fault(501, "5.7.0", "authentication cancelled")
            return AuthResponse(grammar.unbase64(text))
        verb, _, argument = text.partition(" ")
        return self._command(verb.upper(), argument.strip(" "))

    def _command(self, verb: str, argument: str) -> Event:
        kind = _VERBS.get(verb)
        self._verb = verb if kind is not None else ""
        if kind is None and verb in _FOREIGN:
            self._forget()
            return Broken("another protocol", Refuse(Reply(554, "5.5.0", "this is SMTP")), fatal=True)
        if kind is None or (kind is Hello and self.policy.lmtp is not (verb == "LHLO")):
            raise grammar.Fault(500, "5.5.2", "unknown command")
        if argument and verb in _BARE:
            raise grammar.Fault(501, "5.5.4", f"{verb} takes no argument")
        if kind is StartTLS:
            self._may_start_tls()
        elif kind is Auth:
            self._may_authenticate(argument)
        if not self._understood(kind):
            raise grammar.Fault(503, "5.5.1", self._sequence(verb))
        return self._event(kind, verb, argument)

    def _event(self, kind: type[Event], verb: str, argument: str) -> Event:
        if kind is Mail:
            return grammar.parse_mail(argument, self._offered)
        if kind is Rcpt:
            return grammar.parse_rcpt(argument, self._offered, self._smtputf8)
        if kind is Data:
            return Data(self._recipients)
        if kind is Hello:
            name = argument.split(" ")[0]
            if not name or len(name) > 255:
                raise grammar.Fault(501, "5.5.4", f"{verb} wants your host name")
            return Hello(name, verb != "HELO")
        if kind is Auth:
            mechanism, _, initial = argument.partition(" ")
            return Auth(mechanism.upper(), grammar.unbase64(initial.strip(" ")) if initial else None)
        if kind is StartTLS:
            return self._injected() if self.buffered else StartTLS()
        if kind is Verify or kind is Expand:
            if not argument:
                raise grammar.Fault(501, "5.5.4", f"{verb} wants an argument")
            return Verify(argument) if kind is Verify else Expand(argument)
        if kind is Help:
            return Help(argument)
        return kind()

    def _may_start_tls(self) -> None:
        if not self.policy.starttls:
            raise grammar.Fault(502, "5.5.1", "STARTTLS is not offered")
        if self.tls:
            raise grammar.Fault(503, "5.5.1", "TLS is active")

    def _may_authenticate(self, argument: str) -> None:
        if not self.policy.auth:
            raise grammar.Fault(502, "5.5.1", "AUTH is not offered")
        if not self._auth_allowed():
            raise grammar.Fault(538, "5.7.11", "start TLS first")
        if self.authenticated:
            raise grammar.Fault(503, "5.5.1", "you are authenticated")
        if not argument:
            raise grammar.Fault(501, "5.5.4", "AUTH wants a mechanism")
        if self.phase is Phase.READY and argument.split(" ")[0].upper() not in self.policy.auth:
            raise grammar.Fault(504, "5.5.4", "that mechanism is not offered")

    def _sequence(self, verb: str) -> str:
        if self.phase is Phase.FRESH:
            return f"say {'LHLO' if self.policy.lmtp else 'EHLO'} first"
        wanted = {"RCPT": "MAIL first", "DATA": "MAIL and RCPT first", "MAIL": "a transaction is under way"}
        return wanted.get(verb, "not now")

    def _clear(self) -> None:
        """Forget the transaction."""
        self._recipients = 0
        self._smtputf8 = False
        self._text = None
