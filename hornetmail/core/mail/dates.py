"""Dates of mail, read and written: the one reader of them (RFC 5322 section 3.3 with its obsolete forms, section 4.3). Pure."""

from __future__ import annotations

import datetime
import functools
import re

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_NUMBERS = {name.lower().encode("ascii"): number for number, name in enumerate(MONTHS, 1)}
_DAY = re.compile(
    rb"\s{0,50}(?:[A-Za-z]{2,10}\.?,?\s{0,5})?([0-9]{1,2})[\s-]{1,5}([A-Za-z]{3})[A-Za-z]{0,6}[\s,-]{1,5}([0-9]{2,4})(?![0-9])"
)
_TIME = re.compile(
    rb"\s{1,5}([0-9]{1,2})[:.]([0-9]{2})(?:[:.]([0-9]{2}))?(?:\.[0-9]{1,9})?\s{0,5}(?:(?:GMT|UTC?)?([+-])([0-9]{2}):?([0-9]{2})|([A-Za-z]{1,5}))?"
)
_ISO = re.compile(rb"\s{0,50}([0-9]{4})-([0-9]{2})-([0-9]{2})[T\s]\s{0,5}(?=[0-9])")
_ASCTIME = re.compile(
    rb"\s{0,50}[A-Za-z]{3,10}\.?,?\s{1,5}([A-Za-z]{3})[A-Za-z]{0,6}\.?\s{1,5}([0-9]{1,2}),?\s{1,5}([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)\s{1,5}"
    rb"(?:([A-Za-z]{1,5}|[+-][0-9]{4})\s{1,5})?([0-9]{4})(?![0-9])(?:\s{1,5}([+-][0-9]{4}))?"
)
_ZONES = {b"EST": -5, b"EDT": -4, b"CST": -6, b"CDT": -5, b"MST": -7, b"MDT": -6, b"PST": -8, b"PDT": -7, b"CET": 1, b"CEST": 2}
_UNIX_DAY = datetime.date(1970, 1, 1).toordinal()


def ordinal(day: bytes, month: bytes, year: int) -> int | None:
    """The day's number (as ``datetime.date.toordinal``), None if there is no such day. ``month``: three letters, in any case."""
    number = _NUMBERS.get(month.lower())
    try:
        return None if number is None else datetime.date(year, number, int(day)).toordinal()
    except ValueError:
        return None


def parse_day(raw: bytes) -> int | None:
    """The day of a Date field as it is written there, whatever its time and zone."""
    found = _DAY.match(_usual(raw))
    return ordinal(found[1], found[2], _year(found[3])) if found is not None else None


def parse_date(raw: bytes) -> float | None:
    """A Date field as Unix seconds, or None. An unknown zone counts as UTC. What programs write that never read the RFC is read too: ``asctime`` and ISO 8601."""
    text = _usual(raw)
    day = _DAY.match(text)
    time = _TIME.match(text, day.end()) if day is not None else None
    if day is None or time is None:
        return None
    number = ordinal(day[1], day[2], _year(day[3]))
    hour, minute, second = int(time[1]), int(time[2]), int(time[3] or 0)
    if number is None or hour > 24 or minute > 59 or second > 60:
        return None
    offset = 0
    if time[4]:
        offset = (int(time[5]) * 60 + int(time[6])) * (60 if time[4] == b"+" else -60)
    elif time[7]:
        offset = _ZONES.get(time[7].upper(), 0) * 3600
    return float((number - _UNIX_DAY) * 86_400 + hour * 3600 + minute * 60 + second - offset)


def _usual(raw: bytes) -> bytes:
    """The beginning of a Date field in the order of RFC 5322, if it has one that is known."""
    text = raw[:200]
    if iso := _ISO.match(text):
        number = int(iso[2])
        name = MONTHS[number - 1].encode("ascii") if 1 <= number <= len(MONTHS) else b"???"
        return b"%s %s %s %s" % (iso[3], name, iso[1], text[iso.end() :])
    if asctime := _ASCTIME.match(text):
        return b"%s %s %s %s %s" % (asctime[2], asctime[1], asctime[5], asctime[3], asctime[6] or asctime[4] or b"")
    return text


def _year(digits: bytes) -> int:
    """RFC 5322 section 4.3: two digits below 50 are of this century, others and three digits count from 1900."""
    year = int(digits)
    return year if len(digits) == 4 else year + (2000 if len(digits) == 2 and year < 50 else 1900)


def rfc5322_date(seconds: float) -> str:
    """Unix seconds as a date-time of RFC 5322 section 3.3, in UTC."""
    return _date(int(seconds // 1))


@functools.lru_cache(maxsize=8)
def _date(seconds: int) -> str:
    """Messages of the same second share it."""
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{DAYS[at.weekday()]}, {at.day} {MONTHS[at.month - 1]} {at.year} {at:%H:%M:%S} +0000"
