"""The states of a POP3 server's conversation (RFC 1939 section 3).

Theory of operation. A client's command is an event, our +OK or -ERR the answer; a command that is in no row for the present phase reaches the session as
``Broken``. ``AUTHORIZATION`` and ``TRANSACTION`` are the RFC's; its UPDATE is QUIT in ``TRANSACTION``, whose answer is the end. ``SASL`` is while lines of an
exchange are expected instead of commands. A short message meets its RETR whole. Else it goes out in ``BODY``: one RETR or TOP is met by Begin, pieces of it, and
Finish, and nothing else may be said until then, not even goodbye, for a client could not tell it from the message.
"""

from __future__ import annotations

import enum

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
from hornetmail.wire.states import Cause, Exceptions, States, Table


class Phase(enum.Enum):
    """Where the conversation stands; ``BODY``: a message is under way."""

    GREETING = "greeting"
    AUTHORIZATION = "authorization"
    SASL = "sasl"
    TLS = "tls"
    TRANSACTION = "transaction"
    BODY = "body"
    CLOSING = "closing"


_BEFORE, _AFTER = (Phase.AUTHORIZATION,), (Phase.TRANSACTION,)
_ALL = tuple(phase for phase in Phase if phase is not Phase.CLOSING)

TABLE: Table[Phase] = (
    ((Phase.GREETING,), None, {Greeting: Phase.AUTHORIZATION}),
    (_BEFORE + _AFTER, Capa, {Capabilities: None}),
    (_BEFORE, User, {Ok: None, Err: None}),
    (_BEFORE, Pass, {Welcome: Phase.TRANSACTION, Err: None}),
    (_BEFORE, Auth, {Challenge: Phase.SASL, Welcome: Phase.TRANSACTION, Err: None}),
    ((Phase.SASL,), AuthResponse, {Challenge: Phase.SASL, Welcome: Phase.TRANSACTION, Err: Phase.AUTHORIZATION}),
    (_BEFORE, Stls, {Ok: Phase.TLS, Err: None}),
    (_BEFORE, Utf8, {Ok: None, Err: None}),
    (_BEFORE + _AFTER, Lang, {Ok: None, Listing: None, Err: None}),
    (_AFTER, Stat, {Ok: None, Err: None}),
    (_AFTER, List, {Ok: None, Listing: None, Err: None}),
    (_AFTER, Uidl, {Ok: None, Listing: None, Err: None}),
    (_AFTER, Retr, {Whole: None, Begin: Phase.BODY, Err: None}),
    (_AFTER, Top, {Begin: Phase.BODY, Err: None}),
    ((Phase.BODY,), Retr, {Body: None, Finish: Phase.TRANSACTION}),
    ((Phase.BODY,), Top, {Body: None, Finish: Phase.TRANSACTION}),
    (_AFTER, Dele, {Ok: None, Err: None}),
    (_AFTER, Rset, {Ok: None, Err: None}),
    (_AFTER, Noop, {Ok: None, Err: None}),
    (_BEFORE + _AFTER, Quit, {Ok: Phase.CLOSING, Err: Phase.CLOSING}),
)
"""A client's command, and what may answer it."""

EXCEPTIONS: Exceptions[Phase] = (
    ((Phase.TLS,), Cause.TLS, Phase.AUTHORIZATION),
    ((Phase.SASL,), Cause.MISTAKE, Phase.AUTHORIZATION),
    (tuple(phase for phase in _ALL if phase is not Phase.BODY), Cause.FAREWELL, Phase.CLOSING),
    (_ALL, Cause.FATAL, Phase.CLOSING),
)
"""What leads elsewhere than an answer."""

STATES = States(Phase.GREETING, Phase.CLOSING, TABLE, EXCEPTIONS)
