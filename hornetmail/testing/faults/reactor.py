"""A reactor without threads, sockets and waiting: the same run each time, as quick as the machine.

Blocking calls run in greenlets, one after the other in the order in which they were asked for. One that has to wait (for its 30 seconds, or for
the reactor, see ``wait_for``) lets the reactor go on meanwhile, and the calls of its pool behind it wait as long as there is no room.
Time passes when nothing is left to do.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from hornetmail.testing.faults.network import Network
from hornetmail.testing.faults.steps import HANG_SECONDS, Ending, Kind, Steps

T = TypeVar("T")
Job = tuple[Callable[[bool, Any], object] | None, Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_MOMENT = 0.001
"""Seconds that whoever is cancelled gets before the step goes on."""


MOST_CALLS = 200_000
"""More in one run mean that something runs in circles."""


class Stuck(AssertionError):
    """What was waited for did not happen within the time that was allowed."""


class SteppedReactor(Clock):
    """One life of a process. ``cut_off`` is called when the awaits under way shall be cancelled."""

    def __init__(self, steps: Steps, network: Network, now: float) -> None:
        super().__init__()
        self.rightNow = now
        self.steps = steps
        self.network = network
        self.cut_off: Callable[[], object] = lambda: None
        self.over = False
        self.databases: list[Any] = []
        self._hub: greenlet | None = None
        self._jobs: set[greenlet] = set()
        steps.now = self.seconds
        steps.die = self._die
        steps.open_connections = network.dialled
        network.process(self)

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> Any:
        """See Clock, which sorts all calls for each new one."""
        call = DelayedCall(self.rightNow + delay, callable, args, kw, self.calls.remove, self._moved, self.seconds)
        insort(self.calls, call, key=DelayedCall.getTime)
        return call

    def _moved(self, call: Any) -> None:
        self.calls.sort(key=DelayedCall.getTime)

    # IReactorCore and IReactorThreads, as far as the rooms use them

    def callWhenRunning(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """It runs."""
        call(*args, **kw)

    def addSystemEventTrigger(self, *args: Any) -> None:
        """It never shuts down by itself."""

    def removeSystemEventTrigger(self, trigger: object) -> None:
        """See above."""

    def callFromThread(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """Next."""
        self.callLater(0, call, *args, **kw)

    def callInThread(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """At once, in a greenlet."""
        self.callLater(0, self.job, call, *args, **kw)

    # BringsThreads

    def thread_pool(self, least: int, most: int, name: str) -> Any:
        """Runs ``most`` calls side by side, if they wait."""
        return SteppedPool(self, most, name)

    def writer_thread(self, name: str) -> Any:
        """Runs one call after the other."""
        return SteppedWriter(self, name)

    def wait_for(self, ask: Callable[[], Deferred[T]]) -> T:
        """In a job: let the reactor go on until it has the answer."""
        me = getcurrent()
        outcome: list[Any] = []

        def done(result: Any) -> None:
            outcome.append(result)
            self.callLater(0, me.switch)

        def begin() -> None:
            ask().addBoth(done)

        self.callLater(0, begin)
        self.rest()
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result

    def lock(self) -> SteppedLock:
        """Held by a job."""
        return SteppedLock(self)

    # IReactorTCP

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """A port of this process."""
        return self.network.listen(port, factory, self)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """A step."""
        ending = self.steps.take(Kind.DIAL, f"{host}:{port}")
        if ending is Ending.CANCELLED:
            self.callLater(0, self.cut_off)
        delay = {Ending.HANGS: HANG_SECONDS, Ending.CANCELLED: _MOMENT}.get(ending, 0.0) if ending else 0.0
        refused = ending in (Ending.RESET, Ending.RESET_WHILE)
        return self.network.connect(self, port, factory, timeout, delay=delay, refused=refused)

    # Steps

    def step(self, kind: Kind, what: str) -> Ending | None:
        """In a job: take a step. Waits if it is to hang, never returns if the process is dead; answers an ending that the caller must give it."""
        ending = self.steps.take(kind, what)
        if self.steps.dead:
            self.end_here()
        if ending is Ending.HANGS:
            self.sleep(HANG_SECONDS)
            return None
        if ending is Ending.CANCELLED:
            self.callLater(0, self.cut_off)
            self.sleep(_MOMENT)
            return None
        return ending

    def sleep(self, seconds: float) -> None:
        """In a job: let time pass. Outside of jobs (a call that blocks the reactor itself) all stands still meanwhile."""
        if getcurrent() in self._jobs:
            self.callLater(seconds, getcurrent().switch)
            self.rest()
        else:
            self.rightNow += seconds

    def in_job(self) -> bool:
        """Whether this is a blocking call."""
        return getcurrent() in self._jobs

    def end_here(self) -> None:
        """The process is dead: a job that comes here is never heard of again."""
        if getcurrent() in self._jobs:
            self.rest()
        raise ProcessDied

    def rest(self) -> None:
        """In a job: let the reactor go on, which has been told when to come back."""
        assert self._hub is not None
        self._hub.switch()
        if self.over:
            raise GreenletExit

    def job(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """Run a blocking call now."""

        def work() -> None:
            try:
                call(*args, **kw)
            finally:
                self._jobs.discard(getcurrent())

        one = greenlet(work)
        self._jobs.add(one)
        one.switch()

    def _die(self) -> None:
        self.network.died()

    # Running

    def run(self, coroutine: Any, seconds: float, what: str) -> Any:
        """Run until the coroutine has ended, or the process. Raises what the coroutine does, Stuck, ProcessDied."""
        self._hub = getcurrent()
        outcome: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(outcome.append)
        until = self.rightNow + seconds
        calls = self.calls
        turns = 0
        while not outcome:
            turns += 1
            if turns > MOST_CALLS:
                raise Stuck(f"{what}: {MOST_CALLS} calls without an end, now {calls[:3]}")
            if self.steps.dead:
                raise ProcessDied
            if not calls:
                raise Stuck(f"{what}: nothing happens any more")
            if calls[0].getTime() > until:
                raise Stuck(f"{what}: not within {seconds:g} s")
            call = calls.pop(0)
            self.rightNow = max(self.rightNow, call.getTime())
            call.called = 1
            call.func(*call.args, **call.kw)
        if self.steps.dead:
            raise ProcessDied
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]

    def bury(self) -> None:
        """Throw away what is left of a process that is over: jobs, calls, connections."""
        self.over = True
        self.steps.dead = True
        for one in list(self._jobs):
            try:
                one.throw(GreenletExit)
            except BaseException:  # noqa: BLE001  it is dead
                continue
        self._jobs.clear()


class ProcessDied(BaseException):
    """The process has died, as planned."""


class SteppedLock:
    """Stands for ``threading.Lock``, as a context."""

    def __init__(self, reactor: SteppedReactor) -> None:
        self._reactor = reactor
        self._held = False
        self._waiting: deque[greenlet] = deque()

    def __enter__(self) -> None:
        while self._held:
            if not self._reactor.in_job():
                raise AssertionError("the reactor stands still for a lock that a thread holds")
            self._waiting.append(getcurrent())
            self._reactor.rest()
        self._held = True

    def __exit__(self, *error: object) -> None:
        self._held = False
        if self._waiting:
            self._reactor.callLater(0, self._waiting.popleft().switch)


class SteppedPool:
    """Stands for ``twisted.python.threadpool.ThreadPool``."""

    def __init__(self, reactor: SteppedReactor, most: int, name: str) -> None:
        self.name = name
        self.most = most
        self.started = False
        self.joined = False
        self._reactor = reactor
        self._waiting: deque[Job] = deque()
        self._running = 0

    def start(self) -> None:
        """Whatever waits begins."""
        self.started, self.joined = True, False
        self._fill()

    def stop(self) -> None:
        """No more calls."""
        self.started, self.joined = False, True

    def callInThread(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """Without telling."""
        self.callInThreadWithCallback(None, call, *args, **kw)

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], object] | None, call: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """See ThreadPool."""
        if not self.joined:
            self._waiting.append((told, call, args, kw))
            self._fill()

    def _fill(self) -> None:
        while self.started and self._waiting and self._running < self.most:
            self._running += 1
            self._reactor.callLater(0, self._reactor.job, self._work, *self._waiting.popleft())

    def _work(
        self, told: Callable[[bool, Any], object] | None, call: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]
    ) -> None:
        self._reactor.step(Kind.HOP, self.name)
        try:
            ok, result = True, call(*args, **kw)
        except (ProcessDied, GreenletExit):
            raise
        except BaseException:  # noqa: BLE001  whoever waits is told
            ok, result = False, Failure()
        self._running -= 1
        self._fill()
        if told is not None:
            told(ok, result)


class SteppedWriter:
    """Stands for ``disk.writer_thread.WriterThread``."""

    def __init__(self, reactor: SteppedReactor, name: str) -> None:
        self._reactor = reactor
        self._pool = SteppedPool(reactor, 1, name)
        self._pool.start()

    def run(self, call: Callable[..., T], *args: Any) -> Deferred[T]:
        """See WriterThread."""
        waiter: Deferred[T] = Deferred()

        def told(ok: bool, result: Any) -> None:
            self._reactor.callFromThread(waiter.callback if ok else waiter.errback, result)

        self._pool.callInThreadWithCallback(told, call, *args)
        return waiter

    def stop(self) -> None:
        """See WriterThread."""
        self._pool.stop()
