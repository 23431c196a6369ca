"""Whether the clock can be trusted with what cannot be taken back (rule 19)."""

from __future__ import annotations

from collections.abc import Callable

TOLERANCE = 3600.0
"""Seconds by which clocks may disagree."""


class Drift:
    """By how many seconds the wall clock has moved against monotonic time since this was made; ``seconds`` and ``uptime`` tell them."""

    def __init__(self, seconds: Callable[[], float], uptime: Callable[[], float]) -> None:
        self._seconds = seconds
        self._uptime = uptime
        self._began = (seconds(), uptime())

    def __call__(self) -> float:
        """Now."""
        return self._seconds() - self._began[0] - (self._uptime() - self._began[1])


def trouble(drift: float, newest: float, now: float, what: str) -> str:
    """Why nothing may be removed by the date now, or ``""``. ``drift``: by how many seconds wall clock and monotonic time disagree since the
    start. ``newest``: the latest time, in Unix seconds, that is known to have passed; ``what`` says of what."""
    if abs(drift) > TOLERANCE:
        return f"the clock moved by {drift:.0f} s against monotonic time"
    if newest > now + TOLERANCE:
        return f"the clock is behind {what}"
    return ""
