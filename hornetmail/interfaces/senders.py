"""What bounces ask about a sender."""

from __future__ import annotations

from zope.interface import Interface

from hornetmail.core.mail.spf import SPFVerdict


class ISenderCheck(Interface):
    """Whether the reverse-path of a message is the sender's own, which a bounce to it needs (rule 6)."""

    async def spf(peer: str, helo: str, sender: str) -> SPFVerdict:
        """What the sender's domain says of the client ``peer`` (an IP address): check_host of RFC 7208 for MAIL FROM. Answers within
        20 s, never raises."""
