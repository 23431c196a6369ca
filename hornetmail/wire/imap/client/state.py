"""The states of an IMAP client's conversation (RFC 3501 section 3, RFC 9051 section 3), and what may answer its commands (rule 8a).

Theory of operation. Commands are ours, one at a time; the server completes each with OK, NO or BAD under its tag, and may ask for more of it before: the next
literal, the next line of an exchange, the message of an APPEND. That is a mode of the engine, for it leaves the conversation where it was. Data that it sends
meanwhile counts only for the command that asked for it (``DATA``), and only if it came after that was said; data about the selected mailbox may come at any time.
A tag that is not the one outstanding, or a wish for more of what is whole, ends the conversation: what the server says after that cannot be told apart from
answers to other questions. A SELECT that is refused leaves no mailbox selected. BYE ends everything, wherever it is said.
"""

from __future__ import annotations

import enum

from hornetmail.wire.engine import Event, Out
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.states import Cause, Exceptions, States, Table


class Phase(enum.Enum):
    """The states of RFC 3501 section 3, the greeting before them, and the handshake."""

    GREETING = "greeting"
    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    TLS = "tls"
    OVER = "over"


class Stage(enum.Enum):
    """How far a command has come. ``GRANTED``: OK; ``REFUSED``: NO or BAD."""

    SENT = "sent"
    GRANTED = "granted"
    REFUSED = "refused"


class Meeting(enum.Enum):
    """How the server greets."""

    OK = "OK"
    PREAUTH = "PREAUTH"


class Turn(enum.Enum):
    """What ends an IMAP client's conversation."""

    VIOLATED = "the server does not speak IMAP"
    FAREWELL = "the server says BYE"
    INTERRUPTED = "the server refuses a message while it is sent"


_BEFORE = (Phase.NOT_AUTHENTICATED,)
_INSIDE = (Phase.AUTHENTICATED, Phase.SELECTED)
_OPEN = (Phase.SELECTED,)
_ANY = _BEFORE + _INSIDE


def _rows(
    phases: tuple[Phase, ...], *commands: type[Out], granted: Phase | None = None, refused: Phase | None = None
) -> Table[Phase]:
    return tuple((phases, each, {Stage.SENT: None, Stage.GRANTED: granted, Stage.REFUSED: refused}) for each in commands)


TABLE: Table[Phase] = (
    ((Phase.GREETING,), None, {Meeting.OK: Phase.NOT_AUTHENTICATED, Meeting.PREAUTH: Phase.AUTHENTICATED}),
    *_rows(_ANY, c.Capability, c.Noop, c.Id),
    *_rows(_BEFORE, c.StartTLS, granted=Phase.TLS),
    *_rows(_BEFORE, c.Login, c.Authenticate, granted=Phase.AUTHENTICATED),
    *_rows(_INSIDE, c.Enable, c.Namespace, c.List, c.Create, c.Subscribe, c.Append),
    *_rows(_INSIDE, c.Select, granted=Phase.SELECTED, refused=Phase.AUTHENTICATED),
    *_rows(_OPEN, c.UidSearch, c.UidFetch, c.UidStore, c.UidCopy, c.UidMove, c.UidExpunge),
    *_rows(_OPEN, c.Unselect, granted=Phase.AUTHENTICATED),
    *_rows(_ANY, c.Logout, granted=Phase.OVER),
)
"""Our command, and where its stages lead."""

_ALL = tuple(phase for phase in Phase if phase is not Phase.OVER)

EXCEPTIONS: Exceptions[Phase] = (
    ((Phase.TLS,), Cause.TLS, Phase.NOT_AUTHENTICATED),
    (_ALL, Turn.VIOLATED, Phase.OVER),
    (_ALL, Turn.FAREWELL, Phase.OVER),
    (_INSIDE, Turn.INTERRUPTED, Phase.OVER),
)
"""What leads elsewhere than a reply."""

STATES = States(Phase.GREETING, Phase.OVER, TABLE, EXCEPTIONS)

DATA: dict[type[Out], tuple[type[Event], ...]] = {
    c.Namespace: (c.Spaces,),
    c.List: (c.Listed,),
    c.UidSearch: (c.Found,),
    c.UidFetch: (c.Fetched,),
}
"""Which data answers which command. Other data of these kinds is unasked and not believed. ``Exists``, ``Expunged`` and ``Noted`` may come at any time
(RFC 3501 section 7)."""
