"""Backups of the databases, and the mirror of all media (A29, A32). Both are made by their jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import Interface

from hornetmail.core.archive.archived import BackupState, Finding, MirrorState
from hornetmail.core.archive.statistics import Statistics


class ISafety(Interface):
    """Backups of the databases, and the mirror of all media (A29, A32). Both are made by their jobs."""

    async def backups() -> Sequence[BackupState]:
        """Whole ones on media in reach, newest first."""

    def gone_by(now: float) -> float:
        """What leaves index and media at ``now`` is in no backup and in no mirror after that moment (rule 23); Unix seconds."""

    async def mirror() -> MirrorState | None:
        """None: none is set up."""

    async def set_mirror(kind: str, place: str, options: Mapping[str, object], secret: str) -> None:
        """From now on everything is mirrored there; see ``IMedia.add``. Raises ArchiveError, ValueError."""

    async def unset_mirror() -> None:
        """Follow no more; what lies there stays."""

    def statistics(tenant: int) -> Statistics | None:
        """As counted last (A59); None: not yet, or there is no mail."""

    async def repair(full: bool) -> Sequence[Finding]:
        """Put packs that are missing or (``full``) damaged back from the mirror: what was, and whether it is mended. Raises ArchiveError."""
