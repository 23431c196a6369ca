"""When an emergency's left-overs go."""

from __future__ import annotations

from zope.interface import Interface


class IExpiry(Interface):
    """What an emergency left in the portal's folders goes after a time, announced (rule 24)."""

    def due(mailbox: int) -> float:
        """The date that was announced to the mailbox's owner, in Unix seconds, from memory; 0 if none was."""
