"""Whether every leaf of the log has an owner in the index (rule 17): what is missing without a trace leaves a trace here."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.archive.index.leaves import Ledger, settle_unknown
from hornetmail.archive.store.holdings import Holdings
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.pool import Database
from hornetmail.disk.records import BadRecord


class Accounts:
    """One look. Pages of the index one after the other, so that no read transaction lasts."""

    def __init__(self, holdings: Holdings, database: Database) -> None:
        self._holdings = holdings
        self._database = database

    async def check(self) -> Sequence[Finding]:
        """A finding that says which leaves have none; empty if all have. A leaf log that does not read is told by who checks it."""
        try:
            hashes = await self._holdings.in_thread(self._holdings.leaves.hashes)
        except (ArchiveError, BadRecord, KeyError, ValueError, OSError):
            return ()
        ledger = Ledger(self._holdings.node, hashes)
        ledger.own(entry.leaf for segment in self._holdings.staging.segments.values() for entry in segment)
        leaf: int | None = -1
        while leaf is not None:
            leaf = await self._database.read(ledger.mails, leaf)
        leaf = -1
        while leaf is not None:
            leaf = await self._database.read(ledger.arrivals, leaf)
        ownerless = await self._database.read(ledger.rest)
        if await self._database.run(settle_unknown, self._holdings.node, ownerless):
            return ()
        return (Finding("leaf log", ownerless.told()),) if ownerless.count else ()
