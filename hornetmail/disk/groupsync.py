"""Group commit of a record log: all who wait share one write and one sync."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.disk.records import Position, RecordLog
from hornetmail.disk.writer_thread import WriterThread

T = TypeVar("T")

SEALED_HERE = 512 << 10
"""Payload bytes of a batch up to which it is sealed in the reactor (at most 0.3 ms). A thread that seals record by record asks for the GIL between
any two and costs the reactor more than it takes off it."""

CROWD = 4
PACE = 0.002
"""See GroupSync."""

Done = Callable[[Position | None, BaseException | None], None]
"""Told in the reactor what became of a record: its position, or the error."""


class GroupSync:
    """The asynchronous face of a log: all who wait share one trip to a thread and one sync.

    While a sync runs the others gather; the next starts in the reactor turn after, with all that this turn brings. Whoever writes alone, or with
    two others, waits for nobody. Where ``CROWD`` or more shared the last sync, the next one begins when as many wait again, or ``PACE``
    seconds after it at most: small batches in a row keep the thread asking for the GIL, and cost more than all the rest of accepting.
    Only this object touches the log.
    """

    log = Logger()

    def __init__(self, log: RecordLog, reactor: Any, thread: WriterThread) -> None:
        self._log = log
        self._reactor = reactor
        self._thread = thread
        self._waiting: list[tuple[int, bytes, Done]] = []
        self._calls: list[tuple[Callable[[], object], Deferred[object]]] = []
        self._busy = False
        self._called_last = False
        self._crowd = 0
        self._ended = 0.0
        self._pause: Any = None

    async def append(self, kind: int, payload: bytes) -> Position:
        """Returns when the record is durable. Raises DiskFull (not kept; may be tried again) and LogBroken."""
        waiter: Deferred[Position] = Deferred()

        def done(position: Position | None, error: BaseException | None) -> None:
            if position is not None:
                waiter.callback(position)
            else:
                waiter.errback(error)

        self.submit(kind, payload, done)
        return await waiter

    def submit(self, kind: int, payload: bytes, done: Done) -> None:
        """``append`` for hot paths: records are durable, and ``done`` is called, in the order of submission. It must not raise."""
        self._waiting.append((kind, payload, done))
        if not self._busy:
            self._soon()
        elif self._pause is not None and len(self._waiting) >= self._crowd:
            self._pause.reset(0)
            self._pause = None

    async def alone(self, call: Callable[[], T]) -> T:
        """Run a blocking call in the thread while nobody else touches the log (``roll``, ``drop``, a long read)."""
        waiter: Deferred[T] = Deferred()
        self._calls.append((call, waiter))  # type: ignore[arg-type]
        if not self._busy:
            self._soon()
        return await waiter

    async def idle(self) -> None:
        """Returns when nothing waits or runs; whoever asks sees to it that nothing new comes, and may then close the log."""
        while self._busy:
            await self.alone(lambda: None)

    def _soon(self) -> None:
        self._busy = True
        pause = 0.0
        if self._crowd >= CROWD and len(self._waiting) < self._crowd and not self._calls:
            # Not more than PACE if the clock was set back meanwhile.
            pause = min(PACE, max(0.0, self._ended + PACE - self._reactor.seconds()))
        call = self._reactor.callLater(pause, self._next)
        self._pause = call if pause else None

    def _next(self) -> None:
        self._pause = None
        # In turn: calls one after the other (``idle`` makes them) must not keep records from the disk for ever.
        self._called_last = bool(self._calls) and not (self._called_last and self._waiting)
        if self._called_last:
            call, waiter = self._calls.pop(0)
            trip: Deferred[object] = self._thread.run(call)
            trip.addCallbacks(self._called, self._call_failed, callbackArgs=(waiter,), errbackArgs=(waiter,))
            return
        batch, self._waiting = self._waiting, []
        self._crowd = len(batch)
        positions: list[Position] | None = None
        if sum(len(payload) for _, payload, _ in batch) <= SEALED_HERE:
            with contextlib.suppress(Exception):  # the thread will say what it is
                positions = self._append(batch)
        writing = self._thread.run(self._write, batch, positions)
        writing.addCallbacks(self._durable, self._failed, callbackArgs=(batch,), errbackArgs=(batch,))

    def _append(self, batch: list[tuple[int, bytes, Done]]) -> list[Position]:
        try:
            return [self._log.append(kind, payload) for kind, payload, _ in batch]
        except BaseException:
            self._log.forget()
            raise

    def _write(self, batch: list[tuple[int, bytes, Done]], positions: list[Position] | None) -> list[Position]:
        if positions is None:
            positions = self._append(batch)
        self._log.sync()
        return positions

    def _free(self) -> None:
        self._busy = False
        self._ended = self._reactor.seconds()
        if self._waiting or self._calls:
            self._soon()

    def _durable(self, positions: list[Position], batch: list[tuple[int, bytes, Done]]) -> None:
        self._free()
        for position, (_, _, done) in zip(positions, batch, strict=True):
            self._tell(done, position, None)

    def _failed(self, failure: Failure, batch: list[tuple[int, bytes, Done]]) -> None:
        self._free()
        for _, _, done in batch:
            self._tell(done, None, failure.value)

    def _tell(self, done: Done, position: Position | None, error: BaseException | None) -> None:
        """One caller's mistake does not leave the others of the batch waiting."""
        try:
            done(position, error)
        except Exception:  # noqa: BLE001
            self.log.failure("a record's outcome could not be told")

    def _called(self, result: object, waiter: Deferred[object]) -> None:
        self._free()
        waiter.callback(result)

    def _call_failed(self, failure: Failure, waiter: Deferred[object]) -> None:
        self._free()
        waiter.errback(failure)
