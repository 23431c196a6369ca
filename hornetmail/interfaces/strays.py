"""Mail in INBOXes that nobody delivered."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zope.interface import Interface

from hornetmail.core.delivery.stray import Choice, Stray


class IStrays(Interface):
    """Mail in INBOXes that has no envelope, and the choice to have it delivered all the same (rule 10)."""

    def goal(mailbox: int) -> str:
        """The address at the primary that chosen mail of this mailbox goes to; ``""`` if there is no primary, and nothing can be chosen."""

    async def of(mailbox: int, uids: Collection[int] | None = None) -> Sequence[Stray]:
        """All in a mailbox, or those among ``uids``, by UID; without what is marked \\Deleted. Raises FolderError."""

    async def page(mailboxes: Sequence[int], limit: int, after: int = 0) -> tuple[Sequence[Stray], bool]:
        """Up to ``limit`` of several mailboxes, in their order, of the first one those with UIDs above ``after``; True: there are more."""

    async def choose(mailbox: int, uids: Collection[int] | None = None) -> Choice:
        """Have them delivered to ``goal(mailbox)`` with MAIL FROM ``<>``: all, or those among ``uids``. Their drain rows are durable on
        return; a second choice makes no second row. Raises KeyError (no such mailbox), ValueError (no primary), FolderError."""
