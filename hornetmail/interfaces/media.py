"""The archive's media (A7-A16). What may not be done raises ``ArchiveError`` that says why; what a medium says, ``MediumError``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import Interface

from hornetmail.core.archive.archived import MediumProbe, MediumState


class IMedia(Interface):
    """The archive's media (A7-A16). What may not be done raises ``ArchiveError`` that says why; what a medium says, ``MediumError``."""

    async def list() -> Sequence[MediumState]:
        """All, by number, retired ones included."""

    async def test(number: int) -> MediumProbe:
        """Write, read, list and delete there."""

    async def add(kind: str, place: str, options: Mapping[str, object], secret: str, name: str = "") -> int:
        """Make a new medium there, or take in one that this archive had; its number. ``kind``: directory, smb or s3. Raises ValueError (a place
        that cannot be understood) besides."""

    async def activate(number: int) -> None:
        """From now on it takes new mail; exactly one does (A12)."""

    async def deactivate(number: int) -> None:
        """Out of use: not looked at any more, its mail says so when opened (A15). Not the active one."""

    async def use(number: int) -> None:
        """Back in use."""

    async def take(number: int) -> None:
        """From now on this installation writes there, whichever did before. Raises ArchiveError besides: that one went on with the archive, and this one's does not know how."""

    async def set_secret(number: int, secret: str) -> None:
        """Another password or secret key for a share or bucket."""

    async def remove(number: int) -> None:
        """Take out one that never held mail (A14). Its number is not given again."""

    async def merge(numbers: Sequence[int], into: int) -> None:
        """Begin to move all that these hold to another medium; each is retired when it is done, its number leads there (A16)."""
