"""Put first on the path of a service by ``test_reactor_and_disk.py``: on SIGUSR2 it begins to write down, to the file that HORNETMAIL_OPENED names, what opens or lists files, and in which
thread; in the main one, where the reactor is, with the innermost functions of HornetMail."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

_EVENTS = frozenset({"open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir", "os.truncate", "shutil.rmtree"})
_LEAST_FRAMES = 4


def _begin(number: int, frame: FrameType | None) -> None:
    file = os.open(os.environ["HORNETMAIL_OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    main = threading.main_thread().ident

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event in _EVENTS and threading.get_ident() != main:
            os.write(file, b"elsewhere\n")
        elif event in _EVENTS:
            places: list[str] = []
            at: FrameType | None = sys._getframe(1)
            while at is not None:
                name = at.f_globals.get("__name__", "")
                if name.startswith("hornetmail") and len(places) < _LEAST_FRAMES:
                    places.append(f"{name}.{at.f_code.co_qualname}")
                elif name == "importlib._bootstrap":
                    places.append("(import)")
                at = at.f_back
            os.write(file, f"{event} {values[0]!r}: {' < '.join(places)}\n".encode())

    sys.addaudithook(hook)


if "HORNETMAIL_OPENED" in os.environ:
    signal.signal(signal.SIGUSR2, _begin)
