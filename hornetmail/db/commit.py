"""Group commit: the only place that commits.

Calls that come while a batch runs share the next one. An idle writer starts at once; there are no timers. A batch runs without
savepoints; only if a call in it raises is it rolled back and run again, each call then in a savepoint of its own, so that one
caller's error is its own. That is why a function touches nothing but its cursor, and may run twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.db.engines import CommitUncertain, DatabaseBroken, DatabaseError, DatabaseFull, Engine

BATCH_CALLS = 32
BATCH_BYTES = 1 << 20
_RETRIES = 5


class Call:
    """One caller's function, its arguments, and where its result goes."""

    __slots__ = ("args", "fn", "size", "waiter")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args
        self.size = sum(len(arg) for arg in args if isinstance(arg, (bytes, str)))
        self.waiter: Deferred[Any] = Deferred()


class Failed:
    """A call's error, on its way from the thread."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class GroupCommit:
    """``hop(fn, *args)`` runs ``fn(connection, *args)`` in the one writer thread and answers a Deferred. ``told(error)`` is called, in that thread,
    with what breaks the database, ``held(whether)`` when somebody else keeps it from being written, and when that is over."""

    log = Logger()

    def __init__(
        self,
        engine: Engine,
        hop: Callable[..., Deferred[Any]],
        told: Callable[[DatabaseBroken], None] = lambda error: None,
        held: Callable[[bool], None] = lambda whether: None,
    ) -> None:
        self._engine = engine
        self._hop = hop
        self._tell = told
        self._tell_held = held
        self._held = False
        self._waiting: deque[Call] = deque()
        self._busy = False
        self._broken: BaseException | None = None
        self._idle: list[Deferred[None]] = []

    @property
    def broken(self) -> bool:
        """See DatabaseBroken."""
        return self._broken is not None

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Deferred[Any]:
        """Fires with the function's result once it is committed, or with its error."""
        call = Call(fn, args)
        self._waiting.append(call)
        if not self._busy:
            self._start()
        return call.waiter

    def idle(self) -> Deferred[None]:
        """Fires when nothing waits or runs."""
        waiter: Deferred[None] = Deferred()
        if self._busy:
            self._idle.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def _start(self) -> None:
        batch: list[Call] = []
        size = 0
        while self._waiting and len(batch) < BATCH_CALLS and (not batch or size + self._waiting[0].size <= BATCH_BYTES):
            call = self._waiting.popleft()
            size += call.size
            batch.append(call)
        self._busy = True
        self._hop(self._run, batch).addCallbacks(self._done, self._died, callbackArgs=(batch,), errbackArgs=(batch,))

    def _done(self, results: list[Any], batch: list[Call]) -> None:
        self._go_on()
        for call, result in zip(batch, results, strict=True):
            if isinstance(result, Failed):
                call.waiter.errback(result.error)
            else:
                call.waiter.callback(result)

    def _died(self, failure: Failure, batch: list[Call]) -> None:
        self._go_on()
        for call in batch:
            call.waiter.errback(failure.value)

    def _go_on(self) -> None:
        if self._waiting:
            self._start()
            return
        self._busy = False
        idle, self._idle = self._idle, []
        for waiter in idle:
            waiter.callback(None)

    # In the writer thread from here on.

    def _run(self, connection: Any, batch: list[Call]) -> list[Any]:
        if self._broken:
            return [Failed(DatabaseBroken(str(self._broken)))] * len(batch)
        for attempt in range(_RETRIES):
            if self._engine.lost(connection):
                try:
                    connection.reconnect()
                except Exception as error:  # noqa: BLE001  each caller is told
                    return [Failed(self._told(error))] * len(batch)
            outcome = self._attempt(connection, batch, apart=attempt > 0 and len(batch) > 1)
            if outcome is not None:
                return outcome
        return [Failed(DatabaseError("a transaction kept failing; see the log"))] * len(batch)

    def _attempt(self, connection: Any, batch: Sequence[Call], apart: bool) -> list[Any] | None:
        """The results, or None: run it all again, in savepoints."""
        engine = self._engine
        cursor = None
        try:
            cursor = engine.cursor(connection)
            engine.begin(cursor)
            results: list[Any] = []
            for call in batch:
                results.append(self._apart(connection, call) if apart else call.fn(engine.cursor(connection), *call.args))
        except Exception as error:  # noqa: BLE001  each caller is told
            lost = self._roll_back(connection)
            told = self._told(error)
            if self._engine.locked(error):
                # It was waited for as long as a lock is: the others of the batch would each wait as long again.
                self._holds(True)
                return [Failed(told)] * len(batch)
            if isinstance(told, (DatabaseBroken, DatabaseFull)):
                return [Failed(told)] * len(batch)
            if lost or engine.retriable(error) or not (apart or len(batch) == 1):
                return None
            return [Failed(told)] * len(batch)
        try:
            engine.commit(cursor)
        except Exception as error:  # noqa: BLE001  each caller is told
            lost = self._roll_back(connection)
            if engine.retriable(error):
                return None
            if lost:
                uncertain = CommitUncertain("the connection was lost during COMMIT")
                uncertain.__cause__ = error
                return [Failed(uncertain)] * len(batch)
            return [Failed(self._told(error))] * len(batch)
        self._holds(False)
        return results

    def _holds(self, held: bool) -> None:
        if held is not self._held:
            self._held = held
            self._tell_held(held)

    def _apart(self, connection: Any, call: Call) -> Any:
        """One call in a savepoint: its error is its own, unless it took the whole transaction with it."""
        engine = self._engine
        plain = engine.cursor(connection)
        plain.execute("SAVEPOINT one")
        try:
            result = call.fn(engine.cursor(connection), *call.args)
        except Exception as error:
            if engine.lost(connection) or engine.retriable(error) or not engine.in_transaction(connection):
                raise
            told = self._told(error)
            if isinstance(told, DatabaseBroken):
                raise
            plain.execute("ROLLBACK TO SAVEPOINT one")
            plain.execute("RELEASE SAVEPOINT one")
            return Failed(told)
        plain.execute("RELEASE SAVEPOINT one")
        return result

    def _roll_back(self, connection: Any) -> bool:
        """ROLLBACK if there is anything to roll back (a full disk has done it already); whether the connection is lost."""
        try:
            self._engine.rollback(connection)
        except Exception as error:  # noqa: BLE001  each caller is told
            if not self._engine.lost(connection):
                self._told(DatabaseBroken(f"ROLLBACK failed: {error}"))
        return self._engine.lost(connection)

    def _told(self, error: BaseException) -> BaseException:
        told = self._engine.verdict(error)
        if isinstance(told, DatabaseBroken) and not self._broken:
            self._broken = told
            self.log.critical(
                "the database {where} is broken and takes no more writes: {error}", where=self._engine.where, error=told
            )
            self._tell(told)
        return told
