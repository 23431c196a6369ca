"""Who somebody is, and what he may see."""

from __future__ import annotations

from zope.interface import Interface

from hornetmail.core.served import Person, Scope


class IAccess(Interface):
    """Log-in and rights: one place for every door."""

    async def login(user: str, password: str, door: str, peer: str) -> Person:
        """Raises AccessRefused; throttled by account and by network, whatever the door. ``door`` names the entrance for the log: ``submission``,
        ``imap``, ``pop3``, ``web``, ``http`` or ``socket``; ``peer`` is an IP address or ``""``."""

    def scope(person: Person) -> Scope:
        """What of the archive that person may see. Raises ``core.archived.Refused`` while that is suspended (rule 15)."""
