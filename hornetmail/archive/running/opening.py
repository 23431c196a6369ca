"""The archive's files and its index: made, opened, taken from the media where they are lost here, and closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from hornetmail.archive.care.packs.leafrestore import restore_leaves
from hornetmail.archive.care.packs.sealing import Sealer
from hornetmail.archive.care.trust.stamping import Stamping
from hornetmail.archive.index.finding.folders import begin_uids
from hornetmail.archive.index.schema.files import IndexFiles
from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.index.writing.indexer import Indexer
from hornetmail.archive.index.writing.mails import Stored
from hornetmail.archive.keys.keyring import Keyring, KeyringDamaged, KeyTrouble
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.medium import IMedium, MediumError, MediumUnread
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.running.filewords import FileWords
from hornetmail.archive.running.footing import ArchiveSettings, Footing, OpenIndex, Standing, Surroundings, Threads, Voice
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.parts import PartKey, find_part
from hornetmail.archive.store.records import RecordCodec
from hornetmail.archive.store.renumbering import Renumbering
from hornetmail.archive.store.shelf import Shelf, find_staged, locate_part
from hornetmail.archive.store.staging import Staging, StagingEnds
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.db.engines import Cursor, DatabaseBroken
from hornetmail.db.migrate import SchemaError
from hornetmail.db.pool import Database, Watch
from hornetmail.disk.files import DiskFull
from hornetmail.disk.records import LogBroken, Position, RecordLog
from hornetmail.disk.threads import lock


def holdings_of(
    around: Surroundings,
    directory: Path,
    media: Media,
    settings: ArchiveSettings,
    threads: Threads,
    ends: StagingEnds,
    standing: Standing,
) -> Holdings:
    """What the archive in a directory consists of; nothing is read yet."""
    reactor, disk, node = around.reactor, around.disk, settings.node
    keys = KeyStore(directory, disk, node, lambda: lock(reactor))
    codec = RecordCodec(keys.current)
    staged = RecordLog(directory / "staging", disk, writer=f"n{node}", seal=None, segment_bytes=settings.seal_bytes)
    staging = Staging(reactor, threads.staging, staged, codec, keys, around.ids, ends)
    logged = RecordLog(directory / "leaves", disk, writer=f"n{node}", seal=None)
    leaves = LeafLog(logged, node, disk, lambda: lock(reactor))
    shelf = Shelf(staging, media, codec, lambda record: standing.ask(locate_part, record))
    return Holdings(reactor, threads.pool, disk, directory, media, keys, codec, leaves, staging, shelf)


def staging_ends(standing: Standing, media: Media, voice: Voice, arrived: Callable[[], None]) -> StagingEnds:
    """What staging asks and tells."""

    def part(key: PartKey) -> bytes | None:
        return standing.ask(partial(find_part, medium=media.active.number), key)

    return StagingEnds(standing.known_rows, part, arrived, voice.alarm)


READERS = 4
"""Of the index: two searches, a long question of a mail program, and one for all that is short."""


class Opening:
    """``root`` None: locked; mail is taken and sealed, not searchable (rule 22). ``opened`` is awaited behind each opening of the index."""

    log = Logger()

    def __init__(self, footing: Footing, stamping: Stamping, root: bytes | None, opened: Callable[[], Awaitable[None]]) -> None:
        self._footing = footing
        self._holdings = footing.holdings
        self._standing = footing.standing
        self._voice = footing.voice
        self._stamping = stamping
        self._root = root
        self._opened = opened
        self._coming = DeferredLock()
        self.files = IndexFiles(footing.holdings.directory, footing.holdings.disk)

    # -- files ----------------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """See ``Archive``."""
        if self._root is None:
            raise KeyTrouble("a new archive needs its key")
        holdings = self._holdings
        keyring = holdings.keys.create(self._root)
        holdings.media.expect(keyring.archive)
        holdings.media.active.claim(keyring.archive)
        holdings.keys.publish(holdings.media.active)
        holdings.leaves.begin()

    def restore(self, known: int) -> Sequence[Finding]:
        """See ``Archive``."""
        if self._root is None:
            raise KeyTrouble("restoring needs the key")
        holdings = self._holdings
        if not holdings.keys.exists:
            holdings.keys.restore(holdings.media.all(), self._root)
        else:
            holdings.keys.open(self._root)
        holdings.leaves.replay()
        try:
            found = list(self._stamping.restore())
            return found + restore_leaves(holdings, max(known, self._stamping.stamped))
        finally:
            holdings.leaves.close()

    async def come_up(self) -> None:
        """Everything, if it is not there already. Raises MediumError: it cannot begin without a medium that is away."""
        await self._coming.acquire()
        try:
            await self._come_up()
        finally:
            self._coming.release()

    async def _come_up(self) -> None:
        standing = self._standing
        if not standing.running:
            await self._holdings.in_thread(self._open_files)
            if standing.waits:
                self._voice.over("archive-waits", "the archive takes mail")
            standing.waits = ""
            standing.running = True
        if standing.opened is None and not self._holdings.keys.current().locked:
            await self._try_index()

    def wait(self, error: MediumError) -> None:
        """It is not open yet, and why."""
        if not self._standing.waits:
            self._voice.alarm("archive-waits", f"the archive takes no mail yet, and the queue keeps it: {error}")
        self._standing.waits = str(error)

    def _open_files(self) -> None:
        holdings, watch, alarm = self._holdings, self._footing.watch, self._voice.alarm
        keys, media = holdings.keys, holdings.media
        holdings.disk.make_directory(holdings.directory)
        if not keys.exists:
            if self._root is None:
                raise MediumError("the keyring is missing, and can be taken from a medium only once the archive is unlocked")
            keys.restore(media.all(), self._root)
            alarm("archive-keyring", "the archive's keyring was gone, and was taken from a medium")
        keyring = self._keyring()
        media.expect(keyring.archive)
        keys.known(media.numbers)
        watch.look()
        for problem in self._unite():
            alarm("archive-keyring", problem)
        self._stamping.open()
        self._open_leaves()
        holdings.staging.replay(holdings.leaves.size)
        if damaged := holdings.staging.damaged:
            first = next(iter(damaged.values()))[0]
            alarm("archive-staging-damaged", f"damage in {len(damaged)} segments of the staging log; first: {first}")
        if not keyring.locked:
            self._renumber()

    def _renumber(self) -> None:
        """No staged mail keeps a leaf number that another installation gave away meanwhile (ADR 38). One that cannot be written has it until the next start, and is read as before."""
        holdings = self._holdings
        try:
            given = Renumbering(holdings.staging, holdings.codec, holdings.leaves).run()
        except (ArchiveError, OSError, DiskFull, LogBroken) as error:
            self._voice.alarm(
                "archive-renumbered", f"staged mail cannot be given its new leaf numbers, tried again at the next start: {error}"
            )
            return
        if given:
            text = f"{given} staged records had leaf numbers that another installation gave away meanwhile, and have new ones: run archive rebuild"
            self._voice.alarm("archive-renumbered", text)

    def _keyring(self) -> Keyring:
        """The one that lies here; where it is damaged, the media's. Raises KeyTrouble: of another root key, or no medium has one either; MediumError: it waits for a medium, or for the key."""
        keys = self._holdings.keys
        try:
            return keys.open(self._root)
        except KeyringDamaged as error:
            what = str(error)
        if self._root is None:
            raise MediumError(f"{what}, and can be taken from a medium only once the archive is unlocked")
        try:
            aside = keys.replace(self._holdings.media.all(), self._root)
        except MediumError as error:
            raise MediumError(f"{what}, and cannot be taken from a medium: {error}") from error
        self._voice.alarm("archive-keyring", f"{what}: it was taken from a medium anew, what lay here is kept as {aside}")
        return keys.current()

    def _unite(self) -> list[str]:
        away = self._footing.watch.unread()
        near = [medium for medium in self._holdings.media.all() if medium.number not in away]
        return [f"the wrapped keys of a medium cannot be taken: {problem}" for problem in self._holdings.keys.unite(near)]

    def _open_leaves(self) -> None:
        """The leaf log; what it lacks is taken from the media, so that no leaf number is ever given twice (rule 17). Raises MediumError: it was lost,
        and not all media are in reach that may know more."""
        leaves, media = self._holdings.leaves, self._holdings.media
        leaves.reopen()
        try:
            leaves.replay()
        except (ArchiveError, ValueError) as error:
            self._voice.alarm("archive-leaves", f"the leaf log was damaged, and is restored from the media: {error}")
            leaves.set_aside(f"leaves-damaged-{int(self._holdings.seconds() * 1000)}")
            leaves.replay()
        away = self._footing.watch.unread()
        near = [medium for medium in media.all() if medium.number not in away]
        if leaves.known and self._catches_up(near):
            return
        if found := restore_leaves(self._holdings, self._stamping.stamped):
            first = f"{found[0].where}: {found[0].what}"
            self._voice.alarm("archive-leaves", f"the leaf log was lost, and the media do not have all of it; first: {first}")

    def _catches_up(self, near: Sequence[IMedium]) -> bool:
        """Take what these media have more; False: a run that comes next is damaged, or is missing while later ones are there."""
        leaves = self._holdings.leaves
        try:
            while any(leaves.catch_up(medium) for medium in near):
                pass
        except MediumUnread:
            return False
        except MediumError:
            raise
        except ArchiveError:
            return False
        return not any(leaves.goes_on(medium) for medium in near)

    # -- index ----------------------------------------------------------------------------------------------------------------

    async def _try_index(self) -> None:
        """Mail is taken without the index too: it can be rebuilt, and must not hold up the queue. What may be better in a moment (it is locked, there is no
        room) is tried again."""
        try:
            if await self._holdings.in_thread(self._index_is_lost):
                raise ArchiveError(f"{self.files.database.name} is gone, but there are packs on the media")
            await self.open_index()
            self._voice.over("archive-index", "the index is there")
        except Exception as error:  # noqa: BLE001  whatever is wrong with the index, the packs hold all of it
            self.log.error("the archive's index cannot be used: {error}", error=error)
            await self.stop_writing()
            await self.close_index()
            lasts = isinstance(error, (ArchiveError, SchemaError)) or (isinstance(error, DatabaseBroken) and error.corrupt)
            self._standing.broken, self._standing.again = str(error), not lasts
            self._voice.alarm("archive-index", f"the archive's index cannot be used ({error}): {self._standing.remedy}")

    def _index_is_lost(self) -> bool:
        """There is none, though mail was sealed already. Only an archive that sealed nothing yet asks its media."""
        self.files.settle()
        if self.files.database.exists():
            return False
        away, media = self._footing.watch.unread(), self._holdings.media
        return bool(self._holdings.leaves.size) or any(m.names("packs/", limit=1) for m in media.all() if m.number not in away)

    async def open_index(self) -> None:
        """From now on it is searched and written."""
        standing, holdings = self._standing, self._holdings
        standing.broken, standing.again = "", False
        watch = Watch(self._voice.broke, self._footing.settings.glance_seconds, self._voice.held)
        key = holdings.keys.current().database_key()
        url = f"sqlite://{self.files.database}"
        database = await self._footing.around.open_database(
            holdings.reactor, url, MIGRATIONS, key=key, readers=READERS, watch=watch
        )
        entries = (entry for some in holdings.staging.segments.values() for entry in some)
        await database.run(_begin, holdings.seconds(), {entry.record: entry.position for entry in entries})
        standing.opened = self._writers(database, Sealer(holdings, database))
        await standing.recount()
        await standing.opened.words.retry()
        standing.at_work = True
        standing.opened.indexer.wake()
        await self._opened()

    def _writers(self, database: Database, sealer: Sealer) -> OpenIndex:
        indexer = Indexer(self._holdings, database, self._indexed, self._voice.alarm)
        return OpenIndex(
            database, indexer, sealer, FileWords(self._holdings, database, self._footing.around.readers, self._voice)
        )

    def _indexed(self, stored: Sequence[Stored]) -> None:
        new = self._standing.grown(stored)
        self._voice.count("archive_indexed", len(stored))
        if stored:
            self._voice.grew(new)
        if self._standing.opened is not None and any(one.waiting for one in stored):
            self._standing.opened.words.wake()

    async def open_anew(self) -> Database:
        """An empty index beside the one that is searched."""
        holdings = self._holdings
        fresh = await holdings.in_thread(self.files.begin)
        return await self._footing.around.open_database(
            holdings.reactor, f"sqlite://{fresh}", MIGRATIONS, key=holdings.keys.current().database_key(), synchronous="NORMAL"
        )

    async def unlock(self, root: bytes) -> None:
        """See ``Archive``."""
        if self._standing.opened is not None:
            return
        holdings = self._holdings
        if not holdings.keys.is_open:
            await self._unlock_without_keyring(root)
            return
        await holdings.in_thread(holdings.keys.open, root)
        self._root = root
        if self._standing.running:
            for problem in await holdings.in_thread(self._unite):
                self._voice.here("archive-keyring", problem)
            await self._try_index()
            return
        try:
            # What it waits for may have been the key.
            await self.come_up()
        except MediumError as error:
            self.wait(error)

    async def _unlock_without_keyring(self, root: bytes) -> None:
        """It waits for its keyring, which only the key can take from a medium."""
        before, self._root = self._root, root
        try:
            await self.come_up()
        except MediumError as error:
            self.wait(error)
            if not self._holdings.keys.is_open:
                self._root = before
                raise KeyTrouble(str(error)) from None
        except BaseException:
            self._root = before
            raise

    async def stop_writing(self) -> None:
        """The index is only searched from now on, until it is opened again or writing goes on."""
        standing = self._standing
        standing.again = False
        if standing.opened is not None and standing.at_work:
            standing.at_work = False
            await standing.opened.indexer.stop()
            await standing.opened.words.stop()

    def go_on_writing(self) -> None:
        """The index that is searched is written again as well."""
        standing = self._standing
        if standing.opened is not None and not standing.at_work and standing.running:
            # What was put aside for a medium that is away waits on.
            standing.opened.indexer.retry()
            standing.opened = self._writers(standing.opened.database, standing.opened.sealer)
            standing.at_work = True
            standing.opened.indexer.wake()
            standing.opened.words.wake()

    async def close_index(self) -> None:
        """From now on there is none."""
        opened, self._standing.opened = self._standing.opened, None
        self._standing.at_work = False
        if opened is not None:
            await opened.database.close()

    async def close(self) -> None:
        """All files."""
        holdings = self._holdings
        await holdings.staging.alone(holdings.staging.records.close)
        await holdings.in_thread(holdings.leaves.close)


def _begin(cursor: Cursor, now: float, staged: Mapping[bytes, Position]) -> None:
    begin_uids(cursor, now)
    find_staged(cursor, staged)
