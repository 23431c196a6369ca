"""What opens the archive's root key after a start."""

from __future__ import annotations

from zope.interface import Attribute, Interface


class IUnlocking(Interface):
    """The archive is opened by what somebody types, or by what its key's source gives (A2, rule 22)."""

    state = Attribute("a ``KeySourceState``")

    async def unlock(passphrase: str) -> None:
        """By the passphrase that the key lies under. Raises KeyRefused (it does not open it, or there is nothing to unlock), ArchiveError."""

    async def unlock_by_paper(text: str, password: str) -> None:
        """By the key's paper. The key is then put where it shall lie. Raises the same."""

    async def choose(passphrase: str) -> None:
        """Another passphrase from now on. Raises KeyRefused (locked, or none is asked for), ArchiveError."""
