"""The garbage collector's settings."""

from __future__ import annotations

import gc

from hornetmail.runtime.collector import calm


def test_cycles_still_go() -> None:
    """Would catch a service that never collects cycles, and grows."""
    before = gc.get_threshold()
    try:
        calm()
        assert gc.isenabled()
        assert 0 < gc.get_threshold()[0] <= 50_000
        assert gc.get_freeze_count() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
