"""Dates of IMAP: ``date-time`` of INTERNALDATE and ``date`` of SEARCH (RFC 3501 section 9)."""

from __future__ import annotations

import datetime
import re
from functools import lru_cache

from hornetmail.core.mail.dates import MONTHS, ordinal

_DATE_TIME = re.compile(rb"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})")
_DATE = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")


def parse_date_time(raw: bytes) -> float | None:
    """Unix seconds; None if it is no date."""
    match = _DATE_TIME.fullmatch(raw)
    day = ordinal(match[1], match[2], int(match[3])) if match is not None else None
    if match is None or day is None:
        return None
    hour, minute, second = int(match[4]), int(match[5]), min(int(match[6]), 59)
    if hour > 23 or minute > 59:
        return None
    offset = (int(match[8]) * 60 + int(match[9])) * (-60 if match[7] == b"-" else 60)
    return float((day - _DAYS) * 86_400 + hour * 3600 + minute * 60 + second - offset)


def parse_date(raw: bytes) -> int | None:
    """The day's ordinal (as ``datetime.date.toordinal``); None if it is no date."""
    match = _DATE.fullmatch(raw)
    return ordinal(match[1], match[2], int(match[3])) if match is not None else None


_DAYS: int = datetime.date(1970, 1, 1).toordinal()


def day_of(moment: float) -> int:
    """The ordinal of the day in UTC."""
    return int(moment // 86400) + _DAYS


def moment_of(day: int) -> float:
    """When the day of an ordinal begins in UTC, Unix seconds."""
    return (day - _DAYS) * 86400.0


def render_date_time(moment: float) -> bytes:
    """INTERNALDATE, quoted, in UTC."""
    days, rest = divmod(int(min(max(moment, -62_135_596_800), 253_402_300_799)), 86400)
    minutes, seconds = divmod(rest, 60)
    return _rendered_day(days) % (minutes // 60, minutes % 60, seconds)


@lru_cache(maxsize=4096)
def _rendered_day(days: int) -> bytes:
    """A format for what is left. Most messages of a folder are of a few days."""
    day = datetime.date.fromordinal(days + _DAYS)
    return b'"%2d-%b-%04d ' % (day.day, MONTHS[day.month - 1].encode("ascii"), day.year) + b'%02d:%02d:%02d +0000"'
