"""The client's side of SMTP, sans-IO, in the shape of ``wire.engine`` seen from the other end: commands are Outs, replies are Events.

Commands may be sent while replies are outstanding if the server offered PIPELINING (RFC 2920): MAIL, RCPT, RSET freely, DATA and others as the
last of a group. Replies come back as ``Replied`` in the order of the commands, and only if they say what was asked (``PERMITTED``; rule 8a): a
reply of another class, one that nobody asked for, or one that began before its command was sent is a ``Violation``. Parameters of
extensions that are not offered are left out. Text goes out with every line's dot doubled, wherever its pieces are cut.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Container

import msgspec

from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.wire.engine import NEED_DATA, Event, LocalProtocolError, Lost, Out, Step, TLSPeer
from hornetmail.wire.smtp.data import Stuffer
from hornetmail.wire.smtp.grammar import xtext
from hornetmail.wire.smtp.replies import ReplyParser


class Ehlo(Out, frozen=True, gc=False):
    """EHLO with our name; its positive reply sets ``extensions``."""

    name: str


class Helo(Out, frozen=True, gc=False):
    """HELO, when EHLO was refused."""

    name: str


class StartTLS(Out, frozen=True, gc=False):
    """STARTTLS; a 220 sets ``upgrade``."""


class AuthPlain(Out, frozen=True, gc=False):
    """AUTH PLAIN with its initial response."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"AuthPlain({self.user!r})"


class AuthLogin(Out, frozen=True, gc=False):
    """AUTH LOGIN; 334 replies are answered with ``Response``."""


class Response(Out, frozen=True, gc=False):
    """An answer to 334, encoded here."""

    data: bytes

    def __repr__(self) -> str:
        return "Response()"


class MailFrom(Out, frozen=True, gc=False):
    """MAIL. ``size`` 0 is not told."""

    sender: str
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


class RcptTo(Out, frozen=True, gc=False):
    """RCPT."""

    recipient: Recipient


class DataCommand(Out, frozen=True, gc=False):
    """DATA; after its 354 ``Text`` and ``Dot``."""


class Text(Out, frozen=True, gc=False):
    """A piece of the message; no reply belongs to it."""

    data: bytes


class Dot(Out, frozen=True, gc=False):
    """The end of the message; its reply is the verdict."""


class Rset(Out, frozen=True, gc=False):
    """RSET."""


class Noop(Out, frozen=True, gc=False):
    """NOOP."""


class QuitCommand(Out, frozen=True, gc=False):
    """QUIT."""


class Greeted(Event, frozen=True, gc=False):
    """The server's first reply."""

    answered = False
    reply: Reply


class Replied(Event, frozen=True, gc=False):
    """The reply to a command."""

    answered = False
    command: Out
    reply: Reply


class Interrupted(Event, frozen=True, gc=False):
    """The server refuses the message, 4xx or 5xx, while its text is still being sent (RFC 5321 section 4.5.4.2 has no room for it, servers do it at
    a limit all the same). The verdict on this message; the connection is of no use any more."""

    answered = False
    reply: Reply


class Violation(Event, frozen=True, gc=False):
    """The server does not speak SMTP; the connection is of no use any more. ``reply`` is what it said instead, if that is a reply at all. A 421
    that nobody asked for is none of its faults: it says that it closes the connection (RFC 5321 section 3.8)."""

    answered = False
    reason: str
    reply: Reply | None = None

    @property
    def farewell(self) -> bool:
        """It only said 421."""
        return self.reply is not None and self.reply.code == 421


class Phase(enum.Enum):
    """``TEXT``: 354 came, the message is being sent."""

    GREETING = "greeting"
    COMMAND = "command"
    TEXT = "text"
    TLS = "tls"
    OVER = "over"


class Permitted(msgspec.Struct, frozen=True, gc=False):
    """What may answer a command: the codes that say yes, and whether 4xx and 5xx may say no. 421 may answer anything."""

    yes: Container[int]
    refusable: bool = True

    def allows(self, code: int) -> bool:
        """Whether that answers the command."""
        return code in self.yes or code == 421 or (self.refusable and code >= 400)


_DONE = Permitted((250,))

GREETING = Permitted((220,))
"""The server's first words (RFC 5321 section 3.1)."""

PERMITTED: dict[type[Out], Permitted] = {
    Ehlo: Permitted((250,)),
    Helo: Permitted((250,)),
    StartTLS: Permitted((220,)),
    AuthPlain: Permitted((235,)),
    AuthLogin: Permitted((334,)),
    Response: Permitted((334, 235)),
    MailFrom: _DONE,
    RcptTo: Permitted((250, 251, 252)),
    DataCommand: Permitted((354,)),
    Dot: _DONE,
    Rset: Permitted((250,), refusable=False),
    Noop: _DONE,
    QuitCommand: Permitted((221,)),
}
"""Rule 8a, from RFC 5321 section 4.3.2, RFC 3207 section 4 and RFC 4954 section 4: the codes themselves, for a 2xx that belongs to another command
(220 a new greeting, 221 a farewell, 214 help, 235 a log-in) says that the server is elsewhere in the conversation, and never that it has the
message. 252 is VRFY's; gateways that do not know their recipients say it at RCPT too, and it says there what it says (section 3.5.3): the message
will be taken. RSET cannot be refused: it is how we find out whether server and client are in step."""

_ALONE = (Ehlo, Helo, StartTLS, AuthPlain, AuthLogin, Response, DataCommand, QuitCommand, Noop)
"""Commands behind which nothing may be sent before their reply (RFC 2920 section 3.1)."""


class ClientEngine:
    """One connection to a server."""

    def __init__(self) -> None:
        self.phase = Phase.GREETING
        self.extensions: dict[str, str] = {}
        self.tls = False
        self.upgrade = False
        self._parser = ReplyParser()
        self._open: list[Out] = []
        self._stuffer = Stuffer()
        self._ended = False
        self._early = False

    @property
    def outstanding(self) -> int:
        """Commands whose reply has not come."""
        return len(self._open)

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        return self._parser.buffered

    def receive(self, data: bytes) -> None:
        """Bytes from the server; ``b""`` at its end."""
        if data:
            self._parser.feed(data)
        else:
            self._ended = True

    def next_event(self) -> Step:
        """One reply, ``Interrupted``, ``Violation``, ``Lost``, or NEED_DATA."""
        if self.phase is Phase.OVER:
            return Lost() if self._ended else NEED_DATA
        reply = self._parser.next()
        if reply is not None:
            return self._reply(reply)
        if self._parser.fault:
            self.phase = Phase.OVER
            return Violation(self._parser.fault)
        return Lost() if self._ended else NEED_DATA

    def send(self, out: Out) -> bytes:
        """The bytes of a command or of text. Raises LocalProtocolError, state unchanged."""
        if isinstance(out, (Text, Dot)):
            if self.phase is not Phase.TEXT:
                raise LocalProtocolError("text needs a 354 first")
            if isinstance(out, Text):
                return self._stuffer.feed(out.data)
            self.phase = Phase.COMMAND
            self._asked(out)
            return self._stuffer.finish()
        if self.phase is not Phase.COMMAND:
            raise LocalProtocolError(f"{type(out).__name__} in phase {self.phase.value}")
        if self._open and ("PIPELINING" not in self.extensions or isinstance(self._open[-1], (*_ALONE, Dot))):
            raise LocalProtocolError(f"{type(out).__name__} while a reply is outstanding")
        line = self._line(out)
        if "\r" in line or "\n" in line or "\0" in line:
            raise LocalProtocolError("a command holds a line end")
        self._asked(out)
        return line.encode() + b"\r\n"

    def _asked(self, out: Out) -> None:
        # What is here of a reply was said before there was anything to answer.
        self._early = self._early or (not self._open and self._parser.begun)
        self._open.append(out)

    def tls_started(self, peer: TLSPeer) -> None:
        """The handshake is done: what the server said before is forgotten."""
        self.tls = True
        self.upgrade = False
        self.extensions = {}
        self._parser = ReplyParser()
        self._early = False
        if self.phase is Phase.TLS:
            self.phase = Phase.COMMAND

    # ---- replies

    def _reply(self, reply: Reply) -> Event:
        if self.phase is Phase.GREETING:
            if not GREETING.allows(reply.code):
                return self._violated("as a greeting", reply)
            self.phase = Phase.COMMAND
            return Greeted(reply)
        if self._early or not self._open:
            return self._unasked(reply)
        command = self._open.pop(0)
        if not PERMITTED[type(command)].allows(reply.code):
            return self._violated(f"in answer to {_name(command)}", reply)
        if isinstance(command, Ehlo) and reply.completed:
            self.extensions = _extensions(reply)
        elif isinstance(command, DataCommand) and reply.intermediate:
            self.phase = Phase.TEXT
            self._stuffer = Stuffer()
        elif isinstance(command, StartTLS) and reply.code == 220:
            if self._parser.buffered:
                self.phase = Phase.OVER
                return Violation("plaintext behind the answer to STARTTLS")
            self.phase = Phase.TLS
            self.upgrade = True
        return Replied(command, reply)

    def _unasked(self, reply: Reply) -> Event:
        amid_text = self.phase is Phase.TEXT or (bool(self._open) and isinstance(self._open[0], Dot))
        if amid_text and (reply.transient or reply.permanent) and reply.code != 421:
            self.phase = Phase.OVER
            return Interrupted(reply)
        return self._violated("that nobody asked for", reply)

    def _violated(self, when: str, reply: Reply) -> Violation:
        self.phase = Phase.OVER
        return Violation(f"{str(reply)[:200]!r} {when}", reply)

    # ---- commands

    def _line(self, out: Out) -> str:
        match out:
            case Ehlo(name=name):
                return f"EHLO {name}"
            case Helo(name=name):
                return f"HELO {name}"
            case MailFrom():
                return self._mail(out)
            case RcptTo(recipient=recipient):
                return self._rcpt(recipient)
            case DataCommand():
                return "DATA"
            case Rset():
                return "RSET"
            case Noop():
                return "NOOP"
            case QuitCommand():
                return "QUIT"
            case StartTLS():
                return "STARTTLS"
            case AuthPlain(user=user, password=password):
                return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode("ascii")
            case AuthLogin():
                return "AUTH LOGIN"
            case Response(data=data):
                return base64.b64encode(data).decode("ascii")
            case _:
                raise LocalProtocolError(f"{type(out).__name__} is no command")

    def _mail(self, out: MailFrom) -> str:
        line = f"MAIL FROM:<{out.sender}>"
        offers = self.extensions
        if out.size and "SIZE" in offers:
            line += f" SIZE={out.size}"
        if out.eight_bit and "8BITMIME" in offers:
            line += " BODY=8BITMIME"
        if out.smtputf8 and "SMTPUTF8" in offers:
            line += " SMTPUTF8"
        if "DSN" in offers:
            line += f" RET={out.ret}" if out.ret else ""
            line += f" ENVID={xtext(out.envid)}" if out.envid and out.envid.isascii() else ""
        return line

    def _rcpt(self, recipient: Recipient) -> str:
        line = f"RCPT TO:<{recipient.address}>"
        if "DSN" in self.extensions:
            line += f" NOTIFY={','.join(recipient.notify)}" if recipient.notify else ""
            kind, _, address = recipient.orcpt.partition(";")
            line += f" ORCPT={kind};{xtext(address)}" if address and address.isascii() else ""
        return line


def _name(command: Out) -> str:
    """What people call it."""
    return _NAMES.get(type(command), "") or type(command).__name__.upper()


_NAMES: dict[type[Out], str] = {
    MailFrom: "MAIL",
    RcptTo: "RCPT",
    DataCommand: "DATA",
    Dot: "the final dot",
    QuitCommand: "QUIT",
    AuthPlain: "AUTH",
    AuthLogin: "AUTH",
    Response: "AUTH",
}


def _extensions(reply: Reply) -> dict[str, str]:
    """Keyword, in capitals, to parameters. ``AUTH=LOGIN`` of old servers counts as AUTH."""
    found: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, rest = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):
            rest, keyword = f"{keyword[5:]} {rest}".strip(), "AUTH"
        if keyword == "AUTH":
            rest = f"{found.get('AUTH', '')} {rest}".strip().upper()
        if keyword:
            found[keyword] = rest
    return found
