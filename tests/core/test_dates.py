"""Dates of mail as the world writes them."""

from __future__ import annotations

import pytest

from hornetmail.core.mail.dates import parse_date, parse_day

NOON = 1_795_780_800.0
"""2026-11-27 12:00 UTC, a Friday."""

FRIDAY = 739_947
"""That day's number."""


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 27 Nov 2026 12:00:00 +0000",
        "27 Nov 2026 12:00 UT",
        "Fri, 27 Nov 2026 12:00:00 GMT",
        "Fri, 27 Nov 2026 12:00:00",
        "Fri, 27 Nov 26 12:00:00 +0000",
        "Fri, 27 Nov 126 12:00:00 +0000",
        "Fri, 27 Nov 2026 13:00:00 +0100 (CET)",
        "Fri, 27 Nov 2026 13:00:00 +01:00",
        "Fri, 27 Nov 2026 13:00:00 CET",
        "Fri, 27 Nov 2026 07:00:00 EST",
        "Fri, 27 Nov 2026 04:00:00 PST",
        "Fri, 27 Nov 2026 14:00:00 GMT+0200",
        "Fri, 27 Nov 2026 10:00:00 UTC-02:00",
        "Fri, 27 Nov 2026 12:00:00 X",
        "Friday, 27-Nov-26 12:00:00 GMT",
        "  fri,27 november 2026  12:00:00.250 Z",
        "Fri, 27 Nov 2026 12.00.00 +0000",
        "Fri Nov 27 12:00:00 2026",
        "Fri Nov 27 13:00:00 CET 2026",
        "Fri, Nov 27 13:00:00 2026 +0100",
        "2026-11-27T12:00:00Z",
        "2026-11-27 13:00:00 +0100",
        "2026-11-27T13:00:00+01:00",
    ],
)
def test_the_same_moment(text: str) -> None:
    """Catches a date that is not read, or as another moment: the mail would stand at the time of its receipt."""
    assert parse_date(text.encode()) == NOON
    assert parse_day(text.encode()) == FRIDAY


@pytest.mark.parametrize(
    ("text", "year"),
    [("1 Jan 49 00:00 UT", 2049), ("1 Jan 50 00:00 UT", 1950), ("1 Jan 99 00:00 UT", 1999), ("1 Jan 100 00:00 UT", 2000)],
)
def test_short_years(text: str, year: int) -> None:
    """RFC 5322 section 4.3."""
    day = parse_day(text.encode())
    assert day is not None
    assert abs(day / 365.2425 - year + 1) < 1.1


@pytest.mark.parametrize(
    "text",
    ["", "soon", "Fri, 31 Feb 2026 12:00:00 +0000", "Fri, 27 Foo 2026 12:00:00", "27 Nov 2026 25:00 UT", "27 Nov 2026 12:61 UT", "2026-13-27T12:00:00Z", "2026-02-30 12:00", "Fri Nov 31 12:00:00 2026"],
)  # fmt: skip
def test_no_date(text: str) -> None:
    """Catches a moment made of what is none, and another exception."""
    assert parse_date(text.encode()) is None
