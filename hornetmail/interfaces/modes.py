"""What is asked of a domain's mode, and how it is switched by hand."""

from __future__ import annotations

from typing import Any

from zope.interface import Interface

from hornetmail.core.failover.mode import Mode


class IModes(Interface):
    """The mode of each domain."""

    def mode(domain: str) -> Mode:
        """Now, from memory; NORMAL for domains it has not heard of."""

    def explain(domain: str) -> dict[str, Any]:
        """For people: mode, since when, by whom, why, next probe, health of every primary. Always there: ``up`` (True if
        some primary answers, None while nobody knows) and ``primaries``, a list of ``{"host", "up", "since", "seen", "reason"}``."""

    async def recipients(domain: str) -> dict[str, Any]:
        """For people: ``accepts_everything`` (rule 4: registration is required), ``gaps`` (L7: the first addresses that the primary accepts and
        nobody registered, so that their mail waits in an emergency) and ``gaps_total``. Looked up: not for many domains at a time."""

    def ended(domain: str) -> float:
        """When the last emergency ended, in Unix seconds; 0 if none is known. Outlives restarts."""

    async def switch(domain: str, mode: Mode, by: str, reason: str = "") -> None:
        """By hand. Raises KeyError (no such domain) or ValueError (that switch makes no sense, says why)."""
