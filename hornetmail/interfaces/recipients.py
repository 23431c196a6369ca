"""What the doors ask about a recipient."""

from __future__ import annotations

from zope.interface import Interface

from hornetmail.core.mail.reply import Reply


class IRecipients(Interface):
    """Whether a recipient exists (C13, C14, rule 4)."""

    async def verify(address: str, sender: str = "") -> Reply:
        """250 known, 550 5.1.1 unknown, 451 cannot tell now."""
