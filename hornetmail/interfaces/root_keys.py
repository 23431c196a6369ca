"""The archive's root key and its change."""

from __future__ import annotations

from zope.interface import Attribute, Interface

from hornetmail.core.archive.archived import RootKeyState


class IRootKeys(Interface):
    """The archive's root key, its paper, and its change in three steps (A3-A6, rule 22)."""

    state = Attribute("a ``RootKeyState``")

    async def backup(password: str, parts: int = 1, need: int = 1) -> str:
        """The key in force as text under a password; of several ``parts``, with form feeds between, any ``need`` restore it. Raises KeyRefused (it
        is not here), ValueError (there cannot be such parts)."""

    async def page(text: str) -> str:
        """An HTML document that prints such a text, with a QR code on each sheet (L12). Raises KeyRefused: it is no such text."""

    async def begin(password: str, parts: int = 1, need: int = 1) -> str:
        """Make a new root key that nothing uses yet; its paper, as ``backup`` makes it. Raises KeyRefused (one is pending, or the archive is locked),
        ArchiveError, ValueError."""

    async def confirm(text: str, password: str) -> RootKeyState:
        """The paper was read, or enough of its parts: the pending key comes into force here and on every medium in reach. Raises KeyRefused (no pending key, another
        key's paper, a bad line, the wrong password), ArchiveError (the disk)."""

    async def cancel() -> None:
        """Drop the pending key. Raises KeyRefused (there is none, or it is in force already), ArchiveError."""
