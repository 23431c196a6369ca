"""The service: everything built, started in order, and stopped in reverse."""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from hornetmail import config as configuration
from hornetmail.compose.doors.doors import CannotListen
from hornetmail.compose.doors.site import RestoreDoors
from hornetmail.compose.ground.foundations import RESTORING, Foundations
from hornetmail.compose.ground.logfile import LogFile, StreamLog, observer
from hornetmail.compose.ground.readiness import notify
from hornetmail.compose.setting_up.restoring import Restoring
from hornetmail.compose.whole import Whole
from hornetmail.config import Config
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.engines import DatabaseError
from hornetmail.disk.lock import AlreadyRunning
from hornetmail.disk.mounts import NetworkFileSystem
from hornetmail.net.tls import ServerTLS
from hornetmail.runtime import steady
from hornetmail.runtime.collector import calm

ENDING = 15.0
"""Seconds."""

ANSWERED = 0.5
"""Seconds that the answer to whoever began a restore gets to leave."""

REFUSALS = (OSError, ValueError, ArchiveError, CannotListen, DatabaseError)
"""What prevents a start and explains itself; anything else is a fault of the program, with its traceback in the log."""


class HornetMail(Service):
    """One process. ``startService`` begins to start it; ``ready`` fires when every role works, and fails with what prevented it.
    ``standard_output``: where twistd is to log to, unless it was told of something else."""

    log = Logger()

    def __init__(self, base: Foundations, tls: ServerTLS, roles: frozenset[str], playground: Any = None) -> None:
        self.base = base
        self.playground = playground
        self.tls = tls
        self.roles = roles
        self.whole: Whole | None = None
        self.standard_output: TextIO | None = None
        self.ready: Deferred[HornetMail] = Deferred()
        self._starting: Deferred[None] | None = None
        self.restoring = Restoring(self._give_way)
        self._log: LogFile | None = None

    def setServiceParent(self, parent: Any) -> None:
        """See Service. An application is told how we write log lines, as Twisted's own way is ten times slower."""
        if self.standard_output is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, StreamLog(self.standard_output))
        Service.setServiceParent(self, parent)

    def startService(self) -> None:
        """Open the log, watch for SIGHUP, start everything. A failure ends the process with exit code 1."""
        Service.startService(self)
        log = self.base.config.log
        if log.file:
            self._log = LogFile(self.base.config.path(log.file))
            globalLogPublisher.addObserver(observer(self._log, log.level))
        self.base.lock.write_pid()
        signal.signal(signal.SIGHUP, lambda *_: self.base.reactor.callFromThread(self.reload))
        self.base.reactor.callWhenRunning(signal.signal, signal.SIGTERM, self._terminate)
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._fail)

    def _terminate(self, *_: object) -> None:
        """SIGTERM is how this service is stopped, and no failure: the reactor's own answer ends the process by the signal, this one with 0."""

        def stop() -> None:
            with suppress(ReactorNotRunning):
                self.base.reactor.stop()

        self.base.reactor.callFromThread(stop)

    async def _start(self) -> None:
        await self._open()
        notify("READY=1")
        self.ready.callback(self)

    async def _open(self) -> None:
        self.whole = Whole(self.base, self.tls, self.roles, self.playground, self.restoring)
        self.whole.stores.end = lambda: self._end(1)
        await self.whole.start()
        calm()
        self.log.info("HornetMail is up: {roles}", roles=", ".join(sorted(self.roles)))

    # -- a restore from the browser

    def _give_way(self) -> None:
        """Soon, so that the page which asked for it gets its answer."""
        reactor = self.base.reactor

        def begin() -> None:
            if self.running:
                self._starting = Deferred.fromCoroutine(self._restore())
                self._starting.addErrback(self._fail)

        reactor.callLater(ANSWERED, begin)

    async def _restore(self) -> None:
        """Everything that runs is closed, the restore runs, and all is opened anew; again, as long as it was begun and is not done."""
        self.log.info("the service gives way to a restore")
        config = self.base.config
        whole, self.whole = self.whole, None
        empty = True
        if whole is not None:
            # What was taken until the doors were shut is answered for.
            await whole.doors.shut()
            empty = await whole.still_empty()
        await self.base.close()
        if not self.running:
            return
        if not empty:
            self.restoring.late()
            await self._come_back(config)
            return
        self.base = Foundations(self.base.reactor, config, restoring=True)
        self.base.lock.write_pid()
        self.base.start_pool(self.base.threads)
        doors = RestoreDoors(self.base, self.restoring, self.tls)
        self.base.at_close(doors.shut)
        await doors.listen()
        done = await self.restoring.run(self.base)
        begun = self.base.directory(RESTORING).exists()
        self.restoring.over(done, begun)
        if not done and begun:
            # The page says why, and takes another try.
            return
        await self.base.close()
        if self.running:
            await self._come_back(config)

    async def _come_back(self, config: Config) -> None:
        """The service anew, on what is there now."""
        self.base = Foundations(self.base.reactor, config)
        self.base.lock.write_pid()
        await self._open()

    def _fail(self, failure: Failure) -> None:
        """Say why in one line, then end: half a service is worse than none."""
        why = " ".join(failure.getErrorMessage().split()) or "unknown error"
        if failure.check(*REFUSALS):
            self.log.error("HornetMail cannot start: {why}", why=why)
        else:
            self.log.failure("HornetMail cannot start", failure=failure)
        # The log has taken sys.stderr over by now.
        print(f"hornetmail: {why}", file=sys.__stderr__, flush=True)
        self._end(1)

    def _end(self, code: int) -> None:
        """End the process in order, with an exit code; within ``ENDING`` seconds, however broken what is closed may be."""
        reactor = self.base.reactor
        reactor.addSystemEventTrigger("after", "shutdown", os._exit, code)
        reactor.callLater(ENDING, os._exit, code)
        if reactor.running:
            reactor.stop()
        else:
            reactor.callWhenRunning(reactor.stop)

    def reload(self) -> None:
        """SIGHUP: certificates and log file anew."""
        self.log.info("reloading certificates and log file")
        self.tls.reload()
        if self.whole is not None:
            self.whole.certificate.tell()
        if self._log is not None:
            try:
                self._log.reopen()
            except OSError:
                self.log.failure("the log file cannot be opened anew; the old one stays in use")

    def stopService(self) -> Deferred[None]:
        """SIGTERM: no new connections, running transactions finish, within five seconds."""
        Service.stopService(self)
        notify("STOPPING=1")
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._starting is not None:
            await self._starting
        try:
            if self.whole is not None:
                await self.whole.stop()
        finally:
            await self.base.close()


def build(reactor: Any, path: Path, roles: frozenset[str], playground: Any = None) -> HornetMail:
    """The service for a configuration file; ``playground`` gets a page of its own in the panel. Raises SystemExit(1) after one line on stderr when it cannot be built."""
    try:
        config = configuration.load(path)
        # A core file would hold the archive's key.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        steady.keep(reactor)
        base = Foundations(reactor, config)
    except (configuration.ConfigError, AlreadyRunning, NetworkFileSystem, OSError, ValueError) as error:
        print(f"hornetmail: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    try:
        pair = config.path(config.tls.certificate), config.path(config.tls.key)
        for file in pair:
            file.open("rb").close()  # OpenSSL does not name what it cannot read.
        tls = ServerTLS(*pair)
    except (OSError, SSL.Error) as error:
        base.lock.release()
        print(f"hornetmail: {path}: $.tls: {error or 'certificate and key cannot be used'}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    return HornetMail(base, tls, roles, playground)
