"""Waiting for something to become true, with an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, seconds: float = 60.0, every: float = 0.02) -> None:
    """Return as soon as ``condition`` holds; AssertionError naming ``what`` when it does not within ``seconds``: patience for a busy machine, which proves nothing."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        pause.wait(every)
