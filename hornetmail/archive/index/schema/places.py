"""Where a mail stands in the index: ``mail.place`` is received milliseconds, and a number within."""

from __future__ import annotations

PLACE_BITS = 18


def place_at(seconds: float) -> int:
    """The lowest place of mail received at or after a time."""
    return max(0, int(seconds * 1000)) << PLACE_BITS


def month_of(place: str) -> str:
    """SQL: the month of receipt of a place, as YYYYMM in UTC."""
    return f"CAST(strftime('%Y%m', ({place} >> 18) / 1000, 'unixepoch') AS INTEGER)"
