"""What the parts of a running archive share: settings, what is around it, what it consists of, how it stands, and its voice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from hornetmail.archive.care.packs.plans import MergeSettings
from hornetmail.archive.care.packs.sealing import Sealer
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.care.watch import MediaWatch
from hornetmail.archive.index.writing.indexer import Indexer
from hornetmail.archive.index.writing.mails import Stored, known_rows
from hornetmail.archive.running.filewords import FileWords
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.records import Outcome
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.core.events import Alarm, AlarmEnded, ArchiveGrew, StoreBroken, StoreHeld
from hornetmail.core.ids import IdSource
from hornetmail.db.engines import Cursor, DatabaseBroken
from hornetmail.db.pool import Database, OpenDatabase
from hornetmail.disk.files import Disk
from hornetmail.disk.threads import thread_pool, wait_for
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.meters import IMeters
from hornetmail.interfaces.readers import IReaders

T = TypeVar("T")
A = TypeVar("A")


class ArchiveSettings(msgspec.Struct, frozen=True, gc=False):
    """Sizes and times. ``seal_bytes``, ``seal_seconds``: a staging segment goes to the medium at that size or age. ``node``: 0 to 1023.
    ``glance_seconds``: between looks at an index that nobody uses, 0: none.
    ``retention``: what may go at once (rule 19). ``merging``: how large packs become."""

    seal_bytes: int = 32 << 20
    seal_seconds: float = 900.0
    tick_seconds: float = 15.0
    node: int = 0
    glance_seconds: float = 0.0
    retention: RetentionSettings = RetentionSettings()
    merging: MergeSettings = MergeSettings()


class Surroundings(msgspec.Struct, frozen=True):
    """What an archive is handed: ``reactor`` with its clock, ``uptime`` a monotonic one, the disk, where IDs come from, whom it tells (``bus`` and ``meters``
    None: nobody), how a database is opened, and who reads the files that hang on mail (None: they wait)."""

    reactor: Any
    disk: Disk
    ids: IdSource
    bus: IBus | None = None
    meters: IMeters | None = None
    uptime: Callable[[], float] = monotonic
    open_database: OpenDatabase = Database.open
    readers: IReaders | None = None


class Threads:
    """The archive's threads. Staging has one of its own, so that a medium which hangs holds up no mail on its way in."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.pool = thread_pool(reactor, 1, 3, "archive")
        self.staging = thread_pool(reactor, 0, 1, "staging")

    @property
    def started(self) -> bool:
        """Whether they run."""
        return bool(self.pool.started)

    def start(self) -> None:
        """From now on they take work."""
        self.pool.start()
        self.staging.start()

    async def stop(self) -> None:
        """They finish what they have."""
        stopped: Deferred[None] = Deferred()

        def stop() -> None:
            self.staging.stop()
            self.pool.stop()
            self._reactor.callFromThread(stopped.callback, None)

        self._reactor.callInThread(stop)
        await stopped


class Voice:
    """What the archive says on the bus, and what it counts. ``alarm`` and ``past`` from any thread, the others on the reactor's."""

    def __init__(self, reactor: Any, bus: IBus | None, meters: IMeters | None) -> None:
        self._reactor = reactor
        self._bus = bus
        self._meters = meters

    def alarm(self, code: str, text: str, subject: str = "") -> None:
        """Something is wrong."""
        if self._bus is not None:
            self._reactor.callFromThread(self._bus.publish, Alarm(code, text, subject=subject))

    def past(self, code: str, why: str, subject: str) -> None:
        """And is not any more."""
        if self._bus is not None:
            self._reactor.callFromThread(self._bus.publish, AlarmEnded(code, subject, why))

    def here(self, code: str, text: str) -> None:
        """Something is wrong, told at once."""
        if self._bus is not None:
            self._bus.publish(Alarm(code, text))

    def over(self, code: str, why: str) -> None:
        """And is not any more, told at once."""
        if self._bus is not None:
            self._bus.publish(AlarmEnded(code, why=why))

    def broke(self, file: str, error: DatabaseBroken) -> None:
        """The index cannot be trusted any more."""
        if self._bus is not None:
            self._bus.publish(StoreBroken("archive", file, str(error), error.corrupt))

    def held(self, file: str, held: bool) -> None:
        """Another program keeps the index from being written, or does not any more."""
        if self._bus is not None:
            self._bus.publish(StoreHeld("archive", file, held))

    def log_broke(self, directory: str) -> None:
        """A log takes nothing more in this process."""
        if self._bus is not None:
            self._bus.publish(StoreBroken("archive", directory, "writing or syncing it failed", False))

    def grew(self, mails: int) -> None:
        """So many mails can be found now that could not before; 0: some may not be found any more."""
        if self._bus is not None:
            self._bus.publish(ArchiveGrew(mails))

    def count(self, name: str, amount: float) -> None:
        """Add to a meter."""
        if self._meters is not None:
            self._meters.count(name, amount)


class OpenIndex(msgspec.Struct, frozen=True):
    """``archive.db`` while it is open, and who writes it."""

    database: Database
    indexer: Indexer
    sealer: Sealer
    words: FileWords


class Standing:
    """How the archive stands. ``running``: it takes mail. ``waits``: for what it is not open yet. ``broken``: why its index cannot be used; ``again``: that may be over in a
    moment, and it is tried again. ``opened``: the index;
    ``at_work`` False: a rebuild has stopped who writes it, and it is only searched. ``mails``, ``raw``: how many it holds, and their bytes."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.running = False
        self.waits = ""
        self.broken = ""
        self.again = False
        self.opened: OpenIndex | None = None
        self.at_work = False
        self.mails = 0
        self.raw = 0

    def index(self) -> Database:
        """``archive.db``. Raises ArchiveError: it cannot be used, and why."""
        if self.opened is None:
            raise ArchiveError(self.why_not)
        return self.opened.database

    def writing(self) -> OpenIndex:
        """The index and who writes it. Raises ArchiveError: it cannot be written now, and why."""
        if self.opened is None or not self.at_work:
            raise ArchiveError(self.why_not)
        return self.opened

    @property
    def remedy(self) -> str:
        """What is to be done about an index that cannot be used."""
        return "it is tried again" if self.again else "run archive rebuild"

    @property
    def why_not(self) -> str:
        """Why there is no index."""
        if self.waits:
            return f"the archive is not open yet: {self.waits}"
        if not self.running:
            return "the archive is not running"
        if self.broken:
            return f"the index cannot be used ({self.broken}): {self.remedy}"
        return "the archive key is locked" if self.opened is None else "the index is made anew just now"

    def ask(self, fn: Callable[[Cursor, A], T | None], what: A) -> T | None:
        """From a thread of the archive's: a question to the index; None if there is none."""
        opened = self.opened
        if opened is None:
            return None

        def ask() -> Deferred[T | None]:
            return Deferred.fromCoroutine(opened.database.read(fn, what))

        return wait_for(self._reactor, ask)

    async def known_rows(self, rows: Sequence[int]) -> set[int]:
        """Which of these queue rows the index has."""
        return await self.opened.database.read(known_rows, rows) if self.opened is not None else set()

    async def recount(self) -> None:
        """Some went."""
        self.mails, self.raw = await self.index().read(_totals)

    def grown(self, stored: Sequence[Stored]) -> int:
        """These were entered; how many of them are new."""
        new = [one for one in stored if one.outcome == Outcome.STORED]
        self.mails += len(new)
        self.raw += sum(one.size for one in new)
        return len(new)


class Footing(msgspec.Struct, frozen=True):
    """What all parts of one running archive stand on."""

    around: Surroundings
    settings: ArchiveSettings
    holdings: Holdings
    standing: Standing
    voice: Voice
    watch: MediaWatch


def _totals(cursor: Cursor) -> tuple[int, int]:
    mails, raw = cursor.execute("SELECT coalesce(sum(mails), 0), coalesce(sum(size), 0) FROM tally").fetchone()
    return mails, raw
