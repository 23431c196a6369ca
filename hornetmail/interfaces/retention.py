"""How long the archive keeps mail: rules, legal holds, and deletion on request (A57, A58, rule 23). Each tenant has its own."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Interface

from hornetmail.core.archive.retention import Deleted, Hold, RetentionPreview, RetentionState, Rule


class IRetention(Interface):
    """How long the archive keeps mail: rules, legal holds, and deletion on request (A57, A58, rule 23). Each tenant has its own."""

    async def state(tenant: int) -> RetentionState:
        """The rules in force, and what is on its way out. Raises ArchiveError (no index)."""

    async def preview(tenant: int, rules: Sequence[Rule]) -> RetentionPreview:
        """What these rules would do now with the mail that is there; nothing changes. Raises ValueError (which rule is wrong), ArchiveError."""

    async def set_rules(tenant: int, rules: Sequence[Rule], by: str) -> None:
        """In place of those before, for mail that is there and that comes. What goes by them is marked in the next night, under rule 19's brakes. Raises
        ValueError, ArchiveError, DiskFull."""

    async def holds(tenant: int) -> Sequence[Hold]:
        """All of them, the newest first, released ones too."""

    async def hold(
        tenant: int,
        name: str,
        by: str,
        *,
        query: str = "",
        content: bool = False,
        identifiers: Sequence[int] = (),
        reason: str = "",
    ) -> int:
        """Hold what a query finds, now and later, or these mails; more may be added under the same name. ``content``: the query looks into texts and subjects,
        which not everybody may who may hold (rule 15). How many are new in it. What was marked to go is not any more. Raises ValueError, QueryError, KeyError (no such mail), ArchiveError, DiskFull."""

    async def release(tenant: int, name: str, by: str) -> None:
        """End a hold. Raises KeyError (there is none of that name), ArchiveError, DiskFull."""

    async def keep(tenant: int, identifiers: Sequence[int], until: float, by: str, reason: str = "") -> int:
        """These mails do not go before ``until`` (Unix seconds), whatever rules say; a deletion on request takes them all the same. How many. Raises ValueError (too many; a time
        gone by, or too far), KeyError (no such mail), ArchiveError, DiskFull."""

    async def delete(tenant: int, identifiers: Sequence[int], by: str, reason: str) -> Deleted:
        """All of them, or none: out of index, full text and search at once, off the media with the next merging. Raises ValueError (too many), KeyError (no such
        mail), HoldRefused, ArchiveError, DiskFull."""
