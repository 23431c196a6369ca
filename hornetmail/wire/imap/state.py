"""The states of an IMAP server's conversation (RFC 3501 section 3): which commands are understood in which, and which answers lead from one to another."""

from __future__ import annotations

import enum

from hornetmail.wire.engine import Event
from hornetmail.wire.imap import commands as c


class Phase(enum.Enum):
    """The states of RFC 3501 section 3, and the greeting before them."""

    GREETING = "greeting"
    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    CLOSED = "closed"


_ANY = frozenset({Phase.NOT_AUTHENTICATED, Phase.AUTHENTICATED, Phase.SELECTED})
_BEFORE = frozenset({Phase.NOT_AUTHENTICATED})
_INSIDE = frozenset({Phase.AUTHENTICATED, Phase.SELECTED})
_OPEN = frozenset({Phase.SELECTED})

ALLOWED: dict[type[Event], frozenset[Phase]] = {
    c.Capability: _ANY,
    c.Noop: _ANY,
    c.Logout: _ANY,
    c.Id: _ANY,
    c.Starttls: _BEFORE,
    c.Authenticate: _BEFORE,
    c.Login: _BEFORE,
    c.Enable: _INSIDE,
    c.Compress: _INSIDE,
    c.Namespace: _INSIDE,
    c.Select: _INSIDE,
    c.Create: _INSIDE,
    c.Delete: _INSIDE,
    c.Rename: _INSIDE,
    c.Subscribe: _INSIDE,
    c.Listing: _INSIDE,
    c.Status: _INSIDE,
    c.Append: _INSIDE,
    c.Replace: _OPEN,
    c.Idle: _INSIDE,
    c.Check: _OPEN,
    c.Close: _OPEN,
    c.Expunge: _OPEN,
    c.Search: _OPEN,
    c.Sort: _OPEN,
    c.Thread: _OPEN,
    c.Fetch: _OPEN,
    c.Store: _OPEN,
    c.Copy: _OPEN,
}
"""In which phases a command is understood."""

FOLLOWS: dict[tuple[type[Event], str], Phase] = {
    (c.Login, "OK"): Phase.AUTHENTICATED,
    (c.Authenticate, "OK"): Phase.AUTHENTICATED,
    (c.Response, "OK"): Phase.AUTHENTICATED,
    (c.Select, "OK"): Phase.SELECTED,
    (c.Select, "NO"): Phase.AUTHENTICATED,
    (c.Close, "OK"): Phase.AUTHENTICATED,
    (c.Logout, "OK"): Phase.CLOSED,
}
"""The phase that an answer leads to; all others stay."""

CONTINUES: frozenset[type[Event]] = frozenset(
    {c.LiteralWanted, c.Idle, c.Authenticate, c.Response, c.Append, c.Replace, c.Further}
)
"""Events that a ``Continuation`` may answer."""
