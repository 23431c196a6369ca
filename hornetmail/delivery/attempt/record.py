"""The one place that must never lose a verdict (rule 8b).

Between a courier's answer and its record in the journal lies everything that can go wrong with us: a full disk, a database, a fault in a program. What
is known by then *must be recorded*: it is kept here, and only the recording is tried again, with a back-off, until it succeeds or the process ends
(then ``home/recovery.py`` finds the row claimed). Nobody is asked again meanwhile, for the row stays claimed; others go on. Recording is a
task of its own: whoever waits for it may be cancelled, and it goes on.

All that may follow from a verdict (learning, notices, events, the removal of a portal copy) comes after it, in ``then``, and cannot prevent it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.delivery.backoff import Backoff
from hornetmail.core.delivery.queued import Settled
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.delivery.connections.unrecorded import Unrecorded
from hornetmail.delivery.tasks import Tasks, pause, within
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.queue import IQueue

AGAIN = Backoff(first=0.25, ceiling=30.0)
"""Between tries to record."""

TOLD_SECONDS = 15.0
"""An administrator hears of verdicts that could not be recorded for that long."""

HANGS_SECONDS = 60.0
"""A try that is not answered for that long has failed."""

ALARM = "verdict-unrecorded"


def nothing() -> None:
    """Nothing follows."""


class Record:
    """``put`` and forget: see the module. ``late``: seconds after which an alarm tells of what cannot be recorded."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        queue: IQueue,
        bus: IBus,
        unrecorded: Unrecorded,
        again: Backoff = AGAIN,
        late: float = TOLD_SECONDS,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._bus = bus
        self._unrecorded = unrecorded
        self._again = again
        self._late = late
        self._rows: dict[int, int] = {}
        self._told = False
        self._stopped = False
        self._tasks = Tasks(clock)

    def __len__(self) -> int:
        """Rows whose verdict is known and not on disk."""
        return len(self._rows)

    def holds(self, row: int) -> bool:
        """What became of this row is known, and being recorded: nobody else may say anything of it."""
        return row in self._rows

    def put(self, settled: Sequence[Settled], then: Callable[[], None] = nothing) -> Deferred[None]:
        """Record these in one transition. The answer fires after the first try, whatever came of it, and never fails: those who wait are
        not held up by a disk. ``then`` is called once it is on disk."""
        tried: Deferred[None] = Deferred()
        rows = [one.row for one in settled]
        for row in rows:
            self._rows[row] = self._rows.get(row, 0) + 1
        self._tasks.start(self._until_recorded(tuple(settled), rows, then, tried), "recording verdicts")
        return tried

    def nothing_given(self, rows: Collection[int]) -> None:
        """Nobody took what these rows stand for: the connection's next message need not wait for their record (rule 11)."""
        self._unrecorded.recorded(rows)

    def was_offered(self, row: int) -> bool:
        """The final dot of this row's message was sent, or is being sent, in the attempt under way: whether it arrived, only an answer tells."""
        return self._unrecorded.waits(row)

    async def stop(self, grace: float) -> None:
        """Give what must be recorded ``grace`` seconds more; the next start finds the rest claimed."""
        stopping = self._tasks.stop(grace)
        self._stopped = True
        await stopping

    async def _until_recorded(
        self, settled: tuple[Settled, ...], rows: list[int], then: Callable[[], None], tried: Deferred[None]
    ) -> None:
        began, tries, told = self._clock.seconds(), 0, False
        try:
            while True:
                try:
                    # The same call may be made again whatever became of the one before (IQueue.settle).
                    await within(self._clock, HANGS_SECONDS, self._queue.settle(settled))
                    break
                except Exception as error:
                    if isinstance(error, CancelledError) and self._stopped:
                        raise
                    tries += 1
                    self.log.error(
                        "what became of {count} rows cannot be recorded (try {tries}), kept in memory: {error}",
                        count=len(rows),
                        tries=tries,
                        error=error,
                    )
                    why = str(error)
                if not tried.called:
                    tried.callback(None)
                if not told and self._clock.seconds() - began >= self._late:
                    told = self._told = True
                    text = f"what became of {len(self._rows)} deliveries cannot be recorded, it is tried again and again: {why}"
                    self._bus.publish(Alarm(ALARM, text))
                await pause(self._clock, self._again.delay(tries, 0.5))
        finally:
            # Cancelled only with the process: then it stays claimed, and recovery is told by the journal.
            for row in rows:
                self._rows[row] -= 1
                if not self._rows[row]:
                    del self._rows[row]
            if self._stopped and not tried.called:
                tried.callback(None)
        self._unrecorded.recorded(rows)
        if self._told and not self._rows:
            # Whichever is the last: it may be one that nobody was told of.
            self._told = False
            self._bus.publish(AlarmEnded(ALARM, why="all of it is recorded"))
        try:
            then()
        except Exception:  # noqa: BLE001 - what follows from a record cannot undo it
            self.log.failure("what follows from the record of rows {rows} failed", rows=rows)
        finally:
            if not tried.called:
                tried.callback(None)
