"""The states of an IMAP server's conversation (RFC 3501 section 3, RFC 9051 section 3).

Theory of operation. A client's command is an event; it is met by its completion, OK, NO or BAD, or asked to go on (``Continuation``: a literal, a line of an
exchange, IDLE) and met when it has. A command that is in no row for the present phase is answered BAD and never reaches the session as itself. What a
command's parts are is no phase but a mode of the engine: an APPEND under way leaves the conversation where it was. SELECT that is refused leaves no
mailbox selected (RFC 3501 section 6.3.1); one that is BAD was none. Logging out is answered twice, by BYE, which a ``Bye`` of ours is not, and by its OK.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from hornetmail.wire.engine import End
from hornetmail.wire.imap.answers.answers import Continuation, Greeting
from hornetmail.wire.imap.requests import commands as c
from hornetmail.wire.states import Asked, By, Cause, Exceptions, States, Table


class Phase(enum.Enum):
    """The states of RFC 3501 section 3, and the greeting before them."""

    GREETING = "greeting"
    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    CLOSED = "closed"


_BEFORE = (Phase.NOT_AUTHENTICATED,)
_INSIDE = (Phase.AUTHENTICATED, Phase.SELECTED)
_OPEN = (Phase.SELECTED,)
_ANY = _BEFORE + _INSIDE


def _met(ok: Phase | None = None, no: Phase | None = None) -> Mapping[By, Phase | None]:
    """By its completion."""
    return {"OK": ok, "NO": no, "BAD": None}


def _asked_on(ok: Phase | None = None) -> Mapping[By, Phase | None]:
    """By its completion, or the wish for more of it."""
    return {Continuation: None, **_met(ok)}


def _rows(phases: tuple[Phase, ...], *asked: Asked) -> Table[Phase]:
    return tuple((phases, each, _met()) for each in asked)


TABLE: Table[Phase] = (
    ((Phase.GREETING,), None, {Greeting: Phase.NOT_AUTHENTICATED}),
    *_rows(_ANY, c.Capability, c.Noop, c.Id),
    *_rows(_BEFORE, c.Starttls),
    (_BEFORE, c.Login, _met(Phase.AUTHENTICATED)),
    (_BEFORE, c.Authenticate, _asked_on(Phase.AUTHENTICATED)),
    (_BEFORE, c.Response, _asked_on(Phase.AUTHENTICATED)),
    *_rows(
        _INSIDE,
        c.Enable,
        c.Compress,
        c.Namespace,
        c.GetQuota,
        c.GetQuotaRoot,
        c.SetAcl,
        c.GetAcl,
        c.ListRights,
        c.MyRights,
        c.GetMetadata,
        c.SetMetadata,
        c.Create,
        c.Delete,
        c.Rename,
        c.Subscribe,
        c.Listing,
        c.Status,
    ),
    (_INSIDE, c.Select, _met(Phase.SELECTED, Phase.AUTHENTICATED)),
    (_INSIDE, c.Append, _asked_on()),
    (_OPEN, c.Replace, _asked_on()),
    (_INSIDE, c.Further, _asked_on()),
    *_rows(_INSIDE, End),
    (_INSIDE, c.Idle, _asked_on()),
    *_rows(_INSIDE, c.Done),
    *_rows(_OPEN, c.Check, c.Expunge, c.Search, c.Sort, c.Thread, c.Fetch, c.Store, c.Copy),
    (_OPEN, c.Close, _met(Phase.AUTHENTICATED)),
    (_ANY, c.LiteralWanted, {Continuation: None}),
    (_ANY, c.Logout, _met(Phase.CLOSED)),
)
"""A client's command, or a part of one, and what may answer it."""

EXCEPTIONS: Exceptions[Phase] = ((tuple(phase for phase in Phase if phase is not Phase.CLOSED), Cause.FAREWELL, Phase.CLOSED),)
"""BYE, whenever it is said; it is the answer to fatal mistakes, too."""

STATES = States(Phase.GREETING, Phase.CLOSED, TABLE, EXCEPTIONS)
