"""A pytest plugin: ends a process whose threads do not end with its tests, as they do when what was changed is their stop. That is noticed."""

from __future__ import annotations

import atexit
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PATIENCE = 60.0
"""Seconds."""
HANGS = 9


class _Ending:
    def __init__(self) -> None:
        self._status = 0

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._status = exitstatus

    def pytest_unconfigure(self) -> None:
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        time.sleep(PATIENCE)
        atexit._run_exitfuncs()  # database servers that the tests started
        os._exit(self._status or HANGS)


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest."""
    config.pluginmanager.register(_Ending())
