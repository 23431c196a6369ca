"""Time stamps on the archive's leaf log (A33, A34, L2)."""

from __future__ import annotations

from zope.interface import Interface

from hornetmail.core.archive.stamps import StampState


class IStamps(Interface):
    """Time stamps on the archive's leaf log (A33, A34, L2)."""

    def state() -> StampState:
        """How it stands."""

    async def stamp() -> StampState:
        """Have the newest root stamped now, the audit log's newest hash under it. Raises NoAuthority, ArchiveError: nobody gave one; it is tried again."""

    async def test(name: str) -> None:
        """Ask one authority for a stamp that is thrown away. Raises KeyError, ArchiveError: why it would not count."""
