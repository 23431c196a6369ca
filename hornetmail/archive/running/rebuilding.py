"""The index made anew (L3) while the archive runs."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence

from twisted.logger import Logger

from hornetmail.archive.care.packs.accounts import Accounts
from hornetmail.archive.care.packs.rebuild import Rebuild
from hornetmail.archive.care.trust.stamping import Stamping, verify_stamps
from hornetmail.archive.index.finding.folders import Numbering, numbering, take_numbering, take_tops
from hornetmail.archive.running.arriving import Arriving
from hornetmail.archive.running.footing import Footing
from hornetmail.archive.running.opening import Opening
from hornetmail.archive.store.shelf import PackRow, pack_rows
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.engines import DatabaseBroken
from hornetmail.disk.files import DiskFull
from hornetmail.disk.records import LogBroken


class Rebuilding:
    """See ``Archive.rebuild``. ``tell_journal``: what left the index is in the journal on return."""

    log = Logger()

    def __init__(
        self,
        footing: Footing,
        opening: Opening,
        arriving: Arriving,
        stamping: Stamping,
        tell_journal: Callable[[float], Awaitable[None]],
    ) -> None:
        self._tell_journal = tell_journal
        self._holdings = footing.holdings
        self._standing = footing.standing
        self._opening = opening
        self._arriving = arriving
        self._stamping = stamping

    async def run(self) -> Sequence[Finding]:
        """See ``Archive.rebuild``."""
        holdings, opening = self._holdings, self._opening
        if holdings.keys.current().locked:
            raise ArchiveError("the archive key is locked")
        await self._told()
        await self._arriving.sealed()
        await opening.stop_writing()
        try:
            uids = await self._numbering()
            found = await self._make(uids)
        except BaseException:
            # The old index is as good as it was, and mail goes on coming in.
            opening.go_on_writing()
            raise
        await opening.close_index()
        try:
            await holdings.in_thread(opening.files.take)
        except ArchiveError:
            await opening.open_index()
            raise
        holdings.staging.index_again()
        await opening.open_index()
        await self._arriving.flush()
        if uids is not None:
            await self._standing.index().run(take_tops, uids)
        ownerless = await Accounts(holdings, self._standing.index()).check()
        stamps = await holdings.in_thread(self._stamping.restore)
        wrong = await holdings.in_thread(verify_stamps, self._stamping.stamps, holdings.leaves, holdings.media, False)
        return (*found, *ownerless, *stamps, *wrong)

    async def _told(self) -> None:
        """What the old index alone knows to be deleted would be back in the new one, or missed there. Raises ArchiveError: it cannot be written down."""
        if self._standing.opened is None:
            return
        try:
            await self._tell_journal(self._holdings.seconds())
        except DatabaseBroken as error:
            self.log.error("the old index cannot be asked for what left it last: {error}", error=error)
        except (LogBroken, OSError, DiskFull) as error:
            raise ArchiveError(f"what was deleted last cannot be written to the journal, and would be back: {error}") from error

    async def _make(self, uids: Numbering | None) -> Sequence[Finding]:
        before = await self._packs_before()
        database = await self._opening.open_anew()
        try:
            found = await Rebuild(self._holdings, database, before).run()
            await database.run(take_numbering, uids, self._holdings.seconds())
            return found
        finally:
            # A call that failed leaves its cursor in a cycle with its traceback, and SQLite writes its WAL out only when no cursor is left.
            await self._holdings.in_thread(gc.collect)
            await database.close()

    async def _numbering(self) -> Numbering | None:
        """What the old index knows of UIDs, if it can still be asked."""
        if self._standing.opened is None:
            return None
        try:
            return await self._standing.index().read(numbering)
        except Exception as error:  # noqa: BLE001  it may be why there is a rebuild
            self.log.error(
                "the old index cannot be asked for its UIDs: {error}; mail programs read the archive anew", error=error
            )
            return None

    async def _packs_before(self) -> Sequence[PackRow]:
        """The packs that the old index knows, if it can still be asked."""
        if self._standing.opened is None:
            return ()
        try:
            return await self._standing.index().read(pack_rows)
        except Exception as error:  # noqa: BLE001  it may be why there is a rebuild
            self.log.error("the old index cannot be asked for its packs: {error}", error=error)
            return ()
