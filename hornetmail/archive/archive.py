"""The archive as everybody else sees it (``IArchive``): its parts joined, begun and ended. What they do is in ``running/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from hornetmail.archive.care.packs.merging import Merged
from hornetmail.archive.care.terms.keeping import Keeping
from hornetmail.archive.care.trust.stamping import Inside, Outside, Stamping
from hornetmail.archive.care.watch import MediaWatch
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import MediumError
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.stamplog import StampLog
from hornetmail.archive.running.arriving import Arriving
from hornetmail.archive.running.footing import ArchiveSettings, Footing, Standing, Surroundings, Threads, Voice
from hornetmail.archive.running.opening import Opening, holdings_of, staging_ends
from hornetmail.archive.running.reading import Reading
from hornetmail.archive.running.rebuilding import Rebuilding
from hornetmail.archive.running.renewing import Renewing
from hornetmail.archive.running.upkeep import Upkeep
from hornetmail.archive.store.shelf import Shelf
from hornetmail.core.archive.archived import ArchivedMail, ArchiveError, ArchiveFigures, ArchiveItem, Finding, Page
from hornetmail.core.archive.guidance import Guidance
from hornetmail.core.served import Scope
from hornetmail.db.pool import Database
from hornetmail.interfaces.archive import IArchive, IArchivedTexts
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.body import IBody

__all__ = ["Archive", "ArchiveSettings", "Surroundings"]


@implementer(IArchive, IArchivedTexts)
class Archive:
    """One archive in one directory, with its media. ``root`` None: locked; mail is taken and sealed, not searchable (rule 22)."""

    def __init__(
        self,
        around: Surroundings,
        directory: Path,
        *,
        media: Media,
        root: bytes | None,
        settings: ArchiveSettings = ArchiveSettings(),
        stamping: Outside | None = None,
        audit: IAudit | None = None,
    ) -> None:
        reactor = around.reactor
        voice = Voice(reactor, around.bus, around.meters)
        self._threads = Threads(reactor)
        self.standing = Standing(reactor)
        ends = staging_ends(self.standing, media, voice, lambda: self.arriving.arrived())
        self.holdings = holdings_of(around, directory, media, settings, self._threads, ends, self.standing)
        self.watch = MediaWatch(media, voice.alarm, voice.past, reactor.seconds)
        footing = Footing(around, settings, self.holdings, self.standing, voice, self.watch)
        self.arriving = Arriving(footing, lambda: self._opening.come_up(), lambda error: self._opening.wait(error))
        log = StampLog(directory / "stamps", around.disk, settings.node)
        inside = Inside(
            self.holdings,
            log,
            self.index,
            lambda: self.flush(seal=True),
            lambda look: self.standing.writing().sealer.between(look),
            voice.here,
            voice.over,
        )
        self.stamps = Stamping(inside, stamping)
        self.upkeep = Upkeep(footing, self.arriving.flush, self.stamps, audit)
        self._opening = Opening(footing, self.stamps, root, self.upkeep.index_opened)
        self._rebuilding = Rebuilding(footing, self._opening, self.arriving, self.stamps, self.upkeep.tell_journal)
        self._reading = Reading(footing, log)
        self.renewing = Renewing(footing)

    # -- what it is made of ---------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> KeyStore:
        """Its keyring."""
        return self.holdings.keys

    @property
    def media(self) -> Media:
        """Where its packs lie."""
        return self.holdings.media

    @property
    def shelf(self) -> Shelf:
        """Its records, wherever they lie."""
        return self.holdings.shelf

    @property
    def keeping(self) -> Keeping:
        """What is kept, and how long."""
        return self.upkeep.keeping

    @property
    def moving(self) -> DeferredLock:
        """Held while packs change their places or mail is removed."""
        return self.upkeep.moving

    async def sealed(self) -> None:
        """Wait until what is being sealed just now lies where it was to go. Raises ArchiveError: there is no index."""

        async def nothing() -> None:
            return None

        await self.standing.writing().sealer.between(nothing)

    def index(self) -> Database:
        """``archive.db``. Raises ArchiveError: it cannot be used, and why."""
        return self.standing.index()

    def writing(self) -> Database:
        """The same, to write into. Raises ArchiveError: it cannot be written now, and why."""
        return self.standing.writing().database

    @property
    def trouble(self) -> str:
        """Why it does not do all that it should, for people; ``""`` if it does."""
        waits, broken = self.standing.waits, self.standing.broken
        found = [waits and f"it is not open yet: {waits}", broken and f"its index cannot be used: {broken}"]
        return "; ".join(text for text in (*found, *self.watch.away().values()) if text)

    # -- life -----------------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """A new archive: its keyring, and the active medium claimed. Blocking. Raises KeyTrouble (there is one), MediumError."""
        self._opening.create()

    def restore(self, leaves: int = 0) -> Sequence[Finding]:
        """Take keyring, stamps and leaf log from the media into an empty directory; ``start`` and ``rebuild`` come next. ``leaves``: as many as there were at least, by what else is
        known. What could not be taken as it was is told. Blocking.
        Raises KeyTrouble (another key), MediumError, ArchiveError."""
        return self._opening.restore(leaves)

    async def start(self) -> None:
        """Replay, open the index, go on with what is staged. What lies on media that are out of reach waits until they are back; where the archive
        cannot begin without them, it takes no mail until then, and the queue keeps it. Raises KeyTrouble, ArchiveError."""
        self._threads.start()
        try:
            await self._opening.come_up()
        except MediumError as error:
            self._opening.wait(error)
        except BaseException:
            await self.stop()
            raise
        self.arriving.start()

    async def unlock(self, root: bytes) -> None:
        """The key is there now: what was taken meanwhile is indexed. Raises KeyTrouble: another key, or the keyring is still missing."""
        await self._opening.unlock(root)

    async def stop(self) -> None:
        """Finish what is being written. What is staged and not indexed waits for the next start."""
        self.standing.running = False
        self.renewing.halt()
        self.arriving.quiet()
        await self.stamps.stop()
        await self.arriving.finish()
        await self.keeping.stop()
        await self._opening.stop_writing()
        await self._opening.close_index()
        if self._threads.started:
            await self._opening.close()
            await self._threads.stop()

    # -- in and out -----------------------------------------------------------------------------------------------------------

    async def stage(self, item: ArchiveItem, body: IBody) -> None:
        await self.arriving.stage(item, body)

    async def flush(self, seal: bool = False) -> None:
        await self.arriving.flush(seal)

    async def words_read(self) -> None:
        """Returns when no files of mail wait to be read any more, but for those that nobody can read now."""
        await self.standing.writing().words.done()

    async def search(self, scope: Scope, query: str, *, limit: int = 50, after: str = "") -> Page:
        return await self._reading.search(scope, query, limit, after)

    async def guidance(self, scope: Scope, query: str) -> Guidance:
        return await self._reading.guidance(scope, query)

    async def suggestions(self, scope: Scope, text: str) -> tuple[str, ...]:
        return await self._reading.suggestions(scope, text)

    async def mail(self, scope: Scope, identifier: int) -> ArchivedMail:
        return await self._reading.mail(scope, identifier)

    async def read(self, scope: Scope, identifier: int) -> bytes:
        return await self._reading.read(scope, identifier)

    async def several(self, scope: Scope, identifiers: Sequence[int]) -> dict[int, bytes | ArchiveError]:
        return await self._reading.several(scope, identifiers)

    async def body(self, scope: Scope, identifier: int) -> IBody:
        return await self._reading.body(scope, identifier)

    async def evidence(self, scope: Scope, identifier: int) -> bytes:
        return await self._reading.evidence(scope, identifier)

    async def figures(self) -> ArchiveFigures:
        return await self._reading.figures()

    # -- care -----------------------------------------------------------------------------------------------------------------

    async def verify(self, full: bool = False) -> Sequence[Finding]:
        return await self.upkeep.verify(full)

    async def mark(self, now: float) -> int:
        return await self.upkeep.mark(now)

    async def purge(self, now: float) -> int:
        return await self.upkeep.purge(now)

    async def confirm_purge(self) -> None:
        await self.upkeep.confirm_purge()

    async def merge(self, now: float) -> Merged:
        """Packs put together, and written anew without what went (rule 21, 23). What cannot be done now is an alarm, and tried again in the next night."""
        return await self.upkeep.merge(now)

    async def rebuild(self) -> Sequence[Finding]:
        """The index anew from media and key alone, then what is staged (L3). Searches go on in the old one until it is done. What could
        not be read is told. Purging is off afterwards until confirmed (rule 18)."""
        return await self._rebuilding.run()
