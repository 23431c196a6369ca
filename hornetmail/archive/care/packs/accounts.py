"""Whether every leaf of the log has an owner in the index (rule 17): what is missing without a trace leaves a trace here."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.archive.index.ties.leaves import Ledger, Ownerless, excused, settle_unknown
from hornetmail.archive.store.holdings import Holdings
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord

STRETCH = 131_072
"""Leaves that are looked at together: 4 MiB of hashes, however long the log is."""

Stretch = tuple[int, int]
"""First leaf, and the one behind the last."""


def in_stretches(low: int, high: int) -> list[Stretch]:
    """These leaves in pieces of ``STRETCH``."""
    return [(at, min(at + STRETCH, high)) for at in range(low, high, STRETCH)]


class Accounts:
    """One look. Pages of the index one after the other, so that no read transaction lasts."""

    def __init__(self, holdings: Holdings, database: Database) -> None:
        self._holdings = holdings
        self._database = database

    async def check(self, stretches: Sequence[Stretch] | None = None) -> Sequence[Finding]:
        """A finding that says which leaves have none, of all or of these stretches; empty if all have. A leaf log that does not read is told by who checks it."""
        wanted = in_stretches(0, self._holdings.leaves.size) if stretches is None else stretches
        ranges: list[tuple[int, int]] = []
        for low, high in wanted:
            try:
                ranges += await self._without(low, high)
            except (ArchiveError, BadRecord, KeyError, ValueError, OSError):
                return ()
        found = Ownerless(tuple(ranges))
        if found.count <= await self._database.read(excused):
            found = Ownerless(())
        if stretches is None and await self._database.run(settle_unknown, self._holdings.node, found):
            return ()
        return (Finding("leaf log", found.told()),) if found.count else ()

    async def _without(self, low: int, high: int) -> Sequence[tuple[int, int]]:
        holdings = self._holdings
        ledger = Ledger(holdings.node, low, await holdings.in_thread(holdings.leaves.stretch, low, high))
        ledger.own(entry.leaf for segment in holdings.staging.segments.values() for entry in segment)
        for page in (ledger.mails, ledger.arrivals):
            leaf: int | None = -1
            while leaf is not None:
                leaf = await self._database.read(page, leaf)
        return await self._database.read(ledger.rest)
