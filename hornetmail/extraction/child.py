"""The process that reads: ``python -m hornetmail.extraction.child MEMORY SECONDS``. Tasks come by standard input, answers go by standard output (``frames.py``)."""

from __future__ import annotations

import encodings
import importlib
import os
import pkgutil
import sys
from time import process_time
from typing import BinaryIO

from hornetmail.extraction.bounds import Bounds
from hornetmail.extraction.confinement import allow_seconds, confine
from hornetmail.extraction.files import Reader
from hornetmail.extraction.frames import Answer, Begun, Done, Ready, Task, frame, length_of, task_of
from hornetmail.mime.reading.mail import read_mail

_GRACE = 0.6
"""The share of its time after which a file is left where it is: what was read until then counts. The rest is for readers that do not look at the clock."""


def main(memory: int, seconds: float) -> None:
    """Until there are no more tasks."""
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Whatever a library prints goes where nobody keeps it.
    os.dup2(2, 1)
    _load()
    confine(memory)
    answers.write(frame(Ready()))
    answers.flush()
    while (task := _next(tasks)) is not None:
        turn = _Turn(answers, seconds)
        reader = Reader(Bounds(turn.late), turn.begins, task.skip)
        turn.say(Done(read_mail(tasks.read(task.size), files=reader.read)))


class _Turn:
    """One mail: each file in it has so many seconds of the processor, and so has what lies between them."""

    def __init__(self, answers: BinaryIO, seconds: float) -> None:
        self._answers = answers
        self._seconds = seconds
        self._until = 0.0
        self._next()

    def _next(self) -> None:
        allow_seconds(self._seconds)
        self._until = process_time() + self._seconds * _GRACE

    def begins(self, number: int, name: str) -> None:
        """The next file."""
        self._next()
        self.say(Begun(number, name[:200]))

    def late(self) -> bool:
        """Whether it is to be left where it is."""
        return process_time() > self._until

    def say(self, what: Answer) -> None:
        """To the service."""
        self._answers.write(frame(what))
        self._answers.flush()


def _load() -> None:
    """What would be looked for on the disk later."""
    for codec in pkgutil.iter_modules(encodings.__path__):
        if codec.name not in ("mbcs", "oem"):
            importlib.import_module(f"encodings.{codec.name}")
    read_mail(b"Content-Type: text/html\r\n\r\n<p>\xe4\xf6</p>")


def _next(tasks: BinaryIO) -> Task | None:
    head = tasks.read(4)
    return task_of(tasks.read(length_of(head))) if len(head) == 4 else None


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
