"""Processes that read (``child.py``), seen from the service: begun when there is something to read, one mail at a time each, ended when late or idle.

A process that dies or is late costs the file that it was at: the mail is read again without it. One that had come to no file may have been on its way out before it was
asked (idle, killed): the mail is read once more as it is.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from hornetmail.extraction.frames import Answers, BadFrame, Begun, Done, Ready, Task, frame
from hornetmail.interfaces.readers import IReaders, ReadersAway, ReadingFailed
from hornetmail.mime.reading.mail import MailText

DEATHS = 5
"""So many files of one mail may end their reader; then the rest of it is not read."""

BEFORE_ANY = 2
"""So many readers may end before they come to any file of a mail."""

MAILS = 200
"""After so many mails a process is begun anew: what libraries leak goes with it."""

IDLE = 60.0
"""Seconds after which a process that has nothing to read is ended."""

START_SECONDS = 60.0
"""A process begins by loading what it needs, on whatever machine."""

PIECE = 256 << 10
"""Bytes that go into a pipe at a time."""

_COMMAND = (sys.executable, "-I", "-m", "hornetmail.extraction.child")


class ReaderSettings(msgspec.Struct, frozen=True, gc=False):
    """``processes``: so many mails are read side by side. ``memory``: bytes of address space of each process. ``seconds``: that one file may take, by the processor's clock; by the wall's four times
    as many, for the processes give way to everything else. ``command``: what is started."""

    processes: int = 1
    memory: int = 1 << 30
    seconds: float = 30.0
    command: tuple[str, ...] = _COMMAND

    @property
    def patience(self) -> float:
        """Seconds of the wall's clock that one file may take."""
        return 4 * self.seconds


class _Stopped(Exception):
    """The process ended before its answer, and why; ``file``: the number of the one that it was at; ``began``: it had what it needs."""

    def __init__(self, why: str, file: int | None, began: bool) -> None:
        super().__init__(why)
        self.file = file
        self.began = began


@implementer(IPullProducer)
class _Pieces:
    """A mail on its way into a pipe, as the other side takes it: no turn of the reactor copies all of a large one."""

    def __init__(self, pipe: Any, raw: bytes) -> None:
        self._pipe = pipe
        self._raw = raw
        self._at = 0

    def resumeProducing(self) -> None:
        """See IPullProducer."""
        piece = self._raw[self._at : self._at + PIECE]
        self._at += PIECE
        if piece:
            self._pipe.write(piece)
        if self._at >= len(self._raw):
            self._pipe.unregisterProducer()

    def stopProducing(self) -> None:
        """See IPullProducer. The process is gone."""


class _Process(ProcessProtocol):
    """One process. ``gone`` is called when it is."""

    log = Logger()

    def __init__(self, reactor: Any, settings: ReaderSettings, gone: Callable[[_Process], None]) -> None:
        self._reactor = reactor
        self._settings = settings
        self._gone = gone
        self._answers = Answers()
        self._waiting: Deferred[MailText] | None = None
        self._timer: Any = None
        self._file: int | None = None
        self._why = ""
        self._fresh = True
        self._began = False
        self.mails = 0
        self.ended: Deferred[None] = Deferred()

    def ask(self, raw: bytes, skip: dict[int, str]) -> Deferred[MailText]:
        """Fails with _Stopped. Who does not wait any more cancels it, and ends the process so."""
        self._quiet()
        self._waiting = Deferred(self._given_up)
        self._file = None
        self.mails += 1
        self._patience(START_SECONDS + self._settings.patience if self._fresh else self._settings.patience)
        self._fresh = False
        process: Any = self.transport
        pipe = process.pipes.get(0)
        # None: it has just died, and that will be told.
        if pipe is not None:
            pipe.write(frame(Task(len(raw), skip)))
            pipe.registerProducer(_Pieces(pipe, raw), False)
        return self._waiting

    def _given_up(self, _: Deferred[MailText]) -> None:
        self._waiting = None
        self.end()

    def rest(self) -> None:
        """There is nothing to read: it ends after a while."""
        self._timer = self._reactor.callLater(IDLE, self.end)

    def end(self) -> None:
        """It has nothing more to do, or is not waited for any more."""
        self._quiet()
        if self.transport is not None and self.transport.pid is not None:
            self.transport.signalProcess("KILL")

    def _quiet(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _patience(self, seconds: float) -> None:
        self._quiet()
        self._timer = self._reactor.callLater(seconds, self._late)

    def _late(self) -> None:
        self._why = "it takes too long"
        self.end()

    def outReceived(self, data: bytes) -> None:
        """See ProcessProtocol."""
        try:
            for answer in self._answers.feed(data):
                if isinstance(answer, Ready):
                    self._began = True
                elif isinstance(answer, Begun):
                    self._file = answer.number
                    self._patience(self._settings.patience)
                elif isinstance(answer, Done) and self._waiting is not None:
                    self._quiet()
                    waiting, self._waiting = self._waiting, None
                    waiting.callback(answer.text)
        except BadFrame as error:
            self._why = f"its reader answered what it should not: {error}"
            self.end()

    def errReceived(self, data: bytes) -> None:
        """See ProcessProtocol. What libraries print may hold words of the mail: it is not logged (rule 24)."""

    def processEnded(self, reason: Failure) -> None:
        """See ProcessProtocol."""
        self._quiet()
        self._gone(self)
        self.ended.callback(None)
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(_Stopped(self._why or _cause(reason), self._file, self._began))


def _cause(reason: Failure) -> str:
    error: Any = reason.value
    if isinstance(error, ProcessDone | ProcessTerminated) and error.signal == signal.SIGXCPU:
        return "it takes too long"
    by = f"by signal {error.signal}" if getattr(error, "signal", None) else f"with status {getattr(error, 'exitCode', None)}"
    return f"its reader ended {by}"


@implementer(IReaders)
class Readers:
    """See ``IReaders``."""

    log = Logger()

    def __init__(self, reactor: Any, settings: ReaderSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self.processes = settings.processes
        self._turns = DeferredSemaphore(max(1, settings.processes))
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._stopped = False

    async def read(self, raw: bytes) -> MailText:
        """See ``IReaders``. Who does not wait any more may cancel it: the process ends at once."""
        await self._turns.acquire()
        try:
            return await self._read(raw)
        finally:
            self._turns.release()

    async def _read(self, raw: bytes) -> MailText:
        skip: dict[int, str] = {}
        before_any = 0
        while True:
            process = self._process()
            try:
                text = await process.ask(raw, skip)
            except _Stopped as stopped:
                if self._stopped:
                    raise ReadersAway("the service stops") from None
                file, why = stopped.file, str(stopped)
                self.log.warn("a reader of files stopped at file {file} of a mail: {why}", file=file, why=why)
                if not stopped.began:
                    # No mail's fault yet: it could not load what it needs, or there is no memory.
                    raise ReadersAway(why) from None
                if file is None:
                    before_any += 1
                    if before_any > BEFORE_ANY:
                        raise ReadingFailed(why) from None
                    continue
                if file in skip or len(skip) >= DEATHS:
                    raise ReadingFailed(why) from None
                skip[file] = why
                continue
            self._put_back(process)
            return text

    def _process(self) -> _Process:
        """One that has nothing to do. Raises ReadersAway."""
        if self._stopped:
            raise ReadersAway("the service stops")
        if self._idle:
            return self._idle.pop()
        process = _Process(self._reactor, self._settings, self._gone)
        arguments = [*self._settings.command, str(self._settings.memory), f"{self._settings.seconds:g}"]
        try:
            self._reactor.spawnProcess(process, arguments[0], arguments, env={"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"})
        except OSError as error:
            raise ReadersAway(f"no process can be started: {error.strerror}") from None
        self._all.add(process)
        return process

    def _put_back(self, process: _Process) -> None:
        if self._stopped or process.mails >= MAILS or process.ended.called:
            process.end()
            return
        self._idle.append(process)
        process.rest()

    def _gone(self, process: _Process) -> None:
        self._all.discard(process)
        if process in self._idle:
            self._idle.remove(process)

    async def stop(self) -> None:
        """All processes end now; what they were at is read another time."""
        self._stopped = True
        for process in list(self._all):
            process.end()
            await process.ended
