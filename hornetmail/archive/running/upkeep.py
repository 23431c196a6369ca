"""The archive's jobs: verifying, retention, merging, and what they tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from hornetmail.archive.care.copies.checked import check_backups
from hornetmail.archive.care.packs.merging import Merged, Merger
from hornetmail.archive.care.packs.runs import merge_runs
from hornetmail.archive.care.packs.verify import Verification
from hornetmail.archive.care.terms.keeping import Keeping, Parts
from hornetmail.archive.care.terms.retention import Clocks, Retention
from hornetmail.archive.care.trust.stamping import Stamping, verify_stamps
from hornetmail.archive.media.medium import MediumError
from hornetmail.archive.running.footing import Footing
from hornetmail.core.archive.archived import Finding
from hornetmail.core.delivery.backoff import DAY
from hornetmail.disk.files import DiskFull
from hornetmail.interfaces.audit import IAudit


class Upkeep:
    """``flush(seal)``: see ``IArchive``. ``moving``: held while packs change their places or mail is removed."""

    log = Logger()

    def __init__(
        self, footing: Footing, flush: Callable[[bool], Awaitable[None]], stamping: Stamping, audit: IAudit | None
    ) -> None:
        self._footing = footing
        self._holdings = footing.holdings
        self._standing = footing.standing
        self._flush = flush
        self._stamping = stamping
        self._audit = audit
        self.moving = DeferredLock()
        self.keeping = Keeping(
            Parts(
                footing.holdings,
                footing.standing.index,
                self.moving,
                flush,
                self.tell_journal,
                self._went,
                footing.watch.away,
                audit,
            )
        )
        self._steady_since()

    async def _went(self) -> None:
        """Some mail left the index."""
        await self._standing.recount()
        self._footing.voice.grew(0)

    def _steady_since(self) -> None:
        """The clock that runs now is the one to go by."""
        self.began = (self._holdings.seconds(), self._footing.around.uptime())

    async def index_opened(self) -> None:
        """What a process that died had begun comes to its end."""
        await self.keeping.catch_up()
        await self.tell_journal(self._holdings.seconds())

    async def tell_journal(self, now: float) -> None:
        """See ``Retention``."""
        await self._retention().tell_journal(now)

    async def verify(self, full: bool) -> Sequence[Finding]:
        """See ``IArchive``."""
        opened, holdings = self._standing.writing(), self._holdings
        found = await Verification(holdings, opened.database, opened.sealer).run(full)
        stamped = await holdings.in_thread(verify_stamps, self._stamping.stamps, holdings.leaves, holdings.media, full)
        backups = await holdings.in_thread(check_backups, holdings.media, holdings.keys.current(), full)
        # A medium that is away is met by several who look, and told of once.
        return tuple(dict.fromkeys((*found, *stamped, *backups, *await self._stamping.check_audit(full))))

    # -- retention ------------------------------------------------------------------------------------------------------------

    async def mark(self, now: float) -> int:
        """See ``IArchive``. Rules that were changed are applied first, and holds with a query take what came since."""
        self._standing.index()
        await self.keeping.walk()
        await self.keeping.renew_holds()
        marked = await self._retention().mark(now)
        self._footing.voice.grew(0)
        return marked

    async def purge(self, now: float) -> int:
        """See ``IArchive``."""
        await self.moving.acquire()
        try:
            gone = await self._retention().purge(now)
        finally:
            self.moving.release()
        await self._went()
        if gone:
            try:
                await self._flush(True)
            except MediumError as error:
                # What went is in the staged journal, and reaches the medium with the next packs.
                self.log.warn("the journal of what was purged waits for its medium: {error}", error=error)
        return gone

    async def confirm_purge(self) -> None:
        """See ``IArchive``."""
        await self._retention().confirm(self._holdings.seconds())
        self._steady_since()

    def _retention(self) -> Retention:
        seconds, uptime = self.began
        drift = self._holdings.seconds() - seconds - (self._footing.around.uptime() - uptime)
        clocks = Clocks(drift, *self._stamping.clocks())
        voice, settings = self._footing.voice, self._footing.settings.retention
        return Retention(self._holdings, self._standing.index(), voice.here, clocks, settings, self._audit)

    # -- merging --------------------------------------------------------------------------------------------------------------

    async def merge(self, now: float) -> Merged:
        """Packs put together, and written anew without what went. What cannot be done now is an alarm, and tried again in the next night."""
        opened, holdings, voice = self._standing.writing(), self._holdings, self._footing.voice

        async def settle() -> None:
            await holdings.staging.alone(lambda: None)
            await opened.indexer.flush()

        merger = Merger(holdings, opened.database, opened.sealer, settle, self.moving, self._footing.settings.merging)
        merged = await opened.sealer.between(partial(self._merge_runs, await merger.run(now)))
        if not merged.damaged and not merged.away and not merged.locked:
            voice.over("archive-merging", "packs are merged")
        for problem in merged.damaged:
            voice.here("archive-merging", f"a damaged pack is not merged: {problem}")
        for problem in merged.locked:
            voice.here(
                "archive-merging", f"a pack that was merged stays, and what was deleted from it, until its lock ends: {problem}"
            )
        for problem in merged.away:
            voice.here(
                "archive-merging", f"packs are not merged, and what was deleted from them stays there until it is back: {problem}"
            )
        return merged

    async def _merge_runs(self, merged: Merged) -> Merged:
        """The leaf runs too, on every medium in reach; and what was cut off there goes."""
        holdings = self._holdings
        damaged, away = [*merged.damaged], [*merged.away]
        for medium in holdings.media.all():
            try:
                _, bad = await holdings.in_thread(merge_runs, medium, holdings.node, holdings.leaves.size)
                damaged += bad
                await holdings.in_thread(medium.sweep, holdings.seconds() - DAY)
            except (MediumError, DiskFull) as error:
                away.append(str(error))
        return msgspec.structs.replace(merged, damaged=tuple(damaged), away=tuple(dict.fromkeys(away)))
