"""Whether a primary that sends its mail through our relay has been quiet for longer than it ever is. Pure.

What is usual is learned by domain: the longest pause of the last 30 days, nights and weekends included, once two weeks are known. A longer one is
suspicious: a primary that answers probes and sends nothing has lost its way out. A domain that never used the relay is never suspected.
"""

from __future__ import annotations

import msgspec

DAY = 86400.0

DAYS = 30
"""So far back pauses count; a domain that is quiet for longer does not use the relay any more."""

KNOWN = 14
"""Days that must be known: two weekends."""

LEAST = 6 * 3600.0
"""Seconds: no shorter pause is suspicious."""

MARGIN = 1.25
"""A pause is suspicious from so many times the longest one on."""


class Relay(msgspec.Struct, frozen=True, gc=False):
    """How a domain uses the relay. ``first`` and ``heard``: the first and the newest mail, Unix seconds. ``pauses``: the longest pause, in seconds,
    that ended on a day (days since 1970). ``silent``: since when it is suspiciously quiet, or 0."""

    first: float
    heard: float
    pauses: dict[int, float] = {}
    silent: float = 0.0


def heard(relay: Relay | None, now: float, pause: float) -> Relay:
    """Mail came after a pause of so many seconds in which the service was up."""
    if relay is None or now - relay.heard > DAYS * DAY or now < relay.first:
        return Relay(now, now)
    today = int(now // DAY)
    pauses = {day: longest for day, longest in relay.pauses.items() if 0 <= today - day <= DAYS}
    pauses[today] = max(pauses.get(today, 0.0), pause)
    return Relay(relay.first, now, pauses)


def limit(relay: Relay, now: float) -> float:
    """Seconds of quiet from which on it is suspicious; infinite while too little is known."""
    if now - relay.first < KNOWN * DAY or not relay.pauses:
        return float("inf")
    today = int(now // DAY)
    longest = max((pause for day, pause in relay.pauses.items() if today - day <= DAYS), default=0.0)
    return max(LEAST, MARGIN * longest)
