"""What the archive promises to delivery, to readers, and to those who watch over it."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Interface

from hornetmail.core.archive.archived import ArchivedMail, ArchiveError, ArchiveFigures, ArchiveItem, Finding, Page
from hornetmail.core.archive.guidance import Guidance
from hornetmail.core.served import Scope
from hornetmail.interfaces.body import IBody


class IArchive(Interface):
    """The encrypted archive."""

    async def stage(item: ArchiveItem, body: IBody) -> None:
        """Durable in the staging pack on return, once for a row ID. Raises DiskFull or ArchiveError: try again later."""

    async def search(scope: Scope, query: str, *, limit: int = 50, after: str = "") -> Page:
        """Newest first; the language is ``docs/search.rst``.
        Hits are counted exactly up to 10,000. Raises QueryError."""

    async def guidance(scope: Scope, query: str) -> Guidance:
        """Who and what is in the newest hits of a query, and what else may have been meant by one that finds nothing; made of nothing that the scope may not see. Raises QueryError."""

    async def suggestions(scope: Scope, text: str) -> tuple[str, ...]:
        """People of the scope's mail whose names or addresses begin as ``text`` does, the likeliest first."""

    async def mail(scope: Scope, identifier: int) -> ArchivedMail:
        """What the scope may see of one. Raises KeyError."""

    async def read(scope: Scope, identifier: int) -> bytes:
        """The exact bytes as received, checked by SHA-256. Raises KeyError, Refused (no right to content), ArchiveError (medium out of reach)."""

    async def evidence(scope: Scope, identifier: int) -> bytes:
        """The evidence bundle of one mail, a zip (``hornetmail.archive.proof.evidence``). Raises KeyError, Refused (no right to content, or not to all that the
        envelope names: rule 14), ArchiveError (not on a medium yet, or out of reach)."""

    async def figures() -> ArchiveFigures:
        """Counts."""

    async def verify(full: bool = False) -> Sequence[Finding]:
        """Checks seals, order, references and SHA-256 of everything (full), or of what is new and a sample. Empty: all is well."""

    async def flush(seal: bool = False) -> None:
        """Index all that is staged; with ``seal``, close the staging pack and put it on the medium now."""

    async def confirm_purge() -> None:
        """Somebody looked: the clock is right, what is marked may go, and the next marking goes through, however much it is (rules 18, 19)."""

    async def mark(now: float) -> int:
        """What has expired is found by no search any more (A57), and goes with a ``purge`` a day later unless it is given longer until then; the number.
        Raises ArchiveError: refused until confirmed (rule 19)."""

    async def purge(now: float) -> int:
        """What was marked a day ago leaves the media (A58); the number that went. Raises ArchiveError: refused until confirmed (rule 19)."""


class IArchivedTexts(Interface):
    """The bytes of archived mail for those who read many, or from any place on."""

    async def several(scope: Scope, identifiers: Sequence[int]) -> dict[int, bytes | ArchiveError]:
        """Exact bytes as received, or why they cannot be read; what is not there, or not within the scope, is left out. Whoever asks holds them: a few MiB at a time. Raises Refused
        (no right to content), ArchiveError (there is no index)."""

    async def body(scope: Scope, identifier: int) -> IBody:
        """The same of one that is too large to be held: read, proved and laid out, in memory that does not grow with it. Raises KeyError, Refused, ArchiveError."""
