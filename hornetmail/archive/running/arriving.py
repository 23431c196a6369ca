"""Mail on its way in: staged, and sealed when there is enough of it or it is old enough. A medium that does not take it is asked again later, and not more often the longer it
lasts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from hornetmail.archive.media.medium import MediumError
from hornetmail.archive.running.footing import Footing
from hornetmail.core.archive.archived import ArchiveError, ArchiveItem
from hornetmail.disk.records import LogBroken
from hornetmail.interfaces.body import IBody

FIRST_WAIT = 30.0
LONGEST_WAIT = 900.0
"""Seconds between two tries to seal while the medium does not take it: the first, and the most."""


class Arriving:
    """``come_up`` is tried at each round while the archive waits for a medium or its index."""

    log = Logger()

    def __init__(self, footing: Footing, come_up: Callable[[], Awaitable[None]], wait: Callable[[MediumError], None]) -> None:
        self._footing = footing
        self._come_up = come_up
        self._wait = wait
        self._ticker: Any = None
        self._round: Deferred[None] = succeed(None)
        self._seal_after = 0.0
        self.failures = 0
        self.sealing: Deferred[None] | None = None

    def start(self) -> None:
        """Look from time to time."""
        self._ticker = self._footing.around.reactor.callLater(self._footing.settings.tick_seconds, self._tick)

    def quiet(self) -> None:
        """Look no more."""
        if self._ticker is not None and self._ticker.active():
            self._ticker.cancel()

    async def finish(self) -> None:
        """What is under way ends."""
        await self._round
        await self.sealed()

    async def sealed(self) -> None:
        """Nothing is being sealed any more."""
        if self.sealing is not None:
            await self.sealing

    async def stage(self, item: ArchiveItem, body: IBody) -> None:
        """See ``IArchive``."""
        footing = self._footing
        if not footing.standing.running:
            raise ArchiveError(footing.standing.why_not)
        raw = await body.read()
        try:
            await footing.holdings.staging.stage(item, raw)
        except LogBroken as error:
            raise ArchiveError(f"the staging log is broken; the service must be restarted: {error}") from error
        footing.voice.count("archive_staged", 1)

    def arrived(self) -> None:
        """Something was staged."""
        footing = self._footing
        if footing.standing.opened is not None and footing.standing.at_work:
            footing.standing.opened.indexer.wake()
        if footing.holdings.staging.bytes >= footing.settings.seal_bytes:
            self.seal_soon()

    def _tick(self) -> None:
        self.start()
        self._look_at_logs()
        if self._round.called:
            # A medium that answers slowly keeps the round from the next tick, and nothing else.
            self._round = Deferred.fromCoroutine(self.look_round())
        self._seal_if_old()

    def _look_at_logs(self) -> None:
        """One whose sync failed takes nothing more before a restart, whoever met that and whatever became of it."""
        holdings = self._footing.holdings
        for log in (holdings.staging.records, holdings.leaves.records):
            if log.broken:
                self._footing.voice.log_broke(str(log.directory))

    def _seal_if_old(self) -> None:
        footing = self._footing
        oldest = footing.holdings.staging.oldest()
        if oldest and footing.holdings.seconds() - oldest >= footing.settings.seal_seconds:
            self.seal_soon()

    async def look_round(self) -> None:
        """What media are back, what waited for them, and the wrapped keys that lie on each (rule 22); the sealer sees to the active one before it
        needs them there."""
        standing, holdings = self._footing.standing, self._footing.holdings
        try:
            back = await holdings.in_thread(self._footing.watch.look)
            if standing.waits or standing.again:
                await self._come_up()
            for number in back:
                self.log.info("medium {number} is back", number=number)
            if holdings.media.active.number in back:
                self._seal_after = 0.0
                self._seal_if_old()
            if back and standing.opened is not None and standing.at_work:
                standing.opened.indexer.retry()
                await standing.opened.words.retry()
            for problem in await holdings.in_thread(holdings.keys.publish_all, holdings.media.all()):
                self.log.error("the keyring: {problem}", problem=problem)
        except MediumError as error:
            self._wait(error)
        except Exception:  # noqa: BLE001  the next round tries again
            self.log.failure("looking after the media failed")

    def seal_soon(self) -> None:
        """Seal what is staged, unless that is under way or failed just now."""
        standing = self._footing.standing
        due = self._footing.around.uptime() >= self._seal_after
        if due and self.sealing is None and standing.at_work and standing.running:
            self.sealing = Deferred.fromCoroutine(self._seal_quietly())

    async def _seal_quietly(self) -> None:
        voice, holdings = self._footing.voice, self._footing.holdings
        try:
            await self.flush(seal=True)
            voice.over("archive-backlog", "the medium takes mail again")
        except Exception as error:  # noqa: BLE001  the backlog stays staged; a later tick tries again
            self._seal_after = self._footing.around.uptime() + min(LONGEST_WAIT, FIRST_WAIT * 2**self.failures)
            self.failures = min(self.failures + 1, 10)
            self.log.error("sealing failed, the backlog stays staged: {error!r}", error=error)
            if self.failures == 1:
                waiting, number = holdings.staging.count, holdings.media.active.number
                voice.alarm("archive-backlog", f"{waiting} mails wait for medium {number}: {error}")
        finally:
            self.sealing = None

    async def flush(self, seal: bool = False) -> None:
        """See ``IArchive``."""
        opened = self._footing.standing.writing()
        await opened.indexer.flush()
        if seal:
            packs = await opened.sealer.seal()
            self.failures, self._seal_after = 0, 0.0
            self._footing.voice.count("archive_packs", packs)
