"""The log: a file that SIGHUP opens anew, or whatever twistd logs to."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
)
from zope.interface import implementer

LEVELS = {"debug": LogLevel.debug, "info": LogLevel.info, "warn": LogLevel.warn, "error": LogLevel.error}


@implementer(ILogObserver)
class LogFile:
    """Appends lines to a file; ``reopen`` after it was moved away. A full disk loses log lines, never mail."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] = self._open()

    def _open(self) -> IO[str]:
        return self._path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def __call__(self, event: LogEvent) -> None:
        line = formatEventAsClassicLogText(event)
        if line is None:
            return
        try:
            self._file.write(line)
        except OSError:
            return

    def reopen(self) -> None:
        """Close the old file, open the path anew. Raises OSError, the old file stays in use then."""
        old, self._file = self._file, self._open()
        old.close()


def observer(target: ILogObserver, level: str) -> ILogObserver:
    """Only events from ``level`` up."""
    return FilteringLogObserver(target, [LogLevelFilterPredicate(LEVELS[level])])
