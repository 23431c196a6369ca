"""Who did what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import Interface


class IAudit(Interface):
    """Who did what. Row first, then the action, then its outcome."""

    async def begin(actor: str, action: str, subject: str, detail: str = "", tenant: int = 0) -> int:
        """Durable before the action; its number. ``tenant`` 0: the whole installation's business."""

    async def outcome(number: int, result: str) -> None:
        """What came of it."""

    async def entries(*, tenant: int = 0, before: int = 0, limit: int = 100) -> Sequence[Any]:
        """``hornetmail.runtime.audit.AuditRow`` values, newest first, each with what came of it. ``tenant`` 0: everybody's; 1, the operator's: the whole installation's too; ``before``: numbers below it."""

    async def verify(since: int = 0) -> str:
        """Walk the chain of hashes, the whole of it or what is behind row ``since``: ``""``, or where it breaks."""

    async def newest() -> tuple[int, bytes]:
        """Number and hash of the newest row; number 0: there is none."""

    async def hash_of(number: int) -> bytes | None:
        """The hash of a row; None: it is not there."""
