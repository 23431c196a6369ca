"""A message's bytes: at rest, and arriving."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from zope.interface import Attribute, Interface


class IBody(Interface):
    """The exact bytes of a message at rest."""

    size = Attribute("bytes")

    async def read(start: int = 0, length: int = -1) -> bytes:
        """A part, or all of it."""

    def chunks() -> AsyncIterator[bytes]:
        """All of it in pieces of at most 64 KiB, never whole in memory."""


class IDeposit(Interface):
    """A body that is arriving (the contract of a delivery: begin, write, then commit or abort)."""

    size = Attribute("bytes written so far")

    async def write(data: bytes) -> None:
        """Take a piece; returns when the next may come."""

    async def commit(*args: Any, **keywords: Any) -> Any:
        """Make it durable; what it takes and answers is said by whoever made the deposit."""

    async def abort() -> None:
        """Forget it. Safe to call at any time, also twice, also after commit (then it does nothing)."""
