"""The states of an SMTP client's conversation, and what may answer its commands (rule 8a).

Theory of operation. Commands are ours, replies the server's; several commands may be outstanding (RFC 2920), so a command that is sent moves nothing,
but its reply may. Only the text is another thing: DATA's 354 opens it, our dot ends it, and in between no reply is due. A reply that does not answer
what was asked first (``PERMITTED``), or that nobody asked for, ends the conversation, wherever it stands: what the server says after that cannot be
told apart from answers to other questions.
"""

from __future__ import annotations

import enum
from collections.abc import Container

import msgspec

from hornetmail.wire.engine import Out
from hornetmail.wire.smtp.commands import (
    AuthLogin,
    AuthPlain,
    DataCommand,
    Dot,
    Ehlo,
    Helo,
    MailFrom,
    Noop,
    QuitCommand,
    RcptTo,
    Response,
    Rset,
    StartTLS,
    Text,
)
from hornetmail.wire.states import Cause, Exceptions, States, Table


class Phase(enum.Enum):
    """``TEXT``: 354 came, the message is being sent."""

    GREETING = "greeting"
    COMMAND = "command"
    TEXT = "text"
    TLS = "tls"
    OVER = "over"


class Stage(enum.Enum):
    """How far a command has come. ``GRANTED``: its reply says yes (334 and 354 too); ``REFUSED``: no."""

    SENT = "sent"
    GRANTED = "granted"
    REFUSED = "refused"


class Turn(enum.Enum):
    """What ends an SMTP client's conversation."""

    VIOLATED = "the server does not speak SMTP"
    INTERRUPTED = "the server refuses the text while it is sent"


_SENT: dict[Stage, Phase | None] = {Stage.SENT: None, Stage.GRANTED: None, Stage.REFUSED: None}

TABLE: Table[Phase] = (
    ((Phase.GREETING,), None, {Stage.GRANTED: Phase.COMMAND}),
    *(
        ((Phase.COMMAND,), command, _SENT)
        for command in (Ehlo, Helo, AuthPlain, AuthLogin, Response, MailFrom, RcptTo, Rset, Noop, QuitCommand)
    ),
    ((Phase.COMMAND,), StartTLS, {Stage.SENT: None, Stage.GRANTED: Phase.TLS, Stage.REFUSED: None}),
    ((Phase.COMMAND,), DataCommand, {Stage.SENT: None, Stage.GRANTED: Phase.TEXT, Stage.REFUSED: None}),
    ((Phase.TEXT,), Text, {Stage.SENT: None}),
    ((Phase.TEXT,), Dot, {Stage.SENT: Phase.COMMAND}),
    ((Phase.COMMAND,), Dot, {Stage.GRANTED: None, Stage.REFUSED: None}),
)
"""Our command, and where its stages lead."""

_ALL = tuple(phase for phase in Phase if phase is not Phase.OVER)

EXCEPTIONS: Exceptions[Phase] = (
    ((Phase.TLS,), Cause.TLS, Phase.COMMAND),
    (_ALL, Turn.VIOLATED, Phase.OVER),
    # Its dot may be on the way already: then the phase is COMMAND.
    ((Phase.TEXT, Phase.COMMAND), Turn.INTERRUPTED, Phase.OVER),
)
"""What leads elsewhere than a reply."""

STATES = States(Phase.GREETING, Phase.OVER, TABLE, EXCEPTIONS)


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
