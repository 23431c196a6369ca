"""The states of an SMTP or LMTP server's conversation.

Theory of operation. A client's command is an event, our reply the answer to it; a command that is in no row for the present phase is out of sequence
and reaches the session as ``Broken`` (503, RFC 5321 section 4.1.4). After the greeting a client is ``FRESH`` until it has said EHLO, then ``READY``, and a
transaction goes MAIL, RCPT, DATA, DOT and back. ``DATA`` is while the text comes, ``DOT`` when it is here and has no verdict yet. HELO and EHLO leave any
phase for ``READY`` and so end a transaction (section 4.1.4), a refused one leaves all as it was. STARTTLS throws away what was said before and the client is
``FRESH`` again (RFC 3207 section 4.2).
"""

from __future__ import annotations

import enum

from hornetmail.wire.engine import End
from hornetmail.wire.smtp.events import (
    Accept,
    Auth,
    AuthResponse,
    Challenge,
    Data,
    Expand,
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
from hornetmail.wire.states import Cause, Exceptions, States, Table


class Phase(enum.Enum):
    """Where the conversation stands."""

    GREETING = "greeting"
    FRESH = "fresh"
    READY = "ready"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"
    AUTH = "auth"
    TLS = "tls"
    CLOSING = "closing"


class Turn(enum.Enum):
    """What happens in SMTP alone. ``TEXT_ENDED``: the dot was read. ``TEXT_BEHIND``: DATA was refused, and its text is here already; it must
    not run as commands. ``TURNED_AWAY``: the greeting was none of welcome (554, 421)."""

    TEXT_ENDED = "the text has ended"
    TEXT_BEHIND = "DATA is refused with text behind it"
    TURNED_AWAY = "the greeting turns the client away"


_OPEN = (Phase.FRESH, Phase.READY, Phase.MAIL, Phase.RCPT)
_ALL = tuple(phase for phase in Phase if phase is not Phase.CLOSING)

TABLE: Table[Phase] = (
    ((Phase.GREETING,), None, {Greeting: Phase.FRESH}),
    (_OPEN, Hello, {Welcome: Phase.READY, Refuse: None}),
    ((Phase.FRESH, Phase.READY), StartTLS, {Accept: Phase.TLS, Refuse: None}),
    ((Phase.READY,), Auth, {Challenge: Phase.AUTH, Accept: Phase.READY, Refuse: None}),
    ((Phase.AUTH,), AuthResponse, {Challenge: Phase.AUTH, Accept: Phase.READY, Refuse: Phase.READY}),
    ((Phase.READY,), Mail, {Accept: Phase.MAIL, Refuse: None}),
    ((Phase.MAIL, Phase.RCPT), Rcpt, {Accept: Phase.RCPT, Refuse: None}),
    ((Phase.MAIL,), Data, {Refuse: None}),
    ((Phase.RCPT,), Data, {GoAhead: Phase.DATA, Refuse: None}),
    ((Phase.DOT,), End, {Accept: Phase.READY, Refuse: Phase.READY, PerRecipient: Phase.READY}),
    ((Phase.MAIL, Phase.RCPT, Phase.READY), Reset, {Accept: Phase.READY}),
    ((Phase.FRESH,), Reset, {Accept: None}),
    (_OPEN, Noop, {Accept: None, Refuse: None}),
    (_OPEN, Verify, {Accept: None, Refuse: None}),
    (_OPEN, Expand, {Accept: None, Refuse: None}),
    (_OPEN, Help, {Accept: None, Refuse: None}),
    (_OPEN, Quit, {Accept: Phase.CLOSING}),
)
"""A client's command, and what may answer it."""

EXCEPTIONS: Exceptions[Phase] = (
    ((Phase.TLS,), Cause.TLS, Phase.FRESH),
    ((Phase.DATA,), Turn.TEXT_ENDED, Phase.DOT),
    # A Broken is met by Refuse, and leads back to where the command came from; one about the text ends the transaction.
    ((Phase.DOT, Phase.AUTH), Cause.MISTAKE, Phase.READY),
    ((Phase.MAIL, Phase.RCPT), Turn.TEXT_BEHIND, Phase.CLOSING),
    ((Phase.GREETING,), Turn.TURNED_AWAY, Phase.CLOSING),
    # A goodbye is Farewell, which may meet anything, and Refuse with 421, where Refuse may stand (RFC 5321 section 3.8).
    (_ALL, Cause.FAREWELL, Phase.CLOSING),
    (_ALL, Cause.FATAL, Phase.CLOSING),
)
"""What leads elsewhere than an answer."""

STATES = States(Phase.GREETING, Phase.CLOSING, TABLE, EXCEPTIONS)
