"""The server's side of POP3, sans-IO: RFC 1939 without APOP, CAPA and response codes (2449, 3206), STLS (2595), AUTH (5034), UTF8 and LANG (6856).

Its states are in ``state``: commands that do not fit the phase never reach the session as themselves but as ``Broken``.
"""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from hornetmail.wire.engine import NEED_DATA, Broken, Event, LocalProtocolError, Out, Step, TLSPeer
from hornetmail.wire.pop3.events import (
    Auth,
    AuthResponse,
    Begin,
    Body,
    Capa,
    Capabilities,
    Challenge,
    Dele,
    Err,
    Farewell,
    Finish,
    Greeting,
    Lang,
    List,
    Listing,
    Noop,
    Ok,
    Pass,
    Quit,
    Retr,
    Rset,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
    Welcome,
    Whole,
)
from hornetmail.wire.pop3.rendering import end, stuffed
from hornetmail.wire.pop3.state import STATES, Phase
from hornetmail.wire.server import LineServer
from hornetmail.wire.states import Cause

COMMAND_BYTES = 2_048
"""Longest command line; RFC 2449 section 4 has 255, but passwords and initial responses may be longer."""

AUTH_BYTES = 12_288
"""Longest line of a SASL exchange (RFC 4954 section 4, which RFC 5034 follows)."""


class POP3Policy(msgspec.Struct, frozen=True, gc=False):
    """What the engine offers. ``plaintext_login``: USER and AUTH without TLS too. ``idle``: seconds after log-in (RFC 1939 section 3: ten
    minutes at least); ``login``: seconds before."""

    hostname: str = "localhost"
    starttls: bool = False
    plaintext_login: bool = False
    idle: float = 600.0
    login: float = 120.0


_VERBS: dict[str, type[Event]] = {
    event.__name__.upper(): event
    for event in (Capa, User, Pass, Auth, Stls, Utf8, Lang, Stat, List, Uidl, Retr, Top, Dele, Rset, Noop, Quit)
}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_FOREIGN = frozenset({"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "HELO", "EHLO"})


class _Unfit(Exception):
    """A command with wrong arguments; the message is for the client."""


_LONG_COMMAND = Broken("long line", Err(f"at most {COMMAND_BYTES} bytes a line"))
_LONG_RESPONSE = Broken("long line", Err(f"at most {AUTH_BYTES} bytes a line"))


class POP3ServerEngine(LineServer[Phase]):
    """One connection, from greeting to end."""

    STATES = STATES
    TLS = Phase.TLS
    FAREWELL = Farewell
    ENDLESS = Broken("endless line", Err("this line has no end"), fatal=True)
    INJECTED = Broken("plaintext behind STLS", Err("plaintext behind STLS"), fatal=True)

    def __init__(self, policy: POP3Policy) -> None:
        super().__init__()
        self.policy = policy
        self.utf8 = False
        self._user = ""
        self._tail = b"\r\n"

    @property
    def deadline(self) -> float:
        return self.policy.idle if self.phase in (Phase.TRANSACTION, Phase.BODY) else self.policy.login

    def tls_started(self, peer: TLSPeer) -> None:
        """See ``Engine``."""
        super().tls_started(peer)
        self.utf8 = False
        self._user = ""

    # ---- answers

    def _moved(self, pending: Event | None, out: Out) -> None:
        if isinstance(out, (Begin, Body)):
            self._pending = pending  # it is met by all that follows, up to Finish
        if isinstance(pending, Utf8):
            self.utf8 = isinstance(out, Ok)
        elif isinstance(pending, User):
            self._user = pending.name if isinstance(out, Ok) else ""
        elif isinstance(pending, (Pass, Auth, AuthResponse)):
            self._user = ""

    def _to_broken(self, broken: Broken, out: Out) -> bytes:
        if not isinstance(out, Err):
            raise LocalProtocolError(f"{type(out).__name__} does not answer Broken")
        self._pending = None
        self._befell(Cause.FATAL if broken.fatal else Cause.MISTAKE)
        return _err(out)

    def _render(self, pending: Event | None, out: Out) -> bytes:
        if isinstance(out, Whole):
            return out.data
        if isinstance(out, Body):
            return self._stuffed(out.data)
        if isinstance(out, Finish):
            last, self._tail = end(self._tail), b"\r\n"
            return last
        if isinstance(out, Err):
            return _err(out)
        if isinstance(out, Challenge):
            return b"+ " + base64.b64encode(out.data) + b"\r\n"
        if isinstance(out, Listing):
            return _ok(out.text) + out.data + b".\r\n"
        if isinstance(out, Capabilities):
            return self._capabilities(out)
        if isinstance(out, Farewell):
            return _err(Err(out.text, out.code))
        if isinstance(out, Greeting):
            return _ok(f"{self.policy.hostname} HornetMail POP3")
        return _ok(out.text) if isinstance(out, (Ok, Welcome, Begin)) else b""

    def _stuffed(self, data: bytes) -> bytes:
        """Dots at the beginning of lines doubled (RFC 1939 section 3), also where a piece begins with the line."""
        out = stuffed(data, self._tail)
        self._tail = (self._tail + data[-2:])[-2:]
        return out

    def _capabilities(self, out: Capabilities) -> bytes:
        words = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "LANG"]
        words.append("UTF8 USER" if self._may_log_in() else "UTF8")
        if out.expire:
            words.append(f"EXPIRE {out.expire}")
        if self.phase is Phase.AUTHORIZATION:
            if self._may_log_in():
                words += ["USER", " ".join(["SASL", *out.mechanisms])] if out.mechanisms else ["USER"]
            if self.policy.starttls and not self.tls:
                words.append("STLS")
        words.append("IMPLEMENTATION HornetMail")
        return b"+OK\r\n" + "".join(f"{word}\r\n" for word in words).encode("ascii") + b".\r\n"

    def _may_log_in(self) -> bool:
        return self.tls or self.policy.plaintext_login

    # ---- lines

    def _step(self) -> Step:
        exchange = self.phase is Phase.SASL
        # the limits do not count the CR
        line = self._line(AUTH_BYTES + 1, _LONG_RESPONSE) if exchange else self._line(COMMAND_BYTES + 1, _LONG_COMMAND)
        if line is None:
            return NEED_DATA
        if isinstance(line, Broken):
            return line
        line = line.removesuffix(b"\r")
        return self._response(line) if exchange else self._command(line)

    def _response(self, line: bytes) -> Event:
        if line == b"*":
            return Broken("cancelled", Err("cancelled"))
        try:
            return AuthResponse(binascii.a2b_base64(line, strict_mode=True))
        except binascii.Error:
            return Broken("no base64", Err("that is no base64"))

    def _command(self, line: bytes) -> Event:
        verb, _, rest = line.partition(b" ")
        try:
            name = verb.decode("ascii").upper()
            text = rest.decode("utf-8")
        except UnicodeDecodeError:
            return Broken("no UTF-8", Err("commands are UTF-8"))
        if _CONTROLS.search(text):
            return Broken("control characters", Err("control characters in a command"))
        if name in _FOREIGN:
            return Broken("another protocol", Err("this is POP3"), fatal=True)
        kind = _VERBS.get(name)
        if kind is None:
            return Broken("unknown command", Err("unknown command"))
        if not self._understood(kind):
            return Broken("out of sequence", Err("not now" if self.phase is Phase.TRANSACTION else "log in first"))
        try:
            return self._parsed(kind, text)
        except _Unfit as unfit:
            return Broken(f"wrong {name}", Err(str(unfit)))

    def _parsed(self, kind: type[Event], text: str) -> Event:
        if kind in (User, Pass, Auth):
            return self._login(kind, text)
        words = text.split()
        if kind in (List, Uidl):
            if len(words) > 1:
                raise _Unfit("at most one number")
            return List(_number(words[0]) if words else 0) if kind is List else Uidl(_number(words[0]) if words else 0)
        if kind is Retr or kind is Dele:
            if len(words) != 1:
                raise _Unfit("one number is wanted")
            return Retr(_number(words[0])) if kind is Retr else Dele(_number(words[0]))
        if kind is Top:
            if len(words) != 2:
                raise _Unfit("two numbers are wanted")
            return Top(_number(words[0]), _number(words[1], least=0))
        if kind is Lang and len(words) < 2:
            return Lang(words[0].lower() if words else "")
        if words:
            raise _Unfit("at most one language" if kind is Lang else "no arguments are wanted")
        if kind is Stls and (self.tls or not self.policy.starttls):
            raise _Unfit("TLS is active already" if self.tls else "no TLS here")
        return Quit(update=self.phase is Phase.TRANSACTION) if kind is Quit else kind()

    def _login(self, kind: type[Event], text: str) -> Event:
        if kind is Auth and not text.strip():
            raise _Unfit("which mechanism? CAPA lists them")
        if not self._may_log_in():
            raise _Unfit("log in over TLS only: use STLS")
        if kind is User:
            if not text.strip():
                raise _Unfit("a name is wanted")
            return User(text.strip())
        if kind is Pass:
            if not self._user:
                raise _Unfit("USER comes first")
            return Pass(self._user, text)
        mechanism, _, initial = text.strip().partition(" ")
        mechanism = mechanism.upper()
        if not initial:
            return Auth(mechanism)
        try:
            return Auth(mechanism, b"" if initial == "=" else binascii.a2b_base64(initial, strict_mode=True))
        except (binascii.Error, ValueError):
            raise _Unfit("that is no base64") from None


def _number(word: str, least: int = 1) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 10 or int(word) < least:
        raise _Unfit(f"not a number: {word[:20]}")
    return int(word)


def _ok(text: str) -> bytes:
    return f"+OK {text}\r\n".encode() if text else b"+OK\r\n"


def _err(out: Err) -> bytes:
    return f"-ERR [{out.code}] {out.text}\r\n".encode() if out.code else f"-ERR {out.text}\r\n".encode()
