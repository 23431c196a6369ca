"""Opens the queue: index up to its checkpoint, then the journal from there; or the whole journal, if the index is of no use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from hornetmail.core.ids import milliseconds_of
from hornetmail.db.engines import DatabaseError
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk
from hornetmail.disk.mounts import refuse_network
from hornetmail.disk.records import Position, RecordLog, Replayed
from hornetmail.disk.seal import Seal
from hornetmail.disk.segment import stored_length
from hornetmail.disk.writer_thread import WriterThread
from hornetmail.spool.bodies import BodyFiles
from hornetmail.spool.earlier import understood
from hornetmail.spool.errors import SpoolError
from hornetmail.spool.index import MIGRATIONS, Index
from hornetmail.spool.journal import UnknownRecord, Where, decode
from hornetmail.spool.queue import Queue

log = Logger()


class OpenedQueue(Queue):
    """A queue with threads of its own, which end with it. ``replayed`` says what the start found in the journal."""

    replayed: Replayed

    def use(self, thread: WriterThread, pool: ThreadPool) -> None:
        """Threads that end with the queue."""
        self._thread, self._pool = thread, pool

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
    database_key: bytes | None = None,
    alarm: Callable[[str, str], None] = lambda code, text: None,
) -> OpenedQueue:
    """The queue in ``directory`` (journal and bodies), with its index at ``database_url``.

    ``seal``: of the server key. ``node``: 0 to 1023, in IDs and segment names. ``least_free``: the share of the disk below which nothing
    is accepted. ``alarm(code, text)``: ``queue-broken`` (stop and restart), ``queue-damage`` (at start), ``queue-index``. ``recent_bytes``: of short bodies kept in memory for the first attempt.
    Raises NetworkFileSystem (rule 8), WrongKey, SpoolError (records of a newer version), OSError, the database's errors.
    """
    disk.make_directory(directory / "bodies")
    refuse_network(directory)
    thread = WriterThread(reactor, "queue journal")
    pool = ThreadPool(0, 4, "queue bodies")
    pool.start()
    index = None
    try:
        index = Index(await _database(reactor, database_url, database_key))
        journal = RecordLog(
            directory / "journal", disk, writer=f"n{node}", seal=seal.derive(b"queue journal"), segment_bytes=segment_bytes
        )
        files = BodyFiles(directory / "bodies", disk, seal.derive(b"queue bodies"), reactor, pool)
        queue = OpenedQueue(
            reactor,
            journal,
            files,
            index,
            disk,
            thread,
            node=node,
            least_free=least_free,
            recent_bytes=recent_bytes,
            alarm=alarm,
        )
        queue.use(thread, pool)
        queue.replayed = await _fill(queue, reactor, journal, index, thread)
    except BaseException:
        if index is not None:
            await index.close()
        pool.stop()
        thread.stop()
        raise
    live = queue.live
    newest = max(max(live.rows, default=0), max(live.messages, default=0))
    queue.floor = (milliseconds_of(newest) + 1) / 1000 if newest else 0.0
    needed = {entry.file for entry in live.messages.values() if entry.where is Where.FILE}
    await files.thread(files.sweep, needed)
    if queue.replayed.damage:
        alarm("queue-damage", f"{len(queue.replayed.damage)} damaged places in the queue's journal were left aside; see the log")
    queue.started(live.start(reactor.seconds()))
    return queue


async def _database(reactor: Any, url: str, key: bytes | None) -> Database:
    """The index's database; a SQLite file that is damaged is put aside, for it can be made again."""
    try:
        return await Database.open(reactor, url, MIGRATIONS, key=key, synchronous="NORMAL")
    except DatabaseError as error:
        path = Path(unquote(urlsplit(url).path))
        if not url.startswith("sqlite:") or not path.exists():
            raise
        log.error("{path} is damaged and made again from the journal: {error}", path=str(path), error=error)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return await Database.open(reactor, url, MIGRATIONS, key=key, synchronous="NORMAL")


async def _fill(queue: Queue, reactor: Any, journal: RecordLog, index: Index, thread: WriterThread) -> Replayed:
    checkpoint = await index.checkpoint()
    since: Position | None = None
    if checkpoint is not None and journal.locate(checkpoint.place.segment) == checkpoint.name:
        since = checkpoint.place
        queue.keeper.last = Position(since.segment, since.offset - 1)
        after = 0
        while page := await index.page(after):
            for entry in page:
                queue.live.load(entry)
            after = page[-1].id
        for space, key, place, value in await index.facts():
            queue.live.facts.setdefault(space, {})[key] = value
            queue.live.fact_places[space, key] = place
    else:
        await index.clear()

    def take(position: Position, kind: int, payload: bytes) -> None:
        try:
            record = understood(decode(kind, payload))
        except UnknownRecord as error:
            raise SpoolError(f"the journal has a record that this version cannot read: {error}") from error
        queue.keeper.replay(kind, record, position, stored_length(len(payload), True))

    return await thread.run(journal.replay, take, since)
