"""Messages in an INBOX that stay there unless somebody chooses otherwise (rule 10): nobody delivered them (APPENDed, copied there, or dropped into the
Maildir by another program), or they are portal copies whose row was taken off the queue by hand."""

from __future__ import annotations

import msgspec

from hornetmail.core.delivery.queued import Row
from hornetmail.core.folder import Entry


class Stray(msgspec.Struct, frozen=True, gc=False):
    """One of them. ``mailbox``: the ID of whose INBOX it lies in. ``since``: Unix seconds of when it was brought, as its file's name
    says, for clients choose ``entry.date`` as they like. ``row``: its drain row once somebody chose to have it delivered. ``addressed``: a portal
    copy, with its original envelope."""

    mailbox: int
    entry: Entry
    since: float
    row: Row | None = None
    addressed: bool = False


class Choice(msgspec.Struct, frozen=True, gc=False):
    """What became of a choice, in messages: newly ``chosen``; ``already`` chosen before; ``again``: chosen before, refused by the primary
    since, and tried once more. ``waits``: an emergency goes on, and they wait for its end."""

    chosen: int = 0
    already: int = 0
    again: int = 0
    waits: bool = False
