"""The client's side of SMTP, sans-IO, in the shape of ``wire.engine`` seen from the other end: commands are Outs, replies are Events.

Commands may be sent while replies are outstanding if the server offered PIPELINING (RFC 2920): MAIL, RCPT, RSET freely, DATA and others as the
last of a group. Replies come back as ``Replied`` in the order of the commands, and only if they say what was asked (``PERMITTED``; rule 8a): a
reply of another class, one that nobody asked for, or one that began before its command was sent is a ``Violation``. Parameters of
extensions that are not offered are left out. Text goes out with every line's dot doubled, wherever its pieces are cut.
"""

from __future__ import annotations

import base64

from hornetmail.core.mail.envelope import Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.wire.engine import NEED_DATA, Event, LocalProtocolError, Lost, Out, Step, TLSPeer
from hornetmail.wire.smtp.client_state import GREETING, PERMITTED, STATES, Phase, Stage, Turn
from hornetmail.wire.smtp.commands import (
    AuthLogin,
    AuthPlain,
    DataCommand,
    Dot,
    Ehlo,
    Greeted,
    Helo,
    Interrupted,
    MailFrom,
    Noop,
    QuitCommand,
    RcptTo,
    Replied,
    Response,
    Rset,
    StartTLS,
    Text,
    Violation,
)
from hornetmail.wire.smtp.data import Stuffer
from hornetmail.wire.smtp.grammar import xtext
from hornetmail.wire.smtp.replies import ReplyParser
from hornetmail.wire.states import Cause, Conversation

_ALONE = (Ehlo, Helo, StartTLS, AuthPlain, AuthLogin, Response, DataCommand, QuitCommand, Noop)
"""Commands behind which nothing may be sent before their reply (RFC 2920 section 3.1)."""


class ClientEngine(Conversation[Phase]):
    """One connection to a server."""

    STATES = STATES

    def __init__(self) -> None:
        super().__init__()
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
            self._befell(Turn.VIOLATED)
            return Violation(self._parser.fault)
        return Lost() if self._ended else NEED_DATA

    def send(self, out: Out) -> bytes:
        """The bytes of a command or of text. Raises LocalProtocolError, state unchanged."""
        self._leads(type(out), Stage.SENT)
        if isinstance(out, Text):
            return self._stuffer.feed(out.data)
        if isinstance(out, Dot):
            self._asked(out)
            return self._stuffer.finish()
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
        self._answered(type(out), Stage.SENT)

    def tls_started(self, peer: TLSPeer) -> None:
        """The handshake is done: what the server said before is forgotten."""
        self.tls = True
        self.upgrade = False
        self.extensions = {}
        self._parser = ReplyParser()
        self._early = False
        self._befell(Cause.TLS)

    # ---- replies

    def _reply(self, reply: Reply) -> Event:
        if self.phase is Phase.GREETING:
            if not GREETING.allows(reply.code):
                return self._violated("as a greeting", reply)
            self._answered(None, Stage.GRANTED)
            return Greeted(reply)
        if self._early or not self._open:
            return self._unasked(reply)
        command = self._open.pop(0)
        if not PERMITTED[type(command)].allows(reply.code):
            return self._violated(f"in answer to {_name(command)}", reply)
        granted = reply.code < 400
        if isinstance(command, StartTLS) and granted and self._parser.buffered:
            self._befell(Turn.VIOLATED)
            return Violation("plaintext behind the answer to STARTTLS")
        self._answered(type(command), Stage.GRANTED if granted else Stage.REFUSED)
        self.upgrade = self.phase is Phase.TLS
        if isinstance(command, Ehlo) and granted:
            self.extensions = _extensions(reply)
        elif isinstance(command, DataCommand) and granted:
            self._stuffer = Stuffer()
        return Replied(command, reply)

    def _unasked(self, reply: Reply) -> Event:
        amid_text = self.phase is Phase.TEXT or (bool(self._open) and isinstance(self._open[0], Dot))
        if amid_text and (reply.transient or reply.permanent) and reply.code != 421:
            self._befell(Turn.INTERRUPTED)
            return Interrupted(reply)
        return self._violated("that nobody asked for", reply)

    def _violated(self, when: str, reply: Reply) -> Violation:
        self._befell(Turn.VIOLATED)
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
