"""Who somebody is, and what he may see."""

from __future__ import annotations

from zope.interface import Interface

from hornetmail.core.served import Person, Scope
from hornetmail.wire.sasl import ScramKeys


class IAccess(Interface):
    """Log-in and rights: one place for every door."""

    async def login(user: str, password: str, door: str, peer: str) -> Person:
        """Raises AccessRefused; throttled by account and by network, whatever the door. ``door`` names the entrance for the log: ``submission``,
        ``imap``, ``pop3``, ``web``, ``http`` or ``socket``; ``peer`` is an IP address or ``""``."""

    def offers_scram() -> bool:
        """Whether everybody with a password can log in by SCRAM-SHA-256."""

    def scram_keys(user: str) -> ScramKeys:
        """What a proof of that person's password is seen by; for who does not exist, or cannot be proved, something alike."""

    async def proved(user: str, keys: ScramKeys, right: bool, door: str, peer: str) -> Person:
        """The person, after a proof by ``scram_keys`` of the same user that was ``right`` or not. Raises AccessRefused, throttled as ``login`` is."""

    def scope(person: Person) -> Scope:
        """What of the archive that person may see. Raises ``core.archived.Refused`` while that is suspended (rule 15)."""
