"""Opens the queue: index up to its checkpoint, then the journal from there; or the whole journal, if the index is of no use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from hornetmail.core.ids import milliseconds_of
from hornetmail.db.engines import DatabaseError, DatabaseFull, DatabaseLocked
from hornetmail.db.pool import Database, OpenDatabase, Watch
from hornetmail.disk.anchor import Anchor
from hornetmail.disk.files import Disk
from hornetmail.disk.mounts import refuse_network
from hornetmail.disk.records import Position, RecordLog, Replayed
from hornetmail.disk.seal import Seal
from hornetmail.disk.segment import stored_length
from hornetmail.disk.threads import thread_pool, writer_thread
from hornetmail.disk.writer_thread import WriterThread
from hornetmail.spool.disk.bodies import BodyFiles
from hornetmail.spool.disk.earlier import understood
from hornetmail.spool.disk.errors import SpoolError
from hornetmail.spool.disk.journal import UnknownRecord, decode
from hornetmail.spool.disk.marks import Mark, missing
from hornetmail.spool.queue import Queue, Settings
from hornetmail.spool.rows.index import MIGRATIONS, Index

log = Logger()


class OpenedQueue(Queue):
    """A queue with threads of its own, which end with it. ``replayed`` says what the start found in the journal, ``older`` why that is an older copy,
    ``""`` if its own mark and index know of none."""

    replayed: Replayed
    older = ""
    anchor: Anchor

    def use(self, thread: WriterThread, pool: ThreadPool) -> None:
        """Threads that end with the queue."""
        self._thread, self._pool = thread, pool

    async def older_than(self, mark: Mark) -> str:
        """Why this journal is an older state of the one that ``mark`` was said of, or another one; ``""`` if it is not, or nobody can tell."""
        return await self._thread.run(missing, self._journal, mark)

    async def close(self) -> None:
        """See Queue."""
        if not self._closed:
            await super().close()
            drained: Deferred[None] = deferToThreadPool(self._reactor, self._pool, lambda: None)
            await drained
            self._pool.stop()
            await self._thread.run(lambda: None)
            self._thread.stop()


async def open_queue(
    reactor: Any,
    directory: Path,
    database_url: str,
    *,
    disk: Disk,
    seal: Seal,
    node: int = 0,
    segment_bytes: int = 64 << 20,
    least_free: float = 0.1,
    recent_bytes: int = 64 << 20,
    unpacked: int = 20_000,
    longest: float = 7200.0,
    database_key: bytes | None = None,
    alarm: Callable[[str, str], None] = lambda code, text: None,
    uptime: Callable[[], float] = monotonic,
    watch: Watch | None = None,
    open_database: OpenDatabase = Database.open,
    mark: Mark | None = None,
) -> OpenedQueue:
    """The queue in ``directory`` (journal and bodies), with its index at ``database_url``.

    ``seal``: of the server key. ``node``, ``least_free``, ``recent_bytes``, ``longest``, ``unpacked``: see ``queue.Settings``. ``uptime``: seconds of a
    clock that nobody sets, from anywhere; give-up times count by it (rule 5). ``alarm(code, text)``: ``queue-broken`` (stop and restart),
    ``queue-damage`` (a damaged place of the journal), ``queue-body-lost`` (a message's body cannot be read), ``queue-index``,
    ``queue-older``. ``watch``: of the index. ``mark``: what ``OpenedQueue.mark`` said last; a journal that is older than that, or than its index, is used,
    but deliveries that it believes to be ahead are held (ADR 27).
    Raises NetworkFileSystem (rule 8), WrongKey, SpoolError (records of a newer version), OSError, the database's errors.
    """
    disk.make_directory(directory / "bodies")
    refuse_network(directory)
    anchor = Anchor(directory, disk)
    thread = writer_thread(reactor, "queue journal")
    pool = thread_pool(reactor, 0, 4, "queue bodies")
    pool.start()
    index = None
    try:
        index = Index(await _database(reactor, database_url, database_key, disk, watch, open_database))
        journal = RecordLog(
            directory / "journal",
            disk,
            writer=f"n{node}",
            seal=seal.derive(b"queue journal"),
            segment_bytes=segment_bytes,
            look=anchor.look,
        )
        files = BodyFiles(directory / "bodies", disk, seal.derive(b"queue bodies"), reactor, pool, anchor.look)
        queue = OpenedQueue(
            reactor,
            journal,
            files,
            index,
            disk,
            thread,
            settings=Settings(node, least_free, recent_bytes, longest, unpacked),
            alarm=alarm,
            monotonic=uptime,
        )
        queue.use(thread, pool)
        older = await thread.run(missing, journal, mark) if mark is not None else ""
        lost, queue.replayed = await _fill(queue, reactor, journal, index, thread)
        queue.older = older = older or lost
        await thread.run(_hold, anchor)
        queue.anchor = anchor
    except BaseException:
        if index is not None:
            await index.close()
        pool.stop()
        thread.stop()
        raise
    try:
        await _ready(queue, files, journal, alarm)
        if older:
            await _tell_older(queue, older, mark, alarm)
    except BaseException:
        await queue.close()
        raise
    return queue


async def _ready(queue: OpenedQueue, files: BodyFiles, journal: RecordLog, alarm: Callable[[str, str], None]) -> None:
    live = queue.live
    newest = max(live.index.all.newest, live.messages.newest)
    queue.floor = (milliseconds_of(newest) + 1) / 1000 if newest else 0.0
    in_files = await files.thread(live.in_files)
    for file in sorted(await files.thread(files.sweep, in_files.keys())):
        await queue.reading.lost(in_files[file], FileNotFoundError(f"{files.path(file).name} is missing"))
    _tell_damage(queue, journal, alarm)
    await queue.started(live.start())


def _hold(anchor: Anchor) -> None:
    """From here on the directory has to stay the one whose journal was replayed."""
    if anchor.tokens():
        anchor.hold()
    else:
        anchor.renew()


def _tell_damage(queue: OpenedQueue, journal: RecordLog, alarm: Callable[[str, str], None]) -> None:
    """One alarm for all places, which names them; segments with damage are kept when their time to go comes."""
    damage = queue.replayed.damage
    if not damage:
        return
    queue.reading.damaged.update(one.segment for one in damage)
    places = [f"{journal.name(one.segment)} at {one.offset}, {one.length} bytes: {one.reason}" for one in damage[:5]]
    more = f"; and {len(damage) - 5} more, see the log" if len(damage) > 5 else ""
    alarm("queue-damage", f"damaged places in the queue's journal were left aside: {'; '.join(places)}{more}")


async def _tell_older(queue: OpenedQueue, why: str, mark: Mark | None, alarm: Callable[[str, str], None]) -> None:
    """Before anybody delivers: so that a start which is cut off here finds the same."""
    held = await queue.doubt(f"the queue is an older copy, in which this is not delivered yet: it may have been since ({why})")
    until = (
        f" was written until {datetime.fromtimestamp(mark.at, UTC):%Y-%m-%d %H:%M} UTC at least and" if mark is not None else ""
    )
    alarm(
        "queue-older",
        f"the queue's journal{until} is an older copy now, or its disk lost what it had written ({why}). {held} of its deliveries may have been made since and are"
        " held. Mail that was accepted since is not in it; portal copies of that are among the strays",
    )


async def _database(reactor: Any, url: str, key: bytes | None, disk: Disk, watch: Watch | None, opened: OpenDatabase) -> Database:
    """The index's database; a SQLite file that is damaged is put aside, for it can be made again."""
    try:
        return await opened(reactor, url, MIGRATIONS, key=key, synchronous="NORMAL", alone=True, watch=watch)
    except (DatabaseFull, DatabaseLocked):
        raise
    except DatabaseError as error:
        path = Path(unquote(urlsplit(url).path))
        if not url.startswith("sqlite:") or not path.exists():
            raise
        log.error("{path} is damaged and made again from the journal: {error}", path=str(path), error=error)
        for suffix in ("", "-wal", "-shm"):
            disk.unlink(path.with_name(path.name + suffix), missing_ok=True)
        return await opened(reactor, url, MIGRATIONS, key=key, synchronous="NORMAL", alone=True, watch=watch)


async def _fill(queue: Queue, reactor: Any, journal: RecordLog, index: Index, thread: WriterThread) -> tuple[str, Replayed]:
    """Why the journal is older than its index, ``""`` if it is not; and what was found in it."""
    since: Position | None = None
    older = ""
    try:
        since, older = await _load(queue, journal, index)
    except (DatabaseError, msgspec.DecodeError, ValueError) as error:
        log.error("the queue's index cannot be read and is made again from the journal: {error}", error=error)
    if since is None:
        queue.live.clear()
        await index.clear()

    def take(position: Position, kind: int, payload: bytes) -> None:
        try:
            record = understood(decode(kind, payload))
        except UnknownRecord as error:
            raise SpoolError(f"the journal has a record that this version cannot read: {error}") from error
        queue.keeper.replay(kind, record, position, stored_length(len(payload), True))

    return older, await thread.run(journal.replay, take, since)


async def _load(queue: Queue, journal: RecordLog, index: Index) -> tuple[Position | None, str]:
    """What the index holds, and from where on the journal has to be replayed; None if it is not this journal's, or of a later state of it than
    the disk has: a backup brought back, another installation's database, a journal that lost its end, of which it is said why. Raises FileNotFoundError
    if there is no journal at all: an empty mount point is not a queue that is empty."""
    checkpoint = await index.checkpoint()
    if checkpoint is None:
        return None, ""
    place = checkpoint.place
    if journal.nothing():
        raise FileNotFoundError(
            f"the queue's journal {journal.directory} is empty, and its index knows of {checkpoint.name}: is the disk not mounted? If it is lost, or"
            " was left behind on purpose, remove queue.db to begin with an empty queue"
        )
    if journal.locate(place.segment) != checkpoint.name or not journal.holds(place):
        log.error("the queue's index is not that of its journal ({name}) and is made again", name=checkpoint.name)
        # Of a segment that the journal does not have, another installation's index may speak.
        known = journal.locate(place.segment) == checkpoint.name
        return None, journal.missing(checkpoint.name, place) if known else ""
    queue.keeper.last = Position(place.segment, place.offset - 1)
    whole = not await index.more_than(queue.live.messages.most)
    page = await index.page(0, whole)
    while page:
        following = Deferred.fromCoroutine(index.page(page[-1].id, whole))
        for entry in page:
            queue.live.load(entry)
        page = await following
    for space, key, position, value in await index.facts():
        queue.live.load_fact(space, key, value, position)
    return place, ""
